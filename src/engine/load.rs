//! Values on their way back from disk. A command that needs a value which was dropped from memory ends without having done anything,
//! and its client waits until threads of their own have read it; so no worker waits for a disk, and no shard is locked meanwhile. Each value
//! is read once, however many wait for it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Relaxed},
};
use std::sync::mpsc::{SyncSender, sync_channel};

use parking_lot::{Condvar, Mutex};

use crate::engine::Engine;
use crate::engine::blob::Blob;
use crate::engine::block::{Place, Waiter};
use crate::engine::dict;
use crate::engine::error::{self, Error};
use crate::engine::mailbox::Ended;
use crate::engine::value::{Kind, Value};
use crate::resp::Reply;

/// A value that is needed and rests on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The stored number of its database.
    pub db: u8,
    /// Its key.
    pub key: Blob,
    /// What is stored there.
    pub kind: Kind,
    /// The generation of its key's last change. A value is dropped only after a checkpoint, which begins a generation: where the key
    /// has changed and was dropped again meanwhile, this differs.
    pub changed: u8,
}

/// Where values are read from.
pub trait Backing: Send + Sync {
    /// The value a key had at the last checkpoint. Waits for the disk.
    fn load(&self, missing: &Missing) -> Result<Value, Error>;
}

/// For a keyspace of which nothing rests on disk.
impl Backing for () {
    fn load(&self, _: &Missing) -> Result<Value, Error> {
        Err(error::DISK_READ)
    }
}

/// What is to be read, and who waits for it.
#[derive(Default)]
pub struct Loads {
    wanted: Mutex<Wanted>,
    came: Condvar,
    handed: Condvar,
    has_dropped: AtomicBool,
    pins: AtomicUsize,
    waits: AtomicU64,
}

#[derive(Default)]
struct Wanted {
    /// In the order it is read in.
    queue: VecDeque<Missing>,
    /// For threads that hold the key's shard and wait: see [`Loads::run_hands`].
    hands: VecDeque<(Missing, SyncSender<Result<Value, Error>>)>,
    /// Also of what is being read now.
    waiting: HashMap<Place, Vec<Then>, foldhash::fast::RandomState>,
    is_stopping: bool,
}

/// What follows when a value has been read.
enum Then {
    /// A command may have all it needs, and is run again.
    Retry { waiter: Arc<Waiter>, missing: Arc<AtomicUsize> },
    /// Clients that wait at this key are served.
    Serve(Place),
}

/// While it lives, nothing is dropped from memory.
pub struct Pin(Arc<Engine>);

impl Drop for Pin {
    fn drop(&mut self) {
        self.0.loads.pins.fetch_sub(1, AcqRel);
    }
}

impl Loads {
    /// Whether values may rest on disk at all. While none does, nobody looks.
    #[inline]
    pub fn has_dropped(&self) -> bool {
        self.has_dropped.load(Relaxed)
    }

    /// Says that values rest on disk from now on.
    pub fn note_dropped(&self) {
        self.has_dropped.store(true, Relaxed);
    }

    /// Whether values must stay in memory now.
    pub fn is_pinned(&self) -> bool {
        self.pins.load(Relaxed) > 0
    }

    /// Keeps all values in memory: for a command whose values were dropped again before it came to use them.
    pub fn pin(engine: &Arc<Engine>) -> Pin {
        engine.loads.pins.fetch_add(1, AcqRel);
        Pin(Arc::clone(engine))
    }

    /// Has values read; when all of them are in memory, or one cannot be read, the wait is over.
    pub fn fetch(&self, missing: Vec<Missing>, waiter: &Arc<Waiter>) {
        let left = Arc::new(AtomicUsize::new(missing.len()));
        for one in missing {
            self.want(one, Then::Retry { waiter: Arc::clone(waiter), missing: Arc::clone(&left) });
        }
    }

    /// Has values read without which a client that waits at a key cannot be served.
    pub fn fetch_to_serve(&self, missing: Vec<Missing>, at: &Place) {
        missing.into_iter().for_each(|one| self.want(one, Then::Serve(at.clone())));
    }

