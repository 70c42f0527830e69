//! Who is there: live peers, old and new, and who has which capability. It mirrors keys under `flux:peer:`: it changes only
//! while the shard of that key is locked, so both always say the same, and it can be read back from them.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;
use smallvec::SmallVec;

use crate::peers::names;
use crate::peers::schema::{Compiling, Schema};
use crate::peers::wire;

/// A peer's id, a call's, or another name that is passed around.
pub type Id = Arc<str>;

/// A live peer.
#[derive(Clone)]
pub struct Peer {
    /// Names it.
    pub id: Id,
    /// For people.
    pub name: Id,
    /// As its key holds it.
    pub json: Id,
    /// What it can be called for.
    pub capabilities: Vec<Capability>,
    /// Where it takes part, in the order it joined.
    pub workspaces: Vec<Id>,
    /// Where an old peer said itself that it leaves: it is not told there once more.
    pub farewells: Vec<Id>,
    /// In milliseconds since the epoch.
    pub started_at: u64,
    /// How long it lives without a heartbeat, in milliseconds.
    pub ttl_ms: u64,
    /// When its time is over without another heartbeat, in milliseconds since the epoch.
    pub expire_at: u64,
    /// When its key expires; 0 where the key has to be looked for. A new peer's lasts longer than its time, so that a heartbeat need
    /// not write.
    pub key_until: u64,
    /// How it speaks.
    pub kind: Kind,
}

/// How a peer speaks.
#[derive(Clone)]
pub enum Kind {
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

/// The hash of a peer's secret. It is compared in constant time, and not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(blake3::Hash);

impl Secret {
    /// The hash of a secret.
    pub fn of(secret: &[u8]) -> Secret {
        Secret(blake3::hash(secret))
    }

    /// Reads what [`Self::text`] wrote.
    pub fn from_text(text: &str) -> Option<Secret> {
        blake3::Hash::from_hex(text).ok().map(Secret)
    }

    /// As it is kept.
    pub fn text(&self) -> String {
        self.0.to_hex().to_string()
    }
}

/// What a peer can be called for.
#[derive(Clone)]
pub struct Capability {
    /// Callers name it.
    pub name: Id,
    /// For people and for models.
    pub description: Option<Id>,
    /// JSON Schema of the payload.
    pub schema: Option<Arc<(Value, Schema)>>,
    /// How many calls of it the peer takes at once; `u32::MAX` for any number.
    pub concurrency: u32,
    /// How often a call that failed is tried again.
    pub retry: u32,
}

impl Capability {
    /// Reads one; the error says what is wrong with its schema. A peer's schemas are compiled together.
    pub fn new(wire: &wire::Capability, compiling: &mut Compiling) -> Result<Capability, String> {
        let schema = match &wire.schema {
            None | Some(Value::Null) => None,
            Some(schema) => Some(Arc::new((schema.clone(), Schema::compile_with(schema, compiling)?))),
        };
        Ok(Capability {
            name: wire.name.as_str().into(),
            description: wire.description.as_deref().map(Id::from),
            schema,
            concurrency: wire.concurrency.filter(|count| *count > 0).unwrap_or(u32::MAX),
            retry: wire.retry.unwrap_or(0),
        })
    }
}

impl Peer {
    /// Whether it speaks the old protocol.
    pub fn is_old(&self) -> bool {
        matches!(self.kind, Kind::Old)
    }

    /// Whether its time is not over.
    pub fn is_live(&self, now: u64) -> bool {
        self.expire_at == 0 || self.expire_at > now
    }

    /// One of its capabilities.
    pub fn capability(&self, name: &str) -> Option<&Capability> {
        self.capabilities.iter().find(|capability| &*capability.name == name)
    }

    /// As it is written for others.
    pub fn wire(&self) -> wire::Peer {
        let capability = |capability: &Capability| wire::Capability {
            name: capability.name.to_string(),
            description: capability.description.as_deref().map(str::to_owned),
            schema: capability.schema.as_ref().map(|schema| schema.0.clone()),
            concurrency: (capability.concurrency != u32::MAX).then_some(capability.concurrency),
            retry: (capability.retry != 0).then_some(capability.retry),
        };
        wire::Peer {
            id: self.id.to_string(),
            name: self.name.to_string(),
            capabilities: self.capabilities.iter().map(capability).collect(),
            workspaces: self.workspaces.iter().map(ToString::to_string).collect(),
            started_at: self.started_at,
        }
    }

