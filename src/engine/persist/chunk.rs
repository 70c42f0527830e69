//! The element rows of large collections, several to a row of the table: neighbours are packed into chunks. So a million
//! elements appended to a list are some twenty thousand rows to write, and to read at the start.
//!
//! A chunk stands under the key of its first element and holds all that come before the next chunk's.

use crate::engine::dict::Dict;
use crate::engine::persist::Error;
use crate::engine::persist::fold::{ChangedRow, Journaled, RowBytes};
use crate::engine::persist::record::{Packed, packed_bytes, push_packed};
use crate::engine::value::BadRow;
use crate::storage::Sum;
use crate::storage::journal::Span;
use crate::storage::tables::{Found, StoredMut};

/// A chunk is split before it grows beyond this, so that two of them share a page. A longer element has one for itself.
const CHUNK_BYTES_MAX: usize = 1900;

/// Rows that are written together: so many, and so many bytes of those that stand in the journal.
const WINDOW_ROWS: usize = 4096;
const WINDOW_BYTES: usize = 1 << 20;

/// A row that was put, or removed, and where its bytes are.
pub(crate) type Told<'a> = (&'a [u8], Option<Bytes<'a>>);

/// A row's bytes: these, or those that stand there in the journal.
#[derive(Clone, Copy)]
pub(crate) enum Bytes<'a> {
    Here(&'a [u8]),
    At(Span),
}

impl Bytes<'_> {
    /// How long a packed row is with these.
    pub(crate) fn packed_bytes(&self, element: &[u8]) -> usize {
        let len = match self {
            Bytes::Here(bytes) => bytes.len(),
            Bytes::At(span) => span.len(),
        };
        packed_bytes(element.len(), len)
    }
}

impl<'a> From<&'a RowBytes> for Bytes<'a> {
    fn from(bytes: &'a RowBytes) -> Bytes<'a> {
        match bytes {
            RowBytes::Here(bytes) => Bytes::Here(bytes),
            RowBytes::At(span) => Bytes::At(*span),
        }
    }
}

/// A row that was put, or removed.
pub(crate) type Changed<'a> = (&'a [u8], Option<&'a [u8]>);

/// A row that is there.
pub(crate) type Row<'a> = (&'a [u8], &'a [u8]);

/// Shows rows with their bytes, as many at a time as may be in memory.
pub(crate) fn each_window(
    journaled: &Journaled,
    mut rows: &[Told<'_>],
    mut show: impl FnMut(&[Changed<'_>]) -> Result<(), Error>,
) -> Result<(), Error> {
    let left_len = |row: &Told<'_>| if let (_, Some(Bytes::At(span))) = row { span.len() } else { 0 };
    let mut room = Vec::new();
    while !rows.is_empty() {
        let (now, later) = rows.split_at(fitting(rows.iter().take(WINDOW_ROWS).map(left_len), WINDOW_BYTES));
        room.clear();
        for (_, bytes) in now {
            if let Some(Bytes::At(span)) = bytes {
                journaled.reading()?.read(*span, &mut room)?;
            }
        }
        let mut read = &room[..];
        let mut bytes_of = |bytes| match bytes {
            Bytes::Here(bytes) => bytes,
            Bytes::At(span) => read.split_off(..span.len()).expect("it was read above"),
        };
        let now: Vec<Changed<'_>> = now.iter().map(|(element, bytes)| (*element, bytes.map(&mut bytes_of))).collect();
        show(&now)?;
        rows = later;
    }
    Ok(())
}

/// Writes the rows of a new value, sorted by their element keys. Of each row of the table the sum is told.
pub(crate) fn write_new(stored: &mut StoredMut<'_>, id: u64, rows: &[Row<'_>], sum: &mut Sum) -> Result<(), Error> {
    for chunk in Growth::AtEnd.split(rows) {
        write_chunk(stored, id, chunk, sum)?;
    }
    Ok(())
}

/// Puts and removes rows, sorted by their element keys. Tells how many there are more than before.
pub(crate) fn change(stored: &mut StoredMut<'_>, id: u64, mut changes: &[Changed<'_>], sum: &mut Sum) -> Result<i64, Error> {
    let mut more = 0;
    while let Some((first, _)) = changes.first() {
        let Some(found) = stored.element_at(id, first)? else {
            let rows: Vec<Row<'_>> = changes.iter().filter_map(|(element, bytes)| Some((*element, (*bytes)?))).collect();
            write_new(stored, id, &rows, sum)?;
            return Ok(more + rows.len() as i64);
        };
        let here = match &found.next {
            Some(next) => changes.partition_point(|(element, _)| *element < next.as_slice()),
            None => changes.len(),
        };
        more += change_chunk(stored, id, &found, &changes[..here], sum)?;
        changes = &changes[here..];
    }
    Ok(more)
}

fn change_chunk(
    stored: &mut StoredMut<'_>,
    id: u64,
    found: &Found,
    changes: &[Changed<'_>],
    sum: &mut Sum,
) -> Result<i64, Error> {
    let before = Packed(&found.bytes).collect::<Result<Vec<Row<'_>>, BadRow>>()?;
    let after = merge(&before, changes);
    let is_replaced = after.first().is_some_and(|(element, _)| *element == found.element);
    if !is_replaced {
        stored.remove_element(id, &found.element, sum)?;
    }
    for chunk in Growth::of(&before, changes).split(&after) {
        write_chunk(stored, id, chunk, sum)?;
    }
    Ok(after.len() as i64 - before.len() as i64)
}

fn merge<'a>(before: &[Row<'a>], changes: &[Changed<'a>]) -> Vec<Row<'a>> {
    let mut after = Vec::with_capacity(before.len() + changes.len());
    let mut before = before.iter().copied().peekable();
    for (element, bytes) in changes {
        while let Some(row) = before.next_if(|(old, _)| old < element) {
            after.push(row);
        }
        before.next_if(|(old, _)| old == element);
        after.extend(bytes.map(|bytes| (*element, bytes)));
    }
    after.extend(before);
    after
}

fn write_chunk(stored: &mut StoredMut<'_>, id: u64, rows: &[Row<'_>], sum: &mut Sum) -> Result<(), Error> {
    let Some((first, _)) = rows.first() else { return Ok(()) };
    let mut bytes = Vec::with_capacity(CHUNK_BYTES_MAX);
    rows.iter().for_each(|(element, row)| push_packed(&mut bytes, element, row));
    Ok(stored.put_element(id, first, &bytes, sum)?)
}

/// Where a chunk grew: what was added at an end will be added to there again, so the chunks left behind are filled.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Growth {
    AtEnd,
    AtStart,
    Anywhere,
}

