//! A sequence of byte strings in one allocation, walked from both ends: what small collections and list nodes are made of.
//!
//! An element is its body, then the body's length for walking backwards. Numbers in their canonical text are stored as
//! numbers; the smallest say at both ends how long they are and need no length. First byte of an element:
//!
//! ```text
//! 0xxxxxxx                 a string of x bytes, which follow
//! 11xxxxxx                 the number x; nothing else
//! 101xxxxx 101yyyyy        the number xy - 128
//! 1001xxxx zzzzzzzz 1001yyyy   the number xzy - 32768
//! 10000xxx                 a number in x+1 bytes, which follow, little-endian
//! 10001xxx yyyyyyyy        a string of 128 + xy bytes, x below 7
//! 10001111 length in 4     a longer string
//! ```
//!
//! A body's length, read from its last byte: `0xxxxxxx` is x; `yyyyyyyy 1000xxxx` is 128 + xy, x below 15; `1000 1111`
//! has the length in the 4 bytes before it. A string of up to 126 bytes costs 2 bytes more than itself.

use std::cmp::Ordering;
use std::fmt;

pub use crate::engine::types::string::IntText;
use crate::engine::types::string::canonical_int;

const STRING_SHORT_MAX: usize = 127;
const STRING_MIDDLE_MIN: usize = 128;
const STRING_MIDDLE_MAX: usize = STRING_MIDDLE_MIN + 7 * 256 - 1;
const STRING_LONG: u8 = 0b1000_1111;

const BACK_SHORT_MAX: usize = 127;
const BACK_MIDDLE_MIN: usize = 128;
const BACK_MIDDLE_MAX: usize = BACK_MIDDLE_MIN + 15 * 256 - 1;

const TINY: std::ops::RangeInclusive<i64> = 0..=63;
const TWO_MIN: i64 = -128;
const TWO_MAX: i64 = TWO_MIN + 1023;
const THREE_MIN: i64 = -32_768;
const THREE_MAX: i64 = 32_767;

/// The longest head: a number of 8 bytes and the byte that says so.
const HEAD_BYTES_MAX: usize = 9;

/// A sequence of small byte strings in one allocation.
#[derive(Default)]
pub struct Packed {
    /// Room that may be used for pushes to the front, then the elements; room for pushes to the back is spare capacity.
    buf: Vec<u8>,
    /// Where the first element begins in `buf`.
    start: u32,
    len: u32,
}

/// An element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item<'a> {
    /// A number, whose bytes are its canonical text.
    Int(i64),
    /// Any other bytes.
    Bytes(&'a [u8]),
}

impl<'a> Item<'a> {
    /// What these bytes are as an element.
    #[inline]
    pub fn of(bytes: &'a [u8]) -> Item<'a> {
        canonical_int(bytes).map_or(Item::Bytes(bytes), Item::Int)
    }

    /// The bytes; `text` gives a number's digits a place to stand.
    #[inline]
    pub fn bytes<'b>(&'b self, text: &'b mut IntText) -> &'b [u8] {
        match self {
            Item::Int(number) => text.format(*number).as_bytes(),
            Item::Bytes(bytes) => bytes,
        }
    }

    /// The bytes, owned.
    pub fn to_vec(&self) -> Vec<u8> {
        self.bytes(&mut IntText::new()).to_vec()
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        match self {
            Item::Int(number) => digits(*number),
            Item::Bytes(bytes) => bytes.len(),
        }
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        matches!(self, Item::Bytes([]))
    }
}

impl PartialEq<[u8]> for Item<'_> {
    fn eq(&self, other: &[u8]) -> bool {
        match self {
            Item::Int(number) => canonical_int(other) == Some(*number),
            Item::Bytes(bytes) => *bytes == other,
        }
    }
}

/// How many bytes the text of a number has.
fn digits(number: i64) -> usize {
    usize::from(number < 0) + number.unsigned_abs().checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// An element about to be written or looked for: its head, and for strings the bytes after it.
pub(super) struct Body<'a> {
    head: [u8; HEAD_BYTES_MAX],
    head_len: u8,
    tail: &'a [u8],
}

