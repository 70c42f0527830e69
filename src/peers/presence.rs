//! Being there: registering, heartbeats, joining and leaving workspaces, and what is done when a peer is gone, however it went.
//!
//! Every change is made under the locks of all keys it concerns, and the directory changes within them.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use smallvec::SmallVec;

use crate::clock;
use crate::commands::inner::Together;
use crate::commands::session::Session;
use crate::commands::{Outcome, args as read};
use crate::engine::error::{self, Error};
use crate::id;
use crate::peers::calls::Action;
use crate::peers::directory::{Capability, Id, Kind, Peer, Secret};
use crate::peers::room::{Room, Todo};
use crate::peers::wire::{self, Event};
use crate::peers::{calling, log, names, old, streams};
use crate::resp::{Args, Reply};

/// How long a peer lives without a heartbeat, in milliseconds, if it does not say.
const TTL_MS: u64 = 10_000;
/// The least and the most it may say.
const TTL_MS_RANGE: std::ops::RangeInclusive<u64> = 1_000..=3_600_000;
/// How long a peer's key lasts, in its TTLs. It is set anew when one of them has passed, for many peers at once; the rest is so that
/// a busy machine does not come too late.
const KEY_TTLS: u64 = 3;
/// Bytes of a secret.
const SECRET_BYTES_MAX: usize = 256;
/// Capabilities and workspaces of one peer.
const NAMES_MAX: usize = 1000;

/// This connection is no peer, or not any more.
pub const NOT_A_PEER: Error =
    Error(std::borrow::Cow::Borrowed("NOPEER this connection is not a registered peer: FLUX.REGISTER first"));

/// How a peer went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
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

/// What `FLUX.REGISTER` was given.
struct Registration {
    wire: wire::Peer,
    capabilities: Vec<Capability>,
    secret: Option<String>,
    ttl_ms: u64,
    /// The calls it runs, if it says so.
    running: Option<HashSet<String>>,
}

impl Registration {
    fn read(args: Args<'_>) -> Result<Registration, Error> {
        let mut wire: wire::Peer = serde_json::from_slice(args.at(1)).map_err(|error| {
            Error::new(format!("ERR invalid peer: it must be JSON with `id`, `name`, `capabilities` …: {error}"))
        })?;
        if wire.id.is_empty() {
            wire.id = id::uuid();
        }
        names::id("peer id", wire.id.as_bytes())?;
        if wire.name.is_empty() {
            wire.name = wire.id.chars().take(8).collect();
        }
        names::name(&wire.name)?;
        if wire.capabilities.len() > NAMES_MAX || wire.workspaces.len() > NAMES_MAX {
            return Err(Error::new(format!("ERR invalid peer: it may have {NAMES_MAX} capabilities and {NAMES_MAX} workspaces")));
        }
        wire.workspaces.iter().try_for_each(|workspace| names::workspace(workspace.as_bytes()).map(drop))?;
        let mut capabilities = Vec::with_capacity(wire.capabilities.len());
        for capability in &wire.capabilities {
            names::capability(capability.name.as_bytes())?;
            let compiled = Capability::new(capability)
                .map_err(|why| Error::new(format!("ERR invalid schema of \"{}\": {why}", capability.name)))?;
            capabilities.push(compiled);
        }
        let (mut secret, mut ttl_ms, mut running) = (None, TTL_MS, None);
        let mut at = 2;
        while at < args.len() {
            let value = args.get(at + 1).ok_or(error::SYNTAX)?;
            if args.is(at, "secret") {
                let text = std::str::from_utf8(value).ok().filter(|text| (1..=SECRET_BYTES_MAX).contains(&text.len()));
                secret =
                    Some(text.ok_or_else(|| Error::new("ERR invalid secret: it must be 1 to 256 bytes of UTF-8"))?.to_owned());
            } else if args.is(at, "ttl") {
                let ms = read::int(args, at + 1)?;
                let ms = u64::try_from(ms).ok().filter(|ms| TTL_MS_RANGE.contains(ms));
                ttl_ms = ms.ok_or_else(|| Error::new("ERR invalid TTL: it must be 1000 to 3600000 milliseconds"))?;
            } else if args.is(at, "running") {
                let count = usize::try_from(read::int(args, at + 1)?).ok().filter(|count| *count < args.len() - at - 1);
                let count = count.ok_or_else(|| Error::new("ERR invalid RUNNING: say how many calls, then their ids"))?;
                let ids = (at + 2..at + 2 + count).map(|at| String::from_utf8_lossy(args.at(at)).into_owned());
                running = Some(ids.collect());
                at += count;
            } else {
                return Err(error::SYNTAX);
            }
            at += 2;
        }
        Ok(Registration { wire, capabilities, secret, ttl_ms, running })
    }

