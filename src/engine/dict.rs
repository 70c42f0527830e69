//! A hash table that grows one bucket at a time (linear hashing, Litwin 1980), so no insert ever stalls for a rehash,
//! and that can be walked by a cursor which survives any change (see `scan`).
//!
//! Entries stand densely in chunks; buckets hold the position of the first entry of a chain. Removing an entry moves
//! the last one into its place, so memory is given back and a random entry is one random position away.

use std::hash::BuildHasher;
use std::sync::LazyLock;

use foldhash::quality::RandomState;

/// Entries per chunk: large enough that chunk bookkeeping vanishes, small enough to waste little at the end.
const CHUNK: usize = 128;
/// No entry: the end of a chain.
const NONE: u32 = u32::MAX;
/// Tables start with this many buckets; a power of two.
const BUCKETS_MIN: u32 = 4;

static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::default);

/// The hash of a key, seeded anew in each process so that strangers cannot choose colliding keys.
pub fn hash(key: &[u8]) -> u64 {
    SEED.hash_one(key)
}

/// What a table stores: anything with a key.
pub trait Entry {
    /// The bytes this entry is found by.
    fn key(&self) -> &[u8];
}

struct Slot<E> {
    hash: u32,
    next: u32,
    entry: E,
}

/// A table of entries, each found by its key. Hashes given to it are the low 32 bits of [`hash`].
pub struct Dict<E> {
    /// Invariant: `buckets.len() == (BUCKETS_MIN << level) + split`, with `split < BUCKETS_MIN << level`.
    buckets: Vec<u32>,
    chunks: Vec<Vec<Slot<E>>>,
    len: u32,
}

/// An entry that `remove` moved to keep the entries dense: whoever keeps positions must follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// Where the entry stood.
    pub from: u32,
    /// Where it stands now.
    pub to: u32,
}

impl<E> Default for Dict<E> {
    fn default() -> Self {
        Dict { buckets: Vec::new(), chunks: Vec::new(), len: 0 }
    }
}

impl<E: Entry> Dict<E> {
    /// How many entries it holds.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes the table itself takes, without what its entries hold on the heap.
    pub fn table_bytes(&self) -> usize {
        self.buckets.capacity() * 4 + self.chunks.iter().map(|chunk| chunk.capacity() * size_of::<Slot<E>>()).sum::<usize>()
    }

    /// The position of the entry with this key. Positions stay true until the next `insert_new` or `remove`.
    #[inline]
    pub fn find(&self, hash: u32, key: &[u8]) -> Option<u32> {
        if self.len == 0 {
            return None;
        }
        let mut at = self.buckets[self.bucket(hash)];
        while at != NONE {
            let slot = self.slot(at);
            if slot.hash == hash && slot.entry.key() == key {
                return Some(at);
            }
            at = slot.next;
        }
        None
    }

    /// The position of an entry with this hash that is wanted.
    pub fn find_where(&self, hash: u32, is_wanted: impl Fn(&E) -> bool) -> Option<u32> {
        if self.len == 0 {
            return None;
        }
        let mut at = self.buckets[self.bucket(hash)];
        while at != NONE {
            let slot = self.slot(at);
            if slot.hash == hash && is_wanted(&slot.entry) {
                return Some(at);
            }
            at = slot.next;
        }
        None
    }

    /// The entry at a position from `find`, or any position below `len`.
    #[inline]
    pub fn at(&self, position: u32) -> &E {
        &self.slot(position).entry
    }

    /// The entry at a position, to change. Its key must not change.
    #[inline]
    pub fn at_mut(&mut self, position: u32) -> &mut E {
        &mut self.slot_mut(position).entry
    }

    /// The hash an entry was inserted with.
    pub fn hash_at(&self, position: u32) -> u32 {
        self.slot(position).hash
    }

    /// The entry with this key.
    pub fn get(&self, key: &[u8]) -> Option<&E> {
        self.find(hash(key) as u32, key).map(|at| self.at(at))
    }

    /// The entry with this key, to change. Its key must not change.
    pub fn get_mut(&mut self, key: &[u8]) -> Option<&mut E> {
        self.find(hash(key) as u32, key).map(|at| self.at_mut(at))
    }

