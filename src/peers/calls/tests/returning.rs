//! Calls that the server's last run had: callers and peers come back in any order.

use std::sync::Arc;

use super::{Hall, done, order};
use crate::peers::calls::claims::{CLAIMS_OF_A_PEER_MAX, WINDOW_MS};
use crate::peers::calls::hall::AT_ONCE;
use crate::peers::calls::returning::{LOOK_MS, RETURN_MS};
use crate::peers::calls::terms::CALLS_OF_A_PEER_MAX;
use crate::peers::calls::{Again, Answer, Caller, Order};
use crate::peers::directory::{Id, Secret};

/// Comes back as the caller of a call.
fn come_back(hall: &mut Hall, attempt: u32, retries: u32, seen: u64) -> Result<Id, String> {
    come_back_with(hall, Order { retries, again: Some(Again { attempt, seen }), ..order() })
}

fn come_back_with(hall: &mut Hall, order: Order) -> Result<Id, String> {
    let order = Order { id: Some("call".into()), timeout_ms: 60_000, ..order };
    hall.make(order, Caller::Peer("me".into(), Secret::of(b"s"))).map_err(|failure| failure.to_string())
}

/// A peer was there in the last run.
fn expect(hall: &mut Hall, peer: &str) {
    let peer = hall.directory.get(peer).unwrap().clone();
    hall.calls.expect(&peer);
}

fn attempt(hall: &Hall, id: &Id) -> u32 {
    hall.calls.calls[id].job.attempt
}

#[test]
fn a_peer_keeps_the_call_it_runs_whoever_comes_back_first() {
    for peer_is_first in [true, false] {
        let mut hall = Hall::default();
        hall.arrive("a", 0, 0);
        hall.arrive("b", 0, 0);
        let id: Id = "call".into();
        if peer_is_first {
            hall.claim("a", 7, &[Arc::clone(&id)]);
            come_back(&mut hall, 2, 0, 0).unwrap();
        } else {
            come_back(&mut hall, 2, 0, 0).unwrap();
            hall.pass(RETURN_MS - 1);
            hall.claim("a", 7, &[Arc::clone(&id)]);
        }
        hall.pass(WINDOW_MS);
        assert!(hall.take("a", 9).is_empty() && hall.take("b", 9).is_empty());
        assert_eq!((attempt(&hall, &id), hall.calls.total().running), (2, 1));
        hall.answer("a", &id, done()).unwrap();
        assert_eq!(hall.code(&id), "OK");
    }
}

#[test]
fn an_answer_waits_for_its_caller_even_where_its_peer_is_gone_by_then() {
    for stays in [true, false] {
        let mut hall = Hall::default();
        hall.arrive("a", 0, 0);
        hall.claim("a", 7, &["call".into()]);
        hall.answer("a", "call", done()).unwrap();
        assert!(hall.answer("a", "call", done()).is_err(), "once");
        if !stays {
            hall.die("a");
        }
        let id = come_back(&mut hall, 1, 0, 0).unwrap();
        assert_eq!(hall.code(&id), "OK");
        assert_eq!(hall.calls.stations.contains_key("a"), stays);
    }
}

#[test]
fn a_call_that_nobody_says_to_run_is_one_more_try_where_there_may_be_one() {
    let mut hall = Hall::default();
    hall.arrive("a", 0, 0);
    let id = come_back(&mut hall, 1, 1, 0).unwrap();
    assert!(hall.take("a", 9).is_empty(), "its peer may be about to come back");
    hall.pass(RETURN_MS);
    assert_eq!(hall.take("a", 9), [Arc::clone(&id)]);
    assert_eq!((attempt(&hall, &id), hall.calls.calls[&id].retries), (2, 0));
    for (retries, seen) in [(0, 0), (5, 3)] {
        let mut hall = Hall::default();
        hall.arrive("a", 0, 0);
        let id = come_back(&mut hall, 1, retries, seen).unwrap();
        hall.pass(RETURN_MS);
        assert_eq!(hall.outcome(&id).as_ref().unwrap_err().to_string(), "GONE the server was restarted while it had the call");
    }
}

