//! What a request brings: its body, and the options of its query and headers. Each is bounded and checked before it counts.

use std::collections::BTreeMap;
use std::error::Error;
use std::future::Future;
use std::str::FromStr;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::{HeaderMap, Uri};
use http_body_util::LengthLimitError;

use super::Door;
use super::answer::Refusal;
use crate::config::Name;

/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// What headers that stand for an option of the query begin with.
const HEADER_PREFIX: &str = "flux-";

/// A body of at most `peer-payload-limit` bytes.
pub async fn body(door: &Door, body: Body) -> Result<Bytes, Refusal> {
    let limit = door.instance.config.count(Name::PeerPayloadLimit) as usize;
    let read = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, limit));
    match while_open(door, read).await? {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if error.source().is_some_and(|source| source.is::<LengthLimitError>()) => {
            Err(Refusal::new("TOOBIG", format!("the body is longer than {limit} bytes (peer-payload-limit)")))
        }
        Ok(Err(error)) => Err(Refusal::bad_request(format!("the body cannot be read: {error}"))),
        Err(_) => Err(Refusal::new("SLOW", format!("the body did not come within {} s", BODY_TIMEOUT.as_secs()))),
    }
}

/// Waits for something, unless the server ends.
pub async fn while_open<T>(door: &Door, something: impl Future<Output = T>) -> Result<T, Refusal> {
    tokio::select! {
        biased;
        found = something => Ok(found),
        () = door.instance.ended() => Err(Refusal::ending()),
    }
}

/// Options of the query, or of headers with the same name after `Flux-`.
pub struct Options(BTreeMap<String, String>);

impl Options {
    /// Those with these names. Others in the query are mistakes; headers may be for someone else.
    pub fn of(uri: &Uri, headers: &HeaderMap, names: &[&str]) -> Result<Options, Refusal> {
        let query = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri);
        let query = query.map_err(|error| Refusal::bad_request(error.to_string()))?.0;
        if let Some((name, _)) = query.iter().find(|(name, _)| !names.contains(&name.as_str())) {
            return Err(Refusal::bad_request(format!("there is no option `{name}`; there are: {}", names.join(", "))));
        }
        let header = |name: &&str| {
            let value = headers.get(format!("{HEADER_PREFIX}{name}"))?.to_str().ok()?;
            Some(((*name).to_owned(), value.to_owned()))
        };
        // The query wins.
        Ok(Options(names.iter().filter_map(header).chain(query).collect()))
    }

    /// The text of one, if it was given.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// One that is a number within bounds.
    pub fn number<T: FromStr + PartialOrd + std::fmt::Display>(&self, name: &str, min: T, max: T) -> Result<Option<T>, Refusal> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match text.parse::<T>() {
            Ok(number) if min <= number && number <= max => Ok(Some(number)),
            _ => Err(Refusal::bad_request(format!("`{name}` is a number from {min} to {max}"))),
        }
    }
}
