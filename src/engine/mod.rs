//! The keyspace in memory: sharded, each shard behind its own lock, every change recorded as an effect.
//!
//! A command locks the shards of its keys in ascending order and runs to its end ([`keys`]).
//! Effects go into the shard's buffer for the current epoch. [`Engine::cut`] starts a new epoch and collects what was
//! written in the one before: since a command reads the epoch after it has all its locks, whatever a client has seen
//! happen before another thing is never in a later epoch than that thing. So each cut is a prefix of what happened.

pub(crate) mod aside;
pub(crate) mod blob;
pub(crate) mod block;
pub(crate) mod crowd;
pub(crate) mod dict;
pub mod durability;
pub mod effect;
pub(crate) mod error;
pub(crate) mod evict;
pub(crate) mod expire;
pub(crate) mod expiries;
pub(crate) mod free;
pub mod gate;
pub(crate) mod glob;
pub mod keys;
pub(crate) mod load;
pub(crate) mod log;
pub mod mailbox;
pub mod notify;
pub mod persist;
pub(crate) mod policy;
pub mod pubsub;
pub(crate) mod rows;
pub mod shard;
pub(crate) mod solo;
pub(crate) mod tracking;
pub(crate) mod turn;
pub mod types;
pub mod value;

use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, SeqCst},
};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, MutexGuard};

use crate::engine::block::{Place, Waiter};
use crate::engine::effect::Effects;
use crate::engine::free::Freeing;
use crate::engine::load::{Home, Loads, Missing};
use crate::engine::notify::{Names, Notifications};
use crate::engine::policy::Eviction;
use crate::engine::pubsub::PubSub;
use crate::engine::shard::{DATABASES, Database, Shard};
use crate::engine::solo::Solo;
use crate::engine::tracking::Tracking;
use crate::engine::value::Value;
use crate::lifecycle::Lifecycle;
use crate::panics::Whole;

/// Shards the keyspace is split into. Many more than cores, so that two commands seldom meet; few enough that a command
/// on all of them takes microseconds.
pub const SHARDS: usize = 64;

/// Room for effects that a shard keeps from one cut to the next: what 5 ms of small writes leave. It counts as on its way, so all shards'
/// must be well below [`Eviction::passing_bytes_max`].
const KEEP_PENDING_BYTES: usize = 8192;

/// A value that takes this much memory is journaled in a few bytes when it gets another key, a smaller one whole: that takes some
/// microseconds, and its key needs no other to be told of.
const PARCEL_BYTES_MIN: usize = 16 << 10;

pub(crate) type Guard<'a> = MutexGuard<'a, Shard>;

/// The shard a key lives in: the top bits of its hash. The low bits choose the bucket within the shard.
#[inline]
pub(crate) fn shard_of(hash: u64) -> usize {
    (hash >> 58) as usize
}

/// Keeps neighbours out of each other's cache lines.
#[repr(align(128))]
struct Padded(Mutex<Shard>);

/// Which keys a command is about to touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope<'a> {
    /// None.
    Nothing,
    /// These.
    Keys(&'a [&'a [u8]]),
    /// Any.
    Everything,
}

/// What one cut collected: the effects of one shard after another, each shard's in the order they happened.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The epoch whose effects these are; nothing earlier is missing.
    pub epoch: u64,
    /// Per shard that has effects: its number and they.
    pub shards: Vec<(u8, Effects)>,
}

/// Serves clients that wait for keys which were touched. Called without locks.
pub(crate) type Serve = Box<dyn Fn(&Engine, Vec<Place>) + Send + Sync>;

/// The keyspace; see the room's head.
pub struct Engine {
    shards: Box<[Padded]>,
    epoch: AtomicU64,
    solo: Solo,
    generation: AtomicU8,
    clean_generation: AtomicU8,
    /// Four bits for each database: the number it is stored under. `SWAPDB` changes only this.
    stored: AtomicU64,
    notifications: Notifications,
    resident: OnceLock<Names>,
    loads: Arc<Loads>,
    serving: OnceLock<Serve>,
    wrote: AtomicU64,
    durable: AtomicU64,
    shows_only_durable: AtomicBool,
    may_expire: AtomicBool,
    /// Set while others fill it from a folder, and clients look on: nothing goes by itself then, since it may be changed yet by what is to come.
    is_filled: AtomicBool,
    sweeps: AtomicBool,
    eviction: Eviction,
    freeing: Arc<Freeing>,
    lifecycle: Lifecycle,
    pubsub: PubSub,
    tracking: Arc<Tracking>,
    waiting: AtomicUsize,
    parcels: AtomicU64,
    parcel_bytes_min: AtomicUsize,
}