#[test]
fn later_nobody_is_waited_for_and_no_claim_is_taken() {
    let mut hall = Hall::default();
    hall.arrive("a", 0, 0);
    hall.claim("a", 7, &[]);
    hall.claim("a", 7, &["other".into()]);
    hall.pass(WINDOW_MS);
    hall.claim("a", 7, &["call".into()]);
    assert!(hall.answer("a", "call", done()).is_err());
    assert!(hall.answer("a", "other", done()).is_err());
    assert!(come_back(&mut hall, 1, 0, 0).unwrap_err().starts_with("GONE "));
    let id = come_back(&mut hall, 1, 1, 0).unwrap();
    assert_eq!(hall.take("a", 9), [Arc::clone(&id)]);
    assert_eq!(attempt(&hall, &id), 2);
}

#[test]
fn who_lost_its_connection_says_anew_what_it_runs() {
    let mut hall = Hall::default();
    hall.arrive("a", 0, 0);
    hall.claim("a", 7, &["call".into()]);
    hall.lose("a", 7);
    let id = come_back(&mut hall, 1, 0, 2).unwrap();
    hall.claim("a", 8, &[Arc::clone(&id)]);
    hall.pass(RETURN_MS);
    hall.answer("a", &id, Answer::Chunk(b"1"[..].into())).unwrap();
    assert_eq!(hall.calls.calls[&id].chunks, 3, "pieces are numbered on");
    hall.answer("a", &id, done()).unwrap();
    assert_eq!(hall.code(&id), "OK");
}

#[test]
fn the_answer_of_a_peer_that_was_there_before_may_come_before_its_claim() {
    let mut hall = Hall::default();
    hall.arrive("a", 0, 0);
    hall.arrive("b", 0, 0);
    expect(&mut hall, "a");
    assert!(hall.answer("b", "call", done()).is_err(), "it is new");
    hall.answer("a", "call", done()).unwrap();
    hall.claim("a", 7, &["call".into()]);
    let id = come_back(&mut hall, 1, 0, 0).unwrap();
    assert_eq!(hall.code(&id), "OK");
}

#[test]
fn only_a_peer_that_can_do_it_has_a_call_whoever_comes_back_first() {
    for (liar_is_first, leaves) in [(true, false), (true, true), (false, false)] {
        let mut hall = Hall::default();
        hall.arrive("a", 0, 0);
        hall.retire("b");
        let id: Id = "call".into();
        if liar_is_first {
            hall.claim("b", 8, &[Arc::clone(&id)]);
            hall.answer("b", &id, Answer::Done(b"\"forged\""[..].into())).unwrap();
            hall.claim("a", 7, &[Arc::clone(&id)]);
            if leaves {
                hall.die("b");
            }
            come_back(&mut hall, 1, 0, 0).unwrap();
        } else {
            come_back(&mut hall, 1, 0, 0).unwrap();
            hall.claim("b", 8, &[Arc::clone(&id)]);
            hall.claim("a", 7, &[Arc::clone(&id)]);
        }
        assert!(hall.answer("b", &id, done()).is_err());
        hall.answer("a", &id, done()).unwrap();
        assert_eq!(**hall.outcome(&id).as_ref().unwrap(), *b"1");
    }
}

#[test]
fn of_two_that_say_to_run_a_call_the_first_has_it() {
    let mut hall = Hall::default();
    hall.arrive("a", 0, 0);
    hall.arrive("b", 0, 0);
    hall.claim("a", 7, &["call".into()]);
    hall.claim("b", 8, &["call".into()]);
    let id = come_back(&mut hall, 1, 0, 0).unwrap();
    assert!(hall.answer("b", &id, done()).is_err());
    hall.answer("a", &id, done()).unwrap();
}

