//! Loading: the tables' keys are put into the shards. This thread scans and checks rows; others take records apart and insert.

use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use parking_lot::Mutex;

use crate::engine::blob::Blob;
use crate::engine::dict;
use crate::engine::evict;
use crate::engine::persist::Error;
use crate::engine::persist::progress::Progress;
use crate::engine::persist::record::{Body, Large, Record, SEGMENT_BYTES, put_packed, small_value};
use crate::engine::shard::{Entry, LIBRARIES, STORED};
use crate::engine::types::string::Str;
use crate::engine::value::{BadRow, Kind, Value};
use crate::engine::{Engine, SHARDS, shard_of};
use crate::memory;
use crate::storage::Tables;
use crate::storage::tables::Stored;

/// Rows handed over at once, in bytes: so many that handing over costs nothing beside them.
const ROWS_BYTES: usize = 32 << 10;
/// Of these on their way: bounds memory where inserting is slower than scanning.
const ROWS_MAX: usize = 32;
/// Entries inserted into a shard at once: enough that its table is found in the cache.
const BATCH: usize = 256;
/// Buckets are brought near so many entries ahead.
const NEAR: usize = 8;
/// How often used memory is looked at, in keys.
const LIMIT_LOOKS: u64 = 1024;
/// One scans for them all, so more would only wait.
const INSERTERS_MAX: usize = 8;
/// A string no longer than this stands in its entry: leaving it on disk would save nothing.
pub(crate) const INLINE_BYTES_MAX: usize = 22;

/// Puts all keys of the tables into an empty engine; tells how many. Values for which there is no room beside all keys, under
/// `memory_limit` (0: none), stay on disk. Of an error, what came before it is there.
pub fn load(engine: &Engine, tables: &Tables, now: u64, memory_limit: u64, progress: &Progress) -> Result<u64, Error> {
    let snapshot = tables.snapshot()?;
    let (keys, is_full) = (AtomicU64::new(0), AtomicBool::new(false));
    let load = Load { engine, now, memory_limit, progress, keys_len: snapshot.keys_len(), keys, is_full };
    for db in 0..STORED as u8 {
        if let Some(stored) = snapshot.database(db)? {
            load.database(db, &stored)?;
        }
    }
    Ok(load.keys.into_inner())
}

struct Load<'e> {
    engine: &'e Engine,
    now: u64,
    memory_limit: u64,
    progress: &'e Progress,
    /// How many keys there are, and how many were met.
    keys_len: u64,
    keys: AtomicU64,
    /// Whether there is no room for more values.
    is_full: AtomicBool,
}

/// Keys and their records.
#[derive(Default)]
struct Rows {
    bytes: Vec<u8>,
    /// Where each key ends, and its record.
    ends: Vec<(usize, usize)>,
}

impl Rows {
    fn push(&mut self, key: &[u8], record: &[u8]) {
        self.bytes.extend_from_slice(key);
        let end = self.bytes.len();
        self.bytes.extend_from_slice(record);
        self.ends.push((end, self.bytes.len()));
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        starts.zip(&self.ends).map(|(start, (key, end))| (&self.bytes[start..*key], &self.bytes[*key..*end]))
    }
}

