//! Whether a run that takes long has the keyspace to itself, though it holds no lock just now.
//!
//! A script holds all shards, as a transaction does. Where it takes longer than others should wait in a lock, it lends them (`engine::aside`):
//! it sets aside what it has recorded, shuts the keyspace, and lets the locks go; later it takes them again and goes on. Meanwhile locks are free,
//! so nothing that looks after the keyspace hangs: the journal is cut, and holds all of a run or nothing, since what was set aside is filed
//! under all locks at the end. Whoever would look at keys for a client, or change them, has to leave them alone: sessions ask first, and those that
//! already waited for a lock find the keyspace shut once they have it (`Engine::try_view`). What goes by itself (expiry, eviction) passes
//! over it.
//!
//! Only one run may do so at a time; whoever starts runs sees to that.

use std::cell::Cell;
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Relaxed, SeqCst},
};

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use crate::engine::block::Place;

thread_local! {
    /// Whether the run that shut a keyspace goes on only if this thread does.
    static CARRIES: Cell<bool> = const { Cell::new(false) };
}

/// Whether a keyspace is shut, and who waits for it.
#[derive(Default)]
pub(crate) struct Solo {
    is_shut: AtomicBool,
    /// Keys that were touched, at which clients wait who could not be served.
    postponed: Mutex<Vec<Place>>,
    opened: Condvar,
    told: Notify,
}

impl Solo {
    /// Whether a long run has the keyspace to itself. Certain only under a shard's lock.
    #[inline]
    pub(crate) fn is_shut(&self) -> bool {
        self.is_shut.load(Relaxed)
    }

    /// Whether the run that shut it goes on only if this thread does, which must not wait then.
    pub(crate) fn is_carried_here(&self) -> bool {
        CARRIES.get()
    }

    /// Waits until it is open.
    #[cold]
    pub(crate) fn wait(&self) {
        let mut postponed = self.postponed.lock();
        while self.is_shut() {
            self.opened.wait(&mut postponed);
        }
    }

    /// The same for tasks: these hold no thread and cost nothing meanwhile, however many there are.
    pub(crate) async fn opened(&self) {
        loop {
            // From here on it hears of an end.
            let told = self.told.notified();
            if !self.is_shut() {
                return;
            }
            told.await;
        }
    }

    /// Shuts it for a run that goes on only if this thread does. To be called under all locks, as [`Self::open`] is.
    pub(crate) fn shut(&self) {
        CARRIES.set(true);
        self.is_shut.store(true, SeqCst);
    }

    /// Has whoever opens it see to those who wait at a key; false if it is open.
    pub(crate) fn postpones(&self, place: &Place) -> bool {
        let mut postponed = self.postponed.lock();
        let is_shut = self.is_shut();
        if is_shut {
            postponed.push(place.clone());
        }
        is_shut
    }

    /// Opens it again, and tells at which keys there are clients to be served.
    pub(crate) fn open(&self) -> Vec<Place> {
        CARRIES.set(false);
        let mut postponed = self.postponed.lock();
        self.is_shut.store(false, SeqCst);
        self.opened.notify_all();
        self.told.notify_waiters();
        std::mem::take(&mut postponed)
    }
}
