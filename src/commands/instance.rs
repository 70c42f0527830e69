//! One running flux: what all its clients share.

use std::any::Any;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::clock;
use crate::commands::clients::{Client, Clients};
use crate::commands::guesses::Guesses;
use crate::commands::offers::Offers;
use crate::commands::room::{Metric, Open, OpenRooms, Room};
use crate::commands::route::Route;
use crate::commands::script::Scripts;
use crate::commands::sockets::Sockets;
use crate::commands::stats::Stats;
use crate::commands::table::Table;
use crate::config::{Config, Name};
use crate::engine::block::Waiter;
use crate::engine::durability::Durability;
use crate::engine::mailbox::Ended;
use crate::engine::notify::Observer;
use crate::engine::persist::Persistence;
use crate::engine::persist::progress::Progress;
use crate::engine::{Engine, evict};
use crate::id;
use crate::lifecycle::Lifecycle;
use crate::machine;
use crate::memory;
use crate::metrics::{LatencyMonitor, Rate, Slowlog};

/// What all clients share.
pub struct Instance {
    /// The settings.
    pub config: Arc<Config>,
    /// The commands it answers.
    pub table: Arc<Table>,
    /// The keyspace.
    pub engine: Arc<Engine>,
    /// Who is connected.
    pub clients: Clients,
    /// Connections that are open.
    pub sockets: Sockets,
    /// Threads that carry clients, which have files open too.
    pub(crate) workers: AtomicUsize,
    /// Passwords that were tried.
    pub guesses: Guesses,
    /// What commands cost.
    pub stats: Stats,
    /// Clients that see every command.
    pub monitors: Mutex<Vec<Arc<Client>>>,
    /// How many monitors there are, to be asked at every command.
    pub(crate) monitor_count: AtomicUsize,
    /// `CLIENT PAUSE`.
    pub pause: Pause,
    /// When it started, in milliseconds of the monotonic clock.
    pub(crate) started_at: u64,
    /// Where the RESP door listens: addresses, and a unix socket's path.
    pub(crate) listeners: OnceLock<Listeners>,
    /// Scripts, and which of them runs.
    pub(crate) scripts: Scripts,
    /// Commands that took long.
    pub(crate) slowlog: Slowlog,
    /// Things that took long, by what they were.
    pub(crate) latency: LatencyMonitor,
    /// Whether also commands of less than a millisecond may be slow by the settings.
    pub notes_fast_commands: AtomicBool,
    /// How fast commands and bytes come.
    pub(crate) rates: Rates,
    /// What `SAVE` and its like came to.
    pub(crate) saves: Saves,
    /// Connections that had been accepted when statistics last began anew.
    pub(crate) connections_before_reset: AtomicU64,
    /// Bytes that were allocated when it started, before it had any clients.
    pub(crate) startup_bytes: u64,
    /// Set by `SHUTDOWN NOSAVE`: everything is in the journal anyway.
    pub(crate) skips_last_checkpoint: AtomicBool,
    /// Whether the config file is being written.
    pub(crate) is_rewriting: AtomicBool,
    /// Names this run of the server.
    pub(crate) run_id: String,
    /// Told when the server must end.
    pub(crate) shutdown: Notify,
    /// Set with it.
    pub is_ending: AtomicBool,
    /// How far the keyspace is loaded, while clients are here already.
    pub loading: Arc<Progress>,
    loaded: Notify,
    durability: OnceLock<Arc<dyn Durability>>,
    persistence: OnceLock<Persistence>,
    listed: &'static [Room],
    rooms: OnceLock<Vec<Arc<dyn Open>>>,
    offers: OnceLock<Offers>,
}

/// A password, which can be compared and neither shown nor logged.
pub(crate) struct Password(Arc<str>);

impl Password {
    /// Whether this is it, in a time that does not tell where they differ.
    pub(crate) fn is(&self, given: &[u8]) -> bool {
        let expected = self.0.as_bytes();
        let difference = expected.iter().zip(given).fold(0, |difference, (a, b)| difference | (a ^ b));
        expected.len() == given.len() && difference == 0
    }
}

