//! Keys that get another place: `RENAME`, `MOVE`, `COPY`.

use crate::commands::Outcome;
use crate::commands::args::{Rest, parse_int};
use crate::engine::error::{self, Error};
use crate::engine::keys::Write;
use crate::engine::notify::Class;
use crate::engine::shard::DATABASES;
use crate::resp::{Args, Reply};

pub(crate) fn rename(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    rename_unless(keys, args, |_| false)?;
    reply.ok();
    Ok(())
}

pub(crate) fn renamenx(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let was_renamed = rename_unless(keys, args, |is_taken| is_taken)?;
    reply.int(i64::from(was_renamed));
    Ok(())
}

/// Renames a key unless the new name is taken and that matters; tells whether it did.
fn rename_unless(keys: &mut Write<'_>, args: Args<'_>, matters: fn(bool) -> bool) -> Result<bool, Error> {
    let (from, to) = (args.at(1), args.at(2));
    if keys.peek(from).is_none() {
        return Err(error::NO_SUCH_KEY);
    }
    if from == to || matters(keys.peek(to).is_some()) {
        return Ok(false);
    }
    keys.move_value(from, keys.db(), to)?;
    keys.notify(Class::Generic, "rename_from", from);
    keys.notify(Class::Generic, "rename_to", to);
    Ok(true)
}

pub(crate) fn move_to(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (key, from, to) = (args.at(1), keys.db(), database(args.at(2))?);
    if from == to {
        return Err(error::SAME_OBJECT);
    }
    let is_there = keys.peek(key).is_some();
    let is_free = keys.in_db(to, |keys| keys.peek(key).is_none());
    if is_there && is_free {
        keys.move_value(key, to, key)?;
        keys.notify(Class::Generic, "move_from", key);
        keys.in_db(to, |keys| keys.notify(Class::Generic, "move_to", key));
    }
    reply.int(i64::from(is_there && is_free));
    Ok(())
}

/// The database an argument names.
fn database(number: &[u8]) -> Result<u8, Error> {
    let number = parse_int(number)?;
    if i32::try_from(number).is_err() {
        return Err(error::NOT_INT32);
    }
    if (0..DATABASES as i64).contains(&number) { Ok(number as u8) } else { Err(error::DB_RANGE) }
}

pub(crate) fn copy(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (source, destination, from) = (args.at(1), args.at(2), keys.db());
    let (to, replaces) = copy_options(args, from)?;
    if from == to && source == destination {
        return Err(error::SAME_OBJECT);
    }
    let is_there = keys.find(source)?.is_some();
    let is_copied = is_there && (replaces || keys.in_db(to, |keys| keys.peek(destination).is_none()));
    if is_copied {
        keys.copy_value(source, to, destination)?;
        keys.in_db(to, |keys| keys.notify(Class::Generic, "copy_to", destination));
    }
    reply.int(i64::from(is_copied));
    Ok(())
}

fn copy_options(args: Args<'_>, from: u8) -> Result<(u8, bool), Error> {
    let (mut to, mut replaces, mut rest) = (from, false, Rest::of(args, 3));
    loop {
        if rest.word("replace") {
            replaces = true;
        } else if let Some(number) = rest.value("db") {
            to = database(number)?;
        } else {
            rest.end()?;
            return Ok((to, replaces));
        }
    }
}
