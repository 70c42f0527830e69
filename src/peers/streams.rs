//! Streams of peers: the last chunks are kept, numbered, so that a late reader catches up and sees what it missed.
//!
//! To be filled in: the commands; [`record`] for `stream:data` and `stream:end` events of old peers; [`left`], which ends
//! the streams of a peer that is gone.

use crate::commands::Outcome;
use crate::commands::session::Session;
use crate::engine::error::Error;
use crate::peers::room::Room;
use crate::peers::wire::Event;
use crate::resp::{Args, Reply};

const MISSING: Error = Error(std::borrow::Cow::Borrowed("ERR streams are not served yet"));

/// `FLUX.STREAM.PUSH ws key chunk [chunk …]`
pub fn push(_: &Room, _: &mut Session, _: Args<'_>, _: &mut Reply) -> Outcome {
    Err(MISSING)
}

/// `FLUX.STREAM.END ws key`
pub fn end(_: &Room, _: &mut Session, _: Args<'_>, _: &mut Reply) -> Outcome {
    Err(MISSING)
}

/// `FLUX.STREAM.READ ws peer-id key [FROM seq] [COUNT n]`
pub fn read(_: &Room, _: &mut Session, _: Args<'_>, _: &mut Reply) -> Outcome {
    Err(MISSING)
}

/// Keeps a chunk, or notes the end, of an old peer's stream. On the room's thread.
pub fn record(_room: &Room, _session: &mut Session, _event: &Event) {}

/// A peer left a workspace, or altogether. On the room's thread, or on that of the session that left.
pub fn left(_room: &Room, _session: &mut Session, _workspace: &str, _peer: &str) {}
