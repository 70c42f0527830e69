//! The stream: its data structure and what the commands of its group mean.
//!
//! Rows, by the first byte of their element keys:
//!
//! ```text
//! 0                               last id, highest deleted id, entries ever added
//! 1 id                            the entry's number among all ever added (0 where row 0 tells), names and values
//! 2 group                         id it has read up to, entries it has read (-1: unknown)
//! 3 bytes of group, group, name   a consumer: when seen, when active (0: never)
//! 4 bytes of group, group, id     pending: when delivered, how often, to whom
//! ```
//!
//! Adding an entry writes one row: an entry above the last id of row 0 moves the last id and the count up to its own.

pub(crate) mod entries;
pub(crate) mod group;
pub(crate) mod id;
mod log;
mod rows;
mod sequence;

use std::collections::BTreeMap;

use crate::engine::blob::Blob;
use crate::engine::log::RowLog;
use crate::engine::types::stream::entries::Entry;
use crate::engine::types::stream::group::{ConsumerNumber, Group, Pending};
use crate::engine::types::stream::id::Id;
use crate::engine::types::stream::log::{consumer_row, entry_row, group_row, log_consumer, log_group, log_pending, pending_row};

pub(crate) use sequence::Sequence;

/// A stream.
#[derive(Default, Clone)]
pub struct Stream {
    sequence: Sequence,
    groups: BTreeMap<Blob, Box<Group>>,
}

/// Which entries a trim removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trim {
    /// The oldest, so that this many stay.
    MaxLen(usize),
    /// Those below an id.
    MinId(Id),
}

/// How far a trim goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TrimEffort {
    /// To the end.
    Exact,
    /// Whole blocks only, and at most this many entries; 0 for no limit.
    Blocks { limit: usize },
}

/// What `XCLAIM` does to what it claims.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Claim {
    /// Only what was delivered at least so long ago, in milliseconds; 0 for all.
    pub min_idle_ms: u64,
    /// The time of delivery from now on.
    pub delivered_at: u64,
    /// The count of deliveries from now on; None to count this as one, unless `just_id`.
    pub deliveries: Option<u64>,
    /// Entries that wait for nobody are claimed, too.
    pub force: bool,
    /// Only ids are wanted, which does not count as a delivery.
    pub just_id: bool,
}

/// Under which condition an entry is removed, and what becomes of groups' deliveries of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    /// They stay pending.
    KeepsReferences,
    /// They are forgotten, also where the entry was gone before.
    DropsReferences,
    /// There must be none: each group has read and acknowledged it.
    OnlyAcknowledged,
}

/// What became of an entry that was to be removed, with its number in the reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removed {
    /// There is no such entry.
    NoEntry = -1,
    /// It is gone.
    Yes = 1,
    /// It stays: see [`Removal::OnlyAcknowledged`].
    Awaited = 2,
}

impl Stream {
    /// How many entries it holds.
    pub(crate) fn len(&self) -> usize {
        self.sequence.entries.len()
    }

    /// The entries and what is known of earlier ones.
    pub(crate) fn sequence(&self) -> &Sequence {
        &self.sequence
    }

    /// All groups, in the order of their names.
    pub(crate) fn groups(&self) -> impl ExactSizeIterator<Item = (&[u8], &Group)> {
        self.groups.iter().map(|(name, group)| (&**name, &**group))
    }

    /// The group of this name.
    pub(crate) fn group(&self, name: &[u8]) -> Option<&Group> {
        self.groups.get(name).map(|group| &**group)
    }

    /// The group of this name, to read and acknowledge with.
    pub(crate) fn open_group<'a>(&'a mut self, name: &'a [u8]) -> Option<OpenGroup<'a>> {
        let group = self.groups.get_mut(name)?;
        Some(OpenGroup { name, group, sequence: &self.sequence })
    }