/// How fast commands and bytes come.
#[derive(Default)]
pub(crate) struct Rates {
    /// Commands.
    pub commands: Rate,
    /// Bytes from clients.
    pub read: Rate,
    /// Bytes to clients.
    pub written: Rate,
    /// Wakes of workers.
    pub wakes: Rate,
    /// Microseconds for which workers had a processor.
    pub active_us: Rate,
}

/// Where the RESP door listens.
#[derive(Debug, Default, Clone)]
pub(crate) struct Listeners {
    /// With ports that are known.
    pub addresses: Vec<SocketAddr>,
    /// The path of a unix socket.
    pub unix_socket: Option<PathBuf>,
}

/// A save or a backup: there is one at a time.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnderWay {
    /// Neither.
    #[default]
    Nothing,
    /// A save.
    Save,
    /// A backup.
    Backup {
        /// Whether a save was scheduled for when it is over; once, however often it was.
        save_follows: bool,
    },
}

/// What is known of the last save, in the sense of Redis: a checkpoint.
#[derive(Default)]
pub(crate) struct Saves {
    /// Changes that had been made in all when the last save began.
    pub changes: AtomicU64,
    /// When it ended, in seconds since the epoch.
    pub at: AtomicU64,
    /// Saves that ended well.
    pub count: AtomicU64,
    /// What is under way.
    pub under_way: Mutex<UnderWay>,
    /// When that began, in milliseconds of the monotonic clock.
    pub began_at: AtomicU64,
    /// Whether the last one failed.
    pub has_failed: AtomicBool,
    /// How long it took, in seconds, plus 1; 0 before the first one.
    pub took_s_plus_one: AtomicU64,
}

/// Whether clients' commands are held back, and which are.
#[derive(Default)]
pub struct Pause {
    /// Until when, on the monotonic clock; 0 for not at all.
    until: AtomicU64,
    /// Whether only writes are.
    only_writes: AtomicBool,
    held_back: Mutex<HashMap<u64, Arc<Waiter>>>,
}

impl Pause {
    /// Holds commands back for a while. A longer pause that is already on stays; so does one of all commands.
    pub fn start(&self, for_ms: u64, only_writes: bool) {
        let _held_back = self.held_back.lock();
        let now = clock::monotonic_ms();
        let is_on = self.until.load(Relaxed) > now;
        self.only_writes.store(only_writes && (!is_on || self.only_writes.load(Relaxed)), Relaxed);
        self.until.fetch_max(now.saturating_add(for_ms), Relaxed);
    }

    /// Ends the pause. Commands that were held back are run.
    pub(crate) fn end(&self) {
        let held_back = {
            let mut held_back = self.held_back.lock();
            self.until.store(0, Relaxed);
            std::mem::take(&mut *held_back)
        };
        held_back.values().for_each(|waiter| let_go(waiter));
    }

    /// For how many more milliseconds a command is held back; None if it may run.
    #[inline]
    pub(crate) fn holds(&self, may_write: impl FnOnce() -> bool) -> Option<u64> {
        let until = self.until.load(Relaxed);
        if until == 0 || self.only_writes.load(Relaxed) && !may_write() {
            return None;
        }
        let left = until.saturating_sub(clock::monotonic_ms());
        if left == 0 {
            // Over: the clock need not be asked for each command any more.
            let _ = self.until.compare_exchange(until, 0, Relaxed, Relaxed);
        }
        Some(left).filter(|left| *left > 0)
    }

    /// Holds a command back until the pause ends, if that has not happened just now.
    pub(crate) fn join(&self, waiter: &Arc<Waiter>) {
        let mut held_back = self.held_back.lock();
        if self.until.load(Relaxed) == 0 {
            drop(held_back);
            let_go(waiter);
        } else {
            held_back.insert(waiter.number(), Arc::clone(waiter));
        }
    }

