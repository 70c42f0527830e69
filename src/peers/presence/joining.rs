//! Who is in which workspace: joining, leaving, and the lists of peers.

use std::sync::Arc;

use crate::clock;
use crate::commands::Outcome;
use crate::commands::args::Rest;
use crate::commands::inner::Together;
use crate::commands::session::Session;
use crate::engine::error::Error;
use crate::peers::directory::{Generation, Id, Peer, SLICE};
use crate::peers::presence::leaving::{depart, forsake};
use crate::peers::presence::{
    Left, NAMES_MAX, NOT_A_PEER, attached, attached_peer, exists_or_revives, read_generation, together, write_json,
};
use crate::peers::room::{Room, Todo};
use crate::peers::wire::Event;
use crate::peers::{log, names};
use crate::resp::{Args, Reply};

/// Which registration a change was told after, if it says so.
fn read_after(args: Args<'_>, from: usize) -> Result<Option<Generation>, Error> {
    let (mut after, mut rest) = (None, Rest::of(args, from));
    while let Some([run, number]) = rest.values("generation") {
        after = Some(read_generation(run, number)?);
    }
    rest.end_named()?;
    Ok(after)
}

/// Whether a change is read after a later registration, which tells what came of it: then it changes nothing.
fn is_late(peer: &Peer, after: Option<&Generation>) -> bool {
    after.zip(peer.told.as_ref()).is_some_and(|(after, told)| after.is_overtaken_by(told))
}

/// `FLUX.JOIN ws [GENERATION run number]`
pub(crate) fn join(room: &Room, session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (workspace, after) = (names::workspace(args.at(1))?, read_after(args, 2)?);
    loop {
        let before = attached_peer(room, session)?;
        if is_late(&before, after.as_ref()) || before.workspaces.iter().any(|name| **name == *workspace) {
            break;
        }
        if before.workspaces.len() >= NAMES_MAX {
            return Err(Error::new(format!("ERR a peer may be in {NAMES_MAX} workspaces: leave another first")));
        }
        let mut peer = before.clone();
        peer.workspaces.push(workspace.into());
        if change(room, session, &before, peer, workspace, |room, together, peer| {
            together.run::<i64>(&[b"SADD", names::workspace_peers(workspace).as_bytes(), peer.id.as_bytes()])?;
            together.run::<i64>(&[b"SADD", names::peer_workspaces(&peer.id).as_bytes(), workspace.as_bytes()])?;
            log::publish(room, together, &Event::new("peer:joined", workspace, &peer.id, &peer.name));
            Ok(())
        })? {
            break;
        }
    }
    write_peers(&in_workspace(room, session, workspace, |_| true)?, reply);
    Ok(())
}

/// `FLUX.LEAVE [ws] [GENERATION run number]`
pub(crate) fn leave(room: &Room, session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let id = attached(room, session)?;
    // Three words more are a generation alone: there may be a workspace of that name.
    let is_whole = matches!(args.len(), 1 | 4);
    let after = read_after(args, if is_whole { 1 } else { 2 })?;
    if is_whole {
        depart(room, session, &id, Left::Stopped, |peer, _| !is_late(peer, after.as_ref()));
        // Where it was late it stays attached, as the connection that it came over.
        let _ = attached(room, session);
    } else {
        leave_workspace(room, session, names::workspace(args.at(1))?, after.as_ref())?;
    }
    reply.ok();
    Ok(())
}

fn leave_workspace(room: &Room, session: &mut Session, workspace: &str, after: Option<&Generation>) -> Result<(), Error> {
    loop {
        let before = attached_peer(room, session)?;
        let mut peer = before.clone();
        peer.workspaces.retain(|name| **name != *workspace);
        if is_late(&before, after) || peer.workspaces.len() == before.workspaces.len() {
            return Ok(());
        }
        if change(room, session, &before, peer, workspace, |room, together, peer| {
            together.run::<i64>(&[b"SREM", names::workspace_peers(workspace).as_bytes(), peer.id.as_bytes()])?;
            together.run::<i64>(&[b"SREM", names::peer_workspaces(&peer.id).as_bytes(), workspace.as_bytes()])?;
            let left = Some(Left::Stopped.word().to_owned());
            log::publish(room, together, &Event { left, ..Event::new("peer:left", workspace, &peer.id, &peer.name) });
            Ok(())
        })? {
            forsake(room, session, workspace, &before.id);
            return Ok(());
        }
    }
}

