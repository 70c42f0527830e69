//! The list: nodes of packed elements, quick at both ends, a node's work in the middle.
//!
//! Each element has a row number; they rise along the list, and within a node they are without gaps. A push or a pop is one
//! row. Nodes leave gaps between each other's numbers, so that an insert or a removal in the middle renumbers at
//! most the shorter side of one node, however long the list is. When a gap is used up the whole list is renumbered.

use std::collections::VecDeque;
use std::ops::{ControlFlow, Range};
use std::sync::atomic::Ordering::Relaxed;

use smallvec::SmallVec;

use crate::engine::shard::RowLog;
use crate::engine::types::packed::{Item, Packed};
use crate::engine::value::{BadRow, Rows};
use crate::limits;

/// Row numbers left free between nodes: enough for some ten splits of nodes in one place, and so few that numbers last
/// for 2^42 nodes in either direction. Tests see it used up.
const GAP: i64 = if cfg!(test) { 16 } else { 1 << 20 };
/// Row numbers are between this and its negative; beyond it the list is renumbered.
const ROW_MAX: i64 = 1 << 62;
/// A row number further from zero than this was made by no list.
const ROW_VALID_MAX: i64 = ROW_MAX + ROW_MAX / 2;

/// From so many nodes on, a new node at an end gets its whole room at once: until it is filled, the list is an eighth larger at
/// most, and the allocator is spared the sizes in between.
const ROOMY_NODES_MIN: usize = 8;

/// A list of byte strings.
#[derive(Default, Clone)]
pub struct List {
    /// Invariant: no node is empty, and each node's rows end at or before the next one's begin.
    nodes: VecDeque<Node>,
    /// Elements in all nodes.
    len: usize,
}

/// A stretch of the list whose row numbers have no gaps.
#[derive(Default, Clone)]
struct Node {
    /// The row number of the first element.
    row: i64,
    packed: Packed,
}

/// An end of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The head.
    Left,
    /// The tail.
    Right,
}

impl Node {
    fn of(row: i64, bytes: &[u8]) -> Node {
        let mut packed = Packed::default();
        packed.push_back(bytes);
        Node { row, packed }
    }

    fn len(&self) -> usize {
        self.packed.len()
    }

    /// The row number behind the last element's.
    fn end(&self) -> i64 {
        self.row + self.len() as i64
    }

    fn push_back(&mut self, bytes: &[u8]) -> bool {
        let (count, bytes_max) = node_bounds();
        self.len() < count && self.packed.push_back_within(bytes, bytes_max)
    }

    fn push_front(&mut self, bytes: &[u8]) -> bool {
        let (count, bytes_max) = node_bounds();
        let is_pushed = self.len() < count && self.packed.push_front_within(bytes, bytes_max);
        self.row -= i64::from(is_pushed);
        is_pushed
    }

    fn insert(&mut self, offset: usize, bytes: &[u8]) -> bool {
        let (count, bytes_max) = node_bounds();
        self.len() < count && self.packed.insert_within(offset, bytes, bytes_max)
    }

    /// Records these elements as rows.
    fn log_range(&self, range: Range<usize>, log: &mut RowLog<'_>) {
        let first = self.row + range.start as i64;
        for (row, item) in (first..).zip(self.packed.range(range.start, range.len())) {
            put(log, row, item);
        }
    }

    /// Takes elements out and closes the gap this leaves in the row numbers, renumbering the shorter side.
    fn remove(&mut self, offset: usize, count: usize, log: &mut RowLog<'_>) {
        self.packed.remove_range(offset, count);
        self.close(offset, offset, count, log);
    }

