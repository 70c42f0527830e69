//! A sequence of byte strings in one allocation, walked from both ends: what small collections and list nodes are made of.

mod element;

use std::cmp::Ordering;
use std::fmt;

pub(crate) use crate::engine::types::string::IntText;
pub(crate) use element::Item;

use element::{BACK_SHORT_MAX, size_at, size_before, skip};
pub(super) use element::{Body, body_size, item_at};

/// A sequence of small byte strings in one allocation.
#[derive(Default)]
pub struct Packed {
    /// Room that may be used for pushes to the front, then the elements; room for pushes to the back is spare capacity.
    buf: Vec<u8>,
    /// Where the first element begins in `buf`.
    start: u32,
    len: u32,
}

/// A capacity that leaves no room unused which the allocator would hand out anyway: its size classes are multiples of
/// 16, later a quarter of the power of two below them.
#[inline]
pub(super) fn roomy(bytes: usize) -> usize {
    let step = if bytes <= 128 { 16 } else { bytes.next_power_of_two() / 8 };
    bytes.next_multiple_of(step)
}

impl Packed {
    /// An empty sequence with room for so many bytes of elements, to be filled from the front to the back.
    pub fn with_room_behind(bytes: usize) -> Packed {
        Packed { buf: Vec::with_capacity(bytes), start: 0, len: 0 }
    }

    /// The same, to be filled from the back to the front. `bytes` is below 4 GiB.
    pub fn with_room_before(bytes: u32) -> Packed {
        Packed { buf: vec![0; bytes as usize], start: bytes, len: 0 }
    }

    /// How many elements it holds.
    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether it holds none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes its elements take.
    #[inline]
    pub fn byte_len(&self) -> usize {
        self.buf.len() - self.start as usize
    }

    /// Bytes it holds on the heap.
    pub fn memory_bytes(&self) -> usize {
        self.buf.capacity()
    }

    /// Adds an element behind the last.
    #[inline]
    pub fn push_back(&mut self, bytes: &[u8]) {
        let body = Body::of(bytes);
        let offset = self.byte_len();
        self.open(offset, &body);
        self.len += 1;
    }

    /// Adds an element before the first.
    #[inline]
    pub fn push_front(&mut self, bytes: &[u8]) {
        self.open(0, &Body::of(bytes));
        self.len += 1;
    }

    /// Adds an element so that it has this index, which is at most `len`.
    pub fn insert(&mut self, index: usize, bytes: &[u8]) {
        let offset = self.offset(index);
        self.open(offset, &Body::of(bytes));
        self.len += 1;
    }

    /// Adds an element behind the last, unless the elements would then take more than `bytes_max`. Tells whether it did.
    #[inline]
    pub fn push_back_within(&mut self, bytes: &[u8], bytes_max: usize) -> bool {
        self.open_within(self.byte_len(), bytes, bytes_max)
    }

    /// Adds an element before the first, unless the elements would then take more than `bytes_max`. Tells whether it did.
    #[inline]
    pub fn push_front_within(&mut self, bytes: &[u8], bytes_max: usize) -> bool {
        self.open_within(0, bytes, bytes_max)
    }

    /// The same as [`Self::insert`], unless the elements would then take more than `bytes_max`. Tells whether it did.
    pub fn insert_within(&mut self, index: usize, bytes: &[u8], bytes_max: usize) -> bool {
        self.open_within(self.offset(index), bytes, bytes_max)
    }

    #[inline]
    fn open_within(&mut self, offset: usize, bytes: &[u8], bytes_max: usize) -> bool {
        let body = Body::of(bytes);
        let fits = self.byte_len() + body.total() <= bytes_max;
        if fits {
            self.open(offset, &body);
            self.len += 1;
        }
        fits
    }

    /// Adds two elements, the first of which gets this index.
    pub fn insert_pair(&mut self, index: usize, first: &[u8], second: &[u8]) {
        let offset = self.offset(index);
        let (first, second) = (Body::of(first), Body::of(second));
        self.widen(offset, first.total() + second.total());
        self.write(offset, &first);
        self.write(offset + first.total(), &second);
        self.len += 2;
    }

