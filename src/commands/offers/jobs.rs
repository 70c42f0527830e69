//! Jobs: work that is kept until it is done, and tried again where it fails.

use std::sync::Arc;

use crate::commands::offers::Later;

/// Takes jobs.
pub trait Jobs: Send + Sync {
    /// Takes a job; its id comes once it is kept, whatever happens then.
    fn submit(&self, job: NewJob) -> Later<Arc<str>>;

    /// What is known of a job: JSON, as `GET /jobs/{id}` tells it. Fails with `NOJOB` where there is none.
    fn status(&self, id: &str) -> Later<Arc<[u8]>>;

    /// Ends a job that has not ended. Fails with `NOJOB` where there is none.
    fn cancel(&self, id: &str) -> Later<()>;
}

/// A job to be.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// For people.
    pub name: String,
    /// What runs it: `node:18`, `python:3.9`, `bash`, `quickjs`.
    pub runtime: String,
    /// The program.
    pub script: Arc<[u8]>,
    /// JSON that the program is given.
    pub payload: Arc<[u8]>,
    /// Packages that it needs, as its runtime's tool names them.
    pub dependencies: Vec<String>,
    /// How often it is tried, the first time among them.
    pub tries: u32,
    /// Not before this time, in milliseconds since the epoch; None for at once.
    pub run_at: Option<u64>,
    /// The same job is taken once for the same key; None where it may come twice.
    pub idempotency_key: Option<String>,
    /// Who submits it, as it is told of it; None for nobody in particular.
    pub caller: Option<Arc<str>>,
}