    /// Undoes [`Self::join`].
    pub(crate) fn leave(&self, waiter: &Waiter) {
        self.held_back.lock().remove(&waiter.number());
    }
}

/// Has a command run that was held back.
fn let_go(waiter: &Waiter) {
    if waiter.end() {
        waiter.mailbox.end(Ended::Again);
    }
}

impl Instance {
    /// Around a keyspace with these commands; see [`Instance::with`].
    pub(super) fn of(
        table: Arc<Table>,
        rooms: &'static [Room],
        engine: Arc<Engine>,
        config: Arc<Config>,
        now: u64,
    ) -> Arc<Instance> {
        Arc::new(Instance {
            config,
            engine,
            clients: Clients::default(),
            sockets: Sockets::default(),
            workers: AtomicUsize::new(0),
            guesses: Guesses::default(),
            stats: Stats::new(table.count()),
            table,
            monitors: Mutex::default(),
            monitor_count: AtomicUsize::new(0),
            pause: Pause::default(),
            started_at: clock::monotonic_ms(),
            listeners: OnceLock::new(),
            scripts: Scripts::default(),
            slowlog: Slowlog::default(),
            latency: LatencyMonitor::default(),
            notes_fast_commands: AtomicBool::new(false),
            rates: Rates::default(),
            saves: Saves { at: AtomicU64::new(now / 1000), ..Saves::default() },
            connections_before_reset: AtomicU64::new(0),
            startup_bytes: memory::used_bytes(),
            skips_last_checkpoint: AtomicBool::new(false),
            is_rewriting: AtomicBool::new(false),
            run_id: id::run_id(),
            shutdown: Notify::new(),
            is_ending: AtomicBool::new(false),
            loading: Arc::default(),
            loaded: Notify::new(),
            durability: OnceLock::new(),
            persistence: OnceLock::new(),
            listed: rooms,
            rooms: OnceLock::new(),
            offers: OnceLock::new(),
        })
    }

    /// Says where the keyspace lasts. Without it, it does not.
    pub fn set_persistence(&self, persistence: Persistence) {
        assert!(self.persistence.set(persistence).is_ok(), "persistence is set once, before commands touch keys");
    }

    /// Where the keyspace lasts.
    pub fn persistence(&self) -> Option<&Persistence> {
        self.persistence.get()
    }

    /// Changes ever made to keys.
    pub fn changes(&self) -> u64 {
        let mut changes = 0;
        self.engine.each_shard(|_, shard| changes += shard.counts().changes);
        changes
    }

    /// Begins the statistics anew (`CONFIG RESETSTAT`), but for those that shards keep.
    pub fn reset_statistics(&self) {
        self.stats.reset();
        self.engine.freeing().freed.store(0, Relaxed);
        self.slowlog.reset_totals();
        self.connections_before_reset.store(self.clients.total(), Relaxed);
    }

    /// Takes the samples that rates are made of; to be called often.
    pub(crate) fn tick(&self) {
        let now = clock::monotonic_ms();
        self.stats.second.store(now / 1000, Relaxed);
        self.stats.exceeded.note(evict::is_due(&self.engine), now);
        let sums = self.stats.sums();
        let active_us = sums.threads.iter().map(|thread| machine::thread_active_us(thread.number)).sum();
        self.rates.commands.sample(now, sums.commands);
        self.rates.read.sample(now, sums.bytes_in);
        self.rates.written.sample(now, sums.bytes_out);
        self.rates.wakes.sample(now, sums.wakes);
        self.rates.active_us.sample(now, active_us);
    }

    /// Says where effects become durable. Without it they do not.
    pub fn set_durability(&self, durability: Arc<dyn Durability>) {
        assert!(self.durability.set(durability).is_ok(), "durability is set once, before commands touch keys");
    }

    /// Where effects become durable.
    #[inline]
    pub(crate) fn durability(&self) -> Option<&Arc<dyn Durability>> {
        self.durability.get()
    }

