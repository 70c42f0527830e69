//! Futures that a thread waits for by itself, without a runtime.

use std::cell::Cell;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::clock;

thread_local! {
    /// When the future that this thread waits for is to be polled again, though nobody woke it.
    static WAKE_AT: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Has the future that is polled now polled again at this time, on the monotonic clock.
pub(super) fn wake_at(at: u64) {
    WAKE_AT.set(Some(WAKE_AT.get().map_or(at, |before| before.min(at))));
}

/// Wakes a thread that waits for a future.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future on this thread, which may well be one of a runtime that it then holds up.
pub(super) fn wait_for<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        WAKE_AT.set(None);
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        match WAKE_AT.get() {
            Some(at) => thread::park_timeout(Duration::from_millis(at.saturating_sub(clock::monotonic_ms()))),
            None => thread::park(),
        }
    }
}
