//! Calls from the moment they are made to their one outcome: a state machine without I/O. Events go in as methods, what is to
//! be done about them comes out as [`Action`]s, and the time is an argument.
//!
//!   Queued --taken--> Running --answered--> Ended (kept for callers that come back for it)
//!     ^                  |
//!     +-- its peer died, lost the connection it was given over, or its handler failed and may try again

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use smallvec::SmallVec;
use tokio::sync::mpsc;

use crate::engine::block::Waiter;
use crate::id;
use crate::peers::directory::{Directory, Id, Peer, Secret};
use crate::peers::{route, wire};

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
    /// Which try it is, from 1 on.
    pub attempt: u32,
    /// Whether the pieces for a caller that waits are published under the call's id.
    pub has_audience: bool,
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
            attempt: 1,
            has_audience: false,
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

/// Calls that wait for one peer or are run by it.
const CALLS_OF_A_PEER_MAX: usize = 10_000;
/// Bytes of payloads and kept results in all: a flood of calls ends in BUSY, not in the end of the memory.
const BYTES_MAX: usize = 1 << 30;
/// Results kept for callers that come back for them, in number and in bytes; the oldest go first.
const KEPT_MAX: usize = 100_000;
const KEPT_BYTES_MAX: usize = 256 << 20;
/// How long a peer that has lost the connection over which it took a call may take to say that it runs it all the same.
const LOST_MS: u64 = 1_000;
/// Capabilities whose calls are counted.
const TALLIES_MAX: usize = 10_000;

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// A call as the peer that runs it sees it.
#[derive(Debug, Clone)]
pub struct Job {
    /// Names it in the answer.
    pub id: Id,
    /// The capability.
    pub capability: Id,
    /// JSON.
    pub payload: Arc<[u8]>,
    /// The peer that calls, if one does.
    pub from: Option<Id>,
    /// When the caller stops waiting, in milliseconds since the epoch.
    pub deadline: u64,
    /// Which try it is, from 1 on.
    pub attempt: u32,
}

/// Who gets a call's outcome.
#[derive(Clone)]
pub enum Caller {
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

/// What is to be done about an event.
pub enum Action {
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
    /// A peer need not answer this call any more.
    Cancel(Id, Id),
    /// A call's end.
    End(Caller, Id, Outcome),
    /// A piece of a result: the id of the peer it is for, or the call's own; the call, JSON, number.
    Chunk(Id, Id, Arc<[u8]>, u64),
}

/// What a peer answers.
pub enum Answer {
    /// A result.
    Done(Arc<[u8]>),
    /// Its handler failed.
    Failed(String),
    /// A piece of the result.
    Chunk(Arc<[u8]>),
}

/// Why an answer is not taken.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is no such call, or it was not given to this peer.
    NoCall,
    /// The caller reads too slowly.
    Busy,
}

/// What is known of a call that was made without waiting.
pub enum Fetched {
    /// There is none of this caller.
    NoCall,
    /// It has not ended.
    Running,
    /// It ended, and is forgotten.
    Ended(Outcome),
}

/// How many calls there are.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Not taken yet.
    pub queued: usize,
    /// Taken. All of an old peer's count as such.
    pub running: usize,
}

/// What became of the calls of a capability.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Made.
    pub calls: u64,
    /// Ended in a failure.
    pub failed: u64,
}

struct Call {
    job: Job,
    caller: Caller,
    priority: i8,
    number: u64,
    retries: u32,
    to: Option<Id>,
    route: Route,
    timeout_ms: u64,
    has_audience: bool,
    chunks: u64,
    state: State,
    holder: Holder,
}

/// What says that a peer has the call that it runs.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holder {
    /// It was given over the connection of this client.
    Client(u64),
    /// That connection is lost; until this time the peer may say that it has the call.
    Lost(u64),
    /// It sent a piece, or is an old peer: only its end takes the call away.
    Peer,
}

/// Why a call goes to another peer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// Its peer is gone.
    Gone,
    /// The peer is gone, and the job was still on its list.
    Listed,
    /// The peer never got it, or does not say that it did.
    Lost,
    /// The peer does not offer the capability any more.
    Dropped,
}

enum State {
    Queued(Id),
    Running(Id),
    Gathering { parts: HashSet<Id>, wanted: usize, answers: Vec<String> },
    Ended(Outcome),
}

/// Higher priority first, then the order the calls were made in.
type Rank = (Reverse<i8>, u64);

/// A peer's place in the hall: its queues, one for each capability, and those who wait for work for it.
#[derive(Default)]
struct Station {
    name: Option<Id>,
    is_old: bool,
    lanes: Map<Id, Lane>,
    running: HashSet<Id>,
    queued: usize,
    waiting: VecDeque<Wait>,
}

/// Someone who waits for up to so many calls for a peer, and over which client's connection.
struct Wait {
    waiter: Arc<Waiter>,
    count: usize,
    client: u64,
}

#[derive(Default)]
struct Lane {
    queue: BTreeMap<Rank, Id>,
    running: u32,
    limit: u32,
    retry: u32,
}

/// All calls under way.
#[derive(Default)]
pub struct Calls {
    calls: Map<Id, Call>,
    stations: Map<Id, Station>,
    deadlines: BTreeSet<(u64, Id)>,
    /// Calls whose [`Holder`] is lost, and until when they wait for their peer.
    lost: BTreeSet<(u64, Id)>,
    of_caller: Map<Id, HashSet<Id>>,
    kept: VecDeque<Id>,
    kept_count: usize,
    kept_bytes: usize,
    bytes: usize,
    number: u64,
    tallies: Map<Id, Tally>,
    /// Times a call was given to another peer because the one that had it was gone.
    pub rerouted: u64,
}

impl Calls {
    /// A peer, which is in the directory, has these capabilities. Calls that wait for one it has no more go to others, or end.
    pub fn station(&mut self, directory: &mut Directory, peer: &Peer, now: u64) -> Vec<Action> {
        let station = self.stations.entry(Arc::clone(&peer.id)).or_default();
        station.name = Some(Arc::clone(&peer.name));
        station.is_old = peer.is_old();
        for lane in station.lanes.values_mut() {
            lane.limit = u32::MAX;
        }
        for capability in &peer.capabilities {
            let lane = station.lanes.entry(Arc::clone(&capability.name)).or_default();
            lane.limit = capability.concurrency;
            lane.retry = capability.retry;
        }
        let dropped = station.lanes.iter().filter(|(name, _)| peer.capability(name).is_none());
        let mut calls: Vec<Id> = dropped.flat_map(|(_, lane)| lane.queue.values().cloned()).collect();
        station.lanes.retain(|name, lane| lane.running > 0 || !lane.queue.is_empty() || peer.capability(name).is_some());
        let mut actions = Vec::new();
        self.move_all(directory, &mut calls, &peer.id, |_| Cause::Dropped, now, &mut actions);
        actions
    }

