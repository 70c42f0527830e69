//! What stands in the tables. A key has a record: its kind, when it expires, and its value, if that is small; a large
//! value has an id there and its rows in the elements table: those of a collection packed into chunks, a string's bytes
//! cut into segments. Numbers are little-endian, but for those that order rows.

use crate::engine::effect::{push_bytes, take_byte, take_bytes, take_u64};
use crate::engine::types::string::Str;
use crate::engine::value::{BadRow, Kind, Value};
use crate::storage::Sum;

/// The first byte of every record.
const VERSION: u8 = 2;
/// A kind with a lower number stands in these bits; where all of them are set, its number is a byte of its own.
const KIND_BITS: u8 = 0x07;
const EXPIRES: u8 = 0x08;
const IS_LARGE: u8 = 0x10;

/// The most bytes a value has that stands in its key's record. A record this long leaves room for a second one in its page.
pub(crate) const SMALL_BYTES_MAX: usize = 1900;

/// Bytes of a large string that stand in one row: with its key it fills a page of 16 KiB.
pub(crate) const SEGMENT_BYTES: usize = (16 << 10) - 64;

/// A key's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// What kind of value.
    pub kind: Kind,
    /// Milliseconds since the epoch, 0 for never.
    pub expire_at: u64,
    /// The value, or where it is.
    pub body: Body<'a>,
}

/// A record's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body<'a> {
    /// All of it: a string's bytes, or packed rows.
    Small(&'a [u8]),
    /// A value whose rows are elsewhere.
    Large(Large),
}

/// Where a large value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Large {
    /// Its id in the elements table.
    pub id: u64,
    /// How many elements it has; of a string, how many bytes.
    pub count: u64,
    /// What rows it has in the elements table.
    pub sum: Sum,
}

impl<'a> Record<'a> {
    /// Reads a record.
    pub fn read(mut bytes: &'a [u8]) -> Result<Record<'a>, BadRow> {
        let from = &mut bytes;
        let (number, flags) = take_head(from)?;
        let kind = Kind::from_number(number)?;
        let expire_at = if flags & EXPIRES != 0 { take_u64(from)? } else { 0 };
        let body = if flags & IS_LARGE != 0 {
            let body = Body::Large(Large {
                id: take_u64(from)?,
                count: take_u64(from)?,
                sum: Sum { rows: take_u64(from)?, digest: take_u64(from)? },
            });
            if !from.is_empty() {
                return Err(BadRow::Bytes);
            }
            body
        } else {
            Body::Small(from)
        };
        Ok(Record { kind, expire_at, body })
    }

    /// Appends the record.
    pub fn write(&self, to: &mut Vec<u8>) {
        let expires = if self.expire_at != 0 { EXPIRES } else { 0 };
        let is_large = if matches!(self.body, Body::Large(_)) { IS_LARGE } else { 0 };
        push_head(to, self.kind as u8, expires | is_large);
        if self.expire_at != 0 {
            to.extend_from_slice(&self.expire_at.to_le_bytes());
        }
        match self.body {
            Body::Small(bytes) => to.extend_from_slice(bytes),
            Body::Large(Large { id, count, sum }) => {
                to.extend_from_slice(&id.to_le_bytes());
                to.extend_from_slice(&count.to_le_bytes());
                to.extend_from_slice(&sum.to_bytes());
            }
        }
    }

    /// The id of a large value.
    pub(crate) fn id(&self) -> Option<u64> {
        match self.body {
            Body::Small(_) => None,
            Body::Large(large) => Some(large.id),
        }
    }
}

/// Appends the version, the flags and the number of a kind.
fn push_head(to: &mut Vec<u8>, kind: u8, flags: u8) {
    to.extend_from_slice(&[VERSION, kind.min(KIND_BITS) | flags]);
    if kind >= KIND_BITS {
        to.push(kind);
    }
}

/// Takes the number of a kind and the flags off the front.
fn take_head(from: &mut &[u8]) -> Result<(u8, u8), BadRow> {
    if take_byte(from)? != VERSION {
        return Err(BadRow::Bytes);
    }
    let head = take_byte(from)?;
    let flags = head & !KIND_BITS;
    if flags & !(EXPIRES | IS_LARGE) != 0 {
        return Err(BadRow::Bytes);
    }
    match head & KIND_BITS {
        KIND_BITS => {
            let kind = take_byte(from)?;
            // One way to write each record.
            if kind < KIND_BITS { Err(BadRow::Bytes) } else { Ok((kind, flags)) }
        }
        kind => Ok((kind, flags)),
    }
}

/// Rows packed one after another, each as its element key and its bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packed<'a>(pub &'a [u8]);

impl<'a> Iterator for Packed<'a> {
    type Item = Result<(&'a [u8], &'a [u8]), BadRow>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let row = take_bytes(&mut self.0).and_then(|element| Ok((element, take_bytes(&mut self.0)?)));
        if row.is_err() {
            self.0 = &[];
        }
        Some(row)
    }
}

