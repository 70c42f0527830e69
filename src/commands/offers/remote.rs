//! Peers of other nodes: they are seen, called and heard here like those that are connected.

use std::sync::Arc;

use crate::commands::offers::{Calls, Later};

/// Lets peers of other nodes take part.
pub trait RemotePeers: Send + Sync {
    /// A peer is there, with what it can do and where it takes part (JSON, as `FLUX.REGISTER` takes it), or has become another. Calls for it
    /// go that way.
    fn register(&self, peer: Arc<[u8]>, way: Arc<dyn Calls>) -> Later<()>;

    /// It is gone.
    fn leave(&self, id: &str) -> Later<()>;

    /// It did something in a workspace: JSON, as `flux:ws:{workspace}:events` carries it.
    fn event(&self, workspace: &str, event: Arc<[u8]>) -> Later<()>;
}
