//! The list: nodes of packed elements, quick at both ends, a node's work in the middle.
//!
//! Each element has a row number; they rise along the list, and within a node they are without gaps. A push or a pop is one
//! row. Nodes leave gaps between each other's numbers, so that an insert or a removal in the middle renumbers at
//! most the shorter side of one node, however long the list is. When a gap is used up the whole list is renumbered.

mod node;
mod rows;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::ops::ControlFlow;

use smallvec::SmallVec;

use crate::engine::log::RowLog;
use crate::engine::types::packed::{Item, Packed};
use node::{Node, ROW_MAX, node_bounds, remove, row_key};

/// Row numbers left free between nodes: enough for some ten splits of nodes in one place, and so few that numbers last
/// for 2^42 nodes in either direction. Tests see it used up.
const GAP: i64 = if cfg!(test) { 16 } else { 1 << 20 };

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

/// An end of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The head.
    Left,
    /// The tail.
    Right,
}

impl List {
    /// How many elements it holds.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The name `OBJECT ENCODING` gives.
    pub(crate) fn encoding(&self) -> &'static str {
        let (count, bytes_max) = node_bounds();
        match self.nodes.len() {
            0 => "listpack",
            1 if self.len <= count && self.nodes[0].packed.byte_len() <= bytes_max => "listpack",
            _ => "quicklist",
        }
    }

    /// Adds an element at an end.
    #[inline]
    pub(crate) fn push(&mut self, end: End, bytes: &[u8], log: &mut RowLog<'_>) {
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
    pub(crate) fn push_unlogged(&mut self, bytes: &[u8]) {
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
    pub(crate) fn peek(&self, end: End) -> Option<Item<'_>> {
        match end {
            End::Left => self.nodes.front()?.packed.first(),
            End::Right => self.nodes.back()?.packed.last(),
        }
    }

    /// Removes the element at an end.
    #[inline]
    pub(crate) fn drop_one(&mut self, end: End, log: &mut RowLog<'_>) {
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
    pub(crate) fn get(&self, index: usize) -> Option<Item<'_>> {
        if index >= self.len {
            return None;
        }
        let (node, offset) = self.locate(index);
        self.nodes[node].packed.get(offset)
    }

    /// All elements in order, from either end.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = Item<'_>> {
        self.nodes.iter().flat_map(|node| node.packed.iter())
    }

    /// Up to `count` elements from an index on.
    pub(crate) fn range(&self, index: usize, count: usize) -> impl Iterator<Item = Item<'_>> {
        let (node, offset) = self.locate(index.min(self.len));
        let nodes = self.nodes.range(node.min(self.nodes.len())..);
        let offsets = std::iter::once(offset).chain(std::iter::repeat(0));
        nodes.zip(offsets).flat_map(move |(node, offset)| node.packed.range(offset, count)).take(count)
    }

    /// The index of the first element with these bytes.
    pub(crate) fn find(&self, bytes: &[u8]) -> Option<usize> {
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
    pub(crate) fn each_equal(
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
    pub(crate) fn set(&mut self, index: usize, bytes: &[u8], log: &mut RowLog<'_>) {
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
    pub(crate) fn insert(&mut self, index: usize, bytes: &[u8], log: &mut RowLog<'_>) {
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

    /// Removes up to `count` elements from an index on.
    pub(crate) fn remove_range(&mut self, index: usize, count: usize, log: &mut RowLog<'_>) {
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
    pub(crate) fn remove_equal(&mut self, bytes: &[u8], count: usize, from: End, log: &mut RowLog<'_>) -> usize {
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
}

impl<B: AsRef<[u8]>> FromIterator<B> for List {
    fn from_iter<I: IntoIterator<Item = B>>(elements: I) -> Self {
        let mut list = List::default();
        elements.into_iter().for_each(|bytes| list.push_unlogged(bytes.as_ref()));
        list
    }
}
