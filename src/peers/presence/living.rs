//! Heartbeats, and what happens without them.

use std::sync::Arc;

use crate::commands::Outcome;
use crate::commands::session::Session;
use crate::peers::directory::{Id, Peer};
use crate::peers::names;
use crate::peers::presence::leaving::depart;
use crate::peers::presence::{KEY_TTLS, Left, NOT_A_PEER, attached, gone, sync};
use crate::peers::room::{Room, Todo};
use crate::resp::Reply;

/// `FLUX.HEARTBEAT`: it only notes the time; the room's thread makes the keys last, for many peers at once.
pub fn heartbeat(room: &Room, session: &mut Session, reply: &mut Reply) -> Outcome {
    if !beat(room, session, |peer, now| peer.key_until > now) {
        let id = attached(room, session)?;
        let is_there: bool = session.run_in_zero(&[b"EXISTS", names::peer(&id).as_bytes()])?;
        if !is_there || !beat(room, session, |_, _| true) {
            room.leave(Todo::Gone(id));
            session.presence.peer = None;
            return Err(NOT_A_PEER);
        }
    }
    reply.ok();
    Ok(())
}

/// Gives the peer of this session another TTL, if it is known to be there.
fn beat(room: &Room, session: &Session, is_there: impl Fn(&Peer, u64) -> bool) -> bool {
    let (Some(id), now) = (&session.presence.peer, session.now()) else { return false };
    let mut state = room.state.lock();
    let peer = state.directory.get_mut(id).filter(|peer| peer.has_client(session.client.id) && is_there(peer, now));
    peer.map(|peer| peer.expire_at = now + peer.ttl_ms).is_some()
}

/// Looks for peers whose time is over, and makes the keys of others last.
pub fn look_around(room: &Room, session: &mut Session, now: u64) {
    let (mut over, mut ending) = (Vec::new(), Vec::new());
    for peer in room.state.lock().directory.peers() {
        if peer.expire_at != 0 && peer.expire_at < now {
            over.push((Arc::clone(&peer.id), peer.is_old()));
        } else if peer.is_attached() && peer.key_until < now + (KEY_TTLS - 1) * peer.ttl_ms {
            ending.push((Arc::clone(&peer.id), peer.ttl_ms));
        }
    }
    for (id, is_old) in over {
        if is_old {
            sync(room, session, &id);
        } else {
            let is_over = |peer: &Peer| peer.expire_at < now;
            depart(room, session, &id, Left::Expired, |_, _| room.state.lock().directory.get(&id).is_some_and(is_over));
        }
    }
    ending.iter().for_each(|(id, ttl_ms)| prolong(room, session, id, *ttl_ms));
}

/// Makes the keys of a peer last for another while.
fn prolong(room: &Room, session: &mut Session, id: &Id, ttl_ms: u64) {
    let (peer, auth) = (names::peer(id), names::auth(id));
    let lasts_ms = (KEY_TTLS * ttl_ms).to_string();
    let is_there = session.together(&[peer.as_bytes(), auth.as_bytes()], |together| {
        if let Some(peer) = room.state.lock().directory.get_mut(id) {
            peer.key_until = together.now() + KEY_TTLS * ttl_ms;
        }
        together.run::<i64>(&[b"PEXPIRE", auth.as_bytes(), lasts_ms.as_bytes()])?;
        together.run::<bool>(&[b"PEXPIRE", peer.as_bytes(), lasts_ms.as_bytes()])
    });
    if is_there != Ok(true) {
        gone(room, session, id);
    }
}
