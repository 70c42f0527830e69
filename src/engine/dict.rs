//! A hash table that grows one bucket at a time (linear hashing, Litwin 1980), so no insert ever stalls for a rehash,
//! and that can be walked by a cursor which survives any change (see `scan`).
//!
//! Entries stand densely in chunks; buckets hold the position of the first entry of a chain. Removing an entry moves
//! the last one into its place, so memory is given back and a random entry is one random position away.

use std::hash::BuildHasher;
use std::sync::LazyLock;

use foldhash::quality::RandomState;
use smallvec::SmallVec;

use crate::prefetch::prefetch;

/// Entries per chunk: large enough that chunk bookkeeping vanishes, small enough to waste little at the end.
const CHUNK: usize = 128;
/// No entry: the end of a chain.
const NONE: u32 = u32::MAX;
/// Tables start with this many buckets; a power of two.
const BUCKETS_MIN: u32 = 4;

static SEED: LazyLock<RandomState> = LazyLock::new(RandomState::default);

/// The hash of a key, seeded anew in each process so that strangers cannot choose colliding keys.
pub(crate) fn hash(key: &[u8]) -> u64 {
    SEED.hash_one(key)
}

/// What a table stores: anything with a key, and room for the table's own link.
pub trait Entry {
    /// The bytes this entry is found by.
    fn key(&self) -> &[u8];

    /// The table's link.
    fn link(&self) -> Link;

    /// The table's link, to change.
    fn link_mut(&mut self) -> &mut Link;
}

/// An entry's place in its chain: the position of the next one, and 16 bits of the hash that tell most others apart
/// without a look at their keys. Two bytes wide, so that it fits into the gaps of an entry.
#[derive(Debug, Clone, Copy, Default)]
pub struct Link([u16; 3]);

impl Link {
    #[inline]
    fn new(hash: u32, next: u32) -> Link {
        Link([tag(hash), next as u16, (next >> 16) as u16])
    }

    #[inline]
    fn next(self) -> u32 {
        u32::from(self.0[1]) | u32::from(self.0[2]) << 16
    }

    #[inline]
    fn set_next(&mut self, next: u32) {
        self.0[1] = next as u16;
        self.0[2] = (next >> 16) as u16;
    }
}

/// Those bits of a hash that its bucket says least about.
#[inline]
fn tag(hash: u32) -> u16 {
    (hash >> 16) as u16
}

/// A table of entries, each found by its key. Hashes given to it are the low 32 bits of [`hash`].
#[derive(Clone)]
pub struct Dict<E> {
    /// Twice as many as entries, or nearly: most chains then have one entry, and looking a key up costs one look at an entry.
    buckets: Vec<u32>,
    chunks: Vec<Vec<E>>,
    len: u32,
}

