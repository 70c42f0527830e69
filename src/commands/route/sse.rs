//! Server-sent events as bytes, and streams of them that say now and then that they live.

use std::future::Future;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;

/// After so long without an event a comment is sent, so that neither end takes the other for gone.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(15);
/// The comment.
pub(crate) const BEAT: &[u8] = b": still here\n\n";

/// Whether a client asks for events.
pub(crate) fn is_wanted(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted
        .flat_map(|value| value.split(','))
        .any(|kind| kind.split(';').next().unwrap_or_default().trim() == "text/event-stream")
}

/// One event. Its text may have lines. One without a name is a `message` to browsers.
pub(crate) fn event(name: Option<&str>, id: Option<&str>, text: &str) -> Bytes {
    let mut bytes = String::with_capacity(text.len() + 64);
    if let Some(id) = id {
        bytes.extend(["id: ", id, "\n"]);
    }
    if let Some(name) = name {
        bytes.extend(["event: ", name, "\n"]);
    }
    for line in text.split(['\n', '\r']) {
        bytes.extend(["data: ", line, "\n"]);
    }
    bytes.push('\n');
    bytes.into()
}

/// A response of what `next` makes of a state, again and again until it is None. It is asked only when the client has taken
/// what came before, and dropped when the client is gone.
pub(crate) fn respond<S, F>(state: S, next: impl Fn(S) -> F + Send + 'static) -> Response
where
    S: Send + 'static,
    F: Future<Output = Option<(Bytes, S)>> + Send + 'static,
{
    let next = move |state| {
        let following = next(state);
        async move { following.await.map(|(bytes, state)| (Ok::<_, std::convert::Infallible>(bytes), state)) }
    };
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    (headers, Body::from_stream(stream::unfold(state, next))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_text_are_lines_of_its_event() {
        assert_eq!(
            &event(Some("result"), Some("5-1"), "{\r\"a\":1\n}")[..],
            b"id: 5-1\nevent: result\ndata: {\ndata: \"a\":1\ndata: }\n\n"
        );
        assert_eq!(&event(Some("gap"), None, "")[..], b"event: gap\ndata: \n\n");
    }
}
