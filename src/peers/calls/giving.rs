//! What a peer has: its queues, which calls it is given over which connection, and what becomes of those when that is lost.

use std::cmp::Reverse;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use smallvec::SmallVec;

use crate::engine::block::Waiter;
use crate::peers::calls::hall::{Calls, Holder, State, Wait, find};
use crate::peers::calls::moving::Cause;
use crate::peers::calls::terms::{Action, Job};
use crate::peers::directory::{Directory, Id, Peer};

/// How long a peer that has lost the connection over which it took a call may take to say that it runs it all the same.
pub(super) const LOST_MS: u64 = 1_000;

/// Waits of a peer before those that are over are looked for; then twice as many as were left, so that a wait costs O(1).
const SWEEP_MIN: usize = 4;

impl Calls {
    /// A peer, which is in the directory, has these capabilities. Calls that wait for one it has no more go to others, or end.
    pub(crate) fn station(&mut self, directory: &mut Directory, peer: &Peer, now: u64) -> Vec<Action> {
        let station = self.stations.entry(Arc::clone(&peer.id)).or_default();
        station.name = Some(Arc::clone(&peer.name));
        station.is_old = peer.is_old();
        for lane in station.lanes.values_mut() {
            lane.limit = u32::MAX;
        }
        for capability in peer.capabilities.iter() {
            let lane = station.lanes.entry(Arc::clone(&capability.name)).or_default();
            lane.limit = capability.concurrency;
            lane.retry = capability.retry;
        }
        let dropped = station.lanes.iter().filter(|(name, _)| peer.capability(name).is_none());
        let mut calls: Vec<Id> = dropped.flat_map(|(_, lane)| lane.queue.values().cloned()).collect();
        station.lanes.retain(|name, lane| lane.running > 0 || !lane.queue.is_empty() || peer.capability(name).is_some());
        let mut actions = Vec::new();
        self.move_all(directory, &mut calls, &peer.id, &peer.name, |_| Cause::Dropped, now, &mut actions);
        actions
    }

    /// Puts a call into a peer's queue, and gives it at once if the peer waits for work.
    pub(super) fn place(&mut self, id: &Id, peer: &Id, actions: &mut Vec<Action>) {
        let Some(call) = self.calls.get_mut(id) else { return };
        let station = self.stations.entry(Arc::clone(peer)).or_default();
        if station.is_old {
            call.state = State::Running(Arc::clone(peer));
            station.running.insert(Arc::clone(id));
            self.total.running += 1;
            actions.push(Action::Send(Arc::clone(peer), call.job.clone()));
            return;
        }
        call.state = State::Queued(Arc::clone(peer));
        station.queued += 1;
        self.total.queued += 1;
        let lane = station.lane(&call.job.capability);
        lane.queue.insert((Reverse(call.priority), call.number), Arc::clone(id));
        self.give(peer, actions);
    }

    /// Gives jobs to those who wait for them, first come first served.
    pub(super) fn give(&mut self, peer: &Id, actions: &mut Vec<Action>) {
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
    pub(crate) fn take(&mut self, peer: &Id, count: usize, client: u64) -> SmallVec<[Job; 1]> {
        let mut jobs = SmallVec::new();
        self.returning.is_back(peer);
        let Some(station) = self.stations.get_mut(peer) else { return jobs };
        while jobs.len() < count
            && let Some(lane) = station.next()
            && let Some((_, id)) = lane.queue.pop_first()
        {
            lane.running += 1;
            station.queued -= 1;
            self.total.queued -= 1;
            self.total.running += 1;
            station.running.insert(Arc::clone(&id));
            let call = self.calls.get_mut(&id).expect("what is queued is a call");
            call.state = State::Running(Arc::clone(peer));
            call.holder = Holder::Client(client);
            jobs.push(call.job.clone());
        }
        jobs
    }

    /// Waits for up to `count` jobs for a peer, which must be in the directory: one that is not would never be told of anything. Only to
    /// be called after [`Self::take`] gave none.
    pub(crate) fn wait(&mut self, peer: &Id, waiter: Arc<Waiter>, count: usize, client: u64) {
        let station = self.stations.get_mut(peer).expect("who is in the directory has a station: both change under one lock");
        if station.waiting.len() >= station.sweep_at {
            station.waiting.retain(|wait| !wait.waiter.is_over());
            station.sweep_at = SWEEP_MIN + 2 * station.waiting.len();
        }
        station.waiting.push_back(Wait { waiter, count, client });
    }

    /// A connection of a peer that may go on without it is lost, and with it perhaps what was given over it.
    pub(crate) fn lose(&mut self, peer: &Id, client: u64, now: u64) {
        self.returning.lose(client);
        let Some(station) = self.stations.get(peer) else { return };
        for id in &station.running {
            let Some(call) = self.calls.get_mut(id).filter(|call| call.holder == Holder::Client(client)) else { continue };
            call.holder = Holder::Lost(now + LOST_MS);
            self.lost.insert((now + LOST_MS, Arc::clone(id)));
        }
    }

    /// A peer says which calls it runs, and that it takes its work over this client's connection from now on. What it was given
    /// over others and does not name never arrived.
    pub(crate) fn claim(
        &mut self,
        directory: &mut Directory,
        peer: &Id,
        client: u64,
        named: &HashSet<String>,
        now: u64,
    ) -> Vec<Action> {
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
        let name = self.name_of(peer);
        self.move_all(directory, &mut missing, peer, &name, |_| Cause::Lost, now, &mut actions);
        named.iter().for_each(|id| self.return_to(directory, peer, client, id, now, &mut actions));
        self.returning.is_back(peer);
        actions
    }

    /// Takes a call away from the peer that has it.
    pub(super) fn release(&mut self, id: &Id) {
        let Some(call) = self.calls.get_mut(id) else { return };
        find(&mut call.holder, &mut self.lost, id, Holder::Peer);
        let (State::Queued(peer) | State::Running(peer)) = &call.state else { return };
        let Some(station) = self.stations.get_mut(peer) else { return };
        let was_running = station.running.remove(id);
        self.total.running -= usize::from(was_running);
        let Some(lane) = station.lanes.get_mut(&call.job.capability) else { return };
        if was_running {
            lane.running = lane.running.saturating_sub(1);
        } else if lane.queue.remove(&(Reverse(call.priority), call.number)).is_some() {
            station.queued -= 1;
            self.total.queued -= 1;
        }
    }
}
