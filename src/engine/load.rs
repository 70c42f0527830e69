//! Values on their way back from disk. A command that needs a value which was dropped from memory ends without having done anything,
//! and its client waits until threads of their own have read it; so no worker waits for a disk, and no shard is locked meanwhile. Each value
//! is read once, however many wait for it. Those who want many stand in lines that take turns, a value at a time, so that one who wants a
//! million holds up nobody who wants one.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::vec;

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::engine::blob::Blob;
use crate::engine::block::{Place, Waiter};
use crate::engine::dict;
use crate::engine::error::{self, Error};
use crate::engine::mailbox::Ended;
use crate::engine::shard::Database;
use crate::engine::value::{Kind, Value};
use crate::resp::Reply;

/// A value that is needed and rests on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The stored number of its database.
    pub(crate) db: u8,
    /// Its key.
    pub(crate) key: Blob,
    /// What is stored there.
    pub(crate) kind: Kind,
    /// The generation of its key's last change. A value is dropped only after a checkpoint, which begins a generation: where the key
    /// has changed and was dropped again meanwhile, this differs.
    pub(crate) changed: u8,
}

impl Missing {
    /// Where it is missing.
    pub(crate) fn place(&self) -> Place {
        (self.db, self.key.clone())
    }
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

/// Where values come back to.
pub(crate) trait Home: Send + Sync {
    /// Runs with the database in which a value is missing, its key's shard locked.
    fn with_database(&self, missing: &Missing, run: &mut dyn FnMut(&mut Database));

    /// Serves clients that wait at these keys.
    fn serve(&self, places: Vec<Place>);
}

/// What is to be read, and who waits for it.
#[derive(Default)]
pub(crate) struct Loads {
    wanted: Mutex<Wanted>,
    came: Condvar,
    handed: Condvar,
    has_dropped: AtomicBool,
    /// How many commands need each value to stay. Nothing else is locked while this is.
    pinned: Mutex<HashMap<Place, usize, foldhash::fast::RandomState>>,
    has_pinned: AtomicBool,
    waits: AtomicU64,
}

#[derive(Default)]
struct Wanted {
    /// They take turns.
    lines: VecDeque<Line>,
    /// What is being read now, and who came to need it.
    reading: HashMap<Place, Vec<Then>, foldhash::fast::RandomState>,
    /// For threads that hold the key's shard and wait: see [`Loads::run_hands`].
    hands: VecDeque<(Missing, SyncSender<Result<Value, Error>>)>,
    is_stopping: bool,
}

/// What one command is still to get; never empty.
struct Line {
    missing: vec::IntoIter<Missing>,
    then: Then,
}

/// What follows when a value has been read.
#[derive(Clone)]
enum Then {
    /// A command may have all it needs, and is run again.
    Retry { waiter: Arc<Waiter>, left: Arc<AtomicUsize> },
    /// Clients that wait at this key are served.
    Serve(Place),
}

impl Then {
    /// Whether nobody waits for more: the client is gone, or has been told that a value cannot be read.
    fn is_over(&self) -> bool {
        matches!(self, Then::Retry { waiter, .. } if waiter.is_over())
    }
}

/// Values that stay in memory while it lives: those of a command for which some were dropped again before all were there.
pub(crate) struct Pin {
    loads: Arc<Loads>,
    places: Vec<Place>,
}

impl Pin {
    /// One that keeps nothing yet.
    pub(crate) fn new(loads: &Arc<Loads>) -> Pin {
        Pin { loads: Arc::clone(loads), places: Vec::new() }
    }

    /// Keeps these values too, as soon as they are there.
    pub(crate) fn keep(&mut self, mut places: Vec<Place>) {
        let loads = &self.loads;
        let mut pinned = loads.pinned.lock();
        for place in &places {
            *pinned.entry(place.clone()).or_default() += 1;
        }
        loads.has_pinned.store(!pinned.is_empty(), Release);
        self.places.append(&mut places);
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let loads = &self.loads;
        let mut pinned = loads.pinned.lock();
        for place in self.places.drain(..) {
            if let Entry::Occupied(mut count) = pinned.entry(place) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
        if pinned.is_empty() {
            *pinned = HashMap::default();
            loads.has_pinned.store(false, Release);
        }
    }
}

impl Loads {
    /// Whether values may rest on disk at all. While none does, nobody looks.
    #[inline]
    pub(crate) fn has_dropped(&self) -> bool {
        self.has_dropped.load(Relaxed)
    }

    /// Says that values rest on disk from now on.
    pub(crate) fn note_dropped(&self) {
        self.has_dropped.store(true, Relaxed);
    }

    /// Whether a value must stay in memory.
    pub(crate) fn is_pinned(&self, db: u8, key: &Blob) -> bool {
        self.has_pinned.load(Acquire) && self.pinned.lock().contains_key(&(db, key.clone()))
    }

