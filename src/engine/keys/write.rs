//! The view of a command that changes keys. Every change is told to the shard's log where it is made.

use std::mem;
use std::ops::{Deref, DerefMut};

use crate::engine::SHARDS;
use crate::engine::blob::Blob;
use crate::engine::dict;
use crate::engine::effect;
use crate::engine::error::{self, Error};
use crate::engine::evict;
use crate::engine::free;
use crate::engine::keys::read::Read;
use crate::engine::log::{Audience, Edit, RowLog};
use crate::engine::notify::Class;
use crate::engine::shard::{Entry, Shard};
use crate::engine::shard_of;
use crate::engine::types::string::Str;
use crate::engine::value::{Kind, Type, Value};

/// What a command sees that changes keys: all of [`Read`], and the changes.
pub struct Write<'a>(pub(crate) Read<'a>);

impl<'a> Deref for Write<'a> {
    type Target = Read<'a>;

    fn deref(&self) -> &Read<'a> {
        &self.0
    }
}

impl<'a> DerefMut for Write<'a> {
    fn deref_mut(&mut self) -> &mut Read<'a> {
        &mut self.0
    }
}

/// What happens to a key's expiry when its value is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// It stays as it was.
    Keep,
    /// The key lasts.
    Never,
    /// The key expires at this time, in milliseconds since the epoch.
    At(u64),
}

impl Expiry {
    /// Whether it is a time that is not in the future.
    pub(crate) fn is_over(self, now: u64) -> bool {
        matches!(self, Expiry::At(at) if at <= now)
    }
}

impl<'a> Write<'a> {
    /// The value at a key if it is of this type, to change. Its key stays even if nothing is left in it: see [`Self::remove_if_empty`].
    #[inline]
    pub(crate) fn edit<'v, T: Type>(&'v mut self, key: &'v [u8]) -> Result<Option<Edit<'v, T>>, Error> {
        let hash = dict::hash(key);
        match self.0.live(hash, key) {
            Some(at) => self.edit_at(hash, at, key).map(Some),
            None => Ok(None),
        }
    }

    /// The same, made empty where there is no such key. Then at least one row must be put, or [`Self::remove_if_empty`] called.
    #[inline]
    pub(crate) fn edit_or_new<'v, T: Type>(&'v mut self, key: &'v [u8]) -> Result<Edit<'v, T>, Error> {
        let hash = dict::hash(key);
        if let Some(at) = self.0.live_or_cleared(hash, key) {
            return self.edit_at(hash, at, key);
        }
        let at = self.insert(hash, key, T::default().into_value(), 0);
        let mut edit = self.edit_at(hash, at, key)?;
        edit.is_new = true;
        Ok(edit)
    }

    #[inline]
    fn edit_at<'v, T: Type>(&'v mut self, hash: u64, at: u32, key: &'v [u8]) -> Result<Edit<'v, T>, Error> {
        let (shard, db, at) = self.0.use_at(hash, at, false)?;
        let entry = shard.databases[db].keys.at_mut(at);
        let value = T::of_mut(&mut entry.value).ok_or(error::WRONG_TYPE)?;
        let log = RowLog {
            log: &mut shard.log,
            changed: &mut entry.changed,
            db: db as u8,
            key,
            kind: T::KIND,
            is_open: false,
            audience: Audience::All,
        };
        Ok(Edit { value, log, is_new: false })
    }

    /// Sets a key to a value, whatever it held before. Its effect is all of the value's rows.
    pub fn put(&mut self, key: &[u8], value: impl Type, expiry: Expiry) {
        self.put_value(key, value.into_value(), expiry);
    }

    /// The same, for a value of any kind. A value that rests on disk cannot be put.
    pub(crate) fn put_value(&mut self, key: &[u8], value: Value, expiry: Expiry) {
        self.put_from(key, value, expiry, None);
    }

    /// The same; the effect of a value out of a parcel is that it comes from there.
    fn put_from(&mut self, key: &[u8], mut value: Value, expiry: Expiry, parcel: Option<u64>) {
        if let Value::Hash(hash) = &mut value {
            hash.forget_note();
        }
        let freeing = self.0.engine.freeing();
        let (shard, at, expire_at) = self.place(key, expiry, |held| match held {
            Some(held) => {
                free::value(freeing, mem::replace(held, value));
                None
            }
            None => Some(value),
        });
        let db = self.0.stored_db;
        let Shard { databases, log, .. } = self.0.held.get(shard);
        databases[usize::from(db)].note_field_expiry(at);
        let value = &databases[usize::from(db)].keys.at(at).value;
        if let Some(parcel) = parcel {
            log.record_meeting(|to| effect::push_take(to, db, key, value.kind(), expire_at, parcel));
            return;
        }
        log.record(|to| {
            effect::push_put(to, db, key, value.kind(), expire_at);
            let rows = value.rows().expect("only values in memory are put");
            rows.each_row(&mut |element, bytes| effect::push_row(to, element, bytes));
            effect::push_end(to);
        });
    }

