//! How something hears that it is to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

/// Told once, heard by all clones. A body looks at it between two pieces of work, waits for it instead of sleeping, or awaits it.
#[derive(Clone, Default)]
pub struct Stop(Arc<Told>);

#[derive(Default)]
struct Told {
    is_asked: AtomicBool,
    lock: Mutex<()>,
    bell: Condvar,
    notify: Notify,
}

impl Stop {
    /// Whether it is to end.
    #[inline]
    pub fn is_asked(&self) -> bool {
        self.0.is_asked.load(SeqCst)
    }

    /// Sleeps for so long, or until it is to end, which is then true.
    pub fn wait_for(&self, time: Duration) -> bool {
        let mut lock = self.0.lock.lock();
        if !self.is_asked() {
            self.0.bell.wait_while_for(&mut lock, |()| !self.is_asked(), time);
        }
        self.is_asked()
    }

    /// Sleeps until it is to end.
    pub fn wait(&self) {
        let mut lock = self.0.lock.lock();
        self.0.bell.wait_while(&mut lock, |()| !self.is_asked());
    }

    /// The same for a task.
    pub async fn asked(&self) {
        let mut notified = std::pin::pin!(self.0.notify.notified());
        notified.as_mut().enable();
        if !self.is_asked() {
            notified.await;
        }
    }

    pub(super) fn ask(&self) {
        // Under the lock, so that the bell cannot ring between a sleeper's look and its sleep.
        let lock = self.0.lock.lock();
        self.0.is_asked.store(true, SeqCst);
        drop(lock);
        self.0.bell.notify_all();
        self.0.notify.notify_waiters();
    }
}
