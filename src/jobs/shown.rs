//! Jobs as the HTTP API tells them.

use chrono::{DateTime, SecondsFormat};
use redis::RedisResult;
use serde_json::{Map, Value, json};

use crate::jobs::book::{Book, Job, Try};
use crate::jobs::state::State;

/// Bytes of logs that are told with a job: those of the last tries.
const LOGS_BYTES_MAX: usize = 4 << 20;

/// A job with all that is known of it. Of many tries that wrote much only the last ones have their logs with them.
pub(crate) async fn shown(book: &Book, job: &Job) -> RedisResult<Value> {
    let mut all = brief(job);
    let mut attempts = Vec::new();
    let (mut last, mut room) = (None, LOGS_BYTES_MAX);
    for one in job.tries.iter().filter(|one| one.number > 0).rev() {
        let mut attempt = attempt(job, one);
        if room > 0 {
            let log = log(book, job, one.number).await?;
            room = room.saturating_sub(log.len());
            attempt["logs"] = json!(log);
            last.get_or_insert(log);
        }
        attempts.push(attempt);
    }
    attempts.reverse();
    let (payload, output) = book.data(&job.id).await?;
    let read = |json: Option<String>| json.and_then(|json| serde_json::from_str::<Value>(&json).ok());
    all.insert("payload".into(), read(payload).unwrap_or_default());
    if let Some(output) = read(output) {
        all.insert("output".into(), output);
    }
    all.insert("attempts".into(), attempts.into());
    if let Some(last) = last {
        all.insert("logs".into(), last.into());
    }
    Ok(all.into())
}

/// What a try wrote, as text: bytes that are none are replaced.
async fn log(book: &Book, job: &Job, attempt: u32) -> RedisResult<String> {
    let pieces = book.log(&job.id, attempt).await?;
    let bytes: Vec<u8> = pieces.into_iter().flat_map(|piece| piece.bytes).collect();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A job without what may be long.
pub(crate) fn brief(job: &Job) -> Map<String, Value> {
    let spec = &job.spec;
    let mut told = json!({
        "jobId": job.id.as_str(),
        "name": spec.name,
        "type": spec.kind,
        "runtime": spec.runtime,
        "checksum": spec.checksum,
        "dependencies": spec.dependencies,
        "maxRetries": spec.max_retries,
        "timeoutMs": spec.timeout_ms,
        "priority": spec.priority,
        "labels": spec.labels,
        "state": job.state.shown(),
        "substate": job.state.name(),
        "runAt": date(job.run_at),
        "attempt": job.attempt,
        "createdAt": date(job.created_at),
        "updatedAt": date(job.updated_at),
    });
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            told[name] = value;
        }
    };
    set("output", job.output.as_ref().and_then(|output| serde_json::from_str(output.get()).ok()));
    set("exitCode", job.exit_code.map(Value::from));
    set("error", job.error.as_deref().map(Value::from));
    set("completedAt", job.completed_at.map(date));
    set("leaseOwner", job.worker.as_deref().filter(|_| job.state == State::Running).map(Value::from));
    let without_history = |one: &Try| {
        let mut told = attempt(job, one);
        told.as_object_mut().and_then(|told| told.remove("history"));
        told
    };
    told["attempts"] = job.tries.iter().filter(|one| one.number > 0).map(without_history).collect();
    let Value::Object(told) = told else { unreachable!("it is written as an object above") };
    told
}

fn attempt(job: &Job, one: &Try) -> Value {
    let started = one.history.iter().find(|happened| happened.status == State::Running.name());
    let history: Vec<Value> = one
        .history
        .iter()
        .map(|happened| {
            let mut told = json!({ "status": happened.status, "timestamp": date(happened.timestamp) });
            if let Some(message) = &happened.message {
                told["message"] = json!(message);
            }
            told
        })
        .collect();
    let mut told = json!({ "attemptNumber": one.number, "history": history });
    if let Some(started) = started {
        told["startedAt"] = date(started.timestamp);
    }
    match &one.end {
        Some(end) => {
            told["completedAt"] = date(end.completed_at);
            told["finalStatus"] = json!(end.final_status);
            if let Some(code) = end.exit_code {
                told["exitCode"] = json!(code);
            }
            if let Some(reason) = &end.reason {
                told["reason"] = json!(reason);
            }
        }
        None => told["finalStatus"] = json!(job.state.name()),
    }
    told
}

/// ISO 8601, as JavaScript's `toISOString` has it.
fn date(ms: u64) -> Value {
    let time = DateTime::from_timestamp_millis(ms.min(i64::MAX as u64) as i64).unwrap_or_default();
    time.to_rfc3339_opts(SecondsFormat::Millis, true).into()
}
