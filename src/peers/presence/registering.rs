//! `FLUX.REGISTER`: a connection becomes a peer, or one more connection of it.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::ptr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::clock;
use crate::commands::Outcome;
use crate::commands::args::{Rest, parse_int};
use crate::commands::identity::Who;
use crate::commands::inner::Together;
use crate::commands::session::Session;
use crate::engine::block::{Block, Waiter};
use crate::engine::error::Error;
use crate::id;
use crate::peers::calls::{Action, Failure};
use crate::peers::checking::Origin;
use crate::peers::directory::{Capabilities, Capability, Generation, Id, Kind, Peer, Secret};
use crate::peers::presence::leaving::forsake;
use crate::peers::presence::{
    KEY_TTLS, Left, NAMES_MAX, Presence, TTL_MS, disconnected, read_generation, tell_capabilities, together, write_own,
};
use crate::peers::room::{Room, Todo};
use crate::peers::schema::Compiling;
use crate::peers::wire::{self, Event};
use crate::peers::{calling, log, names, old};
use crate::resp::{Args, Reply};

/// The least and the most milliseconds that a peer may say it lives without a heartbeat.
const TTL_MS_RANGE: RangeInclusive<u64> = 1_000..=3_600_000;
/// Bytes of a peer's JSON that are read at once: less than half a millisecond, with the schemas in it.
const INLINE_BYTES_MAX: usize = 32 * 1024;
/// Bytes of a secret.
const SECRET_BYTES_MAX: usize = 256;

/// What `FLUX.REGISTER` was given.
struct Registration {
    wire: wire::Peer,
    capabilities: Capabilities,
    secret: Option<String>,
    ttl_ms: u64,
    /// The calls it runs, if it says so.
    running: Option<HashSet<String>>,
    /// Its place among the registrations of the peer, if it says so.
    generation: Option<Generation>,
}

/// A registration that is read on the thread that checks, for the command that is run again then.
pub(crate) struct Reading {
    waiter: Arc<Waiter>,
    read: Mutex<Option<Result<Registration, Error>>>,
}

/// Reads what was given: at once where that takes no time to speak of. Else None: the command waits until it was read elsewhere.
fn read(room: &Room, session: &mut Session, args: Args<'_>, reply: &Reply) -> Result<Option<Registration>, Error> {
    let found = session.slot::<Presence>().found.take();
    // Another command may have come in between, where this one was refused the second time.
    if let Some(reading) = found.filter(|reading| ptr::eq(reading.waiter.args.args().at(1), args.at(1))) {
        return reading.read.lock().take().expect("it is run again once that is there").map(Some);
    }
    if args.at(1).len() <= INLINE_BYTES_MAX {
        let mut compiling = Compiling::at_once();
        let read = Registration::read(args, &mut compiling);
        if !compiling.is_spent() {
            return read.map(Some);
        }
    }
    let waiter = session.waiter(args, reply);
    let reading = Arc::new(Reading { waiter: Arc::clone(&waiter), read: Mutex::default() });
    let read = Arc::clone(&reading);
    let run = move |may_run: Result<(), Failure>| {
        let may_run = may_run.map_err(|why| Error::new(why.to_string()));
        let registration = may_run.and_then(|()| Registration::read(read.waiter.args.args(), &mut Compiling::default()));
        *read.read.lock() = Some(registration);
    };
    let origin = Origin::Client(session.client.id);
    room.checks.add_work(room, &origin, Arc::clone(&waiter), args.at(1).len(), run).map_err(|why| Error::new(why.to_string()))?;
    session.slot::<Presence>().found = Some(reading);
    session.block = Some(Block { waiter, timeout_ms: None, tries_again: true, is_under_way: true });
    Ok(None)
}

