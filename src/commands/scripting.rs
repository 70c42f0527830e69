//! Commands of Redis' `scripting` group. There is no scripting yet: only what clients call to make sure that nothing is
//! left of scripts of before, which is true.

use crate::commands::args::{Rest, wrong_subcommand};
use crate::commands::session::Session;
use crate::commands::table::Group::Scripting as GROUP;
use crate::commands::table::flag;
use crate::commands::{Command, Outcome, help};
use crate::engine::error::Error;
use crate::resp::{Args, Reply};

/// The group's rows.
pub const COMMANDS: &[Command] = &[
    Command::container(
        GROUP,
        "function",
        &[
            sub("flush", |_, args, reply| flush("FUNCTION", args, reply))
                .args_min(1)
                .since("7.0.0", "O(N) where N is the number of functions deleted")
                .doc("[ASYNC | SYNC]", "Removes all functions; there are none."),
            sub("help", |session, _, reply| help::subcommands(session, "function", reply))
                .args(1)
                .without(flag::NO_SCRIPT)
                .flags(flag::LOADING | flag::STALE)
                .since("7.0.0", "O(1)")
                .doc("", "Lists the subcommands."),
            sub("list", list)
                .args_min(1)
                .since("7.0.0", "O(N) where N is the number of functions")
                .doc("[LIBRARYNAME library-name-pattern] [WITHCODE]", "Names the libraries of functions; there are none."),
        ],
    )
    .since("7.0.0", "Depends on subcommand.")
    .doc("", "Asks about functions; there are none."),
    Command::container(
        GROUP,
        "script",
        &[
            sub("exists", exists)
                .args_min(2)
                .since(
                    "2.6.0",
                    "O(N) with N being the number of scripts to check (so checking a single script is an O(1) operation).",
                )
                .doc("sha1 [sha1 ...]", "Tells which scripts are known; none is."),
            sub("flush", |_, args, reply| flush("SCRIPT", args, reply))
                .args_min(1)
                .since("2.6.0", "O(N) with N being the number of scripts in cache")
                .doc("[ASYNC | SYNC]", "Forgets all scripts; there are none."),
            sub("help", |session, _, reply| help::subcommands(session, "script", reply))
                .args(1)
                .without(flag::NO_SCRIPT)
                .flags(flag::LOADING | flag::STALE)
                .since("5.0.0", "O(1)")
                .doc("", "Lists the subcommands."),
        ],
    )
    .since("2.6.0", "Depends on subcommand.")
    .doc("", "Asks about scripts; there are none."),
];

const fn sub(name: &'static str, run: fn(&mut Session, Args<'_>, &mut Reply) -> Outcome) -> Command {
    Command::session(GROUP, name, run).flags(flag::NO_SCRIPT)
}

fn flush(container: &str, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let is_right = args.len() == 2 || args.len() == 3 && (args.is(2, "async") || args.is(2, "sync"));
    if container == "FUNCTION" && args.len() > 3 {
        return Err(wrong_subcommand(args));
    }
    if !is_right {
        return Err(Error::new(if container == "SCRIPT" {
            "ERR SCRIPT FLUSH only support SYNC|ASYNC option"
        } else {
            "ERR FUNCTION FLUSH only supports SYNC|ASYNC option"
        }));
    }
    reply.ok();
    Ok(())
}

fn exists(_: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    reply.array(args.len() - 2);
    args.from(2).iter().for_each(|_| reply.int(0));
    Ok(())
}

fn list(_: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let mut rest = Rest::of(args, 2);
    loop {
        if rest.word("libraryname") {
            rest.take().ok_or(Error::new("ERR library name argument was not given"))?;
        } else if !rest.word("withcode") {
            break;
        }
    }
    if let Some(argument) = rest.peek() {
        return Err(Error::new(format!("ERR Unknown argument {}", String::from_utf8_lossy(argument))));
    }
    reply.array(0);
    Ok(())
}
