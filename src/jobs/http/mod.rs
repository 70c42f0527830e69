//! What can be asked of jobs over HTTP: the rows and what answers. The contract of the first four routes is older than flux: seed 004.

mod form;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use redis::RedisError;
use serde_json::{Map, Value, json};

use crate::clock;
use crate::commands::route::{Answer, Ask, Body, Gives, Kind, Named, Param, Refusal, Route, Shape};
use crate::jobs::book::{Book, Job, Once, Order};
use crate::jobs::here::book;
use crate::jobs::names::JobId;
use crate::jobs::runtime::Language;
use crate::jobs::settings::SUBMIT_LIMIT;
use crate::jobs::shown::{brief, shown};
use crate::jobs::spec::Spec;
use crate::jobs::state::State;

/// Jobs in a list where nothing is said.
const LIST: usize = 100;
/// Jobs in a list at most.
const LIST_MAX: i64 = 1000;

const ID: Param = Param::path("id", Kind::Text { bytes_max: 64 }, "A job's id, such as job-2b1c….");
const SUBSTATES: [&str; 9] =
    ["SCHEDULED", "HELD", "READY", "RUNNING", "RETRY_WAIT", "COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"];

const JOB: Named = Named {
    name: "Job",
    schema: r#"{"type": "object", "required": ["jobId", "name", "type", "runtime", "state", "substate", "runAt", "attempt", "createdAt", "updatedAt"],
        "properties": {
        "jobId": {"type": "string"},
        "name": {"type": "string"},
        "type": {"type": "string"},
        "runtime": {"type": "string"},
        "payload": {"description": "What the program is given."},
        "checksum": {"type": "string", "description": "SHA-256 of the script."},
        "dependencies": {"type": "array", "items": {"type": "string"}},
        "maxRetries": {"type": "integer", "description": "How often it is tried in all."},
        "timeoutMs": {"type": "integer"},
        "priority": {"type": "integer"},
        "labels": {"type": "object"},
        "state": {"enum": ["PENDING", "QUEUED", "RUNNING", "COMPLETED", "FAILED"]},
        "substate": {"enum": ["SCHEDULED", "HELD", "READY", "RUNNING", "RETRY_WAIT", "COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"]},
        "runAt": {"type": "string", "format": "date-time"},
        "attempt": {"type": "integer"},
        "output": {"description": "What the program left in its output file, or returned."},
        "exitCode": {"type": "integer"},
        "error": {"type": "string", "description": "What went wrong the last time."},
        "completedAt": {"type": "string", "format": "date-time"},
        "leaseOwner": {"type": "string", "description": "The worker that has it."},
        "logs": {"type": "string", "description": "What the last try wrote."},
        "attempts": {"type": "array", "items": {"type": "object"}},
        "createdAt": {"type": "string", "format": "date-time"},
        "updatedAt": {"type": "string", "format": "date-time"}
    }}"#,
    uses: &[],
};

const ONE: Named = Named {
    name: "JobAnswer",
    schema: r##"{"type": "object", "required": ["success", "job"], "properties": {
        "success": {"const": true}, "job": {"$ref": "#/components/schemas/Job"}
    }}"##,
    uses: &[&JOB],
};
const DONE: Gives = Gives::json(
    Shape::Of(
        r#"{"type": "object", "required": ["success", "state"], "properties": {
            "success": {"const": true}, "state": {"type": "string"}, "substate": {"type": "string"}}}"#,
    ),
    "What it is now.",
);

/// The rows.
pub(crate) const ROUTES: &[Route] = &[
    Route::post("/jobs/submit", |ask| Box::pin(submit(ask)))
        .help("Takes a job: a script, what runs it, and how. The answer comes once it is kept.")
        .body(Body {
            media: "multipart/form-data",
            shape: Shape::Of(
                r#"{"type": "object", "required": ["script", "runtime"], "properties": {
                    "script": {"type": "string", "format": "binary", "description": "The program, as a file."},
                    "runtime": {"enum": ["node:18", "python:3.9", "bash"]},
                    "name": {"type": "string"},
                    "type": {"type": "string"},
                    "payload": {"type": "string", "description": "JSON that the program is given."},
                    "dependencies": {"type": "string", "description": "JSON: an array of packages."},
                    "maxRetries": {"type": "integer", "description": "How often it is tried in all; 3 by default."},
                    "runAt": {"type": "string", "format": "date-time", "description": "Not before."},
                    "timeoutMs": {"type": "integer", "description": "How long a try may take; 5 minutes by default."},
                    "priority": {"type": "integer", "minimum": 0, "maximum": 9, "description": "Higher ones go first; 5 by default."},
                    "concurrency": {"type": "string", "description": "JSON: of jobs with the same key so many run at once."},
                    "backoff": {"type": "string", "description": "JSON: how long to wait before it is tried again."},
                    "env": {"type": "string", "description": "JSON: variables of its environment."},
                    "labels": {"type": "string", "description": "JSON: words for people and filters."},
                    "idempotencyKey": {"type": "string", "description": "The same job is taken once for the same key within a day."}
                }}"#,
            ),
            help: "The job, a field each.",
            is_required: true,
            limit: &SUBMIT_LIMIT,
        })
        .gives(&[Gives::json(
            Shape::Of(
                r#"{"type": "object", "required": ["success", "jobId", "status", "checksum"], "properties": {
                    "success": {"const": true}, "jobId": {"type": "string"}, "status": {"const": "Scheduled"},
                    "checksum": {"type": "string"}}}"#,
            ),
            "It is kept.",
        )
        .status(201)])
        .errors(&["DIFFERS", "OOM", "MISCONF"]),
    Route::get("/jobs", |ask| Box::pin(list(ask)))
        .help("The newest jobs, newest first, without what may be long.")
        .params(&[
            Param::query("state", Kind::Word(&SUBSTATES), "Only those in this substate."),
            Param::query("limit", Kind::Number { min: 1, max: LIST_MAX }, "How many; 100 by default."),
        ])
        .gives(&[Gives::json(
            Shape::Of(
                r#"{"type": "object", "required": ["success", "count", "jobs"], "properties": {
                    "success": {"const": true}, "count": {"type": "integer"}, "jobs": {"type": "array", "items": {"type": "object"}}}}"#,
            ),
            "The jobs.",
        )]),
    Route::get("/jobs/{id}", |ask| Box::pin(job(ask)))
        .help("All that is known of a job, with what it wrote.")
        .params(&[ID])
        .gives(&[Gives::json(Shape::The(&ONE), "The job.")])
        .errors(&["NOJOB"]),
    Route::post("/jobs/{id}/cancel", |ask| Box::pin(cancel(ask)))
        .help("Ends a job: one that waits at once, one that runs by killing it.")
        .params(&[ID])
        .gives(&[DONE])
        .errors(&["NOJOB"]),
    Route::post("/jobs/{id}/retry", |ask| Box::pin(retry(ask)))
        .help("Has a job that ended run again, as often as it was to be tried at first.")
        .params(&[ID])
        .gives(&[DONE])
        .errors(&["NOJOB", "NOTENDED"]),
    Route::delete("/jobs/{id}", |ask| Box::pin(delete(ask)))
        .help("Forgets a job that ended, with what it wrote.")
        .params(&[ID])
        .gives(&[Gives::nothing(204, "It is gone.")])
        .errors(&["NOJOB", "NOTENDED"]),
    Route::get("/stats", |ask| Box::pin(stats(ask)))
        .help("How many jobs are in each state.")
        .gives(&[Gives::json(
            Shape::Of(r#"{"type": "object", "required": ["jobs"], "properties": {"jobs": {"type": "object"}}}"#),
            "The numbers.",
        )]),
];