    /// The same for single elements, by ascending offset.
    fn remove_each(&mut self, offsets: &[usize], log: &mut RowLog<'_>) {
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
fn node_bounds() -> (usize, usize) {
    match limits::LIST_MAX_LISTPACK_SIZE.load(Relaxed) {
        bytes @ ..0 => (usize::MAX, 2048 << bytes.unsigned_abs().min(5)),
        count => (count.max(1) as usize, 8192),
    }
}

/// A row's element key: numbers in big-endian with the sign flipped sort as they should.
fn row_key(row: i64) -> [u8; 8] {
    (row as u64 ^ 1 << 63).to_be_bytes()
}

fn row_number(key: &[u8]) -> Result<i64, BadRow> {
    let row = (u64::from_be_bytes(key.try_into().map_err(|_| BadRow)?) ^ 1 << 63) as i64;
    if row.unsigned_abs() <= ROW_VALID_MAX as u64 { Ok(row) } else { Err(BadRow) }
}

fn put(log: &mut RowLog<'_>, row: i64, item: Item<'_>) {
    log.put(&row_key(row), item.bytes(&mut Default::default()));
}

fn remove(log: &mut RowLog<'_>, rows: Range<i64>) {
    rows.for_each(|row| log.remove(&row_key(row)));
}

impl List {
    /// Whether an empty one keeps its key.
    pub const LASTS_EMPTY: bool = false;

    /// How many elements it holds.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The name `OBJECT ENCODING` gives.
    pub fn encoding(&self) -> &'static str {
        let (count, bytes_max) = node_bounds();
        match self.nodes.len() {
            0 => "listpack",
            1 if self.len <= count && self.nodes[0].packed.byte_len() <= bytes_max => "listpack",
            _ => "quicklist",
        }
    }

    /// Adds an element at an end.
    #[inline]
    pub fn push(&mut self, end: End, bytes: &[u8], log: &mut RowLog<'_>) {
        let row = match end {
            End::Left => self.push_front(bytes),
            End::Right => self.push_back(bytes),
        };
        log.put(&row_key(row), bytes);
        if row.abs() > ROW_MAX {
            self.renumber(log);
        }
    }

    /// Adds an element behind the last without recording it, for a list that is put whole.
    pub fn push_unlogged(&mut self, bytes: &[u8]) {
        self.push_back(bytes);
    }

    #[inline]
    fn push_back(&mut self, bytes: &[u8]) -> i64 {
        self.len += 1;
        let row = match self.nodes.back_mut() {
            Some(last) => {
                let row = last.end();
                if last.push_back(bytes) {
                    return row;
                }
                row + GAP
            }
            None => 0,
        };
        self.push_node_back(row, bytes);
        row
    }

    #[inline]
    fn push_front(&mut self, bytes: &[u8]) -> i64 {
        self.len += 1;
        let row = match self.nodes.front_mut() {
            Some(first) => {
                if first.push_front(bytes) {
                    return first.row;
                }
                first.row - 1 - GAP
            }
            None => 0,
        };
        self.push_node_front(row, bytes);
        row
    }

    #[cold]
    fn push_node_back(&mut self, row: i64, bytes: &[u8]) {
        let mut packed = Packed::with_room_behind(self.next_node_room(bytes));
        packed.push_back(bytes);
        if let Some(last) = self.nodes.back_mut() {
            last.packed.fit();
        }
        self.reserve_node();
        self.nodes.push_back(Node { row, packed });
    }

    #[cold]
    fn push_node_front(&mut self, row: i64, bytes: &[u8]) {
        let mut packed = Packed::with_room_before(self.next_node_room(bytes) as u32);
        packed.push_front(bytes);
        if let Some(first) = self.nodes.front_mut() {
            first.packed.fit();
        }
        self.reserve_node();
        self.nodes.push_front(Node { row, packed });
    }

    /// How many bytes a new node at an end gets room for at once.
    fn next_node_room(&self, first: &[u8]) -> usize {
        match node_bounds() {
            // Small elements, and as many as fit: the node will be filled.
            (usize::MAX, bytes_max) if self.nodes.len() >= ROOMY_NODES_MIN && first.len() <= bytes_max / 16 => bytes_max,
            _ => 0,
        }
    }

    /// Makes room for one more node. A deque would double by itself, and take four at first where most lists have one.
    fn reserve_node(&mut self) {
        let nodes = self.nodes.len();
        if nodes == self.nodes.capacity() {
            self.nodes.reserve_exact(1 + nodes / 8);
        }
    }

    /// The element at an end.
    #[inline]
    pub fn peek(&self, end: End) -> Option<Item<'_>> {
        match end {
            End::Left => self.nodes.front()?.packed.first(),
            End::Right => self.nodes.back()?.packed.last(),
        }
    }

