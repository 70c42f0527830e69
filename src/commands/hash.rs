//! Commands of Redis' `hash` group.

use crate::commands::Command;

/// The group's rows.
pub const COMMANDS: &[Command] = &[];
