//! A peer is gone, however it went: its keys are removed, its workspaces told, its calls given to others.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::clock;
use crate::commands::inner::Together;
use crate::commands::session::Session;
use crate::peers::directory::{Id, Kind, Peer};
use crate::peers::presence::{Left, Presence, exists_or_revives, tell_capabilities, together};
use crate::peers::room::Room;
use crate::peers::wire::Event;
use crate::peers::{log, names, old, streams};

/// A session that was attached to a peer ends. If it was the last one, the peer is gone.
pub(crate) fn disconnected(room: &Room, session: &mut Session) {
    let Some(id) = session.slot::<Presence>().peer.take() else { return };
    session.is_no_peer();
    let is_last = {
        let mut state = room.state.lock();
        let Some(Kind::New { clients, .. }) = state.directory.get_mut(&id).map(|peer| &mut peer.kind) else { return };
        clients.retain(|client| *client != session.client.id);
        let is_last = clients.is_empty();
        // Also of the last: the peer may come back before it is removed.
        state.calls.lose(&id, session.client.id, clock::monotonic_ms());
        is_last
    };
    // When the server ends, its peers stay: they come back to the next one, or their time runs out.
    if is_last && !session.instance.is_ending.load(Relaxed) {
        depart(
            room,
            session,
            &id,
            Left::Disconnected,
            |peer, _| matches!(&peer.kind, Kind::New { clients, .. } if clients.is_empty()),
        );
    }
}

/// A peer's key is gone.
pub(crate) fn gone(room: &Room, session: &mut Session, id: &Id) {
    if exists_or_revives(session, id).unwrap_or(false) {
        return;
    }
    depart(room, session, id, Left::Expired, |_, together| {
        !together.run::<bool>(&[b"EXISTS", names::peer(id).as_bytes()]).unwrap_or(false)
    });
}

/// Removes a peer and all that it is in, tells its workspaces, and finds others for its calls. Does nothing if it is not there,
/// or if it is not `due` any more once its keys are locked.
pub(super) fn depart(room: &Room, session: &mut Session, id: &Id, left: Left, due: impl Fn(&Peer, &mut Together<'_>) -> bool) {
    loop {
        let Some(mut peer) = room.state.lock().directory.get(id).cloned() else { return };
        // Old peers write these sets themselves, whatever their JSON says.
        let known: BTreeSet<Id> = peer.workspaces.iter().cloned().collect();
        let others: Vec<String> = session.run_in_zero(&[b"SMEMBERS", names::peer_workspaces(id).as_bytes()]).unwrap_or_default();
        peer.workspaces.extend(others.into_iter().map(Id::from).filter(|name| !known.contains(name)));
        let mut keys = peer.keys();
        keys.push(names::queue(id));
        keys.extend(peer.workspaces.iter().flat_map(|workspace| log::keys(workspace)));
        let done = together(session, &keys, |together| {
            if !due(&peer, together) {
                return Some(None);
            }
            let jobs = old::listed(together, id);
            let orphans = {
                let state = &mut *room.state.lock();
                if !state.directory.get(id).is_some_and(|there| Arc::ptr_eq(&there.json, &peer.json)) {
                    return None;
                }
                if !state.directory.get(id).is_some_and(|there| left != Left::Disconnected || there.has_no_client()) {
                    return Some(None);
                }
                state.directory.remove(id);
                // At once, so that nobody waits at a place that is about to go, and one who comes back under this id finds it free.
                old::gone(room, state, &peer.id, jobs, left == Left::Stopped)
            };
            tell_capabilities(room, id, Some(&peer), None);
            erase(room, together, &peer, left);
            Some(Some(orphans))
        });
        match done {
            None => {}
            Some(None) => return,
            Some(Some(orphans)) => {
                peer.workspaces.iter().for_each(|workspace| forsake(room, session, workspace, id));
                old::find_others(room, session, orphans);
                return;
            }
        }
    }
}

/// A peer left a workspace: its streams there do not last long, nor do the events, where nobody is left.
pub(super) fn forsake(room: &Room, session: &mut Session, workspace: &str, id: &str) {
    streams::left(room, session, workspace, id);
    log::left(room, session, workspace);
}

/// Removes the keys of a peer and what names it, and tells its workspaces. Goes on where a key holds something else: the rest must go
/// in any case.
fn erase(room: &Room, together: &mut Together<'_>, peer: &Peer, left: Left) {
    let id = peer.id.as_bytes();
    let own = [names::peer(&peer.id), names::auth(&peer.id), names::peer_workspaces(&peer.id), names::queue(&peer.id)];
    for key in &own {
        let _ = together.run::<i64>(&[b"DEL", key.as_bytes()]);
    }
    let mut sets = vec![names::PEERS.to_owned()];
    sets.extend(peer.capabilities.iter().map(|capability| names::function(&capability.name)));
    sets.extend(peer.workspaces.iter().map(|workspace| names::workspace_peers(workspace)));
    for set in &sets {
        let _ = together.run::<i64>(&[b"SREM", set.as_bytes(), id]);
    }
    for workspace in peer.workspaces.iter().filter(|workspace| !peer.farewells.contains(workspace)) {
        let left = Some(left.word().to_owned());
        log::publish(room, together, &Event { left, ..Event::new("peer:left", workspace, &peer.id, &peer.name) });
    }
}
