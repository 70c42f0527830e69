//! Calls whose peer lives on, but not the connection they were given over, and calls of capabilities that a peer gives up.

use serde_json::{Value, json};

use crate::peers::client::{Client, error, jobs, text};
use crate::process::{Process, Reply, until};

fn work() -> Value {
    json!([{ "name": "work" }])
}

/// Registers a client as the peer `worker`, with what it says of its calls.
fn attach(client: &mut Client, running: &[&str]) {
    let peer = json!({ "id": "worker", "name": "worker", "capabilities": work() }).to_string();
    let words = ["FLUX.REGISTER", &peer, "SECRET", "worker", "TTL", "60000"];
    client.ok(&words.iter().chain(running).copied().collect::<Vec<_>>());
}

#[test]
fn a_call_given_over_a_connection_that_is_lost_is_given_again() {
    let server = Process::flux(&[]);
    let (mut lost, mut kept) = (Client::peer(&server, "worker", work(), &[]), Client::new(&server));
    attach(&mut kept, &[]);
    let (mut client, mut other) = (Client::new(&server), Client::new(&server));
    lost.send(&["FLUX.NEXT", "COUNT", "2"]);
    client.send(&["FLUX.CALL", "work", "1"]);
    let given = jobs(&lost.read()).remove(0);
    assert_eq!(given[4], "1");
    lost.send(&["FLUX.NEXT"]);
    other.send(&["FLUX.CALL", "work", "2", "RETRIES", "0"]);
    lost.read();
    drop(lost);
    let again = kept.next(&[]).remove(0);
    assert_eq!((&again[0], again[4].as_str()), (&given[0], "2"), "it is the same call, tried once more");
    kept.ok(&["FLUX.REPLY", &again[0], "OK", "\"done\""]);
    assert_eq!(text(&client.read()), "\"done\"");
    assert_eq!(error(&other.read()), r#"GONE peer "worker" lost the connection over which it took the call"#);
}

#[test]
fn a_peer_that_comes_back_over_another_connection_keeps_the_calls_it_names_and_is_given_the_others_again() {
    let server = Process::flux(&[]);
    let (mut dead, mut back) = (Client::peer(&server, "worker", work(), &[]), Client::new(&server));
    let mut client = Client::peer(&server, "caller", json!([]), &[]);
    for id in ["held", "unread"] {
        client.ok(&["FLUX.CALL", "work", "1", "ASYNC", "ID", id]);
        dead.next(&[]);
    }
    // Nobody knows yet that this connection is dead.
    dead.send(&["FLUX.NEXT"]);
    until("it waits", || back.text(&["INFO", "clients"]).contains("blocked_clients:1"));
    attach(&mut back, &["RUNNING", "1", "held"]);
    let again = back.next(&["COUNT", "9"]);
    assert_eq!(again.len(), 1);
    assert_eq!((again[0][0].as_str(), again[0][4].as_str()), ("unread", "2"));
    drop(dead);
    back.ok(&["FLUX.REPLY", "held", "OK", "1"]);
    back.ok(&["FLUX.REPLY", "unread", "OK", "2"]);
    client.ok(&["FLUX.CALL", "work", "1", "ASYNC", "ID", "next"]);
    assert_eq!(back.next(&[])[0][0], "next");
}

#[test]
fn work_goes_to_the_connection_a_peer_came_back_over_and_not_to_the_one_that_waited_before() {
    let server = Process::flux(&[]);
    let (mut dead, mut back) = (Client::peer(&server, "worker", work(), &[]), Client::new(&server));
    dead.send(&["FLUX.NEXT"]);
    until("it waits", || back.text(&["INFO", "clients"]).contains("blocked_clients:1"));
    attach(&mut back, &["RUNNING", "0"]);
    assert_eq!(dead.read(), Reply::Line("*-1".into()), "its wait ends as if its time were over");
    let mut client = Client::new(&server);
    client.send(&["FLUX.CALL", "work", "1"]);
    back.serve("1");
    assert_eq!(text(&client.read()), "1");
    for wrong in [&["RUNNING"][..], &["RUNNING", "-1"], &["RUNNING", "2", "one"], &["RUNNING", "9223372036854775807"]] {
        let words: Vec<&str> = ["FLUX.REGISTER", r#"{"id":"worker"}"#].iter().chain(wrong).copied().collect();
        assert!(back.error(&words).starts_with("ERR "), "{wrong:?}");
    }
}

#[test]
fn calls_that_wait_for_a_capability_its_peer_gives_up_go_to_others_or_fail_at_once() {
    let server = Process::flux(&[]);
    let (mut first, mut client) = (Client::peer(&server, "worker", work(), &[]), Client::new(&server));
    client.send(&["FLUX.CALL", "work", "1"]);
    let mut second = Client::peer(&server, "second", work(), &[]);
    let give_up = ["FLUX.REGISTER", r#"{"id":"worker","capabilities":[{"name":"other"}]}"#, "SECRET", "worker"];
    let is_queued = |asks: &mut Client| until("it is queued", || asks.text(&["FLUX.STATUS"]).contains(r#""callsQueued":1"#));
    is_queued(&mut first);
    first.ok(&give_up);
    second.serve("\"moved\"");
    assert_eq!(text(&client.read()), "\"moved\"");
    client.send(&["FLUX.CALL", "work", "2"]);
    is_queued(&mut second);
    second.ok(&["FLUX.REGISTER", r#"{"id":"second"}"#, "SECRET", "second"]);
    assert_eq!(error(&client.read()), r#"NOPEER no live peer handles "work""#);
}

#[test]
fn a_wait_for_work_ends_when_its_peer_leaves_in_the_same_moment() {
    let server = Process::flux(&[]);
    let (mut waits, mut leaves) = (Client::new(&server), Client::new(&server));
    for _ in 0..300 {
        attach(&mut waits, &[]);
        attach(&mut leaves, &[]);
        leaves.send(&["FLUX.LEAVE"]);
        waits.send(&["FLUX.NEXT"]);
        leaves.read();
        assert!(error(&waits.read()).starts_with("NOPEER"));
        // One who comes back in the same moment finds its place.
        attach(&mut leaves, &[]);
        attach(&mut waits, &[]);
        leaves.send(&["FLUX.LEAVE"]);
        attach(&mut waits, &[]);
        leaves.read();
        waits.send(&["FLUX.NEXT", "TIMEOUT", "1"]);
        waits.read();
    }
}
