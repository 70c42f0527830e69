//! Calls that go on to another peer, since theirs is gone, does not have them, or does not offer the capability any more.

use std::collections::HashSet;
use std::sync::Arc;

use crate::peers::calls::hall::{Call, Calls, State, tell_try};
use crate::peers::calls::making::nobody_alive;
use crate::peers::calls::terms::{Action, Caller, Failure};
use crate::peers::directory::{Directory, Id};

/// Why a call goes to another peer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Its peer is gone.
    Gone,
    /// The peer is gone, and the job was still on its list.
    Listed,
    /// The peer never got it, or does not say that it did.
    Lost,
    /// The peer does not offer the capability any more.
    Dropped,
}

impl Calls {
    /// A peer is gone: its calls go to others, or end. `listed`: ids of jobs that were still on an old peer's list.
    pub(crate) fn gone(&mut self, directory: &mut Directory, peer: &Id, listed: &HashSet<String>, now: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        let Some(station) = self.stations.remove(peer) else { return actions };
        self.total.queued -= station.queued;
        self.total.running -= station.running.len();
        let waiting = station.waiting.into_iter().map(|wait| wait.waiter);
        actions.extend(waiting.filter(|waiter| waiter.end()).map(Action::Refuse));
        let queued = station.lanes.into_values().flat_map(|lane| lane.queue.into_values());
        let mut calls: Vec<Id> = queued.chain(station.running).collect();
        let cause = |id: &Id| if listed.contains(&**id) { Cause::Listed } else { Cause::Gone };
        self.returning.forget(peer);
        let name = station.name.unwrap_or_else(|| Arc::clone(peer));
        self.move_all(directory, &mut calls, peer, &name, cause, now, &mut actions);
        // Nobody waits for the jobs of an old caller that is gone; a new one may come back.
        let orphans: Vec<Id> = self.of_caller.get(peer).into_iter().flatten().cloned().collect();
        for id in orphans {
            if matches!(self.calls.get(&id), Some(Call { caller: Caller::Old(..), .. })) {
                actions.extend(self.cancel(&id, None).into_iter().flatten());
            }
        }
        actions
    }

    /// A caller is gone and said that it does not come back: nobody wants the outcomes of its calls any more, and those under way are cancelled.
    pub(crate) fn forget_caller(&mut self, peer: &Id) -> Vec<Action> {
        let ids: Vec<Id> = self.of_caller.get(peer).into_iter().flatten().cloned().collect();
        let mut actions = Vec::new();
        for id in ids {
            actions.extend(self.cancel(&id, None).into_iter().flatten());
            self.forget(&id);
        }
        actions
    }

    /// What people call a peer.
    pub(super) fn name_of(&self, peer: &Id) -> Id {
        let name = self.stations.get(peer).and_then(|station| station.name.clone());
        name.unwrap_or_else(|| Arc::clone(peer))
    }

    /// Finds other peers for calls, in the order they were made, so that they are in that order at the next peer.
    #[expect(clippy::too_many_arguments, reason = "as above")]
    pub(super) fn move_all(
        &mut self,
        directory: &mut Directory,
        calls: &mut [Id],
        from: &Id,
        name: &str,
        cause: impl Fn(&Id) -> Cause,
        now: u64,
        actions: &mut Vec<Action>,
    ) {
        calls.sort_by_cached_key(|id| self.calls.get(id).map(|call| call.number));
        calls.iter().for_each(|id| self.move_on(directory, id, from, name, cause(id), now, actions));
    }

    /// Finds a peer for a call that this one, which people call so, does not have, or not any more.
    #[expect(clippy::too_many_arguments, reason = "what is known of the call, of its peer, and of the moment")]
    pub(super) fn move_on(
        &mut self,
        directory: &mut Directory,
        id: &Id,
        from: &Id,
        name: &str,
        cause: Cause,
        now: u64,
        actions: &mut Vec<Action>,
    ) {
        let Some(call) = self.calls.get_mut(id) else { return };
        let was_running = matches!(call.state, State::Running(_)) && cause != Cause::Listed;
        let is_gone = matches!(cause, Cause::Gone | Cause::Listed);
        let gone = || {
            let how = if is_gone { "left while it ran the call" } else { "lost the connection over which it took the call" };
            Failure::new("GONE", format!("peer \"{name}\" {how}"))
        };
        let ends = match (&call.to, was_running) {
            (Some(_), true) if is_gone => Some(gone()),
            (Some(_), false) if is_gone => Some(Failure::new("GONE", format!("peer \"{name}\" left before it took the call"))),
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
            tell_try(call, actions);
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
}
