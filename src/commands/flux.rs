//! Commands of flux' own: peers that find each other, call each other, and share context. The rows are here; what they mean
//! is the business of whoever implements [`Peers`].

use std::any::Any;
use std::sync::{Arc, OnceLock};

use crate::commands::session::Session;
use crate::commands::table::Group::Flux as GROUP;
use crate::commands::table::{Positions, flag};
use crate::commands::{Command, Outcome};
use crate::engine::error::Error;
use crate::resp::{Args, Reply};

/// Who carries these commands out.
pub trait Peers: Send + Sync {
    /// Carries out one of them; `args` begin with the command's name.
    fn run(&self, verb: Verb, session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome;

    /// A session that was a peer, or that waits for a call, ends.
    fn left(&self, session: &mut Session);
}

/// What a session is among peers.
#[derive(Default)]
pub struct Presence {
    /// The peer it is attached to.
    pub peer: Option<Arc<str>>,
    /// The call it waits for, once it is made.
    pub call: Option<Arc<OnceLock<Arc<str>>>>,
    /// What was found out elsewhere for a command that is run again then.
    pub found: Option<Box<dyn Any + Send + Sync>>,
}

/// The commands, as a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the rows say what they are")]
pub enum Verb {
    Register,
    Heartbeat,
    Join,
    Leave,
    Peers,
    Call,
    Result,
    Cancel,
    Next,
    Reply,
    CtxSet,
    CtxGet,
    CtxDel,
    CtxKeys,
    CtxHistory,
    StreamPush,
    StreamEnd,
    StreamRead,
    Describe,
    Capabilities,
    Workspaces,
    Status,
    Clean,
}

const ASKS: u32 = flag::NO_MULTI | flag::NO_SCRIPT;
const CHANGES: u32 = ASKS | flag::CHANGES_KEYS;

const fn row(name: &'static str, run: fn(&mut Session, Args<'_>, &mut Reply) -> Outcome) -> Command {
    Command::session(GROUP, name, run)
}

macro_rules! hand_over {
    ($verb:ident) => {
        |session, args, reply| hand_over(Verb::$verb, session, args, reply)
    };
}

