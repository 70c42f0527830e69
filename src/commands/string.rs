//! Commands of Redis' `string` group.

use crate::commands::args::int;
use crate::commands::table::Group::String as GROUP;
use crate::commands::{Command, Outcome};
use crate::engine::error;
use crate::engine::keys::{Expiry, Read, Write};
use crate::engine::notify::Class;
use crate::engine::types::string::{IntText, Str};
use crate::resp::{Args, Reply};

/// The group's rows.
pub const COMMANDS: &[Command] = &[
    Command::read(GROUP, "get", get).args(1).key().fast().since("1.0.0", "O(1)").doc("key", "Returns the string at a key."),
    Command::write(GROUP, "set", set)
        .args_min(2)
        .key()
        .grows()
        .since("1.0.0", "O(1)")
        .doc("key value", "Sets the string at a key, whatever it held."),
    Command::write(GROUP, "incr", incr)
        .args(1)
        .key()
        .grows()
        .fast()
        .since("1.0.0", "O(1)")
        .doc("key", "Adds one to the number at a key."),
    Command::write(GROUP, "incrby", incrby)
        .args(2)
        .key()
        .grows()
        .fast()
        .since("1.0.0", "O(1)")
        .doc("key increment", "Adds to the number at a key."),
];

fn get(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    match keys.get::<Str>(args.at(1))? {
        Some(string) => reply.bulk(string.bytes(&mut IntText::new())),
        None => reply.null(),
    }
    Ok(())
}

fn set(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    keys.put(args.at(1), Str::from(args.at(2)), Expiry::Never);
    keys.notify(Class::String, "set", args.at(1));
    reply.ok();
    Ok(())
}

fn incr(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    add(keys, args.at(1), 1, reply)
}

fn incrby(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let increment = int(args, 2)?;
    add(keys, args.at(1), increment, reply)
}

fn add(keys: &mut Write<'_>, key: &[u8], increment: i64, reply: &mut Reply) -> Outcome {
    let before = match keys.get::<Str>(key)? {
        Some(string) => string.int().ok_or(error::NOT_INTEGER)?,
        None => 0,
    };
    let after = before.checked_add(increment).ok_or(error::OVERFLOW)?;
    keys.put(key, Str::from(after), Expiry::Keep);
    keys.notify(Class::String, "incrby", key);
    reply.int(after);
    Ok(())
}
