//! Commands of Redis' `server` group: settings, statistics, saving, debugging.

pub(crate) mod command;
mod config;
mod debug;
mod digest;
mod info;
mod keyspace;
mod latency;
mod lolwut;
mod memory;
pub(crate) mod metrics;
mod replication;
mod saving;
mod slowlog;
pub(crate) mod snapshot;
mod syntax;
mod tips;

use crate::commands::session::Session;
use crate::commands::table::Group::Server as GROUP;
use crate::commands::table::{Keys, Outcome, flag};
use crate::commands::{Command, help, monitor};
use crate::config::Name;
use crate::resp::{Args, Reply};

/// Of most subcommands for operators.
const OPERATOR: u32 = flag::ADMIN | flag::NO_SCRIPT | flag::LOADING | flag::STALE | flag::DANGEROUS;
const ANYTIME: u32 = flag::LOADING | flag::STALE;
const CONTAINER_COST: &str = "Depends on subcommand.";

/// The group's rows.
pub(crate) const COMMANDS: &[Command] = &[
    Command::container(GROUP, "acl", ACL).since("6.0.0", CONTAINER_COST).doc("", "Asks about users and what they may do."),
    Command::session(GROUP, "bgrewriteaof", saving::bgrewriteaof)
        .args(0)
        .flags(flag::ADMIN | flag::NO_SCRIPT | flag::DANGEROUS)
        .since("1.0.0", "O(1)")
        .doc("", "Folds the journal into the tables in the background."),
    Command::session(GROUP, "bgsave", saving::bgsave)
        .args_min(0)
        .flags(flag::ADMIN | flag::NO_SCRIPT | flag::DANGEROUS)
        .since("1.0.0", "O(1)")
        .doc("[SCHEDULE]", "Makes a checkpoint in the background."),
    Command::session(GROUP, "command", command::all)
        .args_min(0)
        .flags(ANYTIME)
        .with(COMMAND)
        .since("2.8.13", "O(N) where N is the total number of Redis commands")
        .doc("", "Describes all commands."),
    Command::container(GROUP, "config", CONFIG).since("2.0.0", CONTAINER_COST).doc("", "Reads and changes settings."),
    Command::read(GROUP, "dbsize", keyspace::dbsize)
        .args(0)
        .keys(Keys::Any)
        .fast()
        .since("1.0.0", "O(1)")
        .doc("", "Tells how many keys the database has."),
    Command::server(GROUP, "debug", debug::debug)
        .args_min(1)
        .flags(OPERATOR)
        .limited(
            Name::EnableDebugCommand,
            "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it from a local connection, otherwise you need to set this option in the configuration file, and then restart the server.",
        )
        .since("1.0.0", CONTAINER_COST)
        .doc("<subcommand> [<arg> [value] [opt] ...]", "Looks inside, and provokes what tests need."),
    Command::write(GROUP, "flushall", keyspace::flushall)
        .args_min(0)
        .keys(Keys::Any)
        .flags(flag::DANGEROUS)
        .since("1.0.0", "O(N) where N is the total number of keys in all databases")
        .doc("[ASYNC | SYNC]", "Removes all keys of all databases."),
    Command::write(GROUP, "flushdb", keyspace::flushdb)
        .args_min(0)
        .keys(Keys::Any)
        .flags(flag::DANGEROUS)
        .since("1.0.0", "O(N) where N is the number of keys in the selected database")
        .doc("[ASYNC | SYNC]", "Removes all keys of the database."),
    Command::container(GROUP, "flux", FLUX).since("flux 0.1", CONTAINER_COST).doc("", "What flux has beyond Redis."),
    Command::server(GROUP, "info", info::info)
        .args_min(0)
        .flags(ANYTIME | flag::DANGEROUS)
        .since("1.0.0", "O(1)")
        .doc("[section [section ...]]", "Tells about the server and its statistics."),
    Command::session(GROUP, "lastsave", saving::lastsave)
        .args(0)
        .fast()
        .flags(ANYTIME | flag::ADMIN_CATEGORY | flag::DANGEROUS)
        .since("1.0.0", "O(1)")
        .doc("", "Tells when the last checkpoint ended, in seconds since the epoch."),
    Command::container(GROUP, "latency", LATENCY).since("2.8.13", CONTAINER_COST).doc("", "Tells what took long."),
    Command::session(GROUP, "lolwut", lolwut::lolwut)
        .args_min(0)
        .fast()
        .flags(flag::READ_ONLY)
        .since("5.0.0", "")
        .doc("[VERSION version]", "Draws something, and tells the version."),
    Command::container(GROUP, "memory", MEMORY).since("4.0.0", CONTAINER_COST).doc("", "Tells what memory is used for."),
    Command::container(GROUP, "module", MODULE).since("4.0.0", CONTAINER_COST).doc("", "Asks about modules; there are none."),
    Command::session(GROUP, "monitor", monitor::monitor)
        .args(0)
        .flags(OPERATOR)
        .since("1.0.0", "")
        .doc("", "Shows every command the server gets from here on."),
    Command::session(GROUP, "replicaof", replication::replicaof)
        .args(2)
        .flags(flag::ADMIN | flag::NO_SCRIPT | flag::STALE | flag::DANGEROUS)
        .since("5.0.0", "O(1)")
        .doc("<host port | NO ONE>", "Accepts NO ONE; there is no replication yet."),
    Command::session(GROUP, "role", replication::role)
        .args(0)
        .fast()
        .flags(ANYTIME | flag::NO_SCRIPT | flag::ADMIN_CATEGORY | flag::DANGEROUS)
        .since("2.8.12", "O(1)")
        .doc("", "Tells the server's part in replication: master."),
    Command::session(GROUP, "save", saving::save)
        .args(0)
        .flags(flag::ADMIN | flag::NO_SCRIPT | flag::NO_MULTI | flag::DANGEROUS)
        .since("1.0.0", "O(N) where N is the total number of keys in all databases")
        .doc("", "Makes a checkpoint and waits for it."),
    Command::session(GROUP, "shutdown", saving::shutdown)
        .args_min(0)
        .flags(OPERATOR | flag::NO_MULTI | flag::ALLOW_BUSY)
        .since("1.0.0", "O(N) when saving, where N is the total number of keys in all databases when saving data, otherwise O(1)")
        .doc("[NOSAVE | SAVE] [NOW] [FORCE] [ABORT]", "Ends the server once everything is on disk."),
    Command::session(GROUP, "slaveof", replication::replicaof)
        .args(2)
        .flags(flag::ADMIN | flag::NO_SCRIPT | flag::STALE | flag::DANGEROUS)
        .since("1.0.0", "O(1)")
        .doc("<host port | NO ONE>", "The old name of REPLICAOF."),
    Command::container(GROUP, "slowlog", SLOWLOG).since("2.2.12", CONTAINER_COST).doc("", "Shows the commands that took long."),
    Command::write(GROUP, "swapdb", keyspace::swapdb)
        .args(2)
        .keys(Keys::Any)
        .fast()
        .flags(flag::DANGEROUS)
        .since("4.0.0", "O(N) where N is the count of clients watching or blocking on keys from both databases.")
        .doc("index1 index2", "Lets two databases trade places."),
    Command::session(GROUP, "time", time)
        .args(0)
        .fast()
        .flags(ANYTIME)
        .since("2.6.0", "O(1)")
        .doc("", "Tells the server's time: seconds since the epoch, and microseconds."),
];

