//! The life of a call, one step after the other.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Hall, PEERS, done, order, waiter};
use crate::peers::calls::ending::GATHERED_BYTES_MAX;
use crate::peers::calls::hall::AT_ONCE;
use crate::peers::calls::terms::CALLS_OF_A_PEER_MAX;
use crate::peers::calls::{Answer, Caller, Fetched, Order, Part, Refused, parts};
use crate::peers::directory::{Kind, Peer, Secret};

#[test]
fn a_call_is_taken_answered_and_forgotten() {
    let mut hall = Hall::default();
    hall.arrive("a", 0, 0);
    let id = hall.make(order(), Caller::Waiter(waiter())).unwrap();
    assert_eq!(hall.take("a", 9), [Arc::clone(&id)]);
    assert_eq!(hall.answer("b", &id, done()), Err(Refused::NoCall));
    hall.answer("a", &id, done()).unwrap();
    assert_eq!(hall.answer("a", &id, done()), Err(Refused::NoCall));
    assert_eq!(hall.code(&id), "OK");
    assert!(hall.calls.calls.is_empty() && hall.calls.deadlines.is_empty());
}

#[test]
fn higher_priorities_go_first_and_concurrency_holds_the_rest_back() {
    let mut hall = Hall::default();
    hall.arrive("a", 2, 0);
    let low = hall.make(Order { priority: -5, ..order() }, Caller::Waiter(waiter())).unwrap();
    let one = hall.make(order(), Caller::Waiter(waiter())).unwrap();
    let high = hall.make(Order { priority: 7, ..order() }, Caller::Waiter(waiter())).unwrap();
    assert_eq!(hall.take("a", 9), [Arc::clone(&high), one]);
    assert!(hall.take("a", 9).is_empty());
    hall.answer("a", &high, done()).unwrap();
    assert_eq!(hall.take("a", 9), [low]);
}

#[test]
fn a_running_call_moves_as_often_as_it_may_and_then_says_who_left() {
    let mut hall = Hall::default();
    ["a", "b", "c"].iter().for_each(|id| hall.arrive(id, 0, 0));
    let id = hall.make(order(), Caller::Waiter(waiter())).unwrap();
    for expected in [None, Some("GONE")] {
        let holder = PEERS.iter().copied().find(|peer| hall.take(peer, 1) == [Arc::clone(&id)]).unwrap();
        hall.die(holder);
        assert_eq!(hall.ends.get(&id).map(|_| hall.code(&id)), expected);
    }
}

#[test]
fn a_queued_call_moves_without_end_and_fails_when_nobody_is_left() {
    let mut hall = Hall::default();
    ["a", "b", "c"].iter().for_each(|id| hall.arrive(id, 0, 0));
    let id = hall.make(Order { retries: 0, ..order() }, Caller::Waiter(waiter())).unwrap();
    hall.die("a");
    hall.die("b");
    assert!(hall.ends.is_empty());
    hall.die("c");
    assert_eq!(hall.outcome(&id).as_ref().unwrap_err().to_string(), "NOPEER no live peer handles \"f\"");
}

#[test]
fn a_failed_call_is_tried_again_as_often_as_its_capability_says() {
    let mut hall = Hall::default();
    hall.arrive("a", 0, 1);
    let id = hall.make(order(), Caller::Waiter(waiter())).unwrap();
    hall.take("a", 1);
    hall.answer("a", &id, Answer::Failed("first".into())).unwrap();
    assert!(hall.ends.is_empty());
    hall.take("a", 1);
    hall.answer("a", &id, Answer::Failed("second".into())).unwrap();
    assert_eq!(hall.outcome(&id).as_ref().unwrap_err().to_string(), "FAILED second");
}