    /// Puts other bytes in place of an element.
    pub fn replace(&mut self, index: usize, bytes: &[u8]) {
        assert!(index < self.len(), "an element to replace is there");
        let (offset, body) = (self.offset(index), Body::of(bytes));
        let (old, new) = (size_at(&self.elements()[offset..]), body.total());
        match new.cmp(&old) {
            Ordering::Greater => self.widen(offset, new - old),
            Ordering::Less => self.narrow(offset, old - new),
            Ordering::Equal => {}
        }
        self.write(offset, &body);
        self.give_back();
    }

    /// Removes an element.
    #[inline]
    pub fn remove(&mut self, index: usize) {
        self.remove_range(index, 1);
    }

    /// Removes up to `count` elements from an index on.
    pub fn remove_range(&mut self, index: usize, count: usize) {
        let count = count.min(self.len().saturating_sub(index));
        if count == 0 {
            return;
        }
        let from = self.offset(index);
        let to = if index + count == self.len() { self.byte_len() } else { self.walk(from, count) };
        self.narrow(from, to - from);
        self.len -= count as u32;
        self.give_back();
    }

    /// Keeps the elements whose index passes; `keep` is asked in order.
    pub fn retain(&mut self, mut keep: impl FnMut(usize) -> bool) {
        let start = self.start as usize;
        let (mut from, mut to, mut kept) = (start, start, 0);
        for index in 0..self.len() {
            let size = size_at(&self.buf[from..]);
            if keep(index) {
                self.buf.copy_within(from..from + size, to);
                (to, kept) = (to + size, kept + 1);
            }
            from += size;
        }
        self.buf.truncate(to);
        self.len = kept;
        self.give_back();
    }

