//! How values are kept: `OBJECT`.

use crate::commands::Outcome;
use crate::commands::session::Session;
use crate::engine::error;
use crate::engine::evict;
use crate::engine::keys::Read;
use crate::engine::value::Value;
use crate::resp::{Args, Reply};

/// Integers that Redis keeps once for all keys; ours take no memory of their own either.
const SHARED_INTEGERS: std::ops::Range<i64> = 0..10_000;
/// What Redis says of such a one.
const SHARED: i64 = i32::MAX as i64;

const HELP: &[&str] = &[
    "OBJECT <subcommand> [<arg> ...]. Subcommands are:",
    "ENCODING <key>",
    "    Name the way the value of <key> is kept in memory.",
    "FREQ <key>",
    "    Tell how often <key> was used of late, on a logarithmic scale; needs an LFU policy.",
    "IDLETIME <key>",
    "    Tell for how many seconds <key> was not used; needs a policy other than LFU.",
    "REFCOUNT <key>",
    "    Tell how often the value of <key> is referred to.",
    "HELP",
    "    Print this help.",
];

pub(crate) fn encoding(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    match keys.inspect(args.at(2))? {
        Some(value) => reply.bulk(encoding_of(value).as_bytes()),
        None => reply.null(),
    }
    Ok(())
}

/// The name Redis gives to the way a value is kept.
pub(crate) fn encoding_of(value: &Value) -> &'static str {
    match value {
        Value::String(string) => string.encoding(),
        Value::List(list) => list.encoding(),
        Value::Hash(hash) => hash.encoding(),
        Value::Set(set) => set.encoding(),
        Value::Zset(zset) => zset.encoding(),
        Value::Stream(_) => "stream",
        Value::OnDisk(_) => "unknown",
    }
}

pub(crate) fn freq(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (engine, now) = (keys.engine(), keys.now());
    match keys.peek(args.at(2)).map(|entry| entry.access()) {
        Some(access) => reply.int(evict::frequency(engine, now, access).ok_or(error::NOT_LFU)?.into()),
        None => reply.null(),
    }
    Ok(())
}

pub(crate) fn idletime(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (engine, now) = (keys.engine(), keys.now());
    match keys.peek(args.at(2)).map(|entry| entry.access()) {
        Some(access) => reply.int(evict::idle_seconds(engine, now, access).ok_or(error::NOT_LRU)?.into()),
        None => reply.null(),
    }
    Ok(())
}

pub(crate) fn refcount(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    match keys.inspect(args.at(2))? {
        Some(Value::String(string))
            if string.encoding() == "int" && string.int().is_some_and(|n| SHARED_INTEGERS.contains(&n)) =>
        {
            reply.int(SHARED)
        }
        Some(_) => reply.int(1),
        None => reply.null(),
    }
    Ok(())
}

pub(crate) fn help(_: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    reply.array(HELP.len());
    HELP.iter().for_each(|line| reply.simple(line));
    Ok(())
}
