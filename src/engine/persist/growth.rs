//! The journal's growth: where changes come faster than checkpoints take them over, replies to writes are held back, a
//! little at first and the more the nearer the journal comes to its bound. So all writers together are as fast as the disk
//! lets them be, evenly, and the journal stays within its bound. Where checkpoints fail, waiting does not help: nobody is held back,
//! and beyond the bound commands that change data are refused.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use crate::clock;
use crate::engine::persist::Inner;

/// Journal there may be for each byte of `checkpoint-bytes` or of the tables, in tenths: a little less than the double,
/// since what is on its way to the journal comes on top.
const BOUND: u64 = 18;
/// Nobody is held back in the first part of the way to the bound: a checkpoint mostly ends before.
const EASY: f64 = 0.2;
/// Bytes a second that all writers may write together in the middle of the way.
const MIDDLE_BYTES: f64 = 64e6;
/// However near the bound is: writers are slowed down, not stopped.
const LEAST_BYTES: f64 = 1e6;
/// The longest that a reply is held back.
const PAUSE_MAX_US: u64 = 500_000;
/// Timers are no finer than this; what is less is held back together with what comes next.
const PAUSE_MIN_US: u64 = 1000;

/// How writers are held back.
#[derive(Default)]
pub struct Growth {
    queue: Queue,
    /// How often replies were held back.
    pub(super) waits: AtomicU64,
    /// Whether the journal is at its bound and checkpoints fail.
    is_stuck: AtomicBool,
}

impl Growth {
    #[inline]
    pub(super) fn is_stuck(&self) -> bool {
        self.is_stuck.load(Relaxed)
    }
}

/// Notes whether the journal is at its bound and checkpoints fail. To be called where either may have come to be so, or to an end.
pub fn look(inner: &Inner) {
    let is_stuck = inner.checkpoints.has_failed.load(Relaxed) && inner.journal_bytes.load(Relaxed) >= bound(inner);
    if inner.growth.is_stuck.swap(is_stuck, Relaxed) == is_stuck {
        return;
    }
    match stuck_text(inner) {
        Some(text) => tracing::error!("{text}; commands that change data are refused until a checkpoint ends well"),
        None => tracing::info!("checkpoints work again, and commands that change data are taken"),
    }
}

/// Why nothing more may come into the journal, if that is so.
pub fn stuck_text(inner: &Inner) -> Option<String> {
    let cause = if inner.growth.is_stuck() { inner.checkpoints.error()? } else { return None };
    Some(format!("the journal has come to its bound of {} bytes, and no checkpoint can shorten it: {cause}", bound(inner)))
}

/// How long a reply to a client that wrote this much is held back, if it is.
pub fn pause(inner: &Inner, bytes: usize) -> Option<Duration> {
    let rate = rate(pressure(inner))?;
    let pause = inner.growth.queue.pause(bytes, rate, clock::monotonic_ms() * 1000)?;
    inner.growth.waits.fetch_add(1, Relaxed);
    Some(pause)
}

/// Whether replies to writes are held back now.
pub fn is_pressed(inner: &Inner) -> bool {
    rate(pressure(inner)).is_some()
}

/// Which part of the way the journal has gone from where a checkpoint is due to its bound.
fn pressure(inner: &Inner) -> f64 {
    // Waiting would not help.
    if inner.checkpoints.has_failed.load(Relaxed) {
        return 0.0;
    }
    let due = inner.due_bytes();
    let bound = bound(inner);
    let beyond = inner.journal_bytes.load(Relaxed).saturating_sub(due);
    beyond as f64 / bound.saturating_sub(due).max(1) as f64
}

/// Bytes that the journal may come to.
fn bound(inner: &Inner) -> u64 {
    inner.checkpoint_bytes.load(Relaxed).max(inner.checkpoints.tables_bytes.load(Relaxed)) / 10 * BOUND
}

/// Bytes a second that may be written; None where nobody is held back.
fn rate(pressure: f64) -> Option<f64> {
    (pressure > EASY).then(|| (MIDDLE_BYTES * (1.0 - pressure) / pressure).max(LEAST_BYTES))
}

/// Writers behind one another: each goes on when those before it have taken their time.
#[derive(Default)]
struct Queue {
    /// When the last one goes on, in microseconds of the monotonic clock.
    free_at_us: AtomicU64,
}

impl Queue {
    fn pause(&self, bytes: usize, rate: f64, now_us: u64) -> Option<Duration> {
        let takes_us = (bytes as f64 * 1e6 / rate) as u64;
        let end = |free_at_us: u64| (free_at_us.max(now_us) + takes_us).min(now_us + PAUSE_MAX_US);
        let before = self.free_at_us.fetch_update(Relaxed, Relaxed, |free_at_us| Some(end(free_at_us)));
        let pause_us = end(before.expect("it is always changed")) - now_us;
        (pause_us >= PAUSE_MIN_US).then(|| Duration::from_micros(pause_us))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearer_the_bound_the_less_may_be_written_and_never_nothing() {
        let rates: Vec<f64> = (0..=120).map(|percent| rate(f64::from(percent) / 100.0).unwrap_or(f64::INFINITY)).collect();
        assert!(rates.is_sorted_by(|before, after| before >= after));
        assert_eq!(rates[0], f64::INFINITY);
        assert!(rates[99] < 2e6 && rates[120] == LEAST_BYTES);
    }

    #[test]
    fn however_many_write_they_are_as_fast_together_as_the_rate_says() {
        let (queue, rate) = (Queue::default(), 1e6);
        // Ten write 10,000 bytes each, at once: the last goes on after a tenth of a second.
        let pauses: Vec<u64> = (0..10).map(|_| queue.pause(10_000, rate, 7_000_000).unwrap().as_millis() as u64).collect();
        assert_eq!(pauses, (1..=10).map(|number| number * 10).collect::<Vec<_>>());
        // Who comes when all have gone on waits for nobody.
        assert_eq!(queue.pause(10_000, rate, 9_000_000), Some(Duration::from_millis(10)));
    }

    #[test]
    fn small_writes_are_held_back_together_and_none_for_long() {
        let queue = Queue::default();
        let pauses = (0..100).filter(|_| queue.pause(100, 1e6, 0).is_some()).count();
        assert_eq!(pauses, 91);
        assert_eq!(queue.pause(1 << 30, 1e6, 0), Some(Duration::from_micros(PAUSE_MAX_US)));
    }
}
