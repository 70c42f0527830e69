//! A ring of peers, on which a key finds the same peer for as long as that is there.

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use crate::peers::ids::Id;

/// Places on the ring that a key tries. With so many, no peer gets much more than its share, though one close behind another gets less.
const TRIES: u64 = 21;

/// Peers on a ring, each at a place that depends only on its id. A key tries some places and takes the peer that comes soonest after
/// one of them; so a peer that comes or goes moves only its own share of keys, and is found among n in O(log n).
#[derive(Default)]
pub(crate) struct Ring(BTreeSet<(u64, Id)>);

impl Ring {
    /// Puts a peer on it.
    pub(crate) fn add(&mut self, peer: &Id) {
        self.0.insert((place(peer.as_bytes(), 0), Arc::clone(peer)));
    }

    /// Takes a peer off it.
    pub(crate) fn remove(&mut self, peer: &str) {
        self.0.remove(&(place(peer.as_bytes(), 0), peer.into()));
    }

    /// The peer of a key, among those that can take a call.
    pub(crate) fn pick(&self, key: &[u8], is_able: impl Fn(&Id) -> bool) -> Option<&Id> {
        let try_at = |number| {
            let from = place(key, number);
            let (at, peer) = self.after(from).find(|(_, peer)| is_able(peer))?;
            Some((at.wrapping_sub(from), peer))
        };
        // Where one try finds nobody, so do all.
        let first = try_at(1)?;
        let rest = (2..=TRIES).filter_map(try_at);
        std::iter::once(first).chain(rest).min().map(|(_, peer)| peer)
    }

    /// All peers, from a place on.
    fn after(&self, place: u64) -> impl Iterator<Item = &(u64, Id)> {
        let from = (place, Id::default());
        let before = self.0.range((Unbounded, Excluded(from.clone())));
        self.0.range(from..).chain(before)
    }
}

/// A place on the ring that is the same for the same name and number in every run.
fn place(name: &[u8], number: u64) -> u64 {
    let hash = blake3::Hasher::new().update(&number.to_le_bytes()).update(name).finalize();
    hash.as_bytes().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}
