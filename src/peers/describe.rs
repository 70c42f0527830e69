//! What there is: capabilities, workspaces, counts. All from memory, but for the sizes of contexts. Lists are made in slices, and written
//! when nothing is locked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::commands::Outcome;
use crate::commands::session::Session;
use crate::engine::error::Error;
use crate::peers::calls::{Load, Tally};
use crate::peers::directory::{Id, SLICE};
use crate::peers::names;
use crate::peers::room::{Room, State};
use crate::peers::schema::Schema;
use crate::peers::wire;
use crate::resp::{Args, Reply};

/// A capability as it is shown. Description and schema are those of the first peer that gives one.
#[derive(Default)]
struct Shown {
    name: Id,
    description: Option<Id>,
    schema: Option<Arc<(Box<RawValue>, Schema)>>,
    peers: Vec<Having>,
    /// The number of the last of them.
    last: u64,
}

/// A peer that has a capability.
struct Having {
    id: Id,
    name: Id,
    load: Load,
}

impl Shown {
    /// Looks at up to so many more peers; tells how many there were. What is taken is not copied.
    fn look(&mut self, state: &State, count: usize) -> usize {
        let mut looks = 0;
        let Some(capable) = state.directory.with_capability(&self.name) else { return 0 };
        for (number, id) in capable.after(self.last).take(count) {
            (self.last, looks) = (number, looks + 1);
            let Some(peer) = state.directory.get(id) else { continue };
            let Some(capability) = peer.capability(&self.name) else { continue };
            self.description = self.description.take().or_else(|| capability.description.clone());
            self.schema = self.schema.take().or_else(|| capability.schema.clone());
            self.peers.push(Having { id: Arc::clone(id), name: Arc::clone(&peer.name), load: state.calls.load(id) });
        }
        looks
    }

    /// As JSON, with more fields of each peer and of the capability where they are wanted.
    fn text(&self, calls: Option<Tally>) -> String {
        let peer = |peer: &Having| match calls {
            None => json!({ "id": &*peer.id, "name": &*peer.name }),
            Some(_) => {
                let Load { running, queued } = peer.load;
                json!({ "id": &*peer.id, "name": &*peer.name, "running": running, "queued": queued })
            }
        };
        wire::text(&ShownText {
            name: &self.name,
            description: self.description.as_deref(),
            schema: self.schema.as_deref().map(|schema| &*schema.0),
            peers: self.peers.iter().map(peer).collect(),
            calls: calls.map(|tally| tally.calls),
            failed: calls.map(|tally| tally.failed),
        })
    }
}

#[derive(Serialize)]
struct ShownText<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    calls: Option<u64>,
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<u64>,
    name: &'a str,
    peers: Vec<Value>,
    schema: Option<&'a RawValue>,
}

/// `FLUX.DESCRIBE capability`
pub(crate) fn describe(room: &Room, _: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let name = names::capability(args.at(1))?;
    let mut shown = Shown { name: name.into(), ..Shown::default() };
    while shown.look(&room.state.lock(), SLICE) > 0 {}
    if shown.peers.is_empty() {
        return Err(Error::new(format!("NOPEER no peer handles \"{name}\"")));
    }
    let tally = room.state.lock().calls.tally(name);
    reply.bulk(shown.text(Some(tally)).as_bytes());
    Ok(())
}

/// `FLUX.CAPABILITIES`
pub(crate) fn capabilities(room: &Room, _: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    let shown = all_capabilities(room);
    reply.array(shown.len());
    shown.iter().for_each(|capability| reply.bulk(capability.text(None).as_bytes()));
    Ok(())
}

/// What someone can be called for, by name: `{name, description, schema, peers: [{id, name}]}`.
fn all_capabilities(room: &Room) -> Vec<Shown> {
    let mut all = Vec::new();
    while look_on(&room.state.lock(), &mut all) {}
    // Some may have been lost by all who had them, meanwhile.
    all.retain(|shown| !shown.peers.is_empty());
    all
}

