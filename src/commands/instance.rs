//! One running flux: what all its clients share.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::commands::clients::{Client, Clients};
use crate::commands::stats::Stats;
use crate::config::{Config, Name};
use crate::engine::Engine;
use crate::engine::durability::Durability;

/// What all clients share.
pub struct Instance {
    /// The settings.
    pub config: Arc<Config>,
    /// The keyspace.
    pub engine: Arc<Engine>,
    /// Who is connected.
    pub clients: Clients,
    /// What commands cost.
    pub stats: Stats,
    /// Clients that see every command.
    pub monitors: Mutex<Vec<Arc<Client>>>,
    /// How many monitors there are, to be asked at every command.
    pub monitor_count: AtomicUsize,
    /// `CLIENT PAUSE`.
    pub pause: Pause,
    /// When it started, in milliseconds since the epoch.
    pub started_at: u64,
    /// Told when the server must end.
    pub shutdown: Notify,
    /// Set with it.
    pub is_ending: AtomicBool,
    durability: OnceLock<Arc<dyn Durability>>,
}

/// Whether clients' commands are held back.
#[derive(Default)]
pub struct Pause {
    /// Until when, in milliseconds since the epoch; 0 for not at all.
    until: AtomicU64,
    /// Whether only writes are.
    only_writes: AtomicBool,
    /// Told when it ends early.
    pub ended: Notify,
}

impl Pause {
    /// Holds commands back. A longer pause that is already on stays; so does one of all commands.
    pub fn start(&self, until: u64, only_writes: bool, now: u64) {
        let is_on = self.until.load(Relaxed) > now;
        self.only_writes.store(only_writes && (!is_on || self.only_writes.load(Relaxed)), Relaxed);
        self.until.store(if is_on { until.max(self.until.load(Relaxed)) } else { until }, Relaxed);
    }

    /// Ends the pause.
    pub fn end(&self) {
        self.until.store(0, Relaxed);
        self.ended.notify_waiters();
    }

    /// When the pause that holds this command back ends; None if it may run.
    #[inline]
    pub fn holds(&self, now: u64, may_write: bool) -> Option<u64> {
        let until = self.until.load(Relaxed);
        (until > now && (may_write || !self.only_writes.load(Relaxed))).then_some(until)
    }
}

impl Instance {
    /// Around a keyspace. `now` is in milliseconds since the epoch.
    pub fn new(engine: Arc<Engine>, config: Arc<Config>, now: u64) -> Arc<Instance> {
        Arc::new(Instance {
            config,
            engine,
            clients: Clients::default(),
            stats: Stats::default(),
            monitors: Mutex::default(),
            monitor_count: AtomicUsize::new(0),
            pause: Pause::default(),
            started_at: now,
            shutdown: Notify::new(),
            is_ending: AtomicBool::new(false),
            durability: OnceLock::new(),
        })
    }

    /// Says where effects become durable. Without it they do not.
    pub fn set_durability(&self, durability: Arc<dyn Durability>) {
        assert!(self.durability.set(durability).is_ok(), "durability is set once, before clients come");
    }

    /// Where effects become durable.
    #[inline]
    pub fn durability(&self) -> Option<&Arc<dyn Durability>> {
        self.durability.get()
    }

    /// Tells everyone that the server ends.
    pub fn end(&self) {
        self.is_ending.store(true, Relaxed);
        self.shutdown.notify_waiters();
        self.pause.end();
        for client in self.clients.all() {
            client.mailbox.leave(|mail| mail.close = Some(true));
        }
    }

    /// Waits until the server ends.
    pub async fn ended(&self) {
        let notified = self.shutdown.notified();
        let mut notified = std::pin::pin!(notified);
        notified.as_mut().enable();
        if !self.is_ending.load(Relaxed) {
            notified.await;
        }
    }

    /// The password clients must give, if one is set.
    pub fn password(&self) -> Option<Arc<str>> {
        Some(self.config.text(Name::Requirepass)).filter(|password| !password.is_empty())
    }

    /// How many clients wait for keys (`blocked_clients`).
    pub fn blocked_clients(&self) -> usize {
        self.engine.waiting().load(Relaxed)
    }
}