impl Engine {
    /// An empty keyspace. `is_journaled`: whether effects are kept until [`Self::cut`] collects them.
    pub fn new(is_journaled: bool) -> Engine {
        let lifecycle = Lifecycle::default();
        let tracking = Arc::<Tracking>::default();
        Engine {
            shards: (0..SHARDS).map(|_| Padded(Mutex::new(Shard::new(is_journaled, &tracking)))).collect(),
            epoch: AtomicU64::new(1),
            solo: Solo::default(),
            generation: AtomicU8::new(1),
            clean_generation: AtomicU8::new(1),
            stored: AtomicU64::new((0..DATABASES as u64).map(|db| db << (4 * db)).sum()),
            notifications: Notifications::default(),
            resident: OnceLock::new(),
            loads: Arc::default(),
            serving: OnceLock::new(),
            wrote: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            shows_only_durable: AtomicBool::new(false),
            may_expire: AtomicBool::new(true),
            is_filled: AtomicBool::new(false),
            sweeps: AtomicBool::new(true),
            eviction: Eviction::default(),
            freeing: Arc::new(Freeing::new(&lifecycle)),
            lifecycle,
            pubsub: PubSub::default(),
            tracking,
            waiting: AtomicUsize::new(0),
            parcels: AtomicU64::new(0),
            parcel_bytes_min: AtomicUsize::new(PARCEL_BYTES_MIN),
        }
    }

    /// Has the values of keys with such names stay in memory: others' commands use them while they hold locks.
    pub(crate) fn keep_resident(&self, names: Names) {
        assert!(self.resident.set(names).is_ok(), "which keys stay is said once, before any are there");
    }

    /// Whether the value of this key stays in memory.
    pub(crate) fn is_resident(&self, key: &[u8]) -> bool {
        self.resident.get().is_some_and(|names| names.has(key))
    }

    #[inline]
    fn mutex(&self, shard: usize) -> &Mutex<Shard> {
        &self.shards[shard].0
    }

    /// Ends the epoch and collects its effects. Called by one thread only, the committer.
    pub fn cut(&self) -> Cut {
        let epoch = self.epoch.fetch_add(1, SeqCst);
        let parity = (epoch & 1) as usize;
        let mut shards = Vec::new();
        for (number, shard) in self.shards.iter().enumerate() {
            let mut shard = shard.0.lock();
            debug_assert!(shard.log.epoch <= epoch + 1, "a second cut has begun: effects of two epochs would be in one buffer");
            let pending = &mut shard.log.pending[parity];
            if !pending.is_empty() {
                let room = Effects::with_room(pending.len().min(KEEP_PENDING_BYTES));
                shards.push((number as u8, std::mem::replace(pending, room)));
            } else if pending.room() > 0 {
                *pending = Effects::default();
            }
        }
        Cut { epoch, shards }
    }

    /// Begins a generation: what changes from here on may be missing in the checkpoint that begins now. After a checkpoint
    /// that failed the generation goes on; so it does while a long run changes keys of which the journal hears at its end.
    pub(crate) fn begin_generation(&self) {
        let _held = self.view_beside(0, 0, Scope::Everything);
        if self.solo.is_shut() {
            return;
        }
        let clean = self.clean_generation.load(SeqCst);
        let _ = self.generation.compare_exchange(clean, clean.wrapping_add(1), SeqCst, SeqCst);
    }

    /// The checkpoint holds all that changed before its generation began.
    pub(crate) fn end_generation(&self) {
        self.clean_generation.store(self.generation.load(SeqCst), SeqCst);
    }

    /// Whether the last checkpoint holds an entry that changed last in a generation. Generations wrap around, and then an
    /// entry may seem changed for as long as one lasts; never the other way round.
    pub(crate) fn is_clean(&self, changed: u8) -> bool {
        let clean = self.clean_generation.load(SeqCst);
        let current = self.generation.load(SeqCst);
        current.wrapping_sub(changed) > current.wrapping_sub(clean)
    }

