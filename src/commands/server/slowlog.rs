//! `SLOWLOG`: the commands that took long.

use crate::commands::Outcome;
use crate::commands::args::{int, wrong_subcommand};
use crate::commands::session::Session;
use crate::engine::error::Error;
use crate::resp::{Args, Reply};

/// Entries that `SLOWLOG GET` shows when it is not told how many.
const SHOWN: usize = 10;

/// `SLOWLOG GET`
pub(crate) fn get(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let count = match args.len() {
        2 => SHOWN,
        3 => match int(args, 2) {
            Ok(-1) => usize::MAX,
            Ok(count) if count >= 0 => count as usize,
            _ => return Err(Error::new("ERR count should be greater than or equal to -1")),
        },
        _ => return Err(wrong_subcommand(args)),
    };
    let entries = session.instance.slowlog.newest(count);
    reply.array(entries.len());
    for entry in entries {
        reply.array(6);
        reply.int(entry.id as i64);
        reply.int(entry.at as i64);
        reply.int(entry.us as i64);
        reply.array(entry.args.len());
        entry.args.iter().for_each(|arg| reply.bulk(arg));
        reply.bulk(entry.client.as_bytes());
        reply.bulk(&entry.client_name);
    }
    Ok(())
}

/// `SLOWLOG LEN`
pub(crate) fn len(session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    reply.count(session.instance.slowlog.len());
    Ok(())
}

/// `SLOWLOG RESET`
pub(crate) fn reset(session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    session.instance.slowlog.reset();
    reply.ok();
    Ok(())
}
