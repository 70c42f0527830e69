//! Strings: whole ones, parts of them, numbers, and what two have in common.

use crate::script::check;

#[test]
fn strings_are_set_and_read() {
    check(
        r#"
        SET k "hello world" => OK
        GET k => "hello world"
        GET nothing => (nil)
        STRLEN k => 11
        STRLEN nothing => 0
        GETSET k other => "hello world"
        GETSET new x => (nil)
        GETDEL k => other
        GETDEL k => (nil)
        SETNX new y => 0
        SETNX free y => 1
        MSET a 1 b 2 a 3 => OK
        MGET a nothing b => [3, (nil), 2]
        MSETNX c 1 a 2 => 0
        EXISTS c => 0
        MSETNX c 1 d 2 => 1
        MSET a => ERR wrong number of arguments for 'mset' command
        MSET a 1 b => ERR wrong number of arguments for 'mset' command
        MSETNX a 1 b => ERR wrong number of arguments for 'msetnx' command
    "#,
    );
}

#[test]
fn another_kind_of_value_is_refused_or_replaced() {
    check(
        "
        RPUSH list 1
        GET list => WRONGTYPE Operation against a key holding the wrong kind of value
        APPEND list x => WRONGTYPE Operation against a key holding the wrong kind of value
        INCR list => WRONGTYPE Operation against a key holding the wrong kind of value
        SETRANGE list 536870912 x => WRONGTYPE Operation against a key holding the wrong kind of value
        SET list x GET => WRONGTYPE Operation against a key holding the wrong kind of value
        GETSET list x => WRONGTYPE Operation against a key holding the wrong kind of value
        LCS list x => ERR The specified keys must contain string values
        MGET list => [(nil)]
        SETNX list x => 0
        SET list x => OK
        TYPE list => string
    ",
    );
}

#[test]
fn set_has_conditions() {
    check(
        "
        SET k 1 XX => (nil)
        SET k 1 NX => OK
        SET k 2 NX => (nil)
        SET k 2 XX => OK
        SET k 3 NX GET => 2
        SET k 3 XX GET => 2
        SET new 3 XX GET => (nil)
        EXISTS new => 0
        SET new 3 NX GET => (nil)
        GET new => 3
        SET k 3 NX XX => ERR syntax error
        SET k 3 SOMETHING => ERR syntax error
    ",
    );
}

#[test]
fn set_sets_when_keys_expire() {
    check(
        "
        SET k 1 EX 100 => OK
        TTL k => 100
        SET k 2 KEEPTTL => OK
        TTL k => 100
        SET k 2 => OK
        TTL k => -1
        SET k 3 PX 50000 => OK
        TTL k => 50
        SET k 3 EXAT 33177117420 => OK
        EXPIRETIME k => 33177117420
        SET k 3 PXAT 33177117420001 => OK
        PEXPIRETIME k => 33177117420001
        SETEX k 7 x => OK
        PSETEX k 7000 x => OK
        TTL k => 7
        SET k 3 EX 10 KEEPTTL => ERR syntax error
        SET k 3 EX 10 PX 10 => ERR syntax error
        SET k 3 EX => ERR syntax error
        SET k 3 EX x => ERR value is not an integer or out of range
        SET k 3 EX 0 => ERR invalid expire time in 'set' command
        SET k 3 EX -1 => ERR invalid expire time in 'set' command
        SET k 3 EX 9223372036854775807 => ERR invalid expire time in 'set' command
        SET k 3 PX 9223372036854775807 => ERR invalid expire time in 'set' command
        SET k 3 PERSIST => ERR syntax error
        SETEX k 0 x => ERR invalid expire time in 'setex' command
        PSETEX k -5 x => ERR invalid expire time in 'psetex' command
        SET k 3 PXAT 1 => OK
        EXISTS k => 0
    ",
    );
}

#[test]
fn getex_changes_when_keys_expire() {
    check(
        "
        SET k v
        GETEX k => v
        TTL k => -1
        GETEX k EX 100 => v
        TTL k => 100
        GETEX k => v
        TTL k => 100
        GETEX k PERSIST => v
        TTL k => -1
        GETEX nothing EX 0 => (nil)
        GETEX k EX 0 => ERR invalid expire time in 'getex' command
        GETEX k KEEPTTL => ERR syntax error
        GETEX k EX 10 PERSIST => ERR syntax error
        GETEX k EXAT 1 => v
        EXISTS k => 0
    ",
    );
}