    /// Adds an entry whose key is not in the table yet, and tells its position.
    pub fn insert_new(&mut self, hash: u32, entry: E) -> u32 {
        debug_assert!(self.find(hash, entry.key()).is_none());
        if self.len as usize >= self.buckets.len() {
            self.split();
        }
        let bucket = self.bucket(hash);
        let at = self.len;
        self.push(Slot { hash, next: self.buckets[bucket], entry });
        self.buckets[bucket] = at;
        at
    }

    /// Takes out the entry at a position, and tells which entry moved into its place.
    pub fn remove(&mut self, position: u32) -> (E, Option<Moved>) {
        let (hash, next) = {
            let slot = self.slot(position);
            (slot.hash, slot.next)
        };
        self.relink(hash, position, next);
        let last = self.len - 1;
        let moved = (position != last).then_some(Moved { from: last, to: position });
        if moved.is_some() {
            let hash = self.slot(last).hash;
            self.relink(hash, last, position);
        }
        let tail = self.pop();
        let removed = if moved.is_some() { std::mem::replace(self.slot_mut(position), tail) } else { tail };
        if (self.len as usize) < self.buckets.len() / 4 {
            self.merge();
            self.merge();
        }
        (removed.entry, moved)
    }

    /// Takes out the entry with this key.
    pub fn remove_key(&mut self, key: &[u8]) -> Option<E> {
        self.find(hash(key) as u32, key).map(|at| self.remove(at).0)
    }

    /// Removes every entry.
    pub fn clear(&mut self) {
        *self = Dict::default();
    }

