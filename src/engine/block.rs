//! Clients that wait for keys, in the order they came.
//!
//! A command that finds nothing is put in the queue of each of its keys while their shards are still locked, so no push
//! can slip by. Whoever changes such a key runs the waiting commands again, first come first served, once its own locks
//! are released (see `commands::session`).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool,
    Ordering::{AcqRel, Acquire},
};

use crate::engine::blob::Blob;
use crate::engine::mailbox::Mailbox;
use crate::resp::{OwnedArgs, Protocol};

/// A command that waits.
pub struct Waiter {
    /// The command as it is run again.
    pub args: OwnedArgs,
    /// The client's database.
    pub db: u8,
    /// The protocol its answer is written in.
    pub protocol: Protocol,
    /// Where its answer goes.
    pub mailbox: Arc<Mailbox>,
    /// The keys it waits for, in the order it named them.
    pub keys: Vec<Blob>,
    is_over: AtomicBool,
}

impl Waiter {
    /// A command that waits from now on, once it is queued.
    pub fn new(args: OwnedArgs, db: u8, protocol: Protocol, mailbox: Arc<Mailbox>, keys: Vec<Blob>) -> Waiter {
        Waiter { args, db, protocol, mailbox, keys, is_over: AtomicBool::new(false) }
    }

    /// Ends the wait; true for the one caller who did, who now owes the client an answer.
    pub fn end(&self) -> bool {
        !self.is_over.swap(true, AcqRel)
    }

    /// Whether it was answered or gave up.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Acquire)
    }
}

/// A key by its database's stored number.
pub type Place = (u8, Blob);

/// Who waits for which keys of a shard, and which of those keys changed since last asked.
#[derive(Default)]
pub struct Waiters {
    queues: HashMap<Place, VecDeque<Arc<Waiter>>, foldhash::fast::RandomState>,
    touched: Vec<Place>,
}

impl Waiters {
    /// Whether nobody waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Notes that a key changed, if someone waits for it.
    pub fn touch(&mut self, db: u8, key: &[u8]) {
        let place = (db, Blob::from(key));
        if self.queues.contains_key(&place) && !self.touched.contains(&place) {
            self.touched.push(place);
        }
    }

    /// Notes that every key of a database may have changed.
    pub fn touch_database(&mut self, db: u8) {
        let places: Vec<Place> = self.queues.keys().filter(|(waited, _)| *waited == db).cloned().collect();
        places.into_iter().for_each(|(db, key)| self.touch(db, &key));
    }

    /// Moves queues to the stored numbers their clients' databases have now.
    pub(crate) fn swap(&mut self, other: impl Fn(u8) -> u8) {
        self.queues = std::mem::take(&mut self.queues).into_iter().map(|((db, key), queue)| ((other(db), key), queue)).collect();
    }

    /// Takes the keys that changed.
    pub fn take_touched(&mut self) -> Vec<Place> {
        std::mem::take(&mut self.touched)
    }

    /// Puts a command at the end of a key's queue.
    pub fn queue(&mut self, place: Place, waiter: &Arc<Waiter>) {
        let queue = self.queues.entry(place).or_default();
        if !queue.iter().any(|other| Arc::ptr_eq(other, waiter)) {
            queue.push_back(Arc::clone(waiter));
        }
    }

    /// Those who wait for a key, first come first.
    pub fn queued(&self, place: &Place) -> Vec<Arc<Waiter>> {
        self.queues.get(place).map_or_else(Vec::new, |queue| queue.iter().cloned().collect())
    }

    /// Takes a command out of a key's queue.
    pub fn leave(&mut self, place: &Place, waiter: &Arc<Waiter>) {
        if let Some(queue) = self.queues.get_mut(place) {
            queue.retain(|other| !Arc::ptr_eq(other, waiter));
            if queue.is_empty() {
                self.queues.remove(place);
            }
        }
    }
}
