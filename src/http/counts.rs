//! What came of requests: how many there were of each route, by the class of their status, those that the guard refused, and streams of events
//! that are open.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt;

use super::Door;
use crate::commands::route::Route;

/// Classes of statuses: 1xx to 5xx.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// Stands for all paths that are no route's, however many strangers think of.
const NONE: &str = "none";

/// The counts.
pub(crate) struct Counts {
    /// By the path as the router has it: the path as its row has it, and the counts of its classes.
    routes: BTreeMap<String, (&'static str, [AtomicU64; CLASSES.len()])>,
    refused: AtomicU64,
    streams: AtomicU64,
}

/// A stream of events that is open.
struct Stream(Arc<Door>);

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.counts.streams.fetch_sub(1, Relaxed);
    }
}

impl Counts {
    /// Of these routes.
    pub(crate) fn new(routes: &[&'static Route]) -> Counts {
        let paths = routes.iter().map(|route| (route.pattern(), route.path)).chain([(String::new(), NONE)]);
        let routes = paths.map(|(pattern, path)| (pattern, (path, Default::default()))).collect();
        Counts { routes, refused: AtomicU64::new(0), streams: AtomicU64::new(0) }
    }

    /// The guard refused one.
    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    /// How many the guard refused.
    pub(crate) fn refusals(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// How many streams are open.
    pub(crate) fn streams(&self) -> u64 {
        self.streams.load(Relaxed)
    }

    /// The requests that were answered, by route and class; only where there were any.
    pub(crate) fn requests(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let classes = |(path, counts): &(&'static str, [AtomicU64; CLASSES.len()])| {
            let path = *path;
            let counts: Vec<u64> = counts.iter().map(|count| count.load(Relaxed)).collect();
            CLASSES.into_iter().zip(counts).map(move |(class, count)| (path, class, count))
        };
        self.routes.values().flat_map(classes).filter(|(.., count)| *count > 0)
    }

    fn answered(&self, pattern: &str, status: u16) {
        let class = usize::from(status / 100).saturating_sub(1);
        if let Some(count) = self.routes.get(pattern).and_then(|(_, counts)| counts.get(class)) {
            count.fetch_add(1, Relaxed);
        }
    }
}

/// Counts a request as it is answered.
pub(crate) async fn count(State(door): State<Arc<Door>>, path: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    door.counts.answered(path.as_ref().map_or("", MatchedPath::as_str), response.status().as_u16());
    if response.headers().get(header::CONTENT_TYPE) != Some(&HeaderValue::from_static("text/event-stream")) {
        return response;
    }
    door.counts.streams.fetch_add(1, Relaxed);
    let stream = Stream(door);
    response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _ = &stream;
            frame
        }))
    })
}
