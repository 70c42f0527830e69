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
use crate::engine::shard::{DATABASES, Database, Entry, STORED, Shard};
use crate::engine::types::string::Str;
use crate::engine::value::{BadRow, Kind, Value};
use crate::engine::{Engine, Padded, SHARDS, shard_of};

/// What replayed keys have as the epoch of their last change: no checkpoint of this process covers them yet.
const CHANGED: u8 = 1;

/// Effects that are done again while a shard is locked: what they need may have to be read from the disk.
const AT_ONCE: usize = 256;
/// Effects are looked ahead for, so that the waits for memory overlap: so many until their buckets are near, and then until their entries
/// are.
const NEAR: usize = 8;

/// An effect on a key, with the low bits of the key's hash.
type OnKey<'a> = (u32, Effect<'a>);

/// Does batches of the journal again, in their order; tells how many values went from one key to another that were not there, since an
/// accepted loss took them. Each change is recorded nowhere: it is in the journal.
///
/// A key stands in sections of one shard, as long as batches are of one run, so these are done again by all processors at once: each
/// takes all sections of a shard, and then those of another. Now keys live in other shards than then.
pub fn replay<'b>(
    engine: &Engine,
    backing: &dyn Backing,
    batches: impl IntoIterator<Item = &'b [u8]>,
    now: u64,
) -> Result<u64, BadRow> {
    let mut lost = 0;
    let mut apart: BTreeMap<u8, Vec<&[u8]>> = BTreeMap::new();
    let mut run = None;
    for bytes in batches {
        let batch = batch::read(bytes)?;
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
    if apart.is_empty() {
        return Ok(());
    }
    let sections = Mutex::new(apart.into_values());
    // First by the shards of now: each is then locked once, and what is done in it can be looked ahead for.
    let sorted = at_once(|| {
        let mut by_shard: Vec<Vec<OnKey<'_>>> = (0..SHARDS).map(|_| Vec::new()).collect();
        // Taken in a statement of its own, so that the others can take theirs meanwhile.
        while let Some(sections) = { sections.lock().next() } {
            for effects in sections {
                batch::each_effect(effects, |effect| {
                    let Some(key) = effect.key() else { return set_map(engine, effect) };
                    let hash = dict::hash(key);
                    by_shard[shard_of(hash)].push((hash as u32, effect));
                    Ok(())
                })?;
            }
        }
        Ok(by_shard)
    })?;
    let shards = Mutex::new(0..SHARDS);
    at_once(|| {
        while let Some(number) = { shards.lock().next() } {
            // A key is in one of them only, since one thread took all sections that it stands in. Others may look at the shard in between.
            let some = sorted.iter().flat_map(|by_shard| by_shard[number].chunks(AT_ONCE));
            for effects in some {
                redo_all(engine, backing, &mut engine.shards[number].0.lock(), effects, now)?;
            }
        }
        Ok(())
    })?;
    Ok(())
}

/// Runs this on all processors.
fn at_once<T: Send>(work: impl Fn() -> Result<T, BadRow> + Sync) -> Result<Vec<T>, BadRow> {
    let processors = thread::available_parallelism().map_or(1, NonZero::get).min(SHARDS);
    thread::scope(|scope| {
        let others: Vec<_> = (1..processors).map(|_| scope.spawn(&work)).collect();
        let own = work();
        let others = others.into_iter().map(|other| other.join().expect("a batch that is bad is an error"));
        std::iter::once(own).chain(others).collect()
    })
}

fn redo_all(engine: &Engine, backing: &dyn Backing, shard: &mut Shard, effects: &[OnKey<'_>], now: u64) -> Result<(), BadRow> {
    let database = |effect: &Effect<'_>| effect.db().map(usize::from).filter(|db| *db < STORED).ok_or(BadRow::Bytes);
    for (number, (hash, effect)) in effects.iter().enumerate() {
        if let Some((hash, effect)) = effects.get(number + 2 * NEAR) {
            shard.databases[database(effect)?].keys.prefetch_bucket(*hash);
        }
        if let Some((hash, effect)) = effects.get(number + NEAR) {
            shard.databases[database(effect)?].keys.prefetch_entry(*hash);
        }
        redo(engine, backing, &mut shard.databases[database(effect)?], *hash, *effect, now)?;
    }
    Ok(())
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
                return redo_alone(engine, backing, Effect::Remove { db, key }, now);
            };
            if value.kind() != kind {
                return Err(BadRow::Bytes);
            }
            at(engine, db, key, |database, hash| {
                let (at, _) = made(engine, database, hash, key, kind, now);
                database.set_expiry(at, expire_at);
                database.keys.at_mut(at).value = value;
                Ok(())
            })
        }
        other => redo_alone(engine, backing, other, now),
    })?;
    Ok(lost)
}