impl Load<'_> {
    fn database(&self, db: u8, stored: &Stored) -> Result<(), Error> {
        // Keys spread evenly over the shards, by their hashes.
        let share = stored.len() as usize / SHARDS;
        self.engine.shards.iter().for_each(|shard| shard.0.lock().databases[usize::from(db)].keys.reserve(share));
        let (sender, receiver) = sync_channel(ROWS_MAX);
        let receiver = Mutex::new(receiver);
        thread::scope(|scope| {
            let processors = thread::available_parallelism().map_or(1, NonZero::get);
            let inserters: Vec<_> =
                (1..processors.clamp(2, INSERTERS_MAX)).map(|_| scope.spawn(|| self.insert(db, stored, &receiver))).collect();
            let (mut rows, mut told) = (Rows::default(), 0);
            let hand_over = |rows| sender.send(rows).expect("inserters take rows until the last");
            let scanned = stored.each_key(|key, record| {
                rows.push(key, record);
                self.progress.add(stored.shown_bytes() - told);
                told = stored.shown_bytes();
                if rows.bytes.len() >= ROWS_BYTES {
                    hand_over(std::mem::take(&mut rows));
                }
                Ok::<_, Error>(())
            });
            hand_over(rows);
            drop(sender);
            let inserted = inserters.into_iter().map(|inserter| inserter.join().expect("inserting entries does not panic"));
            inserted.fold(scanned, Result::and)
        })
    }

    fn insert(&self, db: u8, stored: &Stored, receiver: &Mutex<Receiver<Rows>>) -> Result<(), Error> {
        let access = evict::fresh(self.engine, self.now);
        let mut batches: Vec<Vec<(u32, Entry, u64)>> = (0..SHARDS).map(|_| Vec::with_capacity(BATCH)).collect();
        let mut result = Ok(());
        // To the last, whatever is wrong with one: who scans them waits until they are taken.
        while let Ok(rows) = { receiver.lock().recv() } {
            result = result.and_then(|()| {
                rows.iter().try_for_each(|(key, record)| {
                    let (hash, entry, expire_at) =
                        self.entry(db, stored, key, record, access).map_err(|error| error.of_key(key))?;
                    let shard = shard_of(hash);
                    batches[shard].push((hash as u32, entry, expire_at));
                    if batches[shard].len() == BATCH {
                        self.insert_into(shard, db, &mut batches[shard]);
                    }
                    Ok(())
                })
            });
        }
        batches.iter_mut().enumerate().for_each(|(shard, entries)| self.insert_into(shard, db, entries));
        result
    }

    fn insert_into(&self, shard: usize, db: u8, entries: &mut Vec<(u32, Entry, u64)>) {
        let mut shard = self.engine.shards[shard].0.lock();
        let database = &mut shard.databases[usize::from(db)];
        let hashes: Vec<u32> = entries.iter().map(|(hash, ..)| *hash).collect();
        for (number, (hash, entry, expire_at)) in entries.drain(..).enumerate() {
            if let Some(hash) = hashes.get(number + NEAR) {
                database.keys.prefetch_bucket(*hash);
            }
            database.insert(hash, entry, expire_at);
        }
    }

    fn entry(&self, db: u8, stored: &Stored, key: &[u8], record: &[u8], access: u32) -> Result<(u64, Entry, u64), Error> {
        let record = Record::read(record)?;
        // Libraries are few, and are never dropped from memory.
        let value = if db == LIBRARIES { value(stored, &record)? } else { self.value(stored, key, &record)? };
        Ok((dict::hash(key), Entry::new(key, value, access, 0), record.expire_at))
    }

    fn value(&self, stored: &Stored, key: &[u8], record: &Record<'_>) -> Result<Value, Error> {
        let number = self.keys.fetch_add(1, Relaxed);
        self.progress.linger(number + 1);
        if self.memory_limit == 0 {
            return value(stored, record);
        }
        if number.is_multiple_of(LIMIT_LOOKS) {
            // Those to come are taken to be as long as this one.
            let to_come = self.keys_len.saturating_sub(number) * (size_of::<Entry>() + Blob::from(key).heap_bytes()) as u64;
            self.is_full.store(memory::used_bytes() + to_come > self.memory_limit, Relaxed);
        }
        let is_tiny = matches!(record.body, Body::Small(bytes) if bytes.len() <= INLINE_BYTES_MAX);
        if self.is_full.load(Relaxed) && !is_tiny && !self.engine.is_resident(key) {
            self.engine.loads().note_dropped();
            verify(stored, record)?;
            return Ok(Value::OnDisk(record.kind));
        }
        value(stored, record)
    }
}

/// Sees that a value's rows are those that were written, though it stays where it is: what is damaged must be told before anything
/// builds on it.
fn verify(stored: &Stored, record: &Record<'_>) -> Result<(), Error> {
    match record.body {
        Body::Small(_) => Ok(()),
        Body::Large(Large { id, sum, .. }) => stored.each_element(id, sum, |_, _| Ok(())),
    }
}

/// The value a record tells of.
pub(crate) fn value(stored: &Stored, record: &Record<'_>) -> Result<Value, Error> {
    match record.body {
        Body::Small(bytes) => Ok(small_value(record.kind, bytes)?),
        Body::Large(large) if record.kind == Kind::String => text(stored, &large),
        Body::Large(Large { id, count, sum }) => {
            let mut value = Value::empty(record.kind);
            let mut found = 0;
            stored.each_element(id, sum, |_, chunk| {
                found += put_packed(&mut value, chunk)?;
                Ok::<_, Error>(())
            })?;
            if found == count { Ok(value) } else { Err(BadRow::Bytes.into()) }
        }
    }
}

fn text(stored: &Stored, large: &Large) -> Result<Value, Error> {
    let len = usize::try_from(large.count).map_err(|_| BadRow::Bytes)?;
    let mut text = Vec::new();
    text.try_reserve_exact(len).map_err(|_| BadRow::Bytes)?;
    stored.each_element(large.id, large.sum, |element, segment| {
        let number = u32::from_be_bytes(element.try_into().map_err(|_| BadRow::Bytes)?);
        let start = number as usize * SEGMENT_BYTES;
        if start < text.len() || start + segment.len() > len {
            return Err(Error::from(BadRow::Bytes));
        }
        // Segments nobody wrote to, and missing ends, are zero bytes.
        text.resize(start, 0);
        text.extend_from_slice(segment);
        Ok(())
    })?;
    text.resize(len, 0);
    Ok(Value::String(Str::from(text)))
}
