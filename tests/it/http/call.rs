//! Calls over HTTP: results, failures and their statuses, pieces, and callers that go.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::{Door, Event, Events, Worker};
use crate::process::until;

const ADD: &str = r#"[{"name":"add","schema":{"type":"object","required":["a"],"properties":{"a":{"type":"number"}}}}]"#;

fn ok(text: impl ToString) -> [String; 2] {
    ["OK".into(), text.to_string()]
}

fn status(door: &Door, path: &str, body: &str) -> (u16, String) {
    let answer = door.ask("POST", path, &[], body);
    let code = serde_json::from_str::<serde_json::Value>(&answer.body).ok();
    (answer.status, code.and_then(|body| body["code"].as_str().map(str::to_owned)).unwrap_or_default())
}

#[test]
fn a_call_answers_with_its_result() {
    let door = Door::open(&[]);
    let _worker = Worker::start(&door, "adder", ADD, |payload| {
        let payload: serde_json::Value = serde_json::from_str(payload).unwrap();
        vec![ok(payload["a"].as_i64().unwrap() + 1)]
    });
    let answer = door.ask("POST", "/call/add?timeout=5000&priority=3&retries=0", &[], "{\"a\": 41}");
    assert_eq!((answer.status, answer.body.as_str()), (200, "42"), "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let answer = door.ask("POST", "/call/add", &[("Flux-Gather", "0")], "{\"a\": 1}");
    assert!(answer.body.contains("\"ok\":true") && answer.body.contains("\"data\":2"), "{answer:?}");
}

#[test]
fn failures_have_statuses_and_codes() {
    let door = Door::open(&[("peer-payload-limit", "2kb")]);
    let _worker = Worker::start(&door, "adder", ADD, |_| vec![["ERROR".into(), "no more numbers".into()]]);
    let _idle = Worker::start(&door, "idle", r#"[{"name":"idle"}]"#, |_| Vec::new());
    assert_eq!(status(&door, "/call/nothing", "{}"), (404, "NOPEER".into()));
    assert_eq!(status(&door, "/call/add", "{\"a\": \"one\"}"), (400, "INVALID".into()));
    assert_eq!(status(&door, "/call/add", "{\"a\": "), (400, "INVALID".into()));
    assert_eq!(status(&door, "/call/add", &format!("{{\"a\": 1, \"b\": \"{}\"}}", "x".repeat(4096))), (413, "TOOBIG".into()));
    assert_eq!(status(&door, "/call/idle?timeout=50", ""), (504, "TIMEOUT".into()));
    for wrong in ["timeout=0", "timeout=x", "priority=101", "tiemout=5", "route=nearest", "route=round-robin&sticky=a"] {
        assert_eq!(status(&door, &format!("/call/add?{wrong}"), "{\"a\": 1}"), (400, "ERR".into()), "{wrong}");
    }
    let answer = door.ask("POST", "/call/add", &[], "{\"a\": 1}");
    assert!(answer.status == 502 && answer.body.contains("no more numbers"), "{answer:?}");
    assert_eq!(door.ask("GET", "/call/add", &[], "").status, 405);
}

#[test]
fn of_a_call_the_same_may_be_said_over_http_and_resp() {
    let door = Door::open(&[]);
    let mut store = door.store();
    let (longest, too_long) = ("k".repeat(1024), "k".repeat(1025));
    for (option, value, is_allowed) in [
        ("timeout", "0", false),
        ("timeout", "1", true),
        ("timeout", "86400000", true),
        ("timeout", "86400001", false),
        ("retries", "0", true),
        ("retries", "1000", true),
        ("retries", "1001", false),
        ("priority", "-100", true),
        ("priority", "-101", false),
        ("priority", "01", false),
        ("gather", "4294967295", true),
        ("gather", "4294967296", false),
        ("to", "nobody", true),
        ("to", too_long.as_str(), false),
        ("sticky", longest.as_str(), true),
        ("sticky", too_long.as_str(), false),
    ] {
        // Nobody has the capability, which is found out once all that is said is right.
        let over_http = status(&door, &format!("/call/nothing?{option}={value}"), "1") != (400, "ERR".into());
        let mut call = redis::cmd("FLUX.CALL");
        call.arg("nothing").arg("1");
        if option == "sticky" {
            call.arg("ROUTE").arg(option).arg(value)
        } else {
            call.arg(option).arg(value)
        };
        let over_resp = !call.query::<redis::Value>(&mut store).is_err_and(|error| error.code() == Some("ERR"));
        assert_eq!((over_http, over_resp), (is_allowed, is_allowed), "{option} {value}");
    }
}

#[test]
fn pieces_come_as_events_before_the_result() {
    let door = Door::open(&[]);
    let _worker = Worker::start(&door, "speaker", r#"[{"name":"speak"},{"name":"choke"}]"#, |payload| match payload {
        "true" => vec![["CHUNK".into(), "\"one\"".into()], ["CHUNK".into(), "\"two\"".into()], ok("{\n\"words\": 2\n}")],
        _ => vec![["CHUNK".into(), "\"one\"".into()], ["ERROR".into(), "out of breath".into()]],
    });
    let event = |name: &str, id: &str, text: &str| Some(Event { name: name.into(), id: id.into(), text: text.into() });
    let mut events = Events::ask(&door, "POST", "/call/speak", &[], "true");
    assert_eq!(events.next(), event("chunk", "1", "\"one\""));
    assert_eq!(events.next(), event("chunk", "2", "\"two\""));
    assert_eq!(events.next(), event("result", "", "{\"words\": 2}"));
    assert_eq!(events.next(), None);
    let mut events = Events::ask(&door, "POST", "/call/choke", &[], "false");
    assert_eq!(events.next(), event("chunk", "1", "\"one\""));
    assert_eq!(events.next(), event("error", "", "{\"code\":\"FAILED\",\"error\":\"out of breath\"}"));
    assert_eq!(events.next(), None);
}

#[test]
fn a_caller_that_goes_cancels_its_call() {
    static TAKEN: AtomicUsize = AtomicUsize::new(0);
    let door = Door::open(&[]);
    let _worker = Worker::start(&door, "slow", r#"[{"name":"slow"}]"#, |_| {
        TAKEN.fetch_add(1, Relaxed);
        Vec::new()
    });
    let running = || {
        let (_, body) = door.get("/status");
        serde_json::from_str::<serde_json::Value>(&body).unwrap()["callsRunning"].as_u64().unwrap()
    };
    for (number, accept) in ["application/json", "text/event-stream"].into_iter().enumerate() {
        let request = format!("POST /call/slow HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\nContent-Length: 2\r\n\r\n{{}}");
        let socket = door.send(request.as_bytes());
        until("it is taken", || TAKEN.load(Relaxed) == number + 1);
        assert_eq!(running(), 1);
        drop(socket);
        until("it is cancelled", || running() == 0);
    }
}

#[test]
fn a_body_that_never_ends_calls_nobody() {
    let door = Door::open(&[]);
    let socket = door.send(b"POST /call/add HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n{\"a\":");
    assert_eq!(door.get("/health").0, 200);
    door.instance.end();
    drop(socket);
}
