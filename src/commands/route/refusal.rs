//! Errors as HTTP has them: a status, and JSON that says what is wrong and what to do. The table has all codes that have a status of their own.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use redis::RedisError;
use serde_json::json;

use super::shape::Named;

/// A code: the status that goes with it, and what it means.
pub(crate) struct Code {
    /// The code word, as in RESP errors.
    pub name: &'static str,
    /// Of HTTP.
    pub status: u16,
    /// What it means.
    pub help: &'static str,
}

/// All that have a status of their own. Any other, such as `WRONGTYPE`, goes with 400.
pub(crate) const CODES: &[Code] = &[
    code("ERR", 400, "something in the request is wrong"),
    code("INVALID", 400, "the payload is not JSON, or does not fit the capability's schema"),
    code("NOAUTH", 401, "no password or a wrong one"),
    code("DENIED", 403, "a page or host that may not ask"),
    code("NOPEER", 404, "nobody has the capability"),
    code("NOCALL", 404, "there is no such call"),
    code("NOJOB", 404, "there is no such job"),
    code("NOKEY", 404, "there is no such value"),
    code("NOROUTE", 404, "there is no such path"),
    code("NOSESSION", 404, "there is no such session: begin a new one"),
    code("METHOD", 405, "this cannot be asked in that way"),
    code("SLOW", 408, "the body did not come in time"),
    code("NOTENDED", 409, "the job has not ended: cancel it first"),
    code("CONFLICT", 412, "the value has another version"),
    code("TOOBIG", 413, "a body or a result that is too long; the text names the setting that says how long it may be"),
    code("DIFFERS", 422, "another job was submitted with this idempotency key"),
    code("UPGRADE", 426, "this is a WebSocket"),
    code("BROKEN", 500, "the server failed to do what it should"),
    code("FAILED", 502, "the handler's own message"),
    code("GONE", 502, "its peer died while it ran"),
    code("BUSY", 503, "too much waits already"),
    code("CANCELLED", 503, "someone cancelled the call"),
    code("ENDING", 503, "the server ends"),
    code("LOADING", 503, "it has only started, and `/ready` tells how far it is"),
    code("MAXCLIENTS", 503, "too many clients"),
    code("MISCONF", 503, "the journal cannot be written"),
    code("OOM", 503, "memory is full"),
    code("TIMEOUT", 504, "nobody answered in time"),
];

/// What the body of an error looks like.
pub(crate) const ERROR: Named = Named {
    name: "Error",
    schema: r#"{"type": "object", "required": ["code", "error"], "properties": {
        "code": {"type": "string", "description": "What kind of error it is, for programs."},
        "error": {"type": "string", "description": "What is wrong and what to do, for people."}
    }}"#,
    uses: &[],
};

const fn code(name: &'static str, status: u16, help: &'static str) -> Code {
    Code { name, status, help }
}

/// The row of a code, if it has one.
pub(crate) fn named(code: &str) -> Option<&'static Code> {
    CODES.iter().find(|row| row.name == code)
}

/// What a request gets instead of what it asked for.
#[derive(Debug)]
pub struct Refusal {
    /// The code word, as in RESP errors.
    pub(crate) code: String,
    /// What is wrong.
    pub(crate) error: String,
}

impl Refusal {
    /// With a code, and what is wrong.
    pub fn new(code: &str, error: impl Into<String>) -> Refusal {
        Refusal { code: code.into(), error: error.into() }
    }

    /// What was asked must have been otherwise.
    pub fn bad_request(error: impl Into<String>) -> Refusal {
        Refusal::new("ERR", error)
    }

    /// For requests that come while the server ends.
    pub(crate) fn ending() -> Refusal {
        Refusal::new("ENDING", "the server is ending: ask again in a moment")
    }

    /// For requests that come while the keyspace is loaded.
    pub(crate) fn loading() -> Refusal {
        Refusal::new("LOADING", "the keyspace is being loaded: ask again in a moment; /ready tells how far it is")
    }

    /// As JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        json!({ "error": self.error, "code": self.code })
    }

    fn status(&self) -> StatusCode {
        let status = named(&self.code).map_or(400, |code| code.status);
        StatusCode::from_u16(status).expect("the table has statuses that there are")
    }
}

impl From<RedisError> for Refusal {
    fn from(error: RedisError) -> Refusal {
        match error.code() {
            Some(code) => Refusal::new(code, error.detail().unwrap_or_default()),
            // The session was closed: the server ends, or someone used `CLIENT KILL`.
            None if error.is_io_error() => Refusal::ending(),
            None => Refusal::new("BROKEN", error.to_string()),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status(), Json(self.json())).into_response()
    }
}
