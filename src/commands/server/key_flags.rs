//! What commands do with each of their keys, as Redis describes it: whether they read it, overwrite it, and so on. For
//! `COMMAND INFO` and `COMMAND GETKEYSANDFLAGS`. One row for each answer, with the commands that give it.

/// Flags of a command's key specifications in order, and the commands.
const FLAGS: &[(&[&str], &str)] = &[
    (
        &["RO"],
        "exists hexists hlen hstrlen llen memory|usage object|encoding object|freq object|idletime object|refcount scard \
         sismember strlen touch type watch xlen zcard hpttl httl hexpiretime hpexpiretime",
    ),
    (
        &["RW update"],
        "expire expireat geoadd hmset hset lset persist pexpire pexpireat setrange xack xadd xclaim xgroup|setid xsetid zadd \
         hexpire hpexpire hexpireat hpexpireat hpersist",
    ),
    (
        &["RW access update"],
        "decr decrby getex getset hincrby hincrbyfloat incr incrby incrbyfloat move setbit zincrby eval evalsha fcall",
    ),
    (&["RW access delete"], "blmpop blpop brpop bzmpop bzpopmax bzpopmin getdel lmpop lpop rpop spop zmpop zpopmax zpopmin"),
    (
        &["RW delete"],
        "hdel lrem ltrim srem xautoclaim xdel xgroup|delconsumer xgroup|destroy xtrim zrem zremrangebylex zremrangebyrank \
         zremrangebyscore",
    ),
    (&["RW insert"], "append hsetnx linsert lpush lpushx pfadd rpush rpushx sadd xgroup|create xgroup|createconsumer"),
    (&["OW update", "RO access"], "bitop geosearchstore sdiffstore sunionstore zdiffstore zinterstore zrangestore zunionstore"),
    (&["OW update"], "mset psetex restore restore-asking setex"),
    (&["RW access delete", "RW insert"], "blmove brpoplpush lmove rpoplpush smove"),
    (&["not_key"], "spublish ssubscribe sunsubscribe"),
    (&["RO access", "OW update", "OW update"], "georadius georadiusbymember"),
    (&["RW access"], "pfcount pfdebug"),
    (&["RM delete"], "del unlink"),
    (&["RW access update variable_flags"], "bitfield set"),
    (&["OW insert"], "msetnx setnx"),
    (&["RW update", "RO access"], "sinterstore"),
    (&["RW access delete", "RW access delete incomplete"], "migrate"),
    (&["RW access insert", "RO access"], "pfmerge"),
    (&["RO access", "RO access", "OW update"], "sort"),
    (&["RO access", "OW update"], "copy"),
    (&["RW access delete", "OW insert"], "renamenx"),
    (&["RW access delete", "OW update"], "rename"),
    (&["RO access", "RO access"], "sort_ro"),
];

/// The flags of a command's key specifications; `full_name` is `memory|usage` for a subcommand. Most commands read.
pub fn of(full_name: &str) -> &'static [&'static str] {
    FLAGS
        .iter()
        .find(|(_, names)| names.split_ascii_whitespace().any(|name| name == full_name))
        .map_or(&["RO access"], |(flags, _)| flags)
}

/// Whether a command looks into the values of some of its keys. (Others only replace or remove them, or look whether they are there.)
pub fn reads_values(full_name: &str) -> bool {
    of(full_name).iter().any(|flags| flags.contains("access") || flags.starts_with("RW"))
}
