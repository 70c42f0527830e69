//! Commands of Redis' `cluster` group. A flux server is not part of a cluster, and says so in Redis' words: clients ask in
//! order to find out.

use crate::commands::session::Session;
use crate::commands::table::Group::Cluster as GROUP;
use crate::commands::table::flag;
use crate::commands::{Command, Outcome, help};
use crate::engine::error::Error;
use crate::resp::{Args, Reply};

/// The group's rows.
pub(crate) const COMMANDS: &[Command] = &[
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

/// The slot of a cluster in which a key is: that of its hash tag, the part between the first `{` and the next `}`, if it has one.
/// <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags>
pub(crate) fn slot_of(key: &[u8]) -> u16 {
    let tag = memchr::memchr(b'{', key).map(|begin| &key[begin + 1..]);
    let tag = tag.and_then(|rest| Some(&rest[..memchr::memchr(b'}', rest)?])).filter(|tag| !tag.is_empty());
    crc16::State::<crc16::XMODEM>::calculate(tag.unwrap_or(key)) % SLOTS
}

/// Slots of a cluster.
const SLOTS: u16 = 16_384;

const fn sub(name: &'static str) -> Command {
    Command::session(GROUP, name, disabled).flags(flag::STALE)
}

fn disabled(_: &mut Session, _: Args<'_>, _: &mut Reply) -> Outcome {
    Err(Error::new("ERR This instance has cluster support disabled"))
}

fn cluster_help(session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    help::subcommands(session, "cluster", reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_in_the_slot_that_redis_puts_it_in() {
        // As `CLUSTER KEYSLOT` of Redis answers.
        assert_eq!([slot_of(b"foo"), slot_of(b"123456789"), slot_of(b"")], [12_182, 12_739, 0]);
        assert_eq!(slot_of(b"{foo}bar"), slot_of(b"foo"));
        assert_eq!(slot_of(b"x{foo}{bar}"), slot_of(b"foo"));
        for whole in [&b"foo{}{bar}"[..], b"foo{bar", b"foo}bar{"] {
            assert_eq!(slot_of(whole), crc16::State::<crc16::XMODEM>::calculate(whole) % SLOTS);
        }
        assert_eq!(slot_of(b"foo{{bar}}zap"), slot_of(b"{bar"));
    }
}