    /// The peer that comes of it. What it was before keeps its workspaces and clients.
    fn peer(&self, before: Option<&Peer>, secret: &Secret, client: u64, now: u64) -> Peer {
        let mut workspaces = before.map(|peer| peer.workspaces.clone()).unwrap_or_default();
        for workspace in &self.wire.workspaces {
            if !workspaces.iter().any(|other| **other == **workspace) {
                workspaces.push(workspace.as_str().into());
            }
        }
        let started_at = before.map_or(self.wire.started_at, |peer| peer.started_at);
        let mut peer = Peer {
            id: self.wire.id.as_str().into(),
            name: self.wire.name.as_str().into(),
            json: "".into(),
            capabilities: self.capabilities.clone(),
            workspaces,
            farewells: Vec::new(),
            started_at: if started_at == 0 { now } else { started_at },
            ttl_ms: self.ttl_ms,
            expire_at: now + self.ttl_ms,
            key_until: now + KEY_TTLS * self.ttl_ms,
            kind: Kind::New { secret: secret.clone(), clients: smallvec::smallvec![client] },
        };
        peer.rewrite();
        peer
    }
}

/// `FLUX.REGISTER peer-json [SECRET s] [TTL ms] [RUNNING n id …]`
pub fn register(room: &Room, session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let registration = Registration::read(args)?;
    if session.presence.peer.as_deref().is_some_and(|peer| peer != registration.wire.id) {
        disconnected(room, session);
    }
    let given = registration.secret.clone().unwrap_or_else(id::secret);
    let secret = Secret::of(given.as_bytes());
    let (peer, actions) = loop {
        let before = room.state.lock().directory.get(&registration.wire.id).cloned();
        let peer = registration.peer(before.as_ref(), &secret, session.client.id, clock::now_ms());
        if let Some(done) = try_register(room, session, &peer, before.as_ref(), &secret)? {
            break done;
        }
    };
    session.presence.peer = Some(Arc::clone(&peer.id));
    calling::act(room, session, actions);
    if let Some(running) = &registration.running {
        let actions = {
            let state = &mut *room.state.lock();
            state.calls.claim(&mut state.directory, &peer.id, session.client.id, running, clock::now_ms())
        };
        calling::act(room, session, actions);
    }
    room.leave(Todo::Drain(Arc::clone(&peer.id)));
    reply.map(4);
    reply.bulk(b"id");
    reply.bulk(peer.id.as_bytes());
    reply.bulk(b"secret");
    reply.bulk(given.as_bytes());
    reply.bulk(b"ttl");
    reply.int(peer.ttl_ms as i64);
    reply.bulk(b"server");
    reply.bulk(session.instance.run_id.as_bytes());
    Ok(())
}

