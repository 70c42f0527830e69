//! Commands of Redis' `stream` group.

use crate::commands::Command;

/// The group's rows.
pub const COMMANDS: &[Command] = &[];