    /// Makes a call. Nothing is left of it where that fails.
    pub fn make(
        &mut self,
        directory: &mut Directory,
        order: Order,
        caller: Caller,
        now: u64,
    ) -> Result<(Id, Vec<Action>), Failure> {
        let id = match &order.id {
            Some(id) if self.calls.contains_key(id) => {
                return Err(Failure::new("INVALID", format!("call id \"{id}\" is in use: choose another")));
            }
            Some(id) => Arc::clone(id),
            None => id::call().into(),
        };
        if self.bytes + order.payload.len() > BYTES_MAX {
            return Err(Failure::new("BUSY", "too many calls are under way: try again later"));
        }
        let mut actions = Vec::new();
        match order.gather {
            None => {
                let peer = self.choose(directory, &order.capability, order.to.as_ref(), &order.route, now)?;
                self.add(&id, &order, caller, State::Queued(Arc::clone(&peer)), now);
                self.place(&id, &peer, &mut actions);
            }
            Some(wanted) => self.gather(directory, &id, &order, caller, wanted, now, &mut actions)?,
        }
        let deadline = now.saturating_add(order.timeout_ms);
        self.deadlines.insert((deadline, Arc::clone(&id)));
        if self.tallies.len() < TALLIES_MAX || self.tallies.contains_key(&order.capability) {
            self.tallies.entry(order.capability).or_default().calls += 1;
        }
        Ok((id, actions))
    }

    fn gather(
        &mut self,
        directory: &mut Directory,
        id: &Id,
        order: &Order,
        caller: Caller,
        wanted: usize,
        now: u64,
        actions: &mut Vec<Action>,
    ) -> Result<(), Failure> {
        let is_live = |peer: &&Id| directory.get(peer).is_some_and(|peer| peer.is_live(now));
        let peers: Vec<Id> = directory.with_capability(&order.capability).iter().filter(is_live).cloned().collect();
        if peers.is_empty() {
            return Err(nobody(&order.capability));
        }
        let parts: Vec<Id> = peers.iter().map(|_| Id::from(id::call())).collect();
        let wanted = if wanted == 0 { peers.len() } else { wanted.min(peers.len()) };
        let state = State::Gathering { parts: parts.iter().cloned().collect(), wanted, answers: Vec::new() };
        self.add(id, order, caller, state, now);
        for (part, peer) in parts.iter().zip(&peers) {
            let order = Order { to: Some(Arc::clone(peer)), gather: None, ..order.clone() };
            self.add(part, &order, Caller::Gather(Arc::clone(id)), State::Queued(Arc::clone(peer)), now);
            if self.load(peer).total() >= CALLS_OF_A_PEER_MAX {
                self.end(part, Err(busy(peer)), actions);
            } else {
                self.place(part, peer, actions);
            }
        }
        Ok(())
    }

    fn add(&mut self, id: &Id, order: &Order, caller: Caller, state: State, now: u64) {
        self.number += 1;
        self.bytes += order.payload.len();
        if let Caller::Peer(peer, _) | Caller::Old(peer, _) = &caller {
            self.of_caller.entry(Arc::clone(peer)).or_default().insert(Arc::clone(id));
        }
        let job = Job {
            id: Arc::clone(id),
            capability: Arc::clone(&order.capability),
            payload: Arc::clone(&order.payload),
            from: order.from.clone(),
            deadline: now.saturating_add(order.timeout_ms),
            attempt: order.attempt,
        };
        let call = Call {
            job,
            caller,
            priority: order.priority,
            number: self.number,
            retries: order.retries,
            to: order.to.clone(),
            route: order.route.clone(),
            timeout_ms: order.timeout_ms,
            has_audience: order.has_audience,
            chunks: 0,
            state,
            holder: Holder::Peer,
        };
        self.calls.insert(Arc::clone(id), call);
    }

    fn choose(
        &self,
        directory: &mut Directory,
        capability: &Id,
        to: Option<&Id>,
        route: &Route,
        now: u64,
    ) -> Result<Id, Failure> {
        if let Some(to) = to {
            let peer = directory.get(to).filter(|peer| peer.is_live(now) && peer.capability(capability).is_some());
            let peer = peer.ok_or_else(|| Failure::new("NOPEER", format!("no live peer \"{to}\" handles \"{capability}\"")))?;
            return if self.load(to).total() < CALLS_OF_A_PEER_MAX { Ok(Arc::clone(&peer.id)) } else { Err(busy(to)) };
        }
        let (_, turn) = directory.turn(capability);
        let peers = directory.with_capability(capability);
        let load = |peer: &Id| {
            let load = self.load(peer).total();
            (load < CALLS_OF_A_PEER_MAX && directory.get(peer).is_some_and(|peer| peer.is_live(now))).then_some(load)
        };
        if let Some(peer) = route::pick(peers, turn, route, load) {
            return Ok(Arc::clone(peer));
        }
        match peers.iter().find(|peer| directory.get(peer).is_some_and(|peer| peer.is_live(now))) {
            Some(peer) => Err(busy(peer)),
            None if peers.is_empty() => Err(nobody(capability)),
            None => Err(nobody_alive(capability)),
        }
    }

    /// Puts a call into a peer's queue, and gives it at once if the peer waits for work.
    fn place(&mut self, id: &Id, peer: &Id, actions: &mut Vec<Action>) {
        let Some(call) = self.calls.get_mut(id) else { return };
        let station = self.stations.entry(Arc::clone(peer)).or_default();
        if station.is_old {
            call.state = State::Running(Arc::clone(peer));
            station.running.insert(Arc::clone(id));
            actions.push(Action::Send(Arc::clone(peer), call.job.clone()));
            return;
        }
        call.state = State::Queued(Arc::clone(peer));
        station.queued += 1;
        let unknown = || Lane { limit: u32::MAX, ..Lane::default() };
        let lane = station.lanes.entry(Arc::clone(&call.job.capability)).or_insert_with(unknown);
        lane.queue.insert((Reverse(call.priority), call.number), Arc::clone(id));
        self.give(peer, actions);
    }

    /// Gives jobs to those who wait for them, first come first served.
    fn give(&mut self, peer: &Id, actions: &mut Vec<Action>) {
        loop {
            let Some(station) = self.stations.get_mut(peer) else { return };
            if station.next().is_none() {
                return;
            }
            let Some(Wait { waiter, count, client }) = station.waiting.pop_front() else { return };
            // A wait that is over takes nothing.
            if waiter.end() {
                actions.push(Action::Give(waiter, self.take(peer, count, client)));
            }
        }
    }

