//! Client-side caching (`CLIENT TRACKING`): which clients may hold a copy of which keys, and how they are told that one changed.
//!
//! Each shard notes, under its lock, who read which of its keys ([`Tracked`]). Whoever changes a key while holding the lock takes the key off
//! that list into `invalid`; once its command is over and the locks are released it tells the clients ([`Tracking::tell`]), before its own
//! reply goes out. So a copy is never older than the reply of a write that its reader has seen, and a client's messages come in the order
//! of what happened. As in Redis, copies go by the key's name alone, whatever the database.
//!
//! The list is a cache: with more than `tracking-table-max-keys` keys one is forgotten, and those who read it are told that it changed.
//! Clients that listen to prefixes (`BCAST`) stand in no list; they are found by the beginnings of the key that changed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};

use parking_lot::RwLock;
use smallvec::SmallVec;

use crate::engine::blob::Blob;
use crate::engine::dict::{self, Dict, Link};
use crate::engine::mailbox::Mailbox;
use crate::id;
use crate::resp::{Protocol, Reply};

/// The channel on which a client of RESP2 gets what another one is to be told.
const CHANNEL: &[u8] = b"__redis__:invalidate";
/// Of a key that so many clients read, those are dropped that are gone before there are twice as many.
const PRUNED_READERS_MIN: usize = 16;

/// A client that is told of changes.
pub struct Tracker {
    /// The client's number.
    pub(crate) id: u64,
    /// Where it is told.
    pub(crate) mailbox: Arc<Mailbox>,
    /// The client that is told instead: its number and its mailbox.
    pub(crate) redirect: Option<(u64, Arc<Mailbox>)>,
    /// Whether it is spared its own changes (`NOLOOP`).
    pub(crate) skips_own: bool,
    /// Whether it listens to prefixes (`BCAST`), and is told of no single key that it read.
    pub(crate) is_broadcast: bool,
    /// The prefixes it listens to.
    pub(crate) prefixes: BTreeSet<Blob>,
    /// Whether the client that was to be told instead was found gone.
    pub(crate) is_broken: AtomicBool,
}

impl Tracker {
    /// Tells it that keys changed; None for all.
    fn tell(&self, keys: Option<&[&[u8]]>) {
        let Some((id, target)) = &self.redirect else {
            if self.mailbox.protocol() == Protocol::Resp3 {
                self.mailbox.send(&invalidation(keys));
            }
            return;
        };
        if target.is_gone() {
            self.is_broken.store(true, Relaxed);
            if self.mailbox.protocol() == Protocol::Resp3 {
                let mut push = Reply::new(Protocol::Resp3);
                push.push(2);
                push.bulk(b"tracking-redir-broken");
                push.int(*id as i64);
                self.mailbox.send(&push.bytes());
            }
        } else if target.protocol() == Protocol::Resp3 {
            target.send(&invalidation(keys));
        } else if target.listens() {
            let mut message = Reply::new(Protocol::Resp2);
            message.array(3);
            message.bulk(b"message");
            message.bulk(CHANNEL);
            write_keys(&mut message, keys);
            target.send(&message.bytes());
        }
    }

    /// Whether whoever is told instead is gone.
    pub(crate) fn has_broken_redirect(&self) -> bool {
        self.redirect.as_ref().is_some_and(|(_, target)| target.is_gone())
    }
}

fn invalidation(keys: Option<&[&[u8]]>) -> Vec<u8> {
    let mut push = Reply::new(Protocol::Resp3);
    push.push(2);
    push.bulk(b"invalidate");
    write_keys(&mut push, keys);
    push.take()
}

fn write_keys(reply: &mut Reply, keys: Option<&[&[u8]]>) {
    let Some(keys) = keys else { return reply.null() };
    reply.array(keys.len());
    keys.iter().for_each(|key| reply.bulk(key));
}

