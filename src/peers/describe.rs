//! What there is: capabilities, workspaces, counts; and the broom for what is stale.
//!
//! To be filled in. The directory of live peers is `room.state.lock().directory`; nothing may touch the keyspace while that
//! lock is held.

use crate::commands::Outcome;
use crate::commands::session::Session;
use crate::engine::error::Error;
use crate::peers::room::Room;
use crate::resp::{Args, Reply};

const MISSING: Error = Error(std::borrow::Cow::Borrowed("ERR this is not served yet"));

/// `FLUX.DESCRIBE capability`
pub fn describe(_: &Room, _: &mut Session, _: Args<'_>, _: &mut Reply) -> Outcome {
    Err(MISSING)
}

/// `FLUX.CAPABILITIES`
pub fn capabilities(_: &Room, _: &mut Session, _: Args<'_>, _: &mut Reply) -> Outcome {
    Err(MISSING)
}

/// `FLUX.WORKSPACES`
pub fn workspaces(_: &Room, _: &mut Session, _: Args<'_>, _: &mut Reply) -> Outcome {
    Err(MISSING)
}

/// `FLUX.STATUS`
pub fn status(_: &Room, _: &mut Session, _: Args<'_>, _: &mut Reply) -> Outcome {
    Err(MISSING)
}

/// `FLUX.CLEAN`
pub fn clean(_: &Room, _: &mut Session, _: Args<'_>, _: &mut Reply) -> Outcome {
    Err(MISSING)
}
