//! A hall to try calls in, without a server, and what must hold in it.

mod any_order;
mod life;
mod lost;
mod returning;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use smallvec::SmallVec;

use crate::engine::block::Waiter;
use crate::peers::calls::{Action, Answer, Caller, Calls, Failure, Order, Outcome, Refused};
use crate::peers::directory::{Directory, Id, Kind, Peer, Secret};
use crate::resp::{OwnedArgs, Protocol};

pub(super) const PEERS: [&str; 4] = ["a", "b", "c", "old"];

/// A hall with its directory, and what came out of it.

#[derive(Default)]
pub(super) struct Hall {
    pub(super) calls: Calls,
    pub(super) directory: Directory,
    pub(super) now: u64,
    /// Ends seen, by call.
    pub(super) ends: HashMap<Id, Vec<Outcome>>,
    /// Jobs that peers hold: the peer and the call.
    pub(super) held: Vec<(Id, Id)>,
    pub(super) made: Vec<Id>,
    /// Pieces of results: the call, what it is, its number.
    pub(super) pieces: Vec<(Id, Arc<[u8]>, u64)>,
    pub(super) waiters: Vec<(Arc<Waiter>, Id)>,
    /// What is to be gone on with.
    pub(super) left: Vec<Action>,
}

pub(super) fn waiter() -> Arc<Waiter> {
    Arc::new(Waiter::new(OwnedArgs::default(), 0, Protocol::Resp2, Arc::default()))
}

impl Hall {
    pub(super) fn arrive(&mut self, id: &str, concurrency: u32, retry: u32) {
        let json = format!(r#"{{"name":"{id}","capabilities":[{{"name":"f","concurrency":{concurrency},"retry":{retry}}}]}}"#);
        let new = Kind::New { secret: Secret::of(b"s"), clients: SmallVec::new() };
        self.register(Peer::read(id, &json, 0, if id == "old" { Kind::Old } else { new }));
    }

    pub(super) fn register(&mut self, peer: Peer) {
        self.directory.insert(peer.clone());
        let actions = self.calls.station(&mut self.directory, &peer, self.now);
        self.note(actions);
    }

    /// It is there, but can do nothing any more.
    pub(super) fn retire(&mut self, id: &str) {
        let kind = Kind::New { secret: Secret::of(b"s"), clients: SmallVec::new() };
        self.register(Peer::read(id, r#"{"name":"x"}"#, 0, kind));
    }

    pub(super) fn lose(&mut self, peer: &str, client: u64) {
        self.calls.lose(&peer.into(), client, self.now);
    }

    pub(super) fn claim(&mut self, peer: &str, client: u64, named: &[Id]) {
        let named = named.iter().map(ToString::to_string).collect();
        let actions = self.calls.claim(&mut self.directory, &peer.into(), client, &named, self.now);
        self.note(actions);
    }

    pub(super) fn wait(&mut self, peer: &str, client: u64) -> Arc<Waiter> {
        let waiter = waiter();
        self.waiters.push((Arc::clone(&waiter), peer.into()));
        self.calls.wait(&peer.into(), Arc::clone(&waiter), 2, client);
        waiter
    }

    pub(super) fn die(&mut self, id: &str) {
        self.directory.remove(id);
        self.held.retain(|(peer, _)| **peer != *id);
        let actions = self.calls.gone(&mut self.directory, &id.into(), &HashSet::new(), self.now);
        self.note(actions);
    }

    pub(super) fn make(&mut self, order: Order, caller: Caller) -> Result<Id, Failure> {
        let (id, actions) = self.calls.make(&mut self.directory, order, caller, self.now)?;
        self.made.push(Arc::clone(&id));
        self.note(actions);
        Ok(id)
    }

    pub(super) fn take(&mut self, peer: &str, count: usize) -> Vec<Id> {
        self.take_over(peer, count, 1)
    }

    pub(super) fn take_over(&mut self, peer: &str, count: usize, client: u64) -> Vec<Id> {
        let jobs = self.calls.take(&peer.into(), count, client);
        self.held.extend(jobs.iter().map(|job| (peer.into(), Arc::clone(&job.id))));
        jobs.into_iter().map(|job| job.id).collect()
    }

    pub(super) fn answer(&mut self, peer: &str, id: &str, answer: Answer) -> Result<(), Refused> {
        let by: Id = peer.into();
        let actions = self.calls.answer((peer != "old").then_some(&by), id, answer)?;
        self.held.retain(|(_, held)| **held != *id);
        self.note(actions);
        Ok(())
    }

    pub(super) fn pass(&mut self, ms: u64) {
        self.now += ms;
        loop {
            let actions = self.calls.end_overdue(&mut self.directory, self.now);
            self.note(actions);
            if self.calls.next_deadline().is_none_or(|deadline| deadline > self.now) {
                return;
            }
        }
    }

    pub(super) fn note(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Give(waiter, jobs) => {
                    let (_, peer) = self.waiters.iter().find(|(other, _)| Arc::ptr_eq(other, &waiter)).unwrap();
                    self.held.extend(jobs.iter().map(|job| (Arc::clone(peer), Arc::clone(&job.id))));
                }
                Action::Send(peer, job) => self.held.push((peer, job.id)),
                Action::End(_, id, outcome) => self.ends.entry(id).or_default().push(outcome),
                Action::Chunk(_, call, data, number) => self.pieces.push((call, data, number)),
                Action::Ask(_) | Action::Drop(_) => self.left.push(action),
                Action::Tried(..) | Action::Refuse(_) | Action::Dismiss(_) | Action::Withdraw(..) | Action::Cancel(..) => {}
            }
        }
    }

    /// Goes on with one thing that was left to be done; false if there was none.
    pub(super) fn go_on(&mut self) -> bool {
        let actions = match self.left.pop() {
            None => return false,
            Some(Action::Ask(id)) => self.calls.ask(&self.directory, &id, self.now),
            Some(Action::Drop(mut parts)) => {
                let now = parts.split_off(parts.len() - 1);
                if !parts.is_empty() {
                    self.left.push(Action::Drop(parts));
                }
                self.calls.drop_parts(&now)
            }
            Some(_) => unreachable!("only these are left"),
        };
        self.note(actions);
        true
    }

    pub(super) fn outcome(&self, id: &str) -> &Outcome {
        let ends = self.ends.get(id).map_or(&[][..], |ends| ends);
        assert_eq!(ends.len(), 1, "call {id} ended {} times", ends.len());
        &ends[0]
    }

    pub(super) fn code(&self, id: &str) -> &'static str {
        self.outcome(id).as_ref().map_or_else(|failure| failure.code, |_| "OK")
    }
}

pub(super) fn done() -> Answer {
    Answer::Done(b"1"[..].into())
}

pub(super) fn order() -> Order {
    Order { timeout_ms: 1000, ..Order::new("f", b"{}") }
}
