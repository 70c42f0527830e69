//! Lists: both ends, the middle, moves between lists, and waiting for elements.

use crate::commands::waiting::{Waiting, bulk};
use crate::process::{Connection, Reply};
use crate::script::check;

#[test]
fn pushes_and_pops_work_at_both_ends() {
    check(
        "
        RPUSH l a b c => 3
        LPUSH l 1 2 => 5
        LRANGE l 0 -1 => [2, 1, a, b, c]
        LPOP l => 2
        RPOP l => c
        RPOP l 2 => [b, a]
        LPOP l 9 => [1]
        EXISTS l => 0
        LPOP l => (nil)
        LPOP l 2 => (nil)
        LPUSHX l a => 0
        RPUSHX l a => 0
        LLEN l => 0
    ",
    );
}

#[test]
fn counts_are_checked_before_anything_else() {
    check(
        "
        SET s x
        RPUSH l a
        LPOP l -1 => ERR value is out of range, must be positive
        LPOP s x => ERR value is out of range, must be positive
        LPOP l 1 1 => ERR wrong number of arguments for 'lpop' command
        LPOP l 0 => []
        LPOP nokey 0 => (nil)
        LPOP s 0 => WRONGTYPE Operation against a key holding the wrong kind of value
        LPOP l 9223372036854775807 => [a]
        LRANGE s 0 x => ERR value is not an integer or out of range
        LTRIM nokey x 0 => ERR value is not an integer or out of range
        LINDEX nokey x => (nil)
        LSET nokey x v => ERR no such key
    ",
    );
}

#[test]
fn positions_may_count_from_the_tail() {
    check(
        "
        RPUSH l a b c d e => 5
        LRANGE l -3 -2 => [c, d]
        LRANGE l -100 100 => [a, b, c, d, e]
        LRANGE l 3 1 => []
        LRANGE l 5 9 => []
        LRANGE l -9223372036854775808 9223372036854775807 => [a, b, c, d, e]
        LINDEX l -1 => e
        LINDEX l 5 => (nil)
        LINDEX l -6 => (nil)
        LSET l -2 x => OK
        LSET l 5 x => ERR index out of range
        LSET l -9223372036854775808 x => ERR index out of range
        LTRIM l 1 -2 => OK
        LRANGE l 0 -1 => [b, c, x]
        LTRIM l 2 1 => OK
        EXISTS l => 0
    ",
    );
}

#[test]
fn elements_are_inserted_beside_a_pivot_and_removed_by_value() {
    check(
        "
        RPUSH l a 10 a b a => 5
        LINSERT l BEFORE 10 x => 6
        LINSERT l after 10 y => 7
        LRANGE l 0 -1 => [a, x, 10, y, a, b, a]
        LINSERT l before nothing y => -1
        LINSERT nokey before a y => 0
        LINSERT l beside a y => ERR syntax error
        LREM l -2 a => 2
        LRANGE l 0 -1 => [a, x, 10, y, b]
        LREM l 1 010 => 0
        LREM l 0 10 => 1
        LREM l -9223372036854775808 a => ERR value is out of range, must be between -9223372036854775807 and 9223372036854775807
        LREM l 0 a => 1
        LRANGE l 0 -1 => [x, y, b]
    ",
    );
}

#[test]
fn lpos_tells_which_matches_are_asked_for() {
    check(
        "
        RPUSH l a b c 1 2 3 c c => 8
        LPOS l c => 2
        LPOS l c RANK 2 => 6
        LPOS l c RANK -1 => 7
        LPOS l c RANK 4 => (nil)
        LPOS l c COUNT 0 => [2, 6, 7]
        LPOS l c COUNT 2 RANK -1 => [7, 6]
        LPOS l c COUNT 0 MAXLEN 7 => [2, 6]
        LPOS l c COUNT 0 MAXLEN 1 => []
        LPOS l x COUNT 2 => []
        LPOS nokey x => (nil)
        LPOS nokey x COUNT 1 => []
        LPOS l c RANK 0 => ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list
        LPOS l c COUNT -1 => ERR COUNT can't be negative
        LPOS l c MAXLEN x => ERR MAXLEN can't be negative
        LPOS l c RANK => ERR syntax error
        LPOS l c RANK 9223372036854775807 => (nil)
    ",
    );
}

#[test]
fn an_element_moves_between_lists_or_around_one() {
    check(
        "
        RPUSH a 1 2 3 => 3
        LMOVE a b LEFT RIGHT => 1
        RPOPLPUSH a b => 3
        LRANGE b 0 -1 => [3, 1]
        LMOVE b b left right => 3
        LRANGE b 0 -1 => [1, 3]
        LMOVE a b right left => 2
        EXISTS a => 0
        LMOVE a b right left => (nil)
        LMOVE a b right middle => ERR syntax error
        SET s x
        LMOVE b s right left => WRONGTYPE Operation against a key holding the wrong kind of value
        LMOVE a s right left => (nil)
        LRANGE b 0 -1 => [2, 1, 3]
        RPUSH one x
        RPOPLPUSH one one => x
        LRANGE one 0 -1 => [x]
    ",
    );
}