const ACL: &[Command] = &[
    sub("cat", replication::acl_cat)
        .args_min(1)
        .flags(flag::NO_SCRIPT)
        .since("6.0.0", "O(1) since the categories and commands are a fixed set.")
        .doc("[category]", "Names the categories of commands, or the commands of one."),
    sub("help", |session, _, reply| help::subcommands(session, "acl", reply))
        .args(1)
        .since("6.0.0", "O(1)")
        .doc("", "Lists the subcommands."),
    sub("list", replication::acl_list)
        .args(1)
        .flags(OPERATOR)
        .since("6.0.0", "O(N). Where N is the number of configured users.")
        .doc("", "Describes the users; there is only `default`."),
    sub("users", replication::acl_users)
        .args(1)
        .flags(OPERATOR)
        .since("6.0.0", "O(N). Where N is the number of configured users.")
        .doc("", "Names the users; there is only `default`."),
    sub("whoami", replication::acl_whoami)
        .args(1)
        .flags(flag::NO_SCRIPT)
        .since("6.0.0", "O(1)")
        .doc("", "Names the user: `default`."),
];

const COMMAND: &[Command] = &[
    sub("count", command::count).args(1).since("2.8.13", "O(1)").doc("", "Tells how many commands there are."),
    sub("docs", command::docs)
        .args_min(1)
        .since("7.0.0", "O(N) where N is the number of commands to look up")
        .doc("[command-name [command-name ...]]", "Documents commands, or all of them."),
    sub("getkeys", command::getkeys)
        .args_min(3)
        .since("2.8.13", "O(N) where N is the number of arguments to the command")
        .doc("command [arg [arg ...]]", "Picks the keys out of a command."),
    sub("getkeysandflags", command::getkeysandflags)
        .args_min(3)
        .since("7.0.0", "O(N) where N is the number of arguments to the command")
        .doc("command [arg [arg ...]]", "Picks the keys out of a command, and tells what it does with each."),
    sub("help", |session, _, reply| help::subcommands(session, "command", reply))
        .args(1)
        .since("5.0.0", "O(1)")
        .doc("", "Lists the subcommands."),
    sub("info", command::info)
        .args_min(1)
        .since("2.8.13", "O(N) where N is the number of commands to look up")
        .doc("[command-name [command-name ...]]", "Describes commands, or all of them."),
    sub("list", command::list)
        .args_min(1)
        .since("7.0.0", "O(N) where N is the total number of Redis commands")
        .doc("[FILTERBY <MODULE module-name | ACLCAT category | PATTERN pattern>]", "Names the commands."),
];

