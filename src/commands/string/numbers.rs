//! Strings that are numbers: `INCR` and its family.

use crate::commands::Outcome;
use crate::commands::args::int;
use crate::engine::error;
use crate::engine::keys::Write;
use crate::engine::notify::Class;
use crate::engine::types::string::{IntText, Str};
use crate::resp::{Args, Reply};

pub fn incr(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    add(keys, args.at(1), 1, reply)
}

pub fn decr(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    add(keys, args.at(1), -1, reply)
}

pub fn incrby(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    add(keys, args.at(1), int(args, 2)?, reply)
}

pub fn decrby(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let increment = int(args, 2)?.checked_neg().ok_or(error::DECREMENT_OVERFLOW)?;
    add(keys, args.at(1), increment, reply)
}

fn add(keys: &mut Write<'_>, key: &[u8], increment: i64, reply: &mut Reply) -> Outcome {
    let mut edit = keys.edit_or_new::<Str>(key)?;
    let before = if edit.is_new { 0 } else { edit.value.int().ok_or(error::NOT_INTEGER)? };
    let after = before.checked_add(increment).ok_or(error::OVERFLOW)?;
    *edit.value = Str::from(after);
    edit.log.put(b"", IntText::new().format(after).as_bytes());
    drop(edit);
    keys.notify(Class::String, "incrby", key);
    reply.int(after);
    Ok(())
}