    /// Removes the element at an end.
    #[inline]
    pub fn drop_one(&mut self, end: End, log: &mut RowLog<'_>) {
        let node = match end {
            End::Left => self.nodes.front_mut(),
            End::Right => self.nodes.back_mut(),
        };
        let Some(node) = node else { return };
        self.len -= 1;
        match end {
            End::Left => {
                log.remove(&row_key(node.row));
                node.row += 1;
                node.packed.remove(0);
            }
            End::Right => {
                log.remove(&row_key(node.end() - 1));
                node.packed.remove(node.len() - 1);
            }
        }
        if node.packed.is_empty() {
            match end {
                End::Left => self.nodes.pop_front(),
                End::Right => self.nodes.pop_back(),
            };
        }
    }

    /// The element at an index.
    pub fn get(&self, index: usize) -> Option<Item<'_>> {
        if index >= self.len {
            return None;
        }
        let (node, offset) = self.locate(index);
        self.nodes[node].packed.get(offset)
    }

    /// All elements in order, from either end.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Item<'_>> {
        self.nodes.iter().flat_map(|node| node.packed.iter())
    }

    /// Up to `count` elements from an index on.
    pub fn range(&self, index: usize, count: usize) -> impl Iterator<Item = Item<'_>> {
        let (node, offset) = self.locate(index.min(self.len));
        let nodes = self.nodes.range(node.min(self.nodes.len())..);
        let offsets = std::iter::once(offset).chain(std::iter::repeat(0));
        nodes.zip(offsets).flat_map(move |(node, offset)| node.packed.range(offset, count)).take(count)
    }

    /// The index of the first element with these bytes.
    pub fn find(&self, bytes: &[u8]) -> Option<usize> {
        let mut before = 0;
        for node in &self.nodes {
            if let Some(offset) = node.packed.find(bytes, 1) {
                return Some(before + offset);
            }
            before += node.len();
        }
        None
    }

    /// Shows the index of each element with these bytes, seen from an end, until `show` breaks. Looks at up to `elements_max` elements.
    pub fn each_equal(
        &self,
        bytes: &[u8],
        from: End,
        elements_max: usize,
        mut show: impl FnMut(usize) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        let (wanted, len, elements_max) = (Item::of(bytes), self.len, elements_max.min(self.len));
        let mut steps = 0..elements_max;
        let mut look = |item| match steps.next() {
            None => ControlFlow::Break(()),
            Some(step) if item == wanted => show(if from == End::Left { step } else { len - 1 - step }),
            Some(_) => ControlFlow::Continue(()),
        };
        // Inner iteration, one direction at a time: the loop over a node stays tight.
        match from {
            End::Left => self.nodes.iter().try_for_each(|node| node.packed.iter().try_for_each(&mut look)),
            End::Right => self.nodes.iter().rev().try_for_each(|node| node.packed.iter().rev().try_for_each(&mut look)),
        }
    }

    /// Puts other bytes in place of the element at an index.
    pub fn set(&mut self, index: usize, bytes: &[u8], log: &mut RowLog<'_>) {
        let (node, offset) = self.locate(index);
        let row = self.nodes[node].row + offset as i64;
        log.put(&row_key(row), bytes);
        self.replace(node, offset, bytes);
    }

    fn replace(&mut self, at: usize, offset: usize, bytes: &[u8]) {
        let node = &mut self.nodes[at];
        node.packed.replace(offset, bytes);
        let (_, bytes_max) = node_bounds();
        if node.len() > 1 && node.packed.byte_len() > bytes_max {
            self.isolate(at, offset);
        }
    }

    /// Gives an element that made its node too large a node of its own. Row numbers stay.
    fn isolate(&mut self, at: usize, offset: usize) {
        if offset + 1 < self.nodes[at].len() {
            self.cut(at, offset + 1);
        }
        if offset > 0 {
            self.cut(at, offset);
        }
    }

    /// Cuts a node in two. Row numbers stay.
    fn cut(&mut self, at: usize, offset: usize) {
        let node = &mut self.nodes[at];
        let tail = Node { row: node.row + offset as i64, packed: node.packed.split_off(offset) };
        self.insert_node(at + 1, tail);
    }

    fn insert_node(&mut self, at: usize, node: Node) {
        self.reserve_node();
        self.nodes.insert(at, node);
    }

    /// Adds an element so that it has this index, which is at most `len`.
    pub fn insert(&mut self, index: usize, bytes: &[u8], log: &mut RowLog<'_>) {
        if index == 0 {
            return self.push(End::Left, bytes, log);
        }
        if index >= self.len {
            return self.push(End::Right, bytes, log);
        }
        let (at, offset) = self.locate(index);
        self.len += 1;
        if offset == 0 {
            return self.insert_between(at, bytes, log);
        }
        if !self.nodes[at].insert(offset, bytes) {
            self.cut(at, offset);
            return self.insert_between(at + 1, bytes, log);
        }
        self.make_row(at, offset, log);
    }

    /// Renumbers one side of an element that was just put into a node, so that it has a row number of its own.
    fn make_row(&mut self, at: usize, offset: usize, log: &mut RowLog<'_>) {
        // The node has grown already, so that none is left behind it where one more was needed.
        let (before, behind) = (self.room_before(at), self.room_before(at + 1));
        let node = &mut self.nodes[at];
        let is_left_shorter = offset < node.len() / 2;
        if before >= 1 && (is_left_shorter || behind < 0) {
            node.row -= 1;
            node.log_range(0..offset + 1, log);
        } else if behind >= 0 {
            node.log_range(offset..node.len(), log);
        } else {
            self.renumber(log);
        }
    }

    /// Adds an element between a node and the one before it: to one of them, or in a node of its own.
    fn insert_between(&mut self, at: usize, bytes: &[u8], log: &mut RowLog<'_>) {
        if self.room_before(at) < 1 {
            self.part(at, log);
        }
        let (low, high) = (self.nodes[at - 1].end(), self.nodes[at].row - 1);
        let row = if self.nodes[at - 1].push_back(bytes) {
            low
        } else if self.nodes[at].push_front(bytes) {
            high
        } else {
            let middle = low + (high - low) / 2;
            self.insert_node(at, Node::of(middle, bytes));
            middle
        };
        log.put(&row_key(row), bytes);
    }

    /// Makes a gap between the row numbers of a node and the one before it, by moving the smaller of them away from the other.
    fn part(&mut self, at: usize, log: &mut RowLog<'_>) {
        let (before, behind) = (self.room_before(at - 1), self.room_before(at + 1));
        let is_left_smaller = self.nodes[at - 1].len() < self.nodes[at].len();
        if before >= 2 && (is_left_smaller || behind < 2) {
            self.renumber_node(at - 1, -(before / 2), log);
        } else if behind >= 2 {
            self.renumber_node(at, behind / 2, log);
        } else {
            self.renumber(log);
        }
    }

    fn renumber_node(&mut self, at: usize, by: i64, log: &mut RowLog<'_>) {
        let node = &mut self.nodes[at];
        let (old, len) = (node.row..node.end(), node.len());
        node.row += by;
        node.log_range(0..len, log);
        let left = if by < 0 { old.start.max(node.end())..old.end } else { old.start..old.end.min(node.row) };
        remove(log, left);
    }

    /// How many row numbers are free between a node and the one before it; at the ends of the list, how many may be used.
    fn room_before(&self, at: usize) -> i64 {
        match (at.checked_sub(1).map(|before| self.nodes[before].end()), self.nodes.get(at)) {
            (Some(end), Some(node)) => node.row - end,
            (None, Some(node)) => GAP.min(node.row + ROW_MAX),
            (end, None) => GAP.min(ROW_MAX - end.unwrap_or(0)),
        }
    }

    /// Gives all rows new numbers, with gaps between the nodes.
    #[cold]
    fn renumber(&mut self, log: &mut RowLog<'_>) {
        for node in &self.nodes {
            remove(log, node.row..node.end());
        }
        let mut row = 0;
        for node in &mut self.nodes {
            node.row = row;
            node.log_range(0..node.len(), log);
            row = node.end() + GAP;
        }
    }

    /// Removes up to `count` elements from an index on.
    pub fn remove_range(&mut self, index: usize, count: usize, log: &mut RowLog<'_>) {
        let mut left = count.min(self.len.saturating_sub(index));
        if left == 0 {
            return;
        }
        let (mut at, mut offset) = self.locate(index);
        self.len -= left;
        let mut emptied = 0..0;
        while left > 0 {
            let node = &mut self.nodes[at];
            let here = left.min(node.len() - offset);
            if here == node.len() {
                remove(log, node.row..node.end());
                emptied = if emptied.is_empty() { at..at + 1 } else { emptied.start..at + 1 };
            } else {
                node.remove(offset, here, log);
            }
            (left, at, offset) = (left - here, at + 1, 0);
        }
        self.nodes.drain(emptied);
    }

    /// Removes the first `count` elements with these bytes, seen from an end. Tells how many there were.
    pub fn remove_equal(&mut self, bytes: &[u8], count: usize, from: End, log: &mut RowLog<'_>) -> usize {
        let (wanted, mut left) = (Item::of(bytes), count);
        let mut offsets: SmallVec<[usize; 8]> = SmallVec::new();
        let nodes = self.nodes.len();
        for step in 0..nodes {
            let node = match from {
                End::Left => &mut self.nodes[step],
                End::Right => &mut self.nodes[nodes - 1 - step],
            };
            offsets.clear();
            let matches = node.packed.iter().enumerate().filter(|(_, item)| *item == wanted).map(|(offset, _)| offset);
            match from {
                End::Left => offsets.extend(matches.take(left)),
                End::Right => {
                    offsets.extend(matches.rev().take(left));
                    offsets.reverse();
                }
            }
            left -= offsets.len();
            node.remove_each(&offsets, log);
            if left == 0 {
                break;
            }
        }
        if left < count {
            self.nodes.retain(|node| !node.packed.is_empty());
            self.len -= count - left;
        }
        count - left
    }

    /// The node an index is in, and where it is there. The length is in the last node's place, or behind it.
    fn locate(&self, index: usize) -> (usize, usize) {
        if index <= self.len / 2 {
            let mut left = index;
            for (at, node) in self.nodes.iter().enumerate() {
                if left < node.len() {
                    return (at, left);
                }
                left -= node.len();
            }
            return (self.nodes.len(), left);
        }
        let mut start = self.len;
        for (at, node) in self.nodes.iter().enumerate().rev() {
            start -= node.len();
            if index >= start {
                return (at, index - start);
            }
        }
        (0, index)
    }

    /// The first node whose rows end behind this row.
    fn node_of(&self, row: i64) -> usize {
        self.nodes.partition_point(|node| node.end() <= row)
    }
}

