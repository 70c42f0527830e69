//! A list as rows: their numbers, and what rows make of a list.

use crate::engine::log::RowLog;
use crate::engine::rows::{BadRow, Rows};
use crate::engine::types::list::node::ROW_MAX;
use crate::engine::types::list::node::{Node, remove, row_key, row_number};
use crate::engine::types::list::{GAP, List};

impl List {
    /// Renumbers one side of an element that was just put into a node, so that it has a row number of its own.
    pub(super) fn make_row(&mut self, at: usize, offset: usize, log: &mut RowLog<'_>) {
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
    pub(super) fn insert_between(&mut self, at: usize, bytes: &[u8], log: &mut RowLog<'_>) {
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
    pub(super) fn renumber(&mut self, log: &mut RowLog<'_>) {
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

    /// The first node whose rows end behind this row.
    pub(super) fn node_of(&self, row: i64) -> usize {
        self.nodes.partition_point(|node| node.end() <= row)
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