#[test]
fn lmpop_takes_from_the_first_list_that_is_there() {
    check(
        "
        RPUSH l a b c => 3
        LMPOP 2 nokey l LEFT => [l, [a]]
        LMPOP 1 l RIGHT COUNT 9 => [l, [c, b]]
        LMPOP 1 l RIGHT => (nil)
        SET s x
        LMPOP 2 s l LEFT => WRONGTYPE Operation against a key holding the wrong kind of value
        LMPOP 0 l LEFT => ERR numkeys should be greater than 0
        LMPOP 9223372036854775807 l LEFT => ERR syntax error
        LMPOP 1 l LEFT COUNT 0 => ERR count should be greater than 0
        LMPOP 1 l LEFT COUNT 1 COUNT 1 => ERR syntax error
        LMPOP 1 l MIDDLE => ERR syntax error
    ",
    );
}

#[test]
fn blocking_commands_answer_at_once_where_they_can() {
    check(
        "
        RPUSH l a b c d e f => 6
        BLPOP nokey l 0 => [l, a]
        BRPOP l nokey 0.5 => [l, f]
        BLMOVE l m LEFT LEFT 0 => b
        BRPOPLPUSH l m 0 => e
        BLMPOP 0 1 l LEFT COUNT 5 => [l, [c, d]]
        BLPOP l x => ERR timeout is not a float or out of range
        BLPOP l -1 => ERR timeout is negative
        BLPOP l inf => ERR timeout is negative
        BLPOP l 9223372036854776 => ERR timeout is negative
        CLIENT PAUSE 9223372036854775807 => ERR timeout is out of range
        CLIENT PAUSE 9223372036854775808 => ERR timeout is not an integer or out of range
        PING => PONG
        BLMPOP x 0 l LEFT => ERR numkeys should be greater than 0
        BLMPOP x 1 l LEFT => ERR timeout is not a float or out of range
        BLMOVE l m LEFT MIDDLE x => ERR syntax error
        SET s x
        BLPOP nokey s 0 => WRONGTYPE Operation against a key holding the wrong kind of value
        BLMOVE m s LEFT LEFT 0 => WRONGTYPE Operation against a key holding the wrong kind of value
    ",
    );
}

#[test]
fn nothing_waits_in_a_transaction() {
    check(
        "
        MULTI
        BLPOP l 0
        BLMOVE l m LEFT LEFT 0
        BLMPOP 0 1 l LEFT
        EXEC => [(nil), (nil), (nil)]
    ",
    );
}

fn pair(key: &str, element: &str) -> Reply {
    Reply::Many('*', vec![bulk(key), bulk(element)])
}

#[test]
fn fifty_waiters_are_served_in_the_order_they_came() {
    let mut test = Waiting::new();
    let waiters: Vec<Connection> = (0..50).map(|n| test.wait(["BLPOP other l 0", "BRPOP l other 0"][n % 2])).collect();
    let elements: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    test.call(&format!("RPUSH l {}", elements.join(" ")));
    let answers: Vec<Reply> = waiters.into_iter().map(|waiter| test.answer(waiter)).collect();
    let expected: Vec<Reply> =
        (0..50).map(|n| if n % 2 == 0 { n / 2 } else { 49 - n / 2 }).map(|n| pair("l", &n.to_string())).collect();
    assert_eq!(answers, expected);
    assert_eq!(test.call("EXISTS l"), Reply::Line(":0".into()));
}

#[test]
fn an_element_moved_for_one_waiter_wakes_the_next() {
    let mut test = Waiting::new();
    let first = test.wait("BLMOVE a b LEFT RIGHT 0");
    let second = test.wait("BRPOPLPUSH b c 0");
    let third = test.wait("BLMPOP 0 2 other c LEFT COUNT 5");
    test.call("RPUSH a x");
    assert_eq!(test.answer(first), bulk("x"));
    assert_eq!(test.answer(second), bulk("x"));
    assert_eq!(test.answer(third), Reply::Many('*', vec![bulk("c"), Reply::Many('*', vec![bulk("x")])]));
}

#[test]
fn a_waiter_is_not_disturbed_by_other_types_but_told_of_a_wrong_destination() {
    let mut test = Waiting::new();
    let patient = test.wait("BLPOP other l 0");
    test.call("SET other x");
    test.call("SET l x");
    test.call("DEL l");
    test.call("RPUSH l y");
    assert_eq!(test.answer(patient), pair("l", "y"));

    let misled = test.wait("BLMOVE l other LEFT LEFT 0");
    test.call("RPUSH l z");
    assert!(matches!(test.answer(misled), Reply::Line(line) if line.starts_with("-WRONGTYPE")));
    assert_eq!(test.call("LRANGE l 0 -1"), Reply::Many('*', vec![bulk("z")]));
}

#[test]
fn a_wait_ends_when_its_time_is_over() {
    let mut test = Waiting::new();
    for command in ["BLPOP l 0.01", "BLMOVE l m LEFT LEFT 0.01", "BRPOPLPUSH l m 0.01", "BLMPOP 0.01 1 l LEFT"] {
        assert_eq!(test.call(command), Reply::Line("*-1".into()), "{command}");
    }
}