/// An entry that `remove` moved to keep the entries dense: whoever keeps positions must follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moved {
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
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes the table itself takes, without what its entries hold on the heap.
    pub(crate) fn table_bytes(&self) -> usize {
        self.buckets.capacity() * 4 + self.chunks.iter().map(|chunk| chunk.capacity() * size_of::<E>()).sum::<usize>()
    }

    /// The position of the entry with this key. Positions stay true until the next `insert_new` or `remove`.
    #[inline]
    pub(crate) fn find(&self, hash: u32, key: &[u8]) -> Option<u32> {
        if self.len == 0 {
            return None;
        }
        let mut at = self.buckets[self.bucket(hash)];
        let tag = tag(hash);
        while at != NONE {
            let entry = self.at(at);
            let link = entry.link();
            if link.0[0] == tag && entry.key() == key {
                return Some(at);
            }
            at = link.next();
        }
        None
    }

    /// Brings near what looking up these keys will look at.
    pub(crate) fn prefetch<'a>(&self, keys: impl Iterator<Item = &'a [u8]>) {
        let hashes: SmallVec<[u32; 16]> = keys.map(|key| hash(key) as u32).collect();
        hashes.iter().for_each(|hash| self.prefetch_bucket(*hash));
        hashes.iter().for_each(|hash| self.prefetch_entry(*hash));
    }

    /// Brings the bucket of a hash near: a step towards [`Self::find`] that waits for nothing.
    #[inline]
    pub(crate) fn prefetch_bucket(&self, hash: u32) {
        if self.len != 0 {
            prefetch(&self.buckets[self.bucket(hash)]);
        }
    }

    /// Brings the first entry in the bucket of a hash near; its bucket should be by now.
    #[inline]
    pub(crate) fn prefetch_entry(&self, hash: u32) {
        if self.len != 0 {
            let at = self.buckets[self.bucket(hash)];
            if at != NONE {
                prefetch(self.at(at));
            }
        }
    }

    /// The position of an entry with this hash that is wanted.
    pub(crate) fn find_where(&self, hash: u32, is_wanted: impl Fn(&E) -> bool) -> Option<u32> {
        if self.len == 0 {
            return None;
        }
        let mut at = self.buckets[self.bucket(hash)];
        while at != NONE {
            let entry = self.at(at);
            if entry.link().0[0] == tag(hash) && self.hash_at(at) == hash && is_wanted(entry) {
                return Some(at);
            }
            at = entry.link().next();
        }
        None
    }

    /// The entry at a position from `find`, or any position below `len`.
    #[inline]
    pub(crate) fn at(&self, position: u32) -> &E {
        &self.chunks[position as usize / CHUNK][position as usize % CHUNK]
    }

    /// The entry at a position, to change. Its key must not change.
    #[inline]
    pub(crate) fn at_mut(&mut self, position: u32) -> &mut E {
        &mut self.chunks[position as usize / CHUNK][position as usize % CHUNK]
    }

    /// The hash an entry was inserted with.
    pub(crate) fn hash_at(&self, position: u32) -> u32 {
        hash(self.at(position).key()) as u32
    }

    /// The entry with this key.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&E> {
        self.find(hash(key) as u32, key).map(|at| self.at(at))
    }

    /// Makes room in a table without entries, so that it takes so many without growing.
    pub(crate) fn reserve(&mut self, entries: usize) {
        debug_assert!(self.is_empty());
        self.buckets = vec![NONE; entries.saturating_mul(2).max(BUCKETS_MIN as usize)];
    }

    /// Adds an entry whose key is not in the table yet, and tells its position.
    pub(crate) fn insert_new(&mut self, hash: u32, mut entry: E) -> u32 {
        debug_assert!(self.find(hash, entry.key()).is_none());
        if self.len as usize * 2 >= self.buckets.len() {
            self.split();
            self.split();
        }
        let bucket = self.bucket(hash);
        let at = self.len;
        *entry.link_mut() = Link::new(hash, self.buckets[bucket]);
        self.push(entry);
        self.buckets[bucket] = at;
        at
    }

    /// Takes out the entry at a position, and tells which entry moved into its place.
    pub(crate) fn remove(&mut self, position: u32) -> (E, Option<Moved>) {
        let next = self.at(position).link().next();
        self.relink(self.hash_at(position), position, next);
        let last = self.len - 1;
        let moved = (position != last).then_some(Moved { from: last, to: position });
        if moved.is_some() {
            self.relink(self.hash_at(last), last, position);
        }
        let tail = self.pop();
        let removed = if moved.is_some() { std::mem::replace(self.at_mut(position), tail) } else { tail };
        if (self.len as usize) < self.buckets.len() / 8 {
            (0..4).for_each(|_| self.merge());
        }
        (removed, moved)
    }

    /// Takes out the entry with this key.
    pub(crate) fn remove_key(&mut self, key: &[u8]) -> Option<E> {
        self.find(hash(key) as u32, key).map(|at| self.remove(at).0)
    }

    /// All entries, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &E> {
        self.chunks.iter().flatten()
    }

    /// All entries, to change. Keys must not change.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut E> {
        self.chunks.iter_mut().flatten()
    }

    /// Shows one bucket's entries and returns the cursor of the next; 0 when the walk is over. Start with 0.
    ///
    /// The walk goes through the hashes in the order of their bits reversed. A bucket holds all hashes with the same
    /// low bits, so splitting or merging buckets never moves an entry to the other side of the cursor: an entry that is
    /// there from beginning to end is shown exactly once.
    pub(crate) fn scan(&self, cursor: u32, mut show: impl FnMut(&E)) -> u32 {
        if self.buckets.is_empty() {
            return 0;
        }
        let bucket = self.bucket(cursor.reverse_bits());
        let mut at = self.buckets[bucket];
        while at != NONE {
            let entry = self.at(at);
            if self.hash_at(at).reverse_bits() >= cursor {
                show(entry);
            }
            at = entry.link().next();
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
            let bucket = self.bucket(self.hash_at(at));
            debug_assert!(bucket == old || bucket == new);
            let first = std::mem::replace(&mut self.buckets[bucket], at);
            let next = self.at(at).link().next();
            self.at_mut(at).link_mut().set_next(first);
            at = next;
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
            let next = self.at(at).link().next();
            self.at_mut(at).link_mut().set_next(first);
            at = next;
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
        while self.at(at).link().next() != from {
            at = self.at(at).link().next();
        }
        self.at_mut(at).link_mut().set_next(to);
    }

    fn push(&mut self, entry: E) {
        let chunk = self.len as usize / CHUNK;
        if chunk == self.chunks.len() {
            // The first chunk grows with its table, so that small tables stay small.
            self.chunks.push(Vec::with_capacity(if chunk == 0 { 4 } else { CHUNK }));
        }
        self.chunks[chunk].push(entry);
        self.len += 1;
    }

    fn pop(&mut self) -> E {
        self.len -= 1;
        let chunk = self.len as usize / CHUNK;
        let entry = self.chunks[chunk].pop().expect("the last position is taken");
        if self.chunks[chunk].is_empty() {
            self.chunks.pop();
        }
        entry
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    struct Key(Vec<u8>, Link);

    impl Entry for Key {
        fn key(&self) -> &[u8] {
            &self.0
        }

        fn link(&self) -> Link {
            self.1
        }

        fn link_mut(&mut self) -> &mut Link {
            &mut self.1
        }
    }

    fn insert(dict: &mut Dict<Key>, n: u32) {
        let key = n.to_le_bytes().to_vec();
        dict.insert_new(hash(&key) as u32, Key(key, Link::default()));
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
    fn a_table_with_room_finds_its_entries_within_it_and_beyond() {
        for room in [0, 1, 100, 5000] {
            let mut dict = Dict::default();
            dict.reserve(room);
            let bytes = dict.buckets.capacity();
            (0..5000).for_each(|n| insert(&mut dict, n));
            assert!((0..5000u32).all(|n| dict.get(&n.to_le_bytes()).is_some()), "{room}");
            assert_eq!(dict.buckets.capacity() == bytes, room == 5000, "{room}");
            (0..5000u32).for_each(|n| drop(dict.remove_key(&n.to_le_bytes())));
            assert!(dict.is_empty());
        }
    }

    #[test]
    fn scan_shows_each_lasting_entry_once_whatever_changes_meanwhile() {
        let mut dict = Dict::default();
        (0..1000).for_each(|n| insert(&mut dict, n));
        let (mut seen, mut cursor, mut fresh) = (Vec::new(), 0, 100_000);
        loop {
            cursor = dict.scan(cursor, |key| seen.push(key.0.clone()));
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
                fresh = 100_000;
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
