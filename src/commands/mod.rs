//! The commands: one table row each, grouped as Redis groups them. Rows hold all facts about a command; dispatch,
//! `COMMAND`'s replies, docs/commands.md and schemas/commands.json are made from them.

pub mod admit;
pub mod args;
pub mod bitmap;
pub mod buffers;
pub mod clients;
pub mod cluster;
pub mod connection;
pub mod docs;
pub mod double;
pub mod elements;
pub mod elsewhere;
pub mod float;
pub mod generic;
pub mod geo;
pub mod guesses;
pub mod hash;
pub mod help;
pub mod hyperloglog;
pub mod identity;
pub mod inner;
pub mod instance;
pub mod list;
pub mod marks;
pub mod monitor;
pub mod pubsub;
pub mod room;
pub mod scripting;
pub mod server;
pub mod serving;
pub mod session;
pub mod set;
pub mod shards;
pub mod slowlog;
pub mod sockets;
pub mod stats;
pub mod stream;
pub mod string;
pub mod table;
pub mod transactions;
pub mod wait;
pub mod zset;

pub use table::{Arity, Command, Group, Keys, Outcome, Run, Table};

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
    scripting::COMMANDS,
    server::COMMANDS,
    set::COMMANDS,
    stream::COMMANDS,
    string::COMMANDS,
    transactions::COMMANDS,
    wait::COMMANDS,
    zset::COMMANDS,
];