fn redo_alone(engine: &Engine, backing: &dyn Backing, effect: Effect<'_>, now: u64) -> Result<(), BadRow> {
    match (effect.db(), effect.key()) {
        (Some(db), Some(key)) => at(engine, db, key, |database, hash| redo(engine, backing, database, hash, effect, now)),
        _ => set_map(engine, effect),
    }
}

fn set_map(engine: &Engine, effect: Effect<'_>) -> Result<(), BadRow> {
    // A database is emptied only where sections meet.
    let Effect::Map { stored } = effect else { return Err(BadRow::Bytes) };
    engine.stored.store(stored, std::sync::atomic::Ordering::SeqCst);
    Ok(())
}

/// Does an effect on a key again that lives in this database, with this hash.
fn redo(
    engine: &Engine,
    backing: &dyn Backing,
    database: &mut Database,
    hash: u32,
    effect: Effect<'_>,
    now: u64,
) -> Result<(), BadRow> {
    match effect {
        // These have no key, and those stand only where sections meet.
        Effect::Flush { .. } | Effect::Map { .. } | Effect::Give { .. } | Effect::Copy { .. } | Effect::Take { .. } => {
            return Err(BadRow::Bytes);
        }
        Effect::Remove { key, .. } => {
            if let Some(at) = database.keys.find(hash, key) {
                database.remove(at);
            }
        }
        Effect::Expire { key, expire_at, .. } => {
            if let Some(at) = database.keys.find(hash, key) {
                database.set_expiry(at, expire_at);
                database.keys.at_mut(at).changed = CHANGED;
            }
        }
        Effect::Put { key, kind, expire_at, rows, .. } => {
            let (at, _) = made(engine, database, hash, key, kind, now);
            database.set_expiry(at, expire_at);
            put(&mut database.keys.at_mut(at).value, kind, rows)?;
        }
        Effect::Change { db, key, kind, rows } => {
            let value = held(engine, backing, database, hash, (db, key), kind, now)?;
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
        }
        Effect::WriteAt { db, key, offset, bytes } => {
            let Value::String(string) = held(engine, backing, database, hash, (db, key), Kind::String, now)? else {
                return Err(BadRow::Bytes);
            };
            let (start, _) = write_range(offset, bytes.len())?;
            string.write_at(start, bytes);
        }
    }
    Ok(())
}

/// Makes a value what these rows tell, in the memory it has where that fits.
fn put(value: &mut Value, kind: Kind, mut rows: effect::Rows<'_>) -> Result<(), BadRow> {
    if kind == Kind::String {
        let bytes = if let Some(Row::Put(_, bytes)) = rows.next() { bytes } else { &[] };
        match value {
            Value::String(string) => string.assign(bytes),
            other => *other = Value::String(Str::from(bytes)),
        }
        return Ok(());
    }
    let mut whole = Value::empty(kind);
    let to = whole.rows_mut().ok_or(BadRow::Bytes)?;
    for row in rows {
        if let Row::Put(element, bytes) = row {
            to.put_row(element, bytes)?;
        }
    }
    *value = whole;
    Ok(())
}

/// The value of a key, to change; an empty one where the key had to be made.
fn held<'d>(
    engine: &Engine,
    backing: &dyn Backing,
    database: &'d mut Database,
    hash: u32,
    (db, key): (u8, &[u8]),
    kind: Kind,
    now: u64,
) -> Result<&'d mut Value, BadRow> {
    let (at, is_new) = made(engine, database, hash, key, kind, now);
    let entry = database.keys.at_mut(at);
    if is_new {
        entry.value = Value::empty(kind);
    } else {
        read_back(backing, db, entry)?;
    }
    Ok(&mut entry.value)
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
pub(crate) fn remove_expired(engine: &Engine, now: u64) -> u64 {
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