    /// Has values read; when all of them are in memory, or one cannot be read, the wait is over.
    pub(crate) fn fetch(&self, missing: Vec<Missing>, waiter: &Arc<Waiter>) {
        let left = Arc::new(AtomicUsize::new(missing.len()));
        self.line_up(missing, Then::Retry { waiter: Arc::clone(waiter), left });
    }

    /// Has values read without which a client that waits at a key cannot be served.
    pub(crate) fn fetch_to_serve(&self, missing: Vec<Missing>, at: &Place) {
        self.line_up(missing, Then::Serve(at.clone()));
    }

    /// Has a value read and waits for it; for whoever holds its shard and can do nothing else.
    pub(crate) fn fetch_now(&self, missing: Missing) -> Result<Value, Error> {
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
    pub(crate) fn wait_count(&self) -> u64 {
        self.waits.load(Relaxed)
    }

    fn line_up(&self, missing: Vec<Missing>, then: Then) {
        let mut wanted = self.wanted.lock();
        if wanted.is_stopping || missing.is_empty() {
            return;
        }
        wanted.lines.push_back(Line { missing: missing.into_iter(), then });
        self.came.notify_all();
    }

    /// Reads what is wanted until [`Self::stop`]: the life of a reader's thread.
    pub(crate) fn run(&self, home: &dyn Home, backing: &dyn Backing) {
        while let Some(missing) = self.next() {
            // Someone else may have had it read since.
            let outcome = if is_dropped(home, &missing) {
                backing.load(&missing).map(|value| install(home, &missing, value))
            } else {
                Ok(())
            };
            let waiting = self.wanted.lock().reading.remove(&missing.place()).unwrap_or_default();
            let mut waited_at = Vec::new();
            for then in waiting {
                match then {
                    Then::Serve(place) => waited_at.push(place),
                    Then::Retry { waiter, left } => go_on(&waiter, &left, outcome.as_ref().err()),
                }
            }
            // Who waits at a key whose value cannot be read waits on: to serve it would be to read it again.
            if outcome.is_ok() {
                home.serve(waited_at);
            }
        }
    }

    /// The life of the reader that serves threads which hold shards: it never locks one itself, as the others do that bring values back.
    pub(crate) fn run_hands(&self, backing: &dyn Backing) {
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

    /// The next value of the line whose turn it is.
    fn next(&self) -> Option<Missing> {
        let mut wanted = self.wanted.lock();
        while !wanted.is_stopping {
            let Some(mut line) = wanted.lines.pop_front() else {
                self.came.wait(&mut wanted);
                continue;
            };
            if line.then.is_over() {
                // It may be long.
                MutexGuard::unlocked(&mut wanted, || drop(line));
                continue;
            }
            let missing = line.missing.next().expect("a line that is empty leaves");
            let then = line.then.clone();
            if !line.missing.as_slice().is_empty() {
                wanted.lines.push_back(line);
            }
            match wanted.reading.entry(missing.place()) {
                Entry::Occupied(mut read) => read.get_mut().push(then),
                Entry::Vacant(unread) => {
                    unread.insert(vec![then]);
                    return Some(missing);
                }
            }
        }
        None
    }

    /// Ends the readers. Who waits then waits for the end of the server.
    pub(crate) fn stop(&self) {
        let mut wanted = self.wanted.lock();
        wanted.is_stopping = true;
        // Those who are handed values learn that nobody reads any more.
        wanted.lines.clear();
        wanted.reading.clear();
        wanted.hands.clear();
        drop(wanted);
        self.handed.notify_all();
        self.came.notify_all();
    }
}

/// Ends the wait of a command that has all it needs, or of one that never will.
fn go_on(waiter: &Waiter, left: &AtomicUsize, failure: Option<&Error>) {
    let is_last = left.fetch_sub(1, AcqRel) == 1;
    match failure {
        Some(error) if waiter.end() => {
            let mut reply = Reply::new(waiter.protocol);
            reply.error(&error.0);
            waiter.mailbox.serve(reply.take(), 0);
        }
        None if is_last && waiter.end() => waiter.mailbox.end(Ended::Again),
        _ => {}
    }
}

/// Where a value is missing, in its database; None where something else is there by now.
fn find(database: &Database, missing: &Missing) -> Option<u32> {
    let at = database.keys.find(dict::hash(&missing.key) as u32, &missing.key)?;
    let entry = database.keys.at(at);
    let is_same = matches!(entry.value, Value::OnDisk(kind) if kind == missing.kind) && entry.changed == missing.changed;
    is_same.then_some(at)
}

fn is_dropped(home: &dyn Home, missing: &Missing) -> bool {
    let mut is_dropped = false;
    home.with_database(missing, &mut |database| is_dropped = find(database, missing).is_some());
    is_dropped
}

/// Puts a value back where it was dropped, unless something else is there by now.
fn install(home: &dyn Home, missing: &Missing, value: Value) {
    let mut value = Some(value);
    home.with_database(missing, &mut |database| {
        let (Some(at), Some(value)) = (find(database, missing), value.take()) else { return };
        database.keys.at_mut(at).value = value;
        database.note_field_expiry(at);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::keys::Expiry;
    use crate::engine::mailbox::Mailbox;
    use crate::engine::types::string::Str;
    use crate::engine::{Engine, Scope};
    use crate::resp::{OwnedArgs, Protocol};

    /// Notes what it is asked for until that is `last`, when it ends the readers.
    struct Notes<'a> {
        loads: &'a Loads,
        read: Mutex<Vec<String>>,
        last: &'a str,
        gone: Option<(&'a str, Arc<Waiter>)>,
    }

    impl Backing for Notes<'_> {
        fn load(&self, missing: &Missing) -> Result<Value, Error> {
            let key = String::from_utf8_lossy(&missing.key).into_owned();
            if let Some((at, waiter)) = &self.gone
                && *at == key
            {
                waiter.end();
            }
            if key == self.last {
                self.loads.stop();
            }
            self.read.lock().push(key);
            Ok(Value::String(Str::from(&b"value"[..])))
        }
    }

    /// Drops a value, and tells what is missing then.
    fn missing(engine: &Engine, key: &str) -> Missing {
        let key = key.as_bytes();
        engine.write(0, 0, Scope::Keys(&[key]), |view| view.put_string(key, b"value", Expiry::Never));
        engine.with_shard_of(key, |shard| {
            let at = shard.databases[0].keys.find(dict::hash(key) as u32, key).expect("it was put there");
            shard.databases[0].keys.at_mut(at).value = Value::OnDisk(Kind::String);
        });
        let missing = engine.read(0, 0, Scope::Keys(&[key]), |view| {
            view.lacks([key].into_iter());
            view.take_missing()
        });
        missing.into_iter().next().expect("it was dropped")
    }

    /// Has the values of several clients read, each named by a letter and a number, by one reader; in which order it read them.
    fn read(wanted: &[(char, usize)], last: &str, gone: Option<(char, &str)>) -> Vec<String> {
        let engine = Engine::new(false);
        let mut notes = Notes { loads: engine.loads(), read: Mutex::default(), last, gone: None };
        for (client, count) in wanted {
            let waiter = Waiter::new(OwnedArgs::default(), 0, Protocol::Resp2, Arc::<Mailbox>::default());
            let waiter = Arc::new(waiter);
            if let Some((_, at)) = gone.filter(|(who, _)| who == client) {
                notes.gone = Some((at, Arc::clone(&waiter)));
            }
            let keys = (0..*count).map(|number| missing(&engine, &format!("{client}{number}"))).collect();
            engine.loads().fetch(keys, &waiter);
        }
        engine.loads().run(&engine, &notes);
        notes.read.into_inner()
    }

    #[test]
    fn who_wants_many_values_takes_turns_with_who_wants_few() {
        assert_eq!(read(&[('a', 4), ('b', 1), ('c', 2)], "a3", None), ["a0", "b0", "c0", "a1", "c1", "a2", "a3"]);
    }

    #[test]
    fn values_stay_for_as_long_as_someone_keeps_them_and_no_others_do() {
        let engine = Arc::new(Engine::new(false));
        let place = |key: &str| (0, Blob::from(key.as_bytes()));
        let kept = || ["a", "b", "c"].map(|key| engine.loads().is_pinned(0, &place(key).1));
        let (mut one, mut other) = (Pin::new(engine.loads()), Pin::new(engine.loads()));
        one.keep(vec![place("a"), place("b"), place("a")]);
        other.keep(vec![place("b")]);
        assert_eq!(kept(), [true, true, false]);
        drop(one);
        assert_eq!(kept(), [false, true, false]);
        assert!(!engine.loads().is_pinned(1, &place("b").1));
        drop(other);
        assert_eq!(kept(), [false; 3]);
    }

    /// Cannot read anything, and ends the readers at the key `end`.
    struct Broken<'a>(&'a Loads);

    impl Backing for Broken<'_> {
        fn load(&self, missing: &Missing) -> Result<Value, Error> {
            if *missing.key == *b"end" {
                self.0.stop();
            }
            Err(error::DISK_READ)
        }
    }

    #[test]
    fn who_waits_at_a_key_whose_value_cannot_be_read_is_not_served_again_and_again() {
        static SERVED: AtomicUsize = AtomicUsize::new(0);
        let engine = Engine::new(false);
        // Serving it would want the value again.
        engine.set_serving(Box::new(|_, _| {
            SERVED.fetch_add(1, Relaxed);
        }));
        for key in ["list", "end"] {
            let wanted = missing(&engine, key);
            let place = wanted.place();
            engine.loads().fetch_to_serve(vec![wanted], &place);
        }
        engine.loads().run(&engine, &Broken(engine.loads()));
        assert_eq!(SERVED.load(Relaxed), 0);
    }

    #[test]
    fn nothing_more_is_read_for_a_client_that_is_gone() {
        assert_eq!(read(&[('a', 1000), ('b', 1), ('c', 1)], "c0", Some(('a', "a0"))), ["a0", "b0", "c0"]);
    }
}
