//! When the keys of a shard's database expire, soonest first, with a random one at hand: eviction of keys that expire must not care
//! how their times are spread.
//!
//! A sorted list in blocks. Cost: 12 bytes a key where times only grow, 17 to 25 where they are random; finding and random choice
//! look at one block, adding and removing move half a block of 3 KiB.

use crate::id;

/// Keys in a full block.
const BLOCK: usize = 256;
/// A block with less than one in this many of its places taken is joined with a neighbour.
const SPARSE: usize = 4;
/// Neighbours are joined where both together fill no more than this, so that the next key does not split them again.
const JOINED_MAX: usize = BLOCK / 4 * 3;

/// A time and a hash in 12 bytes; sorts as the two do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Expiry([u32; 3]);

impl Expiry {
    fn new(expire_at: u64, hash: u32) -> Expiry {
        Expiry([(expire_at >> 32) as u32, expire_at as u32, hash])
    }

    fn parts(self) -> (u64, u32) {
        let Expiry([high, low, hash]) = self;
        (u64::from(high) << 32 | u64::from(low), hash)
    }
}

/// A set of times, in milliseconds since the epoch, each with the low 32 bits of its key's hash.
#[derive(Default)]
pub(crate) struct Expiries {
    /// Invariant: sorted throughout, no block empty, none longer than [`BLOCK`].
    blocks: Vec<Vec<Expiry>>,
    len: usize,
}

impl Expiries {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The soonest.
    pub(crate) fn first(&self) -> Option<(u64, u32)> {
        self.blocks.first()?.first().map(|expiry| expiry.parts())
    }

    /// One of them, each as likely as any other.
    pub(crate) fn random(&self) -> Option<(u64, u32)> {
        let longest = if self.blocks.len() == 1 { self.len } else { BLOCK };
        while !self.is_empty() {
            // A place that is not taken in a random block is no answer; most are taken.
            let (block, place) = (id::random_below(self.blocks.len()), id::random_below(longest));
            if let Some(expiry) = self.blocks[block].get(place) {
                return Some(expiry.parts());
            }
        }
        None
    }

    /// Adds one; false if it is there.
    pub(crate) fn insert(&mut self, expire_at: u64, hash: u32) -> bool {
        let expiry = Expiry::new(expire_at, hash);
        let Some(mut at) = self.block_of(expiry) else {
            self.blocks.push(vec![expiry]);
            self.len += 1;
            return true;
        };
        let Err(mut place) = self.blocks[at].binary_search(&expiry) else { return false };
        if self.blocks[at].len() == BLOCK {
            // Times mostly grow: a last block that is full stays so, and the next one begins.
            let is_end = at + 1 == self.blocks.len() && place == BLOCK;
            let middle = if is_end { BLOCK } else { BLOCK / 2 };
            let rest = self.blocks[at].split_off(middle);
            self.blocks.insert(at + 1, rest);
            if place > middle || is_end {
                (at, place) = (at + 1, place - middle);
            }
        }
        self.blocks[at].insert(place, expiry);
        self.len += 1;
        true
    }

    /// Removes one; false if it is not there.
    pub(crate) fn remove(&mut self, expire_at: u64, hash: u32) -> bool {
        let expiry = Expiry::new(expire_at, hash);
        let Some(at) = self.block_of(expiry) else { return false };
        let Ok(place) = self.blocks[at].binary_search(&expiry) else { return false };
        self.blocks[at].remove(place);
        self.len -= 1;
        if self.blocks[at].len() < BLOCK / SPARSE {
            self.join(at);
        }
        true
    }

    /// The block where an expiry is or belongs; None where there are no blocks.
    fn block_of(&self, expiry: Expiry) -> Option<usize> {
        let after = self.blocks.partition_point(|block| block[0] <= expiry);
        (!self.blocks.is_empty()).then(|| after.saturating_sub(1))
    }

    /// Drops a block that is empty, or joins it with a neighbour.
    fn join(&mut self, at: usize) {
        let fits = |left: usize| {
            self.blocks.get(left).zip(self.blocks.get(left + 1)).is_some_and(|(one, other)| one.len() + other.len() <= JOINED_MAX)
        };
        if self.blocks[at].is_empty() {
            self.blocks.remove(at);
        } else if let Some(left) = [Some(at), at.checked_sub(1)].into_iter().flatten().find(|left| fits(*left)) {
            let mut rest = self.blocks.remove(left + 1);
            self.blocks[left].append(&mut rest);
        }
        if self.blocks.len() < self.blocks.capacity() / 4 {
            self.blocks.shrink_to(self.blocks.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashMap};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn holds_what_a_sorted_set_holds(steps in proptest::collection::vec((any::<bool>(), 0u64..2000, 0u32..2), 0..6000)) {
            let (mut expiries, mut model) = (Expiries::default(), BTreeSet::new());
            for (is_put, expire_at, hash) in steps {
                if is_put {
                    expiries.insert(expire_at, hash);
                    model.insert((expire_at, hash));
                } else {
                    expiries.remove(expire_at, hash);
                    model.remove(&(expire_at, hash));
                }
                prop_assert_eq!((expiries.len(), expiries.first()), (model.len(), model.first().copied()));
                prop_assert!(expiries.blocks.iter().all(|block| (1..=BLOCK).contains(&block.len())));
            }
            let all: Vec<_> = expiries.blocks.iter().flatten().map(|expiry| expiry.parts()).collect();
            prop_assert_eq!(all, model.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn each_is_drawn_as_often_as_any_other_however_far_off_it_is() {
        let mut expiries = Expiries::default();
        // A thousand close together, and one that is as far from them as can be.
        (0..1000).for_each(|time| assert!(expiries.insert(time, 0)));
        expiries.insert(u64::MAX, 0);
        (0..400).for_each(|time| assert!(expiries.remove(time, 0)));
        let mut drawn: HashMap<u64, u32> = HashMap::new();
        (0..601 * 400).for_each(|_| *drawn.entry(expiries.random().expect("it is not empty").0).or_default() += 1);
        assert_eq!(drawn.len(), 601);
        // 400 each on average, with a deviation of 20.
        assert!(drawn.values().all(|count| (260..560).contains(count)), "{drawn:?}");
    }

    #[test]
    fn times_that_only_grow_take_12_bytes_each_and_all_is_given_back() {
        let mut expiries = Expiries::default();
        (0..100_000).for_each(|time| assert!(expiries.insert(time, 7)));
        let bytes: usize = expiries.blocks.iter().map(|block| block.capacity() * size_of::<Expiry>()).sum();
        assert!(bytes < 100_000 * 13, "{bytes}");
        (0..100_000).for_each(|time| assert!(expiries.remove(time, 7)));
        assert!(expiries.is_empty() && expiries.random().is_none());
        assert!(expiries.blocks.capacity() < 16, "{}", expiries.blocks.capacity());
    }
}
