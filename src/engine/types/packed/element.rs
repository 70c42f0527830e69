//! How an element of a packed sequence is written: its body, then the body's length for walking backwards. Numbers in their
//! canonical text are stored as numbers; the smallest say at both ends how long they are and need no length. First byte of an
//! element:
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

use crate::engine::types::string::{IntText, canonical_int};

const STRING_SHORT_MAX: usize = 127;
const STRING_MIDDLE_MIN: usize = 128;
const STRING_MIDDLE_MAX: usize = STRING_MIDDLE_MIN + 7 * 256 - 1;
const STRING_LONG: u8 = 0b1000_1111;

pub(crate) const BACK_SHORT_MAX: usize = 127;
const BACK_MIDDLE_MIN: usize = 128;
const BACK_MIDDLE_MAX: usize = BACK_MIDDLE_MIN + 15 * 256 - 1;

const TINY: std::ops::RangeInclusive<i64> = 0..=63;
const TWO_MIN: i64 = -128;
const TWO_MAX: i64 = TWO_MIN + 1023;
const THREE_MIN: i64 = -32_768;
const THREE_MAX: i64 = 32_767;

/// The longest head: a number of 8 bytes and the byte that says so.
const HEAD_BYTES_MAX: usize = 9;

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
    pub fn to_vec(self) -> Vec<u8> {
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
pub(crate) struct Body<'a> {
    head: [u8; HEAD_BYTES_MAX],
    head_len: u8,
    tail: &'a [u8],
}

impl<'a> Body<'a> {
    #[inline]
    pub(crate) fn of(bytes: &'a [u8]) -> Body<'a> {
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
    pub(crate) fn head(&self) -> &[u8] {
        &self.head[..usize::from(self.head_len)]
    }

    /// What comes after the head.
    #[inline]
    pub(crate) fn tail(&self) -> &'a [u8] {
        self.tail
    }

    #[inline]
    pub(crate) fn body_len(&self) -> usize {
        usize::from(self.head_len) + self.tail.len()
    }

    #[inline]
    pub(crate) fn total(&self) -> usize {
        self.body_len() + back_len(self.head[0], self.body_len())
    }

    /// Whether these bytes begin with this element.
    #[inline]
    pub(crate) fn is_at(&self, bytes: &[u8]) -> bool {
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
    pub(crate) fn write(&self, to: &mut [u8]) {
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
pub(crate) fn size_at(bytes: &[u8]) -> usize {
    skip(bytes, 0)
}

/// Where the element behind the one at an offset begins.
#[inline]
pub(crate) fn skip(bytes: &[u8], offset: usize) -> usize {
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
pub(crate) fn body_size(bytes: &[u8]) -> usize {
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
pub(crate) fn size_before(bytes: &[u8]) -> usize {
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
pub(crate) fn item_at(bytes: &[u8]) -> Item<'_> {
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
