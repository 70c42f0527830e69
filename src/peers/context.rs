//! The shared context of workspaces: versions, history, compare-and-set.
//!
//! To be filled in: the commands, and [`changed`], which the room's thread calls for keys `flux:ws:{ws}:ctx:{key}` that
//! someone changed other than by these commands (plain SET, DEL, expiry), and also when one of them expired.

use crate::commands::Outcome;
use crate::commands::session::Session;
use crate::engine::error::Error;
use crate::peers::room::Room;
use crate::resp::{Args, Reply};

const MISSING: Error = Error(std::borrow::Cow::Borrowed("ERR contexts are not served yet"));

/// `FLUX.CTX.SET ws key value [IFVERSION v] [TTL ms]`
pub fn set(_: &Room, _: &mut Session, _: Args<'_>, _: &mut Reply) -> Outcome {
    Err(MISSING)
}

/// `FLUX.CTX.GET ws key [WITHVERSION]`
pub fn get(_: &Room, _: &mut Session, _: Args<'_>, _: &mut Reply) -> Outcome {
    Err(MISSING)
}

/// `FLUX.CTX.DEL ws key [IFVERSION v]`
pub fn del(_: &Room, _: &mut Session, _: Args<'_>, _: &mut Reply) -> Outcome {
    Err(MISSING)
}

/// `FLUX.CTX.KEYS ws [WITHVERSIONS]`
pub fn keys(_: &Room, _: &mut Session, _: Args<'_>, _: &mut Reply) -> Outcome {
    Err(MISSING)
}

/// `FLUX.CTX.HISTORY ws key [COUNT n]`
pub fn history(_: &Room, _: &mut Session, _: Args<'_>, _: &mut Reply) -> Outcome {
    Err(MISSING)
}

/// A value changed other than by these commands. On the room's thread.
pub fn changed(_room: &Room, _session: &mut Session, _workspace: &str, _key: &str) {}
