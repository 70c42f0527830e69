//! Loading: the tables' keys are put into the shards. This thread scans and takes records apart; another one inserts.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::engine::blob::Blob;
use crate::engine::dict;
use crate::engine::evict;
use crate::engine::persist::Error;
use crate::engine::persist::progress::Progress;
use crate::engine::persist::record::{Body, Large, Record, SEGMENT_BYTES, put_packed, small_value};
use crate::engine::shard::{DATABASES, Entry};
use crate::engine::types::string::Str;
use crate::engine::value::{BadRow, Kind, Value};
use crate::engine::{Engine, SHARDS, shard_of};
use crate::memory;
use crate::storage::Tables;
use crate::storage::tables::Stored;

/// Entries handed over at once: enough that the other thread finds its shard's table in its cache.
const BATCH: usize = 256;
/// Batches on their way: bounds memory where inserting is slower than scanning.
const BATCHES_MAX: usize = 64;
/// How often used memory is looked at, in keys.
const LIMIT_LOOKS: u64 = 1024;
/// A string no longer than this stands in its entry: leaving it on disk would save nothing.
pub const INLINE_BYTES_MAX: usize = 22;

struct Batch {
    shard: usize,
    db: u8,
    /// Each with the low bits of its hash, and when it expires.
    entries: Vec<(u32, Entry, u64)>,
}

/// Puts all keys of the tables into an empty engine; tells how many. Values for which there is no room beside all keys, under
/// `memory_limit` (0: none), stay on disk. Of an error, what came before it is there.
pub fn load(engine: &Engine, tables: &Tables, now: u64, memory_limit: u64, progress: &Progress) -> Result<u64, Error> {
    let (sender, receiver) = sync_channel(BATCHES_MAX);
    std::thread::scope(|scope| {
        let inserter = scope.spawn(move || insert(engine, receiver));
        let scanned = Scan { engine, now, memory_limit, progress, keys: 0, keys_left: 0, is_full: false, sender }.run(tables);
        inserter.join().expect("inserting entries does not panic");
        scanned
    })
}

fn insert(engine: &Engine, batches: Receiver<Batch>) {
    for batch in batches {
        let mut shard = engine.shards[batch.shard].0.lock();
        let database = &mut shard.databases[usize::from(batch.db)];
        for (hash, entry, expire_at) in batch.entries {
            database.insert(hash, entry, expire_at);
        }
    }
}

struct Scan<'e> {
    engine: &'e Engine,
    now: u64,
    memory_limit: u64,
    progress: &'e Progress,
    keys: u64,
    /// Keys that are still to come.
    keys_left: u64,
    is_full: bool,
    sender: SyncSender<Batch>,
}

impl Scan<'_> {
    fn run(mut self, tables: &Tables) -> Result<u64, Error> {
        let snapshot = tables.snapshot()?;
        self.keys_left = snapshot.keys_len();
        for db in 0..DATABASES as u8 {
            if let Some(stored) = snapshot.database(db)? {
                self.database(db, &stored)?;
            }
        }
        Ok(self.keys)
    }

    fn database(&mut self, db: u8, stored: &Stored) -> Result<(), Error> {
        let mut batches: Vec<Vec<(u32, Entry, u64)>> = (0..SHARDS).map(|_| Vec::with_capacity(BATCH)).collect();
        let access = evict::fresh(self.engine, self.now);
        // Keys spread evenly over the shards, by their hashes.
        let share = stored.len() as usize / SHARDS;
        self.engine.shards.iter().for_each(|shard| shard.0.lock().databases[usize::from(db)].keys.reserve(share));
        let mut told = 0;
        stored.each_key(|key, record| {
            let record = Record::read(record).map_err(|error| Error::from(error).of_key(key))?;
            let value = self.value(stored, key, &record).map_err(|error| error.of_key(key))?;
            let hash = dict::hash(key);
            let entry = Entry::new(key, value, access, 0);
            let shard = shard_of(hash);
            batches[shard].push((hash as u32, entry, record.expire_at));
            self.keys += 1;
            self.keys_left = self.keys_left.saturating_sub(1);
            self.progress.linger(self.keys);
            self.progress.add(stored.shown_bytes() - told);
            told = stored.shown_bytes();
            if batches[shard].len() == BATCH {
                let entries = std::mem::replace(&mut batches[shard], Vec::with_capacity(BATCH));
                self.hand_over(Batch { shard, db, entries });
            }
            Ok::<_, Error>(())
        })?;
        for (shard, entries) in batches.into_iter().enumerate() {
            self.hand_over(Batch { shard, db, entries });
        }
        Ok(())
    }

    fn hand_over(&self, batch: Batch) {
        self.sender.send(batch).expect("the inserter takes batches until the last");
    }

    fn value(&mut self, stored: &Stored, key: &[u8], record: &Record<'_>) -> Result<Value, Error> {
        if self.memory_limit != 0 && self.keys.is_multiple_of(LIMIT_LOOKS) {
            // Those to come are taken to be as long as this one.
            let to_come = self.keys_left * (size_of::<Entry>() + Blob::from(key).heap_bytes()) as u64;
            self.is_full = memory::used_bytes() + to_come > self.memory_limit;
        }
        let is_tiny = matches!(record.body, Body::Small(bytes) if bytes.len() <= INLINE_BYTES_MAX);
        if self.is_full && !is_tiny && !self.engine.is_resident(key) {
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
pub fn value(stored: &Stored, record: &Record<'_>) -> Result<Value, Error> {
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
