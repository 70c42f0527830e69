//! What stands in for `std`, `parking_lot` and `atomic_waker` where every order of threads is tried: the same names, on loom. And
//! for `tokio`, whose `select!` draws what it looks at first, which no order could be repeated with.
#![allow(ambiguous_glob_reexports, reason = "what loom has stands in the place of what std has under the same name")]

pub use ::std::*;

pub mod sync {
    pub use ::std::sync::*;
    pub use ::tokio::sync::{Semaphore, watch};
    pub mod atomic {
        pub use loom::sync::atomic::*;
    }
}

pub mod task {
    pub use ::std::task::*;
    pub use ::tokio::task::yield_now;
}

#[doc(hidden)]
pub use ::tokio as real_tokio;

/// As of `tokio`, in the order in which they are written.
#[macro_export]
macro_rules! select {
    ($($branches:tt)*) => { $crate::real_tokio::select! { biased; $($branches)* } };
}

pub use loom::sync::MutexGuard;

/// As of `parking_lot`.
#[derive(Default)]
pub struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    /// See there.
    pub fn new(value: T) -> Mutex<T> {
        Mutex(loom::sync::Mutex::new(value))
    }

    /// See there.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap()
    }
}

/// As of `atomic_waker`.
#[derive(Default)]
pub struct AtomicWaker(loom::future::AtomicWaker);

impl AtomicWaker {
    /// See there.
    pub fn register(&self, waker: &::std::task::Waker) {
        self.0.register_by_ref(waker);
    }

    /// See there.
    pub fn wake(&self) {
        self.0.wake();
    }
}
