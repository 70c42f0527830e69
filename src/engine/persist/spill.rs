//! Bigger than memory: above the limit, values that the tables hold just as they are in memory are dropped from it, those
//! first that were not used for longest, and read back when they are used again.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use crate::engine::error::{self, Error};
use crate::engine::free;
use crate::engine::load::{Backing, Missing};
use crate::engine::persist::load;
use crate::engine::persist::record::Record;
use crate::engine::persist::{self, Inner};
use crate::engine::shard::{DATABASES, Database, Entry, Shard};
use crate::engine::value::{BadRow, Value};
use crate::engine::{Engine, SHARDS};
use crate::id;
use crate::memory::{self, Aside};

/// How often memory is looked at under a limit.
const LOOK: Duration = Duration::from_millis(20);
/// Without a limit.
const LOOK_UNLIMITED: Duration = Duration::from_secs(1);
/// Values dropped under one hold of a shard at most: some ten microseconds.
const DROPS_MAX: usize = 32;
/// Entries looked at for each one that is dropped; the least recently used goes, as with `maxmemory-samples`.
const SAMPLES: usize = 6;
/// Rounds over all shards without finding anything clean, after which it is given up for now.
const DRY_ROUNDS_MAX: usize = 2;

/// This part of the limit may be changes that no checkpoint holds, before one is made early.
pub(super) const DIRTY_SHARE: u64 = 8;
/// And this part of it pages of the tables that lead to values.
const BRANCHES_SHARE: u64 = 8;

/// What the sweep has come to.
#[derive(Default)]
pub(crate) struct Spill {
    is_stopping: AtomicBool,
    lock: Mutex<()>,
    changed: Condvar,
    /// Whether memory is over the limit and what is in it must be written by a checkpoint first.
    crowded: watch::Sender<bool>,
    is_crowded: AtomicBool,
    pub(super) waits: AtomicU64,
    pub(super) drops: AtomicU64,
    pub(super) loads: AtomicU64,
}

impl Spill {
    pub(super) fn stop(&self) {
        self.is_stopping.store(true, SeqCst);
        self.wake();
    }

    #[inline]
    pub(super) fn is_crowded(&self) -> bool {
        self.is_crowded.load(Relaxed)
    }

    pub(super) fn wait(&self) -> Option<watch::Receiver<bool>> {
        if !self.is_crowded() {
            return None;
        }
        self.waits.fetch_add(1, Relaxed);
        Some(self.crowded.subscribe())
    }

    fn set_crowded(&self, is_crowded: bool) {
        if self.is_crowded.swap(is_crowded, Relaxed) != is_crowded {
            self.crowded.send_replace(is_crowded);
        }
    }

    pub(super) fn wake(&self) {
        self.changed.notify_all();
    }
}

/// Drops values while memory is above the limit, until told to stop.
pub(crate) fn run(inner: &Inner) {
    while !inner.spill.is_stopping.load(SeqCst) {
        let limit = inner.memory_limit.load(Relaxed);
        if limit != 0 && memory::used_bytes() > limit {
            sweep(inner, limit);
        }
        look_ahead(inner, limit);
        let mut lock = inner.spill.lock.lock();
        inner.spill.changed.wait_for(&mut lock, if limit == 0 { LOOK_UNLIMITED } else { LOOK });
    }
}

/// Starts a checkpoint before the limit is reached, and slows writers down beyond it, while there is enough that only a
/// checkpoint can make droppable. Less than that is no burden: keys, which stay in memory, may be over the limit by themselves.
fn look_ahead(inner: &Inner, limit: u64) {
    let used = memory::used_bytes();
    let dirty = inner.journal_bytes.load(Relaxed) + memory::aside_bytes_of(Aside::Journal);
    let is_much = limit != 0 && dirty > limit / DIRTY_SHARE;
    if is_much && used > limit / 4 * 3 {
        inner.checkpoints.want_clean();
    }
    inner.spill.set_crowded(is_much && used > limit);
}