/// Changes which workspaces a peer is in, unless it was changed meanwhile, which makes false.
fn change(
    room: &Room,
    session: &mut Session,
    before: &Peer,
    mut peer: Peer,
    workspace: &str,
    run: impl FnOnce(&Room, &mut Together<'_>, &Peer) -> Result<(), Error>,
) -> Result<bool, Error> {
    peer.rewrite();
    exists_or_revives(session, &peer.id)?;
    let mut keys = vec![names::peer(&peer.id), names::peer_workspaces(&peer.id), names::workspace_peers(workspace)];
    keys.extend(log::keys(workspace));
    together(session, &keys, |together| {
        if !together.run::<bool>(&[b"EXISTS", names::peer(&peer.id).as_bytes()])? {
            room.leave(Todo::Gone(Arc::clone(&peer.id)));
            return Err(NOT_A_PEER);
        }
        {
            let mut state = room.state.lock();
            let Some(there) = state.directory.get_mut(&peer.id) else { return Err(NOT_A_PEER) };
            if !Arc::ptr_eq(&there.json, &before.json) {
                return Ok(false);
            }
            // What proves its secret lasts no longer than before, so that is what counts.
            there.expire_at = clock::monotonic_ms() + there.ttl_ms;
            state.directory.set_workspaces(&peer.id, &peer.workspaces, &peer.json);
        }
        write_json(together, &peer)?;
        run(room, together, &peer)?;
        Ok(true)
    })
}

/// `FLUX.PEERS [WORKSPACE ws] [CAPABILITY cap]`
pub(crate) fn peers(room: &Room, session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (mut workspace, mut capability, mut rest) = (None, None, Rest::of(args, 1));
    loop {
        if let Some(name) = rest.value("workspace") {
            workspace = Some(names::workspace(name)?);
        } else if let Some(name) = rest.value("capability") {
            capability = Some(names::capability(name)?);
        } else {
            break rest.end_named()?;
        }
    }
    write_peers(&list(room, session, workspace, capability)?, reply);
    Ok(())
}

fn write_peers(peers: &[Id], reply: &mut Reply) {
    reply.array(peers.len());
    peers.iter().for_each(|json| reply.bulk(json.as_bytes()));
}

/// The JSON of live peers, oldest first.
pub(crate) fn list(
    room: &Room,
    session: &mut Session,
    workspace: Option<&str>,
    capability: Option<&str>,
) -> Result<Vec<Id>, Error> {
    if let Some(workspace) = workspace {
        return in_workspace(room, session, workspace, |peer| capability.is_none_or(|name| peer.capability(name).is_some()));
    }
    let Some(name) = capability else { return Ok(all(room)) };
    let mut found = Vec::new();
    let mut last = 0;
    loop {
        let state = room.state.lock();
        let before = last;
        for (number, id) in
            state.directory.with_capability(name).into_iter().flat_map(|capable| capable.after(before)).take(SLICE)
        {
            last = number;
            found.extend(state.directory.get(id).map(|peer| (peer.started_at, Arc::clone(&peer.json))));
        }
        if last == before {
            break;
        }
    }
    Ok(oldest_first(found))
}

fn all(room: &Room) -> Vec<Id> {
    let (mut found, mut last) = (Vec::new(), None);
    loop {
        let before = found.len();
        for (age, peer) in room.state.lock().directory.peers_after(last.clone().as_ref()) {
            last = Some(age.clone());
            found.push(Arc::clone(&peer.json));
        }
        if found.len() == before {
            return found;
        }
    }
}

fn oldest_first(mut found: Vec<(u64, Id)>) -> Vec<Id> {
    found.sort_unstable();
    found.into_iter().map(|(_, json)| json).collect()
}

/// The JSON of the live peers of a workspace that are wanted, oldest first.
fn in_workspace(
    room: &Room,
    session: &mut Session,
    workspace: &str,
    is_wanted: impl Fn(&Peer) -> bool,
) -> Result<Vec<Id>, Error> {
    let ids: Vec<String> = session.run_in_zero(&[b"SMEMBERS", names::workspace_peers(workspace).as_bytes()])?;
    let mut found = Vec::with_capacity(ids.len());
    for ids in ids.chunks(SLICE) {
        let state = room.state.lock();
        let peers = ids.iter().filter_map(|id| state.directory.get(id)).filter(|peer| is_wanted(peer));
        found.extend(peers.map(|peer| (peer.started_at, Arc::clone(&peer.json))));
    }
    Ok(oldest_first(found))
}
