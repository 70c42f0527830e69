//! Who is there: live peers, old and new, and who has which capability. It mirrors keys under `flux:peer:`: it changes only
//! while the shard of that key is locked, so both always say the same, and it can be read back from them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound::{Excluded, Unbounded};
use std::ops::Deref;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use smallvec::SmallVec;

use crate::peers::names;
use crate::peers::ring::Ring;
use crate::peers::schema::{Compiling, Schema};
use crate::peers::wire;

pub(crate) use crate::peers::ids::{Id, Secret};

/// How much of a long list is looked at while the room is locked; then others get their turn. So a list is not of one moment: who comes
/// or goes while it is made is in it or not, everyone else is in it once.
pub const SLICE: usize = 256;

/// A live peer.
#[derive(Clone)]
pub(crate) struct Peer {
    /// Names it.
    pub id: Id,
    /// For people.
    pub name: Id,
    /// As its key holds it.
    pub json: Id,
    /// What it can be called for.
    pub capabilities: Capabilities,
    /// Where it takes part, in the order it joined.
    pub workspaces: Vec<Id>,
    /// Where an old peer said itself that it leaves: it is not told there once more.
    pub farewells: Vec<Id>,
    /// In milliseconds since the epoch.
    pub started_at: u64,
    /// How long it lives without a heartbeat, in milliseconds.
    pub ttl_ms: u64,
    /// When its time is over without another heartbeat, on the monotonic clock; 0 for never.
    pub expire_at: u64,
    /// Until when its key lasts, on the monotonic clock; 0 where the key has to be looked for. A new peer's lasts longer than its time, so
    /// that a heartbeat need not write.
    pub key_until: u64,
    /// What [`Directory::doubt`] had been called when this was known.
    pub doubts: u64,
    /// How it speaks.
    pub kind: Kind,
    /// Which of its registrations this came of, if it counts them.
    pub told: Option<Generation>,
}

/// A registration's place among those of one run of a peer. A peer has several connections, which the server reads in any order, so the
/// order in which it wrote must be said.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Generation {
    /// Names the run: the program, from its start to its end.
    pub run: Id,
    /// Grows with each registration that tells something.
    pub number: u64,
}

impl Generation {
    /// Whether all that this one tells is known already to who has heard the other.
    pub(crate) fn is_known_to(&self, other: &Generation) -> bool {
        self.run == other.run && self.number <= other.number
    }

    /// Whether what a peer says after this registration comes too late for who has heard the other: that tells of it, or is of another run. Each
    /// connection begins with a registration, so it is one that the peer has given up.
    pub(crate) fn is_overtaken_by(&self, other: &Generation) -> bool {
        self.run != other.run || self.number < other.number
    }
}

/// How a peer speaks.
#[derive(Clone)]
pub(crate) enum Kind {
    /// By keys and channels alone.
    Old,
    /// By `FLUX.*` commands.
    New {
        /// The hash of its secret.
        secret: Secret,
        /// The clients attached to it, by number.
        clients: SmallVec<[u64; 2]>,
    },
}

/// What a peer can be called for.
#[derive(Clone)]
pub(crate) struct Capability {
    /// Callers name it.
    pub name: Id,
    /// For people and for models.
    pub description: Option<Id>,
    /// JSON Schema of the payload: its text, and made ready for checks.
    pub schema: Option<Arc<(Box<RawValue>, Schema)>>,
    /// How many calls of it the peer takes at once; `u32::MAX` for any number.
    pub concurrency: u32,
    /// How often a call that failed is tried again.
    pub retry: u32,
}

impl Capability {
    /// Reads one; the error says what is wrong with its schema. A peer's schemas are compiled together.
    pub(crate) fn new(wire: &wire::Capability, compiling: &mut Compiling) -> Result<Capability, String> {
        let schema = match &wire.schema {
            None | Some(Value::Null) => None,
            Some(schema) => {
                let text = serde_json::value::to_raw_value(schema).map_err(|error| error.to_string())?;
                Some(Arc::new((text, Schema::compile_with(schema, compiling)?)))
            }
        };
        Ok(Capability {
            name: wire.name.as_str().into(),
            description: wire.description.as_deref().map(Id::from),
            schema,
            concurrency: wire.concurrency.filter(|count| *count > 0).unwrap_or(u32::MAX),
            retry: wire.retry.unwrap_or(0),
        })
    }

