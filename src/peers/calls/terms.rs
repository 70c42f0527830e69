//! The words that callers, peers and the room use about calls: what is asked, answered, and to be done.

use std::collections::HashMap;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::commands::offers::calls;
use crate::engine::block::Waiter;
use crate::peers::ids::{Id, Secret};

pub use crate::commands::offers::Failure;
pub use crate::commands::offers::calls::{
    Ongoing, Outcome, Part, Parts, PartsTaken, Route, TIMEOUT_MS, TIMEOUT_MS_MAX, ends, parts,
};

/// What a caller asks for: [`calls::Order`], and what only callers that are peers know.
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
    /// Which try it is, from 1 on.
    pub attempt: u32,
    /// Whether the pieces for a caller that waits are published under the call's id.
    pub has_audience: bool,
    /// What its caller knows of it from the server's last run.
    pub again: Option<Again>,
}

/// A call that was given to this server's last run, which forgot it: a peer may still run it.
#[derive(Debug, Clone, Copy)]
pub struct Again {
    /// Which try its last one was.
    pub(crate) attempt: u32,
    /// The pieces its caller has seen.
    pub(crate) seen: u64,
}

impl Order {
    /// With everything else as callers usually want it.
    pub fn new(capability: &str, payload: &[u8]) -> Order {
        calls::Order::new(capability, payload).into()
    }
}

impl From<calls::Order> for Order {
    fn from(order: calls::Order) -> Order {
        let calls::Order { capability, payload, caller, to, timeout_ms, retries, priority, route, gather } = order;
        Order {
            capability,
            payload,
            to,
            timeout_ms,
            retries,
            priority,
            route,
            gather,
            id: None,
            from: caller,
            attempt: 1,
            has_audience: false,
            again: None,
        }
    }
}

pub(super) type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// Calls that wait for one peer or are run by it.
pub(super) const CALLS_OF_A_PEER_MAX: usize = 10_000;

/// A call as the peer that runs it sees it.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    /// Names it in the answer.
    pub id: Id,
    /// The capability.
    pub capability: Id,
    /// JSON.
    pub payload: Arc<[u8]>,
    /// The peer that calls, if one does.
    pub from: Option<Id>,
    /// When the caller stops waiting, on the monotonic clock.
    pub deadline: u64,
    /// Which try it is, from 1 on.
    pub attempt: u32,
}

/// Who gets a call's outcome.
#[derive(Clone)]
pub(crate) enum Caller {
    /// A session that waits.
    Waiter(Arc<Waiter>),
    /// Someone within the process.
    Channel(Parts),
    /// A peer, on its channel; kept for it until the deadline.
    Peer(Id, Secret),
    /// A peer of the old protocol, on its channel, under the id it gave the job.
    Old(Id, Id),
    /// The call that gathers answers of all peers.
    Gather(Id),
}

/// Why a call need not be answered any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Why {
    /// Its caller gave up, or is gone.
    Cancelled,
    /// Its time is over.
    Late,
}

/// What is to be done about an event.
pub(crate) enum Action {
    /// Jobs for a peer that waits for them; the wait has ended.
    Give(Arc<Waiter>, SmallVec<[Job; 1]>),
    /// The peer of this wait is gone; the wait has ended.
    Refuse(Arc<Waiter>),
    /// The peer of this wait takes its work elsewhere; the wait has ended.
    Dismiss(Arc<Waiter>),
    /// A job for an old peer's list.
    Send(Id, Job),
    /// An old peer need not run this job any more.
    Withdraw(Id, Job),
    /// A peer need not answer this call any more: its caller wants no answer, or its time is over.
    Cancel(Id, Id, Why),
    /// A call's end.
    End(Caller, Id, Outcome),
    /// A call of this peer is tried once more: the call, which try it is now, how often it may be given to another peer yet. The peer keeps
    /// count, for a server that is restarted forgets.
    Tried(Id, Id, u32, u32),
    /// More peers are to be asked for this call, which gathers their answers.
    Ask(Id),
    /// Nobody needs the answers of these parts of a gathering any more.
    Drop(Vec<Id>),
    /// A piece of a result: the id of the peer it is for, or the call's own; the call, JSON, number.
    Chunk(Id, Id, Arc<[u8]>, u64),
}

/// What a peer answers.
pub(crate) enum Answer {
    /// A result.
    Done(Arc<[u8]>),
    /// Its handler failed.
    Failed(String),
    /// A piece of the result.
    Chunk(Arc<[u8]>),
}

/// Why an answer is not taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There is no such call, or it was not given to this peer.
    NoCall,
    /// The caller reads too slowly.
    Busy,
}

/// What is known of a call that was made without waiting.
pub(crate) enum Fetched {
    /// There is none of this caller.
    NoCall,
    /// It has not ended.
    Running,
    /// It ended, and is forgotten.
    Ended(Outcome),
}

/// How many calls there are.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Load {
    /// Not taken yet.
    pub queued: usize,
    /// Taken. All of an old peer's count as such.
    pub running: usize,
}

impl Load {
    /// All of them.
    pub(crate) fn total(self) -> usize {
        self.queued + self.running
    }
}

/// What became of the calls of a capability.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Made.
    pub calls: u64,
    /// Ended in a failure.
    pub failed: u64,
}
