//! Commands of Redis' `cluster` group. A flux server is not part of a cluster, and says so in Redis' words: clients ask in
//! order to find out.

use crate::commands::session::Session;
use crate::commands::table::Group::Cluster as GROUP;
use crate::commands::table::flag;
use crate::commands::{Command, Outcome, help};
use crate::engine::error::Error;
use crate::resp::{Args, Reply};

/// The group's rows.
pub const COMMANDS: &[Command] = &[
    Command::session(GROUP, "asking", disabled)
        .args(0)
        .fast()
        .since("3.0.0", "O(1)")
        .doc("", "Of no use here: there is no cluster."),
    Command::container(
        GROUP,
        "cluster",
        &[
            sub("countkeysinslot").args(2).since("3.0.0", "O(1)").doc("slot", "Of no use here: there is no cluster."),
            sub("getkeysinslot")
                .args(3)
                .since("3.0.0", "O(N) where N is the number of requested keys")
                .doc("slot count", "Of no use here: there is no cluster."),
            Command::session(GROUP, "help", cluster_help)
                .args(1)
                .flags(flag::LOADING | flag::STALE)
                .since("5.0.0", "O(1)")
                .doc("", "Lists the subcommands."),
            sub("info").args(1).since("3.0.0", "O(1)").doc("", "Of no use here: there is no cluster."),
            sub("keyslot")
                .args(2)
                .since("3.0.0", "O(N) where N is the number of bytes in the key")
                .doc("key", "Of no use here: there is no cluster."),
            sub("myid").args(1).since("3.0.0", "O(1)").doc("", "Of no use here: there is no cluster."),
            sub("nodes")
                .args(1)
                .since("3.0.0", "O(N) where N is the total number of Cluster nodes")
                .doc("", "Of no use here: there is no cluster."),
            sub("shards")
                .args(1)
                .since("7.0.0", "O(N) where N is the total number of cluster nodes")
                .doc("", "Of no use here: there is no cluster."),
            sub("slots")
                .args(1)
                .since("3.0.0", "O(N) where N is the total number of Cluster nodes")
                .doc("", "Of no use here: there is no cluster."),
        ],
    )
    .since("3.0.0", "Depends on subcommand.")
    .doc("", "Asks about a cluster; there is none."),
    Command::session(GROUP, "readonly", disabled)
        .args(0)
        .fast()
        .flags(flag::LOADING | flag::STALE)
        .since("3.0.0", "O(1)")
        .doc("", "Of no use here: there is no cluster."),
    Command::session(GROUP, "readwrite", disabled)
        .args(0)
        .fast()
        .flags(flag::LOADING | flag::STALE)
        .since("3.0.0", "O(1)")
        .doc("", "Of no use here: there is no cluster."),
];

const fn sub(name: &'static str) -> Command {
    Command::session(GROUP, name, disabled).flags(flag::STALE)
}

fn disabled(_: &mut Session, _: Args<'_>, _: &mut Reply) -> Outcome {
    Err(Error::new("ERR This instance has cluster support disabled"))
}

fn cluster_help(session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    help::subcommands(session, "cluster", reply)
}
