//! Sorted sets: scores and ranks, ranges of three kinds, taking from the ends, what several of them have in common.

use crate::script::check;

#[test]
fn members_get_scores_and_keep_their_order() {
    check(
        "
        ZADD z 2 b 1 a 3 c => 3
        ZADD z 2.5 b 4 d => 1
        ZADD z CH 3.5 b 4 d => 1
        ZRANGE z 0 -1 WITHSCORES => [a, 1, c, 3, b, 3.5, d, 4]
        ZSCORE z b => 3.5
        ZSCORE z x => (nil)
        ZMSCORE z a x d => [1, (nil), 4]
        ZMSCORE nothing a => [(nil)]
        ZCARD z => 4
        ZRANK z b => 2
        ZREVRANK z b => 1
        ZRANK z x => (nil)
        ZRANK z b WITHSCORE => [2, 3.5]
        ZREVRANK z x WITHSCORE => (nil)
        ZRANK z b WITHSCORES => ERR syntax error
        ZREM z a x c => 2
        ZREM z b d => 2
        EXISTS z => 0
    ",
    );
}

#[test]
fn conditions_decide_which_scores_change() {
    check(
        "
        ZADD z XX 1 a => 0
        EXISTS z => 0
        ZADD z NX 1 a => 1
        ZADD z NX CH 2 a 2 b => 1
        ZADD z XX CH 5 a 5 c => 1
        ZADD z GT CH 4 a 3 b => 1
        ZADD z LT CH 6 a 1 b => 1
        ZRANGE z 0 -1 WITHSCORES => [b, 1, a, 5]
        ZADD z INCR 2 a => 7
        ZADD z NX INCR 2 a => (nil)
        ZADD z GT INCR -2 a => (nil)
        ZADD z XX INCR 2 x => (nil)
        ZADD z XX NX 1 a => ERR XX and NX options at the same time are not compatible
        ZADD z GT NX 1 a => ERR GT, LT, and/or NX options at the same time are not compatible
        ZADD z GT LT 1 a => ERR GT, LT, and/or NX options at the same time are not compatible
        ZADD z INCR 1 a 2 b => ERR INCR option supports a single increment-element pair
        ZADD z 1 a 2 => ERR syntax error
        ZADD z NX 1 => ERR syntax error
        ZADD z 1 a nan b => ERR value is not a valid float
        ZSCORE z a => 7
    ",
    );
}

#[test]
fn sums_may_be_infinite_but_not_nothing() {
    check(
        "
        ZINCRBY z 1.5 a => 1.5
        ZINCRBY z 0x10 a => 17.5
        ZINCRBY z inf a => inf
        ZINCRBY z 1 a => inf
        ZINCRBY z -inf a => ERR resulting score is not a number (NaN)
        ZADD z INCR -inf a => ERR resulting score is not a number (NaN)
        ZINCRBY z 1e400 a => ERR value is not a valid float
        ZINCRBY z x a => ERR value is not a valid float
        ZADD z -inf b 1e15 c 0.1 d 123456789012345678 e
        ZRANGE z 0 -1 WITHSCORES => [b, -inf, d, 0.10000000000000001, c, 1000000000000000, e, 1.2345678901234568e+17, a, inf]
    ",
    );
}

#[test]
fn scores_are_doubles_and_pairs_are_nested_in_resp3() {
    check(
        "
        HELLO 3 => *
        ZADD z 1 a 2.5 b
        ZSCORE z b => 2.5
        ZRANGE z 0 -1 WITHSCORES => [[a, 1], [b, 2.5]]
        ZRANDMEMBER z 5 WITHSCORES => [[a, 1], [b, 2.5]]
        ZUNION 1 z WITHSCORES => [[a, 1], [b, 2.5]]
        ZPOPMIN z => [a, 1]
        ZPOPMAX z 1 => [[b, 2.5]]
        ZPOPMAX z 1 => []
        ZMPOP 1 z MIN => (nil)
        ZSCORE z x => (nil)
    ",
    );
}

#[test]
fn ranges_of_ranks_count_from_either_end() {
    check(
        "
        ZADD z 1 a 2 b 3 c 4 d
        ZRANGE z 1 2 => [b, c]
        ZRANGE z -2 -1 => [c, d]
        ZRANGE z 2 1 => []
        ZRANGE z 4 9 => []
        ZRANGE z -9 0 => [a]
        ZRANGE z 0 1 REV => [d, c]
        ZREVRANGE z 0 1 WITHSCORES => [d, 4, c, 3]
        ZRANGE z 0 1 LIMIT 0 1 => ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX
        ZREVRANGE z 0 1 REV => ERR syntax error
        ZRANGE z 0 x => ERR value is not an integer or out of range
        ZREMRANGEBYRANK z 1 -2 => 2
        ZREMRANGEBYRANK z 5 9 => 0
        ZRANGE z 0 -1 => [a, d]
    ",
    );
}

