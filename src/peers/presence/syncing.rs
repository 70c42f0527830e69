//! Peers whose keys someone writes other than by `FLUX.*`: those of the old protocol, and those of the server before this one.

use smallvec::SmallVec;

use crate::clock;
use crate::commands::session::Session;
use crate::peers::calls::Action;
use crate::peers::directory::{Capability, Kind, Peer, Secret};
use crate::peers::presence::{NAMES_MAX, TTL_MS, tell_capabilities};
use crate::peers::room::{Room, Todo};
use crate::peers::schema::Compiling;
use crate::peers::wire::{self, Event};
use crate::peers::{calling, names};

/// An old peer tells of itself that it joined or left a workspace.
pub fn heard(room: &Room, workspace: &str, event: &Event) {
    let mut state = room.state.lock();
    let Some(peer) = state.directory.get_mut(&event.peer_id).filter(|peer| peer.is_old()) else { return };
    match event.kind.as_str() {
        "peer:left" if peer.farewells.len() < NAMES_MAX => peer.farewells.push(workspace.into()),
        "peer:joined" => peer.farewells.retain(|other| **other != *workspace),
        _ => {}
    }
}

/// Brings the directory up to date with a peer's key, which someone changed other than by `FLUX.*`.
pub fn sync(room: &Room, session: &mut Session, id: &str) {
    let key = names::peer(id);
    let workspaces = names::peer_workspaces(id);
    let keys = [key.as_bytes(), workspaces.as_bytes()];
    let changed = session.together(&keys, |together| {
        let json: Option<String> = together.run(&[b"GET", keys[0]]).ok().flatten();
        let expire_at: i64 = together.run(&[b"PEXPIRETIME", keys[0]]).unwrap_or(0);
        let expire_at = u64::try_from(expire_at).unwrap_or(0);
        let now = together.now();
        let state = &mut *room.state.lock();
        let there = state.directory.get_mut(id);
        let (before, peer) = match (json, there) {
            (None, Some(peer)) => {
                peer.key_until = 0;
                return Change { is_gone: true, ..Change::default() };
            }
            (None, None) => return Change::default(),
            (Some(json), Some(peer)) => {
                peer.key_until = expire_at;
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
pub fn load(room: &Room, session: &mut Session) {
    let ids: Vec<String> = session.run_in_zero(&[b"SMEMBERS", names::PEERS.as_bytes()]).unwrap_or_default();
    for id in ids {
        sync(room, session, &id);
        let auth: Option<String> = session.run_in_zero(&[b"GET", names::auth(&id).as_bytes()]).ok().flatten();
        let mut state = room.state.lock();
        match (state.directory.get_mut(&id), auth.and_then(|text| Secret::from_text(&text))) {
            (Some(peer), Some(secret)) => {
                peer.kind = Kind::New { secret, clients: SmallVec::new() };
                peer.ttl_ms = TTL_MS;
                let peer = peer.clone();
                let state = &mut *state;
                // There are no calls yet.
                state.calls.station(&mut state.directory, &peer, clock::now_ms());
            }
            (Some(_), None) => {}
            (None, _) => {
                // It died while nobody looked. As a peer that is known for a moment it goes the way of all others.
                drop(state);
                let peer = Peer { capabilities: listed(session, &id), ..Peer::read(&id, "", 0, Kind::Old) };
                let mut state = room.state.lock();
                state.directory.insert(peer);
                drop(state);
                room.leave(Todo::Gone(id.into()));
            }
        }
    }
}

/// The capabilities whose sets name a peer.
fn listed(session: &mut Session, id: &str) -> Vec<Capability> {
    let all: Vec<String> = session.run_in_zero(&[b"KEYS", format!("{}*", names::FUNCTION).as_bytes()]).unwrap_or_default();
    let mut capabilities = Vec::new();
    for key in all {
        if session.run_in_zero::<bool>(&[b"SISMEMBER", key.as_bytes(), id.as_bytes()]).unwrap_or(false) {
            let name = key[names::FUNCTION.len()..].to_owned();
            capabilities
                .extend(Capability::new(&wire::Capability { name, ..wire::Capability::default() }, &mut Compiling::default()));
        }
    }
    capabilities
}
