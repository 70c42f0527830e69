//! Log lines that strangers can cause as often as they like: written now and then, with how often it happened meanwhile.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Between two lines of a kind. Redis writes of what it takes for an attack once a minute too.
const EVERY_MS: u64 = 60_000;

/// When a kind of line may be written again.
#[derive(Debug, Default)]
pub(crate) struct Seldom {
    next_at: AtomicU64,
    unsaid: AtomicU64,
}

impl Seldom {
    /// One that has said nothing yet.
    pub(crate) const fn new() -> Seldom {
        Seldom { next_at: AtomicU64::new(0), unsaid: AtomicU64::new(0) }
    }

    /// It happened, at this time of the monotonic clock. If it is time to say so: how often it happened since the last time, unsaid.
    pub(crate) fn say(&self, now_ms: u64) -> Option<u64> {
        let next = self.next_at.load(Relaxed);
        // Of several threads that come at once, one says it.
        if now_ms < next || self.next_at.compare_exchange(next, now_ms + EVERY_MS, Relaxed, Relaxed).is_err() {
            self.unsaid.fetch_add(1, Relaxed);
            return None;
        }
        Some(self.unsaid.swap(0, Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_times_in_a_minute_make_one_line_and_the_next_one_counts_them() {
        let seldom = Seldom::new();
        assert_eq!(seldom.say(5), Some(0));
        for now in 6..1005 {
            assert_eq!(seldom.say(now), None);
        }
        assert_eq!(seldom.say(5 + EVERY_MS), Some(999));
        assert_eq!(seldom.say(5 + 2 * EVERY_MS), Some(0));
    }
}
