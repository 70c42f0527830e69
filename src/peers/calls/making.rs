//! How calls begin: a peer is chosen, or all are asked, some at a time.

use std::collections::HashSet;
use std::sync::Arc;

use crate::id;
use crate::peers::calls::hall::{AT_ONCE, Asking, Call, Calls, Gathering, Holder, State, tell_try};
use crate::peers::calls::terms::{Action, CALLS_OF_A_PEER_MAX, Caller, Failure, Job, Order, Route};
use crate::peers::directory::{Directory, Id};
use crate::peers::route;

/// Bytes of payloads and gathered answers in all: a flood of calls ends in BUSY, not in the end of the memory.
pub(super) const BYTES_MAX: usize = 1 << 30;

/// Capabilities whose calls are counted.
pub(super) const TALLIES_MAX: usize = 10_000;

impl Calls {
    /// Makes a call. Nothing is left of it where that fails.
    pub(crate) fn make(
        &mut self,
        directory: &mut Directory,
        mut order: Order,
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
            None if order.again.is_some() => self.come_back(directory, &id, &order, caller, now, &mut actions)?,
            None => {
                let peer = self.choose(directory, &order.capability, order.to.as_ref(), &order.route, now)?;
                self.add(&id, &order, caller, State::Queued(Arc::clone(&peer)), now);
                self.place(&id, &peer, &mut actions);
            }
            Some(wanted) => {
                order.try_again()?;
                self.gather(directory, &id, order.clone(), caller, wanted, now, &mut actions)?;
                if let Some(call) = self.calls.get(&id).filter(|call| call.again.is_some()) {
                    tell_try(call, &mut actions);
                }
            }
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
        directory: &Directory,
        id: &Id,
        order: Order,
        caller: Caller,
        wanted: usize,
        now: u64,
        actions: &mut Vec<Action>,
    ) -> Result<(), Failure> {
        let is_live = |peer: &Id| directory.get(peer).is_some_and(|peer| peer.is_live(now));
        let capable = directory.with_capability(&order.capability).filter(|capable| capable.iter().any(is_live));
        let Some(capable) = capable else { return Err(nobody(&order.capability)) };
        let asking = Asking { order: order.clone(), made_at: now, last: 0, until: capable.last() };
        let wanted = if wanted == 0 { usize::MAX } else { wanted };
        let gathering = Gathering { parts: HashSet::new(), wanted, answers: Vec::new(), bytes: 0, asking: Some(asking) };
        self.add(id, &order, caller, State::Gathering(gathering), now);
        actions.extend(self.ask(directory, id, now));
        Ok(())
    }

    /// Asks the next peers for a call that gathers their answers. Does nothing where it has ended.
    pub(crate) fn ask(&mut self, directory: &Directory, id: &Id, now: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        let Some(State::Gathering(gathering)) = self.calls.get_mut(id).map(|call| &mut call.state) else { return actions };
        let Some(asking) = gathering.asking.take() else { return actions };
        let Asking { order, made_at, last, until } = &asking;
        let capable = directory.with_capability(&order.capability);
        let next = capable.into_iter().flat_map(|capable| capable.after(*last)).take_while(|(number, _)| number <= until);
        let next: Vec<(u64, Id)> = next.take(AT_ONCE).map(|(number, peer)| (number, Arc::clone(peer))).collect();
        let is_live = |peer: &Id| directory.get(peer).is_some_and(|peer| peer.is_live(now));
        let parts: Vec<(Id, &Id)> =
            next.iter().filter(|(_, peer)| is_live(peer)).map(|(_, peer)| (id::call().into(), peer)).collect();
        gathering.parts.extend(parts.iter().map(|(part, _)| Arc::clone(part)));
        // All are noted before one of them can end, which may end the whole.
        for (part, peer) in &parts {
            let order = Order { to: Some(Arc::clone(peer)), gather: None, again: None, ..order.clone() };
            self.add(part, &order, Caller::Gather(Arc::clone(id)), State::Queued(Arc::clone(peer)), *made_at);
        }
        if let Some((last, _)) = next.last().filter(|_| next.len() == AT_ONCE) {
            let last = *last;
            if let Some(State::Gathering(gathering)) = self.calls.get_mut(id).map(|call| &mut call.state) {
                gathering.asking = Some(Asking { last, ..asking.clone() });
            }
            actions.push(Action::Ask(Arc::clone(id)));
        }
        for (part, peer) in parts {
            if self.load(peer).total() >= CALLS_OF_A_PEER_MAX {
                self.end(&part, Err(self.busy(peer)), &mut actions);
            } else {
                self.place(&part, peer, &mut actions);
            }
        }
        self.end_if_whole(id, &mut actions);
        actions
    }

    pub(super) fn add(&mut self, id: &Id, order: &Order, caller: Caller, state: State, now: u64) {
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
            again: order.again,
            state,
            holder: Holder::Peer,
        };
        self.calls.insert(Arc::clone(id), call);
    }

    pub(super) fn choose(
        &self,
        directory: &mut Directory,
        capability: &Id,
        to: Option<&Id>,
        route: &Route,
        now: u64,
    ) -> Result<Id, Failure> {
        if let Some(to) = to {
            let peer = directory.get(to).filter(|peer| peer.is_live(now) && peer.capability(capability).is_some());
            let peer = peer.ok_or_else(|| {
                Failure::new("NOPEER", format!("no live peer \"{}\" handles \"{capability}\"", self.name_of(to)))
            })?;
            return if self.load(to).total() < CALLS_OF_A_PEER_MAX { Ok(Arc::clone(&peer.id)) } else { Err(self.busy(to)) };
        }
        let Some(capable) = directory.with_capability(capability) else { return Err(nobody(capability)) };
        let load = |peer: &Id| {
            let load = self.load(peer).total();
            (load < CALLS_OF_A_PEER_MAX && directory.get(peer).is_some_and(|peer| peer.is_live(now))).then_some(load)
        };
        // One from before the server was restarted, which is not back yet, may never be.
        let load_of_present = |peer: &Id| load(peer).filter(|_| directory.get(peer).is_some_and(|peer| !peer.is_awaited()));
        let present = if matches!(route, Route::Sticky(_)) { None } else { route::pick(capable, route, load_of_present) };
        if let Some(peer) = present.or_else(|| route::pick(capable, route, load)).cloned() {
            directory.took_turn(capability, &peer);
            return Ok(peer);
        }
        match capable.iter().find(|peer| directory.get(peer).is_some_and(|peer| peer.is_live(now))) {
            Some(peer) => Err(self.busy(peer)),
            None => Err(nobody_alive(capability)),
        }
    }

    fn busy(&self, peer: &Id) -> Failure {
        let name = self.name_of(peer);
        Failure::new("BUSY", format!("peer \"{name}\" has {CALLS_OF_A_PEER_MAX} calls to answer already: try again later"))
    }
}

pub(super) fn nobody(capability: &str) -> Failure {
    Failure::new("NOPEER", format!("no peer handles \"{capability}\""))
}

/// Peers with the capability are known, but none lives.
pub(crate) fn nobody_alive(capability: &str) -> Failure {
    Failure::new("NOPEER", format!("no live peer handles \"{capability}\""))
}
