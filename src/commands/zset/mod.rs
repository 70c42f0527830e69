//! Commands of Redis' `sorted-set` group: the rows here, what they do in the files of this folder, what sorted sets are in
//! `engine::types::zset`.

pub(crate) mod add;
pub(crate) mod answer;
mod bounds;
mod combine;
mod member;
mod pop;
mod range;

use crate::commands::Command;
use crate::commands::table::Group::SortedSet as GROUP;
use crate::commands::table::{Keys, flag};

/// The group's rows.
pub(crate) const COMMANDS: &[Command] = &[
    Command::write(GROUP, "zadd", add::zadd)
        .args_min(3)
        .key()
        .grows()
        .fast()
        .since("1.2.0", "O(M*log(N)), M members to add")
        .doc(
            "key [NX | XX] [GT | LT] [CH] [INCR] score member [score member ...]",
            "Gives members scores, adding those that are missing.",
        ),
    Command::write(GROUP, "zincrby", add::zincrby)
        .args(3)
        .key()
        .grows()
        .fast()
        .since("1.2.0", "O(log(N))")
        .doc("key increment member", "Adds to a member's score."),
    Command::write(GROUP, "zrem", member::zrem)
        .args_min(2)
        .key()
        .fast()
        .since("1.2.0", "O(M*log(N)), M members to remove")
        .doc("key member [member ...]", "Removes members."),
    Command::read(GROUP, "zcard", member::zcard).args(1).key().fast().since("1.2.0", "O(1)").doc("key", "Counts the members."),
    Command::read(GROUP, "zcount", range::zcount)
        .args(3)
        .key()
        .fast()
        .since("2.0.0", "O(log(N))")
        .doc("key min max", "Counts the members whose scores are in a range."),
    Command::read(GROUP, "zlexcount", range::zlexcount)
        .args(3)
        .key()
        .fast()
        .since("2.8.9", "O(log(N))")
        .doc("key min max", "Counts the members whose names are in a range, where all scores are the same."),
    Command::read(GROUP, "zscore", member::zscore)
        .args(2)
        .key()
        .fast()
        .since("1.2.0", "O(1)")
        .doc("key member", "Returns a member's score."),
    Command::read(GROUP, "zmscore", member::zmscore)
        .args_min(2)
        .key()
        .fast()
        .since("6.2.0", "O(M), M members asked for")
        .doc("key member [member ...]", "Returns the scores of several members."),
    Command::read(GROUP, "zrank", member::zrank)
        .args_min(2)
        .key()
        .fast()
        .since("2.0.0", "O(log(N))")
        .doc("key member [WITHSCORE]", "Counts the members below one."),
    Command::read(GROUP, "zrevrank", member::zrevrank)
        .args_min(2)
        .key()
        .fast()
        .since("2.0.0", "O(log(N))")
        .doc("key member [WITHSCORE]", "Counts the members above one."),
    Command::read(GROUP, "zrange", range::zrange).args_min(3).key().since("1.2.0", "O(log(N)+M), M members returned").doc(
        "key start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]",
        "Returns the members in a range of ranks, scores or names.",
    ),
    Command::write(GROUP, "zrangestore", range::zrangestore)
        .args_min(4)
        .keys(Keys::Range { first: 1, last: 2, step: 1 })
        .grows()
        .since("6.2.0", "O(log(N)+M), M members stored")
        .doc(
            "dst src min max [BYSCORE | BYLEX] [REV] [LIMIT offset count]",
            "Stores the members in a range of ranks, scores or names at another key.",
        ),
    Command::read(GROUP, "zrangebyscore", range::zrangebyscore)
        .args_min(3)
        .key()
        .since("1.0.5", "O(log(N)+M), M members returned")
        .doc("key min max [WITHSCORES] [LIMIT offset count]", "Returns the members whose scores are in a range."),
    Command::read(GROUP, "zrevrangebyscore", range::zrevrangebyscore)
        .args_min(3)
        .key()
        .since("2.2.0", "O(log(N)+M), M members returned")
        .doc("key max min [WITHSCORES] [LIMIT offset count]", "Returns the members whose scores are in a range, highest first."),
    Command::read(GROUP, "zrangebylex", range::zrangebylex)
        .args_min(3)
        .key()
        .since("2.8.9", "O(log(N)+M), M members returned")
        .doc(
            "key min max [LIMIT offset count]",
            "Returns the members whose names are in a range, where all scores are the same.",
        ),
    Command::read(GROUP, "zrevrangebylex", range::zrevrangebylex)
        .args_min(3)
        .key()
        .since("2.8.9", "O(log(N)+M), M members returned")
        .doc(
            "key max min [LIMIT offset count]",
            "Returns the members whose names are in a range, last first, where all scores are the same.",
        ),
    Command::read(GROUP, "zrevrange", range::zrevrange)
        .args_min(3)
        .key()
        .since("1.2.0", "O(log(N)+M), M members returned")
        .doc("key start stop [WITHSCORES]", "Returns the members in a range of ranks, highest first."),
    Command::write(GROUP, "zremrangebyrank", range::zremrangebyrank)
        .args(3)
        .key()
        .since("2.0.0", "O(M*log(N)), M members removed")
        .doc("key start stop", "Removes the members in a range of ranks."),
    Command::write(GROUP, "zremrangebyscore", range::zremrangebyscore)
        .args(3)
        .key()
        .since("1.2.0", "O(M*log(N)), M members removed")
        .doc("key min max", "Removes the members whose scores are in a range."),
    Command::write(GROUP, "zremrangebylex", range::zremrangebylex)
        .args(3)
        .key()
        .since("2.8.9", "O(M*log(N)), M members removed")
        .doc("key min max", "Removes the members whose names are in a range, where all scores are the same."),
    Command::write(GROUP, "zpopmin", pop::zpopmin)
        .args_min(1)
        .key()
        .fast()
        .since("5.0.0", "O(M*log(N)), M members removed")
        .doc("key [count]", "Removes and returns the members with the lowest scores."),
    Command::write(GROUP, "zpopmax", pop::zpopmax)
        .args_min(1)
        .key()
        .fast()
        .since("5.0.0", "O(M*log(N)), M members removed")
        .doc("key [count]", "Removes and returns the members with the highest scores."),
    Command::write(GROUP, "zmpop", pop::zmpop)
        .args_min(3)
        .keys(Keys::Counted { at: 1, first: 0 })
        .since("7.0.0", "O(K)+O(M*log(N)), K keys, M members removed")
        .doc(
            "numkeys key [key ...] <MIN | MAX> [COUNT count]",
            "Removes and returns members of the first of some keys that has any.",
        ),
    Command::write(GROUP, "bzpopmin", pop::bzpopmin)
        .args_min(2)
        .keys(Keys::Range { first: 1, last: -2, step: 1 })
        .fast()
        .flags(flag::BLOCKING | flag::NO_SCRIPT)
        .since("5.0.0", "O(log(N))")
        .doc(
            "key [key ...] timeout",
            "Removes and returns the member with the lowest score of the first of some keys that has any; waits for one.",
        ),
    Command::write(GROUP, "bzpopmax", pop::bzpopmax)
        .args_min(2)
        .keys(Keys::Range { first: 1, last: -2, step: 1 })
        .fast()
        .flags(flag::BLOCKING | flag::NO_SCRIPT)
        .since("5.0.0", "O(log(N))")
        .doc(
            "key [key ...] timeout",
            "Removes and returns the member with the highest score of the first of some keys that has any; waits for one.",
        ),
    Command::write(GROUP, "bzmpop", pop::bzmpop)
        .args_min(4)
        .keys(Keys::Counted { at: 2, first: 0 })
        .flags(flag::BLOCKING)
        .since("7.0.0", "O(K)+O(M*log(N)), K keys, M members removed")
        .doc(
            "timeout numkeys key [key ...] <MIN | MAX> [COUNT count]",
            "Removes and returns members of the first of some keys that has any; waits for one.",
        ),
    Command::read(GROUP, "zunion", combine::zunion)
        .args_min(2)
        .keys(Keys::Counted { at: 1, first: 0 })
        .since("6.2.0", "O(N)+O(M*log(M)), N members in all, M in the result")
        .doc(
            "numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>] [WITHSCORES]",
            "Returns the members that are in any of some sorted sets.",
        ),
    Command::read(GROUP, "zinter", combine::zinter)
        .args_min(2)
        .keys(Keys::Counted { at: 1, first: 0 })
        .since("6.2.0", "O(N*K)+O(M*log(M)), N members in the smallest of K sets, M in the result")
        .doc(
            "numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>] [WITHSCORES]",
            "Returns the members that are in all of some sorted sets.",
        ),
    Command::read(GROUP, "zdiff", combine::zdiff)
        .args_min(2)
        .keys(Keys::Counted { at: 1, first: 0 })
        .since("6.2.0", "O(N*K)+O(M*log(M)), N members in the first of K sets, M in the result")
        .doc("numkeys key [key ...] [WITHSCORES]", "Returns the members of a sorted set that are in none of some others."),
    Command::write(GROUP, "zunionstore", combine::zunionstore)
        .args_min(3)
        .keys(Keys::Counted { at: 2, first: 1 })
        .grows()
        .since("2.0.0", "O(N)+O(M*log(M)), N members in all, M in the result")
        .doc(
            "destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>]",
            "Stores the members that are in any of some sorted sets.",
        ),
    Command::write(GROUP, "zinterstore", combine::zinterstore)
        .args_min(3)
        .keys(Keys::Counted { at: 2, first: 1 })
        .grows()
        .since("2.0.0", "O(N*K)+O(M*log(M)), N members in the smallest of K sets, M in the result")
        .doc(
            "destination numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>]",
            "Stores the members that are in all of some sorted sets.",
        ),
    Command::write(GROUP, "zdiffstore", combine::zdiffstore)
        .args_min(3)
        .keys(Keys::Counted { at: 2, first: 1 })
        .grows()
        .since("6.2.0", "O(N*K)+O(M*log(M)), N members in the first of K sets, M in the result")
        .doc("destination numkeys key [key ...]", "Stores the members of a sorted set that are in none of some others."),
    Command::read(GROUP, "zintercard", combine::zintercard)
        .args_min(2)
        .keys(Keys::Counted { at: 1, first: 0 })
        .since("7.0.0", "O(N*K), N members in the smallest of K sets")
        .doc("numkeys key [key ...] [LIMIT limit]", "Counts the members that are in all of some sorted sets."),
    Command::read(GROUP, "zrandmember", member::zrandmember)
        .args_min(1)
        .key()
        .since("6.2.0", "O(M), M members returned")
        .doc("key [count [WITHSCORES]]", "Returns members chosen at random."),
    Command::read(GROUP, "zscan", member::zscan)
        .args_min(2)
        .key()
        .since("2.8.0", "O(1) for each call")
        .doc("key cursor [MATCH pattern] [COUNT count] [NOSCORES]", "Walks over the members with a cursor."),
];