    /// Writes its JSON anew, after something of it changed.
    pub fn rewrite(&mut self) {
        self.json = wire::text(&self.wire()).into();
    }

    /// A peer as its key shows it. What is no peer's JSON is a peer that can do nothing.
    pub fn read(id: &str, json: &str, expire_at: u64, kind: Kind) -> Peer {
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
            kind,
        }
    }

    /// The keys that name it.
    pub fn keys(&self) -> Vec<String> {
        let mut keys =
            vec![names::peer(&self.id), names::auth(&self.id), names::peer_workspaces(&self.id), names::PEERS.to_owned()];
        keys.extend(self.capabilities.iter().map(|capability| names::function(&capability.name)));
        keys.extend(self.workspaces.iter().map(|workspace| names::workspace_peers(workspace)));
        keys
    }
}

/// All live peers.
#[derive(Default)]
pub struct Directory {
    peers: HashMap<Id, Peer, foldhash::fast::RandomState>,
    capable: HashMap<Id, Capable, foldhash::fast::RandomState>,
}

/// Who has a capability.
#[derive(Default)]
struct Capable {
    peers: Vec<Id>,
    turn: usize,
}

impl Directory {
    /// A peer.
    pub fn get(&self, id: &str) -> Option<&Peer> {
        self.peers.get(id)
    }

    /// A peer, to change what is not found by: its times and its clients.
    pub fn get_mut(&mut self, id: &str) -> Option<&mut Peer> {
        self.peers.get_mut(id)
    }

    /// Any of their keys may be gone.
    pub fn doubt(&mut self) {
        self.peers.values_mut().for_each(|peer| peer.key_until = 0);
    }

    /// All of them, in no order.
    pub fn peers(&self) -> impl ExactSizeIterator<Item = &Peer> {
        self.peers.values()
    }

    /// All capabilities someone has, in no order, and who.
    pub fn capabilities(&self) -> impl ExactSizeIterator<Item = (&Id, &[Id])> {
        self.capable.iter().map(|(name, capable)| (name, &*capable.peers))
    }

    /// Who has a capability, in the order they registered it.
    pub fn with_capability(&self, name: &str) -> &[Id] {
        self.capable.get(name).map_or(&[], |capable| &capable.peers)
    }

    /// Who has a capability, and a number that is one higher each time.
    pub fn turn(&mut self, name: &str) -> (&[Id], usize) {
        let Some(capable) = self.capable.get_mut(name) else { return (&[], 0) };
        capable.turn = capable.turn.wrapping_add(1);
        (&capable.peers, capable.turn)
    }

    /// Adds a peer, or replaces the one with its id.
    pub fn insert(&mut self, peer: Peer) {
        let names = |peer: &Peer| peer.capabilities.iter().map(|capability| Arc::clone(&capability.name)).collect::<Vec<_>>();
        let (mut before, kept) = (self.peers.get(&peer.id).map(names).unwrap_or_default(), names(&peer));
        before.iter().filter(|name| !kept.contains(name)).for_each(|name| self.forget(name, &peer.id));
        for name in kept {
            if !before.contains(&name) {
                self.capable.entry(Arc::clone(&name)).or_default().peers.push(Arc::clone(&peer.id));
                before.push(name);
            }
        }
        self.peers.insert(Arc::clone(&peer.id), peer);
    }

    /// Removes a peer.
    pub fn remove(&mut self, id: &str) -> Option<Peer> {
        let peer = self.peers.remove(id)?;
        peer.capabilities.iter().for_each(|capability| self.forget(&capability.name, id));
        Some(peer)
    }

    fn forget(&mut self, capability: &str, id: &str) {
        if let Some(capable) = self.capable.get_mut(capability) {
            capable.peers.retain(|other| &**other != id);
            if capable.peers.is_empty() {
                self.capable.remove(capability);
            }
        }
    }
}
