//! Effects: what a write changed, resolved, as bytes for the journal. Replaying them needs no clock, no chance and no command.
//!
//! An effect is an operation byte, the number of its database, and what the operation needs; lengths and the expiry of a put are
//! LEB128, other numbers little-endian. Effects of one shard stand in the order they happened.

use std::ops::Deref;

use crate::engine::rows::{BadRow, Kind};
use crate::memory::{Aside, Held};

const PUT: u8 = 1;
const REMOVE: u8 = 2;
const EXPIRE: u8 = 3;
const CHANGE: u8 = 4;
const WRITE_AT: u8 = 5;
const FLUSH: u8 = 6;
const MAP: u8 = 7;
const GIVE: u8 = 8;
const COPY: u8 = 9;
const TAKE: u8 = 10;

const END: u8 = 0;
const ROW_PUT: u8 = 1;
const ROW_REMOVE: u8 = 2;

/// Effects on their way to the journal. What they take is set aside from the first byte until the last owner lets go of them.
#[derive(Debug)]
pub struct Effects {
    bytes: Vec<u8>,
    held: Held,
    meet: bool,
}

impl Effects {
    /// None, with room for so many bytes.
    pub(crate) fn with_room(bytes: usize) -> Effects {
        Effects::from(Vec::with_capacity(bytes))
    }

    /// Bytes there is room for.
    pub(crate) fn room(&self) -> usize {
        self.held.bytes()
    }

    /// Whether there is one among them that has an order with those of other shards: a flush, and what gives, copies or takes a large value.
    pub(crate) fn meet(&self) -> bool {
        self.meet
    }

    /// Says that there is one.
    pub(crate) fn set_meet(&mut self) {
        self.meet = true;
    }

    /// Adds what is appended, and tells how many bytes that is.
    #[inline]
    pub(crate) fn record(&mut self, append: impl FnOnce(&mut Vec<u8>)) -> usize {
        let before = self.bytes.len();
        append(&mut self.bytes);
        if self.bytes.capacity() != self.held.bytes() {
            self.held.set(self.bytes.capacity());
        }
        self.bytes.len() - before
    }

    /// Keeps only the first bytes.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
    }
}

impl Default for Effects {
    fn default() -> Effects {
        Effects::from(Vec::new())
    }
}

impl From<Vec<u8>> for Effects {
    fn from(bytes: Vec<u8>) -> Effects {
        Effects { held: Held::new(Aside::Journal, bytes.capacity()), bytes, meet: false }
    }
}

impl Clone for Effects {
    fn clone(&self) -> Effects {
        Effects { meet: self.meet, ..Effects::from(self.bytes.clone()) }
    }
}

impl PartialEq for Effects {
    fn eq(&self, other: &Effects) -> bool {
        self.bytes == other.bytes && self.meet == other.meet
    }
}

impl Eq for Effects {}