    /// Sets a key to a string, whatever it held before. The same as [`Self::put`], with less work: this is the most frequent write.
    #[inline]
    pub(crate) fn put_string(&mut self, key: &[u8], bytes: &[u8], expiry: Expiry) {
        let freeing = self.0.engine.freeing();
        let (shard, _, expire_at) = self.place(key, expiry, |held| match held {
            Some(Value::String(string)) => {
                string.assign(bytes);
                None
            }
            Some(held) => {
                free::value(freeing, mem::replace(held, Value::String(Str::from(bytes))));
                None
            }
            None => Some(Value::String(Str::from(bytes))),
        });
        let db = self.0.stored_db;
        self.0.held.get(shard).log.record(|to| {
            effect::push_put(to, db, key, Kind::String, expire_at);
            effect::push_row(to, b"", bytes);
            effect::push_end(to);
        });
    }

    /// Makes a key hold what `set` leaves in the value it is shown, or gives back where it is shown none. Tells the shard, the
    /// position and the expiry; the effect is the caller's to record.
    #[inline]
    fn place(&mut self, key: &[u8], expiry: Expiry, set: impl FnOnce(Option<&mut Value>) -> Option<Value>) -> (usize, u32, u64) {
        let hash = dict::hash(key);
        let number = shard_of(hash);
        let (engine, now, db) = (self.0.engine, self.0.now, self.0.stored_db);
        let found = self.0.live_or_cleared(hash, key);
        let wanted = match expiry {
            Expiry::Keep => None,
            Expiry::Never => Some(0),
            Expiry::At(at) => Some(at),
        };
        let Some(at) = found else {
            let value = set(None).expect("a value is given where there is none");
            let expire_at = wanted.unwrap_or(0);
            let at = self.insert(hash, key, value, expire_at);
            let shard = self.0.held.get(number);
            shard.databases[usize::from(db)].keys.at_mut(at).changed = shard.log.generation;
            shard.log.touch(db, key);
            return (number, at, expire_at);
        };
        let Shard { databases, log, .. } = self.0.held.get(number);
        let database = &mut databases[usize::from(db)];
        let entry = database.keys.at_mut(at);
        set(Some(&mut entry.value));
        evict::touch(engine, now, entry);
        entry.changed = log.generation;
        let expire_at = match wanted {
            Some(expire_at) => {
                database.set_expiry(at, expire_at);
                expire_at
            }
            None => database.expire_at_or_0(database.keys.at(at)),
        };
        log.touch(db, key);
        (number, at, expire_at)
    }

    /// Moves what a key holds, and when it expires, to a key of a database (as clients number it), whatever that held; tells whether
    /// there was such a key. No notification is sent.
    pub(crate) fn move_value(&mut self, key: &[u8], to_db: u8, to: &[u8]) -> Result<bool, Error> {
        let hash = dict::hash(key);
        let Some((shard, db, at)) = self.0.locate(hash, key, false)? else { return Ok(false) };
        let database = &mut shard.databases[db];
        let expiry = database.expire_at(database.keys.at(at)).map_or(Expiry::Never, Expiry::At);
        let value = database.remove(at).value;
        shard.log.touch(db as u8, key);
        let parcel = self.0.engine.parcel_for(&value);
        let log = &mut self.0.held.get(shard_of(hash)).log;
        match parcel {
            Some(parcel) => log.record_meeting(|to| effect::push_give(to, db as u8, key, parcel)),
            None => log.record(|to| effect::push_remove(to, db as u8, key)),
        }
        self.put_in(to_db, to, value, expiry, parcel);
        Ok(true)
    }

    /// Makes a key of a database (as clients number it) hold a copy of what another holds, and expire when that does. That one must be
    /// there. No notification is sent.
    pub(crate) fn copy_value(&mut self, key: &[u8], to_db: u8, to: &[u8]) -> Result<(), Error> {
        let hash = dict::hash(key);
        let engine = self.0.engine;
        let Some((shard, db, at)) = self.0.locate(hash, key, false)? else { return Ok(()) };
        let database = &mut shard.databases[db];
        let entry = database.keys.at(at);
        let expiry = database.expire_at(entry).map_or(Expiry::Never, Expiry::At);
        let value = entry.value.duplicate().expect("a value that was located is in memory");
        let parcel = engine.parcel_for(&value);
        if let Some(parcel) = parcel {
            shard.log.record_meeting(|to| effect::push_copy(to, db as u8, key, parcel));
        }
        self.put_in(to_db, to, value, expiry, parcel);
        Ok(())
    }

    fn put_in(&mut self, db: u8, key: &[u8], value: Value, expiry: Expiry, parcel: Option<u64>) {
        let before = self.0.db;
        self.0.select(db);
        self.remove(key);
        self.put_from(key, value, expiry, parcel);
        self.0.select(before);
    }

