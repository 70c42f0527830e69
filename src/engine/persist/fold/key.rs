//! What became of a key, and of its value: each change is added to those before it.

use std::mem;

use crate::engine::blob::{Blob, INLINE_BYTES_MAX};
use crate::engine::dict::{self, Dict};
use crate::engine::effect::{self, Row};
use crate::engine::persist::Error;
use crate::engine::persist::fold::Place;
use crate::engine::persist::fold::journaled::Journaled;
use crate::engine::value::{BadRow, Kind};
use crate::storage::journal::Span;

/// What an entry of a map takes beside its bytes, roughly.
const KEY_BYTES: usize = 112;
const ROW_BYTES: usize = 80;

/// A key and what became of it.
pub(crate) struct Keyed {
    /// The key.
    pub key: Blob,
    /// What became of it.
    pub fold: KeyFold,
    link: dict::Link,
}

impl Keyed {
    /// A key to which nothing has happened yet; what a fresh one held before counts no more.
    pub(super) fn new(key: &[u8], is_fresh: bool) -> Keyed {
        Keyed { key: Blob::from(key), fold: KeyFold { is_fresh, ..KeyFold::default() }, link: dict::Link::default() }
    }

    /// Bytes it takes in memory, roughly.
    pub(super) fn bytes(&self) -> usize {
        KEY_BYTES + self.key.len() + self.fold.rows.bytes()
    }
}

impl dict::Entry for Keyed {
    fn key(&self) -> &[u8] {
        &self.key
    }

    #[inline]
    fn link(&self) -> dict::Link {
        self.link
    }

    #[inline]
    fn link_mut(&mut self) -> &mut dict::Link {
        &mut self.link
    }
}

/// A new expiry, if there is one, in the room of a number: there are millions of these.
#[derive(Clone, Copy, PartialEq, Eq)]
struct NewExpiry(u64);

impl NewExpiry {
    const NONE: NewExpiry = NewExpiry(u64::MAX);
}

impl Default for NewExpiry {
    fn default() -> NewExpiry {
        NewExpiry::NONE
    }
}

/// What became of a key.
#[derive(Default, Clone)]
pub(crate) struct KeyFold {
    /// Whether what the key held before the span counts no more.
    pub is_fresh: bool,
    /// The kind of its value, where the span tells it. None in a fresh one: the key is gone.
    pub kind: Option<Kind>,
    /// When it expires, if that changed; 0 for never.
    expire_at: NewExpiry,
    /// Whether that was said before anything was told of its value. Then it means nothing where an accepted loss took that.
    is_expiry_older: bool,
    /// What became of its value.
    pub rows: RowsFold,
}

/// What became of a value.
#[derive(Default, Clone)]
pub(crate) enum RowsFold {
    /// Nothing. In a fresh key: it is empty.
    #[default]
    None,
    /// It is this string, short enough to stand here.
    Short(Blob),
    /// It is this string.
    Text(Vec<u8>),
    /// It is the string that stands there in the journal.
    TextAt(Span),
    /// These bytes were written into the string, in this order.
    Writes(Vec<(u64, Vec<u8>)>),
    /// It is these rows, as they stand in the effect.
    Whole(Vec<u8>),
    /// It is the rows that stand there in the journal.
    WholeAt(Span),
    /// These rows were put, or removed.
    Changed(Box<Dict<ChangedRow>>),
    /// It is what another key held before the span, with changes.
    Moved(Box<Moved>),
}

/// What a key holds that another one held before the span.
#[derive(Clone)]
pub(crate) struct Moved {
    /// Where it was.
    pub from: Place,
    /// When the key that holds it now expires, where nothing else tells; 0 for never.
    pub expire_at: u64,
    /// What became of it since.
    pub rows: RowsFold,
}

impl Moved {
    fn bytes_but_rows(from: &Place) -> usize {
        ROW_BYTES + from.1.len()
    }
}

/// A row that was put, or removed.
#[derive(Clone)]
pub(crate) struct ChangedRow {
    /// The element's key.
    pub element: Blob,
    /// Its bytes; None where it is gone.
    pub bytes: Option<RowBytes>,
    link: dict::Link,
}

/// The bytes of a row.
#[derive(Clone)]
pub(crate) enum RowBytes {
    /// These.
    Here(Blob),
    /// Those that stand there in the journal.
    At(Span),
}

