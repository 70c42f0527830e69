//! Streams of peers: numbered chunks, of which the last are kept for late readers.

use flux::Flux;

use crate::process::until;
use crate::script::{check, show};

#[test]
fn a_late_reader_gets_the_last_chunks_and_sees_the_end() {
    check(
        "
        a: FLUX.REGISTER '{\"id\":\"p1\",\"name\":\"Ann\"}'
        a: FLUX.STREAM.PUSH w tokens one => 1
        a: FLUX.STREAM.PUSH w tokens two three => 3
        FLUX.STREAM.READ w p1 tokens => [first, 1, last, 3, ended, 0, chunks, [[1, one], [2, two], [3, three]]]
        FLUX.STREAM.READ w p1 tokens FROM 2 COUNT 1 => [first, 1, last, 3, ended, 0, chunks, [[2, two]]]
        FLUX.STREAM.READ w p1 tokens FROM 4 => [first, 1, last, 3, ended, 0, chunks, []]
        FLUX.STREAM.READ w p1 tokens COUNT 0 => [first, 1, last, 3, ended, 0, chunks, []]
        a: FLUX.STREAM.END w tokens => 3
        FLUX.STREAM.READ w p1 tokens FROM 3 => [first, 1, last, 3, ended, 1, chunks, [[3, three]]]
        # Another peer's, or none.
        FLUX.STREAM.READ w p2 tokens => [first, 0, last, 0, ended, 0, chunks, []]
        HELLO 3
        FLUX.STREAM.READ w p1 tokens FROM 3 => {first: 1, last: 3, ended: t, chunks: [[3, three]]}
        ",
    );
}

#[test]
fn members_are_told_of_every_chunk_with_its_number() {
    check(
        "
        b: SUBSCRIBE flux:ws:w:events
        a: FLUX.REGISTER '{\"id\":\"p1\",\"name\":\"Ann\"}'
        a: FLUX.STREAM.PUSH w tokens one two
        b: PING => [message, flux:ws:w:events, {type:stream:data,workspace:w,peerId:p1,peerName:Ann,key:tokens,data:one,seq:1}] […data:two,seq:2}] [pong, ]
        a: FLUX.STREAM.END w tokens
        b: PING => [message, flux:ws:w:events, {type:stream:end,workspace:w,peerId:p1,peerName:Ann,key:tokens,seq:2}] [pong, ]
        # Once is enough.
        a: FLUX.STREAM.END w tokens => 2
        b: PING => [pong, ]
        # Whoever pushes again begins anew.
        a: FLUX.STREAM.PUSH w tokens again => 1
        b: PING => […data:again,seq:1}] [pong, ]
        FLUX.STREAM.READ w p1 tokens => [first, 1, last, 1, ended, 0, chunks, [[1, again]]]
        # A stream may be empty.
        a: FLUX.STREAM.END w nothing => 0
        b: PING => […key:nothing,seq:0}] [pong, ]
        FLUX.STREAM.READ w p1 nothing => [first, 0, last, 0, ended, 1, chunks, []]
        ",
    );
}

#[test]
fn a_stream_that_breaks_off_says_why() {
    check(
        "
        b: SUBSCRIBE flux:ws:w:events
        a: FLUX.REGISTER '{\"id\":\"p1\",\"name\":\"Ann\"}'
        a: FLUX.STREAM.PUSH w tokens one
        b: PING
        a: FLUX.STREAM.END w tokens ERROR 'the model broke' => 1
        b: PING => [message, flux:ws:w:events, {type:stream:end,workspace:w,peerId:p1,peerName:Ann,key:tokens,seq:1,error:the model broke}] [pong, ]
        FLUX.STREAM.READ w p1 tokens => [first, 1, last, 1, ended, 1, error, the model broke, chunks, [[1, one]]]
        # The first end counts.
        a: FLUX.STREAM.END w tokens => 1
        FLUX.STREAM.READ w p1 tokens => [first, 1, last, 1, ended, 1, error, the model broke, chunks, [[1, one]]]
        a: FLUX.STREAM.PUSH w tokens again => 1
        FLUX.STREAM.READ w p1 tokens => [first, 1, last, 1, ended, 0, chunks, [[1, again]]]
        a: FLUX.STREAM.END w tokens ERROR => ERR syntax error
        a: FLUX.STREAM.END w tokens WHY because => ERR syntax error
        ",
    );
}