    /// Takes jobs that a peer may run now, to be given over this client's connection.
    pub fn take(&mut self, peer: &Id, count: usize, client: u64) -> SmallVec<[Job; 1]> {
        let mut jobs = SmallVec::new();
        let Some(station) = self.stations.get_mut(peer) else { return jobs };
        while jobs.len() < count
            && let Some(lane) = station.next()
            && let Some((_, id)) = lane.queue.pop_first()
        {
            lane.running += 1;
            station.queued -= 1;
            station.running.insert(Arc::clone(&id));
            let call = self.calls.get_mut(&id).expect("what is queued is a call");
            call.state = State::Running(Arc::clone(peer));
            call.holder = Holder::Client(client);
            jobs.push(call.job.clone());
        }
        jobs
    }

    /// Waits for up to `count` jobs for a peer. Only to be called after [`Self::take`] gave none.
    pub fn wait(&mut self, peer: &Id, waiter: Arc<Waiter>, count: usize, client: u64) {
        let Some(station) = self.stations.get_mut(peer) else { return };
        station.waiting.retain(|wait| !wait.waiter.is_over());
        station.waiting.push_back(Wait { waiter, count, client });
    }

    /// A connection of a peer that may go on without it is lost, and with it perhaps what was given over it.
    pub fn lose(&mut self, peer: &Id, client: u64, now: u64) {
        let Some(station) = self.stations.get(peer) else { return };
        for id in &station.running {
            let Some(call) = self.calls.get_mut(id).filter(|call| call.holder == Holder::Client(client)) else { continue };
            call.holder = Holder::Lost(now + LOST_MS);
            self.lost.insert((now + LOST_MS, Arc::clone(id)));
        }
    }

    /// A peer says which calls it runs, and that it takes its work over this client's connection from now on. What it was given
    /// over others and does not name never arrived.
    pub fn claim(&mut self, directory: &mut Directory, peer: &Id, client: u64, named: &HashSet<String>, now: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        let Some(station) = self.stations.get_mut(peer) else { return actions };
        let (own, others): (VecDeque<Wait>, VecDeque<Wait>) =
            std::mem::take(&mut station.waiting).into_iter().partition(|wait| wait.client == client);
        station.waiting = own;
        actions.extend(others.into_iter().filter(|wait| wait.waiter.end()).map(|wait| Action::Dismiss(wait.waiter)));
        let mut missing = Vec::new();
        for id in &station.running {
            let Some(call) = self.calls.get_mut(id) else { continue };
            if named.contains(&**id) {
                find(&mut call.holder, &mut self.lost, id, Holder::Client(client));
            } else if call.holder != Holder::Client(client) {
                missing.push(Arc::clone(id));
            }
        }
        self.move_all(directory, &mut missing, peer, |_| Cause::Lost, now, &mut actions);
        actions
    }

    /// An answer of a peer, or of an old one, which nobody can tell from others: None.
    pub fn answer(&mut self, peer: Option<&Id>, id: &str, answer: Answer) -> Result<Vec<Action>, Refused> {
        let call = self.calls.get_mut(id).ok_or(Refused::NoCall)?;
        let State::Running(runs) = &call.state else { return Err(Refused::NoCall) };
        let runs = Arc::clone(runs);
        let station = self.stations.get(&runs).ok_or(Refused::NoCall)?;
        if peer.map_or(!station.is_old, |peer| *peer != runs) {
            return Err(Refused::NoCall);
        }
        let mut actions = Vec::new();
        match answer {
            Answer::Chunk(data) => {
                call.chunks += 1;
                find(&mut call.holder, &mut self.lost, &call.job.id, Holder::Peer);
                match &call.caller {
                    // One place is left for the end.
                    Caller::Channel(parts) if parts.capacity() < 2 => {
                        call.chunks -= 1;
                        return Err(Refused::Busy);
                    }
                    Caller::Channel(parts) => drop(parts.try_send(Part::Chunk(data, call.chunks))),
                    Caller::Peer(caller, _) => {
                        actions.push(Action::Chunk(Arc::clone(caller), Arc::clone(&call.job.id), data, call.chunks));
                    }
                    Caller::Waiter(_) if call.has_audience => {
                        let id = &call.job.id;
                        actions.push(Action::Chunk(Arc::clone(id), Arc::clone(id), data, call.chunks));
                    }
                    Caller::Waiter(_) | Caller::Old(..) | Caller::Gather(_) => {}
                }
            }
            Answer::Done(data) => {
                let id = Arc::clone(&call.job.id);
                self.end(&id, Ok(data), &mut actions);
            }
            Answer::Failed(message) => {
                let id = Arc::clone(&call.job.id);
                let retry = station.lanes.get(&call.job.capability).map_or(0, |lane| lane.retry);
                // An old peer tries again by itself. A caller that has seen pieces must not get them twice.
                if call.job.attempt <= retry && !station.is_old && call.chunks == 0 {
                    call.job.attempt += 1;
                    self.release(&id);
                    self.place(&id, &runs, &mut actions);
                } else {
                    self.end(&id, Err(Failure::new("FAILED", message)), &mut actions);
                }
            }
        }
        Ok(actions)
    }

    /// Takes a call away from the peer that has it.
    fn release(&mut self, id: &Id) {
        let Some(call) = self.calls.get_mut(id) else { return };
        find(&mut call.holder, &mut self.lost, id, Holder::Peer);
        let (State::Queued(peer) | State::Running(peer)) = &call.state else { return };
        let Some(station) = self.stations.get_mut(peer) else { return };
        let was_running = station.running.remove(id);
        let Some(lane) = station.lanes.get_mut(&call.job.capability) else { return };
        if was_running {
            lane.running = lane.running.saturating_sub(1);
        } else if lane.queue.remove(&(Reverse(call.priority), call.number)).is_some() {
            station.queued -= 1;
        }
    }

    /// Ends a call, which must be there. The one place where calls end, so each ends once.
    fn end(&mut self, id: &Id, outcome: Outcome, actions: &mut Vec<Action>) {
        self.release(id);
        let Some(call) = self.calls.get_mut(id) else { return };
        let freed = match std::mem::replace(&mut call.state, State::Ended(outcome.clone())) {
            State::Ended(before) => {
                call.state = State::Ended(before);
                return;
            }
            State::Running(peer) => Some(peer),
            State::Queued(_) => None,
            State::Gathering { parts, .. } => {
                let parts: Vec<Id> = parts.into_iter().collect();
                parts.iter().for_each(|part| self.drop_part(part, actions));
                None
            }
        };
        if outcome.is_err()
            && let Some(tally) = self.calls.get(id).and_then(|call| self.tallies.get_mut(&call.job.capability))
        {
            tally.failed += 1;
        }
        let Some(call) = self.calls.get_mut(id) else { return };
        let caller = call.caller.clone();
        match &caller {
            Caller::Peer(..) => {
                self.bytes -= call.job.payload.len();
                call.job.payload = Arc::default();
                self.keep(id, &outcome);
                actions.push(Action::End(caller, Arc::clone(id), outcome));
            }
            Caller::Gather(gathering) => {
                let gathering = Arc::clone(gathering);
                let peer = call.to.clone();
                self.forget(id);
                self.gathered(&gathering, id, peer, &outcome, actions);
            }
            Caller::Waiter(_) | Caller::Channel(_) | Caller::Old(..) => {
                self.forget(id);
                actions.push(Action::End(caller, Arc::clone(id), outcome));
            }
        }
        if let Some(peer) = freed {
            self.give(&peer, actions);
        }
    }

