//! A workspace's events over HTTP: live, resumed, with gaps told, and for readers that are slow.

use std::io::Read;
use std::time::Duration;

use flux::store::Store;

use super::{Door, Event, Events, eventually};

const PATH: &str = "/workspaces/alpha/events";

/// Adds an event to the log as the room does, and returns its id. The log keeps the last `kept`.
fn log(store: &mut Store, kept: usize, text: &str) -> String {
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
    eventually("it waits", || door.instance.blocked_clients() == 1);
    drop(events);
    eventually("it is gone", || door.instance.blocked_clients() == 0 && door.instance.clients.count() == 0);
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
