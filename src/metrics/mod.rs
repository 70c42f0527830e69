//! Numbers as rows ([`row`]), and instruments: a histogram of times, rates, recent peaks, the slow log and the latency monitor. Each is told what to note; none asks the
//! clock. Who keeps them and shows them is `commands` and `http`.

mod histogram;
mod latency;
mod rate;
mod recent;
pub(crate) mod row;
mod slowlog;

pub(crate) use histogram::Histogram;
pub(crate) use latency::{EventHistory, LatencyMonitor, Sample};
pub(crate) use rate::Rate;
pub(crate) use recent::Recent;
pub(crate) use row::{Lines, Row};
pub(crate) use slowlog::Slowlog;