    /// Ends a part of a gathering whose answer nobody needs any more.
    fn drop_part(&mut self, part: &Id, actions: &mut Vec<Action>) {
        self.tell_callee(part, actions);
        self.release(part);
        let freed = match self.calls.get(part).map(|call| &call.state) {
            Some(State::Running(peer)) => Some(Arc::clone(peer)),
            _ => None,
        };
        self.forget(part);
        if let Some(peer) = freed {
            self.give(&peer, actions);
        }
    }

    /// One peer of a gathering answered.
    fn gathered(&mut self, id: &Id, part: &Id, peer: Option<Id>, outcome: &Outcome, actions: &mut Vec<Action>) {
        let peer = peer.unwrap_or_else(|| "".into());
        let name = self.stations.get(&peer).and_then(|station| station.name.clone());
        let Some(State::Gathering { parts, wanted, answers }) = self.calls.get_mut(id).map(|call| &mut call.state) else {
            return;
        };
        parts.remove(part);
        answers.push(wire::answer(&peer, name.as_deref().unwrap_or_default(), outcome));
        if answers.len() >= *wanted || parts.is_empty() {
            let array = format!("[{}]", answers.join(","));
            self.end(id, Ok(array.into_bytes().into()), actions);
        }
    }

    /// Keeps the outcome of a call for its caller.
    fn keep(&mut self, id: &Id, outcome: &Outcome) {
        self.kept.push_back(Arc::clone(id));
        self.kept_count += 1;
        self.kept_bytes += size(outcome);
        while (self.kept_count > KEPT_MAX || self.kept_bytes > KEPT_BYTES_MAX)
            && let Some(oldest) = self.kept.pop_front()
        {
            self.forget(&oldest);
        }
        if self.kept.len() > 2 * self.kept_count + 1000 {
            let calls = &self.calls;
            self.kept.retain(|id| calls.contains_key(id));
        }
    }

    /// Forgets a call that has ended.
    fn forget(&mut self, id: &Id) {
        let Some(call) = self.calls.remove(id) else { return };
        self.bytes -= call.job.payload.len();
        if let (Caller::Peer(..), State::Ended(outcome)) = (&call.caller, &call.state) {
            self.kept_count -= 1;
            self.kept_bytes -= size(outcome);
        }
        self.deadlines.remove(&(call.job.deadline, Arc::clone(id)));
        if let Caller::Peer(peer, _) | Caller::Old(peer, _) = &call.caller
            && let Some(calls) = self.of_caller.get_mut(peer)
        {
            calls.remove(id);
            if calls.is_empty() {
                self.of_caller.remove(peer);
            }
        }
    }

    /// Tells the peer that has a call that it need not answer.
    fn tell_callee(&self, id: &Id, actions: &mut Vec<Action>) {
        let Some(call) = self.calls.get(id) else { return };
        let State::Running(peer) = &call.state else { return };
        if self.stations.get(peer).is_some_and(|station| station.is_old) {
            actions.push(Action::Withdraw(Arc::clone(peer), call.job.clone()));
        } else {
            actions.push(Action::Cancel(Arc::clone(peer), Arc::clone(id)));
        }
    }

    /// Ends a call because its caller says so; None if there is none, or it is not the caller's.
    pub fn cancel(&mut self, id: &str, by: Option<&str>) -> Option<Vec<Action>> {
        let call = self.calls.get(id)?;
        let is_own = by.is_none_or(|by| call.job.from.as_deref() == Some(by));
        if !is_own || matches!(call.state, State::Ended(_)) || matches!(call.caller, Caller::Gather(_)) {
            return None;
        }
        let id = Arc::clone(&call.job.id);
        let mut actions = Vec::new();
        self.tell_callee(&id, &mut actions);
        self.end(&id, Err(Failure::new("CANCELLED", format!("call \"{id}\" was cancelled"))), &mut actions);
        Some(actions)
    }

    /// What became of a call that a peer made without waiting. An outcome is told once.
    pub fn fetch(&mut self, id: &str, by: &str) -> Fetched {
        let Some(call) = self.calls.get(id) else { return Fetched::NoCall };
        if !matches!(&call.caller, Caller::Peer(peer, _) if **peer == *by) {
            return Fetched::NoCall;
        }
        let State::Ended(outcome) = &call.state else { return Fetched::Running };
        let (outcome, id) = (outcome.clone(), Arc::clone(&call.job.id));
        self.forget(&id);
        Fetched::Ended(outcome)
    }

    /// A peer is gone: its calls go to others, or end. `listed`: ids of jobs that were still on an old peer's list.
    pub fn gone(&mut self, directory: &mut Directory, peer: &Id, listed: &HashSet<String>, now: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        let Some(station) = self.stations.remove(peer) else { return actions };
        let waiting = station.waiting.into_iter().map(|wait| wait.waiter);
        actions.extend(waiting.filter(|waiter| waiter.end()).map(Action::Refuse));
        let queued = station.lanes.into_values().flat_map(|lane| lane.queue.into_values());
        let mut calls: Vec<Id> = queued.chain(station.running).collect();
        let cause = |id: &Id| if listed.contains(&**id) { Cause::Listed } else { Cause::Gone };
        self.move_all(directory, &mut calls, peer, cause, now, &mut actions);
        // Nobody waits for the jobs of an old caller that is gone; a new one may come back.
        let orphans: Vec<Id> = self.of_caller.get(peer).into_iter().flatten().cloned().collect();
        for id in orphans {
            if matches!(self.calls.get(&id), Some(Call { caller: Caller::Old(..), .. })) {
                actions.extend(self.cancel(&id, None).into_iter().flatten());
            }
        }
        actions
    }

    /// Finds other peers for calls, in the order they were made, so that they are in that order at the next peer.
    fn move_all(
        &mut self,
        directory: &mut Directory,
        calls: &mut [Id],
        from: &Id,
        cause: impl Fn(&Id) -> Cause,
        now: u64,
        actions: &mut Vec<Action>,
    ) {
        calls.sort_by_cached_key(|id| self.calls.get(id).map(|call| call.number));
        calls.iter().for_each(|id| self.move_on(directory, id, from, cause(id), now, actions));
    }

