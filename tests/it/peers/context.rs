//! The shared context of workspaces: versions, compare-and-set, history, time to live, and plain commands on the same keys.

use crate::script::check;

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
        FLUX.CTX.SET w k text TTL => ERR syntax error
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
        FLUX.CTX.SET w k v NONSENSE 1 => ERR syntax error
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
        # A value that becomes another kind is no value any more.
        DEL flux:ws:w:ctx:k
        FLUX.CTX.SET w k text
        DEL flux:ws:w:ctx:k
        LPUSH flux:ws:w:ctx:k x
        FLUX.CTX.KEYS w => []
        ",
    );
}
