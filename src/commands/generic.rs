//! Commands of Redis' `generic` group.

use crate::commands::Command;

/// The group's rows.
pub const COMMANDS: &[Command] = &[];
