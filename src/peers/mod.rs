//! Peers: processes and agents that register here, find each other, call each other by capability, and share workspaces.
//!
//! Lasting state is ordinary keys under `flux:` in database 0, laid out as the clients of the old protocol have it, so
//! that they and new peers see each other. Calls in flight are live, in memory, and bounded; they last as long as their
//! deadline at most.
//!
//! - [`room`]: the state behind one lock, the thread with the timers, the observer of keys and channels. [`commands`],
//!   [`metrics`] and [`settings`]: their rows.
//! - [`directory`]: who is there. [`calls`]: the life of calls, without I/O. [`route`]: who gets a call.
//! - [`presence`]: registering, heartbeats, joining, leaving, dying. [`calling`]: calls, from either side. [`checking`]: payloads,
//!   before a call is made of them. [`order`]: what may be said of a call.
//! - [`old`]: jobs and crashes of peers that speak only the old protocol.
//! - [`context`], [`streams`], [`log`], [`describe`], [`clean`], [`schema`]: what the names say. [`kept`]: streams that keep
//!   the last of something.
//! - [`http`]: what can be asked over HTTP.
//! - [`outbox`]: what is published once no locks are held.
//! - [`handle`]: the room for others within the process. [`peer`]: a peer written in Rust, here or far away.
//!
//! The order of locks: shards, then the room's state. So nothing touches the keyspace while it holds the state.

pub(crate) mod calling;
pub mod calls;
pub(crate) mod checking;
pub(crate) mod clean;
pub(crate) mod commands;
pub(crate) mod context;
pub(crate) mod describe;
pub mod directory;
pub(crate) mod handle;
pub(crate) mod http;
pub(crate) mod ids;
pub(crate) mod kept;
pub(crate) mod log;
pub(crate) mod metrics;
pub(crate) mod names;
pub(crate) mod old;
pub(crate) mod order;
pub mod outbox;
pub(crate) mod peer;
pub(crate) mod presence;
pub(crate) mod ring;
pub(crate) mod room;
pub(crate) mod route;
pub mod schema;
pub(crate) mod settings;
pub(crate) mod streams;
pub(crate) mod wire;

pub use calls::Ongoing;
pub use handle::Handle;
pub use peer::{
    Answer, Builder as PeerBuilder, Call, Capability, Chunk, Context, Error, Event, Job, Peer, PeerRecord, StreamReader,
    StreamWriter,
};
pub(crate) use room::{ROOM, handle};