#[test]
fn a_peer_that_invents_calls_is_not_in_the_way_of_others() {
    let mut hall = Hall::default();
    hall.arrive("a", 0, 0);
    hall.arrive("b", 0, 0);
    let invented: Vec<Id> = (0..CLAIMS_OF_A_PEER_MAX + 9).map(|at| format!("invented{at}").into()).collect();
    hall.claim("b", 8, &invented);
    hall.claim("a", 7, &["call".into()]);
    let id = come_back(&mut hall, 1, 0, 0).unwrap();
    hall.answer("a", &id, done()).unwrap();
    let taken = invented.iter().filter(|id| hall.answer("b", id, done()).is_ok()).count();
    assert_eq!(taken, CLAIMS_OF_A_PEER_MAX);
}

#[test]
fn pieces_wait_for_their_caller_as_the_end_does() {
    for leaves in [true, false] {
        let mut hall = Hall::default();
        hall.arrive("a", 0, 0);
        hall.claim("a", 7, &["call".into()]);
        hall.answer("a", "call", Answer::Chunk(b"1"[..].into())).unwrap();
        hall.lose("a", 7);
        hall.answer("a", "call", Answer::Chunk(b"2"[..].into())).unwrap();
        if leaves {
            hall.answer("a", "call", done()).unwrap();
            hall.die("a");
        }
        let id = come_back(&mut hall, 1, 0, 3).unwrap();
        let pieces: Vec<_> = hall.pieces.iter().map(|(_, data, number)| (&**data, *number)).collect();
        assert_eq!(pieces, [(&b"1"[..], 4), (b"2", 5)]);
        if !leaves {
            hall.answer("a", &id, done()).unwrap();
        }
        assert_eq!(hall.code(&id), "OK");
    }
}

#[test]
fn many_are_asked_again_only_where_there_may_be_one_more_try() {
    let gather = |retries, seen| Order { gather: Some(0), retries, again: Some(Again { attempt: 1, seen }), ..order() };
    let mut hall = Hall::default();
    hall.arrive("a", 0, 0);
    for order in [gather(0, 0), gather(5, 3)] {
        assert!(come_back_with(&mut hall, order).unwrap_err().starts_with("GONE "));
        assert!(hall.take("a", 9).is_empty());
    }
    come_back_with(&mut hall, gather(1, 0)).unwrap();
    let part = hall.take("a", 9).remove(0);
    assert_eq!((attempt(&hall, &part), hall.calls.calls[&part].retries), (2, 0));
}

#[test]
fn a_call_waits_for_the_peer_that_may_run_it_and_is_not_begun_beside_its_first_try() {
    for retries in [0, 1] {
        let mut hall = Hall::default();
        hall.arrive("a", 0, 0);
        hall.arrive("b", 0, 0);
        expect(&mut hall, "a");
        let id = come_back(&mut hall, 1, retries, 0).unwrap();
        hall.pass(WINDOW_MS - 1);
        assert!(hall.take("b", 9).is_empty(), "it may still run at the one that is not back");
        hall.claim("a", 7, &[Arc::clone(&id)]);
        hall.pass(WINDOW_MS);
        assert!(hall.take("b", 9).is_empty());
        assert_eq!((attempt(&hall, &id), hall.calls.calls[&id].retries), (1, retries));
        hall.answer("a", &id, done()).unwrap();
        assert_eq!(hall.code(&id), "OK");
    }
}