fn sweep(inner: &Inner, limit: u64) {
    let mut dry = 0;
    while memory::used_bytes() > limit && !inner.spill.is_stopping.load(SeqCst) {
        // It may go on for long where writers are fast.
        look_ahead(inner, limit);
        let mut dropped = 0;
        for number in 0..SHARDS {
            dropped += drop_some(inner, &mut inner.engine.shards[number].0.lock());
        }
        inner.spill.drops.fetch_add(dropped as u64, Relaxed);
        dry = if dropped == 0 { dry + 1 } else { 0 };
        if dry == DRY_ROUNDS_MAX {
            // What is left is in use, or not in the tables yet.
            return;
        }
    }
}

fn drop_some(inner: &Inner, shard: &mut Shard) -> usize {
    let mut dropped = 0;
    inner.engine.loads().note_dropped();
    for (db, database) in shard.databases[..DATABASES].iter_mut().enumerate().filter(|(_, database)| !database.keys.is_empty()) {
        for _ in 0..DROPS_MAX {
            let Some(at) = oldest(&inner.engine, db as u8, database) else { break };
            let entry = database.keys.at_mut(at);
            let kind = entry.value.kind();
            free::value(inner.engine.freeing(), std::mem::replace(&mut entry.value, Value::OnDisk(kind)));
            dropped += 1;
        }
    }
    dropped
}

/// Drops all that can be, whatever the limit.
pub(crate) fn drop_all(inner: &Inner) -> usize {
    let mut dropped = 0;
    inner.engine.each_shard(|_, shard| {
        inner.engine.loads().note_dropped();
        for (db, database) in shard.databases[..DATABASES].iter_mut().enumerate() {
            for entry in database.keys.iter_mut() {
                if can_drop(&inner.engine, db as u8, entry) {
                    entry.value = Value::OnDisk(entry.value.kind());
                    dropped += 1;
                }
            }
        }
    });
    inner.spill.drops.fetch_add(dropped as u64, Relaxed);
    dropped
}

/// Of a few random entries, the one not used for longest among those that can be dropped.
fn oldest(engine: &Engine, db: u8, database: &Database) -> Option<u32> {
    let len = database.keys.len();
    (0..SAMPLES)
        .map(|_| id::random_below(len) as u32)
        .filter(|at| can_drop(engine, db, database.keys.at(*at)))
        .min_by_key(|at| database.keys.at(*at).access())
}

/// Whether the tables hold the value as it is, and dropping it gives memory back and takes it from nobody who had it read. To be asked under
/// the shard's lock: whoever pins a value, and then finds it in memory, keeps it.
fn can_drop(engine: &Engine, db: u8, entry: &Entry) -> bool {
    engine.is_clean(entry.changed)
        && !engine.is_resident(entry.key())
        && match &entry.value {
            Value::OnDisk(_) => false,
            Value::String(string) => string.len() > load::INLINE_BYTES_MAX,
            _ => true,
        }
        && !engine.loads().is_pinned(db, &entry.key)
}

/// A reader's life: values are read back from the tables.
pub(crate) fn read(inner: &Inner) {
    inner.engine.loads().run(&*inner.engine, inner);
}

/// The same for threads that hold shards.
pub(crate) fn read_for_holders(inner: &Inner) {
    inner.engine.loads().run_hands(inner);
}

impl Backing for Inner {
    fn load(&self, missing: &Missing) -> Result<Value, Error> {
        self.spill.loads.fetch_add(1, Relaxed);
        read_back(self, missing).map_err(|cause| {
            tracing::error!("read a value back: {cause}");
            if !cause.is_of_rows() {
                self.checkpoints.want_opening();
            }
            error::DISK_READ
        })
    }
}

/// The value a key had at the last checkpoint.
pub(crate) fn read_back(inner: &Inner, missing: &Missing) -> Result<Value, persist::Error> {
    debug_assert!(usize::from(missing.db) < DATABASES);
    let tables = inner.tables.read();
    let tables = tables.as_ref().ok_or_else(|| persist::Error::Write("the tables are closed".into()))?;
    tables.keep_branches((inner.memory_limit.load(Relaxed) / BRANCHES_SHARE) as usize);
    let stored = tables.stored(missing.db)?.ok_or(BadRow::Bytes)?;
    let value = stored.key(&missing.key, |record| {
        let record = Record::read(record)?;
        if record.kind != missing.kind {
            return Err(BadRow::Bytes.into());
        }
        load::value(&stored, &record)
    })?;
    value.unwrap_or_else(|| Err(BadRow::Bytes.into()))
}