impl RowBytes {
    fn of(bytes: &[u8], journaled: &Journaled) -> RowBytes {
        journaled.span(bytes).map_or_else(|| RowBytes::Here(Blob::from(bytes)), RowBytes::At)
    }

    fn heap_bytes(&self) -> usize {
        match self {
            RowBytes::Here(bytes) => bytes.heap_bytes(),
            RowBytes::At(_) => 0,
        }
    }
}

impl dict::Entry for ChangedRow {
    fn key(&self) -> &[u8] {
        &self.element
    }

    #[inline]
    fn link(&self) -> dict::Link {
        self.link
    }

    #[inline]
    fn link_mut(&mut self) -> &mut dict::Link {
        &mut self.link
    }
}

impl KeyFold {
    /// What became of a key that is gone.
    pub(super) fn gone() -> KeyFold {
        KeyFold { is_fresh: true, ..KeyFold::default() }
    }

    /// When it expires, if that changed; 0 for never.
    pub(crate) fn expire_at(&self) -> Option<u64> {
        (self.expire_at != NewExpiry::NONE).then_some(self.expire_at.0)
    }

    /// When the key expires if nothing was there before what this tells of its value; 0 for never.
    pub(crate) fn expire_at_alone(&self) -> u64 {
        self.expire_at().filter(|_| !self.is_expiry_older).unwrap_or(0)
    }

    /// Has the key expire, if it is there.
    pub(super) fn expire(&mut self, expire_at: u64) {
        if !self.is_fresh || self.kind.is_some() {
            self.set_expiry(expire_at);
            self.is_expiry_older = match &self.rows {
                RowsFold::Moved(moved) => matches!(moved.rows, RowsFold::None),
                _ => self.kind.is_none(),
            };
        }
    }

    fn set_expiry(&mut self, expire_at: u64) {
        (self.expire_at, self.is_expiry_older) = (NewExpiry(expire_at), false);
    }

    /// Makes it what another key will hold, taken from this one; tells how many bytes more it takes.
    pub(super) fn leave(&mut self, place: &Place) -> usize {
        if self.is_fresh {
            if self.kind.is_none() {
                *self = KeyFold::gone();
            }
            return 0;
        }
        self.is_fresh = true;
        // A text is known as a whole, whatever the key held before.
        if matches!(self.rows, RowsFold::Short(_) | RowsFold::Text(_) | RowsFold::TextAt(_)) {
            return 0;
        }
        let rows = mem::take(&mut self.rows);
        self.rows = RowsFold::Moved(Box::new(Moved { from: place.clone(), expire_at: 0, rows }));
        Moved::bytes_but_rows(place)
    }

    /// Makes it what became of a key that takes it from another one.
    pub(super) fn arrive(&mut self, kind: Kind, expire_at: u64) -> Result<(), BadRow> {
        if self.kind.is_some_and(|before| before != kind) {
            return Err(BadRow::Bytes);
        }
        if self.kind.is_some() {
            self.set_expiry(expire_at);
        } else if let RowsFold::Moved(moved) = &mut self.rows {
            // Nothing was changed in it, so it may not be there, where a loss was accepted.
            moved.expire_at = expire_at;
            (self.kind, self.expire_at) = (Some(kind), NewExpiry::NONE);
        }
        Ok(())
    }

    /// Sees to it that the key is there and of this kind.
    pub(super) fn make(&mut self, kind: Kind) {
        if self.is_fresh && self.kind.is_none() {
            self.set_expiry(0);
        }
        self.kind = Some(kind);
    }

    /// Has the key hold these rows.
    pub(super) fn put(&mut self, kind: Kind, expire_at: u64, mut rows: effect::Rows<'_>, journaled: &Journaled) {
        self.is_fresh = true;
        self.kind = Some(kind);
        self.set_expiry(expire_at);
        if kind == Kind::String {
            let bytes = match rows.next() {
                Some(Row::Put(_, bytes)) => bytes,
                _ => &[],
            };
            return self.rows.set_text(bytes, journaled);
        }
        let bytes = rows.bytes();
        if let Some(span) = journaled.span(bytes) {
            self.rows = RowsFold::WholeAt(span);
            return;
        }
        match &mut self.rows {
            RowsFold::Whole(whole) => {
                whole.clear();
                whole.extend_from_slice(bytes);
            }
            other => *other = RowsFold::Whole(bytes.to_vec()),
        }
    }

