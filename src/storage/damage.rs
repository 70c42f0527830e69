//! What is wrong with a data folder, in words: the file, the place in it, and what is at stake.

use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

/// What can be done about it.
pub(crate) const WAY_OUT: &str = "`flux check` tells more; restore a backup, or start once with --accept-loss to go on with what is whole: what is cut off is kept in the folder";

/// Something that is not as it was written. A crash leaves no such thing: a disk, a copy or a hand did it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The file.
    pub(crate) path: PathBuf,
    /// The byte in it where what is sound ends; None where the file as a whole is not the one it should be.
    pub(crate) at: Option<u64>,
    /// What is wrong there.
    pub(crate) cause: String,
    /// What would be lost by going on without it.
    pub(crate) stake: String,
}

impl Damage {
    /// Damage whose consequences are not known yet.
    pub(crate) fn new(path: PathBuf, at: Option<u64>, cause: impl Into<String>) -> Damage {
        Damage { path, at, cause: cause.into(), stake: String::new() }
    }

    /// The file, the place, the cause and the stake.
    pub(crate) fn what(&self) -> String {
        let at = self.at.map_or_else(String::new, |at| format!(", damaged at byte {at}"));
        let stake = if self.stake.is_empty() { String::new() } else { format!("; {}", self.stake) };
        format!("`{}`{at}: {}{stake}", self.path.display(), self.cause)
    }
}

impl Display for Damage {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let way_out = "`flux check` tells more; restore a backup, or start once with --accept-loss to go on without it: what is cut off is kept in the folder";
        write!(f, "{}; {way_out}", self.what())
    }
}
