//! Asks the operating system for the time: the one place that does (clippy.toml). Everyone else asks here, or takes the time as an argument.
//! So a simulation (`lifecycle::Simulation`) is the only other source, for the thread it runs in.

use std::cell::Cell;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How far off the wall clock is said to be, in milliseconds.
static SHIFT_MS: AtomicI64 = AtomicI64::new(0);

/// Whether there ever was a simulation in this process. While there was none, its time costs a load from a line that nobody writes.
static IS_SIMULATED: AtomicBool = AtomicBool::new(false);

thread_local! {
    static SIMULATED: Cell<Option<Simulated>> = const { Cell::new(None) };
}

/// The time of a simulation.
#[derive(Clone, Copy)]
struct Simulated {
    /// When it began: on the wall, and where instants are counted from.
    wall_ns: u64,
    instant: Instant,
    passed: Duration,
}

/// Nanoseconds since the Unix epoch.
pub(crate) fn now_ns() -> u64 {
    let ns = match simulated() {
        Some(simulated) => simulated.wall_ns.saturating_add(simulated.passed.as_nanos() as u64),
        None => system_ns(),
    };
    ns.saturating_add_signed(SHIFT_MS.load(Relaxed).saturating_mul(1_000_000))
}

/// Sets the wall clock of this process off by so much, as someone does who sets the machine's. For tests (`DEBUG SHIFT-CLOCK`).
pub(crate) fn shift(ms: i64) {
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
    let passed = match simulated() {
        Some(simulated) => simulated.passed,
        None => system_instant().duration_since(*START.get_or_init(system_instant)),
    };
    HEAD_START_MS + passed.as_millis() as u64
}

/// A moment of the same clock, finer and without a number: to measure how long something takes, and for what waits until then.
pub(crate) fn instant() -> Instant {
    match simulated() {
        Some(simulated) => simulated.instant + simulated.passed,
        None => system_instant(),
    }
}

/// How long ago that was; zero if it is yet to come.
pub(crate) fn since(instant_then: Instant) -> Duration {
    instant().saturating_duration_since(instant_then)
}

#[expect(clippy::disallowed_methods, reason = "this is the place that asks")]
fn system_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
}

#[expect(clippy::disallowed_methods, reason = "this is the place that asks")]
fn system_instant() -> Instant {
    Instant::now()
}

#[inline]
fn simulated() -> Option<Simulated> {
    if IS_SIMULATED.load(Relaxed) { SIMULATED.get() } else { None }
}

/// From now on, time stands still for this thread, at this time of the wall, until it is [`advance`]d.
pub(crate) fn simulate(wall_ms: u64) {
    IS_SIMULATED.store(true, Relaxed);
    let wall_ns = wall_ms.saturating_mul(1_000_000);
    SIMULATED.set(Some(Simulated { wall_ns, instant: system_instant(), passed: Duration::ZERO }));
}

/// Lets time pass for this thread, which simulates it.
pub(crate) fn advance(time: Duration) {
    let simulated = SIMULATED.get().expect("only a simulation lets time pass");
    SIMULATED.set(Some(Simulated { passed: simulated.passed + time, ..simulated }));
}

/// This thread's time is the system's again.
pub(crate) fn end_simulation() {
    SIMULATED.set(None);
}