const CONFIG: &[Command] = &[
    sub("get", config::get)
        .args_min(2)
        .flags(OPERATOR)
        .since("2.0.0", "O(N) when N is the number of configuration parameters provided")
        .doc("parameter [parameter ...]", "Reads the settings whose names match patterns."),
    sub("help", |session, _, reply| help::subcommands(session, "config", reply))
        .args(1)
        .since("5.0.0", "O(1)")
        .doc("", "Lists the subcommands."),
    Command::server(GROUP, "resetstat", config::resetstat)
        .args(1)
        .flags(OPERATOR)
        .since("2.0.0", "O(1)")
        .doc("", "Begins the statistics anew."),
    sub("rewrite", config::rewrite)
        .args(1)
        .flags(OPERATOR)
        .since("2.8.0", "O(1)")
        .doc("", "Writes the settings of the moment to the configuration file."),
    sub("set", config::set)
        .args_min(3)
        .flags(OPERATOR)
        .since("2.0.0", "O(N) when N is the number of configuration parameters provided")
        .doc("parameter value [parameter value ...]", "Changes settings, all of them or none.")
        .secrets(config::secrets),
];

const FLUX: &[Command] = &[
    sub("backup", saving::backup)
        .args(2)
        .flags(OPERATOR | flag::NO_MULTI)
        .limited(
            Name::EnableBackupCommand,
            "ERR FLUX BACKUP writes a file on the server's machine, and the setting enable-backup-command does not let you ask for it",
        )
        .since("flux 0.1", "O(N) where N is the total number of keys in all databases")
        .doc("path", "Writes a consistent copy of all data in the place of an empty file on the server's machine; for clients on that machine only."),
    sub("help", |session, _, reply| help::subcommands(session, "flux", reply)).args(1).since("flux 0.1", "O(1)").doc("", "Lists the subcommands."),
];

