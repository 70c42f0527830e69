//! What a handler gets: who is asked, what was said, the body, and a line to run commands as the caller. All of it is bounded, and what was
//! said is checked before it counts.

use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Request};
use http_body_util::LengthLimitError;
use parking_lot::Mutex;
use redis::aio::ConnectionLike;
use redis::{Cmd, Pipeline, RedisFuture, Value};

use super::param::Values;
use super::refusal::Refusal;
use super::{Route, sse};
use crate::commands::instance::Instance;

/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Opens a session in which commands run as the caller's.
pub(crate) type OpenLine = Arc<dyn Fn() -> Opening + Send + Sync>;
/// A session on its way.
pub(crate) type Opening = Pin<Box<dyn Future<Output = Result<Line, Refusal>> + Send>>;

/// A connection to the keyspace in which commands run as the caller's: one of the `redis` crate, so typed commands work on it.
pub struct Line(Box<dyn ConnectionLike + Send + Sync>);

impl Line {
    /// As whoever carries the request has it.
    pub(crate) fn new(line: impl ConnectionLike + Send + Sync + 'static) -> Line {
        Line(Box::new(line))
    }
}

impl ConnectionLike for Line {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        self.0.req_packed_command(command)
    }

    fn req_packed_commands<'a>(&'a mut self, pipeline: &'a Pipeline, offset: usize, count: usize) -> RedisFuture<'a, Vec<Value>> {
        self.0.req_packed_commands(pipeline, offset, count)
    }

    fn get_db(&self) -> i64 {
        self.0.get_db()
    }
}

/// A request that was let in.
pub struct Ask {
    /// Who is asked.
    pub instance: Arc<Instance>,
    route: &'static Route,
    values: Values,
    parts: Parts,
    /// Bodies cannot be shared between threads, and an ask is, while something waits that looks at it.
    body: Mutex<Body>,
    open: OpenLine,
}

impl Ask {
    /// One at a route; its parameters were read.
    pub(crate) fn new(
        instance: Arc<Instance>,
        route: &'static Route,
        values: Values,
        parts: Parts,
        body: Body,
        open: OpenLine,
    ) -> Ask {
        Ask { instance, route, values, parts, body: Mutex::new(body), open }
    }

    /// A parameter's text, if it was given.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.check(name);
        self.values.text(name)
    }

    /// A parameter that is a number, if it was given. Its row says the bounds; what is beyond those of the type counts as not given.
    pub fn number<T: TryFrom<i64>>(&self, name: &str) -> Option<T> {
        self.check(name);
        self.values.number(name).and_then(|number| number.try_into().ok())
    }

    /// A parameter as it is written, be it a number or text, if it was given.
    pub(crate) fn said(&self, name: &str) -> Option<String> {
        self.text(name).map(str::to_owned).or_else(|| self.number::<i64>(name).map(|number| number.to_string()))
    }

    /// A part of the path.
    pub fn part(&self, name: &str) -> &str {
        self.text(name).unwrap_or_default()
    }

    fn check(&self, name: &str) {
        debug_assert!(self.route.params.iter().any(|param| param.name == name), "{} has no `{name}`", self.route.path);
    }

    /// The headers. Those that mean something are parameters.
    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// Whether the client asks for events.
    pub(crate) fn wants_events(&self) -> bool {
        sse::is_wanted(self.headers())
    }

    /// What the door that carries the request has put beside it.
    pub(crate) fn beside<T: Clone + Send + Sync + 'static>(&self) -> Option<&T> {
        self.parts.extensions.get()
    }

    /// The request as it came, for those that answer it in a way of their own.
    pub(crate) fn into_request(self) -> Request<Body> {
        Request::from_parts(self.parts, self.body.into_inner())
    }

    /// A session in which commands run as the caller's. What it waits for is given up when it is dropped.
    pub async fn line(&self) -> Result<Line, Refusal> {
        (self.open)().await
    }

    /// The body, of no more bytes than its row says.
    pub(crate) async fn body(&mut self) -> Result<Bytes, Refusal> {
        let limit = self.route.body.as_ref().map(|body| body.limit);
        let bytes_max = limit.map_or(0, |limit| self.instance.config.count_or_default(limit) as usize);
        let body = std::mem::take(self.body.get_mut());
        let read = tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, bytes_max));
        match self.while_open(read).await? {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(error)) if error.source().is_some_and(|source| source.is::<LengthLimitError>()) => {
                let setting = limit.map_or("none is read", |limit| limit.name);
                Err(Refusal::new("TOOBIG", format!("the body is longer than {bytes_max} bytes ({setting})")))
            }
            Ok(Err(error)) => Err(Refusal::bad_request(format!("the body cannot be read: {error}"))),
            Err(_) => Err(Refusal::new("SLOW", format!("the body did not come within {} s", BODY_TIMEOUT.as_secs()))),
        }
    }

    /// Waits for something, unless the server ends.
    pub(crate) async fn while_open<T>(&self, something: impl Future<Output = T>) -> Result<T, Refusal> {
        while_open(&self.instance, something).await
    }
}

/// Waits for something, unless the server ends.
pub(crate) async fn while_open<T>(instance: &Instance, something: impl Future<Output = T>) -> Result<T, Refusal> {
    tokio::select! {
        biased;
        found = something => Ok(found),
        () = instance.ended() => Err(Refusal::ending()),
    }
}
