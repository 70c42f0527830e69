//! Calls between new peers.

use flux::Flux;
use flux::peers::directory::SLICE;
use flux::store::Blocking;
use serde_json::{Value, json};

use crate::peers::client::{Client, error, jobs, text};
use crate::process::{Process, Reply, until};

fn echo() -> Value {
    json!([{ "name": "echo" }])
}

fn caller(server: &Process) -> Client {
    Client::peer(server, "caller", json!([]), &[])
}

#[test]
fn a_call_reaches_a_peer_that_waits_and_its_result_the_caller() {
    let server = Process::flux(&[]);
    let (mut worker, mut caller) = (Client::peer(&server, "worker", echo(), &[]), caller(&server));
    worker.send(&["FLUX.NEXT"]);
    caller.send(&["FLUX.CALL", "echo", r#"{"text":"hello"}"#, "TIMEOUT", "5000"]);
    let job = jobs(&worker.read()).remove(0);
    assert_eq!(job[1..], ["echo", r#"{"text":"hello"}"#, "caller", "1"]);
    worker.ok(&["FLUX.REPLY", &job[0], "OK", r#"{"said":"hello"}"#]);
    assert_eq!(text(&caller.read()), r#"{"said":"hello"}"#);
    assert!(worker.error(&["FLUX.REPLY", &job[0], "OK", "1"]).starts_with("NOCALL "));
}

#[test]
fn a_client_that_is_no_peer_may_call() {
    let server = Process::flux(&[]);
    let (mut worker, mut client) = (Client::peer(&server, "worker", echo(), &[]), Client::new(&server));
    client.send(&["FLUX.CALL", "echo", "1"]);
    let job = worker.next(&[]).remove(0);
    assert_eq!(job[3], "$-1", "nobody is named as the caller");
    worker.ok(&["FLUX.REPLY", &job[0], "OK", "2"]);
    assert_eq!(text(&client.read()), "2");
    assert!(client.error(&["FLUX.NEXT"]).starts_with("NOPEER this connection is not a registered peer"));
    assert!(client.error(&["FLUX.CALL", "echo", "1", "ASYNC"]).starts_with("NOPEER "));
}

#[test]
fn errors_say_what_is_wrong() {
    let server = Process::flux(&["--peer-payload-limit", "1kb"]);
    let (mut worker, mut client) = (Client::peer(&server, "worker", echo(), &[]), caller(&server));
    assert_eq!(client.error(&["FLUX.CALL", "none", "1"]), r#"NOPEER no peer handles "none""#);
    assert_eq!(client.error(&["FLUX.CALL", "echo", "1", "TIMEOUT", "30"]), "TIMEOUT timeout after 30 ms");
    assert!(client.error(&["FLUX.CALL", "echo", "{"]).starts_with("INVALID payload is not JSON"));
    let long = format!("\"{}\"", "x".repeat(1100));
    assert_eq!(
        client.error(&["FLUX.CALL", "echo", &long]),
        "TOOBIG payload is 1102 bytes, the limit is 1024 (peer-payload-limit)"
    );
    assert!(client.error(&["FLUX.CALL", "a:b", "1"]).starts_with("ERR invalid capability name"));
    assert!(client.error(&["FLUX.CALL", "echo", "1", "TO", "nobody"]).starts_with("NOPEER no live peer \"nobody\""));
    client.send(&["FLUX.CALL", "echo", "1"]);
    let job = worker.next(&[]).remove(0);
    worker.ok(&["FLUX.REPLY", &job[0], "ERROR", "it broke"]);
    assert_eq!(error(&client.read()), "FAILED it broke");
    for options in [&["TIMEOUT", "0"][..], &["PRIORITY", "101"], &["RETRIES", "-1"], &["ROUTE", "north"], &["NOWHERE"]] {
        let words: Vec<&str> = ["FLUX.CALL", "echo", "1"].iter().chain(options).copied().collect();
        assert!(client.error(&words).starts_with("ERR "), "{options:?}");
    }
    let mistyped = client.error(&["FLUX.CALL", "echo", "1", "TIMOUT", "5"]);
    assert_eq!(mistyped, "ERR syntax error: there is no option 'TIMOUT'");
    assert_eq!(client.error(&["FLUX.CALL", "echo", "1", "TO"]), "ERR syntax error: nothing stands behind 'TO'");
}

#[test]
fn a_peer_answers_only_its_own_calls() {
    let server = Process::flux(&[]);
    let (mut worker, mut client) = (Client::peer(&server, "worker", echo(), &[]), caller(&server));
    let mut impostor = Client::peer(&server, "impostor", json!([{ "name": "other" }]), &[]);
    client.send(&["FLUX.CALL", "echo", "1"]);
    let job = worker.next(&[]).remove(0);
    assert!(impostor.error(&["FLUX.REPLY", &job[0], "OK", "\"evil\""]).starts_with("NOCALL "));
    assert_eq!(impostor.text(&["FLUX.CANCEL", &job[0]]), "0");
    worker.ok(&["FLUX.REPLY", &job[0], "OK", "\"good\""]);
    assert_eq!(text(&client.read()), "\"good\"");
}

#[test]
fn a_call_without_waiting_is_told_in_pieces_and_fetched_once() {
    let server = Process::flux(&[]);
    let (mut worker, mut client) = (Client::peer(&server, "worker", echo(), &[]), caller(&server));
    let mut ear = Client::new(&server);
    ear.listen(&["flux:res:caller"]);
    let id = client.text(&["FLUX.CALL", "echo", "1", "ASYNC", "ID", "my-call"]);
    assert_eq!(id, "my-call");
    assert_eq!(client.ok(&["FLUX.RESULT", &id]), Reply::Line("$-1".into()));
    let job = worker.next(&[]).remove(0);
    worker.ok(&["FLUX.REPLY", &job[0], "CHUNK", "\"a\""]);
    worker.ok(&["FLUX.REPLY", &job[0], "CHUNK", "\"b\""]);
    worker.ok(&["FLUX.REPLY", &job[0], "OK", "[1]"]);
    assert_eq!(ear.heard(), json!({ "jobId": id, "chunk": "a", "seq": 1 }));
    assert_eq!(ear.heard(), json!({ "jobId": id, "chunk": "b", "seq": 2 }));
    assert_eq!(ear.heard(), json!({ "jobId": id, "ok": true, "data": [1] }));
    assert!(worker.error(&["FLUX.RESULT", &id]).starts_with("NOCALL "), "it is another's");
    assert_eq!(client.text(&["FLUX.RESULT", &id]), r#"{"jobId":"my-call","ok":true,"data":[1]}"#);
    assert!(client.error(&["FLUX.RESULT", &id]).starts_with("NOCALL "));
}

#[test]
fn a_cancelled_call_ends_at_the_caller_and_is_told_to_the_callee() {
    let server = Process::flux(&[]);
    let (mut worker, mut client) = (Client::peer(&server, "worker", echo(), &[]), caller(&server));
    let mut ear = Client::new(&server);
    ear.listen(&["flux:cancel:worker"]);
    let id = client.text(&["FLUX.CALL", "echo", "1", "ASYNC"]);
    worker.next(&[]);
    assert_eq!(client.text(&["FLUX.CANCEL", &id]), "1");
    assert_eq!(client.text(&["FLUX.CANCEL", &id]), "0");
    assert_eq!(ear.heard(), json!(id));
    assert!(client.text(&["FLUX.RESULT", &id]).contains(r#""code":"CANCELLED""#));
    assert!(worker.error(&["FLUX.REPLY", &id, "OK", "1"]).starts_with("NOCALL "));
}

#[test]
fn a_call_whose_time_is_over_is_told_to_the_callee_as_such() {
    let server = Process::flux(&[]);
    let (mut worker, mut client) = (Client::peer(&server, "worker", echo(), &[]), caller(&server));
    let mut ear = Client::new(&server);
    ear.listen(&["flux:cancel:worker"]);
    client.send(&["FLUX.CALL", "echo", "1", "TIMEOUT", "500"]);
    let job = worker.next(&[]).remove(0);
    assert_eq!(error(&client.read()), "TIMEOUT timeout after 500 ms");
    assert_eq!(ear.heard(), json!(format!("{} TIMEOUT", job[0])));
}

#[test]
fn a_caller_that_goes_away_cancels_its_call() {
    let server = Process::flux(&[]);
    let mut worker = Client::peer(&server, "worker", echo(), &[]);
    let mut ear = Client::new(&server);
    ear.listen(&["flux:cancel:worker"]);
    let mut client = Client::new(&server);
    client.send(&["FLUX.CALL", "echo", "1"]);
    let job = worker.next(&[]).remove(0);
    drop(client);
    assert_eq!(ear.heard(), json!(job[0]));
}

#[test]
fn a_peer_that_drops_while_it_runs_a_call_is_replaced_by_another() {
    let server = Process::flux(&[]);
    let (mut first, mut second) = (Client::peer(&server, "first", echo(), &[]), Client::peer(&server, "second", echo(), &[]));
    let mut client = caller(&server);
    client.send(&["FLUX.CALL", "echo", "1", "TO", "first"]);
    first.next(&[]);
    drop(first);
    assert_eq!(error(&client.read()), r#"GONE peer "first" left while it ran the call"#);
    let mut third = Client::peer(&server, "third", echo(), &[]);
    client.send(&["FLUX.CALL", "echo", "2", "ROUTE", "ROUND-ROBIN"]);
    // Whoever gets it first drops it; the other is given it again.
    second.send(&["FLUX.NEXT", "TIMEOUT", "500"]);
    third.send(&["FLUX.NEXT", "TIMEOUT", "500"]);
    let (got, waits) = (second.read(), third.read());
    let (holder, mut other) = if matches!(&got, Reply::Many(..)) { (second, third) } else { (third, second) };
    assert!(matches!(&got, Reply::Many(..)) != matches!(&waits, Reply::Many(..)), "one of them has it");
    drop(holder);
    let job = other.serve("\"done\"");
    assert_eq!(job[4], "2", "it is its second try");
    assert_eq!(text(&client.read()), "\"done\"");
}

#[test]
fn calls_queued_at_a_peer_that_drops_go_to_others_or_fail_at_once() {
    let server = Process::flux(&[]);
    let first = Client::peer(&server, "first", echo(), &[]);
    let mut client = caller(&server);
    client.send(&["FLUX.CALL", "echo", "1", "RETRIES", "0"]);
    let mut second = Client::peer(&server, "second", echo(), &[]);
    drop(first);
    second.serve("1");
    assert_eq!(text(&client.read()), "1");
    let mut ear = Client::new(&server);
    ear.listen(&["flux:res:caller"]);
    let id = client.text(&["FLUX.CALL", "echo", "1", "ASYNC"]);
    drop(second);
    assert_eq!(ear.heard(), json!({ "jobId": id, "ok": false, "error": "no live peer handles \"echo\"", "code": "NOPEER" }));
}

#[test]
fn answers_of_all_peers_are_gathered() {
    let server = Process::flux(&[]);
    let mut workers: Vec<Client> = (0..3).map(|number| Client::peer(&server, &format!("w{number}"), echo(), &[])).collect();
    let mut client = caller(&server);
    client.send(&["FLUX.CALL", "echo", "1", "GATHER", "0"]);
    for (number, worker) in workers.iter_mut().enumerate() {
        worker.serve(&number.to_string());
    }
    let answers: Value = serde_json::from_str(&text(&client.read())).unwrap();
    let expected: Vec<Value> = (0..3)
        .map(|number| json!({ "peerId": format!("w{number}"), "peerName": format!("w{number}"), "ok": true, "data": number }))
        .collect();
    assert_eq!(answers, Value::Array(expected));
}

/// More than are asked at once, and than are ended at once.
#[test]
fn answers_of_peers_that_are_many_are_gathered_and_those_that_nobody_waits_for_are_not_asked_any_more() {
    let flux = Flux::in_memory();
    let count = 2 * SLICE + 9;
    let mut peers: Vec<Blocking> = (0..count).map(|_| flux.blocking()).collect();
    for (number, peer) in peers.iter_mut().enumerate() {
        let json = json!({ "id": format!("p{number}"), "capabilities": echo() }).to_string();
        assert!(!peer.call(&[b"FLUX.REGISTER", json.as_bytes(), b"TTL", b"3600000"]).starts_with(b"-"));
    }
    let mut caller = flux.blocking();
    let late = String::from_utf8(caller.call(&[b"FLUX.CALL", b"echo", b"1", b"GATHER", b"0", b"TIMEOUT", b"1000"])).unwrap();
    assert_eq!(late.matches("\"code\":\"TIMEOUT\"").count(), count, "{late}");
    caller.call(&[b"FLUX.REGISTER", br#"{"id":"caller"}"#, b"TTL", b"3600000"]);
    caller.call(&[b"FLUX.CALL", b"echo", b"1", b"GATHER", b"1", b"ASYNC", b"ID", b"g"]);
    let mut status = || String::from_utf8(caller.call(&[b"FLUX.STATUS"])).unwrap();
    until("all to be asked", || status().contains(&format!("\"callsQueued\":{count},")));
    let job = String::from_utf8(peers[count - 1].call(&[b"FLUX.NEXT"])).unwrap();
    let id = job.lines().nth(3).unwrap();
    assert_eq!(peers[count - 1].call(&[b"FLUX.REPLY", id.as_bytes(), b"OK", b"2"]), b"+OK\r\n");
    until("the others to be let go", || status().contains("\"callsQueued\":0,\"callsRunning\":0,"));
    let answer = String::from_utf8(caller.call(&[b"FLUX.RESULT", b"g"])).unwrap();
    assert!(answer.contains(&format!("\"peerId\":\"p{}\"", count - 1)), "{answer}");
}

#[test]
fn a_peer_gets_no_more_calls_at_once_than_its_capability_allows() {
    let server = Process::flux(&[]);
    let mut worker = Client::peer(&server, "worker", json!([{ "name": "slow", "concurrency": 1 }, { "name": "quick" }]), &[]);
    let mut client = caller(&server);
    let ids: Vec<String> = ["slow", "slow", "quick"].iter().map(|name| client.text(&["FLUX.CALL", name, "1", "ASYNC"])).collect();
    let taken: Vec<String> = worker.next(&["COUNT", "9"]).into_iter().map(|job| job[0].clone()).collect();
    assert_eq!(taken, [ids[0].clone(), ids[2].clone()]);
    worker.ok(&["FLUX.REPLY", &ids[0], "OK", "1"]);
    assert_eq!(worker.next(&[])[0][0], ids[1]);
}

#[test]
fn a_wait_for_work_ends_with_its_time() {
    let server = Process::flux(&[]);
    let mut worker = Client::peer(&server, "worker", echo(), &[]);
    assert_eq!(worker.ok(&["FLUX.NEXT", "TIMEOUT", "20"]), Reply::Line("*-1".into()));
    let mut client = caller(&server);
    let id = client.text(&["FLUX.CALL", "echo", "1", "ASYNC"]);
    assert_eq!(worker.next(&["TIMEOUT", "5000"])[0][0], id);
}

#[test]
fn a_caller_that_waits_may_hear_the_pieces_on_a_channel_of_the_call() {
    let server = Process::flux(&[]);
    let (mut worker, mut client) = (Client::peer(&server, "worker", echo(), &[]), Client::new(&server));
    client.ok(&["HELLO", "3"]);
    client.ok(&["SUBSCRIBE", "flux:res:my-call"]);
    // Often, so that pieces and the result also come at the same moment.
    for _ in 0..300 {
        client.send(&["FLUX.CALL", "echo", "1", "ID", "my-call", "CHUNKS"]);
        worker.next(&[]);
        for words in [["CHUNK", "\"a\""], ["CHUNK", "\"b\""], ["OK", "2"]] {
            worker.send(&["FLUX.REPLY", "my-call", words[0], words[1]]);
        }
        assert_eq!(client.heard(), json!({ "jobId": "my-call", "chunk": "a", "seq": 1 }));
        assert_eq!(client.heard(), json!({ "jobId": "my-call", "chunk": "b", "seq": 2 }));
        assert_eq!(text(&client.read()), "2");
        (0..3).for_each(|_| assert_eq!(worker.read(), Reply::Line("+OK".into())));
    }
}

#[test]
fn results_are_whole_and_in_order_though_callers_send_ahead_and_read_late() {
    let server = Process::flux(&[]);
    let mut worker = Client::peer(&server, "worker", echo(), &[]);
    let mut callers: Vec<Client> = (0..4).map(|_| Client::new(&server)).collect();
    // More than a socket takes at once, so that a part of it has to wait for the reader.
    let large = format!("\"{}\"", "x".repeat(900_000));
    for round in 0..30 {
        worker.send(&["FLUX.NEXT"]);
        let caller = &mut callers[round % 4];
        let (data, calls) = if round % 3 == 0 { (&*large, 1) } else { (r#""small""#, 8) };
        for number in 0..calls {
            caller.send(&["FLUX.CALL", "echo", &number.to_string()]);
            caller.send(&["ECHO", &number.to_string()]);
        }
        for number in 0..calls {
            let job = jobs(&worker.read()).remove(0);
            assert_eq!(job[2], number.to_string());
            worker.send(&["FLUX.REPLY", &job[0], "OK", data]);
            worker.send(&["FLUX.NEXT", "TIMEOUT", if number + 1 == calls { "1" } else { "0" }]);
            assert_eq!(text(&worker.read()), "OK");
        }
        worker.read();
        for number in 0..calls {
            assert!(text(&caller.read()) == data, "round {round}, call {number}");
            assert_eq!(text(&caller.read()), number.to_string());
        }
    }
}

#[test]
fn a_client_that_was_answered_does_not_count_as_waiting() {
    let server = Process::flux(&[]);
    let (mut worker, mut other) = (Client::peer(&server, "worker", echo(), &[]), Client::new(&server));
    let mut callers: Vec<Client> = (0..4).map(|_| Client::new(&server)).collect();
    for round in 0..20 {
        let caller = &mut callers[round % 4];
        caller.send(&["FLUX.CALL", "echo", "1"]);
        let job = worker.next(&[]).remove(0);
        worker.ok(&["FLUX.REPLY", &job[0], "OK", "2"]);
        assert_eq!(text(&caller.read()), "2");
        until("nobody waits", || other.text(&["INFO", "clients"]).contains("blocked_clients:0\r"));
        assert_eq!(other.text(&["CLIENT", "LIST"]).matches("flags=b").count(), 0);
        if round % 2 == 0 {
            callers[round % 4] = Client::new(&server);
        }
    }
    drop(worker);
    until("nobody waits", || other.text(&["INFO", "clients"]).contains("blocked_clients:0\r"));
}