impl Deref for Effects {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// One change to the keyspace, borrowed from the bytes it was read from. `db` is the number a database is stored under,
/// which `SWAPDB` sets apart from the number clients use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect<'a> {
    /// A key now holds exactly these rows. `expire_at` is in milliseconds since the epoch, 0 for never.
    Put { db: u8, key: &'a [u8], kind: Kind, expire_at: u64, rows: Rows<'a> },
    /// A key is gone.
    Remove { db: u8, key: &'a [u8] },
    /// A key expires at this time; 0 for never.
    Expire { db: u8, key: &'a [u8], expire_at: u64 },
    /// Rows of a key were put and removed; the key is made where it was missing.
    Change { db: u8, key: &'a [u8], kind: Kind, rows: Rows<'a> },
    /// Bytes were written into a string, which is made where it was missing.
    WriteAt { db: u8, key: &'a [u8], offset: u64, bytes: &'a [u8] },
    /// All keys of a database that live in this shard are gone.
    Flush { db: u8 },
    /// Clients' databases are stored under these numbers now, four bits each, database 0 lowest.
    Map { stored: u64 },
    /// A key is gone, and its value is in the parcel with this number. Another key's [`Effect::Take`] in the same batch takes it out.
    Give { db: u8, key: &'a [u8], parcel: u64 },
    /// The same, but with a copy of the value, and the key stays.
    Copy { db: u8, key: &'a [u8], parcel: u64 },
    /// A key now holds what is in the parcel.
    Take { db: u8, key: &'a [u8], kind: Kind, expire_at: u64, parcel: u64 },
}

impl<'a> Effect<'a> {
    /// The key it concerns; None for one that concerns a whole database, or all.
    pub(crate) fn key(&self) -> Option<&'a [u8]> {
        match *self {
            Effect::Put { key, .. }
            | Effect::Remove { key, .. }
            | Effect::Expire { key, .. }
            | Effect::Change { key, .. }
            | Effect::WriteAt { key, .. }
            | Effect::Give { key, .. }
            | Effect::Copy { key, .. }
            | Effect::Take { key, .. } => Some(key),
            Effect::Flush { .. } | Effect::Map { .. } => None,
        }
    }

    /// The stored number of the database it concerns; None for one that concerns them all.
    pub(crate) fn db(&self) -> Option<u8> {
        match *self {
            Effect::Put { db, .. }
            | Effect::Remove { db, .. }
            | Effect::Expire { db, .. }
            | Effect::Change { db, .. }
            | Effect::WriteAt { db, .. }
            | Effect::Flush { db }
            | Effect::Give { db, .. }
            | Effect::Copy { db, .. }
            | Effect::Take { db, .. } => Some(db),
            Effect::Map { .. } => None,
        }
    }
}

/// The rows of an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rows<'a>(&'a [u8]);

/// A row that was put, or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row<'a> {
    /// The element's key and its bytes.
    Put(&'a [u8], &'a [u8]),
    /// The element's key.
    Remove(&'a [u8]),
}

impl<'a> Rows<'a> {
    /// The rows as they stand in the effect, with their end.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.0
    }

    /// Rows from their [`Self::bytes`], which were checked when their effect was read.
    pub(crate) fn again(bytes: &'a [u8]) -> Rows<'a> {
        Rows(bytes)
    }
}

impl<'a> Iterator for Rows<'a> {
    type Item = Row<'a>;

    fn next(&mut self) -> Option<Row<'a>> {
        read_row(&mut self.0).expect("rows were checked when the effect was read")
    }
}

fn read_row<'a>(from: &mut &'a [u8]) -> Result<Option<Row<'a>>, BadRow> {
    match take_byte(from)? {
        END => Ok(None),
        ROW_PUT => Ok(Some(Row::Put(take_bytes(from)?, take_bytes(from)?))),
        ROW_REMOVE => Ok(Some(Row::Remove(take_bytes(from)?))),
        _ => Err(BadRow::Bytes),
    }
}

/// Reads the next effect and moves `from` past it.
pub fn read<'a>(from: &mut &'a [u8]) -> Result<Effect<'a>, BadRow> {
    let operation = take_byte(from)?;
    if operation == MAP {
        return Ok(Effect::Map { stored: take_u64(from)? });
    }
    let db = take_byte(from)?;
    if operation == FLUSH {
        return Ok(Effect::Flush { db });
    }
    let key = take_bytes(from)?;
    Ok(match operation {
        PUT => Effect::Put { db, key, kind: take_kind(from)?, expire_at: take_number(from)?, rows: take_rows(from)? },
        REMOVE => Effect::Remove { db, key },
        EXPIRE => Effect::Expire { db, key, expire_at: take_u64(from)? },
        CHANGE => Effect::Change { db, key, kind: take_kind(from)?, rows: take_rows(from)? },
        WRITE_AT => Effect::WriteAt { db, key, offset: take_u64(from)?, bytes: take_bytes(from)? },
        GIVE => Effect::Give { db, key, parcel: take_number(from)? },
        COPY => Effect::Copy { db, key, parcel: take_number(from)? },
        TAKE => {
            let (kind, expire_at) = (take_kind(from)?, take_number(from)?);
            Effect::Take { db, key, kind, expire_at, parcel: take_number(from)? }
        }
        _ => return Err(BadRow::Bytes),
    })
}

