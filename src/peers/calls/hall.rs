//! Where calls are kept: each with its state, and each peer with its queues and those who wait for work for it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use crate::engine::block::Waiter;
use crate::peers::calls::claims::Returning;
use crate::peers::calls::terms::{Action, Again, Caller, Job, Load, Map, Order, Outcome, Route, Tally};
use crate::peers::directory::{Id, SLICE, Secret};

/// Peers that are asked, or calls that are ended, while the room is locked; then others get their turn. Few in tests, so that what may come in
/// between is tried.
pub(super) const AT_ONCE: usize = if cfg!(test) { 2 } else { SLICE };

/// All calls under way.
#[derive(Default)]
pub struct Calls {
    pub(super) calls: Map<Id, Call>,
    pub(super) stations: Map<Id, Station>,
    pub(super) deadlines: BTreeSet<(u64, Id)>,
    /// Calls whose [`Holder`] is lost, and until when they wait for their peer.
    pub(super) lost: BTreeSet<(u64, Id)>,
    pub(super) of_caller: Map<Id, HashSet<Id>>,
    pub(super) returning: Returning,
    pub(super) kept: VecDeque<Id>,
    pub(super) kept_count: usize,
    pub(super) kept_bytes: usize,
    pub(super) bytes: usize,
    pub(super) number: u64,
    /// The sum over all stations.
    pub(super) total: Load,
    pub(super) tallies: Map<Id, Tally>,
    /// Times a call was given to another peer because the one that had it was gone.
    pub(crate) rerouted: u64,
}

pub(super) struct Call {
    pub(super) job: Job,
    pub(super) caller: Caller,
    pub(super) priority: i8,
    pub(super) number: u64,
    pub(super) retries: u32,
    pub(super) to: Option<Id>,
    pub(super) route: Route,
    pub(super) timeout_ms: u64,
    pub(super) has_audience: bool,
    pub(super) chunks: u64,
    /// What its caller knew of it when it came back with it.
    pub(super) again: Option<Again>,
    pub(super) state: State,
    pub(super) holder: Holder,
}

pub(super) enum State {
    Queued(Id),
    Running(Id),
    /// Its [`Holder`] is lost: see [`Returning`].
    Returning,
    Gathering(Gathering),
    Ended(Outcome),
}

/// What a call has of the answers of many peers.
pub(super) struct Gathering {
    /// Calls to one peer each that have not ended.
    pub(super) parts: HashSet<Id>,
    /// It ends after so many answers.
    pub(super) wanted: usize,
    pub(super) answers: Vec<String>,
    /// Of the answers.
    pub(super) bytes: usize,
    /// Peers that are still to be asked.
    pub(super) asking: Option<Asking>,
}

/// How the next peers of a gathering are asked.
#[derive(Clone)]
pub(super) struct Asking {
    pub(super) order: Order,
    pub(super) made_at: u64,
    /// The number of the last one that was asked; see [`Capable::after`](crate::peers::directory::Capable::after).
    pub(super) last: u64,
    /// That of the last one to be asked: who comes later is not.
    pub(super) until: u64,
}

/// What says that a peer has the call that it runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    /// It was given over the connection of this client.
    Client(u64),
    /// That connection is lost; until this time the peer may say that it has the call.
    Lost(u64),
    /// It sent a piece, or is an old peer: only its end takes the call away.
    Peer,
}

/// Higher priority first, then the order the calls were made in.
pub(super) type Rank = (Reverse<i8>, u64);

/// A peer's place in the hall: its queues, one for each capability, and those who wait for work for it.
#[derive(Default)]
pub(super) struct Station {
    pub(super) name: Option<Id>,
    pub(super) is_old: bool,
    pub(super) lanes: Map<Id, Lane>,
    pub(super) running: HashSet<Id>,
    pub(super) queued: usize,
    pub(super) waiting: VecDeque<Wait>,
    /// With so many waits, those that are over are taken out.
    pub(super) sweep_at: usize,
}

/// Someone who waits for up to so many calls for a peer, and over which client's connection.
pub(super) struct Wait {
    pub(super) waiter: Arc<Waiter>,
    pub(super) count: usize,
    pub(super) client: u64,
}

#[derive(Default)]
pub(super) struct Lane {
    pub(super) queue: BTreeMap<Rank, Id>,
    pub(super) running: u32,
    pub(super) limit: u32,
    pub(super) retry: u32,
}

impl Calls {
    /// The hash of the secret of a peer that calls are kept for, also while it is gone.
    pub(crate) fn secret_of(&self, peer: &str) -> Option<Secret> {
        let calls = self.of_caller.get(peer)?;
        calls.iter().find_map(|id| match &self.calls.get(id)?.caller {
            Caller::Peer(_, secret) => Some(secret.clone()),
            Caller::Waiter(_) | Caller::Channel(_) | Caller::Old(..) | Caller::Gather(_) => None,
        })
    }

    /// How many calls a peer has.
    pub(crate) fn load(&self, peer: &str) -> Load {
        let load = |station: &Station| Load { queued: station.queued, running: station.running.len() };
        self.stations.get(peer).map(load).unwrap_or_default()
    }

    /// How many calls there are at all peers.
    pub(crate) fn total(&self) -> Load {
        self.total
    }

    /// What became of the calls of a capability.
    pub(crate) fn tally(&self, capability: &str) -> Tally {
        self.tallies.get(capability).copied().unwrap_or_default()
    }
}

impl Station {
    /// The queue of a capability.
    pub(super) fn lane(&mut self, capability: &Id) -> &mut Lane {
        let unknown = || Lane { limit: u32::MAX, ..Lane::default() };
        self.lanes.entry(Arc::clone(capability)).or_insert_with(unknown)
    }

    /// The queue whose first call is to be taken next.
    pub(super) fn next(&mut self) -> Option<&mut Lane> {
        let may_run = |lane: &&mut Lane| lane.running < lane.limit && !lane.queue.is_empty();
        self.lanes.values_mut().filter(may_run).min_by_key(|lane| lane.queue.first_key_value().map(|(rank, _)| *rank))
    }
}

/// It is known who has a call: what it was lost for is over.
pub(super) fn find(holder: &mut Holder, lost: &mut BTreeSet<(u64, Id)>, id: &Id, by: Holder) {
    if let Holder::Lost(until) = std::mem::replace(holder, by) {
        lost.remove(&(until, Arc::clone(id)));
    }
}

/// Tells the peer that made a call which try it is now.
pub(super) fn tell_try(call: &Call, actions: &mut Vec<Action>) {
    if let Caller::Peer(peer, _) = &call.caller {
        actions.push(Action::Tried(Arc::clone(peer), Arc::clone(&call.job.id), call.job.attempt, call.retries));
    }
}