    /// The element at an index.
    #[inline]
    pub fn get(&self, index: usize) -> Option<Item<'_>> {
        (index < self.len()).then(|| item_at(&self.elements()[self.offset(index)..]))
    }

    /// The first element.
    #[inline]
    pub fn first(&self) -> Option<Item<'_>> {
        (!self.is_empty()).then(|| item_at(self.elements()))
    }

    /// The last element.
    #[inline]
    pub fn last(&self) -> Option<Item<'_>> {
        let elements = self.elements();
        (!self.is_empty()).then(|| item_at(&elements[elements.len() - size_before(elements)..]))
    }

    /// All elements in order, from either end.
    pub fn iter(&self) -> Iter<'_> {
        Iter { bytes: self.elements(), left: self.len() }
    }

    /// Up to `count` elements from an index on, from either end.
    pub fn range(&self, index: usize, count: usize) -> Iter<'_> {
        let index = index.min(self.len());
        let count = count.min(self.len() - index);
        let from = self.offset(index);
        let to = self.offset(index + count);
        Iter { bytes: &self.elements()[from..to], left: count }
    }

    /// The index of the first element that has these bytes, looking at every `step`th from the first on.
    pub fn find(&self, bytes: &[u8], step: usize) -> Option<usize> {
        self.search(bytes, step).map(|(index, _)| index)
    }

    /// Looks for a key where keys and values take turns: its index, and the value behind it.
    pub fn find_pair(&self, key: &[u8]) -> Option<(usize, Item<'_>)> {
        let (index, offset) = self.search(key, 2)?;
        let value = &self.elements()[offset..];
        Some((index, item_at(&value[size_at(value)..])))
    }

    fn search(&self, bytes: &[u8], step: usize) -> Option<(usize, usize)> {
        let (body, elements) = (Body::of(bytes), self.elements());
        let (mut index, mut offset) = (0, 0);
        while offset < elements.len() {
            if body.is_at(&elements[offset..]) {
                return Some((index, offset));
            }
            index += step;
            for _ in 0..step {
                if offset < elements.len() {
                    offset = skip(elements, offset);
                }
            }
        }
        None
    }

    /// Takes all elements from an index on.
    pub fn split_off(&mut self, index: usize) -> Packed {
        let index = index.min(self.len());
        let offset = self.offset(index);
        let mut buf = Vec::with_capacity(roomy(self.byte_len() - offset));
        buf.extend_from_slice(&self.elements()[offset..]);
        let tail = Packed { buf, start: 0, len: self.len - index as u32 };
        self.buf.truncate(self.start as usize + offset);
        self.len = index as u32;
        self.give_back();
        tail
    }

    /// Moves all elements of another sequence behind those of this one.
    pub fn append(&mut self, other: &mut Packed) {
        let at = self.byte_len();
        self.widen(at, other.byte_len());
        let start = self.start as usize;
        self.buf[start + at..].copy_from_slice(other.elements());
        self.len += other.len;
        *other = Packed::default();
    }

    #[inline]
    fn elements(&self) -> &[u8] {
        &self.buf[self.start as usize..]
    }

    /// Where the element with this index begins, walking from the nearer end.
    #[inline]
    fn offset(&self, index: usize) -> usize {
        let len = self.len();
        debug_assert!(index <= len, "an index is at most the length");
        if index <= len / 2 {
            return self.walk(0, index);
        }
        let elements = self.elements();
        let mut end = elements.len();
        for _ in index..len {
            end -= size_before(&elements[..end]);
        }
        end
    }

    /// Where the element `steps` behind the one at an offset begins.
    #[inline]
    fn walk(&self, mut offset: usize, steps: usize) -> usize {
        let elements = self.elements();
        for _ in 0..steps {
            offset = skip(elements, offset);
        }
        offset
    }

    #[inline]
    fn open(&mut self, offset: usize, body: &Body<'_>) {
        self.widen(offset, body.total());
        self.write(offset, body);
    }

    #[inline]
    fn write(&mut self, offset: usize, body: &Body<'_>) {
        let from = self.start as usize + offset;
        body.write(&mut self.buf[from..from + body.total()]);
    }

    /// Makes room for `count` bytes at an offset, moving what is on the shorter side where there is room for that.
    #[inline]
    fn widen(&mut self, offset: usize, count: usize) {
        let (start, used) = (self.start as usize, self.byte_len());
        let is_near_front = offset < used.div_ceil(2);
        if is_near_front && start >= count {
            self.buf.copy_within(start..start + offset, start - count);
            self.start -= count as u32;
        } else if !is_near_front && self.buf.capacity() - self.buf.len() >= count {
            self.widen_back(offset, count);
        } else {
            self.grow(offset, count, is_near_front);
        }
    }

    #[inline]
    fn widen_back(&mut self, offset: usize, count: usize) {
        let (from, end) = (self.start as usize + offset, self.buf.len());
        self.buf.resize(end + count, 0);
        if from < end {
            self.buf.copy_within(from..end, from + count);
        }
    }

    /// Makes room where none is left on the side at hand: by moving the elements when the other side has much, else by
    /// a larger allocation.
    #[cold]
    fn grow(&mut self, offset: usize, count: usize, is_near_front: bool) {
        let (start, used) = (self.start as usize, self.byte_len());
        let spare = self.buf.capacity() - used;
        // At least a quarter gained for each move keeps the cost of a push constant on average.
        let is_worth_moving = spare >= count.max(used / 4);
        if !is_near_front {
            if start > 0 {
                self.buf.copy_within(start.., 0);
                self.buf.truncate(used);
                self.start = 0;
            }
            if !is_worth_moving {
                self.buf.reserve_exact(roomy(used + count) - used);
            }
            return self.widen_back(offset, count);
        }
        let capacity = if is_worth_moving { self.buf.capacity() } else { roomy(used + count) };
        let front = (capacity - used - count).min(u32::MAX as usize);
        let mut buf = Vec::with_capacity(capacity);
        buf.resize(front, 0);
        buf.extend_from_slice(&self.elements()[..offset]);
        buf.resize(front + offset + count, 0);
        buf.extend_from_slice(&self.elements()[offset..]);
        (self.buf, self.start) = (buf, front as u32);
    }

    /// Takes `count` bytes out at an offset, moving what is on the shorter side.
    #[inline]
    fn narrow(&mut self, offset: usize, count: usize) {
        let (start, used) = (self.start as usize, self.byte_len());
        if offset < (used - count).div_ceil(2) && start + count <= u32::MAX as usize {
            self.buf.copy_within(start..start + offset, start + count);
            self.start += count as u32;
        } else {
            self.buf.copy_within(start + offset + count.., start + offset);
            self.buf.truncate(start + used - count);
        }
    }

    /// Gives memory back once more than half of it is unused.
    #[inline]
    fn give_back(&mut self) {
        if self.buf.capacity() > 64 + 2 * self.byte_len() {
            self.shrink();
        }
    }

    /// Gives memory back if more than an eighth is unused; for a sequence that will not grow soon.
    pub fn fit(&mut self) {
        if self.buf.capacity() - self.byte_len() > self.buf.capacity() / 8 {
            self.shrink();
        }
    }

    #[cold]
    fn shrink(&mut self) {
        let mut buf = Vec::with_capacity(roomy(self.byte_len()));
        buf.extend_from_slice(self.elements());
        (self.buf, self.start) = (buf, 0);
    }
}