impl<B: AsRef<[u8]>> FromIterator<B> for List {
    fn from_iter<I: IntoIterator<Item = B>>(elements: I) -> Self {
        let mut list = List::default();
        elements.into_iter().for_each(|bytes| list.push_unlogged(bytes.as_ref()));
        list
    }
}

impl Rows for List {
    fn put_row(&mut self, element: &[u8], bytes: &[u8]) -> Result<(), BadRow> {
        let row = row_number(element)?;
        let at = match self.nodes.back() {
            Some(last) if row >= last.end() => self.nodes.len(),
            _ => self.node_of(row),
        };
        if let Some(node) = self.nodes.get(at)
            && row >= node.row
        {
            let offset = (row - node.row) as usize;
            self.replace(at, offset, bytes);
            return Ok(());
        }
        self.len += 1;
        if at > 0 && self.nodes[at - 1].end() == row && self.nodes[at - 1].push_back(bytes) {
            return Ok(());
        }
        if at < self.nodes.len() && self.nodes[at].row - 1 == row && self.nodes[at].push_front(bytes) {
            return Ok(());
        }
        if at == self.nodes.len() {
            self.push_node_back(row, bytes);
        } else {
            self.insert_node(at, Node::of(row, bytes));
        }
        Ok(())
    }

    fn remove_row(&mut self, element: &[u8]) -> Result<(), BadRow> {
        let row = row_number(element)?;
        let at = self.node_of(row);
        let Some(node) = self.nodes.get_mut(at).filter(|node| row >= node.row) else { return Ok(()) };
        let offset = (row - node.row) as usize;
        self.len -= 1;
        if offset == 0 {
            node.packed.remove(0);
            node.row += 1;
        } else {
            if offset + 1 < node.len() {
                self.cut(at, offset + 1);
            }
            self.nodes[at].packed.remove(offset);
        }
        if self.nodes[at].packed.is_empty() {
            self.nodes.remove(at);
        }
        Ok(())
    }

