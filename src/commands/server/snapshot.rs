//! A picture of the server at one moment: the numbers `INFO` and HTTP's `/metrics` show.

use std::sync::atomic::Ordering::Relaxed;

use crate::commands::clients::state;
use crate::commands::instance::Instance;
use crate::config::Name;
use crate::engine::persist;
use crate::engine::pubsub::Topic;
use crate::engine::shard::DATABASES;
use crate::{machine, memory};

/// What a database holds.
#[derive(Debug, Default, Clone, Copy)]
pub struct DatabaseCounts {
    /// Its keys.
    pub keys: usize,
    /// Those that expire.
    pub expiring: usize,
    /// Roughly how long these have left, in milliseconds.
    pub ttl_ms: u64,
}

/// The picture.
#[derive(Debug, Default, Clone)]
pub struct Snapshot {
    /// When it was taken, in milliseconds since the epoch.
    pub now: u64,
    /// Seconds since the start.
    pub uptime_s: u64,
    /// Clients connected.
    pub clients: usize,
    /// Those that wait for keys.
    pub blocked_clients: usize,
    /// Those that listen to channels.
    pub listening_clients: usize,
    /// Those that watch keys.
    pub watching_clients: usize,
    /// The longest unfinished request, in bytes.
    pub query_bytes_max: u64,
    /// The longest output buffer, in bytes.
    pub output_bytes_max: u64,
    /// Bytes in all clients' buffers.
    pub client_bytes: u64,
    /// Connections ever accepted.
    pub connections: u64,
    /// Connections refused because there were too many.
    pub rejected_connections: u64,
    /// Commands run.
    pub commands: u64,
    /// Bytes from clients.
    pub read_bytes: u64,
    /// Bytes to clients.
    pub written_bytes: u64,
    /// Errors answered.
    pub errors: u64,
    /// Bytes allocated.
    pub used_bytes: u64,
    /// The most that ever was.
    pub peak_bytes: u64,
    /// Bytes in physical memory.
    pub resident_bytes: u64,
    /// Seconds of processor time in the system and by itself.
    pub cpu_seconds: (f64, f64),
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
    /// Channels, patterns and sharded channels someone listens to.
    pub topics: [usize; 3],
    /// The journal and the tables; None in memory only.
    pub persist: Option<persist::Stats>,
    /// Bytes of the tables of keys, without the keys.
    pub table_bytes: usize,
}

impl Snapshot {
    /// Takes a picture. Locks each shard for a moment, one after another.
    pub fn take(instance: &Instance, now: u64) -> Snapshot {
        let (commands, read_bytes, written_bytes) = instance.stats.totals();
        let mut snapshot = Snapshot {
            now,
            uptime_s: now.saturating_sub(instance.started_at) / 1000,
            blocked_clients: instance.blocked_clients(),
            connections: instance.clients.total().saturating_sub(instance.connections_before_reset.load(Relaxed)),
            rejected_connections: instance.stats.rejected_connections.load(Relaxed),
            commands,
            read_bytes,
            written_bytes,
            errors: instance.stats.error_replies.load(Relaxed),
            used_bytes: memory::used_bytes(),
            peak_bytes: memory::peak_bytes(),
            resident_bytes: machine::resident_bytes(),
            cpu_seconds: machine::cpu_seconds(),
            topics: [Topic::Channel, Topic::Pattern, Topic::Shard].map(|topic| instance.engine.pubsub().name_count(topic)),
            persist: instance.persistence().map(persist::Persistence::stats),
            ..Snapshot::default()
        };
        snapshot.look_at_clients(instance);
        snapshot.look_at_keys(instance);
        snapshot.unsaved_changes = snapshot.changes.saturating_sub(instance.saves.changes.load(Relaxed));
        snapshot
    }

    fn look_at_clients(&mut self, instance: &Instance) {
        for client in instance.clients.all() {
            let (query, output) = (client.query_bytes.load(Relaxed), client.output_bytes.load(Relaxed));
            self.clients += 1;
            self.listening_clients += usize::from(client.subscriptions.load(Relaxed) > 0);
            self.watching_clients += usize::from(client.watched.load(Relaxed) > 0 || client.has_state(state::DIRTY));
            self.query_bytes_max = self.query_bytes_max.max(query);
            self.output_bytes_max = self.output_bytes_max.max(output);
            self.client_bytes += query + output + client.mailbox.pending_bytes() as u64;
        }
    }

    fn look_at_keys(&mut self, instance: &Instance) {
        instance.engine.each_shard(|_, shard| {
            let counts = shard.counts();
            self.hits += counts.hits;
            self.misses += counts.misses;
            self.expired += counts.expired;
            self.evicted += counts.evicted;
            self.changes += counts.changes;
            for (db, sum) in self.databases.iter_mut().enumerate() {
                let database = shard.database(instance.engine.stored(db as u8));
                self.table_bytes += database.keys().table_bytes();
                sum.keys += database.keys().len();
                let expiring = database.expiring();
                if let Some(middle) = database.middle_expiry() {
                    // The mean over shards, each weighed by its keys.
                    let weight = (sum.expiring + expiring).max(1) as u64;
                    let left = middle.saturating_sub(self.now);
                    sum.ttl_ms = (sum.ttl_ms * sum.expiring as u64 + left.saturating_mul(expiring as u64)) / weight;
                }
                sum.expiring += expiring;
            }
        });
    }

    /// Keys of all databases.
    pub fn keys(&self) -> usize {
        self.databases.iter().map(|database| database.keys).sum()
    }

    /// How much of what is allocated the keys' tables and clients' buffers take, without the data.
    pub fn overhead_bytes(&self) -> u64 {
        self.table_bytes as u64 + self.client_bytes
    }

    /// The share of physical to allocated memory.
    pub fn fragmentation(&self) -> f64 {
        self.resident_bytes as f64 / self.used_bytes.max(1) as f64
    }
}

/// Above how much memory writes are refused or keys evicted; 0 for no limit.
pub fn maxmemory(instance: &Instance) -> u64 {
    instance.config.count(Name::Maxmemory)
}
