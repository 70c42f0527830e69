//! Who is connected: the registry that `CLIENT LIST`, `KILL` and `UNBLOCK` read, one entry a client.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::clock;
use crate::commands::identity::Origin;
use crate::commands::sockets::Stranger;
use crate::engine::block::Waiter;
use crate::engine::mailbox::Mailbox;
use crate::engine::tracking::Tracker;

/// A connected client, as others see it.
#[derive(Default)]
pub struct Client {
    /// Never used twice by one server.
    pub id: u64,
    /// Where it comes from.
    pub from: Arc<Origin>,
    /// When it came, in milliseconds since the epoch.
    pub connected_at: u64,
    /// Messages and signals for it.
    pub mailbox: Arc<Mailbox>,
    /// What changes rarely.
    pub about: Mutex<About>,
    /// When it last sent a command or was last sent anything, on the monotonic clock.
    pub active_at: AtomicU64,
    /// Its place among those that have still to give the password.
    pub stranger: Mutex<Option<Stranger>>,
    /// The command it waits with, if that may be ended with `CLIENT UNBLOCK`.
    pub waiter: Mutex<Option<Arc<Waiter>>>,
    /// Bytes it has sent that are not carried out yet.
    pub query_bytes: AtomicU64,
    /// Bytes on the way to it.
    pub output_bytes: AtomicU64,
    /// Its state, as the letters `CLIENT LIST` shows: bits of [`state`].
    pub state: AtomicU64,
    /// Commands queued in its transaction plus 1; 0 outside of one.
    pub queued: AtomicU64,
    /// Bytes these take.
    pub queued_bytes: AtomicU64,
    /// The number of the last command, as in the command table, plus 1.
    pub last_command: AtomicU64,
    /// Its database.
    pub db: AtomicU64,
    /// Channels, patterns and sharded channels it listens to, 20 bits each.
    pub subscriptions: AtomicU64,
    /// Keys it watches.
    pub watched: AtomicU64,
    /// How it is told of changed keys, if it is.
    pub tracker: Mutex<Option<Arc<Tracker>>>,
}

/// Bits of [`Client::state`].
pub(crate) mod state {
    /// Waits for keys (`b`).
    pub(crate) const BLOCKED: u64 = 1;
    /// `CLIENT NO-EVICT ON` (`e`).
    pub(crate) const NO_EVICT: u64 = 2;
    /// `CLIENT NO-TOUCH ON` (`T`).
    pub(crate) const NO_TOUCH: u64 = 4;
    /// Gets every command (`O`).
    pub(crate) const MONITOR: u64 = 8;
    /// Will be closed (`c`).
    pub(crate) const CLOSING: u64 = 32;
    /// Its transaction fails: a watched key changed (`d`).
    pub(crate) const DIRTY: u64 = 64;
    /// Waits for keys until some time at most.
    pub(crate) const TIMED: u64 = 128;
    /// Gave a wrong password.
    pub(crate) const GUESSED: u64 = 256;
}

/// What a client said of itself.
#[derive(Debug, Default, Clone)]
pub struct About {
    /// `CLIENT SETNAME`.
    pub(crate) name: String,
    /// `CLIENT SETINFO LIB-NAME`.
    pub(crate) library: String,
    /// `CLIENT SETINFO LIB-VER`.
    pub(crate) library_version: String,
    /// The peer it is, if it is one.
    pub(crate) peer: Option<Arc<str>>,
}

impl Client {
    /// Sets or clears bits of [`state`].
    pub(crate) fn set_state(&self, bits: u64, on: bool) {
        let before = self.state.load(Relaxed);
        self.state.store(if on { before | bits } else { before & !bits }, Relaxed);
    }

    /// Whether all these bits of [`state`] are set.
    pub(crate) fn has_state(&self, bits: u64) -> bool {
        self.state.load(Relaxed) & bits == bits
    }
}

/// All connected clients.
#[derive(Default)]
pub struct Clients {
    by_id: Mutex<BTreeMap<u64, Arc<Client>>>,
    last_id: AtomicU64,
    listening: AtomicU64,
    watching: AtomicU64,
}

impl Clients {
    /// Adds a client and gives it an id.
    pub fn connect(&self, from: Arc<Origin>, now: u64) -> Arc<Client> {
        let client = Arc::new(Client {
            id: self.last_id.fetch_add(1, Relaxed) + 1,
            from,
            connected_at: now,
            active_at: AtomicU64::new(clock::monotonic_ms()),
            ..Client::default()
        });
        self.by_id.lock().insert(client.id, Arc::clone(&client));
        client
    }

    /// Removes a client that is gone.
    pub(crate) fn disconnect(&self, client: &Client) {
        self.listens(client, 0);
        self.watches(client, 0);
        client.mailbox.set_gone();
        *client.stranger.lock() = None;
        self.by_id.lock().remove(&client.id);
    }

    /// The client with this id.
    pub(crate) fn get(&self, id: u64) -> Option<Arc<Client>> {
        self.by_id.lock().get(&id).cloned()
    }

    /// All of them, oldest first.
    pub fn all(&self) -> Vec<Arc<Client>> {
        self.by_id.lock().values().cloned().collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.by_id.lock().len()
    }

    /// Notes what a client listens to, as [`Client::subscriptions`] has it.
    pub(crate) fn listens(&self, client: &Client, subscriptions: u64) {
        client.mailbox.set_listens(subscriptions > 0);
        count(&self.listening, client.subscriptions.swap(subscriptions, Relaxed) > 0, subscriptions > 0);
    }

    /// Notes how many keys a client watches.
    pub(crate) fn watches(&self, client: &Client, keys: u64) {
        count(&self.watching, client.watched.swap(keys, Relaxed) > 0, keys > 0);
    }

    /// How many listen to channels. Kept, as tools ask often and there may be ten thousand clients.
    pub(crate) fn listening(&self) -> u64 {
        self.listening.load(Relaxed)
    }

    /// How many watch keys.
    pub(crate) fn watching(&self) -> u64 {
        self.watching.load(Relaxed)
    }

    /// How many ever came.
    pub(crate) fn total(&self) -> u64 {
        self.last_id.load(Relaxed)
    }
}

/// Counts those of a kind, where one came to it or left it.
fn count(kind: &AtomicU64, was: bool, is: bool) {
    match (was, is) {
        (false, true) => drop(kind.fetch_add(1, Relaxed)),
        (true, false) => drop(kind.fetch_sub(1, Relaxed)),
        _ => {}
    }
}