impl Clone for Packed {
    fn clone(&self) -> Self {
        let mut buf = Vec::with_capacity(roomy(self.byte_len()));
        buf.extend_from_slice(self.elements());
        Packed { buf, start: 0, len: self.len }
    }
}

impl PartialEq for Packed {
    fn eq(&self, other: &Self) -> bool {
        // An element has only one form.
        self.elements() == other.elements()
    }
}

impl Eq for Packed {}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<'a> IntoIterator for &'a Packed {
    type Item = Item<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Elements in order, from either end.
#[derive(Clone)]
pub struct Iter<'a> {
    bytes: &'a [u8],
    left: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Item<'a>;

    #[inline]
    fn next(&mut self) -> Option<Item<'a>> {
        let (&first, behind) = self.bytes.split_first()?;
        self.left -= 1;
        // Most elements are short strings.
        if first < BACK_SHORT_MAX as u8 {
            let (bytes, rest) = behind.split_at(usize::from(first));
            self.bytes = &rest[1..];
            return Some(Item::Bytes(bytes));
        }
        let item = item_at(self.bytes);
        self.bytes = &self.bytes[size_at(self.bytes)..];
        Some(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl DoubleEndedIterator for Iter<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        if self.bytes.is_empty() {
            return None;
        }
        let (rest, element) = self.bytes.split_at(self.bytes.len() - size_before(self.bytes));
        self.bytes = rest;
        self.left -= 1;
        Some(item_at(element))
    }
}