/// A key that changed, or all of them.
pub(crate) struct Invalid {
    /// Where it stands in the order of what happened.
    pub(crate) at: u64,
    /// None for all.
    key: Option<Blob>,
    /// The numbers of the clients that read it.
    readers: Readers,
    /// Whether the client whose command this was changed it, and no clock or bound.
    is_authored: bool,
    /// Whether it changed, so that those who listen to prefixes are told; otherwise it was only forgotten who read it.
    is_changed: bool,
}

type Readers = SmallVec<[u64; 2]>;

/// A key, and who read it: ascending numbers of clients.
struct ReadKey {
    key: Blob,
    link: Link,
    readers: Readers,
}

impl dict::Entry for ReadKey {
    fn key(&self) -> &[u8] {
        &self.key
    }

    fn link(&self) -> Link {
        self.link
    }

    fn link_mut(&mut self) -> &mut Link {
        &mut self.link
    }
}

/// A shard's share of what clients have read.
pub(crate) struct Tracked {
    shared: Arc<Tracking>,
    keys: Dict<ReadKey>,
    invalid: Vec<Invalid>,
}

impl Tracked {
    pub(crate) fn new(shared: &Arc<Tracking>) -> Tracked {
        Tracked { shared: Arc::clone(shared), keys: Dict::default(), invalid: Vec::new() }
    }

    /// A key changed.
    #[inline]
    pub(crate) fn changed(&mut self, key: &[u8], is_authored: bool) {
        if self.shared.is_on.load(Relaxed) {
            self.note_changed(key, is_authored);
        }
    }

    #[cold]
    fn note_changed(&mut self, key: &[u8], is_authored: bool) {
        let readers = match self.keys.find(dict::hash(key) as u32, key) {
            Some(at) => self.forget(at).readers,
            None if self.shared.broadcasts.load(Relaxed) == 0 => return,
            None => Readers::new(),
        };
        self.invalid.push(Invalid { at: self.shared.next(), key: Some(Blob::from(key)), readers, is_authored, is_changed: true });
    }

    /// All keys of a database are gone: whoever read any is told once, by [`Self::all_changed`], and nothing is known any more of what was read.
    pub(crate) fn clear(&mut self) {
        if self.keys.is_empty() {
            return;
        }
        let readers: usize = self.keys.iter().map(|read| read.readers.len()).sum();
        self.shared.total_readers.fetch_sub(readers as u64, Relaxed);
        self.shared.total_keys.fetch_sub(self.keys.len() as u64, Relaxed);
        self.keys = Dict::default();
    }

    /// All keys of all shards may have changed. To be told of one shard.
    pub(crate) fn all_changed(&mut self) {
        if self.shared.is_on.load(Relaxed) {
            self.invalid.push(Invalid {
                at: self.shared.next(),
                key: None,
                readers: Readers::new(),
                is_authored: true,
                is_changed: true,
            });
        }
    }

    fn forget(&mut self, at: u32) -> ReadKey {
        let (read, _) = self.keys.remove(at);
        self.shared.total_keys.fetch_sub(1, Relaxed);
        self.shared.total_readers.fetch_sub(read.readers.len() as u64, Relaxed);
        read
    }

    /// A client read a key.
    pub(crate) fn read(&mut self, hash: u64, key: &[u8], client: u64) {
        let Some(at) = self.keys.find(hash as u32, key) else {
            let read = ReadKey { key: Blob::from(key), link: Link::default(), readers: SmallVec::from_slice(&[client]) };
            self.keys.insert_new(hash as u32, read);
            self.shared.total_readers.fetch_add(1, Relaxed);
            if self.shared.total_keys.fetch_add(1, Relaxed) >= self.shared.keys_max() {
                self.forget_one();
            }
            return;
        };
        let readers = &mut self.keys.at_mut(at).readers;
        let Err(place) = readers.binary_search(&client) else { return };
        readers.insert(place, client);
        let mut total = 1i64;
        // A key that never changes would otherwise keep the numbers of all who ever came.
        if readers.len() >= PRUNED_READERS_MIN && readers.len().is_power_of_two() {
            let before = readers.len();
            let clients = self.shared.clients.read();
            readers.retain(|reader| clients.contains_key(reader));
            total -= (before - readers.len()) as i64;
        }
        // Wraps where it is negative.
        self.shared.total_readers.fetch_add(total as u64, Relaxed);
    }