    /// Opens its rooms, in their order.
    pub fn open_rooms(self: &Arc<Self>) -> OpenRooms {
        let rooms: Vec<_> = self.listed.iter().map(|room| (room.make)(self)).collect();
        let observers = self.listed.iter().zip(&rooms).filter(|(listed, _)| !listed.observes.is_empty());
        let observers = observers.map(|(listed, room)| (listed.observes, Arc::clone(room) as Arc<dyn Observer>)).collect();
        self.engine.notifications().set_observers(observers);
        let mut offers = Offers::none();
        rooms.iter().for_each(|room| Arc::clone(room).offer(&mut offers));
        assert!(self.offers.set(offers).is_ok(), "rooms are opened once, before commands touch keys");
        assert!(self.rooms.set(rooms).is_ok(), "rooms are opened once, before commands touch keys");
        self.rooms().for_each(Open::start);
        OpenRooms(Arc::clone(self))
    }

    /// Its rooms that are open, in their order.
    pub(crate) fn rooms(&self) -> impl DoubleEndedIterator<Item = &dyn Open> {
        self.rooms.get().into_iter().flatten().map(|room| &**room)
    }

    /// What its rooms offer each other; nothing before they are open.
    pub fn offers(&self) -> &Offers {
        static NONE: Offers = Offers::none();
        self.offers.get().unwrap_or(&NONE)
    }

    /// Its rooms as they are listed, open or not.
    pub(crate) fn listed(&self) -> &'static [Room] {
        self.listed
    }

    /// What its rooms have to tell in numbers.
    pub(crate) fn metrics(&self) -> impl Iterator<Item = &'static [Metric]> {
        self.listed.iter().map(|room| room.metrics)
    }

    /// What can be asked of its rooms over HTTP.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &'static Route> {
        self.listed.iter().flat_map(|room| room.routes)
    }

    /// The room of this type, if it is open.
    #[inline]
    pub fn room<R: Open>(&self) -> Option<&R> {
        self.rooms().find_map(|room| (room as &dyn Any).downcast_ref())
    }

    /// Who lives around it: threads, tasks and child processes.
    pub fn lifecycle(&self) -> &Lifecycle {
        self.engine.lifecycle()
    }

    /// Tells everyone that the server ends.
    pub fn end(&self) {
        self.lifecycle().begin_end();
        self.is_ending.store(true, Relaxed);
        self.shutdown.notify_waiters();
        self.pause.end();
        for client in self.clients.all() {
            client.mailbox.leave(|mail| mail.close = Some(true));
        }
    }

    /// Cuts every connection, whatever its client has still to read, and the script that runs, whatever it has still to do.
    pub(crate) fn cut(&self) {
        self.scripts.running.end_now();
        for client in self.clients.all() {
            client.mailbox.leave(|mail| mail.close = Some(false));
        }
    }

    /// Waits until the server ends.
    pub(crate) async fn ended(&self) {
        let notified = self.shutdown.notified();
        let mut notified = std::pin::pin!(notified);
        notified.as_mut().enable();
        if !self.is_ending.load(Relaxed) {
            notified.await;
        }
    }

    /// Ends loading: from now on commands may touch keys. All they need must be here.
    pub fn end_loading(&self) {
        self.loading.end();
        self.loaded.notify_waiters();
    }

    /// Waits until nothing is being loaded.
    pub(crate) async fn loaded(&self) {
        let notified = self.loaded.notified();
        let mut notified = std::pin::pin!(notified);
        notified.as_mut().enable();
        if self.loading.is_on() {
            notified.await;
        }
    }

    /// The password clients must give, if one is set.
    pub(crate) fn password(&self) -> Option<Password> {
        Some(self.config.text(Name::Requirepass)).filter(|password| !password.is_empty()).map(Password)
    }

    /// How many clients wait for keys (`blocked_clients`).
    pub fn blocked_clients(&self) -> usize {
        self.engine.waiting().load(Relaxed)
    }
}