/// The group's rows.
pub const COMMANDS: &[Command] = &[
    row("flux.register", hand_over!(Register))
        .args_min(1)
        .flags(CHANGES | flag::DENY_OOM)
        .since("flux 0.1", "O(N) in the peer's capabilities, workspaces and calls")
        .doc(
            "peer-json [SECRET secret] [TTL milliseconds] [RUNNING count [call-id ...]]",
            "Makes this connection a peer, or attaches it to the peer with this id and secret.",
        )
        .secrets(given_to_register),
    row("flux.heartbeat", hand_over!(Heartbeat))
        .args(0)
        .flags(CHANGES | flag::FAST)
        .since("flux 0.1", "O(1)")
        .doc("", "Keeps this connection's peer alive for another TTL."),
    row("flux.join", hand_over!(Join))
        .args(1)
        .flags(CHANGES | flag::DENY_OOM)
        .since("flux 0.1", "O(N) in the workspace's peers")
        .doc("workspace", "Joins a workspace and returns its live peers, this one among them."),
    row("flux.leave", hand_over!(Leave))
        .args_min(0)
        .flags(CHANGES)
        .since("flux 0.1", "O(N) in the peer's capabilities and workspaces")
        .doc("[workspace]", "Leaves a workspace, or ends being a peer."),
    row("flux.peers", hand_over!(Peers))
        .args_min(0)
        .flags(ASKS)
        .since("flux 0.1", "O(N) in the peers")
        .doc("[WORKSPACE workspace] [CAPABILITY capability]", "Returns the live peers."),
    row("flux.call", hand_over!(Call))
        .args_min(2)
        .flags(ASKS | flag::BLOCKING | flag::CHANGES_KEYS)
        .since("flux 0.1", "O(log N) in the peers with the capability, O(N) for GATHER")
        .doc(
            "capability payload-json [TO peer-id] [TIMEOUT milliseconds] [RETRIES count] [PRIORITY priority] \
             [ROUTE <LEAST-LOADED | ROUND-ROBIN | STICKY key>] [GATHER count] [ID call-id] [ATTEMPT number] [SEEN chunks] [ASYNC] [CHUNKS]",
            "Calls a capability of some peer and waits for the result.",
        ),
    row("flux.result", hand_over!(Result))
        .args(1)
        .flags(ASKS | flag::FAST)
        .since("flux 0.1", "O(1)")
        .doc("call-id", "Returns the outcome of a call that was made with ASYNC, null while it runs."),
    row("flux.cancel", hand_over!(Cancel))
        .args(1)
        .flags(ASKS)
        .since("flux 0.1", "O(1)")
        .doc("call-id", "Ends a call of this peer and tells the peer that runs it."),
    row("flux.next", hand_over!(Next))
        .args_min(0)
        .flags(ASKS | flag::BLOCKING)
        .since("flux 0.1", "O(N) in the calls returned")
        .doc("[COUNT count] [TIMEOUT milliseconds]", "Takes calls that this peer has to answer; waits if there are none."),
    row("flux.reply", hand_over!(Reply)).args(3).flags(ASKS | flag::FAST).since("flux 0.1", "O(1)").doc(
        "call-id <OK data-json | ERROR message | CHUNK data-json>",
        "Answers a call that was taken with FLUX.NEXT, wholly or in pieces.",
    ),
    row("flux.ctx.set", hand_over!(CtxSet)).args_min(3).flags(CHANGES | flag::DENY_OOM).since("flux 0.1", "O(1)").doc(
        "workspace key value [IFVERSION version] [TTL milliseconds]",
        "Sets a value of a workspace's context and returns its version.",
    ),
    row("flux.ctx.get", hand_over!(CtxGet))
        .args_min(2)
        .flags(ASKS | flag::FAST)
        .since("flux 0.1", "O(1)")
        .doc("workspace key [WITHVERSION]", "Returns a value of a workspace's context."),
    row("flux.ctx.del", hand_over!(CtxDel))
        .args_min(2)
        .flags(CHANGES)
        .since("flux 0.1", "O(1)")
        .doc("workspace key [IFVERSION version]", "Removes a value of a workspace's context."),
    row("flux.ctx.keys", hand_over!(CtxKeys))
        .args_min(1)
        .flags(ASKS)
        .since("flux 0.1", "O(N) in the workspace's keys")
        .doc("workspace [WITHVERSIONS]", "Returns the keys of a workspace's context."),
    row("flux.ctx.history", hand_over!(CtxHistory))
        .args_min(2)
        .flags(ASKS)
        .since("flux 0.1", "O(N) in the versions returned")
        .doc("workspace key [COUNT count]", "Returns the last versions of a value, newest first."),
    row("flux.stream.push", hand_over!(StreamPush))
        .args_min(3)
        .flags(CHANGES | flag::DENY_OOM)
        .since("flux 0.1", "O(N) in the chunks")
        .doc("workspace key chunk [chunk ...]", "Adds chunks to a stream of this peer and returns the last one's number."),
    row("flux.stream.end", hand_over!(StreamEnd))
        .args_min(2)
        .flags(CHANGES)
        .since("flux 0.1", "O(1)")
        .doc("workspace key [ERROR message]", "Ends a stream of this peer, or says why it breaks off."),
    row("flux.stream.read", hand_over!(StreamRead))
        .args_min(3)
        .flags(ASKS)
        .since("flux 0.1", "O(N) in the chunks returned")
        .doc("workspace peer-id key [FROM number] [COUNT count]", "Returns chunks of a peer's stream that are kept."),
    row("flux.describe", hand_over!(Describe))
        .args(1)
        .flags(ASKS)
        .since("flux 0.1", "O(N) in the peers with the capability")
        .doc("capability", "Describes a capability and the peers that have it."),
    row("flux.capabilities", hand_over!(Capabilities))
        .args(0)
        .flags(ASKS)
        .since("flux 0.1", "O(N) in the capabilities")
        .doc("", "Describes all capabilities."),
    row("flux.workspaces", hand_over!(Workspaces))
        .args(0)
        .flags(ASKS)
        .since("flux 0.1", "O(N) in the peers")
        .doc("", "Returns the workspaces, with the number of their peers and of their context's keys."),
    row("flux.status", hand_over!(Status))
        .args(0)
        .flags(ASKS)
        .since("flux 0.1", "O(N) in the peers")
        .doc("", "Counts peers, workspaces, capabilities and calls."),
    row("flux.clean", hand_over!(Clean))
        .args(0)
        .flags(CHANGES)
        .since("flux 0.1", "O(N) in the peers")
        .doc("", "Removes what peers that are gone left behind, and tells how much it was."),
];

/// The secret, and the peer's JSON where someone wrote it in there, or wrote anything in a way that may hide the word.
fn given_to_register(args: Args<'_>) -> Positions {
    let json = args.get(1).unwrap_or_default().to_ascii_lowercase();
    let hides_one = [&b"secret"[..], b"\\u"].iter().any(|word| memchr::memmem::find(&json, word).is_some());
    let after_words = (2..args.len()).filter(|at| args.is(*at, "secret")).map(|at| at + 1);
    after_words.chain(hides_one.then_some(1)).collect()
}

fn hand_over(verb: Verb, session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let Some(peers) = session.instance.peers().cloned() else {
        return Err(Error::new("ERR peers are not served here"));
    };
    peers.run(verb, session, args, reply)
}

/// The session ends, or begins anew: it is no peer any more.
pub(crate) fn leave(session: &mut Session) {
    if session.presence.peer.is_none() && session.presence.call.is_none() {
        return;
    }
    if let Some(peers) = session.instance.peers().cloned() {
        peers.left(session);
    }
    session.presence = Presence::default();
}
