//! Peers whose keys someone writes other than by `FLUX.*`: those of the old protocol, and those of the server before this one.

use std::collections::HashMap;

use smallvec::SmallVec;

use crate::clock;
use crate::commands::session::Session;
use crate::engine::error::Error;
use crate::peers::calls::Action;
use crate::peers::directory::{Capability, Kind, Peer, Secret};
use crate::peers::presence::{KEY_TTLS, NAMES_MAX, TTL_MS, tell_capabilities, write_own};
use crate::peers::room::{Room, Todo};
use crate::peers::schema::Compiling;
use crate::peers::wire::{self, Event};
use crate::peers::{calling, names};

/// An old peer tells of itself that it joined or left a workspace.
pub(crate) fn heard(room: &Room, workspace: &str, event: &Event) {
    let mut state = room.state.lock();
    let Some(peer) = state.directory.get_mut(&event.peer_id).filter(|peer| peer.is_old()) else { return };
    match event.kind.as_str() {
        "peer:left" if peer.farewells.len() < NAMES_MAX => peer.farewells.push(workspace.into()),
        "peer:joined" => peer.farewells.retain(|other| **other != *workspace),
        _ => {}
    }
}

/// Brings the directory up to date with a peer's key, which someone changed other than by `FLUX.*`.
pub(crate) fn sync(room: &Room, session: &mut Session, id: &str) {
    let key = names::peer(id);
    let workspaces = names::peer_workspaces(id);
    let keys = [key.as_bytes(), workspaces.as_bytes()];
    let changed = session.together(&keys, |together| {
        let json: Option<String> = together.run(&[b"GET", keys[0]]).ok().flatten();
        let expire_at: i64 = together.run(&[b"PEXPIRETIME", keys[0]]).unwrap_or(0);
        let expire_at = u64::try_from(expire_at).unwrap_or(0);
        // The key is told by the clock that can be set, the peer's time by the other one.
        let now = clock::monotonic_ms();
        let expire_at = if expire_at == 0 { 0 } else { now + expire_at.saturating_sub(together.now()) };
        let state = &mut *room.state.lock();
        let doubts = state.directory.doubts();
        let there = state.directory.get_mut(id);
        let (before, peer) = match (json, there) {
            (None, Some(peer)) => {
                peer.key_until = 0;
                return Change { is_gone: true, ..Change::default() };
            }
            (None, None) => return Change::default(),
            (Some(json), Some(peer)) => {
                (peer.key_until, peer.doubts) = (expire_at, doubts);
                if peer.is_old() {
                    peer.expire_at = expire_at;
                }
                if !peer.is_old() || *peer.json == *json {
                    return Change::default();
                }
                let farewells = std::mem::take(&mut peer.farewells);
                (Some(peer.clone()), Peer { farewells, ..Peer::read(id, &json, expire_at, Kind::Old) })
            }
            (Some(json), None) => (None, Peer::read(id, &json, expire_at, Kind::Old)),
        };
        state.directory.insert(peer.clone());
        let actions = state.calls.station(&mut state.directory, &peer, now);
        Change { is_gone: false, before, after: Some(peer), actions }
    });
    tell_capabilities(room, id, changed.before.as_ref(), changed.after.as_ref());
    calling::act(room, session, changed.actions);
    if changed.is_gone {
        room.leave(Todo::Gone(id.into()));
    }
}

/// A peer's key expired. Where the peer's own time is not over, someone has set the clock forward: a new peer gets its keys back, which
/// it cannot know of. An old one writes them itself.
pub(crate) fn expired(room: &Room, session: &mut Session, id: &str) {
    let (key, auth) = (names::peer(id), names::auth(id));
    let is_back = session.together(&[key.as_bytes(), auth.as_bytes()], |together| {
        if together.run::<bool>(&[b"EXISTS", key.as_bytes()])? {
            return Ok(true);
        }
        let now = clock::monotonic_ms();
        let peer = room.state.lock().directory.get(id).filter(|peer| !peer.is_old() && peer.is_live(now)).cloned();
        let Some(peer) = peer else { return Ok(false) };
        write_own(together, &peer)?;
        room.state.lock().directory.confirm(id, now + KEY_TTLS * peer.ttl_ms);
        Ok::<_, Error>(true)
    });
    if is_back != Ok(true) {
        sync(room, session, id);
    }
}

/// What became of a peer whose key was looked at.
#[derive(Default)]
struct Change {
    is_gone: bool,
    /// Both None where nothing changed.
    before: Option<Peer>,
    after: Option<Peer>,
    actions: Vec<Action>,
}

/// Finds out who is there when the room opens, and cleans up after those who are not any more.
pub(crate) fn load(room: &Room, session: &mut Session) {
    let ids: Vec<String> = session.run_in_zero(&[b"SMEMBERS", names::PEERS.as_bytes()]).unwrap_or_default();
    let mut listed = None;
    for id in ids {
        sync(room, session, &id);
        let auth: Option<String> = session.run_in_zero(&[b"GET", names::auth(&id).as_bytes()]).ok().flatten();
        let mut state = room.state.lock();
        match (state.directory.get(&id).cloned(), auth.and_then(|text| Secret::from_text(&text))) {
            (Some(peer), Some(secret)) => {
                let peer = Peer { kind: Kind::New { secret, clients: SmallVec::new() }, ttl_ms: TTL_MS, ..peer };
                let state = &mut *state;
                state.directory.insert(peer.clone());
                state.calls.expect(&peer);
                // There are no calls yet.
                state.calls.station(&mut state.directory, &peer, clock::monotonic_ms());
            }
            (Some(_), None) => {}
            (None, _) => {
                // It died while nobody looked. As a peer that is known for a moment it goes the way of all others.
                drop(state);
                let capabilities = listed.get_or_insert_with(|| all_listed(session)).remove(&id).unwrap_or_default();
                let peer = Peer { capabilities: capabilities.into_iter().collect(), ..Peer::read(&id, "", 0, Kind::Old) };
                let mut state = room.state.lock();
                state.directory.insert(peer);
                drop(state);
                room.leave(Todo::Gone(id.into()));
            }
        }
    }
}

/// The capabilities whose sets name a peer, by the peer.
fn all_listed(session: &mut Session) -> HashMap<String, Vec<Capability>> {
    let all: Vec<String> = session.run_in_zero(&[b"KEYS", format!("{}*", names::FUNCTION).as_bytes()]).unwrap_or_default();
    let mut listed: HashMap<String, Vec<Capability>> = HashMap::new();
    for key in all {
        let name = key[names::FUNCTION.len()..].to_owned();
        let wire = wire::Capability { name, ..wire::Capability::default() };
        let Ok(capability) = Capability::new(&wire, &mut Compiling::default()) else { continue };
        let ids: Vec<String> = session.run_in_zero(&[b"SMEMBERS", key.as_bytes()]).unwrap_or_default();
        ids.into_iter().for_each(|id| listed.entry(id).or_default().push(capability.clone()));
    }
    listed
}
