//! Which keys go first when memory is short: access times, access counts and the eight policies of `maxmemory-policy`.
//!
//! An entry's `access` has 24 bits: a time in seconds, or, under an LFU policy, 16 bits of minutes and a counter in the low eight
//! that grows ever more slowly and falls with time (Morris 1978, as Redis has it).

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::clock;
use crate::engine::block::Place;
use crate::engine::effect;
use crate::engine::free;
use crate::engine::notify::{Class, Event};
use crate::engine::shard::{DATABASES, Database, Entry, Shard};
use crate::engine::{Engine, SHARDS};
use crate::{id, memory};

/// Keys looked at in vain before it is given up: all of them may be of a kind the policy spares.
const EMPTY_SHARDS_MAX: usize = 4 * SHARDS;
/// An entry keeps so many bits.
const ACCESS_MASK: u32 = 0x00ff_ffff;
/// A new key's counter under LFU, so that it is not the first to go.
const FRESH_COUNT: u32 = 5;
/// Candidates a shard remembers, as many as Redis does in all: what few samples at a time find becomes nearly as good as what looking
/// at every key would.
const CANDIDATES_MAX: usize = 16;
/// This part of `maxmemory` may be on its way to the journal before writers wait for it.
const PASSING_SHARE: u64 = 16;
/// However low `maxmemory` is: a few requests of all clients, and the room that shards keep.
const PASSING_BYTES_MIN: u64 = 2 << 20;
/// However high it is, and without it: the disk is behind the writers.
const PASSING_BYTES_MAX: u64 = 64 << 20;

/// Whose keys go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of `maxmemory-policy`")]
pub enum Policy {
    VolatileLru,
    VolatileLfu,
    VolatileRandom,
    VolatileTtl,
    AllkeysLru,
    AllkeysLfu,
    AllkeysRandom,
    Noeviction,
}

use Policy::*;

impl Policy {
    const ALL: [Policy; 8] =
        [VolatileLru, VolatileLfu, VolatileRandom, VolatileTtl, AllkeysLru, AllkeysLfu, AllkeysRandom, Noeviction];

    /// The policy of this name.
    pub fn named(name: &str) -> Option<Policy> {
        let names = [
            "volatile-lru",
            "volatile-lfu",
            "volatile-random",
            "volatile-ttl",
            "allkeys-lru",
            "allkeys-lfu",
            "allkeys-random",
            "noeviction",
        ];
        names.iter().position(|other| *other == name).map(|at| Policy::ALL[at])
    }

    fn is_lfu(self) -> bool {
        matches!(self, VolatileLfu | AllkeysLfu)
    }

    fn spares_lasting(self) -> bool {
        matches!(self, VolatileLru | VolatileLfu | VolatileRandom | VolatileTtl)
    }
}

/// How eviction is set up; may change at any time.
pub struct Eviction {
    bytes_max: AtomicU64,
    policy: AtomicU8,
    samples: AtomicU32,
    lfu_log_factor: AtomicU32,
    lfu_decay_minutes: AtomicU32,
}

impl Default for Eviction {
    fn default() -> Eviction {
        Eviction {
            bytes_max: AtomicU64::new(0),
            policy: AtomicU8::new(Noeviction as u8),
            samples: AtomicU32::new(5),
            lfu_log_factor: AtomicU32::new(10),
            lfu_decay_minutes: AtomicU32::new(1),
        }
    }
}

impl Eviction {
    /// Sets `maxmemory` (0 for no bound), the policy, and how many keys are compared for each that goes.
    pub fn set(&self, bytes_max: u64, policy: Policy, samples: u32) {
        self.bytes_max.store(bytes_max, Relaxed);
        self.policy.store(policy as u8, Relaxed);
        self.samples.store(samples.max(1), Relaxed);
    }

    /// Sets how fast LFU counters grow and fall.
    pub fn set_lfu(&self, log_factor: u32, decay_minutes: u32) {
        self.lfu_log_factor.store(log_factor, Relaxed);
        self.lfu_decay_minutes.store(decay_minutes, Relaxed);
    }

    /// `maxmemory`; 0 for no bound.
    pub fn bytes_max(&self) -> u64 {
        self.bytes_max.load(Relaxed)
    }

    /// So much may be on its way to the journal, beside the keys, before writers wait for it.
    #[inline]
    pub fn passing_bytes_max(&self) -> u64 {
        match self.bytes_max() {
            0 => PASSING_BYTES_MAX,
            bytes => (bytes / PASSING_SHARE).clamp(PASSING_BYTES_MIN, PASSING_BYTES_MAX),
        }
    }

