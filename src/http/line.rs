//! Connections to the keyspace for those who ask over HTTP: commands run as if the client had come over TCP, waits and durability included,
//! without a thread that blocks. When a request is given up, so is what it waits for.

use std::sync::Arc;

use super::answer::Refusal;
use super::{Busy, Caller, Door};
use crate::commands::identity::{Identity, Way, Who};
use crate::commands::route::Line;
use crate::store::{Hear, Link, Store};

/// A connection for a caller whom the guard let in.
pub(crate) async fn open(door: &Arc<Door>, caller: Caller) -> Result<Line, Refusal> {
    Ok(Line::new(store(door, caller, Way::Http).line().await?))
}

/// One for someone who may hear what is published meanwhile.
pub(crate) async fn link(door: &Arc<Door>, caller: Caller, way: Way, hear: Hear) -> Result<Link, Refusal> {
    Ok(store(door, caller, way).link(hear).await?)
}

/// The keyspace, as a user sees it. Its connections touch it for as long as they are there.
fn store(door: &Arc<Door>, caller: Caller, way: Way) -> Store {
    let identity = Identity { who: Who::DEFAULT, from: Arc::new(caller.origin(way)), only: None };
    Store::keeping(&door.instance, identity, Arc::new(Busy::begin(door)))
}
