//! A node of a list, and the rows of its elements.

use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;

use crate::engine::log::RowLog;
use crate::engine::rows::BadRow;
use crate::engine::types::packed::{Item, Packed};
use crate::limits;

/// Row numbers are between this and its negative; beyond it the list is renumbered.
pub(super) const ROW_MAX: i64 = 1 << 62;
/// A row number further from zero than this was made by no list.
const ROW_VALID_MAX: i64 = ROW_MAX + ROW_MAX / 2;

/// A stretch of the list whose row numbers have no gaps.
#[derive(Default, Clone)]
pub(crate) struct Node {
    /// The row number of the first element.
    pub row: i64,
    pub packed: Packed,
}

impl Node {
    pub(crate) fn of(row: i64, bytes: &[u8]) -> Node {
        let mut packed = Packed::default();
        packed.push_back(bytes);
        Node { row, packed }
    }

    pub(crate) fn len(&self) -> usize {
        self.packed.len()
    }

    /// The row number behind the last element's.
    pub(crate) fn end(&self) -> i64 {
        self.row + self.len() as i64
    }

    pub(crate) fn push_back(&mut self, bytes: &[u8]) -> bool {
        let (count, bytes_max) = node_bounds();
        self.len() < count && self.packed.push_back_within(bytes, bytes_max)
    }

    pub(crate) fn push_front(&mut self, bytes: &[u8]) -> bool {
        let (count, bytes_max) = node_bounds();
        let is_pushed = self.len() < count && self.packed.push_front_within(bytes, bytes_max);
        self.row -= i64::from(is_pushed);
        is_pushed
    }

    pub(crate) fn insert(&mut self, offset: usize, bytes: &[u8]) -> bool {
        let (count, bytes_max) = node_bounds();
        self.len() < count && self.packed.insert_within(offset, bytes, bytes_max)
    }

    /// Records these elements as rows.
    pub(crate) fn log_range(&self, range: Range<usize>, log: &mut RowLog<'_>) {
        let first = self.row + range.start as i64;
        for (row, item) in (first..).zip(self.packed.range(range.start, range.len())) {
            put(log, row, item);
        }
    }

    /// Takes elements out and closes the gap this leaves in the row numbers, renumbering the shorter side.
    pub(crate) fn remove(&mut self, offset: usize, count: usize, log: &mut RowLog<'_>) {
        self.packed.remove_range(offset, count);
        self.close(offset, offset, count, log);
    }

    /// The same for single elements, by ascending offset.
    pub(crate) fn remove_each(&mut self, offsets: &[usize], log: &mut RowLog<'_>) {
        let [first, .., last] = *offsets else {
            return offsets.iter().for_each(|&offset| self.remove(offset, 1, log));
        };
        let mut gone = offsets.iter().copied().peekable();
        self.packed.retain(|offset| gone.next_if_eq(&offset).is_none());
        self.close(first, last + 1 - offsets.len(), offsets.len(), log);
    }

    /// Renumbers after `count` elements were taken out: those before `same` and those from `moved` on stand as they did,
    /// with other numbers on one side.
    fn close(&mut self, same: usize, moved: usize, count: usize, log: &mut RowLog<'_>) {
        let (old, len) = (self.row, self.len());
        if moved < len - same {
            self.row += count as i64;
            self.log_range(0..moved, log);
            remove(log, old..self.row);
        } else {
            self.log_range(same..len, log);
            remove(log, self.end()..self.end() + count as i64);
        }
    }
}

/// Elements and bytes a node holds at most. A larger element has a node of its own.
#[inline]
pub(crate) fn node_bounds() -> (usize, usize) {
    match limits::LIST_MAX_LISTPACK_SIZE.load(Relaxed) {
        bytes @ ..0 => (usize::MAX, 2048 << bytes.unsigned_abs().min(5)),
        count => (count.max(1) as usize, 8192),
    }
}

/// A row's element key: numbers in big-endian with the sign flipped sort as they should.
pub(crate) fn row_key(row: i64) -> [u8; 8] {
    (row as u64 ^ 1 << 63).to_be_bytes()
}

pub(crate) fn row_number(key: &[u8]) -> Result<i64, BadRow> {
    let row = (u64::from_be_bytes(key.try_into().map_err(|_| BadRow::Bytes)?) ^ 1 << 63) as i64;
    if row.unsigned_abs() <= ROW_VALID_MAX as u64 { Ok(row) } else { Err(BadRow::Bytes) }
}

pub(crate) fn put(log: &mut RowLog<'_>, row: i64, item: Item<'_>) {
    log.put(&row_key(row), item.bytes(&mut Default::default()));
}

pub(crate) fn remove(log: &mut RowLog<'_>, rows: Range<i64>) {
    rows.for_each(|row| log.remove(&row_key(row)));
}
