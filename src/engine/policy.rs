//! Which keys go first when memory is short, as it is set up: the eight policies of `maxmemory-policy`; and the best keys a shard has met.
//! How they go is in `engine::evict`.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

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
pub(crate) enum Policy {
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
    pub(crate) fn named(name: &str) -> Option<Policy> {
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

    pub(crate) fn is_lfu(self) -> bool {
        matches!(self, VolatileLfu | AllkeysLfu)
    }

    pub(crate) fn spares_lasting(self) -> bool {
        matches!(self, VolatileLru | VolatileLfu | VolatileRandom | VolatileTtl)
    }
}

/// How eviction is set up; may change at any time.
pub(crate) struct Eviction {
    bytes_max: AtomicU64,
    policy: AtomicU8,
    pub(crate) samples: AtomicU32,
    pub(crate) lfu_log_factor: AtomicU32,
    pub(crate) lfu_decay_minutes: AtomicU32,
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
    pub(crate) fn set(&self, bytes_max: u64, policy: Policy, samples: u32) {
        self.bytes_max.store(bytes_max, Relaxed);
        self.policy.store(policy as u8, Relaxed);
        self.samples.store(samples.max(1), Relaxed);
    }

    /// Sets how fast LFU counters grow and fall.
    pub(crate) fn set_lfu(&self, log_factor: u32, decay_minutes: u32) {
        self.lfu_log_factor.store(log_factor, Relaxed);
        self.lfu_decay_minutes.store(decay_minutes, Relaxed);
    }

    /// `maxmemory`; 0 for no bound.
    pub(crate) fn bytes_max(&self) -> u64 {
        self.bytes_max.load(Relaxed)
    }

    /// So much may be on its way to the journal, beside the keys, before writers wait for it.
    #[inline]
    pub(crate) fn passing_bytes_max(&self) -> u64 {
        match self.bytes_max() {
            0 => PASSING_BYTES_MAX,
            bytes => (bytes / PASSING_SHARE).clamp(PASSING_BYTES_MIN, PASSING_BYTES_MAX),
        }
    }

    /// The policy.
    #[inline]
    pub(crate) fn policy(&self) -> Policy {
        Policy::ALL[usize::from(self.policy.load(Relaxed)) & 7]
    }
}

/// A key that was met and may go.
pub(crate) struct Candidate {
    /// How much it should stay when it was met: see [`worth`].
    pub(crate) worth: u64,
    pub(crate) stored: u8,
    pub(crate) hash: u32,
}

/// The best keys to evict that a shard has met so far, those that should go first at the end.
#[derive(Default)]
pub(crate) struct Candidates {
    /// What they were chosen for; another policy begins anew.
    pub(crate) policy: Option<Policy>,
    pub(crate) keys: Vec<Candidate>,
}

impl Candidates {
    /// Takes one in, if it is among the best.
    pub(crate) fn offer(&mut self, new: Candidate) {
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