    /// Forgets who read some keys while there are more than may be, and has them told.
    pub(crate) fn shrink(&mut self, count_max: usize) {
        for _ in 0..count_max.min(self.keys.len()) {
            if self.shared.is_full() {
                self.forget_one();
            }
        }
    }

    /// Forgets who read a random key, and has them told.
    fn forget_one(&mut self) {
        let at = id::random_below(self.keys.len()) as u32;
        let read = self.forget(at);
        self.invalid.push(Invalid {
            at: self.shared.next(),
            key: Some(read.key),
            readers: read.readers,
            is_authored: false,
            is_changed: false,
        });
    }

    pub(crate) fn take_invalid(&mut self, to: &mut Vec<Invalid>) {
        if !self.invalid.is_empty() {
            to.append(&mut self.invalid);
        }
    }
}

/// What all shards share. See the file's head.
#[derive(Default)]
pub(crate) struct Tracking {
    /// Whether any client is told of changes.
    is_on: AtomicBool,
    /// How many of them listen to prefixes.
    broadcasts: AtomicU64,
    total_keys: AtomicU64,
    /// The number of the next change.
    last: AtomicU64,
    total_readers: AtomicU64,
    /// 0 for no bound.
    keys_max: AtomicU64,
    clients: RwLock<HashMap<u64, Arc<Tracker>, foldhash::fast::RandomState>>,
    prefixes: RwLock<Prefixes>,
}

#[derive(Default)]
struct Prefixes {
    listeners: HashMap<Blob, BTreeMap<u64, Arc<Tracker>>, foldhash::fast::RandomState>,
    /// How many of them have each length: a key is looked up once for each.
    lengths: BTreeMap<usize, usize>,
}

impl Prefixes {
    fn join(&mut self, prefix: &Blob, tracker: &Arc<Tracker>) {
        let lengths = &mut self.lengths;
        let listeners = self.listeners.entry(prefix.clone()).or_insert_with(|| {
            *lengths.entry(prefix.len()).or_default() += 1;
            BTreeMap::new()
        });
        listeners.insert(tracker.id, Arc::clone(tracker));
    }

    fn leave(&mut self, prefix: &Blob, id: u64) {
        let Some(listeners) = self.listeners.get_mut(prefix) else { return };
        listeners.remove(&id);
        if !listeners.is_empty() {
            return;
        }
        self.listeners.remove(prefix);
        if let Some(count) = self.lengths.get_mut(&prefix.len()) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&prefix.len());
            }
        }
    }

    fn of<'k>(&self, key: &'k [u8]) -> impl Iterator<Item = &'k [u8]> {
        let lengths = self.lengths.range(..=key.len()).map(|(length, _)| &key[..*length]);
        lengths.filter(|prefix| self.listeners.contains_key(*prefix))
    }
}

impl Tracking {
    /// Tells this client from now on, instead of what it was told before.
    pub(crate) fn start(&self, tracker: Arc<Tracker>) {
        let mut clients = self.clients.write();
        let mut prefixes = self.prefixes.write();
        tracker.prefixes.iter().for_each(|prefix| prefixes.join(prefix, &tracker));
        self.broadcasts.fetch_add(u64::from(tracker.is_broadcast), SeqCst);
        if let Some(before) = clients.insert(tracker.id, tracker) {
            self.broadcasts.fetch_sub(u64::from(before.is_broadcast), SeqCst);
        }
        self.is_on.store(true, SeqCst);
    }