#[test]
fn a_reader_sees_by_the_numbers_what_is_kept_no_more() {
    let flux = Flux::in_memory();
    let mut peer = flux.blocking();
    peer.call(&[b"FLUX.REGISTER", br#"{"id":"p1"}"#]);
    let mut events = flux.blocking();
    events.call(&[b"SUBSCRIBE", b"flux:ws:w:events"]);
    let chunks: Vec<String> = (1..=10_000).map(|number| format!("chunk {number}")).collect();
    let mut push: Vec<&[u8]> = vec![b"FLUX.STREAM.PUSH", b"w", b"s"];
    push.extend(chunks.iter().map(String::as_bytes));
    assert_eq!(show(&peer.call(&push)), "10000");
    let read = show(&peer.call(&[b"FLUX.STREAM.READ", b"w", b"p1", b"s", b"FROM", b"1", b"COUNT", b"2"]));
    assert_eq!(read, r#"["first", 9001, "last", 10000, "ended", 0, "chunks", [[9001, "chunk 9001"], [9002, "chunk 9002"]]]"#);
    let told = String::from_utf8(events.call(&[b"PING"])).unwrap();
    assert_eq!(told.matches("stream:data").count(), 10_000, "who listens gets every chunk");
    let log = show(&peer.call(&[b"XLEN", b"flux:ws:w:log"]));
    assert!((1000..=1200).contains(&log.parse::<usize>().unwrap()), "{log} events are kept");
}

#[test]
fn large_chunks_push_others_out() {
    let flux = Flux::in_memory();
    let mut peer = flux.blocking();
    peer.call(&[b"FLUX.REGISTER", br#"{"id":"p1"}"#]);
    let large = vec![b'x'; 4 << 20];
    for _ in 0..10 {
        peer.call(&[b"FLUX.STREAM.PUSH", b"w", b"s", &large]);
    }
    let read = show(&peer.call(&[b"FLUX.STREAM.READ", b"w", b"p1", b"s", b"COUNT", b"0"]));
    assert_eq!(read, r#"["first", 7, "last", 10, "ended", 0, "chunks", []]"#);
    let large = vec![b'x'; (16 << 20) + 1];
    let refused = show(&peer.call(&[b"FLUX.STREAM.PUSH", b"w", b"s", b"small", &large]));
    assert_eq!(refused, "TOOBIG chunk is 16777217 bytes, the limit is 16777216 (peer-payload-limit)");
    let read = show(&peer.call(&[b"FLUX.STREAM.READ", b"w", b"p1", b"s", b"COUNT", b"0"]));
    assert_eq!(read, r#"["first", 7, "last", 10, "ended", 0, "chunks", []]"#, "a push is done wholly or not at all");
}

#[test]
fn only_a_peer_has_streams_and_only_of_its_own() {
    check(
        "
        FLUX.STREAM.PUSH w s x => NOPEER this connection is not a registered peer: FLUX.REGISTER first
        FLUX.STREAM.END w s => NOPEER this connection is not a registered peer: FLUX.REGISTER first
        a: FLUX.REGISTER '{\"id\":\"p1\"}'
        b: FLUX.REGISTER '{\"id\":\"p2\"}'
        a: FLUX.STREAM.PUSH w s x => 1
        b: FLUX.STREAM.PUSH w s y => 1
        b: FLUX.STREAM.READ w p1 s => [first, 1, last, 1, ended, 0, chunks, [[1, x]]]
        a: FLUX.STREAM.PUSH a:b s x => ERR invalid workspace name: it must not hold `:`
        a: FLUX.STREAM.PUSH w '' x => ERR invalid key: it is empty
        FLUX.STREAM.READ w a/b s => ERR invalid peer id: …
        FLUX.STREAM.READ w p1 s FROM => ERR syntax error: nothing stands behind 'FROM'
        FLUX.STREAM.READ w p1 s FROM x => ERR value is not an integer or out of range
        ",
    );
}

#[test]
fn streams_end_by_themselves_some_time_after_the_last_chunk() {
    check(
        "
        a: FLUX.REGISTER '{\"id\":\"p1\"}'
        a: FLUX.STREAM.PUSH w s x
        TTL flux:ws:w:stream:p1:s => 600
        TTL flux:ws:w:log => 600
        EXPIRE flux:ws:w:stream:p1:s 300
        a: FLUX.STREAM.PUSH w s x
        TTL flux:ws:w:stream:p1:s => 600
        a: FLUX.STREAM.END w s
        TTL flux:ws:w:stream:p1:s => 60
        a: FLUX.JOIN w
        a: FLUX.STREAM.PUSH w other x
        a: FLUX.LEAVE
        TTL flux:ws:w:stream:p1:other => 60
        EXISTS flux:ws:w:streams:p1 => 0
        ",
    );
}

#[test]
fn streams_of_old_peers_are_kept_as_well() {
    let flux = Flux::in_memory();
    let mut old = flux.blocking();
    old.call(&[
        b"SET",
        b"flux:peer:o1",
        br#"{"id":"o1","name":"Old","capabilities":[],"workspaces":["w"],"startedAt":1}"#,
        b"EX",
        b"10",
    ]);
    for (kind, data) in [("data", r#""one""#), ("data", r#"{"n":2}"#), ("end", "null")] {
        let event =
            format!(r#"{{"type":"stream:{kind}","workspace":"w","peerId":"o1","peerName":"Old","key":"s","data":{data}}}"#);
        old.call(&[b"PUBLISH", b"flux:ws:w:events", event.as_bytes()]);
    }
    let wanted = r#"["first", 1, "last", 2, "ended", 1, "chunks", [[1, "one"], [2, "{"n":2}"]]]"#;
    until("the stream is kept", || show(&old.call(&[b"FLUX.STREAM.READ", b"w", b"o1", b"s"])) == wanted);
    until("the events are logged", || show(&old.call(&[b"XLEN", b"flux:ws:w:log"])) == "3");
}

#[test]
fn nobody_can_push_into_the_stream_of_a_new_peer_by_publishing_its_events() {
    let flux = Flux::in_memory();
    let (mut peer, mut other) = (flux.blocking(), flux.blocking());
    peer.call(&[b"FLUX.REGISTER", br#"{"id":"p1"}"#]);
    peer.call(&[b"FLUX.STREAM.PUSH", b"w", b"s", b"mine"]);
    let event =
        |peer: &str| format!(r#"{{"type":"stream:data","workspace":"w","peerId":"{peer}","peerName":"","key":"s","data":"x"}}"#);
    other.call(&[b"PUBLISH", b"flux:ws:w:events", event("p1").as_bytes()]);
    other.call(&[b"PUBLISH", b"flux:ws:w:events", event("o1").as_bytes()]);
    // The second event was taken up, so the first was passed over.
    until("the event is taken up", || show(&other.call(&[b"EXISTS", b"flux:ws:w:stream:o1:s"])) == "1");
    let read = show(&other.call(&[b"FLUX.STREAM.READ", b"w", b"p1", b"s"]));
    assert_eq!(read, r#"["first", 1, "last", 1, "ended", 0, "chunks", [[1, "mine"]]]"#);
}

#[test]
fn other_kinds_of_value_under_these_keys_make_way() {
    check(
        "
        a: FLUX.REGISTER '{\"id\":\"p1\"}'
        SET flux:ws:w:stream:p1:s x
        SET flux:ws:w:streams:p1 x
        SET flux:ws:w:log x
        a: FLUX.STREAM.PUSH w s x => 1
        FLUX.STREAM.READ w p1 s => [first, 1, last, 1, ended, 0, chunks, [[1, x]]]
        SET flux:ws:w:stream:p1:t x
        FLUX.STREAM.READ w p1 t => [first, 0, last, 0, ended, 0, chunks, []]
        SET flux:ws:w:stream:p1:u x
        a: FLUX.STREAM.END w u => 0
        ",
    );
}
