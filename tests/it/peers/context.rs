//! The shared context of workspaces: versions, compare-and-set, history, time to live, and plain commands on the same keys.

use std::collections::HashMap;
use std::thread;

use flux::Flux;
use flux::store::Blocking;
use redis::Cmd;
use serde_json::Value;

use crate::peers::client::Client;
use crate::process::{Process, until};
use crate::script::{check, show};

#[test]
fn a_value_is_set_read_listed_and_deleted() {
    check(
        "
        FLUX.CTX.GET w docs => (nil)
        FLUX.CTX.KEYS w => []
        FLUX.CTX.SET w docs '{\"a\":1}' => $version
        FLUX.CTX.GET w docs => {a:1}
        FLUX.CTX.GET w docs WITHVERSION => [{a:1}, $version]
        FLUX.CTX.SET w plan text
        FLUX.CTX.KEYS w => [docs, plan]
        FLUX.CTX.KEYS w WITHVERSIONS => [[docs, $version], [plan, …]]
        FLUX.CTX.KEYS other => []
        FLUX.CTX.DEL w docs => 1
        FLUX.CTX.DEL w docs => 0
        FLUX.CTX.GET w docs WITHVERSION => (nil)
        FLUX.CTX.KEYS w => [plan]
        FLUX.CTX.DEL w plan => 1
        # Nothing is left behind.
        DBSIZE => 1
        KEYS * => [flux:ws:w:log]
        ",
    );
}

#[test]
fn the_keys_are_those_of_the_old_protocol() {
    check(
        "
        FLUX.CTX.SET w a:b text
        GET flux:ws:w:ctx:a:b => text
        SET flux:ws:w:ctx:other '[1]'
        FLUX.CTX.GET w other => [1]
        FLUX.CTX.KEYS w => [a:b, other]
        DEL flux:ws:w:ctx:other => 1
        FLUX.CTX.KEYS w => [a:b]
        SELECT 3
        FLUX.CTX.GET w a:b => text
        ",
    );
}

#[test]
fn a_version_that_was_overtaken_changes_nothing() {
    check(
        "
        FLUX.CTX.SET w k one IFVERSION 0 => $one
        FLUX.CTX.SET w k two IFVERSION 0 => CONFLICT version is $one
        FLUX.CTX.SET w k two IFVERSION $one => $two
        FLUX.CTX.SET w k three IFVERSION $one => CONFLICT version is $two
        FLUX.CTX.DEL w k IFVERSION $one => CONFLICT version is $two
        FLUX.CTX.GET w k => two
        FLUX.CTX.DEL w k IFVERSION $two => 1
        FLUX.CTX.SET w k three IFVERSION $two => CONFLICT version is 0
        FLUX.CTX.SET w k three IFVERSION 0 => $three
        FLUX.CTX.DEL w none IFVERSION 0 => 0
        ",
    );
}

#[test]
fn a_plain_set_counts_as_a_change() {
    check(
        "
        FLUX.CTX.SET w k one => $one
        SET flux:ws:w:ctx:k two
        FLUX.CTX.SET w k three IFVERSION $one => CONFLICT version is …
        FLUX.CTX.GET w k WITHVERSION => [two, …]
        FLUX.CTX.HISTORY w k => [[…, two, ], [$one, one, ]]
        # The same value again is no change.
        SET flux:ws:w:ctx:k one
        FLUX.CTX.SET w k one => $same
        SET flux:ws:w:ctx:k one
        FLUX.CTX.SET w k two IFVERSION $same => *
        FLUX.CTX.GET w k => two
        # Neither is a plain SET within a transaction overlooked, nor one that makes the value.
        MULTI
        SET flux:ws:w:ctx:k three
        SET flux:ws:w:ctx:n new
        EXEC => [OK, OK]
        FLUX.CTX.SET w n x IFVERSION 0 => CONFLICT version is …
        FLUX.CTX.KEYS w => [k, n]
        ",
    );
}

#[test]
fn versions_grow_also_over_a_deletion() {
    check(
        "
        FLUX.CTX.SET w k one => $one
        FLUX.CTX.DEL w k
        FLUX.CTX.SET w k two => $two
        FLUX.CTX.SET w k three IFVERSION $one => CONFLICT version is $two
        ",
    );
}