impl ExactSizeIterator for Iter<'_> {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packed(elements: &[&[u8]]) -> Packed {
        let mut packed = Packed::default();
        elements.iter().for_each(|bytes| packed.push_back(bytes));
        packed
    }

    fn vecs(packed: &Packed) -> Vec<Vec<u8>> {
        packed.iter().map(|item| item.to_vec()).collect()
    }

    #[test]
    fn elements_cost_what_is_said_where_they_are_written() {
        for (bytes, cost) in [
            (&b""[..], 2),
            (b"0", 1),
            (b"63", 1),
            (b"64", 2),
            (b"-128", 2),
            (b"895", 2),
            (b"896", 3),
            (b"-32768", 3),
            (b"32768", 5),
            (b"8388607", 5),
            (b"8388608", 6),
            (b"9223372036854775807", 10),
            (b"007", 5),
            (&[b'x'; 126], 128),
            (&[b'x'; 127], 130),
            (&[b'x'; 128], 132),
            (&[b'x'; 1919], 1923),
        ] {
            let packed = packed(&[bytes]);
            assert_eq!(packed.byte_len(), cost, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn every_length_and_number_comes_back_from_both_ends() {
        let lengths = (0..300).chain(1900..1940).chain(3940..3990).chain([65_535, 65_536, 100_000]);
        let mut all: Vec<Vec<u8>> = lengths.map(|len| vec![b'a'; len]).collect();
        let near = |power: u32| [-1, 0, 1].into_iter().flat_map(move |by| [(1i128 << power) + by, by - (1i128 << power)]);
        all.extend((0..=63).flat_map(near).filter_map(|n| i64::try_from(n).ok()).map(|n| n.to_string().into_bytes()));
        all.extend((-2000..2000).map(|n: i64| n.to_string().into_bytes()));
        let refs: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
        let packed = packed(&refs);
        assert_eq!(vecs(&packed), all);
        let mut back: Vec<Vec<u8>> = packed.iter().rev().map(|item| item.to_vec()).collect();
        back.reverse();
        assert_eq!(back, all);
        for bytes in &all {
            let item = Item::of(bytes);
            assert_eq!(item.len(), bytes.len());
            assert!(item == **bytes);
            assert_eq!(packed.get(packed.find(bytes, 1).unwrap()), Some(item));
        }
    }

    #[test]
    fn finds_only_on_the_steps() {
        let packed = packed(&[b"a", b"b", b"b", b"12", b"12", b"c"]);
        assert_eq!(packed.find(b"b", 1), Some(1));
        assert_eq!(packed.find(b"b", 2), Some(2));
        assert_eq!(packed.find(b"012", 1), None);
        assert_eq!(packed.find(b"c", 2), None);
        assert_eq!(packed.find_pair(b"12"), Some((4, Item::Bytes(b"c"))));
    }

    #[test]
    fn a_queue_neither_grows_nor_copies_much() {
        let mut packed = Packed::default();
        for n in 0..100_000u32 {
            packed.push_back(format!("element {n}").as_bytes());
            if n >= 100 {
                assert!(packed.first().unwrap() == *format!("element {}", n - 100).as_bytes());
                packed.remove(0);
            }
        }
        assert!(packed.memory_bytes() < 4096, "{}", packed.memory_bytes());
    }

    #[derive(Debug, Clone)]
    enum Step {
        PushBack(Vec<u8>),
        PushFront(Vec<u8>),
        Insert(usize, Vec<u8>),
        Replace(usize, Vec<u8>),
        Remove(usize, usize),
        SplitAndAppend(usize),
        Swap(usize),
        Retain(u64),
    }

    fn element() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            any::<i64>().prop_map(|n| n.to_string().into_bytes()),
            (-1100i64..1100).prop_map(|n| n.to_string().into_bytes()),
            prop::collection::vec(any::<u8>(), 0..20),
            (100usize..5000).prop_map(|len| vec![b'y'; len]),
        ]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => element().prop_map(Step::PushBack),
            3 => element().prop_map(Step::PushFront),
            3 => (any::<usize>(), element()).prop_map(|(at, bytes)| Step::Insert(at, bytes)),
            2 => (any::<usize>(), element()).prop_map(|(at, bytes)| Step::Replace(at, bytes)),
            2 => (any::<usize>(), 0usize..4).prop_map(|(at, count)| Step::Remove(at, count)),
            1 => any::<usize>().prop_map(Step::SplitAndAppend),
            1 => any::<usize>().prop_map(Step::Swap),
            1 => any::<u64>().prop_map(Step::Retain),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(80))]

        #[test]
        fn does_what_a_vec_does(steps in prop::collection::vec(step(), 0..80)) {
            let (mut packed, mut model) = (Packed::default(), Vec::<Vec<u8>>::new());
            for step in steps {
                let len = model.len();
                match step {
                    Step::PushBack(bytes) => { packed.push_back(&bytes); model.push(bytes) }
                    Step::PushFront(bytes) => { packed.push_front(&bytes); model.insert(0, bytes) }
                    Step::Insert(at, bytes) => { packed.insert(at % (len + 1), &bytes); model.insert(at % (len + 1), bytes) }
                    Step::Replace(at, bytes) if len > 0 => { packed.replace(at % len, &bytes); model[at % len] = bytes }
                    Step::Remove(at, count) if len > 0 => {
                        packed.remove_range(at % len, count);
                        model.drain(at % len..(at % len + count).min(len));
                    }
                    Step::SplitAndAppend(at) => {
                        let mut tail = packed.split_off(at % (len + 1));
                        prop_assert_eq!(tail.len(), len - at % (len + 1));
                        packed.append(&mut tail);
                        prop_assert!(tail.is_empty());
                    }
                    Step::Swap(at) => {
                        let tail = packed.split_off(at % (len + 1));
                        let mut head = std::mem::replace(&mut packed, tail);
                        packed.append(&mut head);
                        model.rotate_left(at % (len + 1));
                    }
                    Step::Retain(mask) => {
                        packed.retain(|index| mask >> (index % 64) & 1 == 0);
                        let mut index = 0..;
                        model.retain(|_| index.next().is_some_and(|index: usize| mask >> (index % 64) & 1 == 0));
                    }
                    Step::Replace(..) | Step::Remove(..) => {}
                }
                prop_assert_eq!(packed.len(), model.len());
                prop_assert_eq!(vecs(&packed), model.clone());
                prop_assert_eq!(packed.iter().rev().count(), model.len());
                for (index, bytes) in model.iter().enumerate() {
                    prop_assert!(packed.get(index).unwrap() == **bytes);
                }
                prop_assert!(packed.memory_bytes() <= 2 * packed.byte_len() + 64);
                let (from, count) = (model.len() / 3, model.len() / 2);
                let range: Vec<_> = packed.range(from, count).map(|item| item.to_vec()).collect();
                prop_assert_eq!(&range[..], &model[from..(from + count).min(model.len())]);
            }
        }
    }
}