#[test]
fn ranges_of_scores_may_leave_out_their_ends() {
    check(
        "
        ZADD z 1 a 2 b 2 c 3 d inf e
        ZRANGEBYSCORE z 2 3 => [b, c, d]
        ZRANGEBYSCORE z (2 (inf => [d]
        ZRANGEBYSCORE z -inf +inf LIMIT 1 2 => [b, c]
        ZRANGEBYSCORE z -inf +inf LIMIT 3 -1 => [d, e]
        ZRANGEBYSCORE z -inf +inf LIMIT -1 2 => []
        ZREVRANGEBYSCORE z 3 2 WITHSCORES => [d, 3, c, 2, b, 2]
        ZREVRANGEBYSCORE z inf 0 LIMIT 1 2 => [d, c]
        ZRANGE z (3 1 BYSCORE REV => [c, b, a]
        ZRANGE z 3 2 BYSCORE => []
        ZCOUNT z 2 2 => 2
        ZCOUNT z (2 (2 => 0
        ZCOUNT nothing 0 1 => 0
        ZCOUNT z x 1 => ERR min or max is not a float
        ZRANGEBYSCORE z nan 1 => ERR min or max is not a float
        ZRANGEBYSCORE z 1 2 BYSCORE => ERR syntax error
        ZREMRANGEBYSCORE z (1 2 => 2
        ZRANGE z 0 -1 => [a, d, e]
    ",
    );
}

#[test]
fn ranges_of_names_go_by_bytes() {
    check(
        "
        ZADD z 0 a 0 b 0 c 0 d 0 e
        ZRANGEBYLEX z - + => [a, b, c, d, e]
        ZRANGEBYLEX z [b (d => [b, c]
        ZREVRANGEBYLEX z (d [b => [c, b]
        ZRANGE z + [c BYLEX REV LIMIT 1 1 => [d]
        ZRANGEBYLEX z + - => []
        ZLEXCOUNT z (a [c => 2
        ZLEXCOUNT z a c => ERR min or max not valid string range item
        ZRANGE z - + BYLEX WITHSCORES => ERR syntax error, WITHSCORES not supported in combination with BYLEX
        ZREMRANGEBYLEX z [b [d => 3
        ZRANGE z 0 -1 => [a, e]
    ",
    );
}

#[test]
fn a_large_one_answers_as_a_small_one_does() {
    let members: String = (0..300).map(|n| format!("{} m{n:03} ", n / 3)).collect();
    check(&format!(
        "
        ZADD z {members} => 300
        OBJECT ENCODING z => skiplist
        ZRANK z m100 => 100
        ZREVRANK z m100 WITHSCORE => [199, 33]
        ZRANGE z 33 33 BYSCORE => [m099, m100, m101]
        ZRANGE z 62 65 => [m062, m063, m064, m065]
        ZRANGE z 0 2 REV => [m299, m298, m297]
        ZCOUNT z 10 (20 => 30
        ZADD z 0 m299 -1 m150 => 0
        ZRANGE z 0 4 WITHSCORES => [m150, -1, m000, 0, m001, 0, m002, 0, m299, 0]
        ZREMRANGEBYRANK z 5 -2 => 294
        ZRANGE z 0 -1 => [m150, m000, m001, m002, m299, m298]
        OBJECT ENCODING z => skiplist
        ZADD y 1 a
        OBJECT ENCODING y => listpack
        ZADD y 1 {}
        OBJECT ENCODING y => skiplist
    ",
        "x".repeat(65)
    ));
}

#[test]
fn members_are_taken_from_the_ends() {
    check(
        "
        ZADD z 1 a 2 b 3 c 4 d 5 e
        ZPOPMIN z => [a, 1]
        ZPOPMAX z 2 => [e, 5, d, 4]
        ZPOPMIN z 0 => []
        ZPOPMIN z -1 => ERR value is out of range, must be positive
        ZPOPMIN z 1 2 => ERR syntax error
        ZMPOP 2 nothing z MAX COUNT 9 => [z, [[c, 3], [b, 2]]]
        EXISTS z => 0
        ZMPOP 2 nothing z MAX => (nil)
        ZMPOP 0 z MIN => ERR numkeys should be greater than 0
        ZMPOP 1 z MIN COUNT 0 => ERR count should be greater than 0
        ZMPOP 1 z MID => ERR syntax error
        ZMPOP 2 z MIN => ERR syntax error
        ZPOPMIN z => []
        SET s x
        ZPOPMIN s => WRONGTYPE Operation against a key holding the wrong kind of value
    ",
    );
}

#[test]
fn what_need_not_wait_does_not() {
    check(
        "
        ZADD z 1 a 2 b 3 c
        BZPOPMIN nothing z 0 => [z, a, 1]
        BZPOPMAX z 0 => [z, c, 3]
        BZMPOP 0 2 nothing z MIN COUNT 5 => [z, [[b, 2]]]
        BZPOPMIN z -1 => ERR timeout is negative
        BZPOPMIN z x => ERR timeout is not a float or out of range
        BZMPOP x 1 z MIN => ERR timeout is not a float or out of range
    ",
    );
}

#[test]
fn unions_and_intersections_weigh_and_aggregate() {
    check(
        "
        ZADD x 1 a 2 b
        ZADD y 10 b 20 c
        SADD s b d
        ZUNION 2 x y WITHSCORES => [a, 1, b, 12, c, 20]
        ZUNION 3 x y s WEIGHTS 2 1 -1 AGGREGATE MIN WITHSCORES => [b, -1, d, -1, a, 2, c, 20]
        ZINTER 2 x y AGGREGATE MAX WITHSCORES => [b, 10]
        ZINTER 3 x y s WITHSCORES => [b, 13]
        ZDIFF 2 x y WITHSCORES => [a, 1]
        ZDIFF 2 s x WITHSCORES => [d, 1]
        ZINTERCARD 2 x y => 1
        ZINTERCARD 2 x x LIMIT 1 => 1
        ZINTERCARD 1 x LIMIT -1 => ERR LIMIT can't be negative
        ZUNIONSTORE r 2 x nothing => 2
        ZINTERSTORE r 2 x y WEIGHTS inf 1 => 1
        ZRANGE r 0 -1 WITHSCORES => [b, inf]
        ZDIFFSTORE r 2 x x => 0
        EXISTS r => 0
        ZUNION 0 x => ERR at least 1 input key is needed for 'zunion' command
        ZUNIONSTORE r 0 x => ERR at least 1 input key is needed for 'zunionstore' command
        ZUNION 3 x y => ERR syntax error
        ZUNION 1 x WEIGHTS y => ERR weight value is not a float
        ZDIFF 1 x WEIGHTS 1 => ERR syntax error
        SET t x
        ZUNION 2 x t => WRONGTYPE Operation against a key holding the wrong kind of value
    ",
    );
}

#[test]
fn infinities_of_both_signs_make_zero() {
    check(
        "
        ZADD x inf a
        ZADD y -inf a
        ZUNION 2 x y WITHSCORES => [a, 0]
        ZINTER 2 x y WITHSCORES => [a, 0]
        ZUNION 1 x WEIGHTS 0 WITHSCORES => [a, 0]
    ",
    );
}

#[test]
fn ranges_are_stored_whatever_was_there() {
    check(
        "
        ZADD z 1 a 2 b 3 c
        SET r text EX 100
        ZRANGESTORE r z 0 1 => 2
        TTL r => -1
        ZRANGE r 0 -1 WITHSCORES => [a, 1, b, 2]
        ZRANGESTORE r z (1 +inf BYSCORE LIMIT 0 1 => 1
        ZRANGESTORE r z 0 0 REV => 1
        ZRANGE r 0 -1 => [c]
        ZRANGESTORE r z 7 8 => 0
        EXISTS r => 0
        ZRANGESTORE r z 0 1 WITHSCORES => ERR syntax error
    ",
    );
}

#[test]
fn random_members_are_different_or_as_many_as_asked() {
    check(
        "
        ZADD z 1 a
        ZRANDMEMBER z => a
        ZRANDMEMBER z 5 => [a]
        ZRANDMEMBER z -3 => [a, a, a]
        ZRANDMEMBER z -2 WITHSCORES => [a, 1, a, 1]
        ZRANDMEMBER z 0 => []
        ZRANDMEMBER nothing => (nil)
        ZRANDMEMBER nothing 2 => []
        ZRANDMEMBER z 1 SCORES => ERR syntax error
        ZRANDMEMBER z -9223372036854775808 => ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807
        ZRANDMEMBER z -9223372036854775807 WITHSCORES => ERR value is out of range
    ",
    );
}

#[test]
fn a_walk_shows_members_with_scores() {
    check(
        "
        ZADD z 1 a 2.5 b
        ZSCAN z 0 => [0, [a, 1, b, 2.5]]
        ZSCAN z 0 MATCH b* COUNT 1 => [0, [b, 2.5]]
        ZSCAN nothing 0 => [0, []]
        ZSCAN z x => ERR invalid cursor
        ZSCAN z 0 COUNT 0 => ERR syntax error
        ZSCAN z 0 NOSCORES => [0, [a, b]]
        ZSCAN z 0 MATCH b* NOSCORES => [0, [b]]
        ZSCAN z 0 NOVALUES => ERR NOVALUES option can only be used in HSCAN
    ",
    );
}