#[test]
fn outcomes_are_kept_for_their_caller_until_the_deadline() {
    let mut hall = Hall::default();
    hall.arrive("a", 0, 0);
    let caller = || Caller::Peer("me".into(), Secret::of(b"mine"));
    let fetched = hall.make(order(), caller()).unwrap();
    let missed = hall.make(order(), caller()).unwrap();
    hall.take("a", 2);
    hall.answer("a", &fetched, done()).unwrap();
    hall.answer("a", &missed, done()).unwrap();
    assert!(hall.calls.secret_of("me") == Some(Secret::of(b"mine")));
    assert!(matches!(hall.calls.fetch(&fetched, "other"), Fetched::NoCall));
    assert!(matches!(hall.calls.fetch(&fetched, "me"), Fetched::Ended(Ok(_))));
    assert!(matches!(hall.calls.fetch(&fetched, "me"), Fetched::NoCall));
    hall.pass(1000);
    assert!(matches!(hall.calls.fetch(&missed, "me"), Fetched::NoCall));
    assert!(hall.calls.secret_of("me").is_none() && hall.calls.kept_bytes == 0 && hall.calls.kept_count == 0);
}

#[test]
fn answers_are_gathered_until_there_are_enough_or_the_time_is_over() {
    let mut hall = Hall::default();
    ["a", "b", "c"].iter().for_each(|id| hall.arrive(id, 0, 0));
    let gathering = |count| Order { gather: Some(count), ..order() };
    let two = hall.make(gathering(2), Caller::Waiter(waiter())).unwrap();
    while hall.go_on() {}
    for peer in ["a", "b"] {
        let part = hall.take(peer, 1).pop().unwrap();
        hall.answer(peer, &part, done()).unwrap();
    }
    let text = String::from_utf8(hall.outcome(&two).as_ref().unwrap().to_vec()).unwrap();
    assert_eq!(text.matches(r#""ok":true"#).count(), 2);
    assert!(hall.take("c", 1).is_empty(), "the third is not asked any more");
    let all = hall.make(gathering(0), Caller::Waiter(waiter())).unwrap();
    while hall.go_on() {}
    let part = hall.take("a", 1).pop().unwrap();
    hall.answer("a", &part, done()).unwrap();
    hall.die("b");
    hall.pass(1000);
    let text = String::from_utf8(hall.outcome(&all).as_ref().unwrap().to_vec()).unwrap();
    assert_eq!((text.matches(r#""ok":true"#).count(), text.matches("GONE").count(), text.matches("TIMEOUT").count()), (1, 1, 1));
    assert!(hall.calls.calls.is_empty());
}

#[test]
fn many_peers_are_asked_some_at_a_time_and_others_come_in_between() {
    let mut hall = Hall::default();
    let peers: Vec<String> = (0..2 * AT_ONCE + 1).map(|number| format!("p{number}")).collect();
    peers.iter().for_each(|id| hall.arrive(id, 0, 0));
    let id = hall.make(Order { gather: Some(0), ..order() }, Caller::Waiter(waiter())).unwrap();
    let asked = |hall: &Hall| peers.iter().filter(|peer| hall.calls.load(peer).total() > 0).count();
    assert_eq!(asked(&hall), AT_ONCE);
    // Those who have been asked may all have answered by now, and who comes later is not meant.
    for peer in &peers[..AT_ONCE] {
        let part = hall.take(peer, 1).remove(0);
        hall.answer(peer, &part, done()).unwrap();
    }
    hall.arrive("late", 0, 0);
    while hall.go_on() {}
    assert_eq!((asked(&hall), hall.calls.load("late").total()), (AT_ONCE + 1, 0));
    // Its time is over: some are ended at a time, too.
    hall.now += 1000;
    let actions = hall.calls.end_overdue(&mut hall.directory, hall.now);
    assert!(hall.ends.is_empty() && asked(&hall) == 1, "a slice of them");
    hall.note(actions);
    hall.pass(0);
    let text = String::from_utf8(hall.outcome(&id).as_ref().unwrap().to_vec()).unwrap();
    assert_eq!((text.matches(r#""ok":true"#).count(), text.matches("TIMEOUT").count()), (AT_ONCE, AT_ONCE + 1));
    assert!(hall.calls.calls.is_empty() && hall.calls.bytes == 0);
}

#[test]
fn a_peer_takes_only_so_many_calls() {
    let mut hall = Hall::default();
    hall.arrive("a", 0, 0);
    for _ in 0..CALLS_OF_A_PEER_MAX {
        hall.make(order(), Caller::Waiter(waiter())).unwrap();
    }
    let kind = Kind::New { secret: Secret::of(b"s"), clients: SmallVec::new() };
    hall.register(Peer::read("a", r#"{"name":"Ann","capabilities":[{"name":"f"}]}"#, 0, kind));
    for order in [order(), Order { to: Some("a".into()), ..order() }] {
        let failure = hall.make(order, Caller::Waiter(waiter())).unwrap_err().to_string();
        assert_eq!(failure, "BUSY peer \"Ann\" has 10000 calls to answer already: try again later");
    }
}

#[test]
fn a_call_of_which_a_piece_was_seen_is_not_begun_anew() {
    let mut hall = Hall::default();
    hall.arrive("a", 0, 1);
    let ids = [(); 2].map(|()| hall.make(order(), Caller::Peer("c".into(), Secret::of(b"s"))).unwrap());
    hall.take("a", 2);
    for id in &ids {
        hall.answer("a", id, Answer::Chunk(b"1"[..].into())).unwrap();
    }
    hall.answer("a", &ids[0], Answer::Failed("broke".into())).unwrap();
    assert_eq!(hall.outcome(&ids[0]).as_ref().unwrap_err().to_string(), "FAILED broke");
    hall.arrive("b", 0, 1);
    hall.die("a");
    assert_eq!(hall.code(&ids[1]), "GONE");
}

#[test]
fn answers_that_are_too_much_to_gather_are_left_out_and_say_so() {
    let mut hall = Hall::default();
    ["a", "b", "c"].iter().for_each(|id| hall.arrive(id, 0, 0));
    let id = hall.make(Order { gather: Some(0), ..order() }, Caller::Waiter(waiter())).unwrap();
    while hall.go_on() {}
    let large: Arc<[u8]> = vec![b'1'; GATHERED_BYTES_MAX / 2 + 1].into();
    for peer in ["a", "b", "c"] {
        let part = hall.take(peer, 1).remove(0);
        hall.answer(peer, &part, Answer::Done(Arc::clone(&large))).unwrap();
    }
    let text = String::from_utf8(hall.outcome(&id).as_ref().unwrap().to_vec()).unwrap();
    assert!(text.len() < GATHERED_BYTES_MAX && text.matches("TOOBIG").count() == 2, "{} bytes", text.len());
    assert_eq!(hall.calls.bytes, 0, "nothing is counted for ever");
}

#[test]
fn pieces_wait_for_a_slow_caller_up_to_a_bound_in_bytes() {
    let (parts, mut taken) = parts();
    let piece: Arc<[u8]> = vec![b'1'; 3 << 20].into();
    assert!(parts.send_piece(Arc::clone(&piece), 1));
    assert!(!parts.send_piece(Arc::clone(&piece), 2), "the caller reads slower than they come");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(matches!(runtime.block_on(taken.next()), Some(Part::Chunk(_, 1))));
    assert!(parts.send_piece(piece, 2));
    parts.end(Ok(b"1"[..].into()));
}

#[test]
fn calls_are_counted_as_they_come_and_go() {
    let mut hall = Hall::default();
    ["a", "b"].iter().for_each(|id| hall.arrive(id, 0, 0));
    let ids: Vec<_> = (0..8).map(|_| hall.make(order(), Caller::Waiter(waiter())).unwrap()).collect();
    let taken = hall.take("a", 3);
    assert_eq!((hall.calls.total().queued, hall.calls.total().running), (5, 3));
    hall.answer("a", &taken[0], done()).unwrap();
    hall.die("a");
    let total = hall.calls.total();
    assert_eq!((total.total(), total.running), (hall.calls.load("b").total(), 0));
    ids.iter().for_each(|id| drop(hall.calls.cancel(id, None)));
    assert_eq!(hall.calls.total().total(), 0);
}
