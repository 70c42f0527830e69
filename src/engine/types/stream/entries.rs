//! A stream's entries: packed into blocks, in the order of their ids.
//!
//! A block holds the names of its first entry's fields once, then entries:
//!
//! ```text
//! count of fields | names … | ms - base.ms | seq (less base.seq in the same ms) | body bytes * 2 + has own names | body
//! ```
//!
//! A body holds values, or for an entry with own names their count, then names and values in turn. Numbers are LEB128; a
//! value is its length times two and its bytes, or, for the text of an integer, the integer's bytes times two plus one
//! and the integer. An entry that is removed leaves nothing behind.

use std::collections::VecDeque;

use smallvec::SmallVec;

use crate::engine::types::stream::id::Id;
use crate::engine::types::string::{IntText, canonical_int};
use crate::limits;

/// Bytes a block holds at most where `stream-node-max-bytes` sets no bound: removing an entry moves what follows it.
const UNBOUND_BYTES: usize = 64 * 1024;

/// Entries by their ids.
#[derive(Default, Clone)]
pub(crate) struct Entries {
    /// Invariant: no block is empty; bases and ids ascend.
    blocks: VecDeque<Block>,
    len: usize,
}

#[derive(Clone)]
struct Block {
    /// Ids are stored relative to this; none is below it, and the entry that had it may be gone.
    base: Id,
    /// The id of the last entry.
    last: Id,
    count: u32,
    /// How many entries it held at one time or another: those count as well when it comes to be full, as in Redis.
    written: u32,
    /// Where the first entry starts, behind the names.
    start: u32,
    bytes: Vec<u8>,
}

/// An entry, in its packed form.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    /// Its id.
    pub id: Id,
    /// How many fields it has.
    pub fields: usize,
    /// The names, where they stand apart from the values.
    names: Option<&'a [u8]>,
    body: &'a [u8],
}

/// A field's name or value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Text<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// The text of this integer.
    Int(i64),
}

impl<'a> Text<'a> {
    /// The bytes; `text` gives an integer's digits a place to stand.
    pub(crate) fn bytes<'t>(self, text: &'t mut IntText) -> &'t [u8]
    where
        'a: 't,
    {
        match self {
            Text::Bytes(bytes) => bytes,
            Text::Int(number) => text.format(number).as_bytes(),
        }
    }
}

impl<'a> Entry<'a> {
    /// Names and values, in turn.
    pub(crate) fn texts(self) -> impl Iterator<Item = Text<'a>> {
        let (mut names, mut body) = (self.names, self.body);
        (0..self.fields * 2).map(move |at| match &mut names {
            Some(names) if at % 2 == 0 => take_text(names),
            _ => take_text(&mut body),
        })
    }
}

