//! All keys at once: how many there are, removing them, databases that trade places.

use crate::commands::Outcome;
use crate::commands::args::parse_int;
use crate::engine::SHARDS;
use crate::engine::error::{self, Error};
use crate::engine::keys::{Read, Write};
use crate::engine::shard::DATABASES;
use crate::resp::{Args, Reply};

/// `DBSIZE`
pub(crate) fn dbsize(keys: &mut Read<'_>, _: Args<'_>, reply: &mut Reply) -> Outcome {
    reply.count((0..SHARDS).map(|number| keys.database_in(number).keys().len()).sum());
    Ok(())
}

/// `FLUSHDB`
pub(crate) fn flushdb(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    check_mode(args)?;
    keys.flush();
    reply.ok();
    Ok(())
}

/// `FLUSHALL`
pub(crate) fn flushall(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    check_mode(args)?;
    let before = keys.db();
    for db in 0..DATABASES as u8 {
        keys.select(db);
        keys.flush();
    }
    keys.select(before);
    reply.ok();
    Ok(())
}

/// Memory is always freed before the reply, so both modes mean the same.
fn check_mode(args: Args<'_>) -> Outcome {
    match args.len() {
        1 => Ok(()),
        2 if args.is(1, "async") || args.is(1, "sync") => Ok(()),
        _ => Err(error::SYNTAX),
    }
}

/// `SWAPDB`
pub(crate) fn swapdb(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let number = |at| parse_int(args.at(at)).ok().and_then(|db| i32::try_from(db).ok());
    let one = number(1).ok_or_else(|| Error::new("ERR invalid first DB index"))?;
    let other = number(2).ok_or_else(|| Error::new("ERR invalid second DB index"))?;
    let checked = |db: i32| u8::try_from(db).ok().filter(|db| usize::from(*db) < DATABASES).ok_or(error::DB_RANGE);
    keys.swap_databases(checked(one)?, checked(other)?);
    reply.ok();
    Ok(())
}
