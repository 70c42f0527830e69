//! Calls, from either side: `FLUX.CALL`, `FLUX.NEXT`, `FLUX.REPLY` and their like, and what the state machine wants done.

use crate::commands::Outcome;
use crate::commands::session::Session;
use crate::engine::error::Error;
use crate::peers::calls::{Action, Failure, Order, Parts};
use crate::peers::directory::{Id, Peer};
use crate::peers::presence;
use crate::peers::room::Room;
use crate::resp::{Args, Reply};

const MISSING: Error = Error(std::borrow::Cow::Borrowed("ERR calls are not served yet"));

/// `FLUX.CALL`
pub fn call(_: &Room, _: &mut Session, _: Args<'_>, _: &mut Reply) -> Outcome {
    Err(MISSING)
}

/// `FLUX.RESULT`
pub fn result(_: &Room, _: &mut Session, _: Args<'_>, _: &mut Reply) -> Outcome {
    Err(MISSING)
}

/// `FLUX.CANCEL`
pub fn cancel(_: &Room, _: &mut Session, _: Args<'_>, _: &mut Reply) -> Outcome {
    Err(MISSING)
}

/// `FLUX.NEXT`
pub fn next(_: &Room, _: &mut Session, _: Args<'_>, _: &mut Reply) -> Outcome {
    Err(MISSING)
}

/// `FLUX.REPLY`
pub fn reply(_: &Room, _: &mut Session, _: Args<'_>, _: &mut Reply) -> Outcome {
    Err(MISSING)
}

/// Does what calls led to.
pub fn act(_room: &Room, _session: &mut Session, _actions: Vec<Action>) {}

/// A session ends that may wait for a call.
pub fn left(_room: &Room, _session: &mut Session) {}

/// A peer is gone: its calls go to others, or end.
pub fn gone(_room: &Room, _session: &mut Session, _peer: &Peer) {}

impl Room {
    /// A call of a caller within the process.
    pub fn call_in_process(&self, _order: Order, _parts: Parts) -> Result<Id, Failure> {
        Err(Failure::new("FAILED", "calls are not served yet"))
    }

    /// The caller is gone.
    pub fn cancel_in_process(&self, _id: &str) {}

    /// The JSON of live peers, oldest first.
    pub fn list(&self, workspace: Option<&str>, capability: Option<&str>) -> Vec<Id> {
        let Some(mut session) = self.session() else { return Vec::new() };
        presence::list(self, &mut session, workspace, capability).unwrap_or_default()
    }
}
