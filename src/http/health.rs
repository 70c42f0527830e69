//! What needs no password: what there is, whether the server lives and is ready, and its metrics.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::{Door, metrics, routes};
use crate::clock;
use crate::engine::persist::Persistence;
use crate::version::VERSION;

pub async fn index() -> String {
    format!("flux {VERSION}\n\n{}", routes::text())
}

pub async fn health(State(door): State<Arc<Door>>) -> Response {
    let uptime_s = clock::monotonic_ms().saturating_sub(door.instance.started_at) / 1000;
    let mut health = json!({ "status": "ok", "version": VERSION, "uptime_s": uptime_s });
    if let Some(error) = door.instance.persistence().and_then(Persistence::checkpoint_error) {
        health["checkpoint_error"] = error.into();
    }
    axum::Json(health).into_response()
}

pub async fn ready(State(door): State<Arc<Door>>) -> Response {
    let instance = &door.instance;
    let trouble = if instance.is_ending.load(Relaxed) {
        Some("the server is ending".to_owned())
    } else {
        instance
            .durability()
            .and_then(|durability| durability.write_error())
            .map(|cause| format!("the journal cannot be written: {cause}"))
    };
    match trouble {
        None => axum::Json(json!({ "status": "ready" })).into_response(),
        Some(reason) => {
            (StatusCode::SERVICE_UNAVAILABLE, axum::Json(json!({ "status": "not ready", "reason": reason }))).into_response()
        }
    }
}

pub async fn metrics(State(door): State<Arc<Door>>) -> Response {
    let mut response = metrics::text(&door.instance, clock::now_ms()).into_response();
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
