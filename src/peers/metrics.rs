//! The numbers of peers.

use std::sync::atomic::Ordering::Relaxed;

use crate::commands::instance::Instance;
use crate::commands::room::Metric;
use crate::peers::room::{Room, State};

/// The rows.
pub(crate) const METRICS: &[Metric] = &[
    Metric::gauge("flux_peers", "Peers that are there.", |instance| now(instance, |state| state.directory.count())),
    Metric::gauge("flux_peers_old", "Those of them that speak only the old protocol.", |instance| {
        now(instance, |state| state.directory.old_len())
    }),
    Metric::gauge("flux_capabilities", "What peers can be called for.", |instance| {
        now(instance, |state| state.directory.capability_count())
    }),
    Metric::gauge("flux_calls_queued", "Calls that wait for a peer.", |instance| {
        now(instance, |state| state.calls.total().queued)
    }),
    Metric::gauge("flux_calls_running", "Calls that a peer has.", |instance| now(instance, |state| state.calls.total().running)),
    Metric::counter("flux_calls_total", "Calls made.", |instance| room(instance, |room| room.counts.calls.load(Relaxed))),
    Metric::counter("flux_calls_failed_total", "Calls that ended with a failure.", |instance| {
        room(instance, |room| room.counts.failed.load(Relaxed))
    }),
    Metric::counter(
        "flux_calls_rerouted_total",
        "Times a call went to another peer, since the one that had it was gone.",
        |instance| room(instance, |room| room.state.lock().calls.rerouted),
    ),
];

fn room(instance: &Instance, read: impl FnOnce(&Room) -> u64) -> f64 {
    instance.room().map_or(0, read) as f64
}

fn now(instance: &Instance, count: impl FnOnce(&State) -> usize) -> f64 {
    room(instance, |room| count(&room.state.lock()) as u64)
}