impl<'a> Body<'a> {
    #[inline]
    pub(super) fn of(bytes: &'a [u8]) -> Body<'a> {
        match canonical_int(bytes) {
            Some(number) => Body::number(number),
            None => Body::string(bytes),
        }
    }

    #[inline]
    fn string(bytes: &'a [u8]) -> Body<'a> {
        let mut head = [0; HEAD_BYTES_MAX];
        let head_len = match bytes.len() {
            len @ ..=STRING_SHORT_MAX => {
                head[0] = len as u8;
                1
            }
            len @ STRING_MIDDLE_MIN..=STRING_MIDDLE_MAX => {
                let over = len - STRING_MIDDLE_MIN;
                head[..2].copy_from_slice(&[0b1000_1000 | (over >> 8) as u8, over as u8]);
                2
            }
            len => {
                let len = u32::try_from(len).expect("a request is shorter than 4 GiB");
                head[0] = STRING_LONG;
                head[1..5].copy_from_slice(&len.to_le_bytes());
                5
            }
        };
        Body { head, head_len, tail: bytes }
    }

    fn number(number: i64) -> Body<'static> {
        let mut head = [0; HEAD_BYTES_MAX];
        let head_len = if TINY.contains(&number) {
            head[0] = 0b1100_0000 | number as u8;
            1
        } else if (TWO_MIN..=TWO_MAX).contains(&number) {
            let number = (number - TWO_MIN) as u16;
            head[..2].copy_from_slice(&[0b1010_0000 | (number >> 5) as u8, 0b1010_0000 | (number & 0x1f) as u8]);
            2
        } else if (THREE_MIN..=THREE_MAX).contains(&number) {
            let number = (number - THREE_MIN) as u16;
            let (high, middle, low) = ((number >> 12) as u8, (number >> 4) as u8, (number & 0xf) as u8);
            head[..3].copy_from_slice(&[0b1001_0000 | high, middle, 0b1001_0000 | low]);
            3
        } else {
            // One bit more than the magnitude needs, for the sign.
            let bits = 65 - if number < 0 { (!number).leading_zeros() } else { number.leading_zeros() };
            let bytes = bits.div_ceil(8) as usize;
            head[0] = 0b1000_0000 | (bytes - 1) as u8;
            head[1..].copy_from_slice(&number.to_le_bytes());
            1 + bytes
        };
        Body { head, head_len: head_len as u8, tail: b"" }
    }

    #[inline]
    pub(super) fn head(&self) -> &[u8] {
        &self.head[..usize::from(self.head_len)]
    }

    /// What comes after the head.
    #[inline]
    pub(super) fn tail(&self) -> &'a [u8] {
        self.tail
    }

    #[inline]
    pub(super) fn body_len(&self) -> usize {
        usize::from(self.head_len) + self.tail.len()
    }

    #[inline]
    fn total(&self) -> usize {
        self.body_len() + back_len(self.head[0], self.body_len())
    }

    /// Whether these bytes begin with this element.
    #[inline]
    pub(super) fn is_at(&self, bytes: &[u8]) -> bool {
        let (head, body) = (usize::from(self.head_len), self.body_len());
        // The last byte tells most strings of one length apart: names that are counted begin alike.
        bytes[0] == self.head[0]
            && bytes.len() >= body
            && self.tail.last().is_none_or(|last| bytes[body - 1] == *last)
            && (head == 1 || bytes[1..head] == self.head[1..head])
            && bytes[head..body] == *self.tail
    }

    /// Writes the element; `to` has exactly its size.
    #[inline]
    fn write(&self, to: &mut [u8]) {
        let body_len = self.body_len();
        let (head, rest) = to.split_at_mut(usize::from(self.head_len));
        head.copy_from_slice(self.head());
        let (tail, back) = rest.split_at_mut(self.tail.len());
        tail.copy_from_slice(self.tail);
        match back {
            [] => {}
            [short] => *short = body_len as u8,
            [low, high] => {
                let over = body_len - BACK_MIDDLE_MIN;
                (*low, *high) = (over as u8, 0b1000_0000 | (over >> 8) as u8);
            }
            [long @ .., mark] => {
                long.copy_from_slice(&(body_len as u32).to_le_bytes());
                *mark = STRING_LONG;
            }
        }
    }
}

/// Bytes of the length behind a body.
#[inline]
fn back_len(first: u8, body_len: usize) -> usize {
    match body_len {
        // Numbers that say at both ends how long they are.
        _ if first >= 0b1001_0000 => 0,
        ..=BACK_SHORT_MAX => 1,
        BACK_MIDDLE_MIN..=BACK_MIDDLE_MAX => 2,
        _ => 5,
    }
}

