//! Waiting at keys and watching them, under the locks of a view: who stands in their queues, and which of them were touched.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::engine::blob::Blob;
use crate::engine::block::{AtKey, Place, Waiter, Want};
use crate::engine::crowd::give_room_back;
use crate::engine::dict;
use crate::engine::keys::read::Read;
use crate::engine::keys::wait::{KeyWait, Waiting};
use crate::engine::shard_of;
use crate::engine::tracking::Invalid;
use crate::engine::types::stream::id::Id;
use crate::resp::OwnedArgs;

impl Read<'_> {
    /// Waits until one of these keys may hold what is wanted, when the command is run again for that key, or for `timeout_ms` (None or 0
    /// for ever), when it is run a last time ([`Self::is_over`]) and answers that nothing came. On true, return without an answer. False
    /// means: answer now that nothing is there. Every key must be one that the command's row names. `at_key` makes the command for one key;
    /// it is asked only where there are several.
    pub(crate) fn wait_for(
        &mut self,
        want: Want,
        keys: &[&[u8]],
        timeout_ms: Option<u64>,
        at_key: impl FnOnce() -> AtKey,
    ) -> bool {
        self.wait(KeyWait { want, keys: Vec::new(), timeout_ms, args: None, at_key: None, above: Vec::new() }, keys, at_key)
    }

    /// The same for entries of streams above these ids, one for each key. Other arguments are run again, with ids in place of `$`.
    pub(crate) fn wait_for_entries(
        &mut self,
        keys: &[&[u8]],
        timeout_ms: Option<u64>,
        above: &[Id],
        args: OwnedArgs,
        at_key: impl FnOnce() -> AtKey,
    ) -> bool {
        let (want, above) = (Want::Entries, above.to_vec());
        self.wait(KeyWait { want, keys: Vec::new(), timeout_ms, args: Some(args), at_key: None, above }, keys, at_key)
    }

    /// Whether this command has waited and is run again, because one of its keys was touched or its time is over.
    pub(crate) fn is_retry(&self) -> bool {
        matches!(self.waiting, Waiting::Again | Waiting::Over)
    }

    /// Whether this command has waited and its time is over: it answers that nothing came, without looking.
    pub(crate) fn is_over(&self) -> bool {
        self.waiting == Waiting::Over
    }

    fn wait(&mut self, mut wait: KeyWait, keys: &[&[u8]], at_key: impl FnOnce() -> AtKey) -> bool {
        match self.waiting {
            Waiting::Never | Waiting::Over => return false,
            // It is in its queues, and stays there.
            Waiting::Again => {}
            Waiting::Allowed => {
                wait.timeout_ms = wait.timeout_ms.filter(|ms| *ms > 0);
                wait.keys = keys.iter().map(|key| Blob::from(*key)).collect();
                wait.at_key = (keys.len() > 1).then(at_key);
            }
        }
        self.block = Some(wait);
        true
    }

    /// Queues a waiter for the keys it names, which this view holds.
    pub(crate) fn queue(&mut self, waiter: &Arc<Waiter>) {
        let db = self.stored_db;
        for (number, key) in waiter.keys.iter().enumerate() {
            self.held.get(shard_of(dict::hash(key))).log.waiters.join(db, waiter, number);
        }
    }

    /// Takes the keys someone waits for that were touched in the held shards, in the order they were.
    pub(crate) fn take_touched(&mut self) -> Vec<Place> {
        let mut places = Vec::new();
        self.held.each_mut(|shard| {
            if !shard.log.waiters.is_empty() {
                places.append(&mut shard.log.waiters.take_touched_in_order());
            }
        });
        places.sort_unstable_by_key(|(order, _)| *order);
        places.into_iter().map(|(_, place)| place).collect()
    }

    /// Sets this flag when the key changes from now on (`WATCH`).
    pub(crate) fn watch(&mut self, key: &[u8], flag: &Arc<AtomicBool>) {
        let place = (self.stored_db, Blob::from(key));
        self.held.get(shard_of(dict::hash(key))).log.watched.entry(place).or_default().join(flag);
    }

    /// Undoes [`Self::watch`].
    pub(crate) fn unwatch(&mut self, place: &Place, flag: &Arc<AtomicBool>) {
        let watched = &mut self.held.get(shard_of(dict::hash(&place.1))).log.watched;
        if let Some(flags) = watched.get_mut(place) {
            flags.leave(flag);
            if flags.is_empty() {
                watched.remove(place);
                give_room_back(watched);
            }
        }
    }
}

impl Read<'_> {
    /// Notes that a client read a key of this view.
    pub(crate) fn track(&mut self, key: &[u8], client: u64) {
        let hash = dict::hash(key);
        self.held.get(shard_of(hash)).log.tracked.read(hash, key, client);
    }

    /// Takes the keys that changed in the held shards and of which clients may hold copies.
    pub(crate) fn take_invalid(&mut self) -> Vec<Invalid> {
        let mut invalid = Vec::new();
        self.held.each_mut(|shard| shard.log.tracked.take_invalid(&mut invalid));
        // They come shard by shard.
        invalid.sort_unstable_by_key(|invalid| invalid.at);
        invalid
    }
}