    /// The policy.
    #[inline]
    pub fn policy(&self) -> Policy {
        Policy::ALL[usize::from(self.policy.load(Relaxed)) & 7]
    }
}

/// What making room did.
#[derive(Default)]
pub struct Evicted {
    /// Events of the keys that went.
    pub events: Vec<Event>,
    /// Keys that someone waits for.
    pub touched: Vec<Place>,
    /// Whether memory is still short, and the policy allows no more.
    pub is_short: bool,
}

/// Whether memory is above `maxmemory`.
#[inline]
pub fn is_due(engine: &Engine) -> bool {
    let bytes_max = engine.eviction().bytes_max();
    bytes_max != 0 && engine.counted_bytes() > bytes_max
}

/// Removes keys until memory is under `maxmemory`, or the policy allows no more. None if there was room.
#[inline]
pub fn make_room(engine: &Engine) -> Option<Evicted> {
    is_due(engine).then(|| evict(engine, engine.eviction().bytes_max()))
}

#[cold]
fn evict(engine: &Engine, bytes_max: u64) -> Evicted {
    let policy = engine.eviction().policy();
    let mut evicted = Evicted::default();
    while engine.counted_bytes() > bytes_max {
        // What is removed already and waits to be freed costs nobody a key.
        if engine.freeing().free_one() {
            continue;
        }
        if policy == Noeviction || !evict_one(engine, policy, &mut evicted) {
            evicted.is_short = true;
            break;
        }
    }
    evicted
}

/// Removes the best of some keys of a random shard; false if there are none anywhere.
fn evict_one(engine: &Engine, policy: Policy, evicted: &mut Evicted) -> bool {
    let now = clock::now_ms();
    let mut from = |number| {
        engine.with_shard(number, |shard| {
            let Some((stored, at)) = choose(engine, shard, policy, now) else { return false };
            remove(engine, shard, stored, at, evicted);
            true
        })
    };
    (0..EMPTY_SHARDS_MAX).any(|_| from(id::random_below(SHARDS))) || (0..SHARDS).any(from)
}

fn remove(engine: &Engine, shard: &mut Shard, stored: usize, at: u32, evicted: &mut Evicted) {
    let Entry { key, value, .. } = shard.databases[stored].remove(at);
    shard.counts.evicted += 1;
    shard.log.touch(stored as u8, &key);
    shard.log.record(|to| effect::push_remove(to, stored as u8, &key));
    free::value(engine.freeing(), value);
    if !shard.log.waiters.is_empty() {
        evicted.touched.append(&mut shard.log.waiters.take_touched());
    }
    let db = engine.client_db(stored as u8);
    evicted.events.push(Event { class: Class::Evicted, name: "evicted", db, key, elements: Vec::new() });
}

/// A key that was met and may go.
struct Candidate {
    /// How much it should stay when it was met: see [`worth`].
    worth: u64,
    stored: u8,
    hash: u32,
}

/// The best keys to evict that a shard has met so far, those that should go first at the end.
#[derive(Default)]
pub struct Candidates {
    /// What they were chosen for; another policy begins anew.
    policy: Option<Policy>,
    keys: Vec<Candidate>,
}

impl Candidates {
    fn offer(&mut self, new: Candidate) {
        let is_known = self.keys.iter().any(|known| (known.stored, known.hash) == (new.stored, new.hash));
        let is_worst = self.keys.len() == CANDIDATES_MAX && self.keys[0].worth <= new.worth;
        if is_known || is_worst {
            return;
        }
        if self.keys.len() == CANDIDATES_MAX {
            self.keys.remove(0);
        }
        let at = self.keys.partition_point(|known| known.worth > new.worth);
        self.keys.insert(at, new);
    }
}

/// The key of a shard that goes first: of those it has met, and a few more.
fn choose(engine: &Engine, shard: &mut Shard, policy: Policy, now: u64) -> Option<(usize, u32)> {
    let Shard { databases, candidates, .. } = shard;
    if matches!(policy, AllkeysRandom | VolatileRandom) {
        return sample(databases, policy);
    }
    if candidates.policy.replace(policy) != Some(policy) {
        candidates.keys.clear();
    }
    for _ in 0..engine.eviction().samples.load(Relaxed) {
        let (stored, at) = sample(databases, policy)?;
        let keys = &databases[stored].keys;
        let worth = worth(engine, keys.at(at), policy, now);
        candidates.offer(Candidate { worth, stored: stored as u8, hash: keys.hash_at(at) });
    }
    // Of the keys just met one at least is there and was not used since.
    while let Some(best) = candidates.keys.pop() {
        let stored = usize::from(best.stored);
        let is_same = |entry: &Entry| may_go(entry, policy) && worth(engine, entry, policy, now) <= best.worth;
        if let Some(at) = databases[stored].keys.find_where(best.hash, is_same) {
            return Some((stored, at));
        }
    }
    None
}

