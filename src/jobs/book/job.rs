//! What is known of a job, as it lies in its hash.

use redis::RedisResult;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::strange;
use crate::jobs::names::JobId;
use crate::jobs::spec::Spec;
use crate::jobs::state::State;

/// A job.
#[derive(Debug)]
pub struct Job {
    /// Which.
    pub id: JobId,
    /// What is to run.
    pub(crate) spec: Spec,
    /// Where it is.
    pub state: State,
    /// When its state came to be, and when it was submitted, in milliseconds since the epoch.
    pub(crate) updated_at: u64,
    pub created_at: u64,
    /// When it is to run, the next time if it failed before.
    pub(crate) run_at: u64,
    /// When it ended.
    pub completed_at: Option<u64>,
    /// How often it was given to a worker.
    pub(crate) attempt: u32,
    /// The worker that has it.
    pub(crate) worker: Option<String>,
    /// The program's exit code, of the last try that came so far.
    pub exit_code: Option<i32>,
    /// What it gave, if that is short.
    pub output: Option<Box<RawValue>>,
    /// What went wrong the last time.
    pub error: Option<String>,
    /// Its tries, the first one first. What happened before the first stands in an entry of number 0.
    pub tries: Vec<Try>,
}

/// A try.
#[derive(Debug, Default)]
pub struct Try {
    /// From 1.
    pub number: u32,
    /// How it ended, if it has.
    pub end: Option<TryEnd>,
    /// What happened, in order.
    pub history: Vec<Happened>,
}

/// How a try ended.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TryEnd {
    pub(crate) completed_at: u64,
    pub final_status: String,
    pub(crate) exit_code: Option<i32>,
    pub reason: Option<String>,
}

/// What happened to a job.
#[derive(Debug, Deserialize, Serialize)]
pub struct Happened {
    pub status: String,
    pub timestamp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
}

impl Job {
    /// Reads the fields of its hash.
    pub(super) fn read(id: JobId, fields: Vec<(String, Vec<u8>)>) -> RedisResult<Job> {
        let text = |name: &str| {
            let field = fields.iter().find(|(field, _)| field == name);
            field.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
        };
        let missing = |name: &str| strange(format!("`{name}` of {id} is not there, or is not what it should be"));
        let number = |name: &str| text(name).and_then(|text| text.parse::<u64>().ok());
        let needed = |name: &str| number(name).ok_or_else(|| missing(name));
        let mut tries: Vec<Try> = Vec::new();
        for (name, value) in &fields {
            let Some((kind, Ok(number))) = name.split_once(':').map(|(kind, number)| (kind, number.parse())) else { continue };
            let at = tries.iter().position(|one| one.number == number).unwrap_or_else(|| {
                tries.push(Try { number, ..Try::default() });
                tries.len() - 1
            });
            let value = String::from_utf8_lossy(value);
            match kind {
                "try" => tries[at].end = Some(serde_json::from_str(&value).map_err(|_| missing(name))?),
                "history" => tries[at].history = serde_json::from_str(&format!("[{value}]")).map_err(|_| missing(name))?,
                _ => {}
            }
        }
        tries.sort_by_key(|one| one.number);
        let state = text("state").and_then(|name| State::named(&name)).ok_or_else(|| missing("state"))?;
        Ok(Job {
            spec: text("spec").and_then(|spec| serde_json::from_str(&spec).ok()).ok_or_else(|| missing("spec"))?,
            state,
            updated_at: needed("updatedAt")?,
            created_at: needed("createdAt")?,
            run_at: needed("runAt")?,
            completed_at: number("completedAt"),
            attempt: needed("attempt")? as u32,
            worker: text("worker"),
            exit_code: text("exitCode").and_then(|code| code.parse().ok()),
            output: text("output").and_then(|output| RawValue::from_string(output).ok()),
            error: text("error"),
            tries,
            id,
        })
    }
}
