//! Commands that took long, remembered for `SLOWLOG`.

use crate::commands::Command;
use crate::commands::session::Session;
use crate::resp::Args;

/// Whether every command must be offered to [`note`], however fast it was.
#[inline]
pub fn is_eager() -> bool {
    false
}

/// Remembers a command if it took long enough.
#[cold]
pub fn note(_session: &Session, _command: &Command, _args: Args<'_>, _took_ns: u64) {}
