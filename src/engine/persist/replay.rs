//! Replaying: what the journal holds beyond the tables is done again to the keyspace in memory.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZero;
use std::thread;

use parking_lot::Mutex;

use crate::engine::blob::Blob;
use crate::engine::dict;
use crate::engine::effect::{self, Effect, Row, push_remove};
use crate::engine::evict;
use crate::engine::expire::note_field_expiries;
use crate::engine::load::{Backing, Missing};
use crate::engine::persist::batch;
use crate::engine::persist::fold::write_range;
use crate::engine::shard::{DATABASES, Database, Entry};
use crate::engine::types::string::Str;
use crate::engine::value::{BadRow, Kind, Value};
use crate::engine::{Engine, Padded, shard_of};

/// What replayed keys have as the epoch of their last change: no checkpoint of this process covers them yet.
const CHANGED: u8 = 1;

/// Does batches of the journal again, in their order; tells how many values went from one key to another that were not there, since an
/// accepted loss took them. Each change is recorded nowhere: it is in the journal.
///
/// A key stands in sections of one shard, as long as batches are of one run, so these are done again by all processors at once: each
/// takes all sections of a shard, and then those of another.
pub fn replay(engine: &Engine, backing: &dyn Backing, batches: &[impl AsRef<[u8]>], now: u64) -> Result<u64, BadRow> {
    let mut lost = 0;
    let mut apart: BTreeMap<u8, Vec<&[u8]>> = BTreeMap::new();
    let mut run = None;
    for bytes in batches {
        let batch = batch::read(bytes.as_ref())?;
        if batch.meet || run.is_some_and(|run| run != batch.run) {
            replay_apart(engine, backing, std::mem::take(&mut apart), now)?;
        }
        run = Some(batch.run);
        if batch.meet {
            lost += replay_meeting(engine, backing, &batch.sections, now)?;
        } else {
            batch.sections.into_iter().for_each(|(shard, effects)| apart.entry(shard).or_default().push(effects));
        }
    }
    replay_apart(engine, backing, apart, now)?;
    Ok(lost)
}

fn replay_apart(engine: &Engine, backing: &dyn Backing, apart: BTreeMap<u8, Vec<&[u8]>>, now: u64) -> Result<(), BadRow> {
    let processors = thread::available_parallelism().map_or(1, NonZero::get).min(apart.len());
    let shards = Mutex::new(apart.into_values());
    let work = || {
        // Taken in a statement of its own, so that the others can take theirs meanwhile.
        while let Some(sections) = { shards.lock().next() } {
            for effects in sections {
                batch::each_effect(effects, |effect| redo(engine, backing, effect, now))?;
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..processors).map(|_| scope.spawn(work)).collect();
        let own = work();
        others.into_iter().map(|other| other.join().expect("a batch that is bad is an error")).fold(own, Result::and)
    })
}

fn replay_meeting(engine: &Engine, backing: &dyn Backing, sections: &[(u8, &[u8])], now: u64) -> Result<u64, BadRow> {
    let (mut parcels, mut lost) = (HashMap::new(), 0);
    batch::each_in_order(sections, |effect| match effect {
        Effect::Flush { db } => {
            let flush = |shard: &Padded| {
                *shard.0.lock().databases.get_mut(usize::from(db)).ok_or(BadRow::Bytes)? = Database::default();
                Ok(())
            };
            engine.shards.iter().try_for_each(flush)
        }
        Effect::Give { db, key, parcel } => at(engine, db, key, |database, hash| {
            let Some(at) = database.keys.find(hash, key) else { return Ok(()) };
            read_back(backing, db, database.keys.at_mut(at))?;
            parcels.insert(parcel, database.remove(at).value);
            Ok(())
        }),
        Effect::Copy { db, key, parcel } => at(engine, db, key, |database, hash| {
            let Some(at) = database.keys.find(hash, key) else { return Ok(()) };
            let entry = database.keys.at_mut(at);
            read_back(backing, db, entry)?;
            parcels.extend(entry.value.duplicate().map(|value| (parcel, value)));
            Ok(())
        }),
        Effect::Take { db, key, kind, expire_at, parcel } => {
            let Some(value) = parcels.remove(&parcel) else {
                lost += 1;
                return redo(engine, backing, Effect::Remove { db, key }, now);
            };
            if value.kind() != kind {
                return Err(BadRow::Bytes);
            }
            put(engine, db, key, value, expire_at, now)
        }
        other => redo(engine, backing, other, now),
    })?;
    Ok(lost)
}

