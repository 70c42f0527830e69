//! Calls whose peer lives on, but not the connection they were given over, and those of capabilities a peer gives up.

use std::sync::Arc;

use super::{Hall, done, order, waiter};
use crate::peers::calls::giving::LOST_MS;
use crate::peers::calls::{Answer, Caller, Order};

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
    assert_eq!(hall.outcome(&named).as_ref().unwrap_err().to_string(), "NOPEER no live peer \"x\" handles \"f\"");
    hall.answer("a", &ids[0], done()).unwrap();
    assert_eq!(hall.code(&ids[0]), "OK", "what runs is finished");
    let last = hall.make(order(), Caller::Waiter(waiter())).unwrap();
    hall.retire("b");
    assert_eq!(hall.outcome(&last).as_ref().unwrap_err().to_string(), "NOPEER no live peer handles \"f\"");
}
