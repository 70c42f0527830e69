//! Hints for proxies and tools about a command's replies and where it must be sent, as Redis gives them. For `COMMAND INFO`.
//! One row for each answer, with the commands that give it.

const TIPS: &[(&[&str], &str)] = &[
    (
        &["nondeterministic_output_order"],
        "command command|docs command|info command|list function|list hgetall hkeys hvals module|list sdiff sinter smembers sunion",
    ),
    (
        &["nondeterministic_output"],
        "client|info client|list cluster|info cluster|nodes cluster|shards cluster|slots hrandfield hscan lastsave object|encoding \
         object|freq object|idletime object|refcount pttl spop srandmember sscan time ttl xadd xautoclaim xclaim xinfo|consumers \
         xpending xtrim zrandmember zscan",
    ),
    (
        &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
        "info memory|doctor memory|malloc-stats memory|stats",
    ),
    (&["request_policy:multi_shard", "response_policy:agg_sum"], "del exists touch unlink"),
    (&["request_policy:all_shards", "response_policy:agg_sum"], "dbsize"),
    (&["request_policy:multi_shard", "response_policy:all_succeeded"], "mset msetex"),
    (&["request_policy:all_shards", "response_policy:all_succeeded"], "flushall flushdb function|flush memory|purge ping"),
    (
        &["nondeterministic_output", "request_policy:all_nodes", "response_policy:special"],
        "latency|doctor latency|graph latency|histogram latency|history latency|latest",
    ),
    (&["request_policy:all_nodes", "response_policy:all_succeeded"], "config|set latency|reset script|flush slowlog|reset"),
    (&["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"], "slowlog|len"),
    (&["request_policy:all_nodes", "nondeterministic_output"], "slowlog|get"),
    (&["request_policy:multi_shard"], "mget"),
    (&["request_policy:all_shards", "response_policy:agg_logical_and"], "script|exists"),
    (&["request_policy:all_shards", "response_policy:agg_min"], "wait"),
    (&["nondeterministic_output", "request_policy:special"], "scan"),
    (&["request_policy:all_shards", "nondeterministic_output_order"], "keys"),
    (&["request_policy:all_shards", "nondeterministic_output"], "randomkey"),
    (&["request_policy:multi_shard", "response_policy:agg_min"], "msetnx"),
];

/// The hints about a command; `full_name` is `memory|usage` for a subcommand.
pub(crate) fn of(full_name: &str) -> &'static [&'static str] {
    TIPS.iter().find(|(_, names)| names.split_ascii_whitespace().any(|name| name == full_name)).map_or(&[], |(tips, _)| tips)
}
