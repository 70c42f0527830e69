//! Numbers as rows ([`row`]), and instruments: a histogram of times, rates, recent peaks, the slow log and the latency monitor. Each is told what to note; none asks the
//! clock. Who keeps them and shows them is `commands` and `http`.

mod histogram;
mod latency;
mod rate;
mod recent;
pub mod row;
mod slowlog;

pub use histogram::Histogram;
pub use latency::{EventHistory, LatencyMonitor, Sample};
pub use rate::Rate;
pub use recent::Recent;
pub use row::{Lines, Row};
pub use slowlog::Slowlog;
