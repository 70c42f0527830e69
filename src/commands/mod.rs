//! The commands: one table row each, grouped as Redis groups them. Rows hold all facts about a command; dispatch,
//! `COMMAND`'s replies, docs/commands.md and schemas/commands.json are made from them.

pub(crate) mod absent;
pub(crate) mod admit;
pub(crate) mod args;
pub(crate) mod bitmap;
pub(crate) mod buffers;
pub(crate) mod caching;
pub(crate) mod clients;
pub(crate) mod cluster;
pub mod compatibility;
pub(crate) mod connection;
pub mod docs;
pub(crate) mod double;
pub(crate) mod elements;
pub(crate) mod elsewhere;
pub(crate) mod float;
pub(crate) mod generic;
pub(crate) mod geo;
pub(crate) mod guesses;
pub(crate) mod hash;
pub(crate) mod help;
pub(crate) mod hyperloglog;
pub mod identity;
pub(crate) mod inner;
pub mod instance;
pub(crate) mod list;
pub mod marks;
pub(crate) mod monitor;
pub mod offers;
pub(crate) mod pubsub;
pub mod room;
pub mod route;
pub(crate) mod script;
pub(crate) mod server;
pub(crate) mod serving;
pub mod session;
pub(crate) mod set;
pub(crate) mod shards;
pub(crate) mod slowlog;
pub(crate) mod sockets;
pub(crate) mod stats;
pub(crate) mod stream;
pub(crate) mod string;
pub mod table;
pub(crate) mod tracking;
pub(crate) mod transactions;
pub(crate) mod wait;
pub(crate) mod zset;

use std::sync::{Arc, LazyLock};

use crate::commands::instance::Instance;
use crate::commands::room::Room;
use crate::config::Config;
use crate::engine::Engine;

pub(crate) use table::Outcome;
pub use table::{Command, Group, Keys, Run, Table};

/// All rows, by group.
pub const GROUPS: &[&[Command]] = &[
    bitmap::COMMANDS,
    cluster::COMMANDS,
    connection::COMMANDS,
    generic::COMMANDS,
    geo::COMMANDS,
    hash::COMMANDS,
    hyperloglog::COMMANDS,
    list::COMMANDS,
    pubsub::COMMANDS,
    script::rows::COMMANDS,
    server::COMMANDS,
    set::COMMANDS,
    stream::COMMANDS,
    string::COMMANDS,
    transactions::COMMANDS,
    wait::COMMANDS,
    zset::COMMANDS,
];

/// See [`Table::keyspace`].
static KEYSPACE: LazyLock<Table> = LazyLock::new(|| Table::with([]));

impl Table {
    /// Of the keyspace's own commands. What is in this room finds commands in the table of its instance instead.
    pub fn keyspace() -> &'static Table {
        &KEYSPACE
    }

    /// Of the keyspace's own commands, which have the same numbers in every table, and more.
    pub(crate) fn with(more: impl IntoIterator<Item = &'static [Command]>) -> Table {
        Table::of(GROUPS.iter().copied().chain(more))
    }
}

impl Instance {
    /// Around a keyspace, without rooms. `now` is in milliseconds since the epoch.
    pub fn new(engine: Arc<Engine>, config: Arc<Config>, now: u64) -> Arc<Instance> {
        Instance::with(&[], engine, config, now)
    }

    /// Around a keyspace, with rooms, which are to be opened. The config has their settings, too (`Config::of`).
    pub fn with(rooms: &'static [Room], engine: Arc<Engine>, config: Arc<Config>, now: u64) -> Arc<Instance> {
        for setting in rooms.iter().flat_map(|room| room.settings).flat_map(|section| section.settings) {
            assert!(config.settings().has(setting), "the config was made without `{}`, which a room has", setting.name);
        }
        let table = Arc::new(Table::with(rooms.iter().map(|room| room.commands)));
        let known = Arc::clone(&table);
        engine.set_serving(Box::new(move |engine, touched| serving::serve(&known, engine, touched)));
        Instance::of(table, rooms, engine, config, now)
    }
}
