//! Commands of Redis' `pubsub` group.

use crate::commands::Command;

/// The group's rows.
pub const COMMANDS: &[Command] = &[];