/// Appends a packed row.
pub fn push_packed(to: &mut Vec<u8>, element: &[u8], bytes: &[u8]) {
    push_bytes(to, element);
    push_bytes(to, bytes);
}

/// How long a packed row is, to within a few bytes more.
pub(crate) fn packed_bytes(element_len: usize, bytes_len: usize) -> usize {
    let length = |len: usize| if len < 0x80 { 1 } else { 1 + (len.ilog2() as usize) / 7 };
    length(element_len) + element_len + length(bytes_len) + bytes_len
}

/// The element key of a string's segment.
pub(crate) fn segment_key(number: usize) -> [u8; 4] {
    (number as u32).to_be_bytes()
}

/// The value that stands in a record.
pub fn small_value(kind: Kind, bytes: &[u8]) -> Result<Value, BadRow> {
    if kind == Kind::String {
        return Ok(Value::String(Str::from(bytes)));
    }
    let mut value = Value::empty(kind);
    put_packed(&mut value, bytes)?;
    Ok(value)
}

/// Puts packed rows into a value; tells how many.
pub(crate) fn put_packed(value: &mut Value, bytes: &[u8]) -> Result<u64, BadRow> {
    let rows = value.rows_mut().ok_or(BadRow::Bytes)?;
    let mut count = 0;
    for row in Packed(bytes) {
        let (element, bytes) = row?;
        rows.put_row(element, bytes)?;
        count += 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_as_it_was_written() {
        let large = Large { id: 7, count: 1 << 40, sum: Sum { rows: 8, digest: 1 << 50 } };
        for body in [Body::Small(b""), Body::Small(b"some bytes"), Body::Large(large)] {
            for (kind, expire_at) in [(Kind::String, 0), (Kind::Stream, 1), (Kind::Hash, u64::MAX)] {
                let record = Record { kind, expire_at, body };
                let mut bytes = Vec::new();
                record.write(&mut bytes);
                assert_eq!(Record::read(&bytes), Ok(record));
            }
        }
    }

    #[test]
    fn records_of_format_2_stay_as_they_are() {
        let small = Record { kind: Kind::String, expire_at: 0, body: Body::Small(b"hi") };
        let large = Large { id: 3, count: 4, sum: Sum { rows: 5, digest: 6 } };
        let large = Record { kind: Kind::Zset, expire_at: 0x0102, body: Body::Large(large) };
        let numbers: &[u8] = b"\x03\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x06\0\0\0\0\0\0\0";
        let of_large = [b"\x02\x1d\x02\x01\0\0\0\0\0\0", numbers].concat();
        let golden: [(Record<'_>, &[u8]); 2] = [(small, b"\x02\x01hi"), (large, &of_large)];
        for (record, golden) in golden {
            let mut bytes = Vec::new();
            record.write(&mut bytes);
            assert_eq!(bytes, golden);
        }
        let mut packed = Vec::new();
        push_packed(&mut packed, b"field", b"v");
        assert_eq!(packed, b"\x05field\x01v");
    }

    #[test]
    fn a_record_that_was_never_written_is_refused() {
        for bytes in [&b""[..], b"\x02", b"\x01\x01", b"\x02\x07", b"\x02\x07\x06", b"\x02\x41", b"\x02\x09\x01", b"\x02\x11\0\0"]
        {
            assert_eq!(Record::read(bytes), Err(BadRow::Bytes), "{bytes:?}");
        }
    }

    #[test]
    fn a_record_has_room_for_every_number_of_a_kind() {
        for kind in 0..=u8::MAX {
            for flags in [0, EXPIRES, IS_LARGE, EXPIRES | IS_LARGE] {
                let mut head = Vec::new();
                push_head(&mut head, kind, flags);
                let from = &mut &head[..];
                assert_eq!(take_head(from), Ok((kind, flags)));
                assert!(from.is_empty(), "{from:?} is left of {head:?}");
            }
        }
        let mut heads = Vec::new();
        for (kind, flags) in [(6, 0), (7, 0), (200, EXPIRES)] {
            push_head(&mut heads, kind, flags);
        }
        assert_eq!(heads, b"\x02\x06\x02\x07\x07\x02\x0f\xc8", "they stay as they are");
    }

    #[test]
    fn a_record_of_an_unknown_kind_is_refused_by_its_number() {
        for (bytes, number) in [(&b"\x02\x00hi"[..], 0), (b"\x02\x07\x07hi", 7), (b"\x02\x07\xc8hi", 200)] {
            assert_eq!(Record::read(bytes), Err(BadRow::Kind(number)));
        }
    }

    #[test]
    fn packed_rows_are_as_long_as_foretold() {
        for len in [0, 1, 127, 128, 129, 16383, 16384, 1 << 21] {
            let bytes = vec![7; len];
            let mut packed = Vec::new();
            push_packed(&mut packed, &bytes, b"");
            assert_eq!(packed.len(), packed_bytes(bytes.len(), 0));
        }
    }
}