    /// Adds an entry above all there ever were; the caller has checked its id.
    pub(crate) fn add<'f>(&mut self, id: Id, fields: impl Iterator<Item = (&'f [u8], &'f [u8])> + Clone, log: &mut RowLog<'_>) {
        debug_assert!(id > self.sequence.last_id);
        self.sequence.entries.push(id, fields.clone());
        self.sequence.last_id = id;
        self.sequence.added += 1;
        log::log_entry(log, id, self.sequence.added, fields);
    }

    /// Makes sure that a new stream has a row even while it has no entry.
    pub(crate) fn log_new(&self, log: &mut RowLog<'_>) {
        log::log_sequence(log, &self.sequence);
    }

    /// Removes entries; tells how many there were.
    pub(crate) fn delete(&mut self, ids: impl Iterator<Item = Id>, log: &mut RowLog<'_>) -> usize {
        let mut deleted = 0;
        for id in ids {
            if self.sequence.entries.remove(id) {
                self.sequence.max_deleted_id = self.sequence.max_deleted_id.max(id);
                log.remove(&entry_row(id));
                deleted += 1;
            }
        }
        if deleted > 0 {
            log::log_sequence(log, &self.sequence);
        }
        deleted
    }

    /// Removes an entry with regard to the groups.
    pub(crate) fn remove(&mut self, id: Id, removal: Removal, log: &mut RowLog<'_>) -> Removed {
        let is_there = self.sequence.entries.get(id).is_some();
        if is_there && removal == Removal::OnlyAcknowledged && self.is_awaited(id) {
            return Removed::Awaited;
        }
        if removal == Removal::DropsReferences {
            let pending = self.groups.iter_mut().filter_map(|(name, group)| group.forget(id).then_some(name));
            pending.for_each(|name| log.remove(&pending_row(name, id)));
        }
        self.delete(is_there.then_some(id).into_iter(), log);
        if is_there { Removed::Yes } else { Removed::NoEntry }
    }

    /// Whether a group has yet to read an entry, or to acknowledge it. Where there is no group, none has, as in Redis.
    fn is_awaited(&self, id: Id) -> bool {
        self.groups.is_empty() || self.groups.values().any(|group| id > group.last_id || group.pending().contains_key(&id))
    }

    /// Removes entries from the front; tells how many.
    pub(crate) fn trim(&mut self, trim: Trim, effort: TrimEffort, log: &mut RowLog<'_>) -> usize {
        let entries = &mut self.sequence.entries;
        let before = entries.len();
        while let Some((count, last)) = entries.first_block() {
            let surplus = match trim {
                Trim::MaxLen(len) => entries.len().saturating_sub(len),
                Trim::MinId(id) if last < id => count,
                Trim::MinId(id) => entries.range(Id::MIN, id).take_while(|entry| entry.id < id).count(),
            };
            let removed = match effort {
                TrimEffort::Exact => surplus.min(count),
                TrimEffort::Blocks { limit } if limit > 0 && before - entries.len() + count > limit => 0,
                TrimEffort::Blocks { .. } if surplus < count => 0,
                TrimEffort::Blocks { .. } => count,
            };
            if removed == 0 {
                break;
            }
            entries.remove_front(removed, |id| log.remove(&entry_row(id)));
            if removed < count {
                break;
            }
        }
        let removed = before - entries.len();
        if removed > 0 && entries.is_empty() {
            // The row of the last entry told the last id and the count of entries added.
            log::log_sequence(log, &self.sequence);
        }
        removed
    }

    /// Sets what is known of earlier entries; the caller has checked it.
    pub(crate) fn set_id(&mut self, last_id: Id, added: Option<u64>, max_deleted_id: Option<Id>, log: &mut RowLog<'_>) {
        self.sequence.last_id = last_id;
        self.sequence.added = added.unwrap_or(self.sequence.added);
        self.sequence.max_deleted_id = max_deleted_id.unwrap_or(self.sequence.max_deleted_id);
        log::log_sequence(log, &self.sequence);
    }

    /// Makes a group; tells whether its name was free.
    pub(crate) fn create_group(&mut self, name: &[u8], last_id: Id, entries_read: Option<i64>, log: &mut RowLog<'_>) -> bool {
        if self.groups.contains_key(name) {
            return false;
        }
        let group = Box::new(Group::new(last_id, entries_read));
        log_group(log, name, &group);
        self.groups.insert(Blob::from(name), group);
        true
    }

    /// Removes a group and all it knows; tells whether it was there.
    pub(crate) fn destroy_group(&mut self, name: &[u8], log: &mut RowLog<'_>) -> bool {
        let Some(group) = self.groups.remove(name) else { return false };
        group.pending().keys().for_each(|id| log.remove(&pending_row(name, *id)));
        group.consumers().for_each(|consumer| log.remove(&consumer_row(name, &consumer.name)));
        log.remove(&group_row(name));
        true
    }
}

/// A group with the entries it is about.
pub(crate) struct OpenGroup<'a> {
    name: &'a [u8],
    /// The group.
    pub group: &'a mut Group,
    sequence: &'a Sequence,
}

