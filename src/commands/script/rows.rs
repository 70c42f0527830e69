//! Commands of Redis' `scripting` group.

use crate::commands::script::{By, eval, exists, flush, functions, kill, load};
use crate::commands::table::Group::Scripting as GROUP;
use crate::commands::table::{Keys, flag};
use crate::commands::{Command, help};

const EVAL: u32 = flag::NO_SCRIPT | flag::STALE | flag::SKIP_MONITOR | flag::NO_MANDATORY_KEYS;
const KEYS: Keys = Keys::Counted { at: 2, first: 0 };
const COST: &str = "Depends on the script that is executed.";

/// The group's rows.
pub(crate) const COMMANDS: &[Command] = &[
    Command::script(GROUP, "eval", |session, desk, view, args, reply| eval(session, desk, view, args, reply, By::Source, false))
        .args_min(2)
        .keys(KEYS)
        .flags(EVAL)
        .since("2.6.0", COST)
        .doc("script numkeys [key [key ...]] [arg [arg ...]]", "Runs a script in Lua, seen by others wholly or not at all."),
    Command::script(GROUP, "eval_ro", |session, desk, view, args, reply| {
        eval(session, desk, view, args, reply, By::Source, true)
    })
    .args_min(2)
    .keys(KEYS)
    .flags(EVAL | flag::READ_ONLY)
    .since("7.0.0", COST)
    .doc("script numkeys [key [key ...]] [arg [arg ...]]", "Runs a script in Lua that changes no keys."),
    Command::script(GROUP, "evalsha", |session, desk, view, args, reply| eval(session, desk, view, args, reply, By::Sha, false))
        .args_min(2)
        .keys(KEYS)
        .flags(EVAL)
        .since("2.6.0", COST)
        .doc("sha1 numkeys [key [key ...]] [arg [arg ...]]", "Runs a script that is known, by its digest."),
    Command::script(GROUP, "evalsha_ro", |session, desk, view, args, reply| {
        eval(session, desk, view, args, reply, By::Sha, true)
    })
    .args_min(2)
    .keys(KEYS)
    .flags(EVAL | flag::READ_ONLY)
    .since("7.0.0", COST)
    .doc("sha1 numkeys [key [key ...]] [arg [arg ...]]", "Runs a script that is known and changes no keys, by its digest."),
    Command::script(GROUP, "fcall", |session, desk, view, args, reply| functions::fcall(session, desk, view, args, reply, false))
        .args_min(2)
        .keys(KEYS)
        .flags(EVAL)
        .since("7.0.0", "Depends on the function that is executed.")
        .doc("function numkeys [key [key ...]] [arg [arg ...]]", "Calls a function of a library."),
    Command::script(GROUP, "fcall_ro", |session, desk, view, args, reply| {
        functions::fcall(session, desk, view, args, reply, true)
    })
    .args_min(2)
    .keys(KEYS)
    .flags(EVAL | flag::READ_ONLY)
    .since("7.0.0", "Depends on the function that is executed.")
    .doc("function numkeys [key [key ...]] [arg [arg ...]]", "Calls a function of a library that changes no keys."),
    Command::container(
        GROUP,
        "function",
        &[
            Command::script(GROUP, "delete", functions::delete)
                .flags(flag::NO_SCRIPT | flag::CHANGES_KEYS)
                .args(2)
                .since("7.0.0", "O(1)")
                .doc("library-name", "Removes a library with its functions."),
            Command::script(GROUP, "flush", functions::flush)
                .flags(flag::NO_SCRIPT | flag::CHANGES_KEYS)
                .args_min(1)
                .since("7.0.0", "O(N) where N is the number of functions deleted")
                .doc("[ASYNC | SYNC]", "Removes all libraries with their functions."),
            Command::session(GROUP, "help", |session, _, reply| help::subcommands(session, "function", reply))
                .args(1)
                .flags(flag::LOADING | flag::STALE)
                .since("7.0.0", "O(1)")
                .doc("", "Lists the subcommands."),
            Command::session(GROUP, "kill", functions::kill)
                .args(1)
                .flags(flag::NO_SCRIPT | flag::ALLOW_BUSY)
                .since("7.0.0", "O(1)")
                .doc("", "Ends the function that runs, if it has changed nothing yet."),
            Command::script(GROUP, "list", functions::list)
                .flags(flag::NO_SCRIPT)
                .args_min(1)
                .since("7.0.0", "O(N) where N is the number of functions")
                .doc("[LIBRARYNAME library-name-pattern] [WITHCODE]", "Names the libraries and their functions."),
            Command::script(GROUP, "load", functions::load)
                .flags(flag::NO_SCRIPT | flag::CHANGES_KEYS)
                .grows()
                .args_min(2)
                .since("7.0.0", "O(1) (considering compilation time is redundant)")
                .doc("[REPLACE] function-code", "Keeps a library of functions, and answers its name."),
            Command::session(GROUP, "stats", functions::stats)
                .args(1)
                .flags(flag::NO_SCRIPT | flag::ALLOW_BUSY)
                .since("7.0.0", "O(1)")
                .doc("", "Tells which function runs, and how many there are."),
        ],
    )
    .since("7.0.0", "Depends on subcommand.")
    .doc("", "Keeps libraries of functions, and tells about them."),
    Command::container(
        GROUP,
        "script",
        &[
            Command::script(GROUP, "exists", exists)
                .flags(flag::NO_SCRIPT)
                .args_min(2)
                .since(
                    "2.6.0",
                    "O(N) with N being the number of scripts to check (so checking a single script is an O(1) operation).",
                )
                .doc("sha1 [sha1 ...]", "Tells which scripts are known."),
            Command::script(GROUP, "flush", flush)
                .flags(flag::NO_SCRIPT)
                .args_min(1)
                .since("2.6.0", "O(N) with N being the number of scripts in cache")
                .doc("[ASYNC | SYNC]", "Forgets all scripts."),
            Command::session(GROUP, "help", |session, _, reply| help::subcommands(session, "script", reply))
                .args(1)
                .flags(flag::LOADING | flag::STALE)
                .since("5.0.0", "O(1)")
                .doc("", "Lists the subcommands."),
            Command::session(GROUP, "kill", kill)
                .args(1)
                .flags(flag::NO_SCRIPT | flag::ALLOW_BUSY)
                .since("2.6.0", "O(1)")
                .doc("", "Ends the script that runs, if it has changed nothing yet."),
            Command::script(GROUP, "load", load)
                .args(2)
                .flags(flag::NO_SCRIPT | flag::STALE)
                .since("2.6.0", "O(N) with N being the length in bytes of the script body.")
                .doc("script", "Makes a script known, and answers its digest."),
        ],
    )
    .since("2.6.0", "Depends on subcommand.")
    .doc("", "Tells which scripts are known, and makes them so."),
];
