//! Asks the operating system for the time. Everyone else takes the time as an argument.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// How far off the wall clock is said to be, in milliseconds.
static SHIFT_MS: AtomicI64 = AtomicI64::new(0);

/// Nanoseconds since the Unix epoch.
pub fn now_ns() -> u64 {
    let ns = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64);
    ns.saturating_add_signed(SHIFT_MS.load(Relaxed).saturating_mul(1_000_000))
}

/// Sets the wall clock of this process off by so much, as someone does who sets the machine's. For tests (`DEBUG SHIFT-CLOCK`).
pub fn shift(ms: i64) {
    SHIFT_MS.store(ms, Relaxed);
}

/// Milliseconds since the Unix epoch, the unit of expiry in Redis.
pub fn now_ms() -> u64 {
    now_ns() / 1_000_000
}

/// Milliseconds on a clock that nobody sets: it only goes forward, at the pace of time. Deadlines, timeouts and waits are told on it;
/// what is stored or shown to people is told on [`now_ms`]. Counts from a day before it was first asked, so that no time a running
/// process looks back to is below zero.
pub fn monotonic_ms() -> u64 {
    const HEAD_START_MS: u64 = 24 * 60 * 60 * 1000;
    static START: OnceLock<Instant> = OnceLock::new();
    HEAD_START_MS + START.get_or_init(Instant::now).elapsed().as_millis() as u64
}