    fn written(&self) -> Written<'_> {
        Written {
            name: &self.name,
            description: self.description.as_deref(),
            schema: self.schema_text(),
            concurrency: (self.concurrency != u32::MAX).then_some(self.concurrency),
            retry: (self.retry != 0).then_some(self.retry),
        }
    }

    fn schema_text(&self) -> Option<&RawValue> {
        self.schema.as_deref().map(|schema| &*schema.0)
    }

    /// Whether nobody can tell it from another one.
    fn is_like(&self, other: &Capability) -> bool {
        let texts = |capability: &Capability| capability.schema_text().map(|text| text.get().to_owned());
        let is_same_schema = match (&self.schema, &other.schema) {
            (Some(one), Some(other)) if Arc::ptr_eq(one, other) => true,
            _ => texts(self) == texts(other),
        };
        is_same_schema
            && (&self.name, &self.description) == (&other.name, &other.description)
            && (self.concurrency, self.retry) == (other.concurrency, other.retry)
    }
}

/// What a peer can be called for, found by name. Peers are copied while locks are held, so copies share it.
#[derive(Clone, Default)]
pub(crate) struct Capabilities(Arc<Listed>);

#[derive(Default)]
struct Listed {
    all: Vec<Capability>,
    /// Where the first of each name is.
    places: HashMap<Id, usize, foldhash::fast::RandomState>,
}

impl Capabilities {
    /// One by its name: O(1).
    pub(crate) fn named(&self, name: &str) -> Option<&Capability> {
        self.0.places.get(name).map(|at| &self.0.all[*at])
    }

    /// Whether nobody can tell them from others.
    pub(crate) fn are_like(&self, other: &Capabilities) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || self.len() == other.len() && self.iter().zip(other.iter()).all(|(one, other)| one.is_like(other))
    }

    /// Their names, each once.
    fn names(&self) -> impl Iterator<Item = &Id> {
        self.0.places.keys()
    }
}

impl FromIterator<Capability> for Capabilities {
    fn from_iter<T: IntoIterator<Item = Capability>>(capabilities: T) -> Capabilities {
        let all: Vec<Capability> = capabilities.into_iter().collect();
        let mut places = HashMap::default();
        for (at, capability) in all.iter().enumerate() {
            places.entry(Arc::clone(&capability.name)).or_insert(at);
        }
        Capabilities(Arc::new(Listed { all, places }))
    }
}

impl Deref for Capabilities {
    type Target = [Capability];

    fn deref(&self) -> &[Capability] {
        &self.0.all
    }
}

/// A capability as it is written for others; see [`wire::Capability`].
#[derive(Serialize)]
struct Written<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    concurrency: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry: Option<u32>,
}

/// A peer as it is written for others; see [`wire::Peer`].
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenPeer<'a> {
    id: &'a str,
    name: &'a str,
    capabilities: Vec<Written<'a>>,
    workspaces: Vec<&'a str>,
    started_at: u64,
}

impl Peer {
    /// Whether it speaks the old protocol.
    pub(crate) fn is_old(&self) -> bool {
        matches!(self.kind, Kind::Old)
    }

    /// Whether it was there before the server was restarted, and has not come back.
    pub(crate) fn is_awaited(&self) -> bool {
        matches!(&self.kind, Kind::New { clients, .. } if clients.is_empty())
    }

    /// Whether its time is not over.
    pub(crate) fn is_live(&self, now: u64) -> bool {
        self.expire_at == 0 || self.expire_at > now
    }

    /// One of its capabilities.
    pub(crate) fn capability(&self, name: &str) -> Option<&Capability> {
        self.capabilities.named(name)
    }

    /// Writes its JSON anew, after something of it changed.
    pub(crate) fn rewrite(&mut self) {
        self.json = wire::text(&WrittenPeer {
            id: &self.id,
            name: &self.name,
            capabilities: self.capabilities.iter().map(Capability::written).collect(),
            workspaces: self.workspaces.iter().map(|name| &**name).collect(),
            started_at: self.started_at,
        })
        .into();
    }