impl Entries {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many blocks they are in.
    pub(crate) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// The first one.
    pub(crate) fn first(&self) -> Option<Entry<'_>> {
        let block = self.blocks.front()?;
        Some(block.entry(block.place(block.start as usize)))
    }

    /// The id of the first one; the lowest id where there is none.
    pub(crate) fn first_id(&self) -> Id {
        self.first().map_or(Id::MIN, |entry| entry.id)
    }

    /// The id of the last one; the lowest id where there is none.
    pub(crate) fn last_id(&self) -> Id {
        self.blocks.back().map_or(Id::MIN, |block| block.last)
    }

    /// The one with this id.
    pub(crate) fn get(&self, id: Id) -> Option<Entry<'_>> {
        self.range(id, id).next()
    }

    /// Those from `start` to `end`, both included, in order.
    pub(crate) fn range(&self, start: Id, end: Id) -> Range<'_> {
        let from = self.blocks.partition_point(|block| block.last < start);
        Range { blocks: self.blocks.range(from..), block: None, start, end }
    }

    /// Those from `end` down to `start`, both included.
    pub(crate) fn range_back(&self, start: Id, end: Id) -> RangeBack<'_> {
        let to = self.blocks.partition_point(|block| block.base <= end);
        RangeBack { blocks: self.blocks.range(..to), block: None, starts: SmallVec::new(), start, end }
    }

    /// Adds an entry above all others.
    pub(crate) fn push<'f>(&mut self, id: Id, fields: impl Iterator<Item = (&'f [u8], &'f [u8])> + Clone) {
        debug_assert!(self.len == 0 || id > self.last_id());
        if self.blocks.back().is_none_or(|block| block.is_full(bytes_of(fields.clone()))) {
            if let Some(full) = self.blocks.back_mut() {
                full.bytes.shrink_to_fit();
            }
            self.blocks.push_back(Block::new(id, fields.clone()));
        }
        let block = self.blocks.back_mut().expect("one was there or was pushed");
        block.insert(block.bytes.len(), id, fields);
        block.last = id;
        self.len += 1;
    }

    /// Puts an entry where its id belongs, in place of one that has it. For rows, which may come in any order.
    pub(crate) fn put<'f>(&mut self, id: Id, fields: impl Iterator<Item = (&'f [u8], &'f [u8])> + Clone) {
        if self.len == 0 || id > self.last_id() {
            return self.push(id, fields);
        }
        self.remove(id);
        self.len += 1;
        let behind = self.blocks.partition_point(|block| block.base <= id);
        let bytes = bytes_of(fields.clone());
        let room = behind.checked_sub(1).filter(|&at| id < self.blocks[at].last || !self.blocks[at].is_full(bytes));
        let Some(at) = room else {
            self.blocks.insert(behind, Block::new(id, fields.clone()));
            let block = &mut self.blocks[behind];
            return block.insert(block.start as usize, id, fields);
        };
        let block = &mut self.blocks[at];
        let offset = block.places().find(|place| place.id > id).map_or(block.bytes.len(), |place| place.start);
        block.insert(offset, id, fields);
        block.last = block.last.max(id);
    }

    /// Removes the entry with this id; tells whether there was one.
    pub(crate) fn remove(&mut self, id: Id) -> bool {
        let at = self.blocks.partition_point(|block| block.last < id);
        let Some(block) = self.blocks.get_mut(at).filter(|block| block.base <= id) else { return false };
        if !block.remove(id) {
            return false;
        }
        if block.count == 0 {
            self.blocks.remove(at);
        }
        self.len -= 1;
        true
    }

    /// How many entries the first block holds, and the id of its last.
    pub(crate) fn first_block(&self) -> Option<(usize, Id)> {
        self.blocks.front().map(|block| (block.count as usize, block.last))
    }

    /// Removes entries of the first block from its front: `count` of them, which it must hold. Shows each one's id.
    pub(crate) fn remove_front(&mut self, count: usize, mut show: impl FnMut(Id)) {
        let Some(block) = self.blocks.front_mut() else { return };
        let mut end = block.start as usize;
        for place in block.places().take(count) {
            show(place.id);
            end = place.end;
        }
        self.len -= count;
        if count == block.count as usize {
            self.blocks.pop_front();
        } else {
            block.bytes.drain(block.start as usize..end);
            block.count -= count as u32;
        }
    }

    /// Bytes taken in memory, from a look at a few blocks.
    pub(crate) fn memory_bytes(&self) -> usize {
        const LOOK: usize = 5;
        let looked: usize = self.blocks.iter().rev().take(LOOK).map(|block| block.bytes.capacity()).sum();
        let average = looked / self.blocks.len().clamp(1, LOOK);
        self.blocks.capacity() * size_of::<Block>() + self.blocks.len() * average
    }
}

impl Block {
    /// A block without entries, with the names of the entry that will be its first.
    fn new<'f>(base: Id, fields: impl Iterator<Item = (&'f [u8], &'f [u8])> + Clone) -> Block {
        let mut bytes = Vec::new();
        push_number(&mut bytes, fields.clone().count() as u64);
        fields.for_each(|(name, _)| push_plain(&mut bytes, name));
        Block { base, last: base, count: 0, written: 0, start: bytes.len() as u32, bytes }
    }

    fn is_full(&self, more_bytes: usize) -> bool {
        let entries_max = limits::get(&limits::STREAM_NODE_MAX_ENTRIES);
        let bytes_max = match limits::get(&limits::STREAM_NODE_MAX_BYTES) {
            0 => UNBOUND_BYTES,
            // Positions within a block are kept in 32 bits.
            bytes => bytes.min(1 << 30),
        };
        self.bytes.len() + more_bytes >= bytes_max || (entries_max > 0 && self.written as usize >= entries_max)
    }

    /// Writes an entry at an offset where one starts, or at the end.
    fn insert<'f>(&mut self, offset: usize, id: Id, fields: impl Iterator<Item = (&'f [u8], &'f [u8])> + Clone) {
        let own_names = !self.has_names(fields.clone());
        let mut body = Vec::with_capacity(bytes_of(fields.clone()) + 32);
        if own_names {
            push_number(&mut body, fields.clone().count() as u64);
        }
        for (name, value) in fields {
            if own_names {
                push_plain(&mut body, name);
            }
            push_text(&mut body, value);
        }
        let mut head = Vec::with_capacity(30);
        push_number(&mut head, id.ms - self.base.ms);
        push_number(&mut head, if id.ms == self.base.ms { id.seq - self.base.seq } else { id.seq });
        push_number(&mut head, (body.len() as u64) << 1 | u64::from(own_names));
        if offset == self.bytes.len() {
            self.bytes.reserve(head.len() + body.len());
            self.bytes.extend_from_slice(&head);
            self.bytes.extend_from_slice(&body);
        } else {
            self.bytes.splice(offset..offset, head.into_iter().chain(body));
        }
        self.count += 1;
        self.written = self.written.saturating_add(1);
    }

    fn has_names<'f>(&self, fields: impl Iterator<Item = (&'f [u8], &'f [u8])>) -> bool {
        let mut names = &self.bytes[..self.start as usize];
        let mut left = take_number(&mut names);
        for (name, _) in fields {
            if left == 0 || take_text(&mut names) != Text::Bytes(name) {
                return false;
            }
            left -= 1;
        }
        left == 0
    }

    fn remove(&mut self, id: Id) -> bool {
        let Some(place) = self.places().find(|place| place.id >= id).filter(|place| place.id == id) else { return false };
        self.bytes.drain(place.start..place.end);
        self.count -= 1;
        if id == self.last {
            let last = self.places().last().map(|place| place.id);
            self.last = last.unwrap_or(self.base);
        }
        true
    }

    /// What stands at an offset where an entry starts.
    #[inline]
    fn place(&self, start: usize) -> Place {
        let mut rest = &self.bytes[start..];
        let ms = take_number(&mut rest);
        let seq = take_number(&mut rest);
        let head = take_number(&mut rest);
        let body = self.bytes.len() - rest.len();
        let id = Id::new(self.base.ms + ms, if ms == 0 { self.base.seq + seq } else { seq });
        Place { id, start, body, end: body + (head >> 1) as usize, own_names: head & 1 == 1 }
    }

    fn entry(&self, place: Place) -> Entry<'_> {
        let mut body = &self.bytes[place.body..place.end];
        let mut names = &self.bytes[..self.start as usize];
        let fields = take_number(if place.own_names { &mut body } else { &mut names }) as usize;
        Entry { id: place.id, fields, names: (!place.own_names).then_some(names), body }
    }

    fn places(&self) -> Places<'_> {
        Places { block: self, at: self.start as usize }
    }
}

