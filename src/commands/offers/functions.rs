//! Functions: JavaScript that runs apart from everything, and is recorded.

use std::sync::Arc;

use crate::commands::offers::Later;

/// Runs functions.
pub trait Functions: Send + Sync {
    /// Runs one; its result is JSON. Fails with `NOFUNCTION` where there is none, `FAILED` with its own words, `TIMEOUT`.
    fn run(&self, run: Run) -> Later<Arc<[u8]>>;
}

/// What is to be run, and how.
#[derive(Debug, Clone)]
pub struct Run {
    /// Which one.
    pub code: Code,
    /// JSON that it is given.
    pub input: Arc<[u8]>,
    /// How long it may take, in milliseconds.
    pub timeout_ms: u64,
    /// Who runs it, as the recording tells; None for nobody in particular.
    pub caller: Option<Arc<str>>,
}

/// A function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Code {
    /// One that was deployed, by its name.
    Deployed(Arc<str>),
    /// One whose text is here: a job's script.
    Text(Arc<[u8]>),
}
