//! Commands of Redis' `bitmap` group.

use crate::commands::Command;

/// The group's rows.
pub const COMMANDS: &[Command] = &[];
