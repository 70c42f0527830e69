//! Commands of Redis' `zset` group.

use crate::commands::Command;

/// The group's rows.
pub const COMMANDS: &[Command] = &[];
