//! A picture of the server at one moment: the numbers `INFO` and HTTP's `/metrics` show.

use std::sync::atomic::Ordering::Relaxed;

use crate::clock;
use crate::commands::instance::Instance;
use crate::commands::shards::Shards;
use crate::commands::stats::Sums;
use crate::config::Name;
use crate::engine::pubsub::Topic;
use crate::engine::shard::{DATABASES, Shard};
use crate::engine::{Engine, persist};
use crate::machine::{self, CpuSeconds};
use crate::memory;

/// What a database holds.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct DatabaseCounts {
    /// Its keys.
    pub keys: usize,
    /// Those that expire.
    pub expiring: usize,
    /// How long these have left on average, in milliseconds.
    pub ttl_ms: u64,
    /// Hashes with fields that expire.
    pub expiring_within: usize,
}

/// The picture.
#[derive(Debug, Default, Clone)]
pub(crate) struct Snapshot {
    /// When it was taken, in milliseconds since the epoch.
    pub now: u64,
    /// The same on the monotonic clock.
    pub monotonic_ms: u64,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// Clients connected.
    pub clients: usize,
    /// Those that wait for keys.
    pub blocked_clients: usize,
    /// Those of them that wait until some time at most.
    pub timed_clients: u64,
    /// Those that listen to channels.
    pub listening_clients: u64,
    /// Those that watch keys.
    pub watching_clients: u64,
    /// What workers have counted.
    pub sums: Sums,
    /// Microseconds for which workers had a processor.
    pub active_us: u64,
    /// Connections ever accepted.
    pub connections: u64,
    /// Connections refused because there were too many.
    pub rejected_connections: u64,
    /// Errors answered.
    pub errors: u64,
    /// Bytes allocated before there were clients.
    pub startup_bytes: u64,
    /// Bytes allocated.
    pub used_bytes: u64,
    /// The most that ever was.
    pub peak_bytes: u64,
    /// Bytes the allocator has made usable for itself.
    pub committed_bytes: u64,
    /// Bytes in physical memory.
    pub resident_bytes: u64,
    /// Those that are not of a file: the allocator's, and a little of the system's.
    pub anonymous_bytes: u64,
    /// Processor time, its own and that of its children.
    pub cpu: (CpuSeconds, CpuSeconds),
    /// The workers' part of it.
    pub workers_cpu: CpuSeconds,
    /// By the number clients use.
    pub databases: [DatabaseCounts; DATABASES],
    /// Reads that found their key.
    pub hits: u64,
    /// Reads that did not.
    pub misses: u64,
    /// Keys removed because their time was over.
    pub expired: u64,
    /// Keys removed to make room.
    pub evicted: u64,
    /// Changes ever made.
    pub changes: u64,
    /// Changes since the last save.
    pub unsaved_changes: u64,
    /// Keys that someone watches.
    pub watched_keys: usize,
    /// Keys that someone waits for.
    pub awaited_keys: usize,
    /// Those of them whose end someone is told of.
    pub awaited_keys_to_end: usize,
    /// Channels, patterns and sharded channels someone listens to.
    pub topics: [usize; 3],
    /// For how long memory was above `maxmemory`, and is now, in milliseconds.
    pub exceeded_ms: (u64, u64),
    /// The journal and the tables; None in memory only.
    pub persist: Option<persist::Stats>,
    /// Bytes of the tables of keys, without the keys.
    pub table_bytes: usize,
}

impl Snapshot {
    /// Takes a picture. Locks each shard for a moment, one after another; what it costs does not grow with the number of clients.
    pub(crate) fn take(instance: &Instance, now: u64) -> Snapshot {
        Snapshot::take_of(instance, &mut Shards::Free, now)
    }

