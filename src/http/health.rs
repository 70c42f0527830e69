//! What needs no password: what there is, whether the server lives and is ready, and its metrics.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::{Door, metrics, routes};
use crate::clock;
use crate::commands::instance::Instance;
use crate::engine::persist::Persistence;
use crate::engine::persist::progress::Look;
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
    if let Some(look) = instance.loading.look() {
        return loading(instance, &look);
    }
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

/// How far the keyspace is loaded.
fn loading(instance: &Instance, look: &Look) -> Response {
    let mut keys = 0;
    instance.engine.each_shard(|_, shard| keys += shard.databases.iter().map(|database| database.keys.len() as u64).sum::<u64>());
    let progress = json!({
        "percent": (look.percent() * 100.0).round() / 100.0,
        "bytes": look.loaded_bytes,
        "total_bytes": look.total_bytes,
        "keys": keys,
        "seconds_left": look.left_s(),
    });
    let answer = json!({ "status": "not ready", "reason": "the keyspace is being loaded", "loading": progress });
    (StatusCode::SERVICE_UNAVAILABLE, axum::Json(answer)).into_response()
}

pub async fn metrics(State(door): State<Arc<Door>>) -> Response {
    let mut response = metrics::text(&door.instance, clock::now_ms()).into_response();
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
