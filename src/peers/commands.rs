//! The commands of peers: a row for each, which points at the function of the room that carries it out.

use std::sync::Arc;

use crate::commands::instance::Instance;
use crate::commands::session::Session;
use crate::commands::table::Group::Flux as GROUP;
use crate::commands::table::{Positions, flag};
use crate::commands::{Command, Outcome, room};
use crate::peers::room::{ROOM, Room};
use crate::peers::{calling, clean, context, describe, presence, streams};
use crate::resp::{Args, Reply};

const ASKS: u32 = flag::NO_MULTI | flag::NO_SCRIPT;
const CHANGES: u32 = ASKS | flag::CHANGES_KEYS;

const fn row(name: &'static str, run: fn(&mut Session, Args<'_>, &mut Reply) -> Outcome) -> Command {
    Command::session(GROUP, name, run)
}

/// A function of the room as a row points at it.
macro_rules! run {
    ($function:path) => {
        |session, args, reply| {
            let instance = Arc::clone(&session.instance);
            let room = instance.room::<Room>().ok_or_else(|| room::not_here(ROOM.name))?;
            let outcome = $function(room, session, args, reply);
            room.tell();
            outcome
        }
    };
}

/// The rows.
pub(crate) const COMMANDS: &[Command] = &[
    row("flux.register", run!(presence::register))
        .args_min(1)
        .flags(CHANGES | flag::DENY_OOM | flag::LASTS)
        .since("flux 0.1", "O(N) in the peer's capabilities, workspaces and calls")
        .doc(
            "peer-json [SECRET secret] [TTL milliseconds] [GENERATION run number] [RUNNING count [call-id ...]]",
            "Makes this connection a peer, or attaches it to the peer with this id and secret.",
        )
        .secrets(given_to_register),
    row("flux.heartbeat", run!(presence::heartbeat))
        .args(0)
        .flags(CHANGES | flag::FAST)
        .since("flux 0.1", "O(1)")
        .doc("", "Keeps this connection's peer alive for another TTL."),
    row("flux.join", run!(presence::join))
        .args_min(1)
        .flags(CHANGES | flag::DENY_OOM)
        .since("flux 0.1", "O(N) in the workspace's peers")
        .doc("workspace [GENERATION run number]", "Joins a workspace and returns its live peers, this one among them."),
    row("flux.leave", run!(presence::leave))
        .args_min(0)
        .flags(CHANGES)
        .since("flux 0.1", "O(N) in the peer's capabilities and workspaces")
        .doc("[workspace] [GENERATION run number]", "Leaves a workspace, or ends being a peer."),
    row("flux.peers", run!(presence::peers))
        .args_min(0)
        .flags(ASKS)
        .since("flux 0.1", "O(N) in the peers")
        .doc("[WORKSPACE workspace] [CAPABILITY capability]", "Returns the live peers."),
    row("flux.call", run!(calling::call))
        .args_min(2)
        .flags(ASKS | flag::BLOCKING | flag::CHANGES_KEYS)
        .since("flux 0.1", "O(log N) in the peers with the capability, O(N) for GATHER")
        .doc(
            "capability payload-json [TO peer-id] [TIMEOUT milliseconds] [RETRIES count] [PRIORITY priority] \
             [ROUTE <LEAST-LOADED | ROUND-ROBIN | STICKY key>] [GATHER count] [ID call-id] [ATTEMPT number] [SEEN chunks] [ASYNC] [CHUNKS]",
            "Calls a capability of some peer and waits for the result.",
        ),
    row("flux.result", run!(calling::result))
        .args(1)
        .flags(ASKS | flag::FAST)
        .since("flux 0.1", "O(1)")
        .doc("call-id", "Returns the outcome of a call that was made with ASYNC, null while it runs."),
    row("flux.cancel", run!(calling::cancel))
        .args(1)
        .flags(ASKS)
        .since("flux 0.1", "O(1)")
        .doc("call-id", "Ends a call of this peer and tells the peer that runs it."),
    row("flux.next", run!(calling::next))
        .args_min(0)
        .flags(ASKS | flag::BLOCKING)
        .since("flux 0.1", "O(N) in the calls returned")
        .doc("[COUNT count] [TIMEOUT milliseconds]", "Takes calls that this peer has to answer; waits if there are none."),
    row("flux.reply", run!(calling::reply)).args(3).flags(ASKS | flag::FAST).since("flux 0.1", "O(1)").doc(
        "call-id <OK data-json | ERROR message | CHUNK data-json>",
        "Answers a call that was taken with FLUX.NEXT, wholly or in pieces.",
    ),
    row("flux.ctx.set", run!(context::set)).args_min(3).flags(CHANGES | flag::DENY_OOM).since("flux 0.1", "O(1)").doc(
        "workspace key value [IFVERSION version] [TTL milliseconds]",
        "Sets a value of a workspace's context and returns its version.",
    ),
    row("flux.ctx.get", run!(context::get))
        .args_min(2)
        .flags(ASKS | flag::FAST)
        .since("flux 0.1", "O(1)")
        .doc("workspace key [WITHVERSION]", "Returns a value of a workspace's context."),
    row("flux.ctx.del", run!(context::del))
        .args_min(2)
        .flags(CHANGES)
        .since("flux 0.1", "O(1)")
        .doc("workspace key [IFVERSION version]", "Removes a value of a workspace's context."),
    row("flux.ctx.keys", run!(context::keys))
        .args_min(1)
        .flags(ASKS)
        .since("flux 0.1", "O(N) in the workspace's keys")
        .doc("workspace [WITHVERSIONS]", "Returns the keys of a workspace's context."),
    row("flux.ctx.history", run!(context::history))
        .args_min(2)
        .flags(ASKS)
        .since("flux 0.1", "O(N) in the versions returned")
        .doc("workspace key [COUNT count]", "Returns the last versions of a value, newest first."),
    row("flux.stream.push", run!(streams::push))
        .args_min(3)
        .flags(CHANGES | flag::DENY_OOM)
        .since("flux 0.1", "O(N) in the chunks")
        .doc("workspace key chunk [chunk ...]", "Adds chunks to a stream of this peer and returns the last one's number."),
    row("flux.stream.end", run!(streams::end))
        .args_min(2)
        .flags(CHANGES)
        .since("flux 0.1", "O(1)")
        .doc("workspace key [ERROR message]", "Ends a stream of this peer, or says why it breaks off."),
    row("flux.stream.read", run!(streams::read))
        .args_min(3)
        .flags(ASKS)
        .since("flux 0.1", "O(N) in the chunks returned")
        .doc("workspace peer-id key [FROM number] [COUNT count]", "Returns chunks of a peer's stream that are kept."),
    row("flux.describe", run!(describe::describe))
        .args(1)
        .flags(ASKS)
        .since("flux 0.1", "O(N) in the peers with the capability")
        .doc("capability", "Describes a capability and the peers that have it."),
    row("flux.capabilities", run!(describe::capabilities))
        .args(0)
        .flags(ASKS)
        .since("flux 0.1", "O(N) in the capabilities")
        .doc("", "Describes all capabilities."),
    row("flux.workspaces", run!(describe::workspaces))
        .args(0)
        .flags(ASKS)
        .since("flux 0.1", "O(N) in the peers")
        .doc("", "Returns the workspaces, with the number of their peers and of their context's keys."),
    row("flux.status", run!(describe::status))
        .args(0)
        .flags(ASKS)
        .since("flux 0.1", "O(N) in the peers")
        .doc("", "Counts peers, workspaces, capabilities and calls."),
    row("flux.clean", run!(clean::clean))
        .args(0)
        .flags(CHANGES)
        .since("flux 0.1", "O(N) in the peers")
        .doc("", "Removes what peers that are gone left behind, and tells how much it was."),
];

/// The secret, and the peer's JSON where someone wrote it in there, or wrote anything in a way that may hide the word.
fn given_to_register(_: &Instance, args: Args<'_>) -> Positions {
    let json = args.get(1).unwrap_or_default().to_ascii_lowercase();
    let hides_one = [&b"secret"[..], b"\\u"].iter().any(|word| memchr::memmem::find(&json, word).is_some());
    let after_words = (2..args.len()).filter(|at| args.is(*at, "secret")).map(|at| at + 1);
    after_words.chain(hides_one.then_some(1)).collect()
}
