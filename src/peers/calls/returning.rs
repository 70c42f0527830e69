//! Calls from the server's last run, which forgot them: their callers and the peers that still run them come back one by one, in any
//! order, and meet here. So a peer keeps what it runs, and a call is not begun beside its first try.
//!
//!   caller first:  Returning --its peer says that it runs it--> Running
//!                  Returning --nobody says so, and all who might are back--> begun anew, as one more try, or ended
//!                  begun anew, but not taken yet --its peer says that it runs it--> Running, as the try it was
//!   peer first:    a claim, and perhaps the answer, which wait for the caller
//!
//! Both only for a while after the start: later, who is not known was never there.

use std::collections::HashSet;
use std::sync::Arc;

use crate::peers::calls::claims::{Claim, may_have};
use crate::peers::calls::hall::{Call, Calls, Holder, State, tell_try};
use crate::peers::calls::terms::{Action, Again, Answer, CALLS_OF_A_PEER_MAX, Caller, Failure, Order, Refused};
use crate::peers::directory::{Directory, Id, Peer};

/// How long a call waits for the peer that may run it, or for half of the time it has, if that is less.
pub(super) const RETURN_MS: u64 = 3_000;
/// How often it is looked whether a call must wait on.
pub(super) const LOOK_MS: u64 = 500;
impl Calls {
    /// A peer was there in the last run.
    pub(crate) fn expect(&mut self, peer: &Peer) {
        self.returning.known.insert(Arc::clone(&peer.id), peer.capabilities.clone());
        self.returning.awaited.insert(Arc::clone(&peer.id));
    }

    /// A peer says that it runs a call, over this client's connection.
    pub(super) fn return_to(
        &mut self,
        directory: &Directory,
        peer: &Id,
        client: u64,
        id: &str,
        now: u64,
        actions: &mut Vec<Action>,
    ) {
        let Some(capabilities) = directory.get(peer).map(|peer| &peer.capabilities) else { return };
        let Some(call) = self.calls.get(id) else {
            if self.returning.is_open(now) {
                self.returning.add(id, peer, client, capabilities);
            }
            return;
        };
        if call.may_be_adopted() && may_have(peer, capabilities, call.to.as_ref(), &call.job.capability) {
            let id = Arc::clone(&call.job.id);
            self.adopt(&id, peer, Holder::Client(client));
            self.first_try(&id, actions);
        }
    }

