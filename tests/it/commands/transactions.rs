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
