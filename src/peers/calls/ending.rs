//! How calls end: answered, cancelled, or when their time is over; and their outcomes, which are kept for callers that come back.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::peers::calls::hall::{AT_ONCE, Calls, Gathering, Holder, State, find, tell_try};
use crate::peers::calls::making::BYTES_MAX;
use crate::peers::calls::moving::Cause;
use crate::peers::calls::terms::{Action, Answer, Caller, Failure, Fetched, Outcome, Refused, Why};
use crate::peers::directory::{Directory, Id};
use crate::peers::wire;

/// Results kept for callers that come back for them, in number and in bytes; the oldest go first.
const KEPT_MAX: usize = 100_000;
const KEPT_BYTES_MAX: usize = 256 << 20;

/// Bytes of the answers that one call gathers: what comes beyond is left out, and says so in its place.
pub(super) const GATHERED_BYTES_MAX: usize = 64 << 20;
/// Answers that are shorter than what would stand in their place are kept always; their number is that of the peers asked.
const FAILURE_BYTES: usize = 300;

impl Calls {
    /// An answer of a peer, or of an old one, which nobody can tell from others: None.
    pub(crate) fn answer(&mut self, peer: Option<&Id>, id: &str, answer: Answer) -> Result<Vec<Action>, Refused> {
        let Some(call) = self.calls.get_mut(id) else {
            let peer = peer.ok_or(Refused::NoCall)?;
            return self.returning.answer(peer, id, answer).map(|()| Vec::new());
        };
        let State::Running(runs) = &call.state else { return Err(Refused::NoCall) };
        let runs = Arc::clone(runs);
        let station = self.stations.get(&runs).ok_or(Refused::NoCall)?;
        if peer.map_or(!station.is_old, |peer| *peer != runs) {
            return Err(Refused::NoCall);
        }
        let mut actions = Vec::new();
        match answer {
            Answer::Chunk(data) => {
                find(&mut call.holder, &mut self.lost, &call.job.id, Holder::Peer);
                call.pass_on(data, &mut actions)?;
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
                    tell_try(call, &mut actions);
                    self.release(&id);
                    self.place(&id, &runs, &mut actions);
                } else {
                    self.end(&id, Err(Failure::new("FAILED", message)), &mut actions);
                }
            }
        }
        Ok(actions)
    }

    /// Ends a call, which must be there. The one place where calls end, so each ends once.
    pub(super) fn end(&mut self, id: &Id, outcome: Outcome, actions: &mut Vec<Action>) {
        self.release(id);
        let Some(call) = self.calls.get_mut(id) else { return };
        let freed = match std::mem::replace(&mut call.state, State::Ended(outcome.clone())) {
            State::Ended(before) => {
                call.state = State::Ended(before);
                return;
            }
            State::Running(peer) => Some(peer),
            State::Queued(_) | State::Returning => None,
            State::Gathering(Gathering { parts, bytes, .. }) => {
                self.bytes -= bytes;
                let parts: Vec<Id> = parts.into_iter().collect();
                if parts.len() > AT_ONCE {
                    actions.push(Action::Drop(parts));
                } else {
                    actions.extend(self.drop_parts(&parts));
                }
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

    /// Ends parts of a gathering whose answers nobody needs any more.
    pub(crate) fn drop_parts(&mut self, parts: &[Id]) -> Vec<Action> {
        let mut actions = Vec::new();
        parts.iter().for_each(|part| self.drop_part(part, &mut actions));
        actions
    }

    fn drop_part(&mut self, part: &Id, actions: &mut Vec<Action>) {
        self.tell_callee(part, Why::Cancelled, actions);
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
    pub(super) fn gathered(&mut self, id: &Id, part: &Id, peer: Option<Id>, outcome: &Outcome, actions: &mut Vec<Action>) {
        let peer = peer.unwrap_or_else(|| "".into());
        let name = self.stations.get(&peer).and_then(|station| station.name.clone());
        let Some(State::Gathering(gathering)) = self.calls.get_mut(id).map(|call| &mut call.state) else { return };
        let Gathering { parts, answers, bytes, .. } = gathering;
        parts.remove(part);
        let mut answer = wire::answer(&peer, name.as_deref().unwrap_or_default(), outcome);
        let is_too_much = *bytes + answer.len() > GATHERED_BYTES_MAX || self.bytes + answer.len() > BYTES_MAX;
        if is_too_much && size(outcome) > FAILURE_BYTES {
            let text = format!(
                "an answer of {} bytes is too much: those gathered by a call may have {GATHERED_BYTES_MAX} bytes together, and all calls \
                 {BYTES_MAX}; ask for less, or for fewer answers",
                answer.len()
            );
            answer = wire::answer(&peer, name.as_deref().unwrap_or_default(), &Err(Failure::new("TOOBIG", text)));
        }
        *bytes += answer.len();
        self.bytes += answer.len();
        answers.push(answer);
        self.end_if_whole(id, actions);
    }

    /// Ends a gathering that has enough answers, or all that there will be.
    pub(super) fn end_if_whole(&mut self, id: &Id, actions: &mut Vec<Action>) {
        let Some(State::Gathering(gathering)) = self.calls.get(id).map(|call| &call.state) else { return };
        let Gathering { parts, wanted, answers, asking, .. } = gathering;
        if answers.len() >= *wanted || parts.is_empty() && asking.is_none() {
            let array = format!("[{}]", answers.join(","));
            self.end(id, Ok(array.into_bytes().into()), actions);
        }
    }

    /// Keeps the outcome of a call for its caller.
    pub(super) fn keep(&mut self, id: &Id, outcome: &Outcome) {
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
    pub(super) fn forget(&mut self, id: &Id) {
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
    pub(super) fn tell_callee(&self, id: &Id, why: Why, actions: &mut Vec<Action>) {
        let Some(call) = self.calls.get(id) else { return };
        let State::Running(peer) = &call.state else { return };
        if self.stations.get(peer).is_some_and(|station| station.is_old) {
            actions.push(Action::Withdraw(Arc::clone(peer), call.job.clone()));
        } else {
            actions.push(Action::Cancel(Arc::clone(peer), Arc::clone(id), why));
        }
    }

    /// Ends a call because its caller says so; None if there is none, or it is not the caller's.
    pub(crate) fn cancel(&mut self, id: &str, by: Option<&str>) -> Option<Vec<Action>> {
        let call = self.calls.get(id)?;
        let is_own = by.is_none_or(|by| call.job.from.as_deref() == Some(by));
        if !is_own || matches!(call.state, State::Ended(_)) || matches!(call.caller, Caller::Gather(_)) {
            return None;
        }
        let id = Arc::clone(&call.job.id);
        let mut actions = Vec::new();
        self.tell_callee(&id, Why::Cancelled, &mut actions);
        self.end(&id, Err(Failure::new("CANCELLED", format!("call \"{id}\" was cancelled"))), &mut actions);
        Some(actions)
    }

    /// What became of a call that a peer made without waiting. An outcome is told once.
    pub(crate) fn fetch(&mut self, id: &str, by: &str) -> Fetched {
        let Some(call) = self.calls.get(id) else { return Fetched::NoCall };
        if !matches!(&call.caller, Caller::Peer(peer, _) if **peer == *by) {
            return Fetched::NoCall;
        }
        let State::Ended(outcome) = &call.state else { return Fetched::Running };
        let (outcome, id) = (outcome.clone(), Arc::clone(&call.job.id));
        self.forget(&id);
        Fetched::Ended(outcome)
    }

    /// When the next call must end, or be looked after, on the monotonic clock.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        let first = |calls: &BTreeSet<(u64, Id)>| calls.first().map(|(until, _)| *until);
        first(&self.deadlines).into_iter().chain(first(&self.lost)).min()
    }

    /// Ends calls whose time is over, and forgets outcomes nobody came for: some of them, so that others get their turn before it is
    /// called again. Gives calls again whose connection was lost and that no peer says to have.
    pub(crate) fn end_overdue(&mut self, directory: &mut Directory, now: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        for _ in 0..AT_ONCE {
            let Some((deadline, id)) = self.deadlines.first().filter(|(deadline, _)| *deadline <= now).cloned() else { break };
            if !self.overdue(&id, &mut actions) {
                break;
            }
            self.deadlines.remove(&(deadline, Arc::clone(&id)));
            // A call that just ended is kept no longer than its deadline.
            self.forget(&id);
        }
        for _ in 0..AT_ONCE {
            let Some((until, id)) = self.lost.first().filter(|(until, _)| *until <= now).cloned() else { break };
            self.lost.remove(&(until, Arc::clone(&id)));
            match self.calls.get(&id).map(|call| &call.state) {
                Some(State::Running(peer)) => {
                    let peer = Arc::clone(peer);
                    let name = self.name_of(&peer);
                    self.move_on(directory, &id, &peer, &name, Cause::Lost, now, &mut actions);
                }
                Some(State::Returning) => self.begin_anew(directory, &id, now, &mut actions),
                Some(State::Queued(_) | State::Gathering(_) | State::Ended(_)) | None => {}
            }
        }
        self.returning.pass(now);
        actions
    }

    /// Ends a call whose time is over; false where it gathers answers and many are missing, so that there is more to do.
    fn overdue(&mut self, id: &Id, actions: &mut Vec<Action>) -> bool {
        let Some(call) = self.calls.get_mut(id) else { return true };
        let timeout = Failure::new("TIMEOUT", format!("timeout after {} ms", call.timeout_ms));
        match &mut call.state {
            State::Ended(_) => {}
            State::Queued(_) | State::Running(_) | State::Returning => {
                self.tell_callee(id, Why::Late, actions);
                self.end(id, Err(timeout), actions);
            }
            State::Gathering(gathering) => {
                // Nobody is asked any more, and all who did not answer are named.
                (gathering.asking, gathering.wanted) = (None, usize::MAX);
                let late: Vec<Id> = gathering.parts.iter().take(AT_ONCE).cloned().collect();
                for part in &late {
                    self.tell_callee(part, Why::Late, actions);
                    self.end(part, Err(timeout.clone()), actions);
                }
                self.end_if_whole(id, actions);
                return !matches!(self.calls.get(id).map(|call| &call.state), Some(State::Gathering(_)));
            }
        }
        true
    }
}

/// Bytes that an outcome takes.
fn size(outcome: &Outcome) -> usize {
    outcome.as_ref().map_or_else(|failure| failure.message.len(), |data| data.len())
}
