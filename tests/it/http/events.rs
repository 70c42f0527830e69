//! A workspace's events over HTTP: live, resumed, with gaps told, and for readers that are slow.

use std::io::Read;
use std::time::Duration;

use flux::store::Blocking;

use super::{Door, Event, Events};
use crate::process::until;

const PATH: &str = "/workspaces/alpha/events";

/// Adds an event to the log as the room does, and returns its id. The log keeps the last `kept`.
fn log(store: &mut Blocking, kept: usize, text: &str) -> String {
    let kept = kept.to_string();
    let answer = store.call(&[b"XADD", b"flux:ws:alpha:log", b"MAXLEN", kept.as_bytes(), b"*", b"event", text.as_bytes()]);
    redis::from_redis_value(redis::parse_redis_value(&answer).unwrap()).unwrap()
}

fn told(id: &str, text: &str) -> Option<Event> {
    Some(Event { name: String::new(), id: id.into(), text: text.into() })
}

fn gap(after: &str) -> Option<Event> {
    Some(Event { name: "gap".into(), id: String::new(), text: format!("{{\"after\":\"{after}\"}}") })
}

#[test]
fn events_come_live_from_where_the_reader_began() {
    let door = Door::open(&[]);
    let mut store = door.store();
    log(&mut store, 100, "before");
    let mut events = Events::ask(&door, "GET", PATH, &[], "").connected();
    for text in ["{\"type\":\"peer:joined\"}", "two"] {
        let id = log(&mut store, 100, text);
        assert_eq!(events.next(), told(&id, text));
    }
}

#[test]
fn a_reader_goes_on_after_the_event_it_saw_last() {
    let door = Door::open(&[]);
    let mut store = door.store();
    let ids: Vec<String> = (0..200).map(|number| log(&mut store, 1000, &number.to_string())).collect();
    for headers in [vec![("Last-Event-ID", ids[9].as_str())], vec![]] {
        let path = if headers.is_empty() { format!("{PATH}?last-event-id={}", ids[9]) } else { PATH.to_owned() };
        let mut events = Events::ask(&door, "GET", &path, &headers, "");
        for (number, id) in ids.iter().enumerate().skip(10) {
            assert_eq!(events.next(), told(id, &number.to_string()));
        }
    }
    let mut all = Events::ask(&door, "GET", &format!("{PATH}?last-event-id=0"), &[], "");
    assert_eq!(all.next(), told(&ids[0], "0"));
}

#[test]
fn a_gap_is_told_before_what_comes_after_it() {
    let door = Door::open(&[]);
    let mut store = door.store();
    let first = log(&mut store, 2, "one");
    for text in ["two", "three", "four"] {
        log(&mut store, 2, text);
    }
    let mut events = Events::ask(&door, "GET", PATH, &[("Last-Event-ID", &first)], "");
    assert_eq!(events.next(), gap(&first));
    assert_eq!(events.next().unwrap().text, "three");
    assert_eq!(events.next().unwrap().text, "four");
    let mut events = Events::ask(&door, "GET", PATH, &[("Last-Event-ID", "0")], "");
    assert_eq!(events.next(), gap("0"));
    store.call(&[b"DEL", b"flux:ws:alpha:log"]);
    let mut events = Events::ask(&door, "GET", PATH, &[("Last-Event-ID", &first)], "");
    assert_eq!(events.next(), gap(&first));
}

#[test]
fn a_log_that_is_begun_anew_is_no_gap_for_a_reader_who_was_there() {
    let door = Door::open(&[]);
    let mut store = door.store();
    let mut events = Events::ask(&door, "GET", PATH, &[], "").connected();
    let id = log(&mut store, 100, "first");
    assert_eq!(events.next(), told(&id, "first"));
}

#[test]
fn a_slow_reader_is_told_what_it_missed_and_holds_nobody_up() {
    let door = Door::open(&[]);
    let mut store = door.store();
    let mut events = Events::ask(&door, "GET", PATH, &[], "").connected();
    let text = "x".repeat(100_000);
    let last = (0..500).map(|_| log(&mut store, 20, &text)).last().unwrap();
    assert_eq!(door.get("/health").0, 200);
    let mut gaps = 0;
    loop {
        let event = events.next().unwrap();
        gaps += usize::from(event.name == "gap");
        if event.id == last {
            break;
        }
    }
    assert!(gaps > 0, "50 MB are more than fit on the way, so some were dropped");
}