/// Registers a peer unless it was changed meanwhile by someone else, which makes None. Answers also what is to be done about its
/// calls.
fn try_register(
    room: &Room,
    session: &mut Session,
    peer: &Peer,
    before: Option<&Peer>,
    secret: &Secret,
) -> Result<Option<(Peer, Vec<Action>)>, Error> {
    let joined: Vec<Id> =
        peer.workspaces.iter().filter(|name| before.is_none_or(|before| !before.workspaces.contains(name))).cloned().collect();
    let mut keys = peer.keys();
    keys.extend(before.map(Peer::keys).unwrap_or_default());
    keys.extend(joined.iter().flat_map(|workspace| log::keys(workspace)));
    let client = session.client.id;
    together(session, &keys, |together| {
        let mut state = room.state.lock();
        let there = state.directory.get(&peer.id);
        if there.map(|peer| Arc::as_ptr(&peer.json)) != before.map(|peer| Arc::as_ptr(&peer.json)) {
            return Ok(None);
        }
        let is_owned = match there.map(|peer| &peer.kind) {
            Some(Kind::Old) => false,
            Some(Kind::New { secret: kept, .. }) => kept == secret,
            None => state.calls.secret_of(&peer.id).is_none_or(|kept| kept == *secret),
        };
        if !is_owned {
            let text = format!("DENIED peer id \"{}\" is in use: give its SECRET or choose another id", peer.id);
            return Err(Error::new(text));
        }
        let mut peer = peer.clone();
        if let (Some(Kind::New { clients: now, .. }), Kind::New { clients, .. }) = (there.map(|peer| &peer.kind), &mut peer.kind)
        {
            clients.clone_from(now);
            if !clients.contains(&client) {
                clients.push(client);
            }
        }
        let peer = &peer;
        state.directory.insert(peer.clone());
        let actions = {
            let state = &mut *state;
            state.calls.station(&mut state.directory, peer, together.now())
        };
        drop(state);
        let written = write(together, peer, before);
        if let Err(error) = written {
            room.state.lock().directory.remove(&peer.id);
            room.leave(Todo::Act(actions));
            return Err(error);
        }
        tell_capabilities(room, &peer.id, before, Some(peer));
        for workspace in &joined {
            log::publish(room, together, &Event::new("peer:joined", workspace, &peer.id, &peer.name));
        }
        Ok(Some((peer.clone(), actions)))
    })
}

/// Tells that what peers can be called for has changed, if it has with this one.
fn tell_capabilities(room: &Room, id: &str, before: Option<&Peer>, after: Option<&Peer>) {
    let told = |peer: Option<&Peer>| peer.map(|peer| peer.wire().capabilities).unwrap_or_default();
    if told(before) != told(after) {
        room.publish(names::CAPABILITIES, id.as_bytes());
    }
}

/// Writes all keys of a peer.
fn write(together: &mut Together<'_>, peer: &Peer, before: Option<&Peer>) -> Result<(), Error> {
    write_json(together, peer)?;
    if let Kind::New { secret, .. } = &peer.kind {
        let ttl_ms = (KEY_TTLS * peer.ttl_ms).to_string();
        let key = names::auth(&peer.id);
        together.run::<()>(&[b"SET", key.as_bytes(), secret.text().as_bytes(), b"PX", ttl_ms.as_bytes()])?;
    }
    let id = peer.id.as_bytes();
    together.run::<i64>(&[b"SADD", names::PEERS.as_bytes(), id])?;
    for capability in &peer.capabilities {
        together.run::<i64>(&[b"SADD", names::function(&capability.name).as_bytes(), id])?;
    }
    for capability in before.iter().flat_map(|before| &before.capabilities) {
        if peer.capability(&capability.name).is_none() {
            together.run::<i64>(&[b"SREM", names::function(&capability.name).as_bytes(), id])?;
        }
    }
    for workspace in &peer.workspaces {
        together.run::<i64>(&[b"SADD", names::workspace_peers(workspace).as_bytes(), id])?;
        together.run::<i64>(&[b"SADD", names::peer_workspaces(&peer.id).as_bytes(), workspace.as_bytes()])?;
    }
    Ok(())
}

fn write_json(together: &mut Together<'_>, peer: &Peer) -> Result<(), Error> {
    let ttl_ms = (KEY_TTLS * peer.ttl_ms).to_string();
    together.run::<()>(&[b"SET", names::peer(&peer.id).as_bytes(), peer.json.as_bytes(), b"PX", ttl_ms.as_bytes()])
}

/// The peer this session is attached to, which is alive.
pub fn attached(room: &Room, session: &mut Session) -> Result<Id, Error> {
    let id = session.presence.peer.clone().ok_or(NOT_A_PEER)?;
    if room.state.lock().directory.get(&id).is_some_and(|peer| peer.has_client(session.client.id)) {
        return Ok(id);
    }
    session.presence.peer = None;
    Err(NOT_A_PEER)
}

