//! What the commands of the `stream` group answer.

use crate::commands::waiting::{Waiting, bulk};
use crate::process::Reply;
use crate::script::check;

#[test]
fn ids_grow_and_are_chosen() {
    check(
        "
        XADD s 5-1 a 1 => 5-1
        XADD s 5-* a 2 => 5-2
        XADD s 5 a 3 => ERR The ID specified in XADD is equal or smaller than the target stream top item
        XADD s 6-* a 3 => 6-0
        XADD s 7 a 4 => 7-0
        XADD s 0-0 a 1 => ERR The ID specified in XADD must be greater than 0-0
        XADD new 0 a 1 => ERR The ID specified in XADD must be greater than 0-0
        XADD new 0-* a 1 => 0-1
        XADD s - a 1 => ERR Invalid stream ID specified as stream command argument
        XADD s * a => ERR wrong number of arguments for 'xadd' command
        XADD none NOMKSTREAM * a 1 => (nil)
        EXISTS none => 0
        XADD s 18446744073709551615-18446744073709551614 a 1 => 18446744073709551615-18446744073709551614
        XADD s * a 1 => 18446744073709551615-18446744073709551615
        XADD s * a 1 => ERR The stream has exhausted the last possible ID, unable to add more items
        XLEN s => 6
    ",
    );
}