    /// A peer as its key shows it. What is no peer's JSON is a peer that can do nothing.
    pub(crate) fn read(id: &str, json: &str, expire_at: u64, kind: Kind) -> Peer {
        let wire: wire::Peer = serde_json::from_str(json).unwrap_or_default();
        // Old peers' schemas were never checked before; what is no schema does not keep them from being called.
        let mut compiling = Compiling::default();
        let capability = |capability: &wire::Capability| {
            let read = Capability::new(capability, &mut compiling);
            read.or_else(|_| Capability::new(&wire::Capability { schema: None, ..capability.clone() }, &mut compiling)).ok()
        };
        let short = || id.chars().take(8).collect::<String>();
        Peer {
            id: id.into(),
            name: if wire.name.is_empty() { short().into() } else { wire.name.into() },
            json: json.into(),
            capabilities: wire.capabilities.iter().filter_map(capability).collect(),
            workspaces: wire.workspaces.into_iter().map(Id::from).collect(),
            farewells: Vec::new(),
            started_at: wire.started_at,
            ttl_ms: 0,
            expire_at,
            key_until: expire_at,
            doubts: 0,
            kind,
            told: None,
        }
    }

    /// The keys that name it.
    pub(crate) fn keys(&self) -> Vec<String> {
        let mut keys =
            vec![names::peer(&self.id), names::auth(&self.id), names::peer_workspaces(&self.id), names::PEERS.to_owned()];
        keys.extend(self.capabilities.iter().map(|capability| names::function(&capability.name)));
        keys.extend(self.workspaces.iter().map(|workspace| names::workspace_peers(workspace)));
        keys
    }
}

/// All live peers. Adding or removing one is O(log n) in the peers, for each of its capabilities and workspaces; so is finding the
/// next ones of a list.
#[derive(Default)]
pub struct Directory {
    peers: HashMap<Id, Peer, foldhash::fast::RandomState>,
    /// Oldest first.
    by_age: BTreeSet<Age>,
    old_count: usize,
    capable: BTreeMap<Id, Capable>,
    /// Workspaces someone is in, and how many are.
    workspaces: BTreeMap<Id, usize>,
    doubts: u64,
    number: u64,
}

/// A peer's place among all, by when it started.
pub(crate) type Age = (u64, Id);

/// Who has a capability.
#[derive(Default)]
pub(crate) struct Capable {
    /// By a number that grows: in the order they registered it.
    peers: BTreeMap<u64, Id>,
    numbers: HashMap<Id, u64, foldhash::fast::RandomState>,
    ring: Ring,
    /// The number of the one that had the last turn.
    turn: u64,
}

impl Capable {
    /// All of them, in the order they registered.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Id> {
        self.peers.values()
    }

    /// Those after this number (0 is before all), each with its number.
    pub(crate) fn after(&self, number: u64) -> impl Iterator<Item = (u64, &Id)> {
        self.peers.range((Excluded(number), Unbounded)).map(|(number, id)| (*number, id))
    }

    /// The number of the last one.
    pub(crate) fn last(&self) -> u64 {
        self.peers.last_key_value().map_or(0, |(number, _)| *number)
    }

    /// All of them, from the one whose turn it is.
    pub(crate) fn in_turn(&self) -> impl Iterator<Item = &Id> {
        self.after(self.turn).map(|(_, id)| id).chain(self.peers.range(..=self.turn).map(|(_, id)| id))
    }

    /// Where keys that stick find their peers.
    pub(crate) fn ring(&self) -> &Ring {
        &self.ring
    }

    fn add(&mut self, number: u64, id: &Id) {
        self.peers.insert(number, Arc::clone(id));
        self.numbers.insert(Arc::clone(id), number);
        self.ring.add(id);
    }

    fn remove(&mut self, id: &str) {
        if let Some(number) = self.numbers.remove(id) {
            self.peers.remove(&number);
        }
        self.ring.remove(id);
    }
}

impl Directory {
    /// A peer.
    pub(crate) fn get(&self, id: &str) -> Option<&Peer> {
        self.peers.get(id)
    }

    /// A peer, to change what is not found by: its times and its clients.
    pub(crate) fn get_mut(&mut self, id: &str) -> Option<&mut Peer> {
        self.peers.get_mut(id)
    }

    /// Any of their keys may be gone.
    pub(crate) fn doubt(&mut self) {
        self.doubts += 1;
    }

    /// How often [`Self::doubt`] was called.
    pub(crate) fn doubts(&self) -> u64 {
        self.doubts
    }

    /// Whether a peer's key is known to be there, without looking for it.
    pub(crate) fn is_sure(&self, peer: &Peer, now: u64) -> bool {
        peer.doubts == self.doubts && peer.key_until > now
    }