impl Growth {
    fn of(before: &[Row<'_>], changes: &[Changed<'_>]) -> Growth {
        let (Some((first, _)), Some((last, _))) = (before.first(), before.last()) else { return Growth::AtEnd };
        match changes {
            [(element, _), ..] if element > last => Growth::AtEnd,
            [.., (element, _)] if element < first => Growth::AtStart,
            _ => Growth::Anywhere,
        }
    }

    fn split<'r, 'a>(self, rows: &'r [Row<'a>]) -> Vec<&'r [Row<'a>]> {
        let sizes: Vec<usize> = rows.iter().map(|(element, bytes)| packed_bytes(element.len(), bytes.len())).collect();
        let total: usize = sizes.iter().sum();
        if total <= CHUNK_BYTES_MAX {
            return vec![rows];
        }
        let bytes_max = match self {
            Growth::AtEnd | Growth::AtStart => CHUNK_BYTES_MAX,
            Growth::Anywhere => total.div_ceil(total.div_ceil(CHUNK_BYTES_MAX)),
        };
        let mut chunks = Vec::with_capacity(total / bytes_max + 2);
        let (mut rest, mut sizes) = (rows, sizes.as_slice());
        while !rest.is_empty() {
            let len = if self == Growth::AtStart {
                fitting(sizes.iter().rev().copied(), bytes_max)
            } else {
                fitting(sizes.iter().copied(), bytes_max)
            };
            if self == Growth::AtStart {
                let (left, chunk) = rest.split_at(rest.len() - len);
                chunks.push(chunk);
                (rest, sizes) = (left, &sizes[..left.len()]);
            } else {
                let (chunk, left) = rest.split_at(len);
                chunks.push(chunk);
                (rest, sizes) = (left, &sizes[len..]);
            }
        }
        if self == Growth::AtStart {
            chunks.reverse();
        }
        chunks
    }
}

/// How many rows fit, at least one.
fn fitting(sizes: impl Iterator<Item = usize>, bytes_max: usize) -> usize {
    let mut sum = 0;
    let count = sizes
        .take_while(|size| {
            sum += size;
            sum <= bytes_max
        })
        .count();
    count.max(1)
}

/// Rows of a changed value in the order of their element keys.
pub(crate) fn sorted(changed: &Dict<ChangedRow>) -> Vec<Told<'_>> {
    let mut rows: Vec<Told<'_>> = changed.iter().map(|row| (&*row.element, row.bytes.as_ref().map(Bytes::from))).collect();
    rows.sort_unstable_by_key(|(element, _)| *element);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_that_grew_at_an_end_leaves_full_ones_behind() {
        let keys: Vec<[u8; 4]> = (0..1000u32).map(u32::to_be_bytes).collect();
        let rows: Vec<Row<'_>> = keys.iter().map(|key| (&key[..], &[7u8; 20][..])).collect();
        for growth in [Growth::AtEnd, Growth::AtStart, Growth::Anywhere] {
            let chunks = growth.split(&rows);
            assert_eq!(chunks.concat(), rows);
            let bytes =
                |chunk: &[Row<'_>]| chunk.iter().map(|(element, bytes)| packed_bytes(element.len(), bytes.len())).sum::<usize>();
            assert!(chunks.iter().all(|chunk| bytes(chunk) <= CHUNK_BYTES_MAX));
            let full = chunks.iter().filter(|chunk| bytes(chunk) > CHUNK_BYTES_MAX - 30).count();
            assert!(growth == Growth::Anywhere || full >= chunks.len() - 1);
        }
    }

    #[test]
    fn an_element_too_long_for_a_chunk_has_one_for_itself() {
        let long = [1; 5000];
        let rows: Vec<Row<'_>> = vec![(b"a", b""), (b"b", &long), (b"c", b"")];
        let chunks = Growth::AtEnd.split(&rows);
        assert_eq!(chunks.concat(), rows);
        assert!(chunks.iter().any(|chunk| chunk.len() == 1 && chunk[0].0 == b"b"));
    }
}