    /// Changes rows of the key; tells how many bytes more this takes.
    pub(super) fn change(&mut self, rows: effect::Rows<'_>, journaled: &Journaled) -> Result<isize, Error> {
        if self.kind == Some(Kind::String) {
            let before = self.rows.bytes();
            let put = rows.filter_map(|row| if let Row::Put(_, bytes) = row { Some(bytes) } else { None }).last();
            if let RowsFold::Moved(moved) = &self.rows
                && put.is_some()
                && self.expire_at().is_none()
            {
                // The value is known as a whole now, and yet the key expires when it did.
                let expire_at = moved.expire_at;
                self.set_expiry(expire_at);
            }
            put.into_iter().for_each(|bytes| self.rows.set_text(bytes, journaled));
            return Ok(self.rows.bytes() as isize - before as isize);
        }
        let (changed, mut grown) = self.rows.changed_rows(journaled)?;
        for row in rows {
            let bytes = if let Row::Put(_, bytes) = row { Some(RowBytes::of(bytes, journaled)) } else { None };
            grown += set_row(changed, element_of(&row), bytes);
        }
        Ok(grown)
    }
}

impl RowsFold {
    /// Bytes they take in memory, roughly.
    pub(super) fn bytes(&self) -> usize {
        match self {
            RowsFold::None | RowsFold::Short(_) | RowsFold::TextAt(_) | RowsFold::WholeAt(_) => 0,
            RowsFold::Text(bytes) | RowsFold::Whole(bytes) => bytes.capacity(),
            RowsFold::Writes(writes) => writes.iter().map(|(_, bytes)| ROW_BYTES + bytes.len()).sum(),
            RowsFold::Moved(moved) => Moved::bytes_but_rows(&moved.from) + moved.rows.bytes(),
            RowsFold::Changed(rows) => {
                let row = |row: &ChangedRow| ROW_BYTES + row.element.len() + row.bytes.as_ref().map_or(0, RowBytes::heap_bytes);
                rows.iter().map(row).sum()
            }
        }
    }

    /// Bytes of it that are left in the journal.
    pub(super) fn left_bytes(&self) -> usize {
        match self {
            RowsFold::TextAt(span) | RowsFold::WholeAt(span) => span.len(),
            RowsFold::Moved(moved) => moved.rows.left_bytes(),
            RowsFold::Changed(rows) => {
                rows.iter().map(|row| if let Some(RowBytes::At(span)) = &row.bytes { span.len() } else { 0 }).sum()
            }
            RowsFold::None | RowsFold::Short(_) | RowsFold::Text(_) | RowsFold::Writes(_) | RowsFold::Whole(_) => 0,
        }
    }

    fn set_text(&mut self, bytes: &[u8], journaled: &Journaled) {
        if let Some(span) = journaled.span(bytes) {
            *self = RowsFold::TextAt(span);
            return;
        }
        match self {
            RowsFold::Text(text) if bytes.len() > INLINE_BYTES_MAX => {
                text.clear();
                text.extend_from_slice(bytes);
            }
            other if bytes.len() <= INLINE_BYTES_MAX => *other = RowsFold::Short(Blob::from(bytes)),
            other => *other = RowsFold::Text(bytes.to_vec()),
        }
    }

    /// The rows as changes to what was there before, in a fresh key to nothing; and how many bytes more they take so.
    fn changed_rows(&mut self, journaled: &Journaled) -> Result<(&mut Dict<ChangedRow>, isize), Error> {
        let rows = match self {
            RowsFold::Moved(moved) => &mut moved.rows,
            rows => rows,
        };
        let mut grown = 0;
        if !matches!(rows, RowsFold::Changed(_)) {
            grown -= rows.bytes() as isize;
            let mut changed = Dict::default();
            let mut put = |whole: &[u8], journaled: &Journaled| {
                for row in effect::Rows::again(whole) {
                    if let Row::Put(element, bytes) = row {
                        grown += set_row(&mut changed, element, Some(RowBytes::of(bytes, journaled)));
                    }
                }
            };
            match rows {
                // Where these stand, nobody knows any more.
                RowsFold::Whole(whole) => put(whole, &Journaled::default()),
                RowsFold::WholeAt(span) => {
                    let (whole, journaled) = journaled.read_rows(*span)?;
                    put(&whole, &journaled);
                }
                _ => {}
            }
            *rows = RowsFold::Changed(Box::new(changed));
        }
        match rows {
            RowsFold::Changed(changed) => Ok((changed, grown)),
            _ => unreachable!("it was made so above"),
        }
    }

