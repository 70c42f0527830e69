//! `POST /call/{capability}`: calls a capability and answers with the result, or streams pieces and the result as events.
//! When the caller goes, the call is cancelled.

use std::sync::Arc;

use axum::body::Bytes;

use crate::commands::args::Rest;
use crate::commands::instance::Instance;
use crate::commands::room;
use crate::commands::route::ask::while_open;
use crate::commands::route::{Answer, Ask, Refusal, answer, sse};
use crate::peers::calls::{Failure, Order, Outcome, Part};
use crate::peers::{self, Ongoing, order};
use crate::resp::OwnedArgs;

pub(crate) async fn call(mut ask: Ask) -> Answer {
    let peers = peers::handle(&ask.instance).ok_or_else(|| Refusal::new("ERR", room::not_here(peers::ROOM.name).0))?;
    let payload = payload(ask.body().await?);
    let ongoing = ask.while_open(peers.call(order(&payload, &ask)?)).await??;
    let instance = Arc::clone(&ask.instance);
    if ask.wants_events() {
        return Ok(sse::respond((instance, ongoing), |(instance, ongoing)| next(instance, ongoing)));
    }
    let result = ask.while_open(ongoing.outcome()).await??;
    Ok(answer::json(result.to_vec()))
}

/// A body as a payload, which is checked before a call is made of it; nothing is null.
fn payload(body: Bytes) -> Bytes {
    if body.trim_ascii().is_empty() { Bytes::from_static(b"null") } else { body }
}

/// Those that are said as `FLUX.CALL` has them.
const PLAIN: [&str; 5] = ["timeout", "priority", "retries", "to", "gather"];

fn order(payload: &[u8], ask: &Ask) -> Result<Order, Refusal> {
    let mut order = Order::new(ask.part("capability"), payload);
    let said = PLAIN.iter().flat_map(|name| ask.said(name).into_iter().flat_map(|value| [(*name).to_owned(), value]));
    let route = match (ask.text("route"), ask.text("sticky")) {
        (None, None) => vec![],
        (None | Some("sticky"), Some(key)) => vec!["route", "sticky", key],
        (Some(route @ ("least-loaded" | "round-robin")), None) => vec!["route", route],
        _ => return Err(Refusal::bad_request("`route` is least-loaded or round-robin, without `sticky`; or `sticky` is a key")),
    };
    let words: Vec<String> = said.chain(route.into_iter().map(str::to_owned)).collect();
    let words = OwnedArgs::new(words.iter().map(String::as_bytes));
    order::read(&mut order, Rest::of(words.args(), 0)).map_err(|error| {
        let (code, text) = error.0.split_once(' ').unwrap_or_default();
        Refusal::new(code, text)
    })?;
    Ok(order)
}

/// The next event of a call.
async fn next(instance: Arc<Instance>, mut ongoing: Ongoing) -> Option<(Bytes, (Arc<Instance>, Ongoing))> {
    let part = tokio::time::timeout(sse::HEARTBEAT, while_open(&instance, ongoing.next())).await;
    let event = match part {
        Ok(Ok(Some(Part::Chunk(chunk, seq)))) => {
            sse::event(Some("chunk"), Some(&seq.to_string()), &String::from_utf8_lossy(&chunk))
        }
        Ok(Ok(Some(Part::End(outcome)))) => end(outcome),
        Ok(Ok(None) | Err(_)) => return None,
        Err(_) => Bytes::from_static(sse::BEAT),
    };
    Some((event, (instance, ongoing)))
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