#[test]
fn ranges_go_both_ways_and_may_leave_ends_out() {
    check(
        "
        XADD s 1-1 a 1
        XADD s 1-2 a 007 b text
        XADD s 2-0 c -5
        XRANGE s - + => [[1-1, [a, 1]], [1-2, [a, 007, b, text]], [2-0, [c, -5]]]
        XREVRANGE s + - COUNT 2 => [[2-0, [c, -5]], [1-2, [a, 007, b, text]]]
        XRANGE s (1-1 (2-0 => [[1-2, [a, 007, b, text]]]
        XRANGE s 1 1 COUNT 1 => [[1-1, [a, 1]]]
        XRANGE s 2 1 => []
        XRANGE s - + COUNT 0 => (nil)
        XRANGE s - + COUNT -1 => (nil)
        XRANGE none - + COUNT 0 => []
        XRANGE s - + COUNT => ERR syntax error
        XRANGE s (18446744073709551615-18446744073709551615 + => ERR invalid start ID for the interval
        XRANGE s - (0-0 => ERR invalid end ID for the interval
        XRANGE s (- + => ERR Invalid stream ID specified as stream command argument
    ",
    );
}

#[test]
fn trimming_keeps_the_newest() {
    check(
        "
        XADD s 1-0 a 1
        XADD s 2-0 a 2
        XADD s 3-0 a 3
        XADD s MAXLEN 2 4-0 a 4 => 4-0
        XRANGE s - + => [[3-0, [a, 3]], [4-0, [a, 4]]]
        XTRIM s MINID 4 => 1
        XTRIM s MAXLEN ~ 0 LIMIT 1 => 1
        XLEN s => 0
        EXISTS s => 1
        XADD s 4-0 a 1 => ERR The ID specified in XADD is equal or smaller than the target stream top item
        XTRIM s MAXLEN 1 MINID 1 => ERR syntax error, MAXLEN and MINID options at the same time are not compatible
        XTRIM s MAXLEN 1 LIMIT 1 => ERR syntax error, LIMIT cannot be used without the special ~ option
        XTRIM s LIMIT 1 => ERR syntax error, LIMIT cannot be used without specifying a trimming strategy
        XTRIM s LIMIT 0 => ERR syntax error, XTRIM must be called with a trimming strategy
        XTRIM s MAXLEN -1 => ERR The MAXLEN argument must be >= 0.
    ",
    );
}

#[test]
fn deleting_and_setting_ids_is_remembered() {
    check(
        "
        XADD s 1-0 a 1
        XADD s 2-0 a 2
        XDEL s 2-0 9-9 2-0 => 1
        XADD s 2-0 a 2 => ERR The ID specified in XADD is equal or smaller than the target stream top item
        XINFO STREAM s => [length, 1, radix-tree-keys, 1, radix-tree-nodes, 2, last-generated-id, 2-0, max-deleted-entry-id, 2-0, entries-added, 2, recorded-first-entry-id, 1-0, groups, 0, first-entry, [1-0, [a, 1]], last-entry, [1-0, [a, 1]]]
        XSETID s 0-1 => ERR The ID specified in XSETID is smaller than current max_deleted_entry_id
        XSETID s 5-0 ENTRIESADDED 7 MAXDELETEDID 3-0 => OK
        XSETID s 2-0 => ERR The ID specified in XSETID is smaller than current max_deleted_entry_id
        XSETID s 5-0 ENTRIESADDED 0 => ERR The entries_added specified in XSETID is smaller than the target stream length
        XSETID none 5-0 => ERR no such key
        XADD s 5-* a 3 => 5-1
    ",
    );
}

#[test]
fn several_streams_are_read_at_once() {
    check(
        "
        XADD s 1-0 a 1
        XADD t 2-0 b 2
        XREAD COUNT 1 STREAMS s t 0 0 => [[s, [[1-0, [a, 1]]]], [t, [[2-0, [b, 2]]]]]
        XREAD STREAMS s t 1-0 1 => [[t, [[2-0, [b, 2]]]]]
        XREAD STREAMS s t $ $ => (nil)
        XREAD STREAMS s + => [[s, [[1-0, [a, 1]]]]]
        XREAD STREAMS none + => (nil)
        XREAD STREAMS s t 0 => ERR Unbalanced 'xread' list of streams: for each stream key an ID or '$' must be specified.
        XREAD STREAMS s > => ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.
        XREAD BLOCK x STREAMS s 0 => ERR timeout is not an integer or out of range
        XREAD BLOCK -1 STREAMS s 0 => ERR timeout is negative
        XREAD COUNT 1 BLOCK 1 => ERR syntax error
        HELLO 3 => *
        XREAD STREAMS s t 0 0 => {s: [[1-0, [a, 1]]], t: [[2-0, [b, 2]]]}
    ",
    );
}

#[test]
fn nothing_waits_in_a_transaction() {
    check(
        "
        XADD s 1-0 a 1
        XGROUP CREATE s g $
        MULTI
        XREAD BLOCK 0 STREAMS s $
        XREADGROUP GROUP g c BLOCK 0 STREAMS s >
        EXEC => [(nil), (nil)]
    ",
    );
}

#[test]
fn whoever_waits_as_a_group_is_told_when_the_stream_or_the_group_is_gone() {
    let gone = "-NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option";
    let retyped = "-WRONGTYPE Operation against a key holding the wrong kind of value";
    let ends = [
        (&["SET s x"][..], retyped),
        (&["DEL s"], gone),
        (&["UNLINK s"], gone),
        (&["RENAME s t"], gone),
        (&["FLUSHALL"], gone),
        (&["MULTI", "DEL s", "SADD s member", "EXEC"], retyped),
        (&["XGROUP DESTROY s g"], gone),
    ];
    let mut test = Waiting::new();
    for (commands, told) in ends {
        test.call("DEL s t");
        test.call("XGROUP CREATE s g $ MKSTREAM");
        let waiter = test.wait("XREADGROUP GROUP g c BLOCK 0 STREAMS s >");
        for command in commands {
            test.call(command);
        }
        assert_eq!(test.answer(waiter), Reply::Line(told.into()), "{commands:?}");
    }
}

#[test]
fn whoever_waits_for_a_stream_goes_on_waiting_when_another_takes_its_place() {
    let mut test = Waiting::new();
    test.call("XADD s 5-0 a 1");
    let waiter = test.wait("XREAD BLOCK 0 STREAMS s $");
    for command in ["SET s x", "DEL s", "XADD s 4-0 a 1", "XADD s 6-0 a 2"] {
        test.call(command);
    }
    let entry = Reply::Many('*', vec![bulk("6-0"), Reply::Many('*', vec![bulk("a"), bulk("2")])]);
    let stream = Reply::Many('*', vec![bulk("s"), Reply::Many('*', vec![entry])]);
    assert_eq!(test.answer(waiter), Reply::Many('*', vec![stream]));
}

#[test]
fn a_group_delivers_each_entry_once() {
    check(
        "
        XGROUP CREATE s g $ => ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to create an empty stream automatically.
        XGROUP CREATE s g $ MKSTREAM => OK
        XGROUP CREATE s g $ => BUSYGROUP Consumer Group name already exists
        XADD s 1-0 a 1
        XADD s 2-0 a 2
        XADD s 3-0 a 3
        XREADGROUP GROUP g alice COUNT 1 STREAMS s > => [[s, [[1-0, [a, 1]]]]]
        XREADGROUP GROUP g bob COUNT 1 STREAMS s > => [[s, [[2-0, [a, 2]]]]]
        XREADGROUP GROUP g bob NOACK STREAMS s > => [[s, [[3-0, [a, 3]]]]]
        XREADGROUP GROUP g bob STREAMS s > => (nil)
        XREADGROUP GROUP g bob STREAMS s 0 => [[s, [[2-0, [a, 2]]]]]
        XDEL s 2-0 => 1
        XREADGROUP GROUP g bob STREAMS s 0 => [[s, [[2-0, (nil)]]]]
        XREADGROUP GROUP g carol STREAMS s 0 => [[s, []]]
        XPENDING s g => [2, 1-0, 2-0, [[alice, 1], [bob, 1]]]
        XACK s g 1-0 1-0 7-7 => 1
        XPENDING s g - + 10 alice => []
        XGROUP DELCONSUMER s g bob => 1
        XPENDING s g => [0, (nil), (nil), (nil)]
        XREADGROUP GROUP none bob STREAMS s > => NOGROUP No such key 's' or consumer group 'none' in XREADGROUP with GROUP option
        XREADGROUP GROUP g bob STREAMS s $ => *
        XGROUP SETID s g 0 => OK
        XREADGROUP GROUP g bob COUNT 1 STREAMS s > => [[s, [[1-0, [a, 1]]]]]
        XGROUP DESTROY s g => 1
        XGROUP DESTROY s g => 0
    ",
    );
}

#[test]
fn what_waits_too_long_is_claimed() {
    check(
        "
        XADD s 1-0 a 1
        XADD s 2-0 a 2
        XADD s 3-0 a 3
        XGROUP CREATE s g 0
        XREADGROUP GROUP g alice STREAMS s > => *
        XCLAIM s g bob 100000 1-0 => []
        XCLAIM s g bob 0 1-0 9-9 => [[1-0, [a, 1]]]
        XCLAIM s g bob 0 1-0 JUSTID RETRYCOUNT 5 => [1-0]
        XDEL s 2-0 => 1
        XAUTOCLAIM s g carol 0 0 COUNT 2 JUSTID => [3-0, [1-0], [2-0]]
        XAUTOCLAIM s g carol 0 3-0 => [0-0, [[3-0, [a, 3]]], []]
        XPENDING s g => [2, 1-0, 3-0, [[carol, 2]]]
        XACK s g 1-0 => 1
        XCLAIM s g carol 0 1-0 => []
        XCLAIM s g carol 0 1-0 FORCE JUSTID => [1-0]
        XCLAIM s g carol x 1-0 => ERR Invalid min-idle-time argument for XCLAIM
        XCLAIM s g carol 0 1-0 SOON => ERR Unrecognized XCLAIM option 'SOON'
        XAUTOCLAIM s g carol 0 0 COUNT 0 => ERR COUNT must be > 0
        XAUTOCLAIM s none carol 0 0 => NOGROUP No such key 's' or consumer group 'none'
    ",
    );
}

#[test]
fn groups_tell_how_far_they_are() {
    check(
        "
        XADD s 1-0 a 1
        XADD s 2-0 a 2
        XGROUP CREATE s g 0
        XGROUP CREATE s at 2-0 ENTRIESREAD 2
        XGROUP CREATECONSUMER s g alice => 1
        XGROUP CREATECONSUMER s g alice => 0
        XINFO GROUPS s => [[name, at, consumers, 0, pending, 0, last-delivered-id, 2-0, entries-read, 2, lag, 0], [name, g, consumers, 1, pending, 0, last-delivered-id, 0-0, entries-read, (nil), lag, 2]]
        XREADGROUP GROUP g alice COUNT 1 STREAMS s > => *
        XADD s 3-0 a 3
        XDEL s 2-0
        XINFO GROUPS s => [[name, at, consumers, 0, pending, 0, last-delivered-id, 2-0, entries-read, 2, lag, (nil)], [name, g, consumers, 1, pending, 1, last-delivered-id, 1-0, entries-read, 1, lag, (nil)]]
        XINFO CONSUMERS s none => NOGROUP No such consumer group 'none' for key name 's'
        XINFO STREAM s FULL COUNT 1 EXTRA => ERR unknown subcommand or wrong number of arguments for 'STREAM'. Try XINFO HELP.
        XINFO STREAM none => ERR no such key
        XGROUP CREATE s x 0 ENTRIESREAD -2 => ERR value for ENTRIESREAD must be positive or -1
        SET str x
        XINFO STREAM str => WRONGTYPE Operation against a key holding the wrong kind of value
        XADD str * a 1 => WRONGTYPE Operation against a key holding the wrong kind of value
    ",
    );
}

/// As Redis since 7.2, also where nothing came of it.
#[test]
fn a_consumer_is_made_when_it_is_named() {
    for asks in [
        "XREADGROUP GROUP g new STREAMS s >",
        "XREADGROUP GROUP g new STREAMS s 0",
        "XCLAIM s g new 0 9-9",
        "XCLAIM s g new 1000000 1-1",
        "XAUTOCLAIM s g new 1000000 0",
    ] {
        check(&format!(
            "
            XADD s 1-1 f v
            XGROUP CREATE s g 0
            XREADGROUP GROUP g c STREAMS s >
            {asks} => *
            XGROUP CREATECONSUMER s g new => 0
        "
        ));
    }
}

#[test]
fn entries_are_removed_with_regard_to_the_groups() {
    check(
        "
        XADD s 1-0 a 1
        XADD s 2-0 a 2
        XADD s 3-0 a 3
        XDELEX s ACKED IDS 2 1-0 9-0 => [2, -1]
        XGROUP CREATE s g 0
        XGROUP CREATE s h 0
        XREADGROUP GROUP g c COUNT 2 STREAMS s >
        XREADGROUP GROUP h c COUNT 2 STREAMS s >
        XACK s g 1-0
        XDELEX s ACKED IDS 2 1-0 3-0 => [2, 2]
        XACK s h 1-0
        XDELEX s IDS 2 1-0 3-0 ACKED => [1, 2]
        XDELEX s IDS 1 2-0 => [1]
        XPENDING s g => [1, 2-0, 2-0, [[c, 1]]]
        XDELEX s DELREF IDS 1 2-0 => [-1]
        XPENDING s g => [0, (nil), (nil), (nil)]
        XPENDING s h => [0, (nil), (nil), (nil)]
        XREADGROUP GROUP g c STREAMS s >
        XDELEX s DELREF IDS 2 3-0 3-0 => [1, -1]
        XPENDING s g => [0, (nil), (nil), (nil)]
        XLEN s => 0
        XDELEX nothing IDS 2 1-0 2-0 => [-1, -1]
        EXISTS nothing => 0
    ",
    );
}

#[test]
fn entries_are_acknowledged_and_removed_at_once() {
    check(
        "
        XADD s 1-0 a 1
        XADD s 2-0 a 2
        XADD s 3-0 a 3
        XGROUP CREATE s g 0
        XGROUP CREATE s h 0
        XACKDEL s g IDS 1 1-0 => [-1]
        XREADGROUP GROUP g c STREAMS s >
        XREADGROUP GROUP h c STREAMS s >
        XACKDEL s g ACKED IDS 1 1-0 => [2]
        XACKDEL s g ACKED IDS 1 1-0 => [-1]
        XACKDEL s h ACKED IDS 1 1-0 => [1]
        XACKDEL s g IDS 1 2-0 => [1]
        XPENDING s h => [2, 2-0, 3-0, [[c, 2]]]
        XACKDEL s g DELREF IDS 2 3-0 3-0 => [1, -1]
        XPENDING s g => [0, (nil), (nil), (nil)]
        XPENDING s h => [1, 2-0, 2-0, [[c, 1]]]
        XLEN s => 0
        XACKDEL s nogroup IDS 1 2-0 => [-1]
        XACKDEL nothing g IDS 1 2-0 => [-1]
    ",
    );
}

#[test]
fn what_is_to_be_removed_is_told_correctly() {
    check(
        "
        XADD s 1-0 a 1
        XDELEX s IDS 0 1-0 => ERR Number of IDs must be a positive integer
        XDELEX s IDS x 1-0 => ERR Number of IDs must be a positive integer
        XDELEX s IDS 9223372036854775807 1-0 => ERR The `numids` parameter must match the number of arguments
        XDELEX s IDS 2 1-0 => ERR The `numids` parameter must match the number of arguments
        XDELEX s IDS 1 1-0 2-0 => ERR syntax error
        XDELEX s DELREF ACKED IDS 1 1-0 => ERR syntax error
        XDELEX s IDS 1 x => ERR Invalid stream ID specified as stream command argument
        XDELEX s DELREF 1-0 2-0 => ERR syntax error
        XDELEX s IDS 1 => ERR wrong number of arguments for 'xdelex' command
        XACKDEL s g IDS 1 => ERR wrong number of arguments for 'xackdel' command
        SET text x
        XDELEX text IDS 1 1-0 => WRONGTYPE Operation against a key holding the wrong kind of value
        XACKDEL text g IDS 1 1-0 => WRONGTYPE Operation against a key holding the wrong kind of value
        XLEN s => 1
    ",
    );
}
