//! Whatever happens, in whatever order, each call ends once.

use std::sync::Arc;

use proptest::prelude::{Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};

use super::{Hall, PEERS, done, order, waiter};
use crate::peers::calls::{Answer, Caller, Load, Order};
use crate::peers::directory::{Id, Secret};

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
    GoOn,
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
        3 => Just(Event::GoOn),
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
            Event::GoOn => {
                self.go_on();
            }
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
        while hall.go_on() {}
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