    /// All entries, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &E> {
        self.chunks.iter().flatten().map(|slot| &slot.entry)
    }

    /// All entries, to change. Keys must not change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut E> {
        self.chunks.iter_mut().flatten().map(|slot| &mut slot.entry)
    }

    /// Shows one bucket's entries and returns the cursor of the next; 0 when the walk is over. Start with 0.
    ///
    /// The walk goes through the hashes in the order of their bits reversed. A bucket holds all hashes with the same
    /// low bits, so splitting or merging buckets never moves an entry to the other side of the cursor: an entry that is
    /// there from beginning to end is shown exactly once.
    pub fn scan(&self, cursor: u32, mut show: impl FnMut(&E)) -> u32 {
        if self.buckets.is_empty() {
            return 0;
        }
        let bucket = self.bucket(cursor.reverse_bits());
        let mut at = self.buckets[bucket];
        while at != NONE {
            let slot = self.slot(at);
            if slot.hash.reverse_bits() >= cursor {
                show(&slot.entry);
            }
            at = slot.next;
        }
        let low = self.low_buckets();
        let is_split = bucket >= low || bucket < self.buckets.len() - low;
        let bits = low.trailing_zeros() + u32::from(is_split);
        let step = 1u32 << (32 - bits);
        (cursor & !(step - 1)).wrapping_add(step)
    }

    /// Buckets of the current round before any is split: the largest `BUCKETS_MIN << level` not above their number.
    #[inline]
    fn low_buckets(&self) -> usize {
        1 << self.buckets.len().ilog2()
    }

    #[inline]
    fn bucket(&self, hash: u32) -> usize {
        let low = self.low_buckets();
        let wide = hash as usize & (2 * low - 1);
        if wide < self.buckets.len() { wide } else { wide & (low - 1) }
    }

    /// Adds one bucket and moves to it what belongs there.
    fn split(&mut self) {
        if self.buckets.is_empty() {
            self.buckets = vec![NONE; BUCKETS_MIN as usize];
            return;
        }
        let new = self.buckets.len();
        let old = new - self.low_buckets();
        let mut at = std::mem::replace(&mut self.buckets[old], NONE);
        self.buckets.push(NONE);
        while at != NONE {
            let bucket = self.bucket(self.slot(at).hash);
            debug_assert!(bucket == old || bucket == new);
            let first = std::mem::replace(&mut self.buckets[bucket], at);
            at = std::mem::replace(&mut self.slot_mut(at).next, first);
        }
    }

    /// Drops the last bucket and gives its entries back to the one it was split from.
    fn merge(&mut self) {
        if self.buckets.len() <= BUCKETS_MIN as usize {
            return;
        }
        let mut at = self.buckets.pop().expect("there are more buckets than the least");
        let into = self.buckets.len() - self.low_buckets();
        while at != NONE {
            let first = std::mem::replace(&mut self.buckets[into], at);
            at = std::mem::replace(&mut self.slot_mut(at).next, first);
        }
        if self.buckets.len() < self.buckets.capacity() / 4 {
            self.buckets.shrink_to(self.buckets.len() * 2);
        }
    }

    /// Lets whatever points at `from` point at `to`.
    fn relink(&mut self, hash: u32, from: u32, to: u32) {
        let bucket = self.bucket(hash);
        let mut at = self.buckets[bucket];
        if at == from {
            self.buckets[bucket] = to;
            return;
        }
        while self.slot(at).next != from {
            at = self.slot(at).next;
        }
        self.slot_mut(at).next = to;
    }

    #[inline]
    fn slot(&self, position: u32) -> &Slot<E> {
        &self.chunks[position as usize / CHUNK][position as usize % CHUNK]
    }

    #[inline]
    fn slot_mut(&mut self, position: u32) -> &mut Slot<E> {
        &mut self.chunks[position as usize / CHUNK][position as usize % CHUNK]
    }

    fn push(&mut self, slot: Slot<E>) {
        let chunk = self.len as usize / CHUNK;
        if chunk == self.chunks.len() {
            // The first chunk grows with its table, so that small tables stay small.
            self.chunks.push(Vec::with_capacity(if chunk == 0 { 4 } else { CHUNK }));
        }
        self.chunks[chunk].push(slot);
        self.len += 1;
    }

    fn pop(&mut self) -> Slot<E> {
        self.len -= 1;
        let chunk = self.len as usize / CHUNK;
        let slot = self.chunks[chunk].pop().expect("the last position is taken");
        if self.chunks[chunk].is_empty() {
            self.chunks.pop();
        }
        slot
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    impl Entry for Vec<u8> {
        fn key(&self) -> &[u8] {
            self
        }
    }

    fn insert(dict: &mut Dict<Vec<u8>>, n: u32) {
        let key = n.to_le_bytes().to_vec();
        dict.insert_new(hash(&key) as u32, key);
    }

    #[test]
    fn finds_what_was_inserted_and_not_what_was_removed() {
        let mut dict = Dict::default();
        (0..5000).for_each(|n| insert(&mut dict, n));
        (0..5000).step_by(3).for_each(|n: u32| assert!(dict.remove_key(&n.to_le_bytes()).is_some()));
        for n in 0..5000u32 {
            assert_eq!(dict.get(&n.to_le_bytes()).is_some(), n % 3 != 0, "{n}");
        }
        (0..5000u32).for_each(|n| drop(dict.remove_key(&n.to_le_bytes())));
        assert!(dict.is_empty());
    }

    #[test]
    fn scan_shows_each_lasting_entry_once_whatever_changes_meanwhile() {
        let mut dict = Dict::default();
        (0..1000).for_each(|n| insert(&mut dict, n));
        let (mut seen, mut cursor, mut fresh) = (Vec::new(), 0, 100_000);
        loop {
            cursor = dict.scan(cursor, |key| seen.push(key.clone()));
            if cursor == 0 {
                break;
            }
            // Grow to many times the size, then shrink below it.
            if seen.len() < 500 {
                (0..50).for_each(|n| insert(&mut dict, fresh + n));
                fresh += 50;
            } else {
                for n in 100_000..fresh {
                    dict.remove_key(&n.to_le_bytes());
                }
            }
        }
        let lasting: Vec<_> = seen.iter().filter(|key| **key < 1000u32.to_le_bytes().to_vec() || key[2] == 0).collect();
        let distinct: HashSet<_> = lasting.iter().collect();
        for n in 0..1000u32 {
            assert!(distinct.contains(&&n.to_le_bytes().to_vec()), "{n} was not shown");
        }
        assert_eq!(distinct.len(), lasting.len());
    }
}
