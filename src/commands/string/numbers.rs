//! Strings that are numbers: `INCR` and its family.

use crate::commands::Outcome;
use crate::commands::args::int;
use crate::commands::float::LongDouble;
use crate::engine::error;
use crate::engine::keys::Write;
use crate::engine::notify::Class;
use crate::engine::types::string::{IntText, Str};
use crate::resp::{Args, Reply};

pub(crate) fn incr(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    add(keys, args.at(1), 1, reply)
}

pub(crate) fn decr(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    add(keys, args.at(1), -1, reply)
}

pub(crate) fn incrby(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    add(keys, args.at(1), int(args, 2)?, reply)
}

pub(crate) fn decrby(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
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

pub(crate) fn incrbyfloat(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let key = args.at(1);
    let before = match keys.edit::<Str>(key)? {
        Some(edit) => LongDouble::parse(edit.value.bytes(&mut IntText::new())),
        None => LongDouble::parse(b"0"),
    };
    let before = before.ok_or(error::NOT_FLOAT)?;
    let increment = LongDouble::parse(args.at(2)).ok_or(error::NOT_FLOAT)?;
    let after = before.plus(increment);
    if after.is_infinite() {
        return Err(error::INCREMENT_NAN);
    }
    let text = after.text();
    let mut edit = keys.edit_or_new::<Str>(key)?;
    // The sum is text even where it happens to be whole, as in Redis.
    *edit.value = Str::raw(text.as_bytes());
    edit.log.put(b"", text.as_bytes());
    drop(edit);
    keys.notify(Class::String, "incrbyfloat", key);
    reply.bulk(text.as_bytes());
    Ok(())
}