async fn submit(mut ask: Ask) -> Answer {
    let form = form::read(&mut ask).await?;
    let Some(script) = form.script else { return Err(Refusal::bad_request("no file provided")) };
    let now = clock::now_ms();
    let (spec, payload) = match Spec::read(&form.fields, &script, &Language::NAMES, now) {
        Ok(read) => read,
        Err(wrong) => {
            let told =
                json!({ "error": wrong.to_string(), "code": "ERR", "details": { "field": wrong.field, "reason": wrong.reason } });
            return Ok((StatusCode::BAD_REQUEST, Json(told)).into_response());
        }
    };
    let checksum = spec.checksum.clone();
    let key = form.fields.get("idempotencyKey").filter(|key| !key.is_empty()).cloned();
    let once = key.map(|key| Once { key, said: json!(form.fields).to_string() });
    let order = Order { spec, payload, script, once };
    let (id, _) = book(&ask.instance).await?.submit(&order, now).await?;
    let told = json!({ "success": true, "jobId": id.as_str(), "status": "Scheduled", "checksum": checksum });
    Ok((StatusCode::CREATED, Json(told)).into_response())
}

async fn list(ask: Ask) -> Answer {
    let state = ask.text("state").and_then(State::named);
    let count = ask.number("limit").unwrap_or(LIST);
    let jobs: Vec<Map<String, Value>> = book(&ask.instance).await?.newest(state, count).await?.iter().map(brief).collect();
    Ok(Json(json!({ "success": true, "count": jobs.len(), "jobs": jobs })).into_response())
}

async fn job(ask: Ask) -> Answer {
    let book = book(&ask.instance).await?;
    match found(&book, &ask).await? {
        Some(job) => Ok(Json(json!({ "success": true, "job": shown(&book, &job).await? })).into_response()),
        None => Ok(no_job()),
    }
}

async fn found(book: &Book, ask: &Ask) -> Result<Option<Job>, RedisError> {
    match JobId::parse(ask.part("id")) {
        Some(id) => book.job(&id).await,
        None => Ok(None),
    }
}

async fn cancel(ask: Ask) -> Answer {
    let Some(id) = JobId::parse(ask.part("id")) else { return Ok(no_job()) };
    changed(book(&ask.instance).await?.cancel(&id, "it was cancelled", clock::now_ms()).await)
}

async fn retry(ask: Ask) -> Answer {
    let Some(id) = JobId::parse(ask.part("id")) else { return Ok(no_job()) };
    changed(book(&ask.instance).await?.retry(&id, clock::now_ms()).await)
}

async fn delete(ask: Ask) -> Answer {
    let Some(id) = JobId::parse(ask.part("id")) else { return Ok(no_job()) };
    match book(&ask.instance).await?.delete(&id, clock::now_ms()).await {
        Err(error) if error.code() == Some("NOJOB") => Ok(no_job()),
        deleted => {
            deleted?;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
    }
}

async fn stats(ask: Ask) -> Answer {
    let book = book(&ask.instance).await?;
    let mut counts = Map::new();
    for state in State::ALL {
        counts.insert(state.name().into(), book.count(state).await?.into());
    }
    Ok(Json(json!({ "jobs": counts })).into_response())
}

fn changed(state: Result<State, RedisError>) -> Answer {
    match state {
        Err(error) if error.code() == Some("NOJOB") => Ok(no_job()),
        state => {
            let state = state?;
            Ok(Json(json!({ "success": true, "state": state.shown(), "substate": state.name() })).into_response())
        }
    }
}

/// As the contract has it, and as all errors are.
fn no_job() -> Response {
    let told = json!({ "success": false, "message": "job not found", "code": "NOJOB", "error": "job not found" });
    (StatusCode::NOT_FOUND, Json(told)).into_response()
}
