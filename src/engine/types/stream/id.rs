//! Ids of stream entries: a time in milliseconds and a number within it, and their text `ms-seq`.

use std::fmt;
use std::ops::Deref;

/// Bytes of text above which an id is refused unread, as in Redis.
const TEXT_BYTES_MAX: usize = 127;

/// An entry's id; ids of a stream only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id {
    /// Milliseconds since the epoch, where the server chose the id.
    pub ms: u64,
    /// Sets ids of the same millisecond apart.
    pub seq: u64,
}

/// An id as a client writes it, before what it left out is filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// `ms-seq`.
    Whole(Id),
    /// `ms`.
    Ms(u64),
    /// `ms-*`.
    AnySeq(u64),
}

impl Id {
    /// The lowest id, which no entry has.
    pub(crate) const MIN: Id = Id { ms: 0, seq: 0 };
    /// The highest id.
    pub(crate) const MAX: Id = Id { ms: u64::MAX, seq: u64::MAX };

    /// An id from its parts.
    pub(crate) const fn new(ms: u64, seq: u64) -> Id {
        Id { ms, seq }
    }

    /// The id right above; None above the highest.
    pub(crate) fn next(self) -> Option<Id> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(Id::new(self.ms, seq)),
            None => Some(Id::new(self.ms.checked_add(1)?, 0)),
        }
    }

    /// The id right below; None below the lowest.
    pub(crate) fn previous(self) -> Option<Id> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(Id::new(self.ms, seq)),
            None => Some(Id::new(self.ms.checked_sub(1)?, u64::MAX)),
        }
    }

    /// Sixteen bytes that sort as ids do.
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        (u128::from(self.ms) << 64 | u128::from(self.seq)).to_be_bytes()
    }

    /// The id of these bytes.
    pub(crate) fn from_bytes(bytes: [u8; 16]) -> Id {
        let both = u128::from_be_bytes(bytes);
        Id::new((both >> 64) as u64, both as u64)
    }

    /// Reads an id; `missing_seq` stands in where only the milliseconds are given.
    pub(crate) fn parse(text: &[u8], missing_seq: u64) -> Option<Id> {
        match Written::parse(text)? {
            Written::Whole(id) => Some(id),
            Written::Ms(ms) => Some(Id::new(ms, missing_seq)),
            Written::AnySeq(_) => None,
        }
    }

    /// The text `ms-seq`.
    pub(crate) fn text(self) -> IdText {
        let mut text = IdText { bytes: [0; 41], len: 0 };
        text.push(itoa::Buffer::new().format(self.ms).as_bytes());
        text.push(b"-");
        text.push(itoa::Buffer::new().format(self.seq).as_bytes());
        text
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

impl Written {
    /// Reads an id that may lack its number or leave it to the server. `-` and `+` are no ids here.
    pub(crate) fn parse(text: &[u8]) -> Option<Written> {
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        // Redis reads a C string here: what follows a zero byte is not seen.
        let text = &text[..memchr::memchr(0, text).unwrap_or(text.len())];
        let Some(dash) = memchr::memchr(b'-', text) else { return Some(Written::Ms(parse_u64(text)?)) };
        let ms = parse_u64(&text[..dash])?;
        match &text[dash + 1..] {
            b"*" => Some(Written::AnySeq(ms)),
            seq => Some(Written::Whole(Id::new(ms, parse_u64(seq)?))),
        }
    }
}

/// Reads digits as C's `strtoull` does, which is how Redis reads what its own stricter function refuses: spaces and a
/// sign may lead, zeros too, and a minus wraps around.
fn parse_u64(text: &[u8]) -> Option<u64> {
    let text = match text.iter().position(|byte| !matches!(byte, b' ' | b'\t'..=b'\r')) {
        Some(start) => &text[start..],
        None => return None,
    };
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let mut number = 0u64;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
    }
    // A plain negative number is refused; only one that the stricter function does not read reaches the wrap.
    if is_negative && digits[0] != b'0' && number <= 1 << 63 {
        return None;
    }
    Some(if is_negative { number.wrapping_neg() } else { number })
}

/// An id's text, in place.
pub(crate) struct IdText {
    bytes: [u8; 41],
    len: u8,
}

impl IdText {
    fn push(&mut self, bytes: &[u8]) {
        let start = usize::from(self.len);
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len() as u8;
    }
}

impl Deref for IdText {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_redis_reads_them() {
        for (text, id) in [
            ("1-2", Some(Id::new(1, 2))),
            ("7", Some(Id::new(7, 9))),
            ("01-02", Some(Id::new(1, 2))),
            (" 1-+2", Some(Id::new(1, 2))),
            ("18446744073709551615-18446744073709551615", Some(Id::MAX)),
            ("18446744073709551616-0", None),
            ("1-", None),
            ("-1", None),
            ("1--1", None),
            ("1--01", Some(Id::new(1, u64::MAX))),
            ("1-2-3", None),
            ("1-*", None),
            ("", None),
            ("-", None),
            ("+", None),
            ("x", None),
        ] {
            assert_eq!(Id::parse(text.as_bytes(), 9), id, "{text}");
        }
        assert_eq!(Written::parse(b"5-*"), Some(Written::AnySeq(5)));
    }

    #[test]
    fn bytes_sort_as_ids_do() {
        let ids = [Id::MIN, Id::new(0, 1), Id::new(0, u64::MAX), Id::new(1, 0), Id::new(256, 3), Id::MAX];
        for pair in ids.windows(2) {
            assert!(pair[0].to_bytes() < pair[1].to_bytes());
            assert_eq!(Id::from_bytes(pair[1].to_bytes()), pair[1]);
            assert!(pair[0].next().is_some_and(|next| next <= pair[1]));
        }
        assert_eq!(&*Id::MAX.text(), b"18446744073709551615-18446744073709551615");
        assert_eq!(Id::new(2, 0).previous(), Some(Id::new(1, u64::MAX)));
        assert_eq!((Id::MAX.next(), Id::MIN.previous()), (None, None));
    }
}
