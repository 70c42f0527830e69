//! JSON as it goes over the wire: peers, jobs, results, events. Fields that older peers do not know are left out where they
//! say nothing.

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::engine::error::Error;
use crate::peers::calls::{Outcome, Why};

/// A peer, as `flux:peer:{id}` holds it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// Names it for as long as it lives.
    #[serde(default)]
    pub id: String,
    /// For people.
    #[serde(default)]
    pub name: String,
    /// What it can be called for.
    #[serde(default)]
    pub capabilities: Vec<Capability>,
    /// Where it takes part.
    #[serde(default)]
    pub workspaces: Vec<String>,
    /// In milliseconds since the epoch.
    #[serde(default)]
    pub started_at: u64,
}

/// What a peer can be called for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Capability {
    /// Callers name it.
    pub name: String,
    /// For people and for models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// JSON Schema of the payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Value>,
    /// How many calls of it the peer takes at once; None for any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// How often a call that failed is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<u32>,
}

/// The names of a peer's fields, read strictly: a peer that registers hears of one that it mistyped. Keys that old peers write themselves may
/// have more.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
#[expect(dead_code, reason = "only that they can be read matters")]
pub(crate) struct PeerFields {
    id: Option<IgnoredAny>,
    name: Option<IgnoredAny>,
    capabilities: Option<Vec<CapabilityFields>>,
    workspaces: Option<IgnoredAny>,
    started_at: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only that they can be read matters")]
struct CapabilityFields {
    name: Option<IgnoredAny>,
    description: Option<IgnoredAny>,
    schema: Option<IgnoredAny>,
    concurrency: Option<IgnoredAny>,
    retry: Option<IgnoredAny>,
}

/// A job on an old peer's list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Job {
    /// Names it; the result repeats it.
    pub id: String,
    /// The capability.
    #[serde(rename = "fn")]
    pub function: String,
    /// What the handler gets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<Box<RawValue>>,
    /// The peer whose channel gets the result.
    #[serde(rename = "sourceHost")]
    pub source: String,
    /// How often it was tried before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
}

/// A result or a piece of it, as `flux:res:{id}` carries it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Result {
    /// The job it belongs to.
    #[serde(rename = "jobId")]
    pub job: String,
    /// Whether it went well; None for a piece.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ok: Option<bool>,
    /// What came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What kind of failure it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// A piece, before the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk: Option<Box<RawValue>>,
    /// The piece's number, from 1 on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// That it is tried once more: which try it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// And how often it may be given to another peer yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<u32>,
}

/// Something that happened in a workspace, as its channel and its log carry it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// `peer:joined`, `peer:left`, `ctx:updated`, `stream:data` or `stream:end`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where.
    pub workspace: String,
    /// Who did it; empty if no peer did.
    #[serde(default)]
    pub peer_id: String,
    /// Their name.
    #[serde(default)]
    pub peer_name: String,
    /// The context's or the stream's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The value or the chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<RawValue>>,
    /// The chunk's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// The value's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Whether the value was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<bool>,
    /// Why a stream broke off, where it did not come to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How a peer left: `stopped`, `expired` or `disconnected`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<String>,
}

impl Event {
    /// An event of a peer in a workspace.
    pub(crate) fn new(kind: &str, workspace: &str, peer_id: &str, peer_name: &str) -> Event {
        Event {
            kind: kind.into(),
            workspace: workspace.into(),
            peer_id: peer_id.into(),
            peer_name: peer_name.into(),
            ..Event::default()
        }
    }
}

/// Writes JSON. Our own types can always be written.
pub(crate) fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Text as a JSON string.
pub(crate) fn quoted(text: &str) -> Box<RawValue> {
    serde_json::value::to_raw_value(text).unwrap_or_default()
}

/// A context value as events carry it: JSON as it is, on one line, anything else as a string.
pub(crate) fn value(bytes: &[u8]) -> Box<RawValue> {
    let text = String::from_utf8_lossy(bytes);
    // A JSON text has line ends only between its parts, where a space is as good.
    let line = text.replace(['\n', '\r'], " ");
    RawValue::from_string(line).unwrap_or_else(|_| quoted(&text))
}

/// Reads an argument that must be JSON, without copying it.
pub(crate) fn json<'a>(what: &str, bytes: &'a [u8]) -> std::result::Result<&'a RawValue, Error> {
    serde_json::from_slice(bytes).map_err(|error| Error::new(format!("INVALID {what} is not JSON: {error}")))
}

/// The outcome of a job as its caller's channel carries it. Old peers know no `code`.
pub(crate) fn result(job: &str, outcome: &Outcome, with_code: bool) -> String {
    let job = quoted(job);
    match outcome {
        Ok(data) => format!(r#"{{"jobId":{job},"ok":true,"data":{}}}"#, String::from_utf8_lossy(data)),
        Err(failure) if with_code => {
            let (error, code) = (quoted(&failure.message), quoted(failure.code));
            format!(r#"{{"jobId":{job},"ok":false,"error":{error},"code":{code}}}"#)
        }
        Err(failure) => format!(r#"{{"jobId":{job},"ok":false,"error":{}}}"#, quoted(&failure.message)),
    }
}

/// A piece of a result, as the caller's channel carries it.
pub(crate) fn chunk(job: &str, data: &[u8], seq: u64) -> String {
    format!(r#"{{"jobId":{},"chunk":{},"seq":{seq}}}"#, quoted(job), String::from_utf8_lossy(data))
}

/// That a call is tried once more, as the caller's channel carries it.
pub(crate) fn tried(job: &str, attempt: u32, retries: u32) -> String {
    format!(r#"{{"jobId":{},"attempt":{attempt},"retries":{retries}}}"#, quoted(job))
}

/// That a call need not be answered any more, as the callee's channel carries it.
pub(crate) fn cancelled(call: &str, why: Why) -> String {
    match why {
        Why::Cancelled => call.to_owned(),
        Why::Late => format!("{call} TIMEOUT"),
    }
}

/// The call of such a message.
pub(crate) fn cancelled_call(message: &str) -> &str {
    message.split_once(' ').map_or(message, |(call, _)| call)
}

/// One peer's answer among those gathered.
pub(crate) fn answer(peer: &str, name: &str, outcome: &Outcome) -> String {
    let (peer, name) = (quoted(peer), quoted(name));
    match outcome {
        Ok(data) => format!(r#"{{"peerId":{peer},"peerName":{name},"ok":true,"data":{}}}"#, String::from_utf8_lossy(data)),
        Err(failure) => {
            let (error, code) = (quoted(&failure.message), quoted(failure.code));
            format!(r#"{{"peerId":{peer},"peerName":{name},"ok":false,"error":{error},"code":{code}}}"#)
        }
    }
}