/// A key among those that the policy lets go, each as likely as any other.
fn sample(databases: &[Database; DATABASES], policy: Policy) -> Option<(usize, u32)> {
    let size = |database: &Database| if policy.spares_lasting() { database.expiries.len() } else { database.keys.len() };
    let total: usize = databases.iter().map(size).sum();
    if total == 0 {
        return None;
    }
    let mut number = id::random_below(total);
    for (stored, database) in databases.iter().enumerate() {
        let size = size(database);
        if number >= size {
            number -= size;
        } else if policy.spares_lasting() {
            let (expire_at, hash) = database.expiries.random()?;
            let at = database.keys.find_where(hash, |entry| database.expire_at_or_0(entry) == expire_at);
            debug_assert!(at.is_some(), "what expires is there");
            return at.map(|at| (stored, at));
        } else {
            return Some((stored, number as u32));
        }
    }
    None
}

fn may_go(entry: &Entry, policy: Policy) -> bool {
    !policy.spares_lasting() || entry.expires()
}

/// How much a key should stay: less goes first. It changes only when the key is used, or falls with time.
fn worth(engine: &Engine, entry: &Entry, policy: Policy, now: u64) -> u64 {
    match policy {
        AllkeysLru | VolatileLru => {
            (now / 1000).saturating_sub(u64::from(seconds(now).wrapping_sub(entry.access()) & ACCESS_MASK))
        }
        AllkeysLfu | VolatileLfu => u64::from(decayed(engine, now, entry.access())),
        VolatileTtl => entry.expire_at_or_0(),
        AllkeysRandom | VolatileRandom | Noeviction => 0,
    }
}

fn seconds(now: u64) -> u32 {
    (now / 1000) as u32 & ACCESS_MASK
}

fn minutes(now: u64) -> u32 {
    (now / 60_000) as u32 & 0xffff
}

/// An LFU counter as it is now, after the time since its last use.
fn decayed(engine: &Engine, now: u64, access: u32) -> u32 {
    let decay = engine.eviction().lfu_decay_minutes.load(Relaxed);
    let passed = minutes(now).wrapping_sub(access >> 8) & 0xffff;
    (access & 0xff).saturating_sub(passed.checked_div(decay).unwrap_or(0))
}

/// Notes a use of a key at `now` (milliseconds since the epoch).
#[inline]
pub(crate) fn touch(engine: &Engine, now: u64, entry: &mut Entry) {
    if engine.eviction().policy().is_lfu() {
        entry.set_access(used(engine, now, entry.access()));
        return;
    }
    let clock = seconds(now);
    if entry.access() != clock {
        entry.set_access(clock);
    }
}

#[cold]
fn used(engine: &Engine, now: u64, access: u32) -> u32 {
    let count = decayed(engine, now, access);
    let factor = engine.eviction().lfu_log_factor.load(Relaxed);
    let odds = u64::from(count.saturating_sub(FRESH_COUNT)) * u64::from(factor) + 1;
    let grows = count < 255 && id::random().is_multiple_of(odds);
    minutes(now) << 8 | (count + u32::from(grows))
}

/// What a key that is made now starts with.
#[inline]
pub(crate) fn fresh(engine: &Engine, now: u64) -> u32 {
    if engine.eviction().policy().is_lfu() { minutes(now) << 8 | FRESH_COUNT } else { seconds(now) }
}

/// How many seconds a key was not used, from its entry's access; None while the policy keeps frequencies.
pub fn idle_seconds(engine: &Engine, now: u64, access: u32) -> Option<u32> {
    (!engine.eviction().policy().is_lfu()).then(|| seconds(now).wrapping_sub(access) & ACCESS_MASK)
}

/// How often a key was used of late, from its entry's access, on a logarithmic scale; None unless the policy keeps frequencies.
pub fn frequency(engine: &Engine, now: u64, access: u32) -> Option<u8> {
    engine.eviction().policy().is_lfu().then(|| decayed(engine, now, access) as u8)
}

impl Engine {
    /// Bytes that count against `maxmemory`.
    pub fn counted_bytes(&self) -> u64 {
        memory::used_bytes().saturating_sub(memory::aside_bytes())
    }
}
