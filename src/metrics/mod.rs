//! Instruments: a histogram of times, rates, recent peaks, the slow log and the latency monitor. Each is told what to note; none asks the
//! clock. Who keeps them and shows them is `commands` and `http`.

mod histogram;
mod latency;
mod rate;
mod recent;
mod slowlog;

pub use histogram::Histogram;
pub use latency::{EventHistory, LatencyMonitor, Sample};
pub use rate::Rate;
pub use recent::Recent;
pub use slowlog::{SlowEntry, SlowTotals, Slowlog};

/// What a number does over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}