    /// Writes bytes into a string; tells how many bytes more this takes.
    pub(super) fn write_at(&mut self, is_fresh: bool, offset: u64, bytes: &[u8], journaled: &Journaled) -> Result<usize, Error> {
        if let RowsFold::Moved(moved) = self {
            return moved.rows.write_at(false, offset, bytes, journaled);
        }
        let before = if let RowsFold::Text(text) = self { text.capacity() } else { 0 };
        match self {
            RowsFold::None if is_fresh => *self = RowsFold::Text(Vec::new()),
            RowsFold::Short(text) => *self = RowsFold::Text(text.to_vec()),
            RowsFold::TextAt(span) => *self = RowsFold::Text(journaled.read(*span)?),
            _ => {}
        }
        match self {
            RowsFold::Text(text) => {
                write_into(text, offset, bytes)?;
                Ok(text.capacity() - before)
            }
            RowsFold::Writes(writes) => Ok(add_write(writes, offset, bytes)),
            other => {
                *other = RowsFold::Writes(vec![(offset, bytes.to_vec())]);
                Ok(ROW_BYTES + bytes.len())
            }
        }
    }
}

/// The element's key of a row.
pub(super) fn element_of<'a>(row: &Row<'a>) -> &'a [u8] {
    match row {
        Row::Put(element, _) | Row::Remove(element) => element,
    }
}

/// Sets a row; tells how many bytes more they take.
fn set_row(changed: &mut Dict<ChangedRow>, element: &[u8], bytes: Option<RowBytes>) -> isize {
    let heap_bytes = |bytes: &Option<RowBytes>| bytes.as_ref().map_or(0, RowBytes::heap_bytes) as isize;
    let (hash, after) = (dict::hash(element) as u32, heap_bytes(&bytes));
    match changed.find(hash, element) {
        Some(at) => after - heap_bytes(&mem::replace(&mut changed.at_mut(at).bytes, bytes)),
        None => {
            changed.insert_new(hash, ChangedRow { element: Blob::from(element), bytes, link: dict::Link::default() });
            (ROW_BYTES + element.len()) as isize + after
        }
    }
}

/// Strings are at most this long (`proto-max-bulk-len` can be no more than 4 GiB), so an offset beyond it is damage.
const STRING_BYTES_MAX: u64 = 4 << 30;

/// From where to where bytes at this offset are written, if a string can be that long.
pub(crate) fn write_range(offset: u64, len: usize) -> Result<(usize, usize), BadRow> {
    let end = offset.checked_add(len as u64).filter(|end| *end <= STRING_BYTES_MAX).ok_or(BadRow::Bytes)?;
    Ok((usize::try_from(offset).map_err(|_| BadRow::Bytes)?, usize::try_from(end).map_err(|_| BadRow::Bytes)?))
}

/// Writes bytes into a string, with zero bytes before them where it is shorter.
pub(crate) fn write_into(text: &mut Vec<u8>, offset: u64, bytes: &[u8]) -> Result<(), BadRow> {
    let (start, end) = write_range(offset, bytes.len())?;
    if text.len() < end {
        text.resize(end, 0);
    }
    text[start..end].copy_from_slice(bytes);
    Ok(())
}

/// Appending goes on where the last write ended, and counters in a bit field are written in the same place again: both
/// are added to the last write.
fn add_write(writes: &mut Vec<(u64, Vec<u8>)>, offset: u64, bytes: &[u8]) -> usize {
    if let Some((start, last)) = writes.last_mut()
        && offset >= *start
        && offset - *start <= last.len() as u64
    {
        let at = (offset - *start) as usize;
        let before = last.len();
        let overlap = bytes.len().min(before - at);
        last[at..at + overlap].copy_from_slice(&bytes[..overlap]);
        last.extend_from_slice(&bytes[overlap..]);
        return last.len() - before;
    }
    writes.push((offset, bytes.to_vec()));
    ROW_BYTES + bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_a_key_stays_small() {
        assert!(size_of::<Keyed>() <= 80, "{}", size_of::<Keyed>());
    }
}