impl OpenGroup<'_> {
    /// Moves the group to another place.
    pub(crate) fn set_id(&mut self, last_id: Id, entries_read: Option<i64>, log: &mut RowLog<'_>) {
        self.group.last_id = last_id;
        self.group.entries_read = entries_read;
        log_group(log, self.name, self.group);
    }

    /// The consumer of this name, made where it is missing, seen now; tells whether it was made. Being seen alone is not
    /// recorded: a consumer that asks in vain would otherwise write to disk, and wake itself.
    pub(crate) fn see_consumer(&mut self, name: &[u8], now: u64, log: &mut RowLog<'_>) -> (ConsumerNumber, bool) {
        let (number, is_new) = self.group.consumer_or_new(name, now);
        self.group.consumer_mut(number).seen_at = now;
        if is_new {
            log_consumer(log, self.name, self.group.consumer(number));
        }
        (number, is_new)
    }

    /// The same without being seen; tells whether it was made.
    pub(crate) fn create_consumer(&mut self, name: &[u8], now: u64, log: &mut RowLog<'_>) -> bool {
        let (number, is_new) = self.group.consumer_or_new(name, now);
        if is_new {
            log_consumer(log, self.name, self.group.consumer(number));
        }
        is_new
    }

    /// Removes a consumer; tells how many entries waited for it, if it was there.
    pub(crate) fn delete_consumer(&mut self, name: &[u8], log: &mut RowLog<'_>) -> Option<usize> {
        let pending = self.group.remove_consumer(name)?;
        pending.iter().for_each(|id| log.remove(&pending_row(self.name, *id)));
        log.remove(&consumer_row(self.name, name));
        Some(pending.len())
    }

    /// Delivers entries that the group has not delivered yet, at most `count`, to a consumer, or to nobody in particular
    /// (`NOACK`). Shows each.
    pub(crate) fn deliver_new(
        &mut self,
        consumer: ConsumerNumber,
        count: usize,
        no_ack: bool,
        now: u64,
        log: &mut RowLog<'_>,
        mut show: impl FnMut(Entry<'_>),
    ) -> usize {
        let Some(start) = self.group.last_id.next() else { return 0 };
        let mut delivered = 0;
        for entry in self.sequence.entries.range(start, Id::MAX).take(count) {
            self.advance(entry.id);
            show(entry);
            delivered += 1;
            if !no_ack {
                let pending = Pending { delivered_at: now, deliveries: 1, consumer };
                self.assign(entry.id, pending, log);
            }
        }
        if delivered > 0 {
            log_group(log, self.name, self.group);
            if !no_ack {
                self.activate(consumer, now, log);
            }
        }
        delivered
    }

    /// Counts an entry as read.
    fn advance(&mut self, id: Id) {
        let (group, sequence) = (&mut *self.group, self.sequence);
        match &mut group.entries_read {
            Some(read) if group.last_id >= sequence.entries.first_id() && !sequence.is_deleted_from(group.last_id) => {
                *read = read.wrapping_add(1);
            }
            read if sequence.added > 0 => *read = sequence.distance_to(id),
            _ => {}
        }
        group.last_id = id;
    }

    /// Delivers again, at most `count`, what waits for a consumer above an id. Shows each entry, or the id of one that is gone.
    pub(crate) fn deliver_again(
        &mut self,
        consumer: ConsumerNumber,
        above: Id,
        count: usize,
        now: u64,
        log: &mut RowLog<'_>,
        mut show: impl FnMut(Result<Entry<'_>, Id>),
    ) -> usize {
        let mut next = above.next();
        let mut delivered = 0;
        while let Some(start) = next.filter(|_| delivered < count) {
            let Some(id) = self.group.consumer(consumer).pending_ids(start, Id::MAX).next() else { break };
            match self.sequence.entries.get(id) {
                Some(entry) => {
                    show(Ok(entry));
                    let before = self.group.pending()[&id];
                    self.assign(
                        id,
                        Pending { delivered_at: now, deliveries: before.deliveries.saturating_add(1), ..before },
                        log,
                    );
                }
                None => show(Err(id)),
            }
            delivered += 1;
            next = id.next();
        }
        delivered
    }

    /// Forgets a delivery; tells whether there was one.
    pub(crate) fn acknowledge(&mut self, id: Id, log: &mut RowLog<'_>) -> bool {
        let was_pending = self.group.forget(id);
        if was_pending {
            log.remove(&pending_row(self.name, id));
        }
        was_pending
    }

    /// Moves the group up to an id, if it is not there yet.
    pub(crate) fn raise_last_id(&mut self, id: Id, log: &mut RowLog<'_>) {
        if id > self.group.last_id {
            self.group.last_id = id;
            log_group(log, self.name, self.group);
        }
    }

    /// Gives an entry to a consumer; None where it is not to be had. An entry that is gone is no longer waited for.
    pub(crate) fn claim(
        &mut self,
        id: Id,
        consumer: ConsumerNumber,
        claim: &Claim,
        now: u64,
        log: &mut RowLog<'_>,
    ) -> Option<Entry<'_>> {
        let Some(entry) = self.sequence.entries.get(id) else {
            self.acknowledge(id, log);
            return None;
        };
        let before = self.group.pending().get(&id).copied();
        let deliveries = match before {
            Some(pending) if claim.min_idle_ms > 0 && now.saturating_sub(pending.delivered_at) < claim.min_idle_ms => {
                return None;
            }
            Some(pending) => pending.deliveries,
            None if claim.force => 1,
            None => return None,
        };
        let counted = deliveries.saturating_add(u64::from(!claim.just_id));
        let deliveries = claim.deliveries.unwrap_or(counted);
        self.assign(id, Pending { delivered_at: claim.delivered_at, deliveries, consumer }, log);
        Some(entry)
    }

    /// The entries the group is about.
    pub(crate) fn sequence(&self) -> &Sequence {
        self.sequence
    }

    /// Notes that a consumer got entries.
    pub(crate) fn activate(&mut self, number: ConsumerNumber, now: u64, log: &mut RowLog<'_>) {
        let consumer = self.group.consumer_mut(number);
        consumer.active_at = Some(now);
        log_consumer(log, self.name, consumer);
    }

    fn assign(&mut self, id: Id, pending: Pending, log: &mut RowLog<'_>) {
        self.group.assign(id, pending);
        log_pending(log, self.name, id, &pending, &self.group.consumer(pending.consumer).name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::effect::{self, Effect, Row};
    use crate::engine::shard::Shard;
    use crate::engine::value::{Kind, Rows};
    use crate::id::random_below;

    /// Runs with a log; gives the effects that were written to it.
    fn logged(run: impl FnOnce(&mut RowLog<'_>)) -> Vec<u8> {
        let mut shard = Shard::new(true, &Default::default());
        let mut changed = 0;
        run(&mut RowLog {
            log: &mut shard.log,
            changed: &mut changed,
            db: 0,
            key: b"k",
            kind: Kind::Stream,
            is_open: false,
            audience: crate::engine::log::Audience::All,
        });
        shard.log.pending[0].to_vec()
    }

    fn replay(stream: &mut Stream, mut effects: &[u8]) {
        while !effects.is_empty() {
            let Effect::Change { rows, .. } = effect::read(&mut effects).unwrap() else { panic!("only changes are logged") };
            for row in rows {
                match row {
                    Row::Put(element, bytes) => stream.put_row(element, bytes).unwrap(),
                    Row::Remove(element) => stream.remove_row(element).unwrap(),
                }
            }
        }
    }

    fn rows(stream: &Stream) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut rows = Vec::new();
        stream.each_row(&mut |element, bytes| {
            // When a consumer was seen is not recorded by itself.
            let from = if element[0] == 3 { 8 } else { 0 };
            rows.push((element.to_vec(), bytes[from..].to_vec()));
        });
        assert_eq!(rows.len(), stream.row_count());
        assert!(rows.iter().filter(|row| row.0[0] < 2).is_sorted(), "entries come in the order of their ids");
        rows
    }

    fn names(group: bool) -> &'static [u8] {
        let names: [&[u8]; 3] = if group { [b"g", b"", b"\x01g"] } else { [b"alice", b"bob", b""] };
        names[random_below(3)]
    }

    fn step(stream: &mut Stream, now: u64, log: &mut RowLog<'_>) {
        let id = Id::new(random_below(now as usize + 1) as u64, 0);
        let known: Vec<Id> = stream.sequence.entries.range(id, Id::MAX).take(3).map(|entry| entry.id).collect();
        match random_below(16) {
            0..=5 => {
                let id = stream.sequence.next_id(now).unwrap();
                let value = now.to_string();
                stream.add(id, [(&b"n"[..], value.as_bytes()), (b"m", b"text")].into_iter().take(1 + random_below(2)), log);
            }
            6 => {
                stream.delete(known.into_iter(), log);
            }
            7 => {
                let trim = if random_below(2) == 0 { Trim::MaxLen(random_below(300)) } else { Trim::MinId(id) };
                let effort =
                    if random_below(2) == 0 { TrimEffort::Exact } else { TrimEffort::Blocks { limit: random_below(200) } };
                stream.trim(trim, effort, log);
            }
            8 => {
                stream.create_group(names(true), id, (random_below(2) == 0).then_some(7), log);
            }
            9 if random_below(8) == 0 => {
                stream.destroy_group(names(true), log);
            }
            9 if random_below(2) == 0 => {
                let last_id = stream.sequence.entries.last_id().max(stream.sequence.max_deleted_id).max(id);
                stream.set_id(last_id, (random_below(2) == 0).then_some(1000), None, log);
            }
            _ => {
                let Some(mut group) = stream.open_group(names(true)) else { return };
                step_group(&mut group, id, &known, now, log);
            }
        }
    }

    fn step_group(group: &mut OpenGroup<'_>, id: Id, known: &[Id], now: u64, log: &mut RowLog<'_>) {
        if random_below(10) == 0 {
            group.delete_consumer(names(false), log);
            return;
        }
        let (consumer, _) = group.see_consumer(names(false), now, log);
        match random_below(5) {
            0 => group.set_id(id, None, log),
            1 => {
                group.deliver_new(consumer, random_below(9), random_below(3) == 0, now, log, |_| {});
            }
            2 => {
                group.deliver_again(consumer, id, random_below(3), now, log, |_| {});
            }
            3 => {
                known.iter().for_each(|id| {
                    group.acknowledge(*id, log);
                });
            }
            _ => {
                let claim =
                    Claim { min_idle_ms: 3, delivered_at: now, deliveries: None, force: true, just_id: random_below(2) == 0 };
                for id in known {
                    group.claim(*id, consumer, &claim, now, log);
                }
            }
        }
    }

    #[test]
    fn a_stream_is_rebuilt_from_what_was_logged() {
        for _ in 0..30 {
            let (mut stream, mut effects) = (Stream::default(), Vec::new());
            for now in 1..random_below(1500) as u64 {
                effects.push(logged(|log| step(&mut stream, now, log)));
            }
            let expected = rows(&stream);
            let mut replayed = Stream::default();
            effects.iter().for_each(|effect| replay(&mut replayed, effect));
            assert!(rows(&replayed) == expected);
            let from = random_below(effects.len().max(1));
            effects.iter().skip(from).for_each(|effect| replay(&mut replayed, effect));
            assert!(rows(&replayed) == expected, "replaying the end again changes nothing");
            let mut copy = Stream::default();
            stream.each_row(&mut |element, bytes| copy.put_row(element, bytes).unwrap());
            assert!(rows(&copy) == expected);
        }
    }

    #[test]
    fn rows_that_are_none_are_refused() {
        let mut stream = Stream::default();
        for (element, bytes) in [
            (&b""[..], &b""[..]),
            (b"\x00", b"short"),
            (b"\x01short", b"\x00"),
            (b"\x010123456789abcdef", b"\x01\x05x"),
            (b"\x02g", b""),
            (b"\x03\x09g", b"0123456789abcdef"),
            (b"\x04\x01gshort", b"0123456789abcdef"),
            (b"\x05", b""),
        ] {
            assert!(stream.put_row(element, bytes).is_err(), "{element:?}");
        }
    }

    #[test]
    fn lag_is_known_until_an_entry_ahead_is_deleted() {
        let mut stream = Stream::default();
        logged(|log| {
            for ms in 1..=5 {
                stream.add(Id::new(ms, 0), [(&b"a"[..], &b"b"[..])].into_iter(), log);
            }
            stream.create_group(b"g", Id::MIN, None, log);
            assert_eq!(stream.sequence.lag(stream.group(b"g").unwrap()), Some(5));
            let mut group = stream.open_group(b"g").unwrap();
            let (consumer, _) = group.see_consumer(b"c", 1, log);
            group.deliver_new(consumer, 2, false, 1, log, |_| {});
            assert_eq!(stream.group(b"g").unwrap().entries_read, Some(2));
            assert_eq!(stream.sequence.lag(stream.group(b"g").unwrap()), Some(3));
            stream.delete([Id::new(4, 0)].into_iter(), log);
            assert_eq!(stream.sequence.lag(stream.group(b"g").unwrap()), None);
        });
    }
}
