//! Commands of Redis' `set` group.

use crate::commands::Command;

/// The group's rows.
pub const COMMANDS: &[Command] = &[];
