//! What there is: capabilities, workspaces, counts. All from memory, but for the sizes of contexts.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use serde_json::{Value, json};

use crate::commands::Outcome;
use crate::commands::session::Session;
use crate::engine::error::Error;
use crate::peers::directory::{Directory, Id};
use crate::peers::names;
use crate::peers::room::Room;
use crate::resp::{Args, Reply};

/// `FLUX.DESCRIBE capability`
pub fn describe(room: &Room, _: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let name = names::capability(args.at(1))?;
    let state = room.state.lock();
    let Some(mut shown) = capability(&state.directory, name) else {
        return Err(Error::new(format!("NOPEER no peer handles \"{name}\"")));
    };
    for peer in shown["peers"].as_array_mut().into_iter().flatten() {
        let load = state.calls.load(peer["id"].as_str().unwrap_or_default());
        peer["running"] = load.running.into();
        peer["queued"] = load.queued.into();
    }
    let tally = state.calls.tally(name);
    shown["calls"] = tally.calls.into();
    shown["failed"] = tally.failed.into();
    drop(state);
    reply.bulk(shown.to_string().as_bytes());
    Ok(())
}

/// `FLUX.CAPABILITIES`
pub fn capabilities(room: &Room, _: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    let shown = all_capabilities(room);
    reply.array(shown.len());
    shown.iter().for_each(|capability| reply.bulk(capability.to_string().as_bytes()));
    Ok(())
}

/// What someone can be called for, by name: `{name, description, schema, peers: [{id, name}]}`.
fn all_capabilities(room: &Room) -> Vec<Value> {
    let state = room.state.lock();
    let mut names: Vec<Id> = state.directory.capabilities().map(|(name, _)| name.clone()).collect();
    names.sort_unstable();
    names.iter().filter_map(|name| capability(&state.directory, name)).collect()
}

/// A capability and who has it. Description and schema are those of the first peer that gives one.
fn capability(directory: &Directory, name: &str) -> Option<Value> {
    let ids = directory.with_capability(name);
    let peers = || ids.iter().filter_map(|id| directory.get(id));
    let described = || peers().filter_map(|peer| peer.capability(name));
    let shown = json!({
        "name": name,
        "description": described().find_map(|capability| capability.description.as_deref()),
        "schema": described().find_map(|capability| capability.schema.as_ref().map(|schema| &schema.0)),
        "peers": peers().map(|peer| json!({ "id": &*peer.id, "name": &*peer.name })).collect::<Vec<_>>(),
    });
    (!ids.is_empty()).then_some(shown)
}

/// `FLUX.WORKSPACES`
pub fn workspaces(room: &Room, session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    let workspaces = all_workspaces(room, session);
    reply.array(workspaces.len());
    for (name, peers) in workspaces {
        let index = names::context_index(&name);
        let keys: u64 = session.run_in_zero(&[b"HLEN", index.as_bytes()]).unwrap_or(0);
        reply.bulk(json!({ "name": name, "peers": peers, "contextKeys": keys }).to_string().as_bytes());
    }
    Ok(())
}

/// The workspaces someone is in, or that have a context, by name, and how many peers are in each.
fn all_workspaces(room: &Room, session: &mut Session) -> BTreeMap<String, usize> {
    let contexts: Vec<String> = session.run_in_zero(&[b"SMEMBERS", names::CONTEXTS.as_bytes()]).unwrap_or_default();
    let mut workspaces: BTreeMap<String, usize> = contexts.into_iter().map(|name| (name, 0)).collect();
    let state = room.state.lock();
    for name in state.directory.peers().flat_map(|peer| &peer.workspaces) {
        match workspaces.get_mut(&**name) {
            Some(count) => *count += 1,
            None => _ = workspaces.insert(name.to_string(), 1),
        }
    }
    workspaces
}

/// `FLUX.STATUS`
pub fn status(room: &Room, session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    let workspaces = all_workspaces(room, session).len();
    let state = room.state.lock();
    let load = state.calls.total();
    let shown = json!({
        "peers": state.directory.peers().len(),
        "oldPeers": state.directory.peers().filter(|peer| peer.is_old()).count(),
        "workspaces": workspaces,
        "capabilities": state.directory.capabilities().len(),
        "callsQueued": load.queued,
        "callsRunning": load.running,
        "calls": room.counts.calls.load(Relaxed),
        "failed": room.counts.failed.load(Relaxed),
        "rerouted": state.calls.rerouted,
    });
    drop(state);
    reply.bulk(shown.to_string().as_bytes());
    Ok(())
}
