//! Calls from the moment they are made to their one outcome: a state machine without I/O. Events go in as methods, what is to
//! be done about them comes out as [`Action`]s, and the time is an argument.
//!
//!   Queued --taken--> Running --answered--> Ended (kept for callers that come back for it)
//!     ^                  |
//!     +-- its peer died, or its handler failed and may try again

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::peers::directory::{Id, Peer, Secret};

/// What a caller asks for.
#[derive(Clone)]
pub struct Order {
    /// The capability.
    pub capability: Id,
    /// JSON.
    pub payload: Arc<[u8]>,
    /// The one peer that may answer; None for any with the capability.
    pub to: Option<Id>,
    /// How long the caller waits, in milliseconds.
    pub timeout_ms: u64,
    /// How often it is given to another peer when the one that runs it dies.
    pub retries: u32,
    /// Higher ones are taken first.
    pub priority: i8,
    /// How a peer is chosen.
    pub route: Route,
    /// All peers with the capability answer; done after so many answers, 0 for all of them. None for a usual call.
    pub gather: Option<usize>,
    /// The call's id; None to make one.
    pub id: Option<Id>,
    /// The peer that calls, if one does.
    pub from: Option<Id>,
}

impl Order {
    /// With everything else as callers usually want it.
    pub fn new(capability: &str, payload: &[u8]) -> Order {
        Order {
            capability: capability.into(),
            payload: payload.into(),
            to: None,
            timeout_ms: TIMEOUT_MS,
            retries: 1,
            priority: 0,
            route: Route::LeastLoaded,
            gather: None,
            id: None,
            from: None,
        }
    }
}

/// How long a caller waits if it does not say.
pub const TIMEOUT_MS: u64 = 30_000;
/// How long a caller may wait.
pub const TIMEOUT_MS_MAX: u64 = 86_400_000;

/// How a peer is chosen among those with the capability.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// The one with the fewest calls; in turn among equals.
    LeastLoaded,
    /// In turn.
    RoundRobin,
    /// The same one for the same key, as long as it lives.
    Sticky(Vec<u8>),
}

/// Why a call has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code} {message}")]
pub struct Failure {
    /// `NOPEER`, `TIMEOUT`, `FAILED`, `INVALID`, `TOOBIG`, `BUSY`, `GONE` or `CANCELLED`.
    pub code: &'static str,
    /// What is wrong, for people.
    pub message: String,
}

impl Failure {
    /// A failure with this code.
    pub fn new(code: &'static str, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into() }
    }
}

/// How a call ends: JSON, or a failure.
pub type Outcome = Result<Arc<[u8]>, Failure>;

/// What a caller within the process gets, pieces first and one end.
#[derive(Debug, Clone)]
pub enum Part {
    /// A piece: JSON and its number, from 1 on.
    Chunk(Arc<[u8]>, u64),
    /// The end.
    End(Outcome),
}

/// Where parts go to a caller within the process.
pub type Parts = mpsc::Sender<Part>;

/// What is to be done about an event.
pub enum Action {}

/// All calls under way.
#[derive(Default)]
pub struct Calls {}

impl Calls {
    /// The hash of the secret of a peer that is gone while calls of it are under way.
    pub fn secret_of(&self, _peer: &str) -> Option<Secret> {
        None
    }

    /// A peer is there, with these capabilities.
    pub fn station(&mut self, _id: &Id, _peer: &Peer) {}

    /// When the next call must end, in milliseconds since the epoch.
    pub fn next_deadline(&self) -> Option<u64> {
        None
    }

    /// Ends calls whose time is over.
    pub fn end_overdue(&mut self, _now: u64) -> Vec<Action> {
        Vec::new()
    }
}
