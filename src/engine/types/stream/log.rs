//! What is told to the log of a stream's changes: the keys of its rows and their bytes. How they are read is in `rows`.

use smallvec::SmallVec;

use crate::engine::effect::{push_bytes, push_len};
use crate::engine::log::RowLog;
use crate::engine::types::stream::group::{Consumer, Group, Pending};
use crate::engine::types::stream::id::Id;
use crate::engine::types::stream::sequence::Sequence;

pub(super) const SEQUENCE: u8 = 0;
pub(super) const ENTRY: u8 = 1;
pub(super) const GROUP: u8 = 2;
pub(super) const CONSUMER: u8 = 3;
pub(super) const PENDING: u8 = 4;

/// An element key.
pub(super) type Element = SmallVec<[u8; 64]>;

/// The element key of an entry.
pub(crate) fn entry_row(id: Id) -> [u8; 17] {
    let mut element = [ENTRY; 17];
    element[1..].copy_from_slice(&id.to_bytes());
    element
}

/// The element key of a group.
pub(crate) fn group_row(name: &[u8]) -> Element {
    let mut element = Element::from_slice(&[GROUP]);
    element.extend_from_slice(name);
    element
}

/// The element key of a consumer.
pub(crate) fn consumer_row(group: &[u8], name: &[u8]) -> Element {
    in_group(CONSUMER, group, name)
}

/// The element key of a delivery that waits to be acknowledged.
pub(crate) fn pending_row(group: &[u8], id: Id) -> Element {
    in_group(PENDING, group, &id.to_bytes())
}

fn in_group(prefix: u8, group: &[u8], rest: &[u8]) -> Element {
    let mut element = Element::from_slice(&[prefix]);
    let mut len = group.len();
    while len >= 0x80 {
        element.push(len as u8 | 0x80);
        len >>= 7;
    }
    element.push(len as u8);
    element.extend_from_slice(group);
    element.extend_from_slice(rest);
    element
}

/// Records what is known of earlier entries.
pub(crate) fn log_sequence(log: &mut RowLog<'_>, sequence: &Sequence) {
    log.put(&[SEQUENCE], &sequence_bytes(sequence));
}

/// Records an entry, the `number`th ever added.
pub(crate) fn log_entry<'f>(
    log: &mut RowLog<'_>,
    id: Id,
    number: u64,
    fields: impl Iterator<Item = (&'f [u8], &'f [u8])> + Clone,
) {
    let len: usize = fields.clone().map(|(name, value)| name.len() + value.len() + 6).sum();
    let mut bytes = Vec::with_capacity(len + 10);
    push_len(&mut bytes, number as usize);
    for (name, value) in fields {
        push_bytes(&mut bytes, name);
        push_bytes(&mut bytes, value);
    }
    log.put(&entry_row(id), &bytes);
}

/// Records how far a group has read.
pub(crate) fn log_group(log: &mut RowLog<'_>, name: &[u8], group: &Group) {
    log.put(&group_row(name), &group_bytes(group));
}

/// Records a consumer's times.
pub(crate) fn log_consumer(log: &mut RowLog<'_>, group: &[u8], consumer: &Consumer) {
    log.put(&consumer_row(group, &consumer.name), &consumer_bytes(consumer));
}

/// Records a delivery.
pub(crate) fn log_pending(log: &mut RowLog<'_>, group: &[u8], id: Id, pending: &Pending, consumer: &[u8]) {
    log.put(&pending_row(group, id), &pending_bytes(pending, consumer));
}

pub(super) fn sequence_bytes(sequence: &Sequence) -> [u8; 40] {
    let mut bytes = [0; 40];
    bytes[..16].copy_from_slice(&sequence.last_id.to_bytes());
    bytes[16..32].copy_from_slice(&sequence.max_deleted_id.to_bytes());
    bytes[32..].copy_from_slice(&sequence.added.to_le_bytes());
    bytes
}

pub(super) fn group_bytes(group: &Group) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..16].copy_from_slice(&group.last_id.to_bytes());
    bytes[16..].copy_from_slice(&group.entries_read.unwrap_or(-1).to_le_bytes());
    bytes
}

pub(super) fn consumer_bytes(consumer: &Consumer) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&consumer.seen_at.to_le_bytes());
    bytes[8..].copy_from_slice(&consumer.active_at.unwrap_or(0).to_le_bytes());
    bytes
}

pub(super) fn pending_bytes(pending: &Pending, consumer: &[u8]) -> Element {
    let mut bytes = Element::from_slice(&pending.delivered_at.to_le_bytes());
    bytes.extend_from_slice(&pending.deliveries.to_le_bytes());
    bytes.extend_from_slice(consumer);
    bytes
}
