//! Being there: registering, heartbeats, joining and leaving workspaces, and what is done when a peer is gone, however it went.
//!
//! Every change is made under the locks of all keys it concerns, and the directory changes within them.

mod joining;
mod leaving;
mod living;
mod registering;
mod syncing;

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use crate::commands::args::natural;
use crate::commands::inner::Together;
use crate::commands::session::Session;
use crate::engine::error::Error;
use crate::peers::calls::Calls;
use crate::peers::directory::{Capabilities, Generation, Id, Kind, Peer};
use crate::peers::names;
use crate::peers::room::Room;

pub(crate) use joining::{join, leave, list, peers};
pub(crate) use leaving::{disconnected, gone};
use living::exists_or_revives;
pub(crate) use living::{heartbeat, look_around};
use registering::Reading;
pub(crate) use registering::register;
pub(crate) use syncing::{expired, heard, load, sync};

/// How long a peer lives without a heartbeat, in milliseconds, if it does not say.
const TTL_MS: u64 = 10_000;
/// How long a peer's key lasts, in its TTLs. It is set anew when one of them has passed, for many peers at once; the rest is so that
/// a busy machine does not come too late.
const KEY_TTLS: u64 = 3;
/// Capabilities and workspaces of one peer.
const NAMES_MAX: usize = 1000;

/// This connection is no peer, or not any more.
pub(crate) const NOT_A_PEER: Error = Error(Cow::Borrowed("NOPEER this connection is not a registered peer: FLUX.REGISTER first"));

/// How a peer went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// It said so.
    Stopped,
    /// Its key expired or was removed.
    Expired,
    /// Its last connection ended.
    Disconnected,
}

impl Left {
    fn word(self) -> &'static str {
        match self {
            Left::Stopped => "stopped",
            Left::Expired => "expired",
            Left::Disconnected => "disconnected",
        }
    }
}

/// What a session is among peers.
#[derive(Default)]
pub(crate) struct Presence {
    /// The peer it is attached to.
    pub peer: Option<Id>,
    /// The call it waits for, once it is made.
    pub call: Option<Arc<OnceLock<Id>>>,
    /// What was found out elsewhere for a command that is run again then.
    found: Option<Arc<Reading>>,
}

/// The peer that a session said to be.
pub(crate) fn peer_of(session: &Session) -> Option<&Id> {
    session.slot_if_any::<Presence>()?.peer.as_ref()
}

/// A session is attached to no peer any more.
fn detach(session: &mut Session) {
    session.slot::<Presence>().peer = None;
    session.is_no_peer();
}

/// The peer this session is attached to, which is alive.
pub(crate) fn attached(room: &Room, session: &mut Session) -> Result<Id, Error> {
    attached_with(room, session, |_, _| ()).map(|(id, ())| id)
}

/// The same, and does something before anyone can remove the peer: whoever finds it here and acts later may act for one that is gone.
pub(crate) fn attached_with<R>(
    room: &Room,
    session: &mut Session,
    run: impl FnOnce(&mut Calls, &Peer) -> R,
) -> Result<(Id, R), Error> {
    let id = peer_of(session).cloned().ok_or(NOT_A_PEER)?;
    let state = &mut *room.state.lock();
    if let Some(peer) = state.directory.get(&id).filter(|peer| peer.has_client(session.client.id)) {
        return Ok((id, run(&mut state.calls, peer)));
    }
    detach(session);
    Err(NOT_A_PEER)
}

/// The same, with its name.
pub(crate) fn author(room: &Room, session: &mut Session) -> Result<(Id, Id), Error> {
    attached_with(room, session, |_, peer| Arc::clone(&peer.name))
}

/// The same, with all that is known of it.
fn attached_peer(room: &Room, session: &mut Session) -> Result<Peer, Error> {
    attached_with(room, session, |_, peer| peer.clone()).map(|(_, peer)| peer)
}

/// What is said after `GENERATION`.
fn read_generation(run: &[u8], number: &[u8]) -> Result<Generation, Error> {
    const INVALID: Error = Error::text("ERR invalid GENERATION: say the run, then a number from 0 on");
    Ok(Generation { run: names::id("run", run)?.into(), number: natural(number).map_err(|_| INVALID)? })
}

/// Tells that what peers can be called for has changed, if it has with this one.
fn tell_capabilities(room: &Room, id: &str, before: Option<&Peer>, after: Option<&Peer>) {
    let none = Capabilities::default();
    let of = |peer: Option<&Peer>| peer.map_or(none.clone(), |peer| peer.capabilities.clone());
    if !of(before).are_like(&of(after)) {
        room.publish_later(names::CAPABILITIES, id.as_bytes());
    }
}

fn write_json(together: &mut Together<'_>, peer: &Peer) -> Result<(), Error> {
    let ttl_ms = (KEY_TTLS * peer.ttl_ms).to_string();
    together.run::<()>(&[b"SET", names::peer(&peer.id).as_bytes(), peer.json.as_bytes(), b"PX", ttl_ms.as_bytes()])
}

/// Writes the keys that last only as long as the peer.
fn write_own(together: &mut Together<'_>, peer: &Peer) -> Result<(), Error> {
    write_json(together, peer)?;
    let Kind::New { secret, .. } = &peer.kind else { return Ok(()) };
    let (key, ttl_ms) = (names::auth(&peer.id), (KEY_TTLS * peer.ttl_ms).to_string());
    together.run::<()>(&[b"SET", key.as_bytes(), secret.text().as_bytes(), b"PX", ttl_ms.as_bytes()])
}

/// Runs with the locks of these keys.
fn together<R>(session: &mut Session, keys: &[String], run: impl FnOnce(&mut Together<'_>) -> R) -> R {
    let keys: Vec<&[u8]> = keys.iter().map(|key| key.as_bytes()).collect();
    session.together(&keys, run)
}

impl Peer {
    fn has_client(&self, client: u64) -> bool {
        matches!(&self.kind, Kind::New { clients, .. } if clients.contains(&client))
    }

    fn is_attached(&self) -> bool {
        matches!(&self.kind, Kind::New { clients, .. } if !clients.is_empty())
    }

    fn has_no_client(&self) -> bool {
        matches!(&self.kind, Kind::New { clients, .. } if clients.is_empty())
    }
}