/// Where an element's string begins and how many bytes it has; for numbers, how many bytes their head has and 0.
#[inline]
fn parts(bytes: &[u8]) -> (usize, usize) {
    match bytes[0] {
        first @ ..0b1000_0000 => (1, usize::from(first)),
        first @ 0b1000_0000..=0b1000_0111 => (2 + usize::from(first & 7), 0),
        STRING_LONG => (5, u32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) as usize),
        first @ 0b1000_1000..=0b1000_1110 => (2, STRING_MIDDLE_MIN + (usize::from(first & 7) << 8) + usize::from(bytes[1])),
        0b1001_0000..=0b1001_1111 => (3, 0),
        0b1010_0000..=0b1011_1111 => (2, 0),
        0b1100_0000.. => (1, 0),
    }
}

/// The size of the element these bytes begin with.
#[inline]
fn size_at(bytes: &[u8]) -> usize {
    skip(bytes, 0)
}

/// Where the element behind the one at an offset begins.
#[inline]
fn skip(bytes: &[u8], offset: usize) -> usize {
    let first = bytes[offset];
    // Most elements are short strings.
    if first < BACK_SHORT_MAX as u8 {
        return offset + usize::from(first) + 2;
    }
    let (head, tail) = parts(&bytes[offset..]);
    offset + head + tail + back_len(first, head + tail)
}

/// The size of the body these bytes begin with, for sequences without lengths behind the bodies.
#[inline]
pub(super) fn body_size(bytes: &[u8]) -> usize {
    match bytes[0] {
        short @ ..=0b0111_1111 => 1 + usize::from(short),
        _ => {
            let (head, tail) = parts(bytes);
            head + tail
        }
    }
}

/// The size of the element these bytes end with.
#[inline]
fn size_before(bytes: &[u8]) -> usize {
    let end = bytes.len();
    match bytes[end - 1] {
        last @ ..0b1000_0000 => usize::from(last) + 1,
        0b1000_1111 => u32::from_le_bytes([bytes[end - 5], bytes[end - 4], bytes[end - 3], bytes[end - 2]]) as usize + 5,
        last @ 0b1000_0000..=0b1000_1110 => BACK_MIDDLE_MIN + (usize::from(last & 0xf) << 8) + usize::from(bytes[end - 2]) + 2,
        0b1001_0000..=0b1001_1111 => 3,
        0b1010_0000..=0b1011_1111 => 2,
        0b1100_0000.. => 1,
    }
}

/// The element these bytes begin with.
#[inline]
pub(super) fn item_at(bytes: &[u8]) -> Item<'_> {
    match bytes[0] {
        0b1100_0000.. => Item::Int(i64::from(bytes[0] & 0x3f)),
        0b1010_0000..=0b1011_1111 => Item::Int((i64::from(bytes[0] & 0x1f) << 5 | i64::from(bytes[1] & 0x1f)) + TWO_MIN),
        0b1001_0000..=0b1001_1111 => {
            let number = i64::from(bytes[0] & 0xf) << 12 | i64::from(bytes[1]) << 4 | i64::from(bytes[2] & 0xf);
            Item::Int(number + THREE_MIN)
        }
        0b1000_0000..=0b1000_0111 => Item::Int(sign_extended(&bytes[1..], 1 + usize::from(bytes[0] & 7))),
        _ => {
            let (head, tail) = parts(bytes);
            Item::Bytes(&bytes[head..head + tail])
        }
    }
}

/// The number in the first `len` bytes.
#[inline]
fn sign_extended(bytes: &[u8], len: usize) -> i64 {
    let unused = 64 - 8 * len as u32;
    // What follows the number is shifted out; only near the end of the elements are there not 8 bytes to read.
    let wide = bytes.first_chunk().copied().unwrap_or_else(|| {
        let mut wide = [0; 8];
        wide[..len].copy_from_slice(&bytes[..len]);
        wide
    });
    i64::from_le_bytes(wide) << unused >> unused
}

/// The bytes an element takes in a sequence.
pub fn size_of_element(bytes: &[u8]) -> usize {
    Body::of(bytes).total()
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
    fn elements_cost_what_the_head_of_the_file_says() {
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
            assert_eq!(size_of_element(bytes), cost);
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
