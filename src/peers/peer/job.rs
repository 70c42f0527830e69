//! What a peer can do: capabilities, and the calls of them as their handlers see them.

use std::fmt::Display;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::peers::peer::{Error, Shared};

type Answering = Pin<Box<dyn Future<Output = Result<String, String>> + Send>>;
type Handler = Arc<dyn Fn(String, Job) -> Answering + Send + Sync>;

/// Something a peer can do, by the name others call it by.
#[derive(Clone)]
pub struct Capability {
    pub(super) name: String,
    description: Option<String>,
    schema: Option<Value>,
    concurrency: Option<u32>,
    retry: Option<u32>,
    pub(super) handler: Handler,
}

impl Capability {
    /// A capability whose calls this function answers. Payloads that are not of its type are refused; an error it returns
    /// reaches the caller with its text.
    pub fn new<P, T, E, F, R>(name: impl Into<String>, handler: F) -> Capability
    where
        P: DeserializeOwned + Send,
        T: Serialize,
        E: Display,
        F: Fn(P, Job) -> R + Send + Sync + 'static,
        R: Future<Output = Result<T, E>> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |payload, job| match serde_json::from_str(&payload) {
            Ok(payload) => {
                let answer = handler(payload, job);
                Box::pin(async move {
                    let answer = answer.await.map_err(|error| error.to_string())?;
                    serde_json::to_string(&answer).map_err(|error| format!("the answer cannot be written as JSON: {error}"))
                })
            }
            Err(error) => Box::pin(std::future::ready(Err(format!("the payload cannot be read: {error}")))),
        });
        Capability { name: name.into(), description: None, schema: None, concurrency: None, retry: None, handler }
    }

    /// Says for people, and for models that look for tools, what it does.
    pub fn description(mut self, text: impl Into<String>) -> Capability {
        self.description = Some(text.into());
        self
    }

    /// The JSON Schema of its payload: the server refuses calls that do not fit.
    pub fn schema(mut self, schema: Value) -> Capability {
        self.schema = Some(schema);
        self
    }

    /// How many calls of it may run here at once.
    pub fn concurrency(mut self, count: u32) -> Capability {
        self.concurrency = Some(count);
        self
    }

    /// How often a call that failed is tried again.
    pub fn retry(mut self, times: u32) -> Capability {
        self.retry = Some(times);
        self
    }

    /// As it is registered; what was not said is left out.
    pub(super) fn record(&self) -> Value {
        let mut record = json!({ "name": self.name });
        let fields = [
            ("description", self.description.clone().map(Value::from)),
            ("schema", self.schema.clone()),
            ("concurrency", self.concurrency.map(Value::from)),
            ("retry", self.retry.map(Value::from)),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                record[name] = value;
            }
        }
        record
    }
}

/// A call on its way through a handler.
#[derive(Clone)]
pub struct Job {
    /// Names the call.
    pub id: String,
    /// The capability that is called.
    pub capability: String,
    /// The id of the peer that calls; empty for one that is no peer.
    pub from: String,
    /// 1 at first, more when it is tried again.
    pub attempt: u32,
    /// The caller waits no longer than until then; the handler is dropped at that time.
    pub deadline: Instant,
    pub(super) shared: Arc<Shared>,
}

impl Job {
    /// What is left until the deadline.
    pub fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Sends a piece of the answer ahead, to callers that want pieces.
    pub async fn chunk(&self, piece: impl Serialize) -> Result<(), Error> {
        let piece = serde_json::to_string(&piece)?;
        self.shared.ask(redis::cmd("FLUX.REPLY").arg(&self.id).arg("CHUNK").arg(piece)).await
    }
}