#[test]
fn a_call_waits_no_longer_once_all_who_may_run_it_are_back_or_gone() {
    for how in ["claims others", "takes work", "dies", "never comes"] {
        let mut hall = Hall::default();
        hall.arrive("a", 0, 0);
        hall.arrive("b", 0, 0);
        expect(&mut hall, "a");
        let id = come_back(&mut hall, 1, 1, 0).unwrap();
        hall.pass(RETURN_MS);
        match how {
            "claims others" => hall.claim("a", 7, &["other".into()]),
            "takes work" => assert!(hall.take("a", 1).is_empty()),
            "dies" => hall.die("a"),
            _ => hall.pass(WINDOW_MS - RETURN_MS - LOOK_MS),
        }
        hall.pass(LOOK_MS);
        assert_eq!([hall.take("a", 9), hall.take("b", 9)].concat(), [id], "it {how}");
    }
}

#[test]
fn a_call_with_little_time_is_begun_anew_at_half_of_it() {
    let mut hall = Hall::default();
    hall.arrive("a", 0, 0);
    hall.arrive("b", 0, 0);
    expect(&mut hall, "a");
    let order = Order { id: Some("call".into()), again: Some(Again { attempt: 1, seen: 0 }), ..order() };
    let half = order.timeout_ms / 2;
    hall.make(order, Caller::Peer("me".into(), Secret::of(b"s"))).unwrap();
    hall.pass(half);
    assert_eq!([hall.take("a", 9), hall.take("b", 9)].concat(), [Id::from("call")]);
}

#[test]
fn a_call_that_was_begun_anew_and_not_taken_is_still_the_first_try_of_the_peer_that_runs_it() {
    let mut hall = Hall::default();
    hall.arrive("a", 0, 0);
    let id = come_back(&mut hall, 1, 1, 0).unwrap();
    hall.pass(RETURN_MS);
    assert_eq!((attempt(&hall, &id), hall.calls.total().queued), (2, 1));
    hall.claim("a", 7, &[Arc::clone(&id)]);
    assert!(hall.take("a", 9).is_empty());
    assert_eq!((attempt(&hall, &id), hall.calls.calls[&id].retries), (1, 1));
    assert_eq!((hall.calls.total().queued, hall.calls.total().running), (0, 1));
    hall.answer("a", &id, done()).unwrap();
    assert_eq!(hall.code(&id), "OK");
}

#[test]
fn a_call_that_nobody_can_take_waits_for_one_who_comes_back() {
    let mut hall = Hall::default();
    let id = come_back(&mut hall, 1, 1, 0).unwrap();
    hall.pass(WINDOW_MS - LOOK_MS);
    hall.arrive("a", 0, 0);
    hall.pass(LOOK_MS);
    assert_eq!(hall.take("a", 9), [id]);
    let mut hall = Hall::default();
    let id = come_back(&mut hall, 1, 1, 0).unwrap();
    hall.pass(WINDOW_MS);
    assert_eq!(hall.code(&id), "NOPEER");
}

#[test]
fn callers_come_back_with_so_many_calls_and_these_are_looked_after_some_at_a_time() {
    let mut hall = Hall::default();
    let again = |at| Order {
        id: Some(format!("call{at}").into()),
        timeout_ms: 60_000,
        retries: 0,
        again: Some(Again { attempt: 1, seen: 0 }),
        ..order()
    };
    let make = |hall: &mut Hall, at, caller: &str| {
        hall.make(again(at), Caller::Peer(caller.into(), Secret::of(b"s"))).map_err(|failure| failure.code)
    };
    (0..CALLS_OF_A_PEER_MAX).for_each(|at| drop(make(&mut hall, at, "me").unwrap()));
    assert_eq!(make(&mut hall, CALLS_OF_A_PEER_MAX, "me").unwrap_err(), "BUSY");
    make(&mut hall, CALLS_OF_A_PEER_MAX, "other").unwrap();
    hall.now += RETURN_MS;
    let actions = hall.calls.end_overdue(&mut hall.directory, hall.now);
    assert_eq!(actions.len(), AT_ONCE);
    assert!(hall.calls.next_deadline().unwrap() <= hall.now, "it goes on at once");
    hall.note(actions);
    hall.pass(0);
    assert_eq!(hall.ends.len(), CALLS_OF_A_PEER_MAX + 1);
}
