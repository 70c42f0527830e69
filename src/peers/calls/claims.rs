//! What peers that come back after a restart say to run, of which no caller has spoken yet. How they meet is in `returning`.

use std::collections::HashSet;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::peers::calls::terms::{Answer, CALLS_OF_A_PEER_MAX, Map, Refused};
use crate::peers::directory::{Capabilities, Directory, Id, Peer};

/// How long after the start claims are taken: a peer's link rests up to seven and a half seconds between its tries, and dialling takes as
/// long.
pub(super) const WINDOW_MS: u64 = 15_000;
/// Claims of one peer that are kept, and the bytes of all of them with their answers.
pub(super) const CLAIMS_OF_A_PEER_MAX: usize = CALLS_OF_A_PEER_MAX;
const CLAIMED_BYTES_MAX: usize = 256 << 20;
/// About what a claim, or an answer, takes beside its text.
const CLAIM_BYTES: usize = 128;

/// What peers say to run, of which no caller has spoken yet.
#[derive(Default)]
pub(super) struct Returning {
    /// By the call: in the order they came, one of each peer.
    pub(super) claims: Map<Id, SmallVec<[Claim; 1]>>,
    pub(super) of_peer: Map<Id, usize>,
    pub(super) bytes: usize,
    /// Peers that were there in the last run.
    pub(super) known: Map<Id, Capabilities>,
    /// Those of them that have not said yet what they run.
    pub(super) awaited: HashSet<Id>,
    /// When claims are not taken any more; None before anybody came.
    pub(super) until: Option<u64>,
}

pub(super) struct Claim {
    pub(super) peer: Id,
    pub(super) client: u64,
    /// Those of the peer when it said so: it may be gone when its answer is taken.
    pub(super) capabilities: Capabilities,
    /// Pieces, and perhaps the end.
    pub(super) answers: Vec<Answer>,
}

impl Claim {
    pub(super) fn has_ended(&self) -> bool {
        self.answers.last().is_some_and(|answer| !matches!(answer, Answer::Chunk(_)))
    }

    pub(super) fn bytes(&self, id: &str) -> usize {
        CLAIM_BYTES + id.len() + self.answers.iter().map(size).sum::<usize>()
    }
}

impl Returning {
    pub(super) fn is_open(&mut self, now: u64) -> bool {
        now < *self.until.get_or_insert(now + WINDOW_MS)
    }

    /// A peer says to run a call. What would be too much is passed over, so that no peer is in the way of others.
    pub(super) fn add(&mut self, id: &str, peer: &Id, client: u64, capabilities: &Capabilities) {
        if let Some(claim) = self.claim(peer, id) {
            claim.client = client;
            return;
        }
        let claim = Claim { peer: Arc::clone(peer), client, capabilities: capabilities.clone(), answers: Vec::new() };
        let of_peer = self.of_peer.entry(Arc::clone(peer)).or_default();
        let bytes = self.bytes + claim.bytes(id);
        if *of_peer < CLAIMS_OF_A_PEER_MAX && bytes <= CLAIMED_BYTES_MAX {
            *of_peer += 1;
            self.bytes = bytes;
            self.claims.entry(id.into()).or_default().push(claim);
        }
    }

    pub(super) fn claim(&mut self, peer: &Id, id: &str) -> Option<&mut Claim> {
        self.claims.get_mut(id)?.iter_mut().find(|claim| claim.peer == *peer)
    }

    pub(super) fn take(&mut self, id: &str) -> SmallVec<[Claim; 1]> {
        let claims = self.claims.remove(id).unwrap_or_default();
        for claim in &claims {
            self.bytes -= claim.bytes(id);
            *self.of_peer.entry(Arc::clone(&claim.peer)).or_default() -= 1;
        }
        claims
    }

    /// A peer answers a call whose caller has not come back. Its answer may be here before its claim, since that comes over another
    /// connection.
    pub(super) fn answer(&mut self, peer: &Id, id: &str, answer: Answer) -> Result<(), Refused> {
        if let Some(capabilities) = self.known.get(peer).cloned()
            && self.claim(peer, id).is_none()
        {
            self.add(id, peer, 0, &capabilities);
        }
        let bytes = self.bytes + size(&answer);
        let claim = self.claim(peer, id).filter(|claim| !claim.has_ended()).ok_or(Refused::NoCall)?;
        if bytes <= CLAIMED_BYTES_MAX {
            claim.answers.push(answer);
            self.bytes = bytes;
            return Ok(());
        }
        if matches!(answer, Answer::Chunk(_)) {
            return Err(Refused::Busy);
        }
        // Such a call is given up.
        self.retain(|of, claim| *of != *id || claim.peer != *peer);
        Err(Refused::NoCall)
    }

    /// This connection is lost: its peer says anew what it runs. Of what it sent a piece it has in any case.
    pub(super) fn lose(&mut self, client: u64) {
        self.retain(|_, claim| claim.client != client || !claim.answers.is_empty());
    }

    /// This peer is gone; its answers stay.
    pub(super) fn forget(&mut self, peer: &Id) {
        self.awaited.remove(peer);
        self.retain(|_, claim| claim.peer != *peer || claim.has_ended());
    }

    /// A peer has said all that it runs: a claim, or by taking other work.
    pub(super) fn is_back(&mut self, peer: &Id) {
        if !self.awaited.is_empty() {
            self.awaited.remove(peer);
        }
    }

    /// Whether a peer that may have such a call is to come back yet.
    pub(super) fn awaits(&self, directory: &Directory, to: Option<&Id>, capability: &Id) -> bool {
        let is_capable = |peer: &Peer| may_have(&peer.id, &peer.capabilities, to, capability);
        self.awaited.iter().any(|peer| directory.get(peer).is_some_and(is_capable))
    }

    /// O(n) in the claims, which are few and not for long.
    pub(super) fn retain(&mut self, stays: impl Fn(&str, &Claim) -> bool) {
        let Returning { claims, of_peer, bytes, .. } = self;
        claims.retain(|id, claims| {
            claims.retain(|claim| {
                let stays = stays(id, claim);
                if !stays {
                    *bytes -= claim.bytes(id);
                    *of_peer.entry(Arc::clone(&claim.peer)).or_default() -= 1;
                }
                stays
            });
            !claims.is_empty()
        });
    }

    pub(super) fn pass(&mut self, now: u64) {
        if !self.is_open(now) {
            *self = Returning { until: self.until, ..Returning::default() };
        }
    }
}

/// Whether a peer may have been given a call, by what it can do.
pub(super) fn may_have(peer: &Id, capabilities: &Capabilities, to: Option<&Id>, capability: &str) -> bool {
    to.is_none_or(|to| to == peer) && capabilities.named(capability).is_some()
}

fn size(answer: &Answer) -> usize {
    let text = match answer {
        Answer::Done(data) | Answer::Chunk(data) => data.len(),
        Answer::Failed(message) => message.len(),
    };
    CLAIM_BYTES + text
}