fn take_rows<'a>(from: &mut &'a [u8]) -> Result<Rows<'a>, BadRow> {
    let start = *from;
    while read_row(from)?.is_some() {}
    Ok(Rows(&start[..start.len() - from.len()]))
}

fn take_kind(from: &mut &[u8]) -> Result<Kind, BadRow> {
    Kind::from_number(take_byte(from)?)
}

/// Takes one byte off the front.
pub(crate) fn take_byte(from: &mut &[u8]) -> Result<u8, BadRow> {
    let (&byte, rest) = from.split_first().ok_or(BadRow::Bytes)?;
    *from = rest;
    Ok(byte)
}

/// Takes a little-endian number off the front.
pub(crate) fn take_u64(from: &mut &[u8]) -> Result<u64, BadRow> {
    let (bytes, rest) = from.split_first_chunk::<8>().ok_or(BadRow::Bytes)?;
    *from = rest;
    Ok(u64::from_le_bytes(*bytes))
}

/// Takes a LEB128 number off the front.
pub(crate) fn take_number(from: &mut &[u8]) -> Result<u64, BadRow> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take_byte(from)?;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            return Err(BadRow::Bytes);
        }
        number |= bits << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(BadRow::Bytes)
}

/// Takes a LEB128 length off the front.
pub(crate) fn take_len(from: &mut &[u8]) -> Result<usize, BadRow> {
    usize::try_from(take_number(from)?).map_err(|_| BadRow::Bytes)
}

/// Takes bytes with their length before them off the front.
pub(crate) fn take_bytes<'a>(from: &mut &'a [u8]) -> Result<&'a [u8], BadRow> {
    let len = take_len(from)?;
    let (bytes, rest) = from.split_at_checked(len).ok_or(BadRow::Bytes)?;
    *from = rest;
    Ok(bytes)
}