    /// A peer's key is known to last until then.
    pub(crate) fn confirm(&mut self, id: &str, key_until: u64) {
        if let Some(peer) = self.peers.get_mut(id) {
            (peer.key_until, peer.doubts) = (key_until, self.doubts);
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.peers.len()
    }

    /// How many of them speak the old protocol.
    pub(crate) fn old_len(&self) -> usize {
        self.old_count
    }

    /// The next peers after this place, oldest first; at most [`SLICE`].
    pub(crate) fn peers_after(&self, place: Option<&Age>) -> impl Iterator<Item = (&Age, &Peer)> {
        let from = place.map_or(Unbounded, Excluded);
        let slice = self.by_age.range::<Age, _>((from, Unbounded)).take(SLICE);
        slice.filter_map(|age| Some((age, self.peers.get(&age.1)?)))
    }

    /// How many capabilities someone has.
    pub(crate) fn capability_count(&self) -> usize {
        self.capable.len()
    }

    /// The next capability by name, and who has it.
    pub(crate) fn capability_after(&self, name: Option<&str>) -> Option<(&Id, &Capable)> {
        self.capable.range::<str, _>((name.map_or(Unbounded, Excluded), Unbounded)).next()
    }

    /// The next workspaces someone is in, by name, and how many are; at most [`SLICE`].
    pub(crate) fn workspaces_after(&self, name: Option<&str>) -> impl Iterator<Item = (&Id, usize)> {
        let from = name.map_or(Unbounded, Excluded);
        self.workspaces.range::<str, _>((from, Unbounded)).take(SLICE).map(|(name, count)| (name, *count))
    }

    /// Whether someone is in a workspace.
    pub(crate) fn is_inhabited(&self, workspace: &str) -> bool {
        self.workspaces.contains_key(workspace)
    }

    /// Who has a capability.
    pub(crate) fn with_capability(&self, name: &str) -> Option<&Capable> {
        self.capable.get(name)
    }

    /// A peer of this capability had its turn.
    pub(crate) fn took_turn(&mut self, name: &str, id: &str) {
        if let Some(capable) = self.capable.get_mut(name) {
            capable.turn = capable.numbers.get(id).copied().unwrap_or(capable.turn);
        }
    }

    /// Adds a peer whose key is known to be there, or replaces the one with its id.
    pub(crate) fn insert(&mut self, mut peer: Peer) {
        peer.doubts = self.doubts;
        if let Some(before) = self.peers.remove(&peer.id) {
            for name in before.capabilities.names().filter(|name| peer.capability(name).is_none()) {
                self.forget(name, &peer.id);
            }
            self.unlist(&before);
        }
        for name in peer.capabilities.names() {
            let capable = self.capable.entry(Arc::clone(name)).or_default();
            if !capable.numbers.contains_key(&peer.id) {
                self.number += 1;
                capable.add(self.number, &peer.id);
            }
        }
        self.list(peer);
    }

    fn list(&mut self, peer: Peer) {
        self.by_age.insert((peer.started_at, Arc::clone(&peer.id)));
        self.old_count += usize::from(peer.is_old());
        peer.workspaces.iter().for_each(|name| *self.workspaces.entry(Arc::clone(name)).or_default() += 1);
        self.peers.insert(Arc::clone(&peer.id), peer);
    }

    /// A peer is in these workspaces from now on, and so has another JSON.
    pub(crate) fn set_workspaces(&mut self, id: &str, workspaces: &[Id], json: &Id) {
        let Some(mut peer) = self.peers.remove(id) else { return };
        self.unlist(&peer);
        (peer.workspaces, peer.json) = (workspaces.to_vec(), Arc::clone(json));
        self.list(peer);
    }

    /// Removes a peer.
    pub(crate) fn remove(&mut self, id: &str) -> Option<Peer> {
        let peer = self.peers.remove(id)?;
        peer.capabilities.names().for_each(|name| self.forget(name, id));
        self.unlist(&peer);
        Some(peer)
    }

    /// Takes a peer out of all that does not change by itself, but for who has which capability.
    fn unlist(&mut self, peer: &Peer) {
        self.by_age.remove(&(peer.started_at, Arc::clone(&peer.id)));
        self.old_count -= usize::from(peer.is_old());
        for name in &peer.workspaces {
            let Some(count) = self.workspaces.get_mut(name) else { continue };
            *count -= 1;
            if *count == 0 {
                self.workspaces.remove(name);
            }
        }
    }

    fn forget(&mut self, capability: &str, id: &str) {
        if let Some(capable) = self.capable.get_mut(capability) {
            capable.remove(id);
            if capable.peers.is_empty() {
                self.capable.remove(capability);
            }
        }
    }
}
