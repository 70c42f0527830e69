//! The old protocol, spoken to the byte with plain commands: among old peers, and with new ones in the same workspace.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::peers::client::{Client, Old, text, texts};
use crate::process::{Process, until};

#[test]
fn three_old_peers_find_call_and_tell_each_other_as_on_any_server() {
    let server = Process::flux(&[]);
    let mut ada = Old::start(&server, "ada", &[]);
    let mut bob = Old::start(&server, "bob", &["sum"]);
    let mut cyd = Old::start(&server, "cyd", &[]);
    ada.join("lab");
    bob.join("lab");
    let mut there = cyd.join("lab");
    there.sort();
    assert_eq!(there, ["ada", "bob", "cyd"]);
    assert_eq!(ada.heard_kind("peer:joined")["peerId"], "bob");
    assert_eq!(ada.call("job-1", "sum", json!([1, 2])), "bob");
    let job = bob.take();
    assert_eq!(job, json!({ "id": "job-1", "fn": "sum", "payload": [1, 2], "sourceHost": "ada" }));
    bob.answer(&job, json!(3));
    assert_eq!(ada.result(), json!({ "jobId": "job-1", "ok": true, "data": 3 }));
    // Nobody but its two listeners gets a message.
    assert_eq!(cyd.commands.text(&["PUBLISH", "flux:ws:lab:events", "{}"]), "3");
    assert_eq!(cyd.commands.text(&["PUBSUB", "NUMPAT"]), "0");
}

#[test]
fn a_new_peer_answers_old_ones_and_calls_them() {
    let server = Process::flux(&[]);
    let mut new = Client::peer(&server, "new", json!([{ "name": "sum" }]), &["lab"]);
    let mut old = Old::start(&server, "old", &["product"]);
    assert_eq!(
        {
            let mut there = old.join("lab");
            there.sort();
            there
        },
        ["new", "old"]
    );
    assert_eq!(texts(&new.ok(&["FLUX.PEERS", "WORKSPACE", "lab"])).len(), 2);
    // The old one calls the new one.
    assert_eq!(old.call("job-1", "sum", json!([1, 2])), "new");
    let job = new.serve("3");
    assert_eq!(job[1..4], ["sum", "[1,2]", "old"]);
    assert_eq!(old.result(), json!({ "jobId": "job-1", "ok": true, "data": 3 }));
    // And the new one the old one, both ways of calling.
    new.send(&["FLUX.CALL", "product", "[2,3]"]);
    let job = old.take();
    assert_eq!((&job["fn"], &job["payload"], job.get("attempt")), (&json!("product"), &json!([2, 3]), None));
    old.answer(&job, json!(6));
    assert_eq!(text(&new.read()), "6");
    // A note about another try is no result.
    new.send(&["FLUX.CALL", "product", "[2,3]"]);
    let job = old.take();
    let note = json!({ "jobId": job["id"], "ok": false, "error": "retry 1/3: it broke" });
    let channel = format!("flux:res:{}", job["sourceHost"].as_str().unwrap());
    old.commands.ok(&["PUBLISH", &channel, &note.to_string()]);
    let failed = json!({ "jobId": job["id"], "ok": false, "error": "it broke" });
    old.commands.ok(&["PUBLISH", &channel, &failed.to_string()]);
    assert_eq!(crate::peers::client::error(&new.read()), "FAILED it broke");
}

#[test]
fn an_old_peer_that_crashes_is_told_and_cleaned_up_within_a_second_of_its_expiry() {
    let server = Process::flux(&[]);
    let mut ada = Old::start(&server, "ada", &[]);
    let mut ear = Client::new(&server);
    let mut bob = Old::start(&server, "bob", &["sum"]);
    ada.join("lab");
    bob.join("lab");
    ear.listen(&["flux:ws:lab:events"]);
    bob.register(1);
    let expires = Instant::now() + Duration::from_secs(1);
    bob.crash();
    let event = ear.heard();
    assert_eq!(event, json!({ "type": "peer:left", "workspace": "lab", "peerId": "bob", "peerName": "bob", "left": "expired" }));
    assert!(Instant::now() < expires + Duration::from_secs(1));
    assert_eq!(ada.heard_kind("peer:left")["peerId"], "bob");
    for set in ["flux:peers", "flux:fn:sum", "flux:ws:lab:peers"] {
        assert_eq!(ada.commands.text(&["SISMEMBER", set, "bob"]), "0", "{set}");
    }
    assert_eq!(ada.commands.text(&["EXISTS", "flux:peer:bob:ws", "flux:q:bob"]), "0");
}

#[test]
fn jobs_queued_and_running_at_an_old_peer_that_crashes_go_to_others() {
    let server = Process::flux(&[]);
    let mut caller = Old::start(&server, "caller", &[]);
    let mut dies = Old::start(&server, "dies", &["sum"]);
    caller.call("running", "sum", json!(1));
    caller.call("queued", "sum", json!(2));
    assert_eq!(dies.take()["id"], "running");
    let mut new = Client::peer(&server, "new", json!([{ "name": "sum" }]), &[]);
    let mut asks = Client::peer(&server, "asks", json!([]), &[]);
    asks.send(&["FLUX.CALL", "sum", "3", "TO", "dies"]);
    until("the job is on the list", || caller.commands.text(&["LLEN", "flux:q:dies"]) == "2");
    caller.commands.ok(&["DEL", "flux:peer:dies"]);
    assert!(crate::peers::client::error(&asks.read()).starts_with("GONE "), "it was meant for that peer alone");
    let mut told = Vec::new();
    for _ in 0..2 {
        let job = new.serve("\"done\"");
        told.push((job[2].clone(), job[4].clone()));
        caller.result();
    }
    told.sort();
    assert_eq!(told, [("1".to_owned(), "2".to_owned()), ("2".to_owned(), "1".to_owned())], "payloads and tries");
    drop(dies);
}

#[test]
fn a_job_whose_peer_crashes_with_nobody_else_there_fails_at_once() {
    let server = Process::flux(&[]);
    let mut caller = Old::start(&server, "caller", &[]);
    let mut dies = Old::start(&server, "dies", &["sum"]);
    caller.call("job-1", "sum", json!(1));
    dies.take();
    caller.commands.ok(&["DEL", "flux:peer:dies"]);
    assert_eq!(caller.result(), json!({ "jobId": "job-1", "ok": false, "error": "no live peer handles \"sum\"" }));
    let mut new = Client::peer(&server, "new", json!([]), &[]);
    let mut other = Old::start(&server, "other", &["sum"]);
    new.send(&["FLUX.CALL", "sum", "1"]);
    other.take();
    caller.commands.ok(&["DEL", "flux:peer:other"]);
    assert_eq!(crate::peers::client::error(&new.read()), "GONE peer \"other\" left while it ran the call");
}

#[test]
fn an_old_job_for_a_new_peer_that_drops_goes_to_an_old_one() {
    let server = Process::flux(&[]);
    let mut caller = Old::start(&server, "caller", &[]);
    let mut dies = Client::peer(&server, "dies", json!([{ "name": "sum" }]), &[]);
    caller.call("job-1", "sum", json!([4]));
    dies.next(&[]);
    let mut old = Old::start(&server, "old", &["sum"]);
    drop(dies);
    let job = old.take();
    assert_eq!((&job["payload"], &job["attempt"]), (&json!([4]), &json!(1)));
    old.answer(&job, json!("done"));
    assert_eq!(caller.result(), json!({ "jobId": "job-1", "ok": true, "data": "done" }));
}