    fn each_row(&self, show: &mut dyn FnMut(&[u8], &[u8])) {
        for node in &self.nodes {
            for (row, item) in (node.row..).zip(&node.packed) {
                show(&row_key(row), item.bytes(&mut Default::default()));
            }
        }
    }

    fn row_count(&self) -> usize {
        self.len
    }

    fn memory_bytes(&self) -> usize {
        const SAMPLES: usize = 5;
        let sampled: usize = self.nodes.iter().take(SAMPLES).map(|node| node.packed.memory_bytes()).sum();
        let packed = match self.nodes.len() {
            nodes @ ..=SAMPLES => sampled * usize::from(nodes > 0),
            nodes => sampled / SAMPLES * nodes,
        };
        size_of::<List>() + self.nodes.capacity() * size_of::<Node>() + packed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::engine::effect::{self, Effect, Row};
    use crate::engine::keys::Edit;
    use crate::engine::{Engine, Scope};

    /// A list in an engine, what its effects make of an empty list, and a model.
    struct Trio {
        engine: Engine,
        replayed: List,
        model: Vec<Vec<u8>>,
        rows_logged: usize,
    }

    impl Trio {
        fn new() -> Trio {
            Trio { engine: Engine::new(true), replayed: List::default(), model: Vec::new(), rows_logged: 0 }
        }

        fn edit<R>(&mut self, run: impl FnOnce(&mut List, &mut RowLog<'_>) -> R) -> R {
            let result = self.engine.write(0, 0, Scope::Keys(&[b"list"]), |keys| {
                let Edit { value, mut log, .. } = keys.edit_or_new::<List>(b"list").unwrap();
                run(value, &mut log)
            });
            for (_, bytes) in self.engine.cut().shards {
                let mut bytes = bytes.as_slice();
                while !bytes.is_empty() {
                    let Effect::Change { rows, .. } = effect::read(&mut bytes).unwrap() else { panic!("only changes are made") };
                    for row in rows {
                        self.rows_logged += 1;
                        match row {
                            Row::Put(element, bytes) => self.replayed.put_row(element, bytes).unwrap(),
                            Row::Remove(element) => self.replayed.remove_row(element).unwrap(),
                        }
                    }
                }
            }
            result
        }

        fn check(&mut self) {
            let (replayed, model) = (std::mem::take(&mut self.replayed), self.model.clone());
            let whole = self.edit(|list, _| {
                assert!(elements(list) == model, "{:?} for {:?}", short(&elements(list)), short(&model));
                assert_eq!(list.len(), model.len());
                assert!(rows(list) == rows(&replayed));
                assert_eq!(replayed.len(), model.len());
                for (index, bytes) in model.iter().enumerate() {
                    assert!(list.get(index).unwrap() == **bytes);
                    assert!(replayed.get(index).unwrap() == **bytes);
                }
                sound(list);
                sound(&replayed);
                let mut rebuilt = List::default();
                list.each_row(&mut |element, bytes| rebuilt.put_row(element, bytes).unwrap());
                sound(&rebuilt);
                assert!(rows(list) == rows(&rebuilt));
                rebuilt
            });
            assert_eq!(whole.len(), model.len());
            self.replayed = replayed;
        }
    }

    /// Elements that can be read when a test fails.
    fn short(elements: &[Vec<u8>]) -> Vec<String> {
        elements.iter().map(|bytes| format!("{}x{}", bytes.len(), char::from(bytes[0]))).collect()
    }

    fn elements(list: &List) -> Vec<Vec<u8>> {
        list.iter().map(|item| item.to_vec()).collect()
    }

    fn rows(list: &List) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut rows = Vec::new();
        list.each_row(&mut |element, bytes| rows.push((element.to_vec(), bytes.to_vec())));
        assert!(rows.is_sorted_by(|one, other| one.0 < other.0));
        rows
    }

    fn sound(list: &List) {
        assert!(list.nodes.iter().all(|node| !node.packed.is_empty()));
        assert_eq!(list.nodes.iter().map(Node::len).sum::<usize>(), list.len);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push(bool, Vec<u8>),
        Pop(bool),
        Insert(usize, Vec<u8>),
        InsertMany(usize, usize),
        Set(usize, Vec<u8>),
        RemoveRange(usize, usize),
        RemoveEqual(Vec<u8>, usize, bool),
        Range(usize, usize),
    }

    fn element() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            4 => (0..4u8).prop_map(|n| vec![b'a' + n; 700]),
            4 => (0..30i64).prop_map(|n| (n * 37 - 300).to_string().into_bytes()),
            1 => (0..3usize).prop_map(|n| vec![b'x'; 7000 + n * 1000]),
        ]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (any::<bool>(), element()).prop_map(|(left, bytes)| Step::Push(left, bytes)),
            2 => any::<bool>().prop_map(Step::Pop),
            3 => (any::<usize>(), element()).prop_map(|(at, bytes)| Step::Insert(at, bytes)),
            2 => (any::<usize>(), 0usize..60).prop_map(|(at, count)| Step::InsertMany(at, count)),
            2 => (any::<usize>(), element()).prop_map(|(at, bytes)| Step::Set(at, bytes)),
            1 => (any::<usize>(), 0usize..10).prop_map(|(at, count)| Step::RemoveRange(at, count)),
            1 => (element(), 0usize..4, any::<bool>()).prop_map(|(bytes, count, left)| Step::RemoveEqual(bytes, count, left)),
            1 => (any::<usize>(), 0usize..100).prop_map(|(at, count)| Step::Range(at, count)),
        ]
    }

    fn end(is_left: bool) -> End {
        if is_left { End::Left } else { End::Right }
    }

    fn run(trio: &mut Trio, step: Step) {
        let len = trio.model.len();
        match step {
            Step::Push(left, bytes) => {
                trio.edit(|list, log| list.push(end(left), &bytes, log));
                trio.model.insert(if left { 0 } else { len }, bytes);
            }
            Step::Pop(left) if len > 0 => {
                let expected = trio.model.remove(if left { 0 } else { len - 1 });
                trio.edit(|list, log| {
                    assert!(list.peek(end(left)).unwrap() == *expected);
                    list.drop_one(end(left), log);
                });
            }
            Step::Insert(at, bytes) => {
                trio.edit(|list, log| list.insert(at % (len + 1), &bytes, log));
                trio.model.insert(at % (len + 1), bytes);
            }
            Step::InsertMany(at, count) => {
                for n in 0..count {
                    let bytes = vec![b'0' + (n % 10) as u8; 500];
                    trio.edit(|list, log| list.insert(at % (len + 1), &bytes, log));
                    trio.model.insert(at % (len + 1), bytes);
                }
            }
            Step::Set(at, bytes) if len > 0 => {
                trio.edit(|list, log| list.set(at % len, &bytes, log));
                trio.model[at % len] = bytes;
            }
            Step::RemoveRange(at, count) if len > 0 => {
                trio.edit(|list, log| list.remove_range(at % len, count, log));
                trio.model.drain(at % len..(at % len + count).min(len));
            }
            Step::RemoveEqual(bytes, count, left) => {
                let mut found: Vec<usize> = (0..len).filter(|&index| trio.model[index] == bytes).collect();
                if !left {
                    found.reverse();
                }
                found.truncate(count);
                found.sort();
                found.iter().rev().for_each(|&index| drop(trio.model.remove(index)));
                assert_eq!(trio.edit(|list, log| list.remove_equal(&bytes, count, end(left), log)), found.len());
            }
            Step::Range(at, count) => {
                let (from, to) = (at % (len + 1), (at % (len + 1) + count).min(len));
                let found = trio.edit(|list, _| list.range(from, count).map(|item| item.to_vec()).collect::<Vec<_>>());
                assert!(found == trio.model[from..to]);
            }
            Step::Pop(_) | Step::Set(..) | Step::RemoveRange(..) => {}
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(50))]

        #[test]
        fn does_what_a_vec_does_and_replays_to_the_same(steps in prop::collection::vec(step(), 0..60)) {
            let mut trio = Trio::new();
            for step in steps {
                run(&mut trio, step);
                trio.check();
            }
        }
    }

    #[test]
    fn a_change_in_the_middle_of_a_long_list_is_some_rows() {
        let mut trio = Trio::new();
        for n in 0..20_000 {
            run(&mut trio, Step::Push(n % 2 == 0, format!("element:{n:08}").into_bytes()));
        }
        trio.rows_logged = 0;
        run(&mut trio, Step::Insert(10_000, b"new".to_vec()));
        run(&mut trio, Step::RemoveEqual(b"new".to_vec(), 1, true));
        run(&mut trio, Step::Set(9_000, b"other".to_vec()));
        run(&mut trio, Step::RemoveRange(5_000, 1));
        assert!(trio.rows_logged < 1_000, "{}", trio.rows_logged);
        trio.check();
    }

    #[test]
    fn a_long_list_takes_little_more_than_its_bytes() {
        let list: List = (0..100_000).map(|n| format!("element:{n:08}")).collect();
        let bytes = 100_000 * (16 + 2);
        assert!(list.memory_bytes() < bytes + bytes / 50, "{} for {bytes}", list.memory_bytes());
    }

    #[test]
    fn a_row_of_other_length_is_refused() {
        assert_eq!(List::default().put_row(b"1", b""), Err(BadRow));
        assert_eq!(List::default().put_row(&row_key(i64::MAX), b""), Err(BadRow));
    }

    #[test]
    fn row_numbers_far_out_are_given_anew() {
        let mut trio = Trio::new();
        for row in [ROW_MAX, -ROW_MAX] {
            trio.edit(|list, log| {
                list.put_row(&row_key(row), b"far").unwrap();
                put(log, row, Item::Bytes(b"far"));
            });
        }
        trio.model = vec![b"far".to_vec(), b"far".to_vec()];
        for left in [true, false] {
            run(&mut trio, Step::Push(left, b"next".to_vec()));
            trio.check();
        }
        assert!(trio.replayed.nodes.iter().all(|node| node.row.abs() < ROW_MAX));
    }
}