    /// Tells this client no more.
    pub(crate) fn stop(&self, id: u64) {
        let mut clients = self.clients.write();
        let Some(tracker) = clients.remove(&id) else { return };
        let mut prefixes = self.prefixes.write();
        tracker.prefixes.iter().for_each(|prefix| prefixes.leave(prefix, id));
        self.broadcasts.fetch_sub(u64::from(tracker.is_broadcast), SeqCst);
        self.is_on.store(!clients.is_empty(), SeqCst);
    }

    /// Tells those concerned, in the order in which the keys changed. `author`: the client whose command changed them. No lock of a shard
    /// may be held.
    pub(crate) fn tell(&self, invalid: &[Invalid], author: Option<u64>) {
        if invalid.is_empty() {
            return;
        }
        let mut are_all_told = false;
        for one in invalid {
            let author = author.filter(|_| one.is_authored);
            match &one.key {
                Some(key) => self.tell_readers(&one.readers, key, author),
                // FLUSHALL empties one database after another, and is told once.
                None if std::mem::replace(&mut are_all_told, true) => {}
                None => self.clients.read().values().for_each(|tracker| tracker.tell(None)),
            }
        }
        if self.broadcasts.load(Relaxed) > 0 {
            self.tell_listeners(invalid, author);
        }
    }

    fn tell_readers(&self, readers: &[u64], key: &[u8], author: Option<u64>) {
        let clients = self.clients.read();
        let trackers = readers.iter().filter_map(|reader| clients.get(reader));
        for tracker in trackers.filter(|tracker| !(tracker.is_broadcast || tracker.skips_own && author == Some(tracker.id))) {
            tracker.tell(Some(&[key]));
        }
    }

    /// Each prefix' listeners get one message of all keys that begin so, in order.
    fn tell_listeners(&self, invalid: &[Invalid], author: Option<u64>) {
        let prefixes = self.prefixes.read();
        // For each prefix the keys, and whether someone else than the author changed them.
        let mut told: BTreeMap<&[u8], BTreeMap<&[u8], bool>> = BTreeMap::new();
        for one in invalid.iter().filter(|one| one.is_changed) {
            let Some(key) = &one.key else { continue };
            for prefix in prefixes.of(key) {
                *told.entry(prefix).or_default().entry(key).or_default() |= !one.is_authored;
            }
        }
        for (prefix, keys) in told {
            let all: Vec<&[u8]> = keys.keys().copied().collect();
            for tracker in prefixes.listeners[prefix].values() {
                if !tracker.skips_own || author != Some(tracker.id) {
                    tracker.tell(Some(&all));
                    continue;
                }
                let of_others: Vec<&[u8]> = keys.iter().filter(|(_, is_others)| **is_others).map(|(key, _)| *key).collect();
                if !of_others.is_empty() {
                    tracker.tell(Some(&of_others));
                }
            }
        }
    }

    fn keys_max(&self) -> u64 {
        match self.keys_max.load(Relaxed) {
            0 => u64::MAX,
            max => max,
        }
    }

    /// Whether more keys are remembered than may be.
    pub(crate) fn is_full(&self) -> bool {
        self.key_count() > self.keys_max()
    }

    /// How many keys are remembered at most; 0 for no bound.
    pub(crate) fn set_keys_max(&self, max: u64) {
        self.keys_max.store(max, Relaxed);
    }

    /// How many clients are told of changes.
    pub(crate) fn client_count(&self) -> usize {
        self.clients.read().len()
    }

    /// How many keys are remembered as read.
    pub(crate) fn key_count(&self) -> u64 {
        self.total_keys.load(Relaxed)
    }

    /// How many clients are remembered for these keys, summed up.
    pub(crate) fn reader_count(&self) -> u64 {
        self.total_readers.load(Relaxed)
    }

    /// Only changes that someone is to be told of are numbered, so threads seldom meet here.
    fn next(&self) -> u64 {
        self.last.fetch_add(1, Relaxed)
    }

    /// How many prefixes are listened to.
    pub(crate) fn prefix_count(&self) -> usize {
        self.prefixes.read().listeners.len()
    }
}