#[test]
fn a_reader_that_goes_leaves_nothing_behind() {
    let door = Door::open(&[]);
    let events = Events::ask(&door, "GET", PATH, &[], "").connected();
    until("it waits", || door.instance.blocked_clients() == 1);
    drop(events);
    until("it is gone", || door.instance.blocked_clients() == 0 && door.instance.clients.count() == 0);
}

#[test]
fn the_end_of_the_server_ends_streams() {
    let door = Door::open(&[]);
    let mut events = Events::ask(&door, "GET", PATH, &[], "").connected();
    door.instance.end();
    assert_eq!(events.next(), None);
}

#[test]
fn bad_ids_and_names_are_refused() {
    let door = Door::open(&[]);
    assert_eq!(door.ask("GET", PATH, &[("Last-Event-ID", "yesterday")], "").status, 400);
    assert_eq!(door.ask("GET", "/workspaces/a%3Ab/events", &[], "").status, 400);
    let mut socket = door.send(format!("GET {PATH} HTTP/1.1\r\nHost: evil.example\r\n\r\n").as_bytes());
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut head = [0; 12];
    socket.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 403");
}

/// A peer in the workspace, and a command of its own.
fn peer(door: &Door, name: &str) -> Blocking {
    let mut store = door.store();
    let json = format!(r#"{{"id":"{name}","name":"{name}","workspaces":["alpha"]}}"#);
    assert!(!store.call(&[b"FLUX.REGISTER", json.as_bytes()]).starts_with(b"-"));
    store
}

/// What an event is about, in a word.
fn about(event: &Event) -> String {
    let json: serde_json::Value = serde_json::from_str(&event.text).unwrap();
    let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
    [text("type"), text("peerName"), text("key"), text("data")]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn what_peers_do_is_told_and_a_reader_that_comes_back_misses_nothing_and_gets_nothing_twice() {
    let door = Door::open(&[]);
    let mut events = Events::ask(&door, "GET", PATH, &[], "").connected();
    let mut ada = peer(&door, "ada");
    let writer = std::thread::spawn(move || {
        for number in 0..100 {
            let number = number.to_string();
            ada.call(&[b"FLUX.CTX.SET", b"alpha", b"n", number.as_bytes()]);
            ada.call(&[b"FLUX.STREAM.PUSH", b"alpha", b"s", number.as_bytes()]);
            // Peers of the old protocol publish by themselves.
            let event = format!(
                r#"{{"type":"stream:data","workspace":"alpha","peerId":"old","peerName":"old","key":"o","data":"{number}"}}"#
            );
            ada.call(&[b"PUBLISH", b"flux:ws:alpha:events", event.as_bytes()]);
        }
        ada.call(&[b"FLUX.STREAM.END", b"alpha", b"s"]);
        ada.call(&[b"FLUX.CTX.DEL", b"alpha", b"n"]);
        ada.call(&[b"FLUX.LEAVE"]);
    });
    let mut seen: Vec<Event> = Vec::new();
    let mut is_over = false;
    while !is_over || seen.iter().filter(|event| event.text.contains("\"old\"")).count() < 100 {
        let event = events.next().unwrap();
        is_over |= about(&event) == "peer:left ada";
        seen.push(event);
        // Cut off after every few events, sometimes in the middle of what it was sent.
        if seen.len().is_multiple_of(7) {
            let last = seen.last().unwrap().id.clone();
            events = Events::ask(&door, "GET", PATH, &[("Last-Event-ID", &last)], "");
        }
    }
    writer.join().unwrap();
    let of = |part: &str| seen.iter().map(about).filter(|about| about.contains(part)).collect::<Vec<_>>();
    let numbered = |prefix: &str| (0..100).map(|number| format!("{prefix} {number}")).collect::<Vec<_>>();
    assert_eq!(of("stream:data ada s"), numbered("stream:data ada s"));
    assert_eq!(of("stream:data old o"), numbered("stream:data old o"));
    assert_eq!(of("ctx:updated").len(), 101);
    assert_eq!(of("peer:"), ["peer:joined ada", "peer:left ada"]);
    assert_eq!(of("stream:end"), ["stream:end ada s"]);
    assert!(seen.iter().all(|event| event.name.is_empty()), "there is no gap");
    let mut store = door.store();
    let kept = store.call(&[b"XRANGE", b"flux:ws:alpha:log", b"-", b"+"]);
    let kept: redis::streams::StreamRangeReply = redis::from_redis_value(redis::parse_redis_value(&kept).unwrap()).unwrap();
    let ids: Vec<&str> = kept.ids.iter().map(|entry| entry.id.as_str()).collect();
    assert_eq!(seen.iter().map(|event| event.id.as_str()).collect::<Vec<_>>(), ids, "all that was kept, once, in order");
}
