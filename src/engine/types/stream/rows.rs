//! A stream as rows, and read from them. What they mean is in the head of `stream`.

use crate::engine::effect::{push_bytes, push_len, take_byte, take_bytes, take_len, take_u64};
use crate::engine::rows::{BadRow, Rows};
use crate::engine::types::stream::Stream;
use crate::engine::types::stream::group::{Group, Pending};
use crate::engine::types::stream::id::Id;
use crate::engine::types::stream::log::{
    CONSUMER, ENTRY, GROUP, PENDING, SEQUENCE, consumer_bytes, consumer_row, entry_row, group_bytes, group_row, pending_bytes,
    pending_row, sequence_bytes,
};
use crate::engine::types::string::IntText;

fn take_id(from: &mut &[u8]) -> Result<Id, BadRow> {
    let (bytes, rest) = from.split_first_chunk::<16>().ok_or(BadRow::Bytes)?;
    *from = rest;
    Ok(Id::from_bytes(*bytes))
}

/// The one thing left in these bytes.
fn only<T>(mut from: &[u8], take: impl FnOnce(&mut &[u8]) -> Result<T, BadRow>) -> Result<T, BadRow> {
    let taken = take(&mut from)?;
    if from.is_empty() { Ok(taken) } else { Err(BadRow::Bytes) }
}

/// Names and values of an entry's row, which were checked.
fn fields(bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> + Clone {
    let mut rest = bytes;
    std::iter::from_fn(move || Some((take_bytes(&mut rest).ok()?, take_bytes(&mut rest).ok()?)))
}

impl Stream {
    fn put_entry(&mut self, id: Id, mut bytes: &[u8]) -> Result<(), BadRow> {
        let number = take_len(&mut bytes)? as u64;
        let mut rest = bytes;
        while !rest.is_empty() {
            take_bytes(&mut rest)?;
            take_bytes(&mut rest)?;
        }
        self.sequence.entries.put(id, fields(bytes));
        if id > self.sequence.last_id {
            self.sequence.last_id = id;
            self.sequence.added = number;
        }
        Ok(())
    }

    fn put_sequence(&mut self, mut from: &[u8]) -> Result<(), BadRow> {
        self.sequence.last_id = take_id(&mut from)?;
        self.sequence.max_deleted_id = take_id(&mut from)?;
        self.sequence.added = only(from, take_u64)?;
        Ok(())
    }

    fn put_group(&mut self, name: &[u8], mut from: &[u8]) -> Result<(), BadRow> {
        let last_id = take_id(&mut from)?;
        let entries_read = only(from, take_u64)? as i64;
        let group = self.group_or_new(name);
        group.last_id = last_id;
        group.entries_read = (entries_read != -1).then_some(entries_read);
        Ok(())
    }

    fn put_consumer(&mut self, group: &[u8], name: &[u8], mut from: &[u8]) -> Result<(), BadRow> {
        let seen_at = take_u64(&mut from)?;
        let active_at = only(from, take_u64)?;
        let group = self.group_or_new(group);
        let (number, _) = group.consumer_or_new(name, seen_at);
        let consumer = group.consumer_mut(number);
        consumer.seen_at = seen_at;
        consumer.active_at = (active_at != 0).then_some(active_at);
        Ok(())
    }

    fn put_pending(&mut self, group: &[u8], id: Id, mut from: &[u8]) -> Result<(), BadRow> {
        let delivered_at = take_u64(&mut from)?;
        let deliveries = take_u64(&mut from)?;
        let group = self.group_or_new(group);
        // A consumer has a row of its own, which comes first or, replayed over what came of it, follows.
        let (consumer, _) = group.consumer_or_new(from, delivered_at);
        group.assign(id, Pending { delivered_at, deliveries, consumer });
        Ok(())
    }

    fn group_or_new(&mut self, name: &[u8]) -> &mut Group {
        self.groups.entry(name.into()).or_default()
    }
}

impl Rows for Stream {
    fn put_row(&mut self, mut element: &[u8], bytes: &[u8]) -> Result<(), BadRow> {
        match take_byte(&mut element)? {
            SEQUENCE if element.is_empty() => self.put_sequence(bytes),
            ENTRY => self.put_entry(only(element, take_id)?, bytes),
            GROUP => self.put_group(element, bytes),
            CONSUMER => self.put_consumer(take_bytes(&mut element)?, element, bytes),
            PENDING => {
                let group = take_bytes(&mut element)?;
                self.put_pending(group, only(element, take_id)?, bytes)
            }
            _ => Err(BadRow::Bytes),
        }
    }

    fn remove_row(&mut self, mut element: &[u8]) -> Result<(), BadRow> {
        match take_byte(&mut element)? {
            ENTRY => {
                self.sequence.entries.remove(only(element, take_id)?);
            }
            GROUP => {
                self.groups.remove(element);
            }
            CONSUMER => {
                if let Some(group) = self.groups.get_mut(take_bytes(&mut element)?) {
                    group.remove_consumer(element);
                }
            }
            PENDING => {
                if let Some(group) = self.groups.get_mut(take_bytes(&mut element)?) {
                    group.forget(only(element, take_id)?);
                }
            }
            _ => return Err(BadRow::Bytes),
        }
        Ok(())
    }

    fn each_row(&self, show: &mut dyn FnMut(&[u8], &[u8])) {
        show(&[SEQUENCE], &sequence_bytes(&self.sequence));
        let mut bytes = Vec::new();
        for entry in self.sequence.entries.range(Id::MIN, Id::MAX) {
            bytes.clear();
            push_len(&mut bytes, 0);
            entry.texts().for_each(|text| push_bytes(&mut bytes, text.bytes(&mut IntText::new())));
            show(&entry_row(entry.id), &bytes);
        }
        for (name, group) in &self.groups {
            show(&group_row(name), &group_bytes(group));
        }
        for (name, group) in &self.groups {
            group.consumers().for_each(|consumer| show(&consumer_row(name, &consumer.name), &consumer_bytes(consumer)));
        }
        for (name, group) in &self.groups {
            for (id, pending) in group.pending() {
                let consumer = group.consumer(pending.consumer);
                show(&pending_row(name, *id), &pending_bytes(pending, &consumer.name));
            }
        }
    }

    fn row_count(&self) -> usize {
        let groups = self.groups.values().map(|group| 1 + group.consumer_count() + group.pending().len());
        1 + self.len() + groups.sum::<usize>()
    }

    fn memory_bytes(&self) -> usize {
        size_of::<Stream>()
            + self.sequence.entries.memory_bytes()
            + self.groups.values().map(|group| group.memory_bytes()).sum::<usize>()
    }
}
