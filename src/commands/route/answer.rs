//! Answers in JSON.

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};

/// JSON that is text already.
pub(crate) fn json(text: impl Into<Body>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text.into()).into_response()
}

/// JSON texts as an array.
pub(crate) fn list(texts: &[String]) -> Response {
    json(format!("[{}]", texts.join(",")))
}