impl Registration {
    fn read(args: Args<'_>, compiling: &mut Compiling) -> Result<Registration, Error> {
        let invalid =
            |error| Error::new(format!("ERR invalid peer: it must be JSON with `id`, `name`, `capabilities` …: {error}"));
        let mut wire: wire::Peer = serde_json::from_slice(args.at(1)).map_err(invalid)?;
        serde_json::from_slice::<wire::PeerFields>(args.at(1)).map_err(invalid)?;
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
        // Their JSON is given back here: freeing a large one takes as long as reading it.
        for capability in &std::mem::take(&mut wire.capabilities) {
            names::capability(capability.name.as_bytes())?;
            let compiled = Capability::new(capability, compiling)
                .map_err(|why| Error::new(format!("ERR invalid schema of \"{}\": {why}", capability.name)))?;
            capabilities.push(compiled);
        }
        let (mut secret, mut ttl_ms, mut running) = (None, TTL_MS, None);
        let mut generation = None;
        let mut rest = Rest::of(args, 2);
        loop {
            if let Some(text) = rest.value("secret") {
                let text = std::str::from_utf8(text).ok().filter(|text| (1..=SECRET_BYTES_MAX).contains(&text.len()));
                secret =
                    Some(text.ok_or_else(|| Error::new("ERR invalid secret: it must be 1 to 256 bytes of UTF-8"))?.to_owned());
            } else if let Some(ms) = rest.value("ttl") {
                let ms = u64::try_from(parse_int(ms)?).ok().filter(|ms| TTL_MS_RANGE.contains(ms));
                ttl_ms = ms.ok_or_else(|| Error::new("ERR invalid TTL: it must be 1000 to 3600000 milliseconds"))?;
            } else if let Some(count) = rest.value("running") {
                let ids = usize::try_from(parse_int(count)?).ok().and_then(|count| rest.take_many(count));
                let ids = ids.ok_or_else(|| Error::new("ERR invalid RUNNING: say how many calls, then their ids"))?;
                running = Some(ids.iter().map(|id| String::from_utf8_lossy(id).into_owned()).collect());
            } else if let Some([run, number]) = rest.values("generation") {
                generation = Some(read_generation(run, number)?);
            } else {
                break rest.end_named()?;
            }
        }
        let capabilities = capabilities.into_iter().collect();
        Ok(Registration { wire, capabilities, secret, ttl_ms, running, generation })
    }

    /// The peer that comes of it. What it was before keeps its clients, and its workspaces unless registrations are counted. Where this one
    /// tells nothing that is newer, it is as before: the connection is attached to it, and no more.
    fn peer(&self, before: Option<&Peer>, secret: &Secret, client: u64) -> Peer {
        let now = clock::monotonic_ms();
        let (expire_at, key_until) = (now + self.ttl_ms, now + KEY_TTLS * self.ttl_ms);
        if let Some(before) = before.filter(|before| self.is_known_to(before)) {
            return Peer { ttl_ms: self.ttl_ms, expire_at, key_until, doubts: 0, ..before.clone() };
        }
        let mut workspaces = before.map(|peer| peer.workspaces.clone()).unwrap_or_default();
        if self.generation.is_some() {
            workspaces.retain(|name| self.wire.workspaces.iter().any(|told| **told == **name));
        }
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
            started_at: if started_at == 0 { clock::now_ms() } else { started_at },
            ttl_ms: self.ttl_ms,
            expire_at,
            key_until,
            doubts: 0,
            kind: Kind::New { secret: secret.clone(), clients: smallvec::smallvec![client] },
            told: self.generation.clone(),
        };
        peer.rewrite();
        peer
    }

    fn is_known_to(&self, peer: &Peer) -> bool {
        self.generation.as_ref().zip(peer.told.as_ref()).is_some_and(|(told, known)| told.is_known_to(known))
    }
}