const LATENCY: &[Command] = &[
    sub("doctor", latency::doctor)
        .args(1)
        .flags(OPERATOR)
        .since("2.8.13", "O(1)")
        .doc("", "Says in words what took long, and what may help."),
    sub("graph", latency::graph)
        .args(2)
        .flags(OPERATOR)
        .since("2.8.13", "O(1)")
        .doc("event", "Draws how long an event took of late."),
    sub("help", |session, _, reply| help::subcommands(session, "latency", reply))
        .args(1)
        .since("2.8.13", "O(1)")
        .doc("", "Lists the subcommands."),
    sub("histogram", latency::histogram)
        .args_min(1)
        .flags(OPERATOR)
        .since("7.0.0", "O(N) where N is the number of commands with latency information being retrieved.")
        .doc("[command [command ...]]", "Tells how long commands took, in buckets."),
    sub("history", latency::history)
        .args(2)
        .flags(OPERATOR)
        .since("2.8.13", "O(1)")
        .doc("event", "Tells when an event took how long."),
    sub("latest", latency::latest)
        .args(1)
        .flags(OPERATOR)
        .since("2.8.13", "O(1)")
        .doc("", "Tells when each event last took long."),
    sub("reset", latency::reset)
        .args_min(1)
        .flags(OPERATOR)
        .since("2.8.13", "O(1)")
        .doc("[event [event ...]]", "Forgets events."),
];

const MEMORY: &[Command] = &[
    Command::server(GROUP, "doctor", memory::doctor)
        .args(1)
        .since("4.0.0", "O(1)")
        .doc("", "Says in words whether memory is used well."),
    sub("help", |session, _, reply| help::subcommands(session, "memory", reply))
        .args(1)
        .since("4.0.0", "O(1)")
        .doc("", "Lists the subcommands."),
    Command::server(GROUP, "malloc-stats", memory::malloc_stats)
        .args(1)
        .since("4.0.0", "Depends on how much memory is allocated, could be slow")
        .doc("", "Tells what the allocator knows."),
    sub("purge", memory::purge)
        .without(ANYTIME)
        .args(1)
        .since("4.0.0", "Depends on how much memory is allocated, could be slow")
        .doc("", "Asks the allocator to give memory back."),
    Command::server(GROUP, "stats", memory::stats).args(1).since("4.0.0", "O(1)").doc("", "Tells what memory is used for."),
    Command::read(GROUP, "usage", memory::usage)
        .args_min(2)
        .keys(Keys::Range { first: 2, last: 2, step: 1 })
        .since("4.0.0", "O(N) where N is the number of samples.")
        .doc("key [SAMPLES count]", "Tells how many bytes a key takes in memory."),
];

const MODULE: &[Command] = &[
    sub("help", |session, _, reply| help::subcommands(session, "module", reply))
        .args(1)
        .since("5.0.0", "O(1)")
        .doc("", "Lists the subcommands."),
    sub("list", |_, _, reply| {
        reply.array(0);
        Ok(())
    })
    .args(1)
    .without(ANYTIME)
    .flags(flag::ADMIN | flag::NO_SCRIPT | flag::DANGEROUS)
    .since("4.0.0", "O(N) where N is the number of loaded modules.")
    .doc("", "Names the modules: none."),
];

const SLOWLOG: &[Command] = &[
    sub("get", slowlog::get)
        .args_min(1)
        .flags(flag::ADMIN | flag::DANGEROUS)
        .since("2.2.12", "O(N) where N is the number of entries returned")
        .doc("[count]", "Shows the newest entries, ten or as many as asked for; -1 is all."),
    sub("help", |session, _, reply| help::subcommands(session, "slowlog", reply))
        .args(1)
        .since("6.2.0", "O(1)")
        .doc("", "Lists the subcommands."),
    sub("len", slowlog::len)
        .args(1)
        .flags(flag::ADMIN | flag::DANGEROUS)
        .since("2.2.12", "O(1)")
        .doc("", "Tells how many entries there are."),
    sub("reset", slowlog::reset)
        .args(1)
        .flags(flag::ADMIN | flag::DANGEROUS)
        .since("2.2.12", "O(N) where N is the number of entries in the slowlog")
        .doc("", "Forgets all entries."),
];

const fn sub(name: &'static str, run: fn(&mut Session, Args<'_>, &mut Reply) -> Outcome) -> Command {
    Command::session(GROUP, name, run).flags(ANYTIME)
}

fn time(session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    session.tick();
    let micros = session.now_ns / 1000;
    reply.array(2);
    reply.bulk_int((micros / 1_000_000) as i64);
    reply.bulk_int((micros % 1_000_000) as i64);
    Ok(())
}