    /// Finds a peer for a call that this one does not have, or not any more.
    fn move_on(&mut self, directory: &mut Directory, id: &Id, from: &Id, cause: Cause, now: u64, actions: &mut Vec<Action>) {
        let Some(call) = self.calls.get_mut(id) else { return };
        let was_running = matches!(call.state, State::Running(_)) && cause != Cause::Listed;
        let is_gone = matches!(cause, Cause::Gone | Cause::Listed);
        let gone = || {
            let how = if is_gone { "left while it ran the call" } else { "lost the connection over which it took the call" };
            Failure::new("GONE", format!("peer \"{from}\" {how}"))
        };
        let ends = match (&call.to, was_running) {
            (Some(_), true) if is_gone => Some(gone()),
            (Some(_), false) if is_gone => Some(Failure::new("GONE", format!("peer \"{from}\" left before it took the call"))),
            // It would be begun anew, and the caller has seen pieces.
            (_, true) if call.retries == 0 || call.chunks > 0 => Some(gone()),
            (_, _) => None,
        };
        if let Some(failure) = ends {
            return self.end(id, Err(failure), actions);
        }
        if was_running {
            call.retries -= 1;
            call.job.attempt += 1;
        }
        let (capability, to, route) = (Arc::clone(&call.job.capability), call.to.clone(), call.route.clone());
        self.release(id);
        match self.choose(directory, &capability, to.as_ref(), &route, now) {
            Ok(next) => {
                self.rerouted += 1;
                self.place(id, &next, actions);
                self.give(from, actions);
            }
            Err(_) if was_running => self.end(id, Err(gone()), actions),
            Err(failure) if failure.code == "NOPEER" && to.is_none() => self.end(id, Err(nobody_alive(&capability)), actions),
            Err(failure) => self.end(id, Err(failure), actions),
        }
    }

    /// When the next call must end, in milliseconds since the epoch.
    pub fn next_deadline(&self) -> Option<u64> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Ends calls whose time is over, and forgets outcomes nobody came for. Gives calls again whose connection was lost and
    /// that no peer says to have.
    pub fn end_overdue(&mut self, directory: &mut Directory, now: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        while self.next_deadline().is_some_and(|deadline| deadline <= now)
            && let Some((_, id)) = self.deadlines.pop_first()
        {
            self.overdue(&id, &mut actions);
            // A call that just ended is kept no longer than its deadline.
            self.forget(&id);
        }
        while self.lost.first().is_some_and(|(until, _)| *until <= now)
            && let Some((_, id)) = self.lost.pop_first()
        {
            let Some(State::Running(peer)) = self.calls.get(&id).map(|call| &call.state) else { continue };
            let peer = Arc::clone(peer);
            self.move_on(directory, &id, &peer, Cause::Lost, now, &mut actions);
        }
        actions
    }

    fn overdue(&mut self, id: &Id, actions: &mut Vec<Action>) {
        let Some(call) = self.calls.get_mut(id) else { return };
        let timeout = Failure::new("TIMEOUT", format!("timeout after {} ms", call.timeout_ms));
        match &mut call.state {
            State::Ended(_) => {}
            State::Queued(_) | State::Running(_) => {
                self.tell_callee(id, actions);
                self.end(id, Err(timeout), actions);
            }
            State::Gathering { parts, answers, .. } => {
                let mut answers = std::mem::take(answers);
                let late: Vec<Id> = parts.iter().cloned().collect();
                for part in late {
                    let peer = self.calls.get(&part).and_then(|call| call.to.clone()).unwrap_or_else(|| "".into());
                    let name = self.stations.get(&peer).and_then(|station| station.name.clone());
                    answers.push(wire::answer(&peer, name.as_deref().unwrap_or_default(), &Err(timeout.clone())));
                }
                let array = format!("[{}]", answers.join(","));
                self.end(id, Ok(array.into_bytes().into()), actions);
            }
        }
    }

    /// The hash of the secret of a peer that calls are kept for, also while it is gone.
    pub fn secret_of(&self, peer: &str) -> Option<Secret> {
        let calls = self.of_caller.get(peer)?;
        calls.iter().find_map(|id| match &self.calls.get(id)?.caller {
            Caller::Peer(_, secret) => Some(secret.clone()),
            Caller::Waiter(_) | Caller::Channel(_) | Caller::Old(..) | Caller::Gather(_) => None,
        })
    }

    /// How many calls a peer has.
    pub fn load(&self, peer: &str) -> Load {
        let load = |station: &Station| Load { queued: station.queued, running: station.running.len() };
        self.stations.get(peer).map(load).unwrap_or_default()
    }

    /// How many calls there are at all peers.
    pub fn total(&self) -> Load {
        self.stations.values().fold(Load::default(), |sum, station| Load {
            queued: sum.queued + station.queued,
            running: sum.running + station.running.len(),
        })
    }

    /// What became of the calls of a capability.
    pub fn tally(&self, capability: &str) -> Tally {
        self.tallies.get(capability).copied().unwrap_or_default()
    }
}

impl Station {
    /// The queue whose first call is to be taken next.
    fn next(&mut self) -> Option<&mut Lane> {
        let may_run = |lane: &&mut Lane| lane.running < lane.limit && !lane.queue.is_empty();
        self.lanes.values_mut().filter(may_run).min_by_key(|lane| lane.queue.first_key_value().map(|(rank, _)| *rank))
    }
}

impl Load {
    /// All of them.
    pub fn total(self) -> usize {
        self.queued + self.running
    }
}

/// It is known who has a call: what it was lost for is over.
fn find(holder: &mut Holder, lost: &mut BTreeSet<(u64, Id)>, id: &Id, by: Holder) {
    if let Holder::Lost(until) = std::mem::replace(holder, by) {
        lost.remove(&(until, Arc::clone(id)));
    }
}

/// Bytes that an outcome takes.
fn size(outcome: &Outcome) -> usize {
    outcome.as_ref().map_or_else(|failure| failure.message.len(), |data| data.len())
}

fn nobody(capability: &str) -> Failure {
    Failure::new("NOPEER", format!("no peer handles \"{capability}\""))
}

/// Peers with the capability are known, but none lives.
pub fn nobody_alive(capability: &str) -> Failure {
    Failure::new("NOPEER", format!("no live peer handles \"{capability}\""))
}

