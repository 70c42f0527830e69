//! All shards, for commands about the server rather than about keys they name: `INFO`, `MEMORY`, `DEBUG`. Such a command locks what it
//! looks at, unless it is part of a transaction: that holds all shards then, and the command looks through its view. So it
//! neither splits the transaction nor locks a shard twice.

use crate::commands::session::Session;
use crate::engine::keys::Write;
use crate::engine::shard::Shard;
use crate::engine::{Engine, SHARDS, Scope};

/// See the file's head.
pub enum Shards<'s, 'v> {
    /// Nobody holds them for this command.
    Free,
    /// A transaction holds all of them.
    Held(&'s mut Write<'v>),
}

impl Shards<'_, '_> {
    /// Whether a transaction holds them.
    pub(crate) fn is_held(&self) -> bool {
        matches!(self, Shards::Held(_))
    }

    /// Runs with each shard; outside of a transaction each is locked in turn, so there is no moment common to them.
    pub(crate) fn each(&mut self, engine: &Engine, mut run: impl FnMut(&mut Shard)) {
        match self {
            Shards::Free => engine.each_shard(|_, shard| run(shard)),
            Shards::Held(keys) => (0..SHARDS).for_each(|number| run(keys.shard(number))),
        }
    }

    /// Runs with all shards at one moment, in the session's database, to look at keys and to change them.
    pub(crate) fn together<R>(&mut self, session: &mut Session, run: impl FnOnce(&mut Write<'_>) -> R) -> R {
        match self {
            Shards::Free => session.locked(Scope::Everything, run),
            Shards::Held(keys) => {
                keys.select(session.db);
                let result = run(keys);
                keys.select(session.db);
                result
            }
        }
    }
}