/// The same, with its name.
pub fn author(room: &Room, session: &mut Session) -> Result<(Id, Id), Error> {
    let id = attached(room, session)?;
    let name = room.state.lock().directory.get(&id).map(|peer| Arc::clone(&peer.name));
    Ok((id, name.ok_or(NOT_A_PEER)?))
}

/// The same, with all that is known of it.
fn attached_peer(room: &Room, session: &mut Session) -> Result<Peer, Error> {
    let id = attached(room, session)?;
    room.state.lock().directory.get(&id).cloned().ok_or(NOT_A_PEER)
}

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

/// `FLUX.JOIN ws`
pub fn join(room: &Room, session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let workspace = names::workspace(args.at(1))?;
    loop {
        let before = attached_peer(room, session)?;
        if before.workspaces.iter().any(|name| **name == *workspace) {
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

/// `FLUX.LEAVE [ws]`
pub fn leave(room: &Room, session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let id = attached(room, session)?;
    match args.get(1) {
        None => {
            depart(room, session, &id, Left::Stopped, |_, _| true);
            session.presence.peer = None;
        }
        Some(_) if args.len() > 2 => return Err(error::SYNTAX),
        Some(workspace) => leave_workspace(room, session, names::workspace(workspace)?)?,
    }
    reply.ok();
    Ok(())
}

fn leave_workspace(room: &Room, session: &mut Session, workspace: &str) -> Result<(), Error> {
    loop {
        let before = attached_peer(room, session)?;
        let mut peer = before.clone();
        peer.workspaces.retain(|name| **name != *workspace);
        if peer.workspaces.len() == before.workspaces.len() {
            return Ok(());
        }
        if change(room, session, &before, peer, workspace, |room, together, peer| {
            together.run::<i64>(&[b"SREM", names::workspace_peers(workspace).as_bytes(), peer.id.as_bytes()])?;
            together.run::<i64>(&[b"SREM", names::peer_workspaces(&peer.id).as_bytes(), workspace.as_bytes()])?;
            let left = Some(Left::Stopped.word().to_owned());
            log::publish(room, together, &Event { left, ..Event::new("peer:left", workspace, &peer.id, &peer.name) });
            Ok(())
        })? {
            streams::left(room, session, workspace, &before.id);
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
    let mut keys = vec![names::peer(&peer.id), names::peer_workspaces(&peer.id), names::workspace_peers(workspace)];
    keys.extend(log::keys(workspace));
    together(session, &keys, |together| {
        let now = together.now();
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
            there.json = Arc::clone(&peer.json);
            there.workspaces.clone_from(&peer.workspaces);
            there.expire_at = now + there.ttl_ms;
            there.key_until = now + KEY_TTLS * there.ttl_ms;
        }
        write_json(together, &peer)?;
        run(room, together, &peer)?;
        Ok(true)
    })
}

/// `FLUX.PEERS [WORKSPACE ws] [CAPABILITY cap]`
pub fn peers(room: &Room, session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (mut workspace, mut capability) = (None, None);
    for at in (1..args.len()).step_by(2) {
        let value = args.get(at + 1).ok_or(error::SYNTAX)?;
        if args.is(at, "workspace") {
            workspace = Some(names::workspace(value)?);
        } else if args.is(at, "capability") {
            capability = Some(names::capability(value)?);
        } else {
            return Err(error::SYNTAX);
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
pub fn list(room: &Room, session: &mut Session, workspace: Option<&str>, capability: Option<&str>) -> Result<Vec<Id>, Error> {
    if let Some(workspace) = workspace {
        return in_workspace(room, session, workspace, |peer| capability.is_none_or(|name| peer.capability(name).is_some()));
    }
    let state = room.state.lock();
    let mut found: Vec<(u64, Id)> = match capability {
        None => state.directory.peers().map(|peer| (peer.started_at, Arc::clone(&peer.json))).collect(),
        Some(name) => {
            let ids = state.directory.with_capability(name).iter();
            ids.filter_map(|id| state.directory.get(id)).map(|peer| (peer.started_at, Arc::clone(&peer.json))).collect()
        }
    };
    drop(state);
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, json)| json).collect())
}

/// The JSON of the live peers of a workspace that are wanted, oldest first.
fn in_workspace(
    room: &Room,
    session: &mut Session,
    workspace: &str,
    is_wanted: impl Fn(&Peer) -> bool,
) -> Result<Vec<Id>, Error> {
    let ids: Vec<String> = session.run_in_zero(&[b"SMEMBERS", names::workspace_peers(workspace).as_bytes()])?;
    let state = room.state.lock();
    let peers = ids.iter().filter_map(|id| state.directory.get(id)).filter(|peer| is_wanted(peer));
    let mut found: Vec<(u64, Id)> = peers.map(|peer| (peer.started_at, Arc::clone(&peer.json))).collect();
    drop(state);
    found.sort_unstable();
    Ok(found.into_iter().map(|(_, json)| json).collect())
}

/// A session that was attached to a peer ends. If it was the last one, the peer is gone.
pub fn disconnected(room: &Room, session: &mut Session) {
    let Some(id) = session.presence.peer.take() else { return };
    let is_last = {
        let mut state = room.state.lock();
        let Some(Kind::New { clients, .. }) = state.directory.get_mut(&id).map(|peer| &mut peer.kind) else { return };
        clients.retain(|client| *client != session.client.id);
        let is_last = clients.is_empty();
        // Also of the last: the peer may come back before it is removed.
        state.calls.lose(&id, session.client.id, clock::now_ms());
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
pub fn gone(room: &Room, session: &mut Session, id: &Id) {
    depart(room, session, id, Left::Expired, |_, together| {
        !together.run::<bool>(&[b"EXISTS", names::peer(id).as_bytes()]).unwrap_or(false)
    });
}

/// Removes a peer and all that it is in, tells its workspaces, and finds others for its calls. Does nothing if it is not there,
/// or if it is not `due` any more once its keys are locked.
fn depart(room: &Room, session: &mut Session, id: &Id, left: Left, due: impl Fn(&Peer, &mut Together<'_>) -> bool) {
    loop {
        let Some(mut peer) = room.state.lock().directory.get(id).cloned() else { return };
        // Old peers write these sets themselves, whatever their JSON says.
        let known: BTreeSet<Id> = peer.workspaces.iter().cloned().collect();
        let others: Vec<String> = session.run_in_zero(&[b"SMEMBERS", names::peer_workspaces(id).as_bytes()]).unwrap_or_default();
        peer.workspaces.extend(others.into_iter().map(Id::from).filter(|name| !known.contains(name)));
        let mut keys = peer.keys();
        keys.push(names::queue(id));
        keys.extend(peer.workspaces.iter().flat_map(|workspace| log::keys(workspace)));
        let jobs = together(session, &keys, |together| {
            if !due(&peer, together) {
                return Some(None);
            }
            {
                let mut state = room.state.lock();
                if !state.directory.get(id).is_some_and(|there| Arc::ptr_eq(&there.json, &peer.json)) {
                    return None;
                }
                if !state.directory.get(id).is_some_and(|there| left != Left::Disconnected || there.has_no_client()) {
                    return Some(None);
                }
                state.directory.remove(id);
            }
            tell_capabilities(room, id, Some(&peer), None);
            Some(Some(erase(room, together, &peer, left)))
        });
        match jobs {
            None => {}
            Some(None) => return,
            Some(Some(jobs)) => {
                peer.workspaces.iter().for_each(|workspace| streams::left(room, session, workspace, id));
                old::gone(room, session, &peer, jobs);
                return;
            }
        }
    }
}

/// Removes the keys of a peer and what names it, and tells its workspaces. Returns the jobs on its list, oldest first. Goes on
/// where a key holds something else: the rest must go in any case.
fn erase(room: &Room, together: &mut Together<'_>, peer: &Peer, left: Left) -> Vec<Vec<u8>> {
    let id = peer.id.as_bytes();
    let queue = names::queue(&peer.id);
    let mut jobs: Vec<Vec<u8>> = together.run(&[b"LRANGE", queue.as_bytes(), b"0", b"-1"]).unwrap_or_default();
    jobs.reverse();
    let own = [names::peer(&peer.id), names::auth(&peer.id), names::peer_workspaces(&peer.id), queue];
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
    jobs
}

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
            capabilities.extend(Capability::new(&wire::Capability { name, ..wire::Capability::default() }));
        }
    }
    capabilities
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