/// Where an entry stands in its block.
#[derive(Clone, Copy)]
struct Place {
    id: Id,
    start: usize,
    body: usize,
    end: usize,
    own_names: bool,
}

/// The places of a block's entries.
struct Places<'a> {
    block: &'a Block,
    at: usize,
}

impl Iterator for Places<'_> {
    type Item = Place;

    #[inline]
    fn next(&mut self) -> Option<Place> {
        if self.at == self.block.bytes.len() {
            return None;
        }
        let place = self.block.place(self.at);
        self.at = place.end;
        Some(place)
    }
}

/// See [`Entries::range`].
pub(crate) struct Range<'a> {
    blocks: std::collections::vec_deque::Iter<'a, Block>,
    block: Option<Places<'a>>,
    start: Id,
    end: Id,
}

impl<'a> Iterator for Range<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            if let Some(places) = &mut self.block {
                let (start, block) = (self.start, places.block);
                if let Some(place) = places.find(|place| place.id >= start) {
                    if place.id <= self.end {
                        return Some(block.entry(place));
                    }
                    self.blocks = Default::default();
                    self.block = None;
                    return None;
                }
            }
            self.block = Some(self.blocks.next()?.places());
        }
    }
}

/// See [`Entries::range_back`].
pub(crate) struct RangeBack<'a> {
    blocks: std::collections::vec_deque::Iter<'a, Block>,
    block: Option<&'a Block>,
    /// Where entries of the block start that are still to come, the next one last.
    starts: SmallVec<[u32; 128]>,
    start: Id,
    end: Id,
}

impl<'a> Iterator for RangeBack<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            if let (Some(block), Some(start)) = (self.block, self.starts.pop()) {
                return Some(block.entry(block.place(start as usize)));
            }
            let block = self.blocks.next_back().filter(|block| block.last >= self.start)?;
            let wanted = block.places().skip_while(|place| place.id < self.start).take_while(|place| place.id <= self.end);
            wanted.for_each(|place| self.starts.push(place.start as u32));
            self.block = Some(block);
        }
    }
}

/// Bytes of names and values, without what packing adds or saves.
fn bytes_of<'f>(fields: impl Iterator<Item = (&'f [u8], &'f [u8])>) -> usize {
    fields.map(|(name, value)| name.len() + value.len()).sum()
}

#[inline]
fn push_number(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

/// Takes a number off the front of bytes that [`push_number`] wrote.
#[inline]
fn take_number(from: &mut &[u8]) -> u64 {
    if let [byte @ 0..0x80, rest @ ..] = from {
        *from = rest;
        return u64::from(*byte);
    }
    let mut number = 0;
    for (at, &byte) in from.iter().enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            *from = &from[at + 1..];
            return number;
        }
    }
    unreachable!("a block is only written by this file")
}

fn push_plain(to: &mut Vec<u8>, bytes: &[u8]) {
    push_number(to, (bytes.len() as u64) << 1);
    to.extend_from_slice(bytes);
}

