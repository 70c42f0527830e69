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