/// `FLUX.REGISTER peer-json [SECRET s] [TTL ms] [GENERATION run n] [RUNNING n id …]`
pub(crate) fn register(room: &Room, session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let Some(registration) = read(room, session, args, reply)? else { return Ok(()) };
    if session.slot::<Presence>().peer.as_deref().is_some_and(|peer| peer != registration.wire.id) {
        disconnected(room, session);
    }
    let given = registration.secret.clone().unwrap_or_else(id::secret);
    let secret = Secret::of(given.as_bytes());
    let (before, peer, actions) = loop {
        let before = room.state.lock().directory.get(&registration.wire.id).cloned();
        let peer = registration.peer(before.as_ref(), &secret, session.client.id);
        if let Some((peer, actions)) = try_register(room, session, &peer, before.as_ref(), &secret)? {
            break (before, peer, actions);
        }
    };
    session.slot::<Presence>().peer = Some(Arc::clone(&peer.id));
    session.is_now(Who::Peer(Arc::clone(&peer.id)));
    for workspace in only_in(before.as_ref(), Some(&peer)) {
        forsake(room, session, &workspace, &peer.id);
    }
    calling::act(room, session, actions);
    if let Some(running) = &registration.running {
        let actions = {
            let state = &mut *room.state.lock();
            state.calls.claim(&mut state.directory, &peer.id, session.client.id, running, clock::monotonic_ms())
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
    let (joined, left) = (only_in(Some(peer), before), only_in(before, Some(peer)));
    let mut keys = peer.keys();
    keys.extend(before.map(Peer::keys).unwrap_or_default());
    keys.extend(joined.iter().chain(&left).flat_map(|workspace| log::keys(workspace)));
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
            state.calls.station(&mut state.directory, peer, clock::monotonic_ms())
        };
        drop(state);
        let written = write(together, peer, before, &left);
        if let Err(error) = written {
            let orphans = {
                let state = &mut *room.state.lock();
                state.directory.remove(&peer.id);
                old::gone(room, state, &peer.id, Vec::new(), false)
            };
            room.leave(Todo::Act(actions));
            room.leave(Todo::Orphans(orphans));
            return Err(error);
        }
        tell_capabilities(room, &peer.id, before, Some(peer));
        for workspace in &joined {
            log::publish(room, together, &Event::new("peer:joined", workspace, &peer.id, &peer.name));
        }
        for workspace in &left {
            let left = Some(Left::Stopped.word().to_owned());
            log::publish(room, together, &Event { left, ..Event::new("peer:left", workspace, &peer.id, &peer.name) });
        }
        Ok(Some((peer.clone(), actions)))
    })
}

/// The workspaces in which one is and the other is not.
fn only_in(one: Option<&Peer>, other: Option<&Peer>) -> Vec<Id> {
    let others: HashSet<&Id> = other.iter().flat_map(|peer| &peer.workspaces).collect();
    one.iter().flat_map(|peer| &peer.workspaces).filter(|name| !others.contains(name)).cloned().collect()
}

/// Writes all keys of a peer, and removes it from workspaces that it `left`.
fn write(together: &mut Together<'_>, peer: &Peer, before: Option<&Peer>, left: &[Id]) -> Result<(), Error> {
    write_own(together, peer)?;
    let id = peer.id.as_bytes();
    together.run::<i64>(&[b"SADD", names::PEERS.as_bytes(), id])?;
    for capability in peer.capabilities.iter() {
        together.run::<i64>(&[b"SADD", names::function(&capability.name).as_bytes(), id])?;
    }
    for capability in before.iter().flat_map(|before| before.capabilities.iter()) {
        if peer.capability(&capability.name).is_none() {
            together.run::<i64>(&[b"SREM", names::function(&capability.name).as_bytes(), id])?;
        }
    }
    for workspace in left {
        together.run::<i64>(&[b"SREM", names::workspace_peers(workspace).as_bytes(), id])?;
        together.run::<i64>(&[b"SREM", names::peer_workspaces(&peer.id).as_bytes(), workspace.as_bytes()])?;
    }
    for workspace in &peer.workspaces {
        together.run::<i64>(&[b"SADD", names::workspace_peers(workspace).as_bytes(), id])?;
        together.run::<i64>(&[b"SADD", names::peer_workspaces(&peer.id).as_bytes(), workspace.as_bytes()])?;
    }
    Ok(())
}
