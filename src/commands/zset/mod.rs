//! Commands of Redis' `sorted-set` group.

use crate::commands::Command;

/// The group's rows.
pub const COMMANDS: &[Command] = &[];