    /// The current epoch: what is written from here on is in this one or a later one.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(SeqCst)
    }

    /// Runs with the shard of a key, locked.
    pub(crate) fn with_shard_of<R>(&self, key: &[u8], run: impl FnOnce(&mut Shard) -> R) -> R {
        let mut shard = self.shards[shard_of(dict::hash(key))].0.lock();
        let _whole = Whole::begin();
        run(&mut shard)
    }

    /// Runs with one shard, locked.
    pub(crate) fn with_shard<R>(&self, number: usize, run: impl FnOnce(&mut Shard) -> R) -> R {
        let mut shard = self.shards[number].0.lock();
        enter(&mut shard, self.epoch.load(Acquire), self.generation.load(Acquire));
        let _whole = Whole::begin();
        let result = run(&mut shard);
        self.left(&shard);
        result
    }

    /// The database clients know by another number than it is stored under.
    pub(crate) fn client_db(&self, stored: u8) -> u8 {
        (0..DATABASES as u8).find(|db| self.stored(*db) == stored).unwrap_or(stored)
    }

    /// Large values on their way out of memory.
    pub(crate) fn freeing(&self) -> &Arc<Freeing> {
        &self.freeing
    }

    /// Who lives around this keyspace: its threads, and those of what is built on it.
    pub(crate) fn lifecycle(&self) -> &Lifecycle {
        &self.lifecycle
    }

    /// How eviction is set up.
    #[inline]
    pub(crate) fn eviction(&self) -> &Eviction {
        &self.eviction
    }

    /// Whether the sweep removes keys whose time is over (`DEBUG SET-ACTIVE-EXPIRE`).
    pub(crate) fn sweeps(&self) -> bool {
        self.sweeps.load(Relaxed)
    }

    /// Turns the sweep on or off.
    pub(crate) fn set_sweeps(&self, on: bool) {
        self.sweeps.store(on, Relaxed);
    }

    /// Runs with each shard in turn, locked; for statistics and sweeps that need no common moment.
    pub fn each_shard(&self, mut run: impl FnMut(usize, &mut Shard)) {
        for (number, shard) in self.shards.iter().enumerate() {
            let mut shard = shard.0.lock();
            enter(&mut shard, self.epoch.load(Acquire), self.generation.load(Acquire));
            let _whole = Whole::begin();
            run(number, &mut shard);
            self.left(&shard);
        }
    }

    /// The number a client's database is stored under.
    #[inline]
    pub(crate) fn stored(&self, db: u8) -> u8 {
        (self.stored.load(Relaxed) >> (4 * db) & 0xf) as u8
    }

    /// Lets two of clients' databases trade their stored numbers; all shards must be held. Answers the new map.
    pub(crate) fn swap_stored(&self, one: u8, other: u8) -> u64 {
        let (a, b) = (u64::from(self.stored(one)), u64::from(self.stored(other)));
        let difference = a ^ b;
        self.stored.fetch_xor(difference << (4 * one) | difference << (4 * other), SeqCst)
            ^ (difference << (4 * one) | difference << (4 * other))
    }

    /// Whether a long run has the keyspace to itself.
    #[inline]
    pub(crate) fn solo(&self) -> &Solo {
        &self.solo
    }

    /// Which keyspace notifications are on.
    pub(crate) fn notifications(&self) -> &Notifications {
        &self.notifications
    }

    /// Channels.
    pub fn pubsub(&self) -> &PubSub {
        &self.pubsub
    }

    /// Who is told of changes to keys it read.
    pub(crate) fn tracking(&self) -> &Tracking {
        &self.tracking
    }

    /// How many commands wait for keys.
    pub(crate) fn waiting(&self) -> &AtomicUsize {
        &self.waiting
    }

    /// Whether keys whose time is over may be removed now; off while loading, while writes are paused, and for a script that takes long.
    pub(crate) fn may_expire(&self) -> bool {
        self.may_expire.load(Relaxed) && !self.is_filled() && !self.solo.is_shut()
    }

    /// Whether a folder is being loaded into it while clients are there. No key is evicted then, and none expires.
    #[inline]
    pub(crate) fn is_filled(&self) -> bool {
        self.is_filled.load(Relaxed)
    }

    /// See [`Self::is_filled`].
    pub(crate) fn set_filled(&self, is_filled: bool) {
        self.is_filled.store(is_filled, Relaxed);
    }

    /// Whether keys whose time is over may be removed from here on. They are not there for anyone in any case.
    pub(crate) fn set_may_expire(&self, may: bool) {
        self.may_expire.store(may, Relaxed);
    }

    /// The number of the parcel in which a value goes from one key to another; None for one that is small enough to be journaled whole.
    pub(crate) fn parcel_for(&self, value: &Value) -> Option<u64> {
        let is_large = value.rows().is_some_and(|rows| rows.memory_bytes() >= self.parcel_bytes_min.load(Relaxed));
        is_large.then(|| self.parcels.fetch_add(1, Relaxed))
    }

    /// Sets what a value must take in memory to go from one key to another in a parcel.
    pub fn set_parcel_bytes_min(&self, bytes: usize) {
        self.parcel_bytes_min.store(bytes, Relaxed);
    }

    /// Values on their way back from disk.
    pub(crate) fn loads(&self) -> &Arc<Loads> {
        &self.loads
    }

    /// Says who serves clients that wait for keys, where those are touched by no command.
    pub(crate) fn set_serving(&self, serve: Serve) {
        // Instances of one engine all say the same.
        let _ = self.serving.set(serve);
    }

    /// Serves clients that wait for these keys. No lock may be held.
    pub(crate) fn serve(&self, places: Vec<Place>) {
        if let Some(serve) = self.serving.get().filter(|_| !places.is_empty()) {
            serve(self, places);
        }
    }

    /// Takes a waiter that is over out of the queues of its keys.
    pub(crate) fn leave(&self, waiter: &Waiter) {
        for key in &waiter.keys {
            self.with_shard_of(key, |shard| shard.log.waiters.leave(&(self.stored(waiter.db), key.clone()), waiter));
        }
    }

    /// What whoever entered a shard for more than a look does before its lock is released.
    fn left(&self, shard: &Shard) {
        if shard.log.has_recorded {
            self.note_wrote(shard.log.epoch);
        }
    }

    /// Notes a change that was made in an epoch, 0 for none; its shards must still be locked.
    #[inline]
    fn note_wrote(&self, epoch: u64) {
        if self.wrote.load(Relaxed) < epoch {
            self.wrote.fetch_max(epoch, SeqCst);
        }
    }

    /// Notes that all changes up to this epoch are on disk.
    pub fn note_durable(&self, epoch: u64) {
        let before = self.durable.swap(epoch, SeqCst);
        debug_assert!(before <= epoch, "what was on disk at {before} is so at {epoch}: clients were shown it");
    }

    /// Whether clients may be shown only what is on disk (`appendfsync always`): also what others have changed.
    pub fn set_shows_only_durable(&self, on: bool) {
        self.shows_only_durable.store(on, SeqCst);
    }

    /// The epoch that must be on disk before anything that was seen of the keyspace up to now is shown to a client. 0 for none.
    #[inline]
    pub fn unshown_epoch(&self) -> u64 {
        if !self.shows_only_durable.load(Relaxed) {
            return 0;
        }
        let wrote = self.wrote.load(SeqCst);
        if self.durable.load(SeqCst) >= wrote { 0 } else { wrote }
    }
}

impl Home for Engine {
    fn with_database(&self, missing: &Missing, run: &mut dyn FnMut(&mut Database)) {
        self.with_shard_of(&missing.key, |shard| run(&mut shard.databases[usize::from(missing.db)]));
    }

    fn serve(&self, places: Vec<Place>) {
        Engine::serve(self, places);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.freeing.stop();
    }
}

/// What every taker of a shard's lock does first.
#[inline]
fn enter(shard: &mut Shard, epoch: u64, generation: u8) {
    debug_assert!(
        shard.log.epoch <= epoch,
        "the epoch was read before the lock was taken: effects would be replayed out of order"
    );
    shard.log.epoch = epoch;
    (shard.log.has_recorded, shard.log.recorded_bytes) = (false, 0);
    shard.log.recorded_from = shard.log.pending[(epoch & 1) as usize].len();
    shard.log.generation = generation;
}
