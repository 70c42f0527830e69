//! What is said where a command waits for keys, and whether it may.

use crate::engine::blob::Blob;
use crate::engine::block::{AtKey, Want};
use crate::engine::types::stream::id::Id;
use crate::resp::OwnedArgs;

/// Whether a command that finds nothing may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// It must answer: in a transaction or in a script.
    Never,
    /// It must answer, for it has waited and its time is over.
    Over,
    /// It may.
    Allowed,
    /// It has waited, and one of its keys was touched.
    Again,
}

/// Why a command did not answer: it waits for keys.
pub(crate) struct KeyWait {
    /// What for.
    pub want: Want,
    /// The keys it waits for.
    pub keys: Vec<Blob>,
    /// How long at most, in milliseconds; None for ever.
    pub timeout_ms: Option<u64>,
    /// The command to run again, where it differs from the one that waits.
    pub args: Option<OwnedArgs>,
    /// Makes the command for one of several keys.
    pub at_key: Option<AtKey>,
    /// For entries of streams: the ids they must be above, one for each key.
    pub above: Vec<Id>,
}