#[test]
fn members_are_told_of_every_change() {
    check(
        "
        b: SUBSCRIBE flux:ws:w:events
        a: FLUX.REGISTER '{\"id\":\"p1\",\"name\":\"Ann\"}'
        a: FLUX.CTX.SET w k '{\"n\": 1}' => $v
        b: PING => [message, flux:ws:w:events, {type:ctx:updated,workspace:w,peerId:p1,peerName:Ann,key:k,data:{n: 1},version:$v}] [pong, ]
        a: FLUX.CTX.SET w k text => $w
        b: PING => […peerId:p1,peerName:Ann,key:k,data:text,version:$w}] [pong, ]
        a: FLUX.CTX.DEL w k
        b: PING => […{type:ctx:updated,workspace:w,peerId:p1,peerName:Ann,key:k,deleted:true}] [pong, ]
        a: FLUX.CTX.DEL w k => 0
        b: PING => [pong, ]
        # Someone who is no peer may set values, too.
        c: FLUX.CTX.SET w k 7
        b: PING => […peerId:,peerName:,key:k,data:7,version:…] [pong, ]
        # A plain SET is told of by the old peer that made it. A plain DEL is not, so it is told for it.
        c: SET flux:ws:w:ctx:k 8
        b: PING => [pong, ]
        c: DEL flux:ws:w:ctx:k
        b: PING => […{type:ctx:updated,workspace:w,peerId:,peerName:,key:k,deleted:true}] [pong, ]
        c: FLUX.CTX.SET w k 9
        c: RENAME flux:ws:w:ctx:k flux:ws:w:ctx:l
        b: PING => […data:9,…] […key:k,deleted:true}] [pong, ]
        c: FLUX.CTX.KEYS w => [l]
        ",
    );
}

