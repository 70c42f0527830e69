//! Errors as HTTP has them: a status, and JSON that says what is wrong and what to do.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use redis::RedisError;
use serde_json::json;

/// What a request gets instead of what it asked for.
#[derive(Debug)]
pub struct Refusal {
    /// The code word, as in RESP errors.
    pub code: String,
    /// What is wrong.
    pub error: String,
}

impl Refusal {
    pub fn new(code: &str, error: impl Into<String>) -> Refusal {
        Refusal { code: code.into(), error: error.into() }
    }

    /// What the body must have been, and was not.
    pub fn bad_request(error: impl Into<String>) -> Refusal {
        Refusal::new("ERR", error)
    }

    /// For requests that come while the server ends.
    pub fn ending() -> Refusal {
        Refusal::new("ENDING", "the server is ending: ask again in a moment")
    }

    /// For requests that come while the keyspace is loaded.
    pub fn loading() -> Refusal {
        Refusal::new("LOADING", "the keyspace is being loaded: ask again in a moment; /ready tells how far it is")
    }

    /// As JSON.
    pub fn json(&self) -> serde_json::Value {
        json!({ "error": self.error, "code": self.code })
    }

    fn status(&self) -> StatusCode {
        match self.code.as_str() {
            "NOAUTH" => StatusCode::UNAUTHORIZED,
            "DENIED" => StatusCode::FORBIDDEN,
            "NOPEER" | "NOCALL" | "NOKEY" | "NOROUTE" => StatusCode::NOT_FOUND,
            "CONFLICT" => StatusCode::PRECONDITION_FAILED,
            "METHOD" => StatusCode::METHOD_NOT_ALLOWED,
            "TOOBIG" => StatusCode::PAYLOAD_TOO_LARGE,
            "FAILED" | "GONE" => StatusCode::BAD_GATEWAY,
            "TIMEOUT" => StatusCode::GATEWAY_TIMEOUT,
            "BUSY" | "CANCELLED" | "ENDING" | "LOADING" | "MISCONF" | "OOM" | "MAXCLIENTS" => StatusCode::SERVICE_UNAVAILABLE,
            "SLOW" => StatusCode::REQUEST_TIMEOUT,
            "BROKEN" => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
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