/// Looks at [`SLICE`] more peers of capabilities; tells whether there may be more.
fn look_on(state: &State, all: &mut Vec<Shown>) -> bool {
    let mut left = SLICE;
    loop {
        if let Some(shown) = all.last_mut() {
            left -= shown.look(state, left);
        }
        if left == 0 {
            return true;
        }
        let next = state.directory.capability_after(all.last().map(|shown| &*shown.name));
        let Some((name, _)) = next else { return false };
        all.push(Shown { name: Arc::clone(name), ..Shown::default() });
    }
}

/// `FLUX.WORKSPACES`
pub(crate) fn workspaces(room: &Room, session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    let workspaces = all_workspaces(room, session);
    reply.array(workspaces.len());
    for (name, peers) in workspaces {
        let index = names::context_index(&name);
        let keys: u64 = session.look_in_zero("HLEN", index.as_bytes()).unwrap_or(0);
        reply.bulk(json!({ "name": name, "peers": peers, "contextKeys": keys }).to_string().as_bytes());
    }
    Ok(())
}

/// The workspaces someone is in, or that have a context, by name, and how many peers are in each.
fn all_workspaces(room: &Room, session: &mut Session) -> BTreeMap<String, usize> {
    let contexts: Vec<String> = session.look_in_zero("SMEMBERS", names::CONTEXTS.as_bytes()).unwrap_or_default();
    let mut workspaces: BTreeMap<String, usize> = contexts.into_iter().map(|name| (name, 0)).collect();
    let mut last: Option<Id> = None;
    loop {
        let mut is_end = true;
        let before = last.clone();
        for (name, count) in room.state.lock().directory.workspaces_after(before.as_deref()) {
            workspaces.insert(name.to_string(), count);
            (last, is_end) = (Some(Arc::clone(name)), false);
        }
        if is_end {
            return workspaces;
        }
    }
}

/// `FLUX.STATUS`
pub(crate) fn status(room: &Room, session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    let workspaces = all_workspaces(room, session).len();
    let state = room.state.lock();
    let load = state.calls.total();
    let shown = json!({
        "peers": state.directory.count(),
        "oldPeers": state.directory.old_len(),
        "workspaces": workspaces,
        "capabilities": state.directory.capability_count(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::directory::{Kind, Peer};

    /// A room with so many peers, each with a capability of its own and one that all have.
    fn state(count: usize) -> State {
        let mut state = State::default();
        for number in 0..count {
            let json = format!(r#"{{"name":"x","capabilities":[{{"name":"all"}},{{"name":"own-{number}","schema":true}}]}}"#);
            state.directory.insert(Peer::read(&format!("peer-{number}"), &json, 0, Kind::Old));
        }
        state
    }

    #[test]
    fn a_long_list_is_looked_at_in_slices_and_is_whole() {
        let state = state(1000);
        let (mut all, mut before) = (Vec::new(), 0);
        loop {
            let goes_on = look_on(&state, &mut all);
            let seen: usize = all.iter().map(|shown: &Shown| shown.peers.len()).sum();
            assert!(seen - before <= SLICE, "{} peers were looked at under one lock", seen - before);
            before = seen;
            if !goes_on {
                break;
            }
        }
        assert_eq!((all.len(), before, all[0].peers.len()), (1001, 2000, 1000));
        let own = all[1].schema.as_ref().unwrap();
        let kept = state.directory.get("peer-0").unwrap().capability("own-0").unwrap().schema.as_ref().unwrap();
        assert!(Arc::ptr_eq(own, kept), "schemas are not copied");
    }

    #[test]
    fn pages_of_the_directory_are_slices() {
        let state = state(1000);
        let (mut last, mut count) = (None, 0);
        loop {
            let page: Vec<_> = state.directory.peers_after(last.as_ref()).map(|(age, _)| age.clone()).collect();
            assert!(page.len() <= SLICE);
            let Some(end) = page.last() else { break };
            count += page.len();
            last = Some(end.clone());
        }
        assert_eq!(count, 1000);
    }
}