/// Appends a LEB128 number.
#[inline]
pub(crate) fn push_number(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

/// Appends a LEB128 length.
#[inline]
pub(crate) fn push_len(to: &mut Vec<u8>, len: usize) {
    push_number(to, len as u64);
}

/// Appends bytes with their length before them.
#[inline]
pub(crate) fn push_bytes(to: &mut Vec<u8>, bytes: &[u8]) {
    push_len(to, bytes.len());
    to.extend_from_slice(bytes);
}

fn push_head(to: &mut Vec<u8>, operation: u8, db: u8, key: &[u8]) {
    to.extend_from_slice(&[operation, db]);
    push_bytes(to, key);
}

/// Appends the start of a put; its rows follow by [`push_row`] and end with [`push_end`].
pub fn push_put(to: &mut Vec<u8>, db: u8, key: &[u8], kind: Kind, expire_at: u64) {
    push_head(to, PUT, db, key);
    to.push(kind as u8);
    // Mostly 0, which is a byte so.
    push_number(to, expire_at);
}

/// Appends the start of a change; its rows follow and end with [`push_end`].
pub fn push_change(to: &mut Vec<u8>, db: u8, key: &[u8], kind: Kind) {
    push_head(to, CHANGE, db, key);
    to.push(kind as u8);
}

/// Appends a row that was put.
#[inline]
pub fn push_row(to: &mut Vec<u8>, element: &[u8], bytes: &[u8]) {
    to.push(ROW_PUT);
    push_bytes(to, element);
    push_bytes(to, bytes);
}

/// Appends a row that was put, its bytes given in parts.
#[inline]
pub(crate) fn push_row_parts(to: &mut Vec<u8>, element: &[u8], parts: &[&[u8]]) {
    to.push(ROW_PUT);
    push_bytes(to, element);
    push_len(to, parts.iter().map(|part| part.len()).sum());
    parts.iter().for_each(|part| to.extend_from_slice(part));
}

/// Appends a row that was removed.
#[inline]
pub fn push_row_removal(to: &mut Vec<u8>, element: &[u8]) {
    to.push(ROW_REMOVE);
    push_bytes(to, element);
}

/// Ends the rows of a put or a change.
pub fn push_end(to: &mut Vec<u8>) {
    to.push(END);
}

/// Appends the removal of a key.
pub fn push_remove(to: &mut Vec<u8>, db: u8, key: &[u8]) {
    push_head(to, REMOVE, db, key);
}

/// Appends a key's new expiry.
pub fn push_expire(to: &mut Vec<u8>, db: u8, key: &[u8], expire_at: u64) {
    push_head(to, EXPIRE, db, key);
    to.extend_from_slice(&expire_at.to_le_bytes());
}

/// Appends a write into a string.
pub fn push_write_at(to: &mut Vec<u8>, db: u8, key: &[u8], offset: usize, bytes: &[u8]) {
    push_head(to, WRITE_AT, db, key);
    to.extend_from_slice(&(offset as u64).to_le_bytes());
    push_bytes(to, bytes);
}

/// Appends that a key is gone and its value is in a parcel.
pub fn push_give(to: &mut Vec<u8>, db: u8, key: &[u8], parcel: u64) {
    push_head(to, GIVE, db, key);
    push_number(to, parcel);
}

/// Appends that a copy of a key's value is in a parcel.
pub fn push_copy(to: &mut Vec<u8>, db: u8, key: &[u8], parcel: u64) {
    push_head(to, COPY, db, key);
    push_number(to, parcel);
}

/// Appends that a key holds what is in a parcel.
pub fn push_take(to: &mut Vec<u8>, db: u8, key: &[u8], kind: Kind, expire_at: u64, parcel: u64) {
    push_head(to, TAKE, db, key);
    to.push(kind as u8);
    push_number(to, expire_at);
    push_number(to, parcel);
}

/// Appends the removal of all keys of a database in this shard.
pub fn push_flush(to: &mut Vec<u8>, db: u8) {
    to.extend_from_slice(&[FLUSH, db]);
}

/// Appends the numbers that clients' databases are stored under.
pub fn push_map(to: &mut Vec<u8>, stored: u64) {
    to.push(MAP);
    to.extend_from_slice(&stored.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn effects_of_parcels_stay_as_they_are() {
        let mut bytes = Vec::new();
        push_give(&mut bytes, 2, b"from", 300);
        push_copy(&mut bytes, 2, b"a", 1);
        push_take(&mut bytes, 15, b"to", Kind::Zset, 5, 300);
        assert_eq!(bytes, b"\x08\x02\x04from\xac\x02\x09\x02\x01a\x01\x0a\x0f\x02to\x05\x05\xac\x02");
        let from = &mut &bytes[..];
        assert_eq!(read(from), Ok(Effect::Give { db: 2, key: b"from", parcel: 300 }));
        assert_eq!(read(from), Ok(Effect::Copy { db: 2, key: b"a", parcel: 1 }));
        assert_eq!(read(from), Ok(Effect::Take { db: 15, key: b"to", kind: Kind::Zset, expire_at: 5, parcel: 300 }));
        assert!(from.is_empty());
    }

    #[test]
    fn an_effect_of_an_unknown_kind_is_refused_by_its_number() {
        for number in [0, 7, 200] {
            let put = [PUT, 0, 1, b'k', number, 0, END];
            assert_eq!(read(&mut &put[..]), Err(BadRow::Kind(number)));
        }
    }
}
