//! The string: its data structure and what the commands of its group mean.

use crate::engine::rows::{BadRow, Rows};
use crate::limits;

/// Bytes that fit beside the length in 24 bytes together with the tag of `Value`.
const SHORT_BYTES_MAX: usize = 22;

/// Bytes no string may exceed, whatever `proto-max-bulk-len` says: offsets beyond are taken for damage by who reads the journal.
const BYTES_LIMIT: usize = 4 << 30;

/// Room kept beyond a string this long when it is written into; shorter ones double, as in Redis.
const GROWTH_BYTES_MAX: usize = 1 << 20;

/// A string value: a number when its bytes are the canonical text of one, else bytes.
#[derive(Clone)]
pub struct Str(Repr);

#[derive(Clone)]
enum Repr {
    Int(i64),
    Short {
        len: u8,
        bytes: [u8; SHORT_BYTES_MAX],
    },
    Long(Box<[u8]>),
    /// Was written into: keeps room to grow, so that appending is not quadratic.
    #[expect(clippy::box_collection, reason = "a vector in place would make every value a word larger")]
    Growing(Box<Vec<u8>>),
}

/// Bytes a string may have.
pub(crate) fn bytes_max() -> usize {
    limits::get(&limits::PROTO_MAX_BULK_LEN).min(BYTES_LIMIT)
}

/// Room for the text of any `i64`.
pub(crate) type IntText = itoa::Buffer;

impl Default for Str {
    fn default() -> Self {
        Str::from(&b""[..])
    }
}

impl From<&[u8]> for Str {
    fn from(bytes: &[u8]) -> Self {
        if let Some(number) = canonical_int(bytes) {
            return Str(Repr::Int(number));
        }
        Str::raw(bytes)
    }
}

impl From<i64> for Str {
    fn from(number: i64) -> Self {
        Str(Repr::Int(number))
    }
}

impl From<Vec<u8>> for Str {
    fn from(bytes: Vec<u8>) -> Self {
        if bytes.len() <= SHORT_BYTES_MAX { Str::from(bytes.as_slice()) } else { Str(Repr::Long(bytes.into_boxed_slice())) }
    }
}

impl Str {
    /// These bytes, even where they spell a number.
    pub(crate) fn raw(bytes: &[u8]) -> Str {
        if bytes.len() <= SHORT_BYTES_MAX {
            let mut short = [0; SHORT_BYTES_MAX];
            short[..bytes.len()].copy_from_slice(bytes);
            Str(Repr::Short { len: bytes.len() as u8, bytes: short })
        } else {
            Str(Repr::Long(bytes.into()))
        }
    }

