//! `/metrics`: the rows of all who have numbers, one after another; and those of this door.

use super::Door;
use crate::commands::instance::Instance;
use crate::commands::server::metrics::{OF_INSTANCE, OF_SNAPSHOT};
use crate::commands::server::snapshot::Snapshot;
use crate::engine::persist;
use crate::metrics::Row;
use crate::metrics::row::expose;

/// How docs/metrics.md begins.
const HEAD: &str = "# Metrics

`GET /metrics` tells these in the text format of Prometheus. This page is made from their rows; `FLUX_BLESS=1 cargo test docs` writes it anew.

| name | kind | labels | |
|---|---|---|---|
";

/// The numbers of the door itself.
const OF_DOOR: &[Row<Door>] = &[
    Row::counters(
        "flux_http_requests_total",
        &["route", "status"],
        "Requests over HTTP that were answered, by the path as the route has it and the class of the status.",
        |door, lines| door.counts.requests().for_each(|(path, class, count)| lines.one(&[path, class], count as f64)),
    ),
    Row::gauge("flux_http_streams", "Streams of events that are open.", |door| door.counts.streams() as f64),
    Row::counter("flux_http_refused_total", "Requests refused for the page, the host, or the password.", |door| {
        door.counts.refusals() as f64
    }),
];

/// All metrics in the text format of Prometheus, with those of a door.
pub(super) fn of_door(door: &Door, now: u64) -> String {
    let mut text = text(&door.instance, now);
    expose(&mut text, OF_DOOR, door);
    text
}

/// All metrics but those of a door. `now` is in milliseconds since the epoch.
pub fn text(instance: &Instance, now: u64) -> String {
    let snapshot = Snapshot::take(instance, now);
    let mut text = String::new();
    expose(&mut text, OF_SNAPSHOT, &snapshot);
    expose(&mut text, OF_INSTANCE, instance);
    // Without a folder there is nothing to tell, and what asks for it finds it all the same.
    let in_memory = persist::Stats { is_writable: true, ..persist::Stats::default() };
    expose(&mut text, persist::METRICS, snapshot.persist.as_ref().unwrap_or(&in_memory));
    instance.metrics().for_each(|rows| expose(&mut text, rows, instance));
    text
}

/// docs/metrics.md: all rows there are for an instance.
pub fn markdown(instance: &Instance) -> String {
    fn lines<T>(rows: &[Row<T>]) -> String {
        rows.iter().map(Row::documented).collect()
    }
    let rooms: String = instance.metrics().map(lines).collect();
    [HEAD, &lines(OF_SNAPSHOT), &lines(OF_INSTANCE), &lines(persist::METRICS), &lines(OF_DOOR), &rooms].concat()
}
