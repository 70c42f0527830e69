//! flux: a durable, drop-in Redis in one binary, with peers, jobs, a vault and a mesh built on top of it.

#![warn(unreachable_pub)]

mod chores;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod connection;
pub mod engine;
pub mod http;
mod id;
pub mod jobs;
pub mod lifecycle;
mod limits;
pub mod lua;
mod machine;
pub mod memory;
mod metrics;
pub mod node;
mod panics;
pub mod peers;
mod prefetch;
pub mod resp;
mod seldom;
mod server;
mod settings;
pub mod storage;
pub mod store;
mod version;

use std::path::Path;
use std::sync::Arc;

use crate::commands::instance::Instance;
use crate::commands::room::OpenRooms;
use crate::engine::Engine;
use crate::node::Node;
use crate::store::{Blocking, Store};

/// flux within another program: the keyspace in a folder, or in memory, without listening anywhere.
///
/// Where a folder is open, a panic of flux while it changes keys, or in one of its threads, aborts the process: replay is the recovery, and
/// half of a change must not get into the journal. In memory only, it unwinds to the caller.
///
/// ```
/// use redis::TypedCommands;
///
/// let flux = flux::Flux::in_memory();
/// let mut client = flux.blocking();
/// client.set("greeting", "hello")?;
/// assert_eq!(client.get("greeting")?.as_deref(), Some("hello"));
/// # Ok::<(), redis::RedisError>(())
/// ```
pub struct Flux {
    instance: Arc<Instance>,
    node: Option<Node>,
    /// Of one without a node.
    _rooms: Option<OpenRooms>,
}

impl Flux {
    /// Opens the keyspace in a folder, which is made if it is missing. One process may have it open at a time.
    pub fn open(data: impl AsRef<Path>) -> Result<Flux, node::Error> {
        let node = Node::embedded(node::defaults(), data.as_ref())?;
        Ok(Flux { instance: Arc::clone(&node.instance), node: Some(node), _rooms: None })
    }

    /// A keyspace that is gone when the last handle is.
    pub fn in_memory() -> Flux {
        let instance = node::share(Arc::new(Engine::new(false)), &node::defaults());
        let rooms = instance.open_rooms();
        Flux { instance, node: None, _rooms: Some(rooms) }
    }

    /// The keyspace, for tasks: they wait without holding a thread. Clones are the same door.
    pub fn store(&self) -> Store {
        Store::within(&self.instance)
    }

    /// The keyspace, for threads; as many as you like, each a session of its own.
    pub fn blocking(&self) -> Blocking {
        Blocking::new(&self.instance)
    }

    /// A peer of this keyspace, within the process. It needs a tokio runtime, as peers of servers far away do.
    pub fn peer(&self) -> peers::PeerBuilder {
        peers::Peer::of(self.store())
    }

    /// Peers, for callers within the process.
    pub fn peers(&self) -> peers::Handle {
        peers::handle(&self.instance).expect("their room is open")
    }

    /// Writes everything to disk and closes the folder. Without it, dropping does what `kill` does: at most the last
    /// milliseconds of changes are lost.
    pub fn close(self) -> Result<(), node::Error> {
        self.node.map_or(Ok(()), Node::stop)
    }
}