fn push_text(to: &mut Vec<u8>, bytes: &[u8]) {
    // One digit takes as much room as its number.
    let number = if (2..=20).contains(&bytes.len()) { canonical_int(bytes) } else { None };
    let Some(number) = number else { return push_plain(to, bytes) };
    let zigzag = ((number << 1) ^ (number >> 63)) as u64;
    let width = (64 - zigzag.leading_zeros()).div_ceil(8) as usize;
    push_number(to, (width as u64) << 1 | 1);
    to.extend_from_slice(&zigzag.to_le_bytes()[..width]);
}

/// Takes a text off the front of bytes that [`push_text`] or [`push_plain`] wrote.
#[inline]
fn take_text<'a>(from: &mut &'a [u8]) -> Text<'a> {
    let head = take_number(from);
    let (bytes, rest) = from.split_at((head >> 1) as usize);
    *from = rest;
    if head & 1 == 0 {
        return Text::Bytes(bytes);
    }
    let mut zigzag = [0; 8];
    zigzag[..bytes.len()].copy_from_slice(bytes);
    let zigzag = u64::from_le_bytes(zigzag);
    Text::Int((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(texts: &[&'static str]) -> Vec<(&'static [u8], &'static [u8])> {
        texts.chunks(2).map(|pair| (pair[0].as_bytes(), pair[1].as_bytes())).collect()
    }

    fn shown(entry: Entry<'_>) -> String {
        let texts: Vec<_> =
            entry.texts().map(|text| String::from_utf8_lossy(text.bytes(&mut IntText::new())).into_owned()).collect();
        format!("{} {}", entry.id, texts.join(" "))
    }

    #[test]
    fn entries_come_back_as_they_were_put() {
        let mut entries = Entries::default();
        let long = "x".repeat(5000).leak();
        let all = [
            (Id::new(5, 3), vec!["a", "1", "b", "-17"]),
            (Id::new(5, 4), vec!["a", "9223372036854775807", "b", "-9223372036854775808"]),
            (Id::new(5, u64::MAX), vec!["a", "007", "b", ""]),
            (Id::new(6, 0), vec!["a", "1"]),
            (Id::new(7, 0), vec!["", "", "10", "10", "10", "12345"]),
            (Id::new(8, 1), vec!["big", long]),
            (Id::MAX, vec!["a", "1", "b", "2"]),
        ];
        for (id, texts) in &all {
            entries.push(*id, fields(texts).into_iter());
        }
        let expected: Vec<_> = all.iter().map(|(id, texts)| format!("{id} {}", texts.join(" "))).collect();
        assert_eq!(entries.range(Id::MIN, Id::MAX).map(shown).collect::<Vec<_>>(), expected);
        let mut back: Vec<_> = entries.range_back(Id::MIN, Id::MAX).map(shown).collect();
        back.reverse();
        assert_eq!(back, expected);
        assert!(entries.blocks() > 1);
    }

    #[test]
    fn any_order_of_puts_and_removals_gives_the_same_entries() {
        let (mut entries, mut model) = (Entries::default(), std::collections::BTreeMap::new());
        for _ in 0..20_000 {
            let id = Id::new(crate::id::random_below(60) as u64, crate::id::random_below(30) as u64);
            if crate::id::random_below(3) > 0 {
                let value = crate::id::random_below(100_000).to_string().into_bytes();
                let name: &[u8] = if id.seq.is_multiple_of(7) { b"other" } else { b"name" };
                entries.put(id, std::iter::once((name, &*value)));
                model.insert(id, format!("{id} {} {}", String::from_utf8_lossy(name), String::from_utf8_lossy(&value)));
            } else {
                assert_eq!(entries.remove(id), model.remove(&id).is_some());
            }
            assert_eq!(entries.len(), model.len());
            assert_eq!(entries.last_id(), model.last_key_value().map_or(Id::MIN, |(id, _)| *id));
        }
        assert_eq!(entries.range(Id::MIN, Id::MAX).map(shown).collect::<Vec<_>>(), model.values().cloned().collect::<Vec<_>>());
        let (start, end) = (Id::new(20, 10), Id::new(40, 10));
        let mut part: Vec<_> = entries.range_back(start, end).map(shown).collect();
        part.reverse();
        assert_eq!(part, model.range(start..=end).map(|(_, text)| text.clone()).collect::<Vec<_>>());
        assert_eq!(part, entries.range(start, end).map(shown).collect::<Vec<_>>());
        while let Some((count, last)) = entries.first_block() {
            let mut seen = Vec::new();
            entries.remove_front(count.div_ceil(2), |id| seen.push(id));
            assert!(seen.iter().all(|id| *id <= last && model.remove(id).is_some()));
        }
        assert!(model.is_empty() && entries.is_empty());
    }
}