#[test]
fn parts_are_read_and_written() {
    check(
        r#"
        SET k "Hello World"
        GETRANGE k 0 4 => Hello
        GETRANGE k -5 -1 => World
        GETRANGE k 4 -100 => ""
        GETRANGE k -1 -5 => ""
        GETRANGE k 0 100 => "Hello World"
        SUBSTR k 6 6 => W
        GETRANGE nothing 0 -1 => ""
        GETRANGE nothing x 1 => ERR value is not an integer or out of range
        SETRANGE k 6 Redis => 11
        GET k => "Hello Redis"
        SETRANGE new 3 x => 4
        GET new => "\x00\x00\x00x"
        SETRANGE empty 3 "" => 0
        EXISTS empty => 0
        SETRANGE k 1000000 "" => 11
        SETRANGE k -1 x => ERR offset is out of range
        SETRANGE k 536870912 x => ERR string exceeds maximum allowed size (proto-max-bulk-len)
        SETRANGE k 9223372036854775807 x => ERR string exceeds maximum allowed size (proto-max-bulk-len)
        APPEND log 12 => 2
        APPEND log 3 => 3
        INCR log => 124
        APPEND log "" => 3
    "#,
    );
}

#[test]
fn numbers_are_added_to() {
    check(
        r#"
        INCR hits => 1
        INCR hits => 2
        INCRBY hits 40 => 42
        DECR hits => 41
        DECRBY hits 42 => -1
        SET n 9223372036854775807
        INCR n => ERR increment or decrement would overflow
        DECRBY n -9223372036854775808 => ERR decrement would overflow
        SET n " 1"
        INCR n => ERR value is not an integer or out of range
        INCRBY n x => ERR value is not an integer or out of range
        SET n 10 EX 100
        INCR n => 11
        TTL n => 100
        INCRBYFLOAT f 10.5 => 10.5
        INCRBYFLOAT f 0.1 => 10.6
        INCRBYFLOAT f -10.6 => 0
        INCRBYFLOAT f 5.0e3 => 5000
        INCRBYFLOAT f x => ERR value is not a valid float
        INCRBYFLOAT f inf => ERR increment would produce NaN or Infinity
        SET f x
        INCRBYFLOAT f 1 => ERR value is not a valid float
    "#,
    );
}

#[test]
fn encodings_are_those_of_redis() {
    check(
        "
        SET k 12345
        OBJECT ENCODING k => int
        SET k 012345
        OBJECT ENCODING k => embstr
        SET k 12345678901234567890123456789012345678901234
        OBJECT ENCODING k => embstr
        SET k 123456789012345678901234567890123456789012345
        OBJECT ENCODING k => raw
        SET k 1
        APPEND k 2
        OBJECT ENCODING k => raw
        INCR k => 13
        OBJECT ENCODING k => int
    ",
    );
}

#[test]
fn the_longest_common_subsequence_is_found() {
    check(
        r#"
        MSET a ohmytext b mynewtext
        LCS a b => mytext
        LCS a b LEN => 6
        LCS a b IDX => [matches, [[[4, 7], [5, 8]], [[2, 3], [0, 1]]], len, 6]
        LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN => [matches, [[[4, 7], [5, 8], 4]], len, 6]
        LCS a b IDX LEN => ERR If you want both the length and indexes, please just use IDX.
        LCS a b MINMATCHLEN => ERR syntax error
        LCS a nothing => ""
        LCS a nothing LEN => 0
    "#,
    );
}

#[test]
fn what_did_not_change_does_not_disturb_watchers() {
    check(
        "
        SET k 1
        a: WATCH k
        SET k 2 NX
        GETEX k
        SETRANGE k 0 \"\"
        a: MULTI
        a: GET k => QUEUED
        a: EXEC => [1]
        a: WATCH k
        INCR k => 2
        a: MULTI
        a: GET k => QUEUED
        a: EXEC => (nil)
    ",
    );
}

#[test]
fn a_string_is_set_only_where_it_is_as_expected() {
    check(
        "
        SET k new IFEQ old => (nil)
        SET k new IFEQ old GET => (nil)
        EXISTS k => 0
        SET k a IFNE b => OK
        SET k x IFNE a => (nil)
        SET k x IFNE a GET => a
        SET k b IFEQ x => (nil)
        SET k b IFEQ x GET => a
        SET k b IFEQ a GET => a
        SET k c EX 100 IFEQ b => OK
        TTL k => 100
        SET k d IFEQ c KEEPTTL => OK
        TTL k => 100
        SET k e IFEQ d => OK
        TTL k => -1
        SET n 10
        SET n 11 IFEQ 010 => (nil)
        SET n 11 IFEQ 10 => OK
        SET k x IFEQ e NX => ERR syntax error
        SET k x XX IFEQ e => ERR syntax error
        SET k x IFEQ e IFEQ e => ERR syntax error
        SET k x IFEQ e IFNE f => ERR syntax error
        SET k x IFEQ => ERR syntax error
        GET k => e
        RPUSH l a
        SET l a IFEQ a => WRONGTYPE Operation against a key holding the wrong kind of value
        SET l a IFNE a => WRONGTYPE Operation against a key holding the wrong kind of value
        SET l a IFEQ a GET => WRONGTYPE Operation against a key holding the wrong kind of value
        GETEX k IFEQ e => ERR syntax error
        LLEN l => 1
    ",
    );
}