    /// A call that was begun anew, but not taken, is still its last try.
    fn first_try(&mut self, id: &Id, actions: &mut Vec<Action>) {
        let Some(call) = self.calls.get_mut(id) else { return };
        let Some(again) = call.again.filter(|again| again.attempt < call.job.attempt) else { return };
        call.job.attempt = again.attempt;
        call.retries += 1;
        tell_try(call, actions);
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
            let is_known = claim.has_ended() || directory.get(&claim.peer).is_some();
            is_known && may_have(&claim.peer, &claim.capabilities, order.to.as_ref(), &order.capability)
        };
        if let Some(claim) = self.returning.take(id).into_iter().find(fits) {
            self.add(id, &order, caller, State::Returning, now);
            self.seen(id, seen);
            self.take_over(directory, id, claim, actions);
            return Ok(());
        }
        if self.returning.is_open(now) {
            let calls = if let Caller::Peer(peer, _) = &caller { self.of_caller.get(peer).map_or(0, HashSet::len) } else { 0 };
            if calls >= CALLS_OF_A_PEER_MAX {
                return Err(Failure::new("BUSY", format!("its caller has {calls} calls under way already: try again later")));
            }
            let until = now + RETURN_MS.min(order.timeout_ms / 2);
            self.add(id, &order, caller, State::Returning, now);
            self.seen(id, seen);
            self.wait_on(id, until);
            return Ok(());
        }
        order.try_again()?;
        let peer = self.choose(directory, &order.capability, order.to.as_ref(), &order.route, now)?;
        self.add(id, &order, caller, State::Queued(Arc::clone(&peer)), now);
        if let Some(call) = self.calls.get(id) {
            tell_try(call, actions);
        }
        self.place(id, &peer, actions);
        Ok(())
    }

    /// Nobody says to run a call from the server's last run: it waits on for a peer that is not back yet, or is begun anew.
    pub(super) fn begin_anew(&mut self, directory: &mut Directory, id: &Id, now: u64, actions: &mut Vec<Action>) {
        let is_open = self.returning.is_open(now);
        let Some(call) = self.calls.get_mut(id) else { return };
        let may_begin = call.retries > 0 && call.chunks == 0;
        let needs_its_time = may_begin && now >= call.job.deadline.saturating_sub(call.timeout_ms / 2);
        if is_open && !needs_its_time && self.returning.awaits(directory, call.to.as_ref(), &call.job.capability) {
            return self.wait_on(id, now + LOOK_MS);
        }
        if !may_begin {
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
            // One may be about to come back.
            Err(failure) if failure.code == "NOPEER" && is_open => self.wait_on(id, now + LOOK_MS),
            Err(failure) => self.end(id, Err(failure), actions),
        }
    }

    /// A call waits for the peer that may run it.
    fn wait_on(&mut self, id: &Id, until: u64) {
        if let Some(call) = self.calls.get_mut(id) {
            call.holder = Holder::Lost(until);
            self.lost.insert((until, Arc::clone(id)));
        }
    }

    /// Makes a call that came back that of the peer that says to run it, with what it has answered meanwhile.
    fn take_over(&mut self, directory: &Directory, id: &Id, claim: Claim, actions: &mut Vec<Action>) {
        let is_there = directory.get(&claim.peer).is_some();
        if is_there {
            self.adopt(id, &claim.peer, Holder::Client(claim.client));
        }
        for answer in claim.answers {
            match answer {
                // It was this peer's to answer just now.
                answer if is_there => actions.extend(self.answer(Some(&claim.peer), id, answer).unwrap_or_default()),
                Answer::Done(data) => self.end(id, Ok(data), actions),
                Answer::Failed(message) => self.end(id, Err(Failure::new("FAILED", message)), actions),
                Answer::Chunk(data) => {
                    // A caller that cannot take it now has the end.
                    let _ = self.calls.get_mut(id).map(|call| call.pass_on(data, actions));
                }
            }
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

impl Order {
    /// Makes one more try of a call that was given to the server's last run; does nothing to others.
    pub(super) fn try_again(&mut self) -> Result<(), Failure> {
        let Some(again) = self.again else { return Ok(()) };
        if self.retries == 0 || again.seen > 0 {
            return Err(forgotten());
        }
        self.retries -= 1;
        self.attempt = again.attempt + 1;
        Ok(())
    }
}

impl Call {
    /// Whether a peer may say that it runs it: nobody does, though it may have been begun anew.
    fn may_be_adopted(&self) -> bool {
        let is_untaken = |again: Again| matches!(self.state, State::Queued(_)) && self.job.attempt == again.attempt + 1;
        matches!(self.state, State::Returning) || self.again.is_some_and(is_untaken)
    }

    /// Passes a piece on to the caller.
    pub(super) fn pass_on(&mut self, data: Arc<[u8]>, actions: &mut Vec<Action>) -> Result<(), Refused> {
        let (id, number) = (&self.job.id, self.chunks + 1);
        match &self.caller {
            Caller::Channel(parts) => {
                if !parts.send_piece(data, number) {
                    return Err(Refused::Busy);
                }
            }
            Caller::Peer(caller, _) => actions.push(Action::Chunk(Arc::clone(caller), Arc::clone(id), data, number)),
            Caller::Waiter(_) if self.has_audience => {
                actions.push(Action::Chunk(Arc::clone(id), Arc::clone(id), data, number));
            }
            Caller::Waiter(_) | Caller::Old(..) | Caller::Gather(_) => {}
        }
        self.chunks = number;
        Ok(())
    }
}

fn forgotten() -> Failure {
    Failure::new("GONE", "the server was restarted while it had the call")
}
