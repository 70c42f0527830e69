//! Asks the operating system for the time. Everyone else takes the time as an argument.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since the Unix epoch.
pub fn now_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
}

/// Milliseconds since the Unix epoch, the unit of expiry in Redis.
pub fn now_ms() -> u64 {
    now_ns() / 1_000_000
}