#[test]
fn a_digest_stands_for_a_string() {
    check(
        "
        SET k 'Hello world'
        DIGEST k => b6acb9d84a38ff74
        DIGEST nothing => (nil)
        SET k a IFDEQ b6acb9d84a38ff75 => (nil)
        SET k a IFDNE b6acb9d84a38ff74 => (nil)
        SET k a IFDEQ b6acb9d84a38ff7 => ERR must be exactly 16 hexadecimal characters
        SET k a IFDNE b6acb9d84a38ff740 GET => ERR must be exactly 16 hexadecimal characters
        SET k 'Hello world' IFDEQ B6ACB9D84A38FF74 => OK
        SET k a IFDEQ b6acb9d84a38ff74 GET => Hello world
        SET k b IFDNE b6acb9d84a38ff74 => OK
        SET nothing a IFDEQ b6acb9d84a38ff74 => (nil)
        SET nothing a IFDNE b6acb9d84a38ff74 => OK
        SET n 12345
        DIGEST n => $digest
        SET s 1234
        APPEND s 5
        DIGEST s => $digest
        RPUSH l a
        DIGEST l => WRONGTYPE Operation against a key holding the wrong kind of value
    ",
    );
}

#[test]
fn a_key_is_removed_only_where_it_is_as_expected() {
    check(
        "
        SET k a
        DELEX k IFEQ b => 0
        DELEX k IFNE a => 0
        DELEX k IFEQ a => 1
        EXISTS k => 0
        DELEX k IFNE a => 0
        DELEX k => 0
        SET k 'Hello world'
        DELEX k IFDEQ 0000000000000000 => 0
        DELEX k IFDNE b6acb9d84a38ff74 => 0
        DELEX k IFDEQ 0 => ERR must be exactly 16 hexadecimal characters
        DELEX k IFDEQ B6ACB9D84A38FF74 => 1
        SET k a
        DELEX k IF a => ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE
        DELEX k IFEQ => ERR wrong number of arguments for 'delex' command
        DELEX k IFEQ a b => ERR wrong number of arguments for 'delex' command
        DELEX nothing IFEQ => 0
        DELIFEQ k b => 0
        DELIFEQ k a => 1
        DELIFEQ k a => 0
        RPUSH l a
        DELIFEQ l a => WRONGTYPE Operation against a key holding the wrong kind of value
        DELEX l IFEQ a => ERR Key should be of string type if conditions are specified
        DELEX l => 1
        EXISTS l => 0
    ",
    );
}

#[test]
fn several_keys_are_set_together_and_expire_together() {
    check(
        "
        MSETEX 2 a 1 b 2 => 1
        TTL a => -1
        MSETEX 2 a 3 b 4 EX 100 => 1
        TTL b => 100
        MSETEX 2 a 5 c 6 NX => 0
        MSETEX 2 a 5 c 6 XX => 0
        MGET a b c => [3, 4, (nil)]
        MSETEX 2 a 7 b 8 KEEPTTL XX => 1
        TTL a => 100
        MSETEX 2 c 1 d 2 PX 100000 NX => 1
        TTL d => 100
        MSETEX 1 c 1 EXAT 1 => 1
        EXISTS c => 0
        RPUSH l a
        MSETEX 2 l 1 l 2 => 1
        GET l => 2
        MSETEX 1 a => ERR wrong number of arguments for 'msetex' command
        MSETEX 0 a 1 => ERR invalid numkeys value
        MSETEX x a 1 => ERR invalid numkeys value
        MSETEX 9223372036854775807 a 1 => ERR invalid numkeys value
        MSETEX 2 a 1 b => ERR wrong number of key-value pairs
        MSETEX 1 a 1 b => ERR syntax error
        MSETEX 1 a 1 NX XX => ERR syntax error
        MSETEX 1 a 1 GET => ERR syntax error
        MSETEX 1 a 1 IFEQ 7 => ERR syntax error
        MSETEX 1 a 1 KEEPTTL EX 10 => ERR syntax error
        MSETEX 1 a 1 EX 0 => ERR invalid expire time in 'msetex' command
        GET a => 7
        COMMAND GETKEYS MSETEX 2 a 1 b 2 NX => [a, b]
        COMMAND GETKEYS MSETEX 3 a 1 b 2 NX => ERR Invalid arguments specified for command
    ",
    );
}

#[test]
fn what_is_done_under_a_condition_is_told_if_it_is_done() {
    let told = ["set", "set", "expire", "del", "set", "expire", "del"];
    let told = told.map(|event| format!("[pmessage, __keyevent@0__:*, __keyevent@0__:{event}, k]")).join(" ");
    check(&format!(
        "
        CONFIG SET notify-keyspace-events E$g
        l: PSUBSCRIBE __keyevent@0__:*
        SET k a
        SET k b IFEQ x => (nil)
        SET k b IFEQ a EX 100 => OK
        DELEX k IFEQ a => 0
        DELEX k IFEQ b => 1
        MSETEX 1 k a EX 100 NX => 1
        MSETEX 1 k a EX 100 NX => 0
        DELIFEQ k b => 0
        DELIFEQ k a => 1
        l: PING => {told} [pong, ]
    "
    ));
}