    /// Becomes these bytes, in the memory it has where they fit it exactly.
    #[inline]
    pub(crate) fn assign(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            Repr::Long(held) if held.len() == bytes.len() => held.copy_from_slice(bytes),
            _ => *self = Str::from(bytes),
        }
    }

    /// The bytes; `text` gives a number's digits a place to stand.
    pub(crate) fn bytes<'a>(&'a self, text: &'a mut IntText) -> &'a [u8] {
        match &self.0 {
            Repr::Int(number) => text.format(*number).as_bytes(),
            Repr::Short { len, bytes } => &bytes[..usize::from(*len)],
            Repr::Long(bytes) => bytes,
            Repr::Growing(bytes) => bytes,
        }
    }

    /// The number this string is, where its bytes are the canonical text of one.
    pub(crate) fn int(&self) -> Option<i64> {
        match &self.0 {
            Repr::Int(number) => Some(*number),
            // Bytes written in place may have come to spell a number.
            Repr::Short { len, bytes } => canonical_int(&bytes[..usize::from(*len)]),
            Repr::Growing(bytes) => canonical_int(bytes),
            Repr::Long(_) => None,
        }
    }

    /// How many bytes it has.
    pub(crate) fn len(&self) -> usize {
        match &self.0 {
            Repr::Int(number) => itoa::Buffer::new().format(*number).len(),
            Repr::Short { len, .. } => usize::from(*len),
            Repr::Long(bytes) => bytes.len(),
            Repr::Growing(bytes) => bytes.len(),
        }
    }

    /// The bytes, to write into. The string keeps room to grow afterwards.
    pub(crate) fn growing(&mut self) -> &mut Vec<u8> {
        if !matches!(self.0, Repr::Growing(_)) {
            let bytes = self.bytes(&mut IntText::new()).to_vec();
            self.0 = Repr::Growing(Box::new(bytes));
        }
        match &mut self.0 {
            Repr::Growing(bytes) => bytes,
            _ => unreachable!("it was made to grow above"),
        }
    }

    /// Writes bytes at an offset, with zero bytes before it where the string is shorter.
    pub(crate) fn write_at(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        let all = self.growing();
        if end > all.capacity() && all.len() > GROWTH_BYTES_MAX {
            all.reserve_exact(end - all.len() + GROWTH_BYTES_MAX);
        }
        if offset == all.len() {
            all.extend_from_slice(bytes);
            return;
        }
        if all.len() < end {
            all.resize(end, 0);
        }
        all[offset..end].copy_from_slice(bytes);
    }

    /// The name `OBJECT ENCODING` gives: `int`, `embstr` up to 44 bytes as Redis has it, else `raw`.
    pub(crate) fn encoding(&self) -> &'static str {
        match &self.0 {
            Repr::Int(_) => "int",
            Repr::Short { .. } => "embstr",
            Repr::Long(bytes) if bytes.len() <= 44 => "embstr",
            Repr::Long(_) | Repr::Growing(_) => "raw",
        }
    }
}

impl Rows for Str {
    fn put_row(&mut self, element: &[u8], bytes: &[u8]) -> Result<(), BadRow> {
        if !element.is_empty() {
            return Err(BadRow::Bytes);
        }
        *self = Str::from(bytes);
        Ok(())
    }

    fn remove_row(&mut self, _: &[u8]) -> Result<(), BadRow> {
        Err(BadRow::Bytes)
    }

    fn each_row(&self, show: &mut dyn FnMut(&[u8], &[u8])) {
        show(b"", self.bytes(&mut IntText::new()));
    }

    fn row_count(&self) -> usize {
        1
    }

    fn memory_bytes(&self) -> usize {
        match &self.0 {
            Repr::Int(_) | Repr::Short { .. } => 0,
            Repr::Long(bytes) => bytes.len(),
            Repr::Growing(bytes) => bytes.capacity() + size_of::<Vec<u8>>(),
        }
    }
}

/// The number that bytes spell, if they are exactly the text that number is printed as: no sign `+`, no leading zero.
pub(crate) fn canonical_int(bytes: &[u8]) -> Option<i64> {
    let (negative, digits) = match bytes {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [b'0'] if !negative => return Some(0),
        [b'1'..=b'9', ..] if digits.len() <= 19 => {}
        _ => return None,
    }
    let mut number: u64 = 0;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number * 10 + u64::from(digit - b'0');
    }
    if negative { 0i64.checked_sub_unsigned(number) } else { i64::try_from(number).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_ints_are_those_that_print_the_same() {
        for text in ["0", "-1", "9223372036854775807", "-9223372036854775808", "10"] {
            assert_eq!(canonical_int(text.as_bytes()).map(|n| n.to_string()).as_deref(), Some(text));
        }
        for text in
            ["", "-", "-0", "01", "+1", " 1", "1 ", "9223372036854775808", "-9223372036854775809", "99999999999999999999", "1a"]
        {
            assert_eq!(canonical_int(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn writing_past_the_end_fills_with_zeros() {
        let mut string = Str::from(&b"ab"[..]);
        string.write_at(4, b"x");
        assert_eq!(string.bytes(&mut IntText::new()), b"ab\0\0x");
    }
}
