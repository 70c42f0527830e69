//! How far a folder is loaded, for those who look on meanwhile.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64};
use std::thread;
use std::time::Duration;

use crate::clock;

/// How far a folder is loaded. One that nothing is loaded for stays as it is made.
#[derive(Debug, Default)]
pub struct Progress {
    state: AtomicU8,
    began_at: AtomicU64,
    began_ms: AtomicU64,
    total_bytes: AtomicU64,
    loaded_bytes: AtomicU64,
    key_delay: AtomicI64,
}

/// Nothing is being loaded.
const OFF: u8 = 0;
/// It goes on.
const ON: u8 = 1;
/// It is never over: the process ends instead.
const GIVEN_UP: u8 = 2;

/// A look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    /// When it began, in seconds since the epoch.
    pub began_at: u64,
    /// For how long it has lasted, in milliseconds.
    pub took_ms: u64,
    /// Bytes of the tables' file and of the journal. Room in the file that nothing uses counts, too, so the end may come before these are loaded.
    pub total_bytes: u64,
    /// Bytes of rows and batches that were loaded.
    pub loaded_bytes: u64,
}

impl Look {
    /// How much of it is done, of a hundred.
    pub(crate) fn percent(&self) -> f64 {
        100.0 * self.loaded_bytes as f64 / self.total_bytes.max(1) as f64
    }

    /// Seconds until the end, if it goes on as it went. As Redis, it says 1 where there is nothing to go by yet.
    pub(crate) fn left_s(&self) -> u64 {
        if self.took_ms < 1000 {
            return 1;
        }
        let left = u128::from(self.total_bytes - self.loaded_bytes) * u128::from(self.took_ms) / 1000;
        (left / u128::from(self.loaded_bytes + 1)) as u64
    }
}

impl Progress {
    /// Loading begins: whoever asks before this is not told that it goes on.
    pub fn begin(&self) {
        self.began_at.store(clock::now_ms() / 1000, Relaxed);
        self.began_ms.store(clock::monotonic_ms(), Relaxed);
        self.state.store(ON, Release);
    }

    /// All is there.
    pub(crate) fn end(&self) {
        let _ = self.state.compare_exchange(ON, OFF, AcqRel, Acquire);
    }

    /// Has it never be over, so that nobody changes anything before the process ends; false where it is over already.
    pub(crate) fn give_up(&self) -> bool {
        self.state.compare_exchange(ON, GIVEN_UP, AcqRel, Acquire).is_ok()
    }

    /// Whether it goes on.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.state.load(Acquire) != OFF
    }

    /// How far it is, while it goes on.
    pub(crate) fn look(&self) -> Option<Look> {
        let total_bytes = self.total_bytes.load(Relaxed);
        self.is_on().then(|| Look {
            began_at: self.began_at.load(Relaxed),
            took_ms: clock::monotonic_ms().saturating_sub(self.began_ms.load(Relaxed)),
            total_bytes,
            loaded_bytes: self.loaded_bytes.load(Relaxed).min(total_bytes),
        })
    }

    /// So many bytes are to be loaded in all.
    pub(super) fn expect(&self, bytes: u64) {
        self.total_bytes.store(bytes, Relaxed);
        self.loaded_bytes.store(0, Relaxed);
    }

    /// So many more are.
    pub(super) fn add(&self, bytes: u64) {
        self.loaded_bytes.fetch_add(bytes, Relaxed);
    }

    /// How long each key is made to take (`key-load-delay`): so many microseconds, or where it is negative, one for so many keys.
    pub(crate) fn set_key_delay(&self, delay: i64) {
        self.key_delay.store(delay, Relaxed);
    }

    /// Makes this key take as long as it is to.
    pub(super) fn linger(&self, number: u64) {
        let delay = self.key_delay.load(Relaxed);
        if delay == 0 || delay < 0 && !number.is_multiple_of(delay.unsigned_abs()) {
            return;
        }
        thread::sleep(Duration::from_micros(delay.max(1) as u64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_told_by_what_it_took_and_is_a_second_at_first() {
        let look = |took_ms, loaded_bytes| Look { began_at: 0, took_ms, total_bytes: 1000, loaded_bytes };
        assert_eq!(look(999, 10).left_s(), 1);
        assert_eq!(look(10_000, 249).left_s(), 30);
        assert_eq!(look(10_000, 1000).left_s(), 0);
        assert_eq!(look(10_000, 250).percent(), 25.0);
        assert_eq!(Look { total_bytes: 0, ..look(0, 0) }.percent(), 0.0);
    }

    #[test]
    fn what_was_given_up_is_never_over_and_what_is_over_cannot_be_given_up() {
        let progress = Progress::default();
        assert!(!progress.give_up());
        progress.begin();
        assert!(progress.give_up());
        progress.end();
        assert!(progress.is_on());
        progress.begin();
        progress.end();
        assert!(!progress.give_up() && !progress.is_on());
    }

    #[test]
    fn nobody_is_told_of_it_before_it_begins_and_after_it_ended() {
        let progress = Progress::default();
        assert_eq!(progress.look(), None);
        progress.begin();
        progress.expect(10);
        progress.add(100);
        assert_eq!(progress.look().map(|look| look.loaded_bytes), Some(10));
        progress.end();
        assert_eq!(progress.look(), None);
    }
}
