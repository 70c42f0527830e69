//! Makes keys go when memory is short: access times, access counts, and the choice by `maxmemory-policy`.
//!
//! An entry's `access` has 24 bits: a time in seconds, or, under an LFU policy, 16 bits of minutes and a counter in the low eight
//! that grows ever more slowly and falls with time (Morris 1978, as Redis has it).

use std::sync::atomic::Ordering::Relaxed;

use crate::clock;
use crate::engine::block::Place;
use crate::engine::effect;
use crate::engine::free;
use crate::engine::notify::{Class, Event};
use crate::engine::policy::Candidate;
use crate::engine::shard::{DATABASES, Database, Entry, Shard};
use crate::engine::tracking::Invalid;
use crate::engine::{Engine, SHARDS};
use crate::{id, memory};

pub(crate) use crate::engine::policy::Policy;
use crate::engine::policy::Policy::*;

/// Keys looked at in vain before it is given up: all of them may be of a kind the policy spares.
const EMPTY_SHARDS_MAX: usize = 4 * SHARDS;
/// An entry keeps so many bits.
const ACCESS_MASK: u32 = 0x00ff_ffff;
/// A new key's counter under LFU, so that it is not the first to go.
const FRESH_COUNT: u32 = 5;
/// What making room did.
#[derive(Default)]
pub(crate) struct Evicted {
    /// Events of the keys that went.
    pub events: Vec<Event>,
    /// Keys that someone waits for.
    pub touched: Vec<Place>,
    /// Keys of which clients hold copies.
    pub invalid: Vec<Invalid>,
    /// Whether memory is still short, and the policy allows no more.
    pub is_short: bool,
}

/// Whether memory is above `maxmemory`.
#[inline]
pub(crate) fn is_due(engine: &Engine) -> bool {
    let bytes_max = engine.eviction().bytes_max();
    bytes_max != 0 && engine.counted_bytes() > bytes_max
}

/// Removes keys until memory is under `maxmemory`, or the policy allows no more. None if there was room.
#[inline]
pub(crate) fn make_room(engine: &Engine) -> Option<Evicted> {
    is_due(engine).then(|| evict(engine, engine.eviction().bytes_max()))
}

#[cold]
fn evict(engine: &Engine, bytes_max: u64) -> Evicted {
    let policy = engine.eviction().policy();
    let mut evicted = Evicted::default();
    if engine.is_filled() {
        return evicted;
    }
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
            if engine.solo().is_shut() {
                return false;
            }
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
    shard.log.touch_unasked(stored as u8, &key);
    shard.log.record(|to| effect::push_remove(to, stored as u8, &key));
    free::value(engine.freeing(), value);
    if !shard.log.waiters.is_empty() {
        evicted.touched.append(&mut shard.log.waiters.take_touched());
    }
    shard.log.tracked.take_invalid(&mut evicted.invalid);
    let db = engine.client_db(stored as u8);
    evicted.events.push(Event { class: Class::Evicted, name: "evicted", db, key, elements: Vec::new() });
}

/// The key of a shard that goes first: of those it has met, and a few more.
fn choose(engine: &Engine, shard: &mut Shard, policy: Policy, now: u64) -> Option<(usize, u32)> {
    let Shard { databases, candidates, .. } = shard;
    if matches!(policy, AllkeysRandom | VolatileRandom) {
        return sample(&databases[..DATABASES], policy);
    }
    if candidates.policy.replace(policy) != Some(policy) {
        candidates.keys.clear();
    }
    for _ in 0..engine.eviction().samples.load(Relaxed) {
        let (stored, at) = sample(&databases[..DATABASES], policy)?;
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
fn sample(databases: &[Database], policy: Policy) -> Option<(usize, u32)> {
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
pub(crate) fn idle_seconds(engine: &Engine, now: u64, access: u32) -> Option<u32> {
    (!engine.eviction().policy().is_lfu()).then(|| seconds(now).wrapping_sub(access) & ACCESS_MASK)
}

/// How often a key was used of late, from its entry's access, on a logarithmic scale; None unless the policy keeps frequencies.
pub(crate) fn frequency(engine: &Engine, now: u64, access: u32) -> Option<u8> {
    engine.eviction().policy().is_lfu().then(|| decayed(engine, now, access) as u8)
}

impl Engine {
    /// Bytes that count against `maxmemory`.
    pub(crate) fn counted_bytes(&self) -> u64 {
        memory::used_bytes().saturating_sub(memory::aside_bytes())
    }
}
