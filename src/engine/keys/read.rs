//! The view of a command that only reads. Reading still removes keys whose time is over, and brings values back from disk.

use std::mem;

use crate::engine::blob::Blob;
use crate::engine::dict;
use crate::engine::effect;
use crate::engine::error::{self, Error};
use crate::engine::evict;
use crate::engine::free;
use crate::engine::keys::held::Held;
use crate::engine::keys::wait::{KeyWait, Waiting};
use crate::engine::load::Missing;
use crate::engine::notify::{Class, Event, Look};
use crate::engine::shard::{Database, Entry, LIBRARIES, Shard};
use crate::engine::types::string::{IntText, Str};
use crate::engine::value::{Type, Value};
use crate::engine::{Engine, SHARDS, shard_of};
use crate::panics::Whole;
use crate::resp::Args;

/// What a view has recorded.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wrote {
    /// The epoch its changes are in; 0 for none.
    pub(crate) epoch: u64,
    /// Bytes that go to the journal.
    pub(crate) bytes: usize,
}

/// What a command sees that only reads. Reading still removes keys whose time is over and brings values back from disk.
pub struct Read<'a> {
    /// Dropped first, before the shards are let go.
    pub(crate) _whole: Whole,
    pub(crate) engine: &'a Engine,
    pub(crate) held: Held<'a>,
    /// The client's database, as it numbers it.
    pub(crate) db: u8,
    /// The same, as it is stored.
    pub(crate) stored_db: u8,
    pub(crate) now: u64,
    pub(crate) events: Vec<Event>,
    pub(crate) waiting: Waiting,
    pub(crate) block: Option<KeyWait>,
    /// Values that rest on disk and were met: see [`Self::lacks`].
    pub(crate) missing: Vec<Missing>,
    /// Whether more was done under these locks than changing keys, so that it cannot be done again.
    pub(crate) is_final: bool,
    /// Whether uses of keys leave no trace in their entries (`CLIENT NO-TOUCH`).
    pub(crate) leaves_access: bool,
}

impl Look for Read<'_> {
    fn db(&self) -> u8 {
        self.db
    }

    fn now(&self) -> u64 {
        self.now
    }

    fn inspect(&mut self, key: &[u8]) -> Result<Option<&Value>, Error> {
        Read::inspect(self, key)
    }
}

