//! Whether the server lives and is ready, and its metrics.

use std::sync::atomic::Ordering::Relaxed;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::{Door, metrics};
use crate::clock;
use crate::commands::instance::Instance;
use crate::commands::route::{Answer, Ask, answer};
use crate::engine::persist::Persistence;
use crate::engine::persist::progress::Look;
use crate::version::VERSION;

pub(crate) async fn health(ask: Ask) -> Answer {
    let uptime_s = clock::monotonic_ms().saturating_sub(ask.instance.started_at) / 1000;
    let mut health = json!({ "status": "ok", "version": VERSION, "uptime_s": uptime_s });
    if let Some(error) = ask.instance.persistence().and_then(Persistence::checkpoint_error) {
        health["checkpoint_error"] = error.into();
    }
    Ok(answer::json(health.to_string()))
}

pub(crate) async fn ready(ask: Ask) -> Answer {
    let instance = &ask.instance;
    if let Some(look) = instance.loading.look() {
        return Ok(loading(instance, &look));
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
        None => Ok(answer::json(json!({ "status": "ready" }).to_string())),
        Some(reason) => {
            let reason = answer::json(json!({ "status": "not ready", "reason": reason }).to_string());
            Ok((StatusCode::SERVICE_UNAVAILABLE, reason).into_response())
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

pub(crate) async fn metrics(ask: Ask) -> Answer {
    let mut response = metrics::of_door(Door::of(&ask), clock::now_ms()).into_response();
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}