    /// The same for a command, which may be part of a transaction.
    pub(crate) fn take_of(instance: &Instance, shards: &mut Shards<'_, '_>, now: u64) -> Snapshot {
        let monotonic_ms = clock::monotonic_ms();
        let stats = &instance.stats;
        let (resident_bytes, anonymous_bytes) = machine::resident_bytes();
        let mut snapshot = Snapshot {
            now,
            monotonic_ms,
            uptime_s: monotonic_ms.saturating_sub(instance.started_at) / 1000,
            clients: instance.clients.count(),
            blocked_clients: instance.blocked_clients(),
            timed_clients: stats.timed_waits.load(Relaxed),
            listening_clients: instance.clients.listening(),
            watching_clients: instance.clients.watching(),
            sums: stats.sums(),
            connections: instance.clients.total().saturating_sub(instance.connections_before_reset.load(Relaxed)),
            rejected_connections: stats.rejected_connections.load(Relaxed),
            errors: stats.error_replies.load(Relaxed),
            startup_bytes: instance.startup_bytes,
            used_bytes: memory::used_bytes(),
            peak_bytes: memory::peak_bytes(),
            committed_bytes: memory::committed_bytes(),
            resident_bytes,
            anonymous_bytes,
            cpu: machine::cpu_seconds(),
            topics: [Topic::Channel, Topic::Pattern, Topic::Shard].map(|topic| instance.engine.pubsub().name_count(topic)),
            exceeded_ms: stats.exceeded.total_and_current_ms(monotonic_ms),
            persist: instance.persistence().map(persist::Persistence::stats),
            ..Snapshot::default()
        };
        snapshot.look_at_threads();
        shards.each(&instance.engine, |shard| snapshot.look_at_shard(&instance.engine, shard));
        snapshot.unsaved_changes = snapshot.changes.saturating_sub(instance.saves.changes.load(Relaxed));
        snapshot
    }

    fn look_at_threads(&mut self) {
        for thread in &self.sums.threads {
            let cpu = machine::thread_cpu_seconds(thread.number);
            self.workers_cpu.system += cpu.system;
            self.workers_cpu.user += cpu.user;
            self.active_us += machine::thread_active_us(thread.number);
        }
    }

    /// All that is read of a shard, under its lock: a few numbers of each database, and the keys that are waited for.
    fn look_at_shard(&mut self, engine: &Engine, shard: &Shard) {
        let counts = shard.counts();
        self.hits += counts.hits;
        self.misses += counts.misses;
        self.expired += counts.expired;
        self.evicted += counts.evicted;
        self.changes += counts.changes;
        self.watched_keys += shard.watched_keys();
        let (awaited, to_end) = shard.awaited_keys();
        self.awaited_keys += awaited;
        self.awaited_keys_to_end += to_end;
        for (db, sum) in self.databases.iter_mut().enumerate() {
            let database = shard.database(engine.stored(db as u8));
            self.table_bytes += database.keys().table_bytes();
            if database.keys().is_empty() {
                continue;
            }
            sum.keys += database.keys().len();
            sum.expiring_within += database.expiring_within();
            let expiring = database.expiring();
            if let Some(mean) = database.mean_expiry() {
                // The mean over shards, each weighed by its keys.
                let weight = (sum.expiring + expiring).max(1) as u64;
                let left = mean.saturating_sub(self.now);
                sum.ttl_ms = (sum.ttl_ms * sum.expiring as u64 + left.saturating_mul(expiring as u64)) / weight;
            }
            sum.expiring += expiring;
        }
    }

    /// Keys of all databases.
    pub(crate) fn keys(&self) -> usize {
        self.databases.iter().map(|database| database.keys).sum()
    }

    /// How much of what is allocated is no data: what was there at the start, the tables of keys, clients' buffers, and what is on its
    /// way to the disk.
    pub(crate) fn overhead_bytes(&self) -> u64 {
        let passing = memory::aside_bytes();
        (self.startup_bytes + self.table_bytes as u64 + self.sums.buffer_bytes + passing).min(self.used_bytes)
    }

    /// The share of physical to allocated memory.
    pub(crate) fn fragmentation(&self) -> f64 {
        self.resident_bytes as f64 / self.used_bytes.max(1) as f64
    }
}

/// Above how much memory writes are refused or keys evicted; 0 for no limit.
pub(crate) fn maxmemory(instance: &Instance) -> u64 {
    instance.config.count(Name::Maxmemory)
}
