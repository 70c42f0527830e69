//! Pairs of a key and a value in one allocation and sixteen bytes beside it: what a small hash is made of.
//!
//! How many pairs there are and where they end stand before them. Then keys and values take turns, each as an element of
//! [`packed`](crate::engine::types::packed) without the length behind it: pairs are only walked forwards.

use std::mem::take;

use crate::engine::types::packed::{Body, Item, body_size, item_at, roomy};

/// The number of pairs, and where they end; four bytes each.
const HEAD_BYTES: usize = 8;
/// Bytes all pairs together may take, so that where they end is told in four bytes.
const BYTES_MAX: usize = 1 << 30;

/// Different keys with a value each, in the order they were first set.
#[derive(Default, Clone)]
pub(crate) struct Pairs(
    /// Empty, or the head, the pairs and room for more.
    Box<[u8]>,
);

impl Pairs {
    /// How many pairs there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.head(0)
    }

    /// Bytes the pairs take.
    pub(crate) fn byte_len(&self) -> usize {
        self.end() - HEAD_BYTES
    }

    /// Bytes on the heap.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.0.len()
    }

    /// The value of a key.
    #[inline]
    pub(crate) fn get(&self, key: &[u8]) -> Option<Item<'_>> {
        let (_, value) = self.find(&Body::of(key))?;
        Some(item_at(&self.0[value..]))
    }

    /// Whether a pair can be set without there being too many bytes; only bounds set absurdly high let it come to that.
    #[inline]
    pub(crate) fn has_room_for(&self, key: &[u8], value: &[u8]) -> bool {
        self.byte_len() + key.len() + value.len() < BYTES_MAX
    }

    /// Sets the value of a key; tells whether the key is new. There must be room for it: see [`Self::has_room_for`].
    #[inline]
    pub(crate) fn set(&mut self, key: &[u8], value: &[u8]) -> bool {
        let (key, value) = (Body::of(key), Body::of(value));
        match self.find(&key) {
            Some((_, at)) => {
                self.resize(at, body_size(&self.0[at..]), value.body_len());
                self.write(at, &value);
                false
            }
            None => {
                let at = self.end();
                self.resize(at, 0, key.body_len() + value.body_len());
                self.write(at, &key);
                self.write(at + key.body_len(), &value);
                self.set_head(0, self.len() + 1);
                true
            }
        }
    }

    /// Removes a key; tells whether it was there.
    pub(crate) fn remove(&mut self, key: &[u8]) -> bool {
        let Some((at, value)) = self.find(&Body::of(key)) else { return false };
        let end = value + body_size(&self.0[value..]);
        self.resize(at, end - at, 0);
        self.set_head(0, self.len() - 1);
        true
    }

    /// All pairs in order.
    pub(crate) fn iter(&self) -> Iter<'_> {
        Iter(self.0.get(HEAD_BYTES..self.end()).unwrap_or_default())
    }

    /// Where a key begins, and its value.
    #[inline]
    fn find(&self, key: &Body<'_>) -> Option<(usize, usize)> {
        let pairs = self.0.get(..self.end())?;
        let mut at = HEAD_BYTES;
        while at < pairs.len() {
            let value = at + body_size(&pairs[at..]);
            if key.is_at(&pairs[at..]) {
                return Some((at, value));
            }
            at = value + body_size(&pairs[value..]);
        }
        None
    }

    /// Puts room for `new` bytes in place of `old` ones.
    fn resize(&mut self, at: usize, old: usize, new: usize) {
        let end = self.end();
        let new_end = end - old + new;
        if new_end > self.0.len() {
            self.reallocate(new_end);
        }
        if at + old < end {
            self.0.copy_within(at + old..end, at + new);
        }
        self.set_head(1, new_end);
        // Memory is given back once more than half of it is unused.
        if self.0.len() > 64 + 2 * new_end {
            self.reallocate(new_end);
        }
    }

    #[cold]
    fn reallocate(&mut self, bytes: usize) {
        let (mut all, room) = (take(&mut self.0).into_vec(), roomy(bytes));
        all.reserve_exact(room.saturating_sub(all.len()));
        all.resize(room, 0);
        self.0 = all.into_boxed_slice();
    }

    #[inline]
    fn write(&mut self, at: usize, body: &Body<'_>) {
        let (head, tail) = (body.head(), body.tail());
        self.0[at..at + head.len()].copy_from_slice(head);
        self.0[at + head.len()..at + body.body_len()].copy_from_slice(tail);
    }

    #[inline]
    fn end(&self) -> usize {
        self.head(1).max(HEAD_BYTES)
    }

    #[inline]
    fn head(&self, number: usize) -> usize {
        let (numbers, _) = self.0.as_chunks::<4>();
        numbers.get(number).map_or(0, |bytes| u32::from_le_bytes(*bytes) as usize)
    }

    #[inline]
    fn set_head(&mut self, number: usize, to: usize) {
        debug_assert!(to <= u32::MAX as usize);
        self.0[4 * number..4 * number + 4].copy_from_slice(&(to as u32).to_le_bytes());
    }
}

/// Pairs in order.
#[derive(Clone)]
pub(crate) struct Iter<'a>(&'a [u8]);

impl<'a> Iterator for Iter<'a> {
    type Item = (Item<'a>, Item<'a>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let (key, rest) = self.0.split_at(body_size(self.0));
        let (value, rest) = rest.split_at(body_size(rest));
        self.0 = rest;
        Some((item_at(key), item_at(value)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            (0u8..30).prop_map(|n| format!("key {n}").into_bytes()),
            (-40i64..40).prop_map(|n| n.to_string().into_bytes()),
            any::<i64>().prop_map(|n| n.to_string().into_bytes()),
            (0usize..5000).prop_map(|len| vec![b'y'; len]),
        ]
    }

    proptest! {
        #[test]
        fn does_what_a_list_of_pairs_does(steps in prop::collection::vec((prop::bool::weighted(0.7), bytes(), bytes()), 0..150)) {
            let (mut pairs, mut model) = (Pairs::default(), Vec::<(Vec<u8>, Vec<u8>)>::new());
            for (is_set, key, value) in steps {
                let at = model.iter().position(|(known, _)| *known == key);
                prop_assert_eq!(pairs.get(&key).map(|value| value.to_vec()), at.map(|at| model[at].1.clone()));
                if is_set {
                    prop_assert_eq!(pairs.set(&key, &value), at.is_none());
                    match at {
                        Some(at) => model[at].1 = value,
                        None => model.push((key, value)),
                    }
                } else {
                    prop_assert_eq!(pairs.remove(&key), at.is_some());
                    at.into_iter().for_each(|at| drop(model.remove(at)));
                }
                prop_assert_eq!(pairs.len(), model.len());
                prop_assert!(pairs.memory_bytes() <= 96 + 2 * (HEAD_BYTES + pairs.byte_len()));
            }
            let all: Vec<_> = pairs.iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
            prop_assert_eq!(all, model);
        }
    }

    #[test]
    fn a_short_pair_takes_a_byte_more_for_each_part() {
        let mut pairs = Pairs::default();
        pairs.set(b"name", b"value");
        assert_eq!((size_of::<Pairs>(), pairs.byte_len()), (16, 5 + 6));
        pairs.set(b"age", b"42");
        assert_eq!(pairs.byte_len(), 11 + 4 + 1);
    }
}