fn redo(engine: &Engine, backing: &dyn Backing, effect: Effect<'_>, now: u64) -> Result<(), BadRow> {
    match effect {
        // Only where sections meet.
        Effect::Flush { .. } | Effect::Give { .. } | Effect::Copy { .. } | Effect::Take { .. } => Err(BadRow::Bytes),
        Effect::Map { stored } => {
            engine.stored.store(stored, std::sync::atomic::Ordering::SeqCst);
            Ok(())
        }
        Effect::Remove { db, key } => at(engine, db, key, |database, hash| {
            if let Some(at) = database.keys.find(hash, key) {
                database.remove(at);
            }
            Ok(())
        }),
        Effect::Expire { db, key, expire_at } => at(engine, db, key, |database, hash| {
            if let Some(at) = database.keys.find(hash, key) {
                database.set_expiry(at, expire_at);
                database.keys.at_mut(at).changed = CHANGED;
            }
            Ok(())
        }),
        Effect::Put { db, key, kind, expire_at, rows } => put(engine, db, key, whole(kind, rows)?, expire_at, now),
        Effect::Change { db, key, kind, rows } => edit(engine, backing, db, key, kind, now, |value| {
            if value.kind() != kind {
                return Err(BadRow::Bytes);
            }
            let to = value.rows_mut().ok_or(BadRow::Bytes)?;
            for row in rows {
                match row {
                    Row::Put(element, bytes) => to.put_row(element, bytes)?,
                    Row::Remove(element) => to.remove_row(element)?,
                }
            }
            Ok(())
        }),
        Effect::WriteAt { db, key, offset, bytes } => edit(engine, backing, db, key, Kind::String, now, |value| match value {
            Value::String(string) => {
                let (start, _) = write_range(offset, bytes.len())?;
                string.write_at(start, bytes);
                Ok(())
            }
            _ => Err(BadRow::Bytes),
        }),
    }
}

fn put(engine: &Engine, db: u8, key: &[u8], value: Value, expire_at: u64, now: u64) -> Result<(), BadRow> {
    at(engine, db, key, |database, hash| {
        let (at, _) = made(engine, database, hash, key, value.kind(), now);
        database.set_expiry(at, expire_at);
        database.keys.at_mut(at).value = value;
        Ok(())
    })
}

fn whole(kind: Kind, mut rows: effect::Rows<'_>) -> Result<Value, BadRow> {
    if kind == Kind::String {
        let bytes = if let Some(Row::Put(_, bytes)) = rows.next() { bytes } else { &[] };
        return Ok(Value::String(Str::from(bytes)));
    }
    let mut value = Value::empty(kind);
    let to = value.rows_mut().ok_or(BadRow::Bytes)?;
    for row in rows {
        if let Row::Put(element, bytes) = row {
            to.put_row(element, bytes)?;
        }
    }
    Ok(value)
}

fn edit(
    engine: &Engine,
    backing: &dyn Backing,
    db: u8,
    key: &[u8],
    kind: Kind,
    now: u64,
    run: impl FnOnce(&mut Value) -> Result<(), BadRow>,
) -> Result<(), BadRow> {
    at(engine, db, key, |database, hash| {
        let (at, is_new) = made(engine, database, hash, key, kind, now);
        let entry = database.keys.at_mut(at);
        if is_new {
            entry.value = Value::empty(kind);
        } else {
            read_back(backing, db, entry)?;
        }
        run(&mut entry.value)
    })
}

/// Reads a value that was left on disk while loading, because memory was short.
fn read_back(backing: &dyn Backing, db: u8, entry: &mut Entry) -> Result<(), BadRow> {
    if let Value::OnDisk(kind) = entry.value {
        let missing = Missing { db, key: entry.key.clone(), kind, changed: entry.changed };
        entry.value = backing.load(&missing).map_err(|_| BadRow::Bytes)?;
    }
    Ok(())
}

fn at(engine: &Engine, db: u8, key: &[u8], run: impl FnOnce(&mut Database, u32) -> Result<(), BadRow>) -> Result<(), BadRow> {
    let hash = dict::hash(key);
    let mut shard = engine.shards[shard_of(hash)].0.lock();
    run(shard.databases.get_mut(usize::from(db)).ok_or(BadRow::Bytes)?, hash as u32)
}

/// The position of a key, and whether it had to be made.
fn made(engine: &Engine, database: &mut Database, hash: u32, key: &[u8], kind: Kind, now: u64) -> (u32, bool) {
    if let Some(at) = database.keys.find(hash, key) {
        database.keys.at_mut(at).changed = CHANGED;
        return (at, false);
    }
    let access = evict::fresh(engine, now);
    let entry = Entry::new(key, Value::OnDisk(kind), access, CHANGED);
    (database.insert(hash, entry, 0), true)
}

/// Removes what expired while nobody was looking, which the journal must learn like any removal.
pub fn remove_expired(engine: &Engine, now: u64) -> u64 {
    let mut count = 0;
    engine.each_shard(|_, shard| {
        for db in 0..DATABASES {
            let database = &mut shard.databases[db];
            if database.expiries.first().is_none_or(|(expire_at, _)| expire_at > now) {
                continue;
            }
            let expired: Vec<Blob> =
                database.keys.iter().filter(|entry| entry.is_expired(now)).map(|entry| entry.key.clone()).collect();
            for key in expired {
                if let Some(at) = database.keys.find(dict::hash(&key) as u32, &key) {
                    count += 1;
                    database.remove(at);
                    shard.log.record(|to| push_remove(to, db as u8, &key));
                }
            }
        }
    });
    note_field_expiries(engine);
    count
}
