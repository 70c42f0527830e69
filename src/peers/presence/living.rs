//! Heartbeats, and what happens without them.

use std::sync::Arc;

use crate::clock;
use crate::commands::Outcome;
use crate::commands::session::Session;
use crate::engine::error::Error;
use crate::peers::directory::{Directory, Id, Peer};
use crate::peers::names;
use crate::peers::presence::leaving::depart;
use crate::peers::presence::{KEY_TTLS, Left, NOT_A_PEER, attached, detach, gone, peer_of, sync};
use crate::peers::room::{Room, Todo};
use crate::resp::{Args, Reply};

/// `FLUX.HEARTBEAT`: it only notes the time; the room's thread makes the keys last, for many peers at once.
pub(crate) fn heartbeat(room: &Room, session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    if !beat(room, session, Directory::is_sure) {
        let id = attached(room, session)?;
        let is_there = exists_or_revives(session, &id)?;
        if !is_there || !beat(room, session, |_, _, _| true) {
            room.leave(Todo::Gone(id));
            detach(session);
            return Err(NOT_A_PEER);
        }
    }
    reply.ok();
    Ok(())
}

/// Gives the peer of this session another TTL, if it is known to be there.
fn beat(room: &Room, session: &Session, is_there: impl Fn(&Directory, &Peer, u64) -> bool) -> bool {
    let (Some(id), now) = (peer_of(session), clock::monotonic_ms()) else { return false };
    let directory = &mut room.state.lock().directory;
    let lives = |peer: &Peer| peer.has_client(session.client.id) && is_there(directory, peer, now);
    if !directory.get(id).is_some_and(lives) {
        return false;
    }
    directory.get_mut(id).map(|peer| peer.expire_at = now + peer.ttl_ms).is_some()
}

/// Whether a peer's key is there. Who comes upon a key that expired tells of it, so one that expired because someone set the clock
/// forward is there again when it is looked for twice: see [`expired`](super::expired).
pub(super) fn exists_or_revives(session: &mut Session, id: &Id) -> Result<bool, Error> {
    let exists = |session: &mut Session| session.run_in_zero::<bool>(&[b"EXISTS", names::peer(id).as_bytes()]);
    Ok(exists(session)? || exists(session)?)
}

/// Looks for peers whose time is over, and makes the keys of others last.
pub(crate) fn look_around(room: &Room, session: &mut Session, now: u64) {
    let mut last = None;
    loop {
        let (mut over, mut ending, mut is_end) = (Vec::new(), Vec::new(), true);
        for (age, peer) in room.state.lock().directory.peers_after(last.clone().as_ref()) {
            (last, is_end) = (Some(age.clone()), false);
            if peer.expire_at != 0 && peer.expire_at < now {
                over.push((Arc::clone(&peer.id), peer.is_old()));
            } else if peer.is_attached() && peer.key_until < now + (KEY_TTLS - 1) * peer.ttl_ms {
                ending.push((Arc::clone(&peer.id), peer.ttl_ms));
            }
        }
        if is_end {
            return;
        }
        over.iter().for_each(|(id, is_old)| bury(room, session, id, *is_old, now));
        ending.iter().for_each(|(id, ttl_ms)| prolong(room, session, id, *ttl_ms));
    }
}

/// Removes a peer whose time is over, if it still is.
fn bury(room: &Room, session: &mut Session, id: &Id, is_old: bool, now: u64) {
    if is_old {
        return sync(room, session, id);
    }
    let is_over = |peer: &Peer| peer.expire_at < now;
    depart(room, session, id, Left::Expired, |_, _| room.state.lock().directory.get(id).is_some_and(is_over));
}

/// Makes the keys of a peer last for another while.
fn prolong(room: &Room, session: &mut Session, id: &Id, ttl_ms: u64) {
    let (peer, auth) = (names::peer(id), names::auth(id));
    let lasts_ms = (KEY_TTLS * ttl_ms).to_string();
    let is_there = session.together(&[peer.as_bytes(), auth.as_bytes()], |together| {
        let is_there = together.run::<bool>(&[b"PEXPIRE", peer.as_bytes(), lasts_ms.as_bytes()])?;
        together.run::<i64>(&[b"PEXPIRE", auth.as_bytes(), lasts_ms.as_bytes()])?;
        if is_there {
            room.state.lock().directory.confirm(id, clock::monotonic_ms() + KEY_TTLS * ttl_ms);
        }
        Ok::<_, Error>(is_there)
    });
    if is_there != Ok(true) {
        gone(room, session, id);
    }
}
