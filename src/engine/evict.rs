//! Which keys go first when memory is short: access times, access counts and the eight policies of `maxmemory-policy`.
//!
//! An entry's `access` has 24 bits: a time in seconds, or, under an LFU policy, 16 bits of minutes and a counter in the low eight
//! that grows ever more slowly and falls with time (Morris 1978, as Redis has it).

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::clock;
use crate::engine::blob::Blob;
use crate::engine::block::Place;
use crate::engine::effect;
use crate::engine::notify::{Class, Event};
use crate::engine::shard::{DATABASES, Entry, Shard};
use crate::engine::{Engine, SHARDS};
use crate::{id, memory};

/// Keys looked at in vain before it is given up: all of them may be of a kind the policy spares.
const EMPTY_SHARDS_MAX: usize = 4 * SHARDS;
/// An entry keeps so many bits.
const ACCESS_MASK: u32 = 0x00ff_ffff;
/// A new key's counter under LFU, so that it is not the first to go.
const FRESH_COUNT: u32 = 5;

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
    let bytes_max = engine.eviction().bytes_max.load(Relaxed);
    bytes_max != 0 && engine.counted_bytes() > bytes_max
}

/// Removes keys until memory is under `maxmemory`, or the policy allows no more. None if there was room.
#[inline]
pub fn make_room(engine: &Engine) -> Option<Evicted> {
    is_due(engine).then(|| evict(engine, engine.eviction().bytes_max.load(Relaxed)))
}

#[cold]
fn evict(engine: &Engine, bytes_max: u64) -> Evicted {
    let policy = engine.eviction().policy();
    let mut evicted = Evicted::default();
    while engine.counted_bytes() > bytes_max {
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
    for _ in 0..EMPTY_SHARDS_MAX {
        let number = id::random_below(SHARDS);
        let is_done = engine.with_shard(number, |shard| {
            let Some((stored, key)) = choose(engine, shard, policy, now) else { return false };
            remove(engine, shard, stored, &key, evicted);
            true
        });
        if is_done {
            return true;
        }
    }
    (0..SHARDS).any(|number| {
        engine.with_shard(number, |shard| {
            let Some((stored, key)) = choose(engine, shard, policy, now) else { return false };
            remove(engine, shard, stored, &key, evicted);
            true
        })
    })
}

fn remove(engine: &Engine, shard: &mut Shard, stored: usize, key: &Blob, evicted: &mut Evicted) {
    let database = &mut shard.databases[stored];
    let hash = crate::engine::dict::hash(key) as u32;
    let at = database.keys.find(hash, key).expect("it was chosen under this lock");
    database.remove(at);
    shard.counts.evicted += 1;
    shard.log.touch(stored as u8, key);
    effect::push_remove(shard.log.buffer(), stored as u8, key);
    if !shard.log.waiters.is_empty() {
        evicted.touched.append(&mut shard.log.waiters.take_touched());
    }
    evicted.events.push(Event {
        class: Class::Evicted,
        name: "evicted",
        db: engine.client_db(stored as u8),
        key: key.clone(),
        elements: Vec::new(),
    });
}

/// The key that goes first among some of a shard.
fn choose(engine: &Engine, shard: &Shard, policy: Policy, now: u64) -> Option<(usize, Blob)> {
    let samples = engine.eviction().samples.load(Relaxed) as usize;
    let mut best: Option<(u64, usize, &Entry)> = None;
    for stored in 0..DATABASES {
        for entry in sample(shard, stored, policy, samples) {
            let rank = rank(engine, entry, policy, now);
            if best.as_ref().is_none_or(|(highest, ..)| rank > *highest) {
                best = Some((rank, stored, entry));
            }
        }
    }
    best.map(|(_, stored, entry)| (stored, entry.key.clone()))
}

/// Some random keys of a database that the policy lets go.
fn sample(shard: &Shard, stored: usize, policy: Policy, samples: usize) -> Vec<&Entry> {
    let database = &shard.databases[stored];
    let keys = &database.keys;
    if keys.is_empty() {
        return Vec::new();
    }
    if !policy.spares_lasting() {
        return (0..samples).map(|_| keys.at(id::random_below(keys.len()) as u32)).collect();
    }
    let (Some(first), Some(last)) = (database.expiries.first(), database.expiries.last()) else { return Vec::new() };
    let from_time = |time: u64| database.expiries.range((time, 0)..).next().unwrap_or(first);
    let span = (last.0 - first.0 + 1) as usize;
    (0..samples)
        .filter_map(|number| {
            let (expire_at, hash) =
                if policy == VolatileTtl && number == 0 { first } else { from_time(first.0 + id::random_below(span) as u64) };
            keys.find_where(*hash, |entry| entry.expire_at_or_0() == *expire_at).map(|at| keys.at(at))
        })
        .collect()
}

/// How much sooner than others a key should go.
fn rank(engine: &Engine, entry: &Entry, policy: Policy, now: u64) -> u64 {
    match policy {
        AllkeysLru | VolatileLru => u64::from(seconds(now).wrapping_sub(entry.access()) & ACCESS_MASK),
        AllkeysLfu | VolatileLfu => 255 - u64::from(decayed(engine, now, entry.access())),
        VolatileTtl => u64::MAX - entry.expire_at_or_0(),
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
