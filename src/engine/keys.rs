//! The views commands have of the keyspace: [`Read`] and [`Write`], over shards that are locked for the whole command.
//!
//! A key whose time is over is not there for either. Every change made through [`Write`] is recorded as an effect in
//! the shard it happens in, so that nothing can change without reaching the journal.

use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Acquire};

use smallvec::SmallVec;

use crate::engine::blob::Blob;
use crate::engine::block::{AtKey, Place, Waiter, Want};
use crate::engine::crowd::give_room_back;
use crate::engine::dict;
use crate::engine::effect;
use crate::engine::error::{self, Error};
use crate::engine::evict;
use crate::engine::free;
use crate::engine::load::Missing;
use crate::engine::log::{Audience, RowLog};
use crate::engine::notify::{Class, Event, Look};
use crate::engine::shard::{Database, Entry, Shard};
use crate::engine::types::stream::id::Id;
use crate::engine::types::string::Str;
use crate::engine::value::{Kind, Type, Value};
use crate::engine::{Engine, Guard, SHARDS, Scope, enter, shard_of};
use crate::panics::Whole;
use crate::resp::{Args, OwnedArgs};

pub use crate::engine::log::Edit;

impl Engine {
    /// Runs with a view for reading over the shards of these keys. `now` is in milliseconds since the epoch. Whoever may meet a key whose
    /// time is over takes the view's events, and the keys that were touched, and tells of them.
    pub fn read<R>(&self, db: u8, now: u64, scope: Scope<'_>, run: impl FnOnce(&mut Read<'_>) -> R) -> R {
        self.write(db, now, scope, |view| run(view))
    }

    /// The same with a view for writing.
    pub fn write<R>(&self, db: u8, now: u64, scope: Scope<'_>, run: impl FnOnce(&mut Write<'_>) -> R) -> R {
        let mut view = Write(self.view(db, now, scope));
        let result = run(&mut view);
        view.wrote();
        debug_assert!(view.events.is_empty(), "nobody tells what happened in this view");
        result
    }

    /// Waits while a long run has the keyspace to itself, so no session that serves clients asks for it: see [`Self::try_view`].
    pub(crate) fn view(&self, db: u8, now: u64, scope: Scope<'_>) -> Read<'_> {
        loop {
            let view = self.view_beside(db, now, scope);
            if !self.solo().is_shut() {
                return view;
            }
            if self.solo().is_carried_here() {
                return view;
            }
            drop(view);
            self.solo().wait();
        }
    }

    /// A view, unless a long run has the keyspace to itself.
    #[inline]
    pub(crate) fn try_view(&self, db: u8, now: u64, scope: Scope<'_>) -> Option<Read<'_>> {
        self.view_keeping(None, db, now, scope)
    }

    /// A view also while a long run has the keyspace to itself: for what has nothing to do with what keys hold.
    pub(crate) fn view_beside(&self, db: u8, now: u64, scope: Scope<'_>) -> Read<'_> {
        self.view_of(self.hold(None, scope), db, now)
    }

    #[inline]
    pub(crate) fn view_keeping<'a>(
        &'a self,
        kept: Option<(usize, Guard<'a>)>,
        db: u8,
        now: u64,
        scope: Scope<'_>,
    ) -> Option<Read<'a>> {
        let held = self.hold(kept, scope);
        if self.solo().is_shut() { None } else { Some(self.view_of(held, db, now)) }
    }

    #[inline]
    fn view_of<'a>(&'a self, held: Held<'a>, db: u8, now: u64) -> Read<'a> {
        let stored_db = self.stored(db);
        Read {
            _whole: Whole::begin(),
            engine: self,
            held,
            db,
            stored_db,
            now,
            events: Vec::new(),
            waiting: Waiting::Never,
            block: None,
            missing: Vec::new(),
            is_final: false,
            leaves_access: false,
        }
    }

    /// Locks what a scope needs, and first unlocks what was kept if it is not that.
    #[inline]
    fn hold<'a>(&'a self, kept: Option<(usize, Guard<'a>)>, scope: Scope<'_>) -> Held<'a> {
        let kept = match (kept, scope) {
            (Some((number, guard)), Scope::Keys([key])) if shard_of(dict::hash(key)) == number => Some((number, guard)),
            _ => None,
        };
        let mut held = match scope {
            Scope::Nothing => Held::None,
            Scope::Keys([key]) => match kept {
                Some((number, guard)) => Held::One(number, guard),
                None => {
                    let number = shard_of(dict::hash(key));
                    Held::One(number, self.mutex(number).lock())
                }
            },
            Scope::Keys(keys) => {
                let mut numbers: SmallVec<[usize; 16]> = keys.iter().map(|key| shard_of(dict::hash(key))).collect();
                numbers.sort_unstable();
                numbers.dedup();
                Held::Some(numbers.into_iter().map(|number| (number, self.mutex(number).lock())).collect())
            }
            Scope::Everything => Held::All((0..SHARDS).map(|number| self.mutex(number).lock()).collect()),
        };
        // Invariant: the epoch is read after the last lock is taken, for each view anew; `cut` relies on it.
        let epoch = self.epoch.load(Acquire);
        let generation = self.generation.load(Acquire);
        match &mut held {
            Held::None => {}
            Held::One(_, guard) => enter(guard, epoch, generation),
            Held::Some(guards) => guards.iter_mut().for_each(|(_, guard)| enter(guard, epoch, generation)),
            Held::All(guards) => guards.iter_mut().for_each(|guard| enter(guard, epoch, generation)),
        }
        held
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

/// The shards a view holds.
pub(crate) enum Held<'a> {
    None,
    One(usize, Guard<'a>),
    /// By ascending number.
    Some(Vec<(usize, Guard<'a>)>),
    All(Vec<Guard<'a>>),
}

impl Held<'_> {
    #[inline]
    fn get(&mut self, number: usize) -> &mut Shard {
        match self {
            Held::One(held, guard) if *held == number => guard,
            Held::All(guards) => &mut guards[number],
            Held::Some(guards) => match guards.binary_search_by_key(&number, |(held, _)| *held) {
                Ok(at) => &mut guards[at].1,
                Err(_) => unheld(),
            },
            _ => unheld(),
        }
    }

    fn peek(&self, number: usize) -> &Shard {
        match self {
            Held::One(held, guard) if *held == number => guard,
            Held::All(guards) => &guards[number],
            Held::Some(guards) => match guards.binary_search_by_key(&number, |(held, _)| *held) {
                Ok(at) => &guards[at].1,
                Err(_) => unheld(),
            },
            _ => unheld(),
        }
    }
}

#[cold]
fn unheld() -> ! {
    unreachable!("a command reached for a key that its table row does not name")
}

/// Whether a command that finds nothing may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// It must answer: in a transaction or in a script.
    Never,
    /// It must answer, for it has waited and its time is over.
    Over,
    /// It may.
    Allowed,
    /// It has waited, and one of its keys was touched.
    Again,
}

/// Why a command did not answer: it waits for keys.
pub struct KeyWait {
    /// What for.
    pub want: Want,
    /// The keys it waits for.
    pub keys: Vec<Blob>,
    /// How long at most, in milliseconds; None for ever.
    pub timeout_ms: Option<u64>,
    /// The command to run again, where it differs from the one that waits.
    pub args: Option<OwnedArgs>,
    /// Makes the command for one of several keys.
    pub at_key: Option<AtKey>,
    /// For entries of streams: the ids they must be above, one for each key.
    pub above: Vec<Id>,
}

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
    pub fn now(&self) -> u64 {
        self.now
    }

    /// The engine this is a view of.
    pub fn engine(&self) -> &'a Engine {
        self.engine
    }

    /// The database in use, as clients number it.
    pub fn db(&self) -> u8 {
        self.db
    }

    /// Works in another database from here on.
    pub fn select(&mut self, db: u8) {
        self.db = db;
        self.stored_db = self.engine.stored(db);
    }

    /// Runs with another database selected, then returns to this one.
    pub fn in_db<R>(&mut self, db: u8, run: impl FnOnce(&mut Self) -> R) -> R {
        let before = self.db;
        self.select(db);
        let result = run(self);
        self.select(before);
        result
    }

    /// The value at a key. Counts as a use of the key.
    #[inline]
    pub fn find(&mut self, key: &[u8]) -> Result<Option<&Value>, Error> {
        let Some((shard, db, at)) = self.locate(dict::hash(key), key, true)? else { return Ok(None) };
        Ok(Some(&shard.databases[db].keys.at(at).value))
    }

    /// The value at a key, if it is of this type. Counts as a use of the key.
    #[inline]
    pub fn get<T: Type>(&mut self, key: &[u8]) -> Result<Option<&T>, Error> {
        match self.find(key)? {
            None => Ok(None),
            Some(value) => T::of(value).map(Some).ok_or(error::WRONG_TYPE),
        }
    }

    /// The value at a key that [`Self::get`] has found in this command. Unlike there, several can be had at once.
    pub fn found<T: Type>(&self, key: &[u8]) -> Option<&T> {
        let hash = dict::hash(key);
        let keys = &self.held.peek(shard_of(hash)).database(self.stored_db).keys;
        let entry = keys.at(keys.find(hash as u32, key)?);
        if entry.is_expired(self.now) { None } else { T::of(&entry.value) }
    }

    /// The entry at a key, without counting as a use of it and without bringing its value back from disk.
    pub fn peek(&mut self, key: &[u8]) -> Option<&Entry> {
        let hash = dict::hash(key);
        let at = self.live(hash, key)?;
        Some(self.database(hash).keys.at(at))
    }

    /// When a key expires, in milliseconds since the epoch: `Some(None)` for one that lasts, None where there is no such key.
    pub fn expiry(&mut self, key: &[u8]) -> Option<Option<u64>> {
        let hash = dict::hash(key);
        let at = self.live(hash, key)?;
        let database = self.database(hash);
        Some(database.expire_at(database.keys.at(at)))
    }

    /// The value at a key, without counting as a use of it.
    pub fn inspect(&mut self, key: &[u8]) -> Result<Option<&Value>, Error> {
        let hash = dict::hash(key);
        let Some(at) = self.live(hash, key) else { return Ok(None) };
        let access = self.database(hash).keys.at(at).access();
        let (shard, db, at) = self.use_at(hash, at, false)?;
        let entry = shard.databases[db].keys.at_mut(at);
        entry.set_access(access);
        Ok(Some(&entry.value))
    }

    /// Fails if a key holds another kind of value than this, without counting as a use of it.
    pub fn peek_type<T: Type>(&mut self, key: &[u8]) -> Result<(), Error> {
        if self.peek(key).is_none_or(|entry| entry.value.kind() == T::KIND) { Ok(()) } else { Err(error::WRONG_TYPE) }
    }

    /// The entry at a key, counted as a read of it in the statistics but not as a use of the key: for `TTL`, `TYPE` and their like.
    pub fn look(&mut self, key: &[u8]) -> Option<&Entry> {
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
    pub fn exists(&mut self, key: &[u8]) -> bool {
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

    /// Waits until one of these keys may hold what is wanted, when the command is run again for that key, or for `timeout_ms` (None or 0
    /// for ever), when it is run a last time ([`Self::is_over`]) and answers that nothing came. On true, return without an answer. False
    /// means: answer now that nothing is there. Every key must be one that the command's row names. `at_key` makes the command for one key;
    /// it is asked only where there are several.
    pub fn wait_for(&mut self, want: Want, keys: &[&[u8]], timeout_ms: Option<u64>, at_key: impl FnOnce() -> AtKey) -> bool {
        self.wait(KeyWait { want, keys: Vec::new(), timeout_ms, args: None, at_key: None, above: Vec::new() }, keys, at_key)
    }

    /// The same for entries of streams above these ids, one for each key. Other arguments are run again, with ids in place of `$`.
    pub fn wait_for_entries(
        &mut self,
        keys: &[&[u8]],
        timeout_ms: Option<u64>,
        above: &[Id],
        args: OwnedArgs,
        at_key: impl FnOnce() -> AtKey,
    ) -> bool {
        let (want, above) = (Want::Entries, above.to_vec());
        self.wait(KeyWait { want, keys: Vec::new(), timeout_ms, args: Some(args), at_key: None, above }, keys, at_key)
    }

    /// Whether this command has waited and is run again, because one of its keys was touched or its time is over.
    pub fn is_retry(&self) -> bool {
        matches!(self.waiting, Waiting::Again | Waiting::Over)
    }

    /// Whether this command has waited and its time is over: it answers that nothing came, without looking.
    pub fn is_over(&self) -> bool {
        self.waiting == Waiting::Over
    }

    fn wait(&mut self, mut wait: KeyWait, keys: &[&[u8]], at_key: impl FnOnce() -> AtKey) -> bool {
        match self.waiting {
            Waiting::Never | Waiting::Over => return false,
            // It is in its queues, and stays there.
            Waiting::Again => {}
            Waiting::Allowed => {
                wait.timeout_ms = wait.timeout_ms.filter(|ms| *ms > 0);
                wait.keys = keys.iter().map(|key| Blob::from(*key)).collect();
                wait.at_key = (keys.len() > 1).then(at_key);
            }
        }
        self.block = Some(wait);
        true
    }

    /// Queues a waiter for the keys it names, which this view holds.
    pub(crate) fn queue(&mut self, waiter: &Arc<Waiter>) {
        let db = self.stored_db;
        for (number, key) in waiter.keys.iter().enumerate() {
            self.held.get(shard_of(dict::hash(key))).log.waiters.join(db, waiter, number);
        }
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

    /// Takes the keys someone waits for that were touched in the held shards, in the order they were.
    pub(crate) fn take_touched(&mut self) -> Vec<Place> {
        let mut places = Vec::new();
        let mut collect = |shard: &mut Shard| {
            if !shard.log.waiters.is_empty() {
                places.append(&mut shard.log.waiters.take_touched_in_order());
            }
        };
        match &mut self.held {
            Held::None => {}
            Held::One(_, guard) => collect(guard),
            Held::Some(guards) => guards.iter_mut().for_each(|(_, guard)| collect(guard)),
            Held::All(guards) => guards.iter_mut().for_each(|guard| collect(guard)),
        }
        places.sort_unstable_by_key(|(order, _)| *order);
        places.into_iter().map(|(_, place)| place).collect()
    }

    /// Sets this flag when the key changes from now on (`WATCH`).
    pub fn watch(&mut self, key: &[u8], flag: &Arc<AtomicBool>) {
        let place = (self.stored_db, Blob::from(key));
        self.held.get(shard_of(dict::hash(key))).log.watched.entry(place).or_default().join(flag);
    }

    /// Undoes [`Self::watch`].
    pub fn unwatch(&mut self, place: &Place, flag: &Arc<AtomicBool>) {
        let watched = &mut self.held.get(shard_of(dict::hash(&place.1))).log.watched;
        if let Some(flags) = watched.get_mut(place) {
            flags.leave(flag);
            if flags.is_empty() {
                watched.remove(place);
                give_room_back(watched);
            }
        }
    }

    /// What this view has recorded. To be asked before its locks are released, so that whoever sees the changes knows that they may not be
    /// on disk yet.
    #[inline]
    pub(crate) fn wrote(&self) -> Wrote {
        let mut wrote = Wrote::default();
        let mut add = |guard: &Guard<'_>| {
            if guard.log.has_recorded {
                wrote.epoch = wrote.epoch.max(guard.log.epoch);
                wrote.bytes += guard.log.recorded_bytes;
            }
        };
        match &self.held {
            Held::None => {}
            Held::One(_, guard) => add(guard),
            Held::Some(guards) => guards.iter().for_each(|(_, guard)| add(guard)),
            Held::All(guards) => guards.iter().for_each(add),
        }
        self.engine.note_wrote(wrote.epoch);
        wrote
    }

    /// The database in use, as it is stored.
    pub fn stored_db(&self) -> u8 {
        self.stored_db
    }

    /// Adds to the events that subscribers of keyspace notifications get once the command has run.
    #[inline]
    pub fn notify(&mut self, class: Class, event: &'static str, key: &[u8]) {
        if self.engine.notifications().wants(class) || self.engine.notifications().is_observed(class, key) {
            self.events.push(Event { class, name: event, db: self.db, key: Blob::from(key), elements: Vec::new() });
        }
    }

    /// The same for elements that were pushed onto a list, which are told where someone observes it.
    #[inline]
    pub fn notify_pushed(&mut self, event: &'static str, key: &[u8], elements: Args<'_>) {
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
    pub fn shard(&mut self, number: usize) -> &mut Shard {
        debug_assert!(number < SHARDS);
        self.held.get(number)
    }

    /// The keys of the database in use within one shard.
    pub fn database_in(&mut self, number: usize) -> &Database {
        let db = self.stored_db;
        self.held.get(number).database(db)
    }

    fn database(&mut self, hash: u64) -> &mut Database {
        let db = usize::from(self.stored_db);
        &mut self.held.get(shard_of(hash)).databases[db]
    }

    /// The position of a key that is there and whose time is not over.
    #[inline]
    fn live(&mut self, hash: u64, key: &[u8]) -> Option<u32> {
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
    fn live_or_cleared(&mut self, hash: u64, key: &[u8]) -> Option<u32> {
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
    pub fn reads_beside(&mut self, key: &[u8]) -> (u64, u64) {
        let counts = &self.held.get(shard_of(dict::hash(key))).counts;
        (counts.hits, counts.misses)
    }

    /// Puts back what [`Self::reads_beside`] gave, under the same locks.
    pub fn put_reads_back(&mut self, key: &[u8], reads: (u64, u64)) {
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
        shard.log.touch(db, &entry.key);
        shard.log.record(|to| effect::push_remove(to, db, &entry.key));
        free::value(self.engine.freeing(), entry.value);
        self.notify(Class::Expired, "expired", &entry.key);
    }

    /// Where a key is, its value in memory.
    #[inline]
    fn locate(&mut self, hash: u64, key: &[u8], counts: bool) -> Result<Option<(&mut Shard, usize, u32)>, Error> {
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
    fn use_at(&mut self, hash: u64, at: u32, counts: bool) -> Result<(&mut Shard, usize, u32), Error> {
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

impl<'a> Write<'a> {
    /// The value at a key if it is of this type, to change. Its key stays even if nothing is left in it: see [`Self::remove_if_empty`].
    #[inline]
    pub fn edit<'v, T: Type>(&'v mut self, key: &'v [u8]) -> Result<Option<Edit<'v, T>>, Error> {
        let hash = dict::hash(key);
        match self.0.live(hash, key) {
            Some(at) => self.edit_at(hash, at, key).map(Some),
            None => Ok(None),
        }
    }

    /// The same, made empty where there is no such key. Then at least one row must be put, or [`Self::remove_if_empty`] called.
    #[inline]
    pub fn edit_or_new<'v, T: Type>(&'v mut self, key: &'v [u8]) -> Result<Edit<'v, T>, Error> {
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
    pub fn put_value(&mut self, key: &[u8], value: Value, expiry: Expiry) {
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
    pub fn put_string(&mut self, key: &[u8], bytes: &[u8], expiry: Expiry) {
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
    pub fn move_value(&mut self, key: &[u8], to_db: u8, to: &[u8]) -> Result<bool, Error> {
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
    pub fn copy_value(&mut self, key: &[u8], to_db: u8, to: &[u8]) -> Result<(), Error> {
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
    pub fn remove(&mut self, key: &[u8]) -> bool {
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
    pub fn remove_if_empty<T: Type>(&mut self, key: &[u8]) -> bool {
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
    pub fn set_expiry(&mut self, key: &[u8], expire_at: Option<u64>) -> bool {
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
    pub fn flush(&mut self) {
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
        free::databases(self.0.engine.freeing(), flushed);
    }

    /// Lets two databases trade places. All shards must be held.
    pub fn swap_databases(&mut self, one: u8, other: u8) {
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
