//! Sets: members, random ones, and what several sets have in common.

use crate::script::check;

#[test]
fn members_are_added_and_removed_once() {
    check(
        "
        SADD s a b a => 2
        SADD s b c => 1
        SCARD s => 3
        SMEMBERS s => [a, b, c]
        SISMEMBER s a => 1
        SISMEMBER s x => 0
        SMISMEMBER s a x c => [1, 0, 1]
        SMISMEMBER nothing a b => [0, 0]
        SREM s a x => 1
        SREM s b c => 2
        EXISTS s => 0
        SREM s b => 0
        SCARD s => 0
        SMEMBERS s => []
    ",
    );
}

#[test]
fn integers_come_in_order() {
    check(
        "
        SADD s 5 -3 70000 0 9223372036854775807 -9223372036854775808 => 6
        SMEMBERS s => [-9223372036854775808, -3, 0, 5, 70000, 9223372036854775807]
        SISMEMBER s 05 => 0
        SADD s 05 => 1
        SISMEMBER s 5 => 1
        SCARD s => 7
    ",
    );
}

#[test]
fn another_kind_of_value_is_refused() {
    check(
        "
        SET text x
        SADD s a
        SADD text a => WRONGTYPE Operation against a key holding the wrong kind of value
        SMOVE s text a => WRONGTYPE Operation against a key holding the wrong kind of value
        SMOVE nothing text a => 0
        SINTER nothing text => WRONGTYPE Operation against a key holding the wrong kind of value
        SUNIONSTORE text s s => 1
        SMEMBERS text => [a]
    ",
    );
}

#[test]
fn a_member_moves_and_an_empty_set_goes() {
    check(
        "
        SADD a 1 x
        SADD b 2
        SMOVE a b x => 1
        SMOVE a b x => 0
        SMOVE a b 1 => 1
        EXISTS a => 0
        SMOVE b b 2 => 1
        SMOVE b b nothing => 0
        SCARD b => 3
    ",
    );
}

#[test]
fn random_members_are_different_or_as_many_as_asked() {
    check(
        "
        SADD s a
        SRANDMEMBER s => a
        SRANDMEMBER s 5 => [a]
        SRANDMEMBER s 0 => []
        SRANDMEMBER s -3 => [a, a, a]
        SRANDMEMBER s -9223372036854775808 => ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807
        SRANDMEMBER s -9223372036854775807 => ERR value is out of range
        SRANDMEMBER s 9223372036854775807 => [a]
        SRANDMEMBER s x => ERR value is not an integer or out of range
        SRANDMEMBER s 1 2 => ERR syntax error
        SRANDMEMBER nothing => (nil)
        SRANDMEMBER nothing 3 => []
    ",
    );
}

#[test]
fn popped_members_are_gone() {
    check(
        "
        SADD s a
        SPOP s => a
        EXISTS s => 0
        SPOP s => (nil)
        SPOP s 3 => []
        SADD s 1 2 3
        SPOP s 0 => []
        SPOP s -1 => ERR value is out of range, must be positive
        SPOP s 2 => *
        SCARD s => 1
        SPOP s 9223372036854775807 => *
        EXISTS s => 0
    ",
    );
}

#[test]
fn sets_are_combined_and_stored() {
    check(
        "
        SADD a 1 2 3 4
        SADD b 3 4 5
        SADD c 4 x
        SINTER a b => [3, 4]
        SINTER a b c => [4]
        SINTER a nothing => []
        SUNION a b => [1, 2, 3, 4, 5]
        SDIFF a b => [1, 2]
        SDIFF a b c nothing => [1, 2]
        SDIFF nothing a => []
        SINTERSTORE d a b => 2
        SMEMBERS d => [3, 4]
        SDIFFSTORE d a b => 2
        SUNIONSTORE d d b => 5
        SINTERSTORE d a nothing => 0
        EXISTS d => 0
        SINTERCARD 2 a b => 2
        SINTERCARD 2 a b LIMIT 1 => 1
        SINTERCARD 2 a b LIMIT 0 => 2
        SINTERCARD 0 a => ERR numkeys should be greater than 0
        SINTERCARD 3 a b => ERR Number of keys can't be greater than number of args
        SINTERCARD 2 a b LIMIT -1 => ERR LIMIT can't be negative
        SINTERCARD 2 a b LIMIT => ERR syntax error
    ",
    );
}

#[test]
fn a_small_set_is_walked_at_once() {
    check(
        "
        SADD s 1 a b
        SSCAN s 0 => [0, [1, a, b]]
        SSCAN s 0 MATCH a* COUNT 1 => [0, [a]]
        SSCAN nothing 0 BAD => [0, []]
        SSCAN s x => ERR invalid cursor
        SSCAN s 0 COUNT 0 => ERR syntax error
        SSCAN s 0 NOSCORES => ERR NOSCORES option can only be used in ZSCAN
        SSCAN s 0 NOVALUES => ERR NOVALUES option can only be used in HSCAN
    ",
    );
}
