//! Transactions: queued, run as one, refused when a watched key changed.

use crate::script::check;

#[test]
fn queued_commands_run_at_exec_and_their_errors_stay_theirs() {
    check(
        "
        MULTI => OK
        SET a x => QUEUED
        INCR a => QUEUED
        GET a => QUEUED
        EXEC => [OK, ERR value is not an integer or out of range, x]
        MULTI
        NOSUCH => *
        EXEC => EXECABORT Transaction discarded because of previous errors.
        EXEC => ERR EXEC without MULTI
    ",
    );
}

#[test]
fn exec_fails_when_a_watched_key_changed() {
    check(
        "
        a: SET k 1
        a: WATCH k => OK
        b: SET k 2 => OK
        a: MULTI
        a: SET k 3 => QUEUED
        a: EXEC => (nil)
        a: GET k => 2
        a: WATCH k
        a: MULTI
        a: SET k 3
        a: EXEC => [OK]
    ",
    );
}

#[test]
fn subscriptions_begin_within_a_transaction() {
    check(
        "
        MULTI
        SUBSCRIBE news => QUEUED
        PSUBSCRIBE n* => QUEUED
        SET a 1 => QUEUED
        EXEC => [[subscribe, news, 1], [psubscribe, n*, 2], OK]
        GET a => ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context
        b: MULTI
        b: SSUBSCRIBE news => QUEUED
        b: EXEC => [ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client]
    ",
    );
}

/// To WATCH, a stream is its entries; groups are who reads them.
#[test]
fn what_changes_only_the_groups_of_a_stream_is_no_change_to_whoever_watches_it() {
    for change in [
        "XSETID s 5-5",
        "XGROUP CREATE s other 0",
        "XGROUP DESTROY s g",
        "XGROUP SETID s g 0",
        "XGROUP CREATECONSUMER s g new",
        "XGROUP DELCONSUMER s g c",
        "XACK s g 1-1",
        "XREADGROUP GROUP g new STREAMS s >",
        "XCLAIM s g new 0 1-1",
        "XAUTOCLAIM s g new 0 0",
    ] {
        check(&format!(
            "
            XADD s 1-1 f v
            XADD s 1-2 f v
            XGROUP CREATE s g 0
            XREADGROUP GROUP g c COUNT 1 STREAMS s >
            WATCH s
            b: {change} => *
            MULTI
            PING
            EXEC => [PONG]
            WATCH s
            b: XADD s 9-9 f v
            MULTI
            PING
            EXEC => (nil)
        "
        ));
    }
}

#[test]
fn a_trim_that_removes_nothing_is_a_change_to_whoever_watches_the_list() {
    check(
        "
        RPUSH l a
        WATCH l
        b: LTRIM l 0 -1 => OK
        MULTI
        PING
        EXEC => (nil)
    ",
    );
}
