//! Calls from the server's last run, which forgot them: their callers and the peers that still run them come back one by one, in any
//! order, and meet here. So a peer keeps what it runs, and a call is not begun beside its first try.
//!
//!   caller first:  Returning --its peer says that it runs it--> Running
//!                  Returning --nobody says so--> begun anew, as one more try, or ended
//!   peer first:    a claim, and perhaps the answer, which wait for the caller
//!
//! Both only for a while after the start: later, who is not known was never there.

use std::collections::HashSet;
use std::sync::Arc;

use crate::peers::calls::hall::{Call, Calls, Holder, Map, State};
use crate::peers::calls::terms::{Action, Again, Answer, Caller, Failure, Order, Refused};
use crate::peers::directory::{Directory, Id};

/// How long after the start claims are taken: a peer's link rests up to five seconds between its tries, and dialling takes as long.
pub(super) const WINDOW_MS: u64 = 15_000;
/// How long a call waits for the peer that may run it, or for half of the time it has, if that is less.
pub(super) const RETURN_MS: u64 = 3_000;
/// Claims that are kept, and the bytes of their answers.
const CLAIMS_MAX: usize = 10_000;
const CLAIMED_BYTES_MAX: usize = 64 << 20;

/// What peers say to run, of which no caller has spoken yet.
#[derive(Default)]
pub(super) struct Returning {
    claims: Map<Id, Claim>,
    bytes: usize,
    /// Peers that were there in the last run.
    known: HashSet<Id>,
    /// When claims are not taken any more; None before anybody came.
    until: Option<u64>,
}

struct Claim {
    peer: Id,
    client: u64,
    answer: Option<Answer>,
}

impl Returning {
    fn is_open(&mut self, now: u64) -> bool {
        now < *self.until.get_or_insert(now + WINDOW_MS)
    }

    fn add(&mut self, id: &str, peer: &Id, client: u64) {
        let is_answered = self.claims.get(id).is_some_and(|claim| claim.answer.is_some());
        if self.claims.len() < CLAIMS_MAX && !is_answered {
            self.claims.insert(id.into(), Claim { peer: Arc::clone(peer), client, answer: None });
        }
    }

    fn take(&mut self, id: &str) -> Option<Claim> {
        let claim = self.claims.remove(id)?;
        self.bytes -= claim.answer.as_ref().map_or(0, size);
        Some(claim)
    }

    /// A peer answers a call whose caller has not come back. Its answer may be here before its claim, since that comes over another
    /// connection. A piece would have to wait for the caller: such a call is given up.
    pub(super) fn answer(&mut self, peer: &Id, id: &str, answer: Answer) -> Result<(), Refused> {
        let bytes = self.bytes + size(&answer);
        if !self.claims.contains_key(id) && self.known.contains(peer) {
            self.add(id, peer, 0);
        }
        let claim =
            self.claims.get_mut(id).filter(|claim| claim.peer == *peer && claim.answer.is_none()).ok_or(Refused::NoCall)?;
        if matches!(answer, Answer::Chunk(_)) || bytes > CLAIMED_BYTES_MAX {
            self.claims.remove(id);
            return Err(Refused::NoCall);
        }
        claim.answer = Some(answer);
        self.bytes = bytes;
        Ok(())
    }

    /// This connection is lost: its peer says anew what it runs. O(n) in the claims, which are few and not for long.
    pub(super) fn lose(&mut self, client: u64) {
        self.claims.retain(|_, claim| claim.client != client || claim.answer.is_some());
    }

    /// This peer is gone; its answers stay.
    pub(super) fn forget(&mut self, peer: &Id) {
        self.claims.retain(|_, claim| claim.peer != *peer || claim.answer.is_some());
    }

    pub(super) fn pass(&mut self, now: u64) {
        if !self.is_open(now) {
            self.claims.clear();
            self.known.clear();
            self.bytes = 0;
        }
    }
}

impl Calls {
    /// A peer was there in the last run.
    pub fn expect(&mut self, peer: &Id) {
        self.returning.known.insert(Arc::clone(peer));
    }

    /// A peer says that it runs a call, over this client's connection.
    pub(super) fn return_to(&mut self, peer: &Id, client: u64, id: &str, now: u64) {
        let Some(call) = self.calls.get(id) else {
            if self.returning.is_open(now) {
                self.returning.add(id, peer, client);
            }
            return;
        };
        if matches!(call.state, State::Returning) && call.to.as_ref().is_none_or(|to| to == peer) {
            let id = Arc::clone(&call.job.id);
            self.adopt(&id, peer, Holder::Client(client));
        }
    }