#[test]
fn a_value_whose_time_is_over_is_deleted_with_all_that_belongs_to_it() {
    check(
        "
        b: SUBSCRIBE flux:ws:w:events
        FLUX.CTX.SET w k text TTL 100000
        PTTL flux:ws:w:ctx:k => …
        FLUX.CTX.KEYS w => [k]
        b: PING => [… [pong, ]
        PEXPIREAT flux:ws:w:ctx:k 1 => 1
        b: PING => [message, flux:ws:w:events, {type:ctx:updated,workspace:w,peerId:,peerName:,key:k,deleted:true}] [pong, ]
        FLUX.CTX.KEYS w => []
        FLUX.CTX.HISTORY w k => []
        KEYS * => [flux:ws:w:log]
        # Without a time it lasts, also where it had one.
        FLUX.CTX.SET w k text TTL 100000
        FLUX.CTX.SET w k text
        TTL flux:ws:w:ctx:k => -1
        FLUX.CTX.SET w k text TTL x => ERR value is not an integer or out of range
        FLUX.CTX.SET w k text TTL => ERR syntax error: nothing stands behind 'TTL'
        ",
    );
}

#[test]
fn the_last_hundred_versions_are_kept() {
    let sets: String = (1..=105).map(|number| format!("FLUX.CTX.SET w k v{number}\n")).collect();
    check(&format!(
        "
        a: FLUX.REGISTER '{{\"id\":\"p1\"}}'
        {sets}
        a: FLUX.CTX.SET w k last => $last
        FLUX.CTX.HISTORY w k COUNT 2 => [[$last, last, p1], […, v105, ]]
        XLEN flux:ws:w:history:k => 100
        FLUX.CTX.HISTORY w k => [[$last, last, p1], …, [… v7, ]]
        FLUX.CTX.HISTORY w k COUNT 0 => []
        FLUX.CTX.HISTORY w none => []
        FLUX.CTX.DEL w k
        FLUX.CTX.HISTORY w k => []
        "
    ));
}

#[test]
fn values_are_any_bytes_up_to_the_limit() {
    let check_with = |script: &str| check(script);
    check_with(
        r#"
        b: SUBSCRIBE flux:ws:w:events
        CONFIG SET peer-payload-limit 1024
        FLUX.CTX.SET w k "\xff\x00" => *
        FLUX.CTX.GET w k => \xff\x00
        b: PING => [… [pong, ]
        FLUX.CTX.SET w empty "" => *
        FLUX.CTX.GET w empty =>
        "#,
    );
    let large = "x".repeat(1025);
    check(&format!(
        "
        CONFIG SET peer-payload-limit 1024
        FLUX.CTX.SET w k {large} => TOOBIG value is 1025 bytes, the limit is 1024 (peer-payload-limit)
        FLUX.CTX.SET w k {} => *
        STRLEN flux:ws:w:ctx:k => 1024
        ",
        &large[1..]
    ));
}

#[test]
fn names_and_options_are_checked() {
    let long = "k".repeat(257);
    check(&format!(
        "
        FLUX.CTX.SET a:b k v => ERR invalid workspace name: it must not hold `:`
        FLUX.CTX.SET '' k v => ERR invalid workspace name: it is empty
        FLUX.CTX.SET w '' v => ERR invalid key: it is empty
        FLUX.CTX.GET w {long} => ERR invalid key: it is 257 bytes long, the limit is 256
        FLUX.CTX.SET w k v IFVERSION -1 => ERR value is not an integer or out of range
        FLUX.CTX.SET w k v NONSENSE 1 => ERR syntax error: there is no option 'NONSENSE'
        FLUX.CTX.GET w k NONSENSE => ERR syntax error
        FLUX.CTX.KEYS w WITHVERSIONS x => ERR syntax error
        FLUX.CTX.DEL w k IFVERSION => ERR syntax error
        "
    ));
}

#[test]
fn other_kinds_of_value_under_these_keys_do_no_harm() {
    check(
        "
        LPUSH flux:ws:w:ctx:k x
        FLUX.CTX.GET w k => WRONGTYPE Operation against a key holding the wrong kind of value
        FLUX.CTX.GET w k WITHVERSION => WRONGTYPE Operation against a key holding the wrong kind of value
        FLUX.CTX.DEL w k => WRONGTYPE Operation against a key holding the wrong kind of value
        FLUX.CTX.KEYS w => []
        FLUX.CTX.SET w k text IFVERSION 0 => *
        FLUX.CTX.GET w k => text
        # What only the room writes makes way.
        SET flux:ws:w:ctx x
        SET flux:ws:w:history:k x
        SET flux:ws:w:log x
        SET flux:contexts x
        FLUX.CTX.KEYS w => []
        FLUX.CTX.SET w k again => $v
        FLUX.CTX.KEYS w WITHVERSIONS => [[k, $v]]
        FLUX.CTX.HISTORY w k => [[$v, again, ], …]
        XLEN flux:ws:w:log => 1
        DEL flux:ws:w:history:k
        XADD flux:ws:w:history:k 18446744073709551615-18446744073709551615 x y
        HSET flux:ws:w:ctx k '18446744073709551615 x'
        FLUX.CTX.SET w k third => *
        FLUX.CTX.GET w k => third
        # A value that becomes another kind is no value any more.
        DEL flux:ws:w:ctx:k
        FLUX.CTX.SET w k text
        DEL flux:ws:w:ctx:k
        LPUSH flux:ws:w:ctx:k x
        FLUX.CTX.KEYS w => []
        ",
    );
}

/// Peers that change a value only from what they have seen, while an old one sets it as it likes: in the history, what one of
/// the former wrote comes right after what it had read.
#[test]
fn nothing_comes_between_what_was_read_and_what_was_written() {
    const CHANGES: usize = 20;
    let flux = Flux::in_memory();
    let old = flux.blocking();
    let careful: Vec<_> = (0..2)
        .map(|number| {
            let mut store = flux.blocking();
            thread::spawn(move || (0..CHANGES).map(|change| change_once(&mut store, number, change)).collect::<Vec<_>>())
        })
        .collect();
    let careless = thread::spawn(move || {
        let mut old = old;
        for number in 0..CHANGES {
            Cmd::new().arg("SET").arg("flux:ws:w:ctx:k").arg(format!("old {number}")).exec(&mut old).unwrap();
            thread::yield_now();
        }
    });
    let changes: Vec<(u64, u64)> = careful.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    careless.join().unwrap();
    let history: Vec<(u64, String, String)> =
        Cmd::new().arg("FLUX.CTX.HISTORY").arg("w").arg("k").query(&mut flux.blocking()).unwrap();
    let careless = history.iter().filter(|(_, value, _)| value.starts_with("old")).count();
    assert_eq!(careless, CHANGES, "no plain SET goes unnoticed");
    let versions: Vec<u64> = history.into_iter().rev().map(|(version, _, _)| version).collect();
    assert!(versions.is_sorted(), "{versions:?}");
    for (read, written) in changes {
        let at = versions.iter().position(|version| *version == written).expect("every version is in the history");
        let before = at.checked_sub(1).map_or(0, |before| versions[before]);
        assert_eq!(before, read, "before {written} in {versions:?}");
    }
}

/// Reads a value and replaces it, over and over until nobody else did meanwhile. Answers the versions read and written.
fn change_once(store: &mut Blocking, number: usize, change: usize) -> (u64, u64) {
    loop {
        let read: Option<(String, u64)> =
            Cmd::new().arg("FLUX.CTX.GET").arg("w").arg("k").arg("WITHVERSION").query(store).unwrap();
        let read = read.map_or(0, |(_, version)| version);
        let text = format!("peer {number}, change {change}");
        let set = Cmd::new().arg("FLUX.CTX.SET").arg("w").arg("k").arg(text).arg("IFVERSION").arg(read).query(store);
        match set {
            Ok(written) => return (read, written),
            Err(error) => assert_eq!(error.code(), Some("CONFLICT"), "{error}"),
        }
    }
}

#[test]
fn thousands_of_keys_are_listed_without_those_of_others() {
    let flux = Flux::in_memory();
    let mut store = flux.blocking();
    for number in 0..3000 {
        store.call(&[b"FLUX.CTX.SET", b"w", format!("k{number:04}").as_bytes(), b"1"]);
        store.call(&[b"SET", format!("other:{number}").as_bytes(), b"1"]);
    }
    let keys: Vec<String> = Cmd::new().arg("FLUX.CTX.KEYS").arg("w").query(&mut store).unwrap();
    assert_eq!(keys.len(), 3000);
    assert!(keys.is_sorted());
}

#[test]
fn a_value_whose_time_is_over_while_the_server_is_down_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let flux = Flux::open(folder.path()).unwrap();
    let mut store = flux.blocking();
    store.call(&[b"FLUX.CTX.SET", b"w", b"short", b"x", b"TTL", b"50"]);
    store.call(&[b"FLUX.CTX.SET", b"w", b"long", b"x"]);
    drop(store);
    flux.close().unwrap();
    let flux = Flux::open(folder.path()).unwrap();
    let mut store = flux.blocking();
    until("the history is gone", || show(&store.call(&[b"EXISTS", b"flux:ws:w:history:short"])) == "0");
    until("the index is right", || show(&store.call(&[b"HKEYS", b"flux:ws:w:ctx"])) == "[\"long\"]");
}

#[test]
fn values_that_go_with_all_keys_are_told_to_be_gone() {
    let server = Process::flux(&[]);
    let (mut client, mut ear) = (Client::new(&server), Client::new(&server));
    ear.listen(&["flux:ws:one:events", "flux:ws:two:events"]);
    let mut heard = |count: usize| {
        let mut told: Vec<String> = (0..count)
            .map(|_| ear.heard())
            .map(|event| format!("{} {} {} {}", event["type"], event["workspace"], event["key"], event["deleted"]))
            .map(|line| line.replace('"', ""))
            .collect();
        told.sort();
        told
    };
    let deleted = ["ctx:updated one 12 true", "ctx:updated one plain true", "ctx:updated two b true"];
    for flush in [&[&["FLUSHALL"][..]][..], &[&["FLUSHDB"]], &[&["MULTI"], &["FLUSHALL", "ASYNC"], &["EXEC"]]] {
        client.ok(&["FLUX.CTX.SET", "one", "12", "1"]);
        client.ok(&["SET", "flux:ws:one:ctx:plain", "old"]);
        client.ok(&["FLUX.CTX.SET", "two", "b", "2"]);
        heard(2);
        client.ok(&["SELECT", "1"]);
        client.ok(&["FLUSHDB"]);
        client.ok(&["SELECT", "0"]);
        flush.iter().for_each(|command| drop(client.ok(command)));
        assert_eq!(heard(3), deleted, "{flush:?}");
    }
}

#[test]
fn a_value_set_after_all_keys_went_is_not_told_to_be_gone_after_that() {
    let server = Process::flux(&[]);
    let (mut client, mut ear) = (Client::new(&server), Client::new(&server));
    for number in 0..3000 {
        client.ok(&["FLUX.CTX.SET", "w", &number.to_string(), "before"]);
    }
    ear.listen(&["flux:ws:w:events"]);
    client.ok(&["FLUSHALL"]);
    for number in (0..3000).step_by(100) {
        client.ok(&["FLUX.CTX.SET", "w", &number.to_string(), "after"]);
    }
    client.ok(&["FLUX.CTX.SET", "w", "last", "after"]);
    let mut mirror: HashMap<String, Value> = (0..3000).map(|number| (number.to_string(), Value::from("before"))).collect();
    // What a client that mirrors the context does.
    while mirror.len() > 31 || !mirror.contains_key("last") {
        let event = ear.heard();
        let key = event["key"].as_str().unwrap().to_owned();
        if event["deleted"] == true {
            mirror.remove(&key)
        } else {
            mirror.insert(key, event["data"].clone())
        };
    }
    let mut keys: Vec<String> = crate::peers::client::texts(&client.ok(&["FLUX.CTX.KEYS", "w"]));
    let mut mirrored: Vec<String> = mirror.keys().cloned().collect();
    keys.sort();
    mirrored.sort();
    assert_eq!(mirrored, keys);
    assert!(mirror.values().all(|value| value == "after"), "{mirror:?}");
}
