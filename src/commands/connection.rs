//! Commands of Redis' `connection` group.

use crate::commands::Command;

/// A client's state that lasts from one command to the next.
pub struct Session {}

/// The group's rows.
pub const COMMANDS: &[Command] = &[];
