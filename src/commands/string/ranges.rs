//! Parts of strings: `APPEND`, `GETRANGE`, `SETRANGE`, `STRLEN`.

use crate::commands::Outcome;
use crate::commands::args::int;
use crate::engine::error::{self, Error};
use crate::engine::keys::{Read, Write};
use crate::engine::notify::Class;
use crate::engine::types::string::{IntText, Str, bytes_max};
use crate::resp::{Args, Reply};

pub(crate) fn append(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (key, bytes) = (args.at(1), args.at(2));
    let mut edit = keys.edit_or_new::<Str>(key)?;
    let len = if edit.is_new {
        *edit.value = Str::from(bytes);
        edit.log.put(b"", bytes);
        bytes.len()
    } else {
        let before = edit.value.len();
        check_len(before, bytes.len())?;
        edit.value.write_at(before, bytes);
        edit.log.write_at(before, bytes);
        before + bytes.len()
    };
    drop(edit);
    keys.notify(Class::String, "append", key);
    reply.count(len);
    Ok(())
}

pub(crate) fn strlen(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    reply.count(keys.get::<Str>(args.at(1))?.map_or(0, Str::len));
    Ok(())
}

pub(crate) fn getrange(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (start, end) = (int(args, 2)?, int(args, 3)?);
    match keys.get::<Str>(args.at(1))? {
        Some(string) => reply.bulk(part(string.bytes(&mut IntText::new()), start, end)),
        None => reply.bulk(b""),
    }
    Ok(())
}

/// The bytes from `start` to `end`, both included; negative ones count from the end.
fn part(bytes: &[u8], start: i64, end: i64) -> &[u8] {
    if start < 0 && end < 0 && start > end {
        return b"";
    }
    let len = bytes.len() as i64;
    let from_end = |at: i64| if at < 0 { (len + at).max(0) } else { at };
    let (start, end) = (from_end(start), from_end(end).min(len - 1));
    if start > end { b"" } else { &bytes[start as usize..=end as usize] }
}

pub(crate) fn setrange(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (key, bytes) = (args.at(1), args.at(3));
    let offset = usize::try_from(int(args, 2)?).map_err(|_| error::OFFSET_RANGE)?;
    if bytes.is_empty() {
        reply.count(keys.edit::<Str>(key)?.map_or(0, |edit| edit.value.len()));
        return Ok(());
    }
    // A key of another kind is found out before a length that is too long.
    keys.peek_type::<Str>(key)?;
    check_len(offset, bytes.len())?;
    let mut edit = keys.edit_or_new::<Str>(key)?;
    edit.value.write_at(offset, bytes);
    edit.log.write_at(offset, bytes);
    let len = edit.value.len();
    drop(edit);
    keys.notify(Class::String, "setrange", key);
    reply.count(len);
    Ok(())
}

/// Refuses what would make a string longer than strings may be.
fn check_len(before: usize, added: usize) -> Result<(), Error> {
    if before.saturating_add(added) <= bytes_max() { Ok(()) } else { Err(error::STRING_TOO_LONG) }
}
