//! The numbers of peers.

use std::sync::atomic::Ordering::Relaxed;

use crate::commands::instance::Instance;
use crate::commands::room::Metric;
use crate::metrics::Kind::{self, Counter, Gauge};
use crate::peers::room::{Room, State};

/// The rows.
pub const METRICS: &[Metric] = &[
    row("flux_peers", Gauge, "Peers that are there.", |instance| now(instance, |state| state.directory.count())),
    row("flux_peers_old", Gauge, "Those of them that speak only the old protocol.", |instance| {
        now(instance, |state| state.directory.old_len())
    }),
    row("flux_capabilities", Gauge, "What peers can be called for.", |instance| {
        now(instance, |state| state.directory.capability_count())
    }),
    row("flux_calls_queued", Gauge, "Calls that wait for a peer.", |instance| now(instance, |state| state.calls.total().queued)),
    row("flux_calls_running", Gauge, "Calls that a peer has.", |instance| now(instance, |state| state.calls.total().running)),
    row("flux_calls_total", Counter, "Calls made.", |instance| room(instance, |room| room.counts.calls.load(Relaxed))),
    row("flux_calls_failed_total", Counter, "Calls that ended with a failure.", |instance| {
        room(instance, |room| room.counts.failed.load(Relaxed))
    }),
    row(
        "flux_calls_rerouted_total",
        Counter,
        "Times a call went to another peer, since the one that had it was gone.",
        |instance| room(instance, |room| room.state.lock().calls.rerouted),
    ),
];

const fn row(name: &'static str, kind: Kind, help: &'static str, read: fn(&Instance) -> f64) -> Metric {
    Metric { name, kind, help, read }
}

fn room(instance: &Instance, read: impl FnOnce(&Room) -> u64) -> f64 {
    instance.room().map_or(0, read) as f64
}

fn now(instance: &Instance, count: impl FnOnce(&State) -> usize) -> f64 {
    room(instance, |room| count(&room.state.lock()) as u64)
}
