//! `POST /call/{capability}`: calls a capability and answers with the result, or streams pieces and the result as events.
//! When the caller goes, the call is cancelled.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse, Response};

use super::answer::Refusal;
use super::ask::{self, Options};
use super::{Door, sse};
use crate::commands::args::Rest;
use crate::commands::offers::Failure;
use crate::commands::offers::calls::{Ongoing, Order, Outcome, Part};
use crate::peers::order;
use crate::resp::OwnedArgs;

/// What may be said of a call.
const OPTIONS: [&str; 7] = ["timeout", "priority", "retries", "to", "gather", "route", "sticky"];
/// Those that are said as `FLUX.CALL` has them.
const PLAIN: &[&str] = OPTIONS.split_at(5).0;

pub async fn call(
    State(door): State<Arc<Door>>,
    Path(capability): Path<String>,
    uri: Uri,
    headers: HeaderMap,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    let options = Options::of(&uri, &headers, &OPTIONS)?;
    let calls = door.instance.offers().calls.get()?;
    let payload = payload(ask::body(&door, request.into_body()).await?);
    let ongoing = ask::while_open(&door, calls.call(order(&capability, &payload, &options)?)).await??;
    if sse::is_wanted(&headers) {
        return Ok(sse::respond((door, ongoing), |(door, ongoing)| next(door, ongoing)));
    }
    let result = ask::while_open(&door, ongoing.outcome()).await??;
    Ok(([(header::CONTENT_TYPE, "application/json")], result.to_vec()).into_response())
}

/// A body as a payload, which is checked before a call is made of it; nothing is null.
fn payload(body: Bytes) -> Bytes {
    if body.trim_ascii().is_empty() { Bytes::from_static(b"null") } else { body }
}

fn order(capability: &str, payload: &[u8], options: &Options) -> Result<Order, Refusal> {
    let mut order = Order::new(capability, payload);
    let said = PLAIN.iter().flat_map(|name| options.text(name).into_iter().flat_map(|value| [*name, value]));
    let route = match (options.text("route"), options.text("sticky")) {
        (None, None) => vec![],
        (None | Some("sticky"), Some(key)) => vec!["route", "sticky", key],
        (Some(route @ ("least-loaded" | "round-robin")), None) => vec!["route", route],
        _ => return Err(Refusal::bad_request("`route` is least-loaded or round-robin, without `sticky`; or `sticky` is a key")),
    };
    let words = OwnedArgs::new(said.chain(route).map(str::as_bytes));
    order::read(&mut order, Rest::of(words.args(), 0)).map_err(|error| {
        let (code, text) = error.0.split_once(' ').unwrap_or_default();
        Refusal::new(code, text)
    })?;
    Ok(order)
}

/// The next event of a call.
async fn next(door: Arc<Door>, mut ongoing: Ongoing) -> Option<(Bytes, (Arc<Door>, Ongoing))> {
    let part = tokio::time::timeout(sse::HEARTBEAT, ask::while_open(&door, ongoing.next())).await;
    let event = match part {
        Ok(Ok(Some(Part::Chunk(chunk, seq)))) => {
            sse::event(Some("chunk"), Some(&seq.to_string()), &String::from_utf8_lossy(&chunk))
        }
        Ok(Ok(Some(Part::End(outcome)))) => end(outcome),
        Ok(Ok(None) | Err(_)) => return None,
        Err(_) => Bytes::from_static(sse::BEAT),
    };
    Some((event, (door, ongoing)))
}

fn end(outcome: Outcome) -> Bytes {
    match outcome {
        Ok(result) => sse::event(Some("result"), None, &String::from_utf8_lossy(&result)),
        Err(failure) => sse::event(Some("error"), None, &Refusal::from(failure).json().to_string()),
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Refusal {
        Refusal::new(failure.code, failure.message)
    }
}
