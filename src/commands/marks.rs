//! What commands do with each of their keys, as Redis describes it: whether they read it, overwrite it, and so on. For `COMMAND INFO` and
//! `COMMAND GETKEYSANDFLAGS`, and for whoever must know which keys a command changes. One row for each answer, with the commands that give
//! it.

use crate::commands::table::Command;
use crate::resp::Args;

/// What a command does with a key: the words of a key specification, such as `RW access update`.
/// <https://redis.io/docs/latest/develop/reference/key-specs/#logical-operation-flags>
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(&'static str);

impl Mark {
    /// Its words, in Redis' order.
    pub(crate) fn words(self) -> impl Iterator<Item = &'static str> {
        self.0.split(' ')
    }

    /// Whether the command may change or remove what the key holds.
    pub fn writes(&self) -> bool {
        ["RW", "OW", "RM"].iter().any(|word| self.0.starts_with(word))
    }

    /// Whether it looks into the value, and not only whether there is one.
    fn reads_value(&self) -> bool {
        self.0.contains("access") || self.0.starts_with("RW")
    }
}

/// Marks of a command's keys in order, the last one also of those that follow, and the commands.
const MARKS: &[(&[Mark], &str)] = &[
    (
        &[Mark("RO")],
        "exists hexists hlen hstrlen llen memory|usage object|encoding object|freq object|idletime object|refcount scard \
         sismember strlen touch type watch xlen zcard hpttl httl hexpiretime hpexpiretime",
    ),
    (
        &[Mark("RW update")],
        "expire expireat geoadd hmset hset lset persist pexpire pexpireat setrange xack xadd xclaim xgroup|setid xsetid zadd \
         hexpire hpexpire hexpireat hpexpireat hpersist hsetex",
    ),
    (
        &[Mark("RW access update")],
        "decr decrby getex getset hincrby hincrbyfloat incr incrby incrbyfloat hgetex move setbit zincrby eval evalsha fcall",
    ),
    (
        &[Mark("RW access delete")],
        "blmpop blpop brpop bzmpop bzpopmax bzpopmin getdel hgetdel lmpop lpop rpop spop zmpop zpopmax zpopmin",
    ),
    (
        &[Mark("RW delete")],
        "delifeq hdel lrem ltrim srem xautoclaim xdel xdelex xgroup|delconsumer xgroup|destroy xtrim zrem zremrangebylex zremrangebyrank \
         zremrangebyscore",
    ),
    (&[Mark("RW insert")], "append hsetnx linsert lpush lpushx pfadd rpush rpushx sadd xgroup|create xgroup|createconsumer"),
    (
        &[Mark("OW update"), Mark("RO access")],
        "bitop geosearchstore sdiffstore sunionstore zdiffstore zinterstore zrangestore zunionstore",
    ),
    (&[Mark("OW update")], "mset msetex psetex restore restore-asking setex"),
    (&[Mark("RW access delete"), Mark("RW insert")], "blmove brpoplpush lmove rpoplpush smove"),
    (&[Mark("not_key")], "spublish ssubscribe sunsubscribe"),
    (&[Mark("RO access"), Mark("OW update"), Mark("OW update")], "georadius georadiusbymember"),
    (&[Mark("RW access")], "pfcount pfdebug"),
    (&[Mark("RM delete")], "del unlink"),
    (&[Mark("RW access update variable_flags")], "bitfield set"),
    (&[Mark("RW delete variable_flags")], "delex"),
    (&[Mark("RW update delete")], "xackdel"),
    (&[Mark("OW insert")], "msetnx setnx"),
    (&[Mark("RW update"), Mark("RO access")], "sinterstore"),
    (&[Mark("RW access delete"), Mark("RW access delete incomplete")], "migrate"),
    (&[Mark("RW access insert"), Mark("RO access")], "pfmerge"),
    (&[Mark("RO access"), Mark("RO access"), Mark("OW update")], "sort"),
    (&[Mark("RO access"), Mark("OW update")], "copy"),
    (&[Mark("RW access delete"), Mark("OW insert")], "renamenx"),
    (&[Mark("RW access delete"), Mark("OW update")], "rename"),
    (&[Mark("RO access"), Mark("RO access")], "sort_ro"),
];

/// The marks of a command's keys; `full_name` is `memory|usage` for a subcommand. Most commands read.
pub(crate) fn of(full_name: &str) -> &'static [Mark] {
    MARKS
        .iter()
        .find(|(_, names)| names.split_ascii_whitespace().any(|name| name == full_name))
        .map_or(&[Mark("RO access")], |(marks, _)| marks)
}

/// Whether a command looks into the values of some of its keys. (Others only replace or remove them, or look whether they are there.)
pub(crate) fn reads_values(full_name: &str) -> bool {
    of(full_name).iter().any(Mark::reads_value)
}

/// The keys among these arguments, by their positions, and what the command does with each. `marks` are its marks, and it is not a container.
pub(crate) fn of_each(command: &Command, marks: &[Mark], args: Args<'_>) -> Vec<(usize, Mark)> {
    let positions = command.key_positions(args);
    let has = |from: usize, word: &str| (from..args.len()).any(|at| args.is(at, word));
    let mark = |number: usize| match command.name {
        "set" if has(3, "get") => Mark("RW access update"),
        "set" if ["ifeq", "ifne", "ifdeq", "ifdne"].iter().any(|word| has(3, word)) => Mark("RW access update"),
        "set" => Mark("OW update"),
        "bitfield" if has(2, "set") || has(2, "incrby") => Mark("RW access update"),
        "bitfield" => Mark("RO access"),
        "delex" if args.len() == 2 => Mark("RM delete"),
        "delex" => Mark("RW delete"),
        // What SORT looks up stands between its key and its destination, and cannot be told from the arguments.
        "sort" if number > 0 => marks[marks.len() - 1],
        _ => marks[number.min(marks.len() - 1)],
    };
    positions.into_iter().enumerate().map(|(number, at)| (at, mark(number))).collect()
}