    /// Has a value read and waits for it; for whoever holds its shard and can do nothing else.
    pub fn fetch_now(&self, missing: Missing) -> Result<Value, Error> {
        self.waits.fetch_add(1, Relaxed);
        let (sender, receiver) = sync_channel(1);
        {
            let mut wanted = self.wanted.lock();
            if !wanted.is_stopping {
                wanted.hands.push_back((missing, sender));
                self.handed.notify_one();
            }
        }
        // Readers that have ended answer nobody.
        receiver.recv().unwrap_or(Err(error::DISK_READ))
    }

    /// How often a thread waited for a value with shards locked: see [`Self::fetch_now`].
    pub fn wait_count(&self) -> u64 {
        self.waits.load(Relaxed)
    }

    fn want(&self, missing: Missing, then: Then) {
        let mut wanted = self.wanted.lock();
        if wanted.is_stopping {
            return;
        }
        let waiting = wanted.waiting.entry((missing.db, missing.key.clone())).or_default();
        let is_first = waiting.is_empty();
        waiting.push(then);
        if is_first {
            wanted.queue.push_back(missing);
            self.came.notify_one();
        }
    }

    /// Reads what is wanted until [`Self::stop`]: the life of a reader's thread.
    pub fn run(&self, engine: &Engine, backing: &dyn Backing) {
        while let Some(missing) = self.next() {
            let outcome = backing.load(&missing);
            let place = (missing.db, missing.key.clone());
            let waiting = self.wanted.lock().waiting.remove(&place).unwrap_or_default();
            let outcome = outcome.map(|value| install(engine, &missing, value));
            let mut waited_at = Vec::new();
            for then in waiting {
                match then {
                    Then::Serve(place) => waited_at.push(place),
                    Then::Retry { waiter, missing } => go_on(&waiter, &missing, outcome.as_ref().err()),
                }
            }
            // Who waits at a key whose value cannot be read waits on: to serve it would be to read it again.
            if outcome.is_ok() {
                engine.serve(waited_at);
            }
        }
    }

    /// The life of the reader that serves threads which hold shards: it never locks one itself, as the others do that bring values back.
    pub fn run_hands(&self, backing: &dyn Backing) {
        loop {
            let (missing, sender) = {
                let mut wanted = self.wanted.lock();
                loop {
                    if wanted.is_stopping {
                        return;
                    }
                    if let Some(next) = wanted.hands.pop_front() {
                        break next;
                    }
                    self.handed.wait(&mut wanted);
                }
            };
            let _ = sender.send(backing.load(&missing));
        }
    }

    fn next(&self) -> Option<Missing> {
        let mut wanted = self.wanted.lock();
        loop {
            if wanted.is_stopping {
                return None;
            }
            if let Some(missing) = wanted.queue.pop_front() {
                return Some(missing);
            }
            self.came.wait(&mut wanted);
        }
    }

    /// Ends the readers. Who waits then waits for the end of the server.
    pub fn stop(&self) {
        let mut wanted = self.wanted.lock();
        wanted.is_stopping = true;
        // Those who are handed values learn that nobody reads any more.
        wanted.waiting.clear();
        wanted.hands.clear();
        drop(wanted);
        self.handed.notify_all();
        self.came.notify_all();
    }
}

/// Ends the wait of a command that has all it needs, or of one that never will.
fn go_on(waiter: &Waiter, missing: &AtomicUsize, failure: Option<&Error>) {
    let is_last = missing.fetch_sub(1, AcqRel) == 1;
    match failure {
        Some(error) if waiter.end() => {
            let mut reply = Reply::new(waiter.protocol);
            reply.error(&error.0);
            waiter.mailbox.serve(std::mem::take(reply.bytes_mut()), 0);
        }
        None if is_last && waiter.end() => waiter.mailbox.end(Ended::Again),
        _ => {}
    }
}

/// Puts a value back where it was dropped, unless something else is there by now.
fn install(engine: &Engine, missing: &Missing, value: Value) {
    engine.with_shard_of(&missing.key, |shard| {
        let database = &mut shard.databases[usize::from(missing.db)];
        let Some(at) = database.keys.find(dict::hash(&missing.key) as u32, &missing.key) else { return };
        let entry = database.keys.at_mut(at);
        if matches!(entry.value, Value::OnDisk(kind) if kind == missing.kind) && entry.changed == missing.changed {
            entry.value = value;
            database.note_field_expiry(at);
        }
    });
}