    /// A caller comes back with a call.
    pub(super) fn come_back(
        &mut self,
        directory: &mut Directory,
        id: &Id,
        order: &Order,
        caller: Caller,
        now: u64,
        actions: &mut Vec<Action>,
    ) -> Result<(), Failure> {
        let Again { attempt, seen } = order.again.unwrap_or(Again { attempt: 1, seen: 0 });
        let mut order = Order { attempt, ..order.clone() };
        let fits = |claim: &Claim| {
            let is_meant = order.to.as_ref().is_none_or(|to| *to == claim.peer);
            let peer = directory.get(&claim.peer).filter(|_| is_meant);
            claim.answer.is_some() && is_meant || peer.is_some_and(|peer| peer.capability(&order.capability).is_some())
        };
        if let Some(claim) = self.returning.take(id).filter(fits) {
            self.add(id, &order, caller, State::Returning, now);
            self.seen(id, seen);
            let is_there = directory.get(&claim.peer).is_some();
            if is_there {
                self.adopt(id, &claim.peer, Holder::Client(claim.client));
            }
            match claim.answer {
                // It was this peer's to answer just now.
                Some(answer) if is_there => actions.extend(self.answer(Some(&claim.peer), id, answer).unwrap_or_default()),
                Some(Answer::Done(data)) => self.end(id, Ok(data), actions),
                Some(Answer::Failed(message)) => self.end(id, Err(Failure::new("FAILED", message)), actions),
                Some(Answer::Chunk(_)) | None => {}
            }
            return Ok(());
        }
        if self.returning.is_open(now) {
            let until = now + RETURN_MS.min(order.timeout_ms / 2);
            self.add(id, &order, caller, State::Returning, now);
            self.seen(id, seen);
            if let Some(call) = self.calls.get_mut(id) {
                call.holder = Holder::Lost(until);
            }
            self.lost.insert((until, Arc::clone(id)));
            return Ok(());
        }
        if order.retries == 0 || seen > 0 {
            return Err(forgotten());
        }
        order.retries -= 1;
        order.attempt += 1;
        let peer = self.choose(directory, &order.capability, order.to.as_ref(), &order.route, now)?;
        self.add(id, &order, caller, State::Queued(Arc::clone(&peer)), now);
        if let Some(call) = self.calls.get(id) {
            tell_try(call, actions);
        }
        self.place(id, &peer, actions);
        Ok(())
    }

    /// Nobody says to run a call from the server's last run.
    pub(super) fn begin_anew(&mut self, directory: &mut Directory, id: &Id, now: u64, actions: &mut Vec<Action>) {
        let Some(call) = self.calls.get_mut(id) else { return };
        if call.retries == 0 || call.chunks > 0 {
            return self.end(id, Err(forgotten()), actions);
        }
        let (capability, to, route) = (Arc::clone(&call.job.capability), call.to.clone(), call.route.clone());
        match self.choose(directory, &capability, to.as_ref(), &route, now) {
            Ok(peer) => {
                if let Some(call) = self.calls.get_mut(id) {
                    call.retries -= 1;
                    call.job.attempt += 1;
                    call.holder = Holder::Peer;
                    tell_try(call, actions);
                }
                self.place(id, &peer, actions);
            }
            Err(failure) => self.end(id, Err(failure), actions),
        }
    }

    /// The pieces its caller has seen count, so that it is never begun anew, and the next ones have their numbers.
    fn seen(&mut self, id: &Id, seen: u64) {
        if let Some(call) = self.calls.get_mut(id) {
            call.chunks = seen;
        }
    }

    /// A peer runs a call that waited for it.
    fn adopt(&mut self, id: &Id, peer: &Id, holder: Holder) {
        self.release(id);
        let Some(call) = self.calls.get_mut(id) else { return };
        call.state = State::Running(Arc::clone(peer));
        call.holder = holder;
        let station = self.stations.entry(Arc::clone(peer)).or_default();
        station.running.insert(Arc::clone(id));
        station.lane(&call.job.capability).running += 1;
        self.total.running += 1;
    }
}

/// Tells the peer that made a call which try it is now.
pub(super) fn tell_try(call: &Call, actions: &mut Vec<Action>) {
    if let Caller::Peer(peer, _) = &call.caller {
        actions.push(Action::Tried(Arc::clone(peer), Arc::clone(&call.job.id), call.job.attempt, call.retries));
    }
}

fn forgotten() -> Failure {
    Failure::new("GONE", "the server was restarted while it had the call")
}

fn size(answer: &Answer) -> usize {
    match answer {
        Answer::Done(data) | Answer::Chunk(data) => data.len(),
        Answer::Failed(message) => message.len(),
    }
}
