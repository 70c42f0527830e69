//! Samples of what changed: they tell about how much that is, and how keys spread, where a fold holds but a part.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::engine::dict;
use crate::engine::effect::Effect;
use crate::engine::persist::fold::Place;
use crate::engine::persist::fold::key::element_of;
use crate::engine::persist::record::SEGMENT_BYTES;

/// One of this many keys, and of changed rows, is a sample.
const SAMPLED: u64 = 251;

/// Some of what changed, chosen by hashes, so that however often it did it is one of all.
#[derive(Default)]
pub(crate) struct Samples {
    /// Keys, in their order.
    pub keys: BTreeSet<Place>,
    /// By their keys' hashes, those of rows that changed in values.
    rows: HashMap<u64, HashSet<u64>>,
}

impl Samples {
    /// Takes samples of what an effect changes.
    pub(super) fn note(&mut self, effect: &Effect<'_>) {
        let (Some(db), Some(key)) = (effect.db(), effect.key()) else { return };
        self.note_key(db, key);
        match effect {
            Effect::Change { rows, .. } => rows.for_each(|row| self.note_row(key, dict::hash(element_of(&row)))),
            Effect::WriteAt { offset, .. } => self.note_row(key, dict::hash(&(offset / SEGMENT_BYTES as u64).to_le_bytes())),
            _ => {}
        }
    }

    /// Maybe takes a sample of a key.
    pub(super) fn note_key(&mut self, db: u8, key: &[u8]) {
        if dict::hash(key).is_multiple_of(SAMPLED) {
            self.keys.insert((db, key.to_vec()));
        }
    }

    fn note_row(&mut self, key: &[u8], hash: u64) {
        let key = dict::hash(key);
        if (key ^ hash).is_multiple_of(SAMPLED) {
            self.rows.entry(key).or_default().insert(hash);
        }
    }

    /// About how many places in the tables change: keys, and rows of large values. Rows that lie beside each other count as if they did not.
    pub(crate) fn changes(&self) -> u64 {
        // Of a small value there are hardly ever so many.
        let rows: usize = self.rows.values().map(HashSet::len).filter(|rows| *rows > 2).sum();
        (self.keys.len() + rows) as u64 * SAMPLED
    }
}
