//! Someone sets the clock while peers are there: calls and peers last as long as they would have.

use serde_json::json;

use crate::peers::client::{Client, error, text};
use crate::process::{Process, Reply, until};

const HOUR_MS: i64 = 3_600_000;

fn server() -> Process {
    Process::flux(&["--enable-debug-command", "yes"])
}

fn count(client: &mut Client, words: &[&str]) -> i64 {
    match client.ok(words) {
        Reply::Line(line) if line.starts_with(':') => line[1..].parse().unwrap(),
        other => panic!("{words:?} answered {other:?}"),
    }
}

fn shift(client: &mut Client, ms: i64) {
    client.ok(&["DEBUG", "SHIFT-CLOCK", &ms.to_string()]);
}

#[test]
fn waits_end_in_time_though_the_clock_is_set_back() {
    let server = server();
    let (mut peer, mut caller) = (Client::peer(&server, "p", json!([{ "name": "f" }]), &[]), Client::new(&server));
    let mut other = Client::new(&server);
    caller.send(&["FLUX.CALL", "f", "1", "TIMEOUT", "300"]);
    until("the call is there", || other.text(&["FLUX.STATUS"]).contains("\"callsQueued\":1"));
    shift(&mut other, -HOUR_MS);
    assert_eq!(error(&caller.read()), "TIMEOUT timeout after 300 ms");
    caller.send(&["FLUX.CALL", "f", "1", "TIMEOUT", "300"]);
    shift(&mut other, -2 * HOUR_MS);
    assert_eq!(error(&caller.read()), "TIMEOUT timeout after 300 ms");
    peer.send(&["FLUX.NEXT", "TIMEOUT", "300"]);
    shift(&mut other, -3 * HOUR_MS);
    assert!(matches!(peer.read(), Reply::Line(line) if line == "*-1"));
}

#[test]
fn a_peer_that_is_silent_is_gone_in_time_though_the_clock_is_set_back() {
    let server = server();
    let (mut peer, mut other) = (Client::new(&server), Client::new(&server));
    peer.ok(&["FLUX.REGISTER", r#"{"id":"p","name":"p"}"#, "TTL", "1000"]);
    shift(&mut other, -HOUR_MS);
    until("it is gone", || other.text(&["FLUX.STATUS"]).contains("\"peers\":0"));
}

#[test]
fn calls_and_peers_outlive_a_clock_that_is_set_forward() {
    let server = server();
    let mut peer = Client::peer(&server, "p", json!([{ "name": "f" }]), &[]);
    let (mut caller, mut other) = (Client::new(&server), Client::new(&server));
    caller.send(&["FLUX.CALL", "f", "1"]);
    until("the call is there", || other.text(&["FLUX.STATUS"]).contains("\"callsQueued\":1"));
    shift(&mut other, HOUR_MS);
    // All the ways to come upon a key that has expired.
    assert_eq!(count(&mut other, &["EXISTS", "flux:peer:p"]), 0);
    peer.ok(&["FLUX.HEARTBEAT"]);
    assert_eq!(count(&mut other, &["EXISTS", "flux:peer:p", "flux:peer:p:auth"]), 2, "the keys are set anew");
    shift(&mut other, 2 * HOUR_MS);
    peer.ok(&["FLUX.JOIN", "w"]);
    shift(&mut other, 3 * HOUR_MS);
    until("the sweep came upon them", || count(&mut other, &["EXISTS", "flux:peer:p", "flux:peer:p:auth"]) == 2);
    peer.ok(&["FLUX.HEARTBEAT"]);
    let job = peer.next(&[]).remove(0);
    peer.ok(&["FLUX.REPLY", &job[0], "OK", "2"]);
    assert_eq!(text(&caller.read()), "2");
    assert!(other.text(&["FLUX.STATUS"]).contains("\"peers\":1"));
}

#[test]
fn a_peer_whose_key_is_removed_is_gone_whatever_the_clock_says() {
    let server = server();
    let mut peer = Client::peer(&server, "p", json!([]), &[]);
    let mut other = Client::new(&server);
    shift(&mut other, HOUR_MS);
    peer.ok(&["FLUX.HEARTBEAT"]);
    until("its key is back", || count(&mut other, &["EXISTS", "flux:peer:p"]) == 1);
    count(&mut other, &["DEL", "flux:peer:p"]);
    until("it is gone", || other.text(&["FLUX.STATUS"]).contains("\"peers\":0"));
}
