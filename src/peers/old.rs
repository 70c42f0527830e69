//! Jobs and crashes of peers that speak only the old protocol.

use crate::commands::session::Session;
use crate::engine::blob::Blob;
use crate::peers::directory::{Id, Peer};
use crate::peers::room::Room;

/// Jobs that old peers gave to old peers.
#[derive(Default)]
pub struct Jobs {}

/// Something was pushed onto a peer's list.
pub fn pushed(_room: &Room, _id: &str, _elements: &[Blob]) {}

/// Takes jobs off a new peer's list and makes calls of them.
pub fn drain(_room: &Room, _session: &mut Session, _id: &Id) {}

/// A result was published on a peer's channel.
pub fn result(_room: &Room, _session: &mut Session, _source: &Id, _bytes: &[u8]) {}

/// A peer is gone, and these jobs were on its list.
pub fn gone(_room: &Room, _session: &mut Session, _peer: &Peer, _jobs: Vec<Vec<u8>>) {}