    /// Removes a key; tells whether it was there. No notification is sent.
    pub(crate) fn remove(&mut self, key: &[u8]) -> bool {
        let entry = self.remove_entry(key);
        let is_removed = entry.is_some();
        if let Some(entry) = entry {
            free::value(self.0.engine.freeing(), entry.value);
        }
        is_removed
    }

    fn remove_entry(&mut self, key: &[u8]) -> Option<Entry> {
        let hash = dict::hash(key);
        let at = self.0.live(hash, key)?;
        let db = self.0.stored_db;
        let shard = self.0.held.get(shard_of(hash));
        let entry = shard.databases[usize::from(db)].remove(at);
        shard.log.touch(db, key);
        shard.log.record(|to| effect::push_remove(to, db, key));
        Some(entry)
    }

    /// Removes a key whose value has nothing left in it, with the `del` notification; tells whether it did.
    pub(crate) fn remove_if_empty<T: Type>(&mut self, key: &[u8]) -> bool {
        let hash = dict::hash(key);
        let Some(at) = self.0.live(hash, key) else { return false };
        let is_empty = T::of(&self.0.database(hash).keys.at(at).value).is_some_and(T::is_empty);
        if is_empty {
            self.remove_entry(key);
            self.0.notify(Class::Generic, "del", key);
        }
        is_empty
    }

    /// Sets when a key expires, in milliseconds since the epoch, or that it lasts. Tells whether the key is there.
    pub(crate) fn set_expiry(&mut self, key: &[u8], expire_at: Option<u64>) -> bool {
        let hash = dict::hash(key);
        let Some(at) = self.0.live(hash, key) else { return false };
        let db = self.0.stored_db;
        let shard = self.0.held.get(shard_of(hash));
        let database = &mut shard.databases[usize::from(db)];
        database.set_expiry(at, expire_at.unwrap_or(0));
        database.keys.at_mut(at).changed = shard.log.generation;
        shard.log.touch(db, key);
        shard.log.record(|to| effect::push_expire(to, db, key, expire_at.unwrap_or(0)));
        true
    }

    /// Removes every key of the database in use. All shards must be held.
    pub(crate) fn flush(&mut self) {
        self.0.engine.notifications().tell_flushing(&mut self.0);
        let db = self.0.stored_db;
        let mut flushed = Vec::with_capacity(SHARDS);
        for number in 0..SHARDS {
            let shard = self.0.held.get(number);
            let database = mem::take(&mut shard.databases[usize::from(db)]);
            shard.log.touch_all(db, database.keys.len(), database.keys.iter().map(|entry| &**entry.key()));
            shard.log.record_meeting(|to| effect::push_flush(to, db));
            flushed.push(database);
        }
        self.0.held.get(0).log.tracked.all_changed();
        free::databases(self.0.engine.freeing(), flushed);
    }

    /// Lets two databases trade places. All shards must be held.
    pub(crate) fn swap_databases(&mut self, one: u8, other: u8) {
        let (a, b) = (self.0.engine.stored(one), self.0.engine.stored(other));
        let stored = self.0.engine.swap_stored(one, other);
        for number in 0..SHARDS {
            let now = self.0.now;
            let shard = self.0.held.get(number);
            let Shard { databases, log, counts, .. } = shard;
            // A watched key whose time is over counts as gone: it is removed here, where nobody who watches takes note.
            let watched: Vec<Blob> =
                log.watched.keys().filter(|(db, _)| [a, b].contains(db)).map(|(_, key)| key.clone()).collect();
            for (db, key) in [a, b].iter().flat_map(|db| watched.iter().map(move |key| (*db, key))) {
                let database = &mut databases[usize::from(db)];
                let over = database.keys.find(dict::hash(key) as u32, key).filter(|at| database.keys.at(*at).is_expired(now));
                if let Some(at) = over {
                    database.remove(at);
                    counts.expired += 1;
                    log.record(|to| effect::push_remove(to, db, key));
                }
            }
            log.swap_places(a, b, |db, key| databases[usize::from(db)].keys.get(key).is_some());
            if number == 0 {
                shard.log.record(|to| effect::push_map(to, stored));
            }
            shard.log.changes += u64::from(number == 0);
            if number == 0 {
                shard.log.tracked.all_changed();
            }
        }
        let db = self.0.db;
        self.select(db);
        self.0.engine.notifications().tell_swapped();
    }

    /// Adds a key that is not there.
    fn insert(&mut self, hash: u64, key: &[u8], value: Value, expire_at: u64) -> u32 {
        self.0.notify(Class::New, "new", key);
        let access = evict::fresh(self.0.engine, self.0.now);
        let db = usize::from(self.0.stored_db);
        let entry = Entry::new(key, value, access, 0);
        self.0.held.get(shard_of(hash)).databases[db].insert(hash as u32, entry, expire_at)
    }
}