fn busy(peer: &str) -> Failure {
    Failure::new("BUSY", format!("peer \"{peer}\" has {CALLS_OF_A_PEER_MAX} calls to answer already: try again later"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::peers::directory::Kind;
    use crate::resp::{OwnedArgs, Protocol};

    const PEERS: [&str; 4] = ["a", "b", "c", "old"];

    /// A hall with its directory, and what came out of it.
    #[derive(Default)]
    struct Hall {
        calls: Calls,
        directory: Directory,
        now: u64,
        /// Ends seen, by call.
        ends: HashMap<Id, Vec<Outcome>>,
        /// Jobs that peers hold: the peer and the call.
        held: Vec<(Id, Id)>,
        made: Vec<Id>,
        waiters: Vec<(Arc<Waiter>, Id)>,
    }

    fn waiter() -> Arc<Waiter> {
        Arc::new(Waiter::new(OwnedArgs::default(), 0, Protocol::Resp2, Arc::default(), Vec::new()))
    }

    impl Hall {
        fn arrive(&mut self, id: &str, concurrency: u32, retry: u32) {
            let json =
                format!(r#"{{"name":"{id}","capabilities":[{{"name":"f","concurrency":{concurrency},"retry":{retry}}}]}}"#);
            let new = Kind::New { secret: Secret::of(b"s"), clients: SmallVec::new() };
            self.register(Peer::read(id, &json, 0, if id == "old" { Kind::Old } else { new }));
        }

        fn register(&mut self, peer: Peer) {
            self.directory.insert(peer.clone());
            let actions = self.calls.station(&mut self.directory, &peer, self.now);
            self.note(actions);
        }

        /// It is there, but can do nothing any more.
        fn retire(&mut self, id: &str) {
            let kind = Kind::New { secret: Secret::of(b"s"), clients: SmallVec::new() };
            self.register(Peer::read(id, r#"{"name":"x"}"#, 0, kind));
        }

        fn lose(&mut self, peer: &str, client: u64) {
            self.calls.lose(&peer.into(), client, self.now);
        }

        fn claim(&mut self, peer: &str, client: u64, named: &[Id]) {
            let named = named.iter().map(ToString::to_string).collect();
            let actions = self.calls.claim(&mut self.directory, &peer.into(), client, &named, self.now);
            self.note(actions);
        }

        fn wait(&mut self, peer: &str, client: u64) -> Arc<Waiter> {
            let waiter = waiter();
            self.waiters.push((Arc::clone(&waiter), peer.into()));
            self.calls.wait(&peer.into(), Arc::clone(&waiter), 2, client);
            waiter
        }

        fn die(&mut self, id: &str) {
            self.directory.remove(id);
            self.held.retain(|(peer, _)| **peer != *id);
            let actions = self.calls.gone(&mut self.directory, &id.into(), &HashSet::new(), self.now);
            self.note(actions);
        }

        fn make(&mut self, order: Order, caller: Caller) -> Result<Id, Failure> {
            let (id, actions) = self.calls.make(&mut self.directory, order, caller, self.now)?;
            self.made.push(Arc::clone(&id));
            self.note(actions);
            Ok(id)
        }

        fn take(&mut self, peer: &str, count: usize) -> Vec<Id> {
            self.take_over(peer, count, 1)
        }

        fn take_over(&mut self, peer: &str, count: usize, client: u64) -> Vec<Id> {
            let jobs = self.calls.take(&peer.into(), count, client);
            self.held.extend(jobs.iter().map(|job| (peer.into(), Arc::clone(&job.id))));
            jobs.into_iter().map(|job| job.id).collect()
        }

        fn answer(&mut self, peer: &str, id: &str, answer: Answer) -> Result<(), Refused> {
            let by: Id = peer.into();
            let actions = self.calls.answer((peer != "old").then_some(&by), id, answer)?;
            self.held.retain(|(_, held)| **held != *id);
            self.note(actions);
            Ok(())
        }

        fn pass(&mut self, ms: u64) {
            self.now += ms;
            let actions = self.calls.end_overdue(&mut self.directory, self.now);
            self.note(actions);
        }

        fn note(&mut self, actions: Vec<Action>) {
            for action in actions {
                match action {
                    Action::Give(waiter, jobs) => {
                        let (_, peer) = self.waiters.iter().find(|(other, _)| Arc::ptr_eq(other, &waiter)).unwrap();
                        self.held.extend(jobs.iter().map(|job| (Arc::clone(peer), Arc::clone(&job.id))));
                    }
                    Action::Send(peer, job) => self.held.push((peer, job.id)),
                    Action::End(_, id, outcome) => self.ends.entry(id).or_default().push(outcome),
                    Action::Refuse(_) | Action::Dismiss(_) | Action::Withdraw(..) | Action::Cancel(..) | Action::Chunk(..) => {}
                }
            }
        }

        fn outcome(&self, id: &str) -> &Outcome {
            let ends = self.ends.get(id).map_or(&[][..], |ends| ends);
            assert_eq!(ends.len(), 1, "call {id} ended {} times", ends.len());
            &ends[0]
        }

        fn code(&self, id: &str) -> &'static str {
            self.outcome(id).as_ref().map_or_else(|failure| failure.code, |_| "OK")
        }
    }

    fn done() -> Answer {
        Answer::Done(b"1"[..].into())
    }

    fn order() -> Order {
        Order { timeout_ms: 1000, ..Order::new("f", b"{}") }
    }

    #[test]
    fn a_call_is_taken_answered_and_forgotten() {
        let mut hall = Hall::default();
        hall.arrive("a", 0, 0);
        let id = hall.make(order(), Caller::Waiter(waiter())).unwrap();
        assert_eq!(hall.take("a", 9), [Arc::clone(&id)]);
        assert_eq!(hall.answer("b", &id, done()), Err(Refused::NoCall));
        hall.answer("a", &id, done()).unwrap();
        assert_eq!(hall.answer("a", &id, done()), Err(Refused::NoCall));
        assert_eq!(hall.code(&id), "OK");
        assert!(hall.calls.calls.is_empty() && hall.calls.deadlines.is_empty());
    }

    #[test]
    fn higher_priorities_go_first_and_concurrency_holds_the_rest_back() {
        let mut hall = Hall::default();
        hall.arrive("a", 2, 0);
        let low = hall.make(Order { priority: -5, ..order() }, Caller::Waiter(waiter())).unwrap();
        let one = hall.make(order(), Caller::Waiter(waiter())).unwrap();
        let high = hall.make(Order { priority: 7, ..order() }, Caller::Waiter(waiter())).unwrap();
        assert_eq!(hall.take("a", 9), [Arc::clone(&high), one]);
        assert!(hall.take("a", 9).is_empty());
        hall.answer("a", &high, done()).unwrap();
        assert_eq!(hall.take("a", 9), [low]);
    }

    #[test]
    fn a_running_call_moves_as_often_as_it_may_and_then_says_who_left() {
        let mut hall = Hall::default();
        ["a", "b", "c"].iter().for_each(|id| hall.arrive(id, 0, 0));
        let id = hall.make(order(), Caller::Waiter(waiter())).unwrap();
        for expected in [None, Some("GONE")] {
            let holder = PEERS.iter().copied().find(|peer| hall.take(peer, 1) == [Arc::clone(&id)]).unwrap();
            hall.die(holder);
            assert_eq!(hall.ends.get(&id).map(|_| hall.code(&id)), expected);
        }
    }

    #[test]
    fn a_queued_call_moves_without_end_and_fails_when_nobody_is_left() {
        let mut hall = Hall::default();
        ["a", "b", "c"].iter().for_each(|id| hall.arrive(id, 0, 0));
        let id = hall.make(Order { retries: 0, ..order() }, Caller::Waiter(waiter())).unwrap();
        hall.die("a");
        hall.die("b");
        assert!(hall.ends.is_empty());
        hall.die("c");
        assert_eq!(hall.outcome(&id).as_ref().unwrap_err().to_string(), "NOPEER no live peer handles \"f\"");
    }

    #[test]
    fn what_was_given_over_a_lost_connection_is_given_again_as_often_as_it_may() {
        let mut hall = Hall::default();
        hall.arrive("a", 0, 0);
        let id = hall.make(Order { timeout_ms: 60_000, ..order() }, Caller::Waiter(waiter())).unwrap();
        hall.take_over("a", 1, 7);
        hall.lose("a", 8);
        hall.pass(LOST_MS);
        assert!(hall.take("a", 1).is_empty(), "another connection was lost");
        hall.lose("a", 7);
        hall.pass(LOST_MS - 1);
        assert!(hall.take("a", 1).is_empty(), "it may still say that it has the call");
        hall.pass(1);
        assert_eq!(hall.take_over("a", 1, 8), [Arc::clone(&id)]);
        hall.lose("a", 8);
        hall.pass(LOST_MS);
        let text = "GONE peer \"a\" lost the connection over which it took the call";
        assert_eq!(hall.outcome(&id).as_ref().unwrap_err().to_string(), text);
    }

    #[test]
    fn a_peer_keeps_the_calls_it_names_and_those_of_which_it_sent_a_piece() {
        let mut hall = Hall::default();
        hall.arrive("a", 0, 0);
        let ids = [(); 2].map(|()| hall.make(Order { timeout_ms: 60_000, ..order() }, Caller::Waiter(waiter())).unwrap());
        hall.take_over("a", 2, 7);
        hall.answer("a", &ids[1], Answer::Chunk(b"1"[..].into())).unwrap();
        hall.lose("a", 7);
        hall.claim("a", 8, &[Arc::clone(&ids[0]), Arc::clone(&ids[1])]);
        hall.pass(LOST_MS);
        hall.lose("a", 7);
        hall.pass(LOST_MS);
        hall.answer("a", &ids[0], done()).unwrap();
        hall.answer("a", &ids[1], done()).unwrap();
        assert_eq!((hall.code(&ids[0]), hall.code(&ids[1])), ("OK", "OK"));
    }

    #[test]
    fn a_claim_ends_the_waits_of_dead_connections_and_gives_again_what_it_does_not_name() {
        let mut hall = Hall::default();
        hall.arrive("a", 0, 0);
        let id = hall.make(order(), Caller::Waiter(waiter())).unwrap();
        hall.take_over("a", 1, 7);
        let dead = hall.wait("a", 7);
        hall.claim("a", 8, &[]);
        assert!(dead.is_over());
        assert_eq!(hall.take_over("a", 1, 8), [Arc::clone(&id)]);
        hall.claim("a", 8, &[]);
        assert!(hall.take("a", 1).is_empty(), "what was given over this connection is on its way");
        hall.answer("a", &id, done()).unwrap();
        assert_eq!(hall.code(&id), "OK");
    }

    #[test]
    fn calls_that_wait_for_a_dropped_capability_go_to_others_or_fail() {
        let mut hall = Hall::default();
        hall.arrive("a", 1, 0);
        let ids = [(); 2].map(|()| hall.make(Order { retries: 0, ..order() }, Caller::Waiter(waiter())).unwrap());
        let named = Order { to: Some("a".into()), ..order() };
        let named = hall.make(named, Caller::Waiter(waiter())).unwrap();
        hall.take("a", 1);
        hall.arrive("b", 0, 0);
        hall.retire("a");
        assert_eq!(hall.take("b", 9), [Arc::clone(&ids[1])]);
        assert_eq!(hall.outcome(&named).as_ref().unwrap_err().to_string(), "NOPEER no live peer \"a\" handles \"f\"");
        hall.answer("a", &ids[0], done()).unwrap();
        assert_eq!(hall.code(&ids[0]), "OK", "what runs is finished");
        let last = hall.make(order(), Caller::Waiter(waiter())).unwrap();
        hall.retire("b");
        assert_eq!(hall.outcome(&last).as_ref().unwrap_err().to_string(), "NOPEER no live peer handles \"f\"");
    }

    #[test]
    fn a_failed_call_is_tried_again_as_often_as_its_capability_says() {
        let mut hall = Hall::default();
        hall.arrive("a", 0, 1);
        let id = hall.make(order(), Caller::Waiter(waiter())).unwrap();
        hall.take("a", 1);
        hall.answer("a", &id, Answer::Failed("first".into())).unwrap();
        assert!(hall.ends.is_empty());
        hall.take("a", 1);
        hall.answer("a", &id, Answer::Failed("second".into())).unwrap();
        assert_eq!(hall.outcome(&id).as_ref().unwrap_err().to_string(), "FAILED second");
    }

    #[test]
    fn outcomes_are_kept_for_their_caller_until_the_deadline() {
        let mut hall = Hall::default();
        hall.arrive("a", 0, 0);
        let caller = || Caller::Peer("me".into(), Secret::of(b"mine"));
        let fetched = hall.make(order(), caller()).unwrap();
        let missed = hall.make(order(), caller()).unwrap();
        hall.take("a", 2);
        hall.answer("a", &fetched, done()).unwrap();
        hall.answer("a", &missed, done()).unwrap();
        assert!(hall.calls.secret_of("me") == Some(Secret::of(b"mine")));
        assert!(matches!(hall.calls.fetch(&fetched, "other"), Fetched::NoCall));
        assert!(matches!(hall.calls.fetch(&fetched, "me"), Fetched::Ended(Ok(_))));
        assert!(matches!(hall.calls.fetch(&fetched, "me"), Fetched::NoCall));
        hall.pass(1000);
        assert!(matches!(hall.calls.fetch(&missed, "me"), Fetched::NoCall));
        assert!(hall.calls.secret_of("me").is_none() && hall.calls.kept_bytes == 0 && hall.calls.kept_count == 0);
    }

    #[test]
    fn answers_are_gathered_until_there_are_enough_or_the_time_is_over() {
        let mut hall = Hall::default();
        ["a", "b", "c"].iter().for_each(|id| hall.arrive(id, 0, 0));
        let gathering = |count| Order { gather: Some(count), ..order() };
        let two = hall.make(gathering(2), Caller::Waiter(waiter())).unwrap();
        for peer in ["a", "b"] {
            let part = hall.take(peer, 1).pop().unwrap();
            hall.answer(peer, &part, done()).unwrap();
        }
        let text = String::from_utf8(hall.outcome(&two).as_ref().unwrap().to_vec()).unwrap();
        assert_eq!(text.matches(r#""ok":true"#).count(), 2);
        assert!(hall.take("c", 1).is_empty(), "the third is not asked any more");
        let all = hall.make(gathering(0), Caller::Waiter(waiter())).unwrap();
        let part = hall.take("a", 1).pop().unwrap();
        hall.answer("a", &part, done()).unwrap();
        hall.die("b");
        hall.pass(1000);
        let text = String::from_utf8(hall.outcome(&all).as_ref().unwrap().to_vec()).unwrap();
        assert_eq!(
            (text.matches(r#""ok":true"#).count(), text.matches("GONE").count(), text.matches("TIMEOUT").count()),
            (1, 1, 1)
        );
        assert!(hall.calls.calls.is_empty());
    }

    #[test]
    fn a_peer_takes_only_so_many_calls() {
        let mut hall = Hall::default();
        hall.arrive("a", 0, 0);
        for _ in 0..CALLS_OF_A_PEER_MAX {
            hall.make(order(), Caller::Waiter(waiter())).unwrap();
        }
        assert_eq!(hall.make(order(), Caller::Waiter(waiter())).unwrap_err().code, "BUSY");
    }

    #[derive(Debug, Clone)]
    enum Event {
        Make { waits: bool, retries: u32, gather: bool, to: Option<usize> },
        Take(usize, usize, u64),
        Wait(usize, u64),
        Lose(usize, u64),
        Claim { peer: usize, client: u64, names: bool },
        Retire(usize),
        GiveUp(usize),
        Answer { held: usize, goes_well: bool },
        Die(usize),
        Arrive(usize, u32, u32),
        Cancel(usize),
        Pass(u64),
    }

    fn event() -> impl Strategy<Value = Event> {
        let to = prop_oneof![4 => Just(None), 1 => (0..4usize).prop_map(Some)];
        prop_oneof![
            6 => (any::<bool>(), 0..3u32, prop::bool::weighted(0.2), to)
                .prop_map(|(waits, retries, gather, to)| Event::Make { waits, retries, gather, to }),
            3 => (0..3usize, 1..4usize, 1..4u64).prop_map(|(peer, count, client)| Event::Take(peer, count, client)),
            3 => (0..3usize, 1..4u64).prop_map(|(peer, client)| Event::Wait(peer, client)),
            2 => (0..3usize, 1..4u64).prop_map(|(peer, client)| Event::Lose(peer, client)),
            1 => (0..3usize, 1..4u64, any::<bool>()).prop_map(|(peer, client, names)| Event::Claim { peer, client, names }),
            1 => (0..3usize).prop_map(Event::Retire),
            1 => any::<usize>().prop_map(Event::GiveUp),
            5 => (any::<usize>(), prop::bool::weighted(0.7)).prop_map(|(held, goes_well)| Event::Answer { held, goes_well }),
            2 => (0..4usize).prop_map(Event::Die),
            3 => (0..4usize, 0..3u32, 0..2u32).prop_map(|(peer, concurrency, retry)| Event::Arrive(peer, concurrency, retry)),
            1 => any::<usize>().prop_map(Event::Cancel),
            2 => (0..600u64).prop_map(Event::Pass),
        ]
    }

    impl Hall {
        fn happen(&mut self, event: Event) {
            match event {
                Event::Make { waits, retries, gather, to } => {
                    let caller = if waits { Caller::Waiter(waiter()) } else { Caller::Peer("me".into(), Secret::of(b"s")) };
                    let to = to.filter(|_| !gather).map(|at| PEERS[at].into());
                    let _ = self.make(Order { retries, to, gather: gather.then_some(0), ..order() }, caller);
                }
                Event::Take(at, count, client) => drop(self.take_over(PEERS[at], count, client)),
                Event::Wait(at, client) => {
                    if self.take_over(PEERS[at], 1, client).is_empty() && self.directory.get(PEERS[at]).is_some() {
                        self.wait(PEERS[at], client);
                    }
                }
                Event::Lose(at, client) => self.lose(PEERS[at], client),
                Event::Claim { peer, client, names } => {
                    let held = self.held.iter().filter(|(holder, _)| names && **holder == *PEERS[peer]);
                    let held: Vec<Id> = held.map(|(_, id)| Arc::clone(id)).collect();
                    self.claim(PEERS[peer], client, &held);
                }
                Event::Retire(at) => {
                    if self.directory.get(PEERS[at]).is_some() {
                        self.retire(PEERS[at]);
                    }
                }
                Event::GiveUp(at) => {
                    if let Some((waiter, _)) = self.waiters.get(at % self.waiters.len().max(1)) {
                        waiter.end();
                    }
                }
                Event::Answer { held, goes_well } => {
                    let Some((peer, id)) = self.held.get(held % self.held.len().max(1)).cloned() else { return };
                    let answer = if goes_well { done() } else { Answer::Failed("it broke".into()) };
                    let _ = self.answer(&peer, &id, answer);
                }
                Event::Die(at) => self.die(PEERS[at]),
                Event::Arrive(at, concurrency, retry) => self.arrive(PEERS[at], concurrency, retry),
                Event::Cancel(at) => {
                    let Some(id) = self.made.get(at % self.made.len().max(1)).cloned() else { return };
                    let actions = self.calls.cancel(&id, None);
                    self.note(actions.unwrap_or_default());
                }
                Event::Pass(ms) => self.pass(ms),
            }
        }
    }

    proptest! {
        #[test]
        fn every_call_ends_exactly_once_whatever_happens(events in prop::collection::vec(event(), 1..120)) {
            let mut hall = Hall::default();
            hall.arrive("a", 0, 1);
            hall.arrive("old", 0, 0);
            for event in events {
                hall.happen(event);
            }
            hall.pass(1001);
            for id in hall.made.clone() {
                hall.outcome(&id);
            }
            let calls = &hall.calls;
            prop_assert_eq!(hall.ends.len(), hall.made.len());
            prop_assert!(calls.calls.is_empty() && calls.deadlines.is_empty() && calls.of_caller.is_empty() && calls.lost.is_empty());
            prop_assert_eq!((calls.bytes, calls.kept_count, calls.kept_bytes), (0, 0, 0));
            prop_assert_eq!(calls.total(), Load::default());
            prop_assert!(calls.stations.values().all(|station| station.lanes.values().all(|lane| lane.running == 0)));
        }
    }

    #[test]
    fn a_call_of_which_a_piece_was_seen_is_not_begun_anew() {
        let mut hall = Hall::default();
        hall.arrive("a", 0, 1);
        let ids = [(); 2].map(|()| hall.make(order(), Caller::Peer("c".into(), Secret::of(b"s"))).unwrap());
        hall.take("a", 2);
        for id in &ids {
            hall.answer("a", id, Answer::Chunk(b"1"[..].into())).unwrap();
        }
        hall.answer("a", &ids[0], Answer::Failed("broke".into())).unwrap();
        assert_eq!(hall.outcome(&ids[0]).as_ref().unwrap_err().to_string(), "FAILED broke");
        hall.arrive("b", 0, 1);
        hall.die("a");
        assert_eq!(hall.code(&ids[1]), "GONE");
    }
}