impl<'a> Read<'a> {
    /// The time of this command, in milliseconds since the epoch. It stands still while the command runs.
    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// The engine this is a view of.
    pub(crate) fn engine(&self) -> &'a Engine {
        self.engine
    }

    /// The database in use, as clients number it.
    pub(crate) fn db(&self) -> u8 {
        self.db
    }

    /// Works in another database from here on.
    pub(crate) fn select(&mut self, db: u8) {
        self.db = db;
        self.stored_db = self.engine.stored(db);
    }

    /// Works among the libraries of functions, until a database is selected.
    pub(crate) fn select_libraries(&mut self) {
        self.stored_db = LIBRARIES;
    }

    /// All libraries of functions, each as its name and its code. All shards must be held.
    pub(crate) fn libraries(&mut self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut all = Vec::new();
        for number in 0..SHARDS {
            let entries = self.held.get(number).database(LIBRARIES).keys().iter();
            all.extend(entries.filter_map(|entry| {
                let code = Str::of(entry.value())?.bytes(&mut IntText::new()).to_vec();
                Some((entry.key().to_vec(), code))
            }));
        }
        all
    }

    /// Runs with another database selected, then returns to this one.
    pub(crate) fn in_db<R>(&mut self, db: u8, run: impl FnOnce(&mut Self) -> R) -> R {
        let before = self.db;
        self.select(db);
        let result = run(self);
        self.select(before);
        result
    }

    /// The value at a key. Counts as a use of the key.
    #[inline]
    pub(crate) fn find(&mut self, key: &[u8]) -> Result<Option<&Value>, Error> {
        let Some((shard, db, at)) = self.locate(dict::hash(key), key, true)? else { return Ok(None) };
        Ok(Some(&shard.databases[db].keys.at(at).value))
    }

    /// The value at a key, if it is of this type. Counts as a use of the key.
    #[inline]
    pub(crate) fn get<T: Type>(&mut self, key: &[u8]) -> Result<Option<&T>, Error> {
        match self.find(key)? {
            None => Ok(None),
            Some(value) => T::of(value).map(Some).ok_or(error::WRONG_TYPE),
        }
    }

    /// The value at a key that [`Self::get`] has found in this command. Unlike there, several can be had at once.
    pub(crate) fn found<T: Type>(&self, key: &[u8]) -> Option<&T> {
        let hash = dict::hash(key);
        let keys = &self.held.peek(shard_of(hash)).database(self.stored_db).keys;
        let entry = keys.at(keys.find(hash as u32, key)?);
        if entry.is_expired(self.now) { None } else { T::of(&entry.value) }
    }

    /// The entry at a key, without counting as a use of it and without bringing its value back from disk.
    pub(crate) fn peek(&mut self, key: &[u8]) -> Option<&Entry> {
        let hash = dict::hash(key);
        let at = self.live(hash, key)?;
        Some(self.database(hash).keys.at(at))
    }

    /// When a key expires, in milliseconds since the epoch: `Some(None)` for one that lasts, None where there is no such key.
    pub(crate) fn expiry(&mut self, key: &[u8]) -> Option<Option<u64>> {
        let hash = dict::hash(key);
        let at = self.live(hash, key)?;
        let database = self.database(hash);
        Some(database.expire_at(database.keys.at(at)))
    }

    /// The value at a key, without counting as a use of it.
    pub(crate) fn inspect(&mut self, key: &[u8]) -> Result<Option<&Value>, Error> {
        let hash = dict::hash(key);
        let Some(at) = self.live(hash, key) else { return Ok(None) };
        let access = self.database(hash).keys.at(at).access();
        let (shard, db, at) = self.use_at(hash, at, false)?;
        let entry = shard.databases[db].keys.at_mut(at);
        entry.set_access(access);
        Ok(Some(&entry.value))
    }

    /// Fails if a key holds another kind of value than this, without counting as a use of it.
    pub(crate) fn peek_type<T: Type>(&mut self, key: &[u8]) -> Result<(), Error> {
        if self.peek(key).is_none_or(|entry| entry.value.kind() == T::KIND) { Ok(()) } else { Err(error::WRONG_TYPE) }
    }

    /// The entry at a key, counted as a read of it in the statistics but not as a use of the key: for `TTL`, `TYPE` and their like.
    pub(crate) fn look(&mut self, key: &[u8]) -> Option<&Entry> {
        let hash = dict::hash(key);
        let Some(at) = self.live(hash, key) else {
            self.miss(hash, key);
            return None;
        };
        let db = usize::from(self.stored_db);
        let shard = self.held.get(shard_of(hash));
        shard.counts.hits += 1;
        Some(shard.databases[db].keys.at(at))
    }

    /// Whether there is such a key. Counts as a use of it, as `EXISTS` does.
    pub(crate) fn exists(&mut self, key: &[u8]) -> bool {
        let hash = dict::hash(key);
        let Some(at) = self.live(hash, key) else {
            self.miss(hash, key);
            return false;
        };
        let (engine, now, db) = (self.engine, self.now, usize::from(self.stored_db));
        let shard = self.held.get(shard_of(hash));
        shard.counts.hits += 1;
        evict::touch(engine, now, shard.databases[db].keys.at_mut(at));
        true
    }

    /// Whether values of some of these keys, which this view holds, rest on disk; they are noted as missing. A command that
    /// changes one key after it has looked at another must know of all of them before it begins.
    pub(crate) fn lacks<'k>(&mut self, keys: impl Iterator<Item = &'k [u8]>) -> bool {
        for key in keys {
            let (db, hash, now) = (self.stored_db, dict::hash(key), self.now);
            // Only looked for: to remove one whose time is over would be a change.
            let keys = &self.database(hash).keys;
            let Some(entry) = keys.find(hash as u32, key).map(|at| keys.at(at)).filter(|entry| !entry.is_expired(now)) else {
                continue;
            };
            if let Value::OnDisk(kind) = entry.value {
                let missing = Missing { db, key: Blob::from(key), kind, changed: entry.changed };
                self.missing.push(missing);
            }
        }
        !self.missing.is_empty()
    }

    /// What this view has recorded. To be asked before its locks are released, so that whoever sees the changes knows that they may not be
    /// on disk yet.
    #[inline]
    pub(crate) fn wrote(&self) -> Wrote {
        let mut wrote = Wrote::default();
        self.held.each(|shard| {
            if shard.log.has_recorded {
                wrote.epoch = wrote.epoch.max(shard.log.epoch);
                wrote.bytes += shard.log.recorded_bytes;
            }
        });
        self.engine.note_wrote(wrote.epoch);
        wrote
    }

    /// The database in use, as it is stored.
    pub(crate) fn stored_db(&self) -> u8 {
        self.stored_db
    }

    /// Adds to the events that subscribers of keyspace notifications get once the command has run.
    #[inline]
    pub(crate) fn notify(&mut self, class: Class, event: &'static str, key: &[u8]) {
        if self.engine.notifications().wants(class) || self.engine.notifications().is_observed(class, key) {
            self.events.push(Event { class, name: event, db: self.db, key: Blob::from(key), elements: Vec::new() });
        }
    }

    /// The same for elements that were pushed onto a list, which are told where someone observes it.
    #[inline]
    pub(crate) fn notify_pushed(&mut self, event: &'static str, key: &[u8], elements: Args<'_>) {
        self.notify(Class::List, event, key);
        if self.engine.notifications().is_observed(Class::List, key)
            && let Some(told) = self.events.last_mut()
        {
            told.elements = elements.iter().map(Blob::from).collect();
        }
    }

    /// Takes the events so far, for a view that is no command's.
    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        mem::take(&mut self.events)
    }

    /// A shard that this command holds, by its number below [`SHARDS`]. Commands that hold all of them walk keys with this.
    pub(crate) fn shard(&mut self, number: usize) -> &mut Shard {
        debug_assert!(number < SHARDS);
        self.held.get(number)
    }

    /// The keys of the database in use within one shard.
    pub(crate) fn database_in(&mut self, number: usize) -> &Database {
        let db = self.stored_db;
        self.held.get(number).database(db)
    }

    pub(super) fn database(&mut self, hash: u64) -> &mut Database {
        let db = usize::from(self.stored_db);
        &mut self.held.get(shard_of(hash)).databases[db]
    }

    /// The position of a key that is there and whose time is not over.
    #[inline]
    pub(super) fn live(&mut self, hash: u64, key: &[u8]) -> Option<u32> {
        let now = self.now;
        let database = self.database(hash);
        let at = database.keys.find(hash as u32, key)?;
        if !database.keys.at(at).is_expired(now) {
            return Some(at);
        }
        if self.engine.may_expire() {
            self.expire_at_position(hash, at);
        }
        None
    }

    /// The same, for whoever puts a new key in the place: one whose time is over is removed even while keys may not expire.
    #[inline]
    pub(super) fn live_or_cleared(&mut self, hash: u64, key: &[u8]) -> Option<u32> {
        let now = self.now;
        let database = self.database(hash);
        let at = database.keys.find(hash as u32, key)?;
        if !database.keys.at(at).is_expired(now) {
            return Some(at);
        }
        self.expire_at_position(hash, at);
        None
    }

    /// How many reads of keys in this one's shard found them, and how many did not: to be put back after a read that nobody asked for.
    pub(crate) fn reads_beside(&mut self, key: &[u8]) -> (u64, u64) {
        let counts = &self.held.get(shard_of(dict::hash(key))).counts;
        (counts.hits, counts.misses)
    }

    /// Puts back what [`Self::reads_beside`] gave, under the same locks.
    pub(crate) fn put_reads_back(&mut self, key: &[u8], reads: (u64, u64)) {
        let counts = &mut self.held.get(shard_of(dict::hash(key))).counts;
        (counts.hits, counts.misses) = reads;
    }

    /// Notes a read of a key that is not there.
    fn miss(&mut self, hash: u64, key: &[u8]) {
        self.held.get(shard_of(hash)).counts.misses += 1;
        self.notify(Class::Miss, "keymiss", key);
    }

    #[cold]
    fn expire_at_position(&mut self, hash: u64, at: u32) {
        let db = self.stored_db;
        let shard = self.held.get(shard_of(hash));
        let entry = shard.databases[usize::from(db)].remove(at);
        shard.counts.expired += 1;
        shard.log.touch_unasked(db, &entry.key);
        shard.log.record(|to| effect::push_remove(to, db, &entry.key));
        free::value(self.engine.freeing(), entry.value);
        self.notify(Class::Expired, "expired", &entry.key);
    }

    /// Where a key is, its value in memory.
    #[inline]
    pub(super) fn locate(&mut self, hash: u64, key: &[u8], counts: bool) -> Result<Option<(&mut Shard, usize, u32)>, Error> {
        match self.live(hash, key) {
            Some(at) => self.use_at(hash, at, counts).map(Some),
            None => {
                if counts {
                    self.miss(hash, key);
                }
                Ok(None)
            }
        }
    }

    /// Counts a use of the key at a position, whose value must be in memory, or the command ends here: see [`Self::bring`].
    #[inline]
    pub(super) fn use_at(&mut self, hash: u64, at: u32, counts: bool) -> Result<(&mut Shard, usize, u32), Error> {
        let (engine, now, db, leaves_access) = (self.engine, self.now, usize::from(self.stored_db), self.leaves_access);
        let shard = self.held.get(shard_of(hash));
        shard.counts.hits += u64::from(counts);
        let entry = shard.databases[db].keys.at_mut(at);
        if !leaves_access {
            evict::touch(engine, now, entry);
        }
        if matches!(entry.value, Value::OnDisk(_)) {
            self.bring(hash, at)?;
        }
        Ok((self.held.get(shard_of(hash)), db, at))
    }

    /// A value that is needed rests on disk. The command ends here, having changed nothing, and is run again once the value has been read.
    /// Only one that has changed others already, or answers after something that cannot be done twice, has it read at once, with its shards locked: it did not name this key, as `SORT … GET`
    /// in a transaction does not. What is named is looked for before: see [`Self::lacks`].
    #[cold]
    fn bring(&mut self, hash: u64, at: u32) -> Result<(), Error> {
        let db = self.stored_db;
        let entry = self.database(hash).keys.at(at);
        let missing = Missing { db, key: entry.key.clone(), kind: entry.value.kind(), changed: entry.changed };
        if self.wrote().epoch == 0 && !self.is_final {
            self.missing.push(missing);
            return Err(error::ON_DISK);
        }
        let value = self.engine.loads().fetch_now(missing)?;
        let database = self.database(hash);
        database.keys.at_mut(at).value = value;
        database.note_field_expiry(at);
        Ok(())
    }

    /// Takes the values that this view's command needs and that rest on disk. It has changed nothing then, but that keys may be gone whose
    /// time is over, which is done again without harm.
    pub(crate) fn take_missing(&mut self) -> Vec<Missing> {
        mem::take(&mut self.missing)
    }
}
