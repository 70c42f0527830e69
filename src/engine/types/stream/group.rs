//! Consumer groups: how far each has read, what it delivered and nobody acknowledged yet, and to whom.

use std::collections::{BTreeMap, BTreeSet, btree_map};

use crate::engine::blob::Blob;
use crate::engine::types::stream::id::Id;

/// A group of consumers that share a stream's entries.
#[derive(Default, Clone)]
pub(crate) struct Group {
    /// The last entry delivered.
    pub last_id: Id,
    /// How many entries of the stream come up to the last one delivered, where that is known.
    pub entries_read: Option<i64>,
    /// Invariant: each id is also among the pending ones of its consumer, and of no other.
    pending: BTreeMap<Id, Pending>,
    /// By number; a number that is free stands for none.
    consumers: Vec<Option<Consumer>>,
    /// Numbers in the order of the consumers' names.
    by_name: Vec<u32>,
}

/// An entry that was delivered and not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pending {
    /// When it was last delivered, in milliseconds since the epoch.
    pub delivered_at: u64,
    /// How often it was delivered.
    pub deliveries: u64,
    /// To whom.
    pub consumer: ConsumerNumber,
}

/// Tells a group's consumers apart while it is in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConsumerNumber(u32);

/// One who reads for a group.
#[derive(Clone)]
pub(crate) struct Consumer {
    /// Its name.
    pub name: Blob,
    /// When it last asked for entries, in milliseconds since the epoch.
    pub seen_at: u64,
    /// When it last got some.
    pub active_at: Option<u64>,
    pending: BTreeSet<Id>,
}

impl Consumer {
    /// How many entries wait for its acknowledgement.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The ids of those, from `start` to `end`, both included.
    pub(crate) fn pending_ids(&self, start: Id, end: Id) -> impl Iterator<Item = Id> {
        (start <= end).then(|| self.pending.range(start..=end)).into_iter().flatten().copied()
    }
}

impl Group {
    /// A group that has read up to an id.
    pub(crate) fn new(last_id: Id, entries_read: Option<i64>) -> Group {
        Group { last_id, entries_read, ..Group::default() }
    }

    /// Entries that wait to be acknowledged, by id.
    pub(crate) fn pending(&self) -> &BTreeMap<Id, Pending> {
        &self.pending
    }

    /// Those from `start` to `end`, both included.
    pub(crate) fn pending_range(&self, start: Id, end: Id) -> impl Iterator<Item = (Id, Pending)> {
        (start <= end).then(|| self.pending.range(start..=end)).into_iter().flatten().map(|(id, pending)| (*id, *pending))
    }

    /// How many consumers there are.
    pub(crate) fn consumer_count(&self) -> usize {
        self.by_name.len()
    }

    /// All consumers, in the order of their names.
    pub(crate) fn consumers(&self) -> impl Iterator<Item = &Consumer> {
        self.by_name.iter().map(|&number| self.consumer(ConsumerNumber(number)))
    }

    /// A consumer's number.
    pub(crate) fn find_consumer(&self, name: &[u8]) -> Option<ConsumerNumber> {
        self.search(name).ok().map(|at| ConsumerNumber(self.by_name[at]))
    }

    /// The consumer with a number.
    pub(crate) fn consumer(&self, number: ConsumerNumber) -> &Consumer {
        self.consumers[number.0 as usize].as_ref().expect("numbers of consumers are given out while they are there")
    }

    /// The consumer with a number, to change its times.
    pub(crate) fn consumer_mut(&mut self, number: ConsumerNumber) -> &mut Consumer {
        self.consumers[number.0 as usize].as_mut().expect("numbers of consumers are given out while they are there")
    }

    /// The consumer of this name, made where it is missing; tells whether it was made.
    pub(crate) fn consumer_or_new(&mut self, name: &[u8], seen_at: u64) -> (ConsumerNumber, bool) {
        let at = match self.search(name) {
            Ok(at) => return (ConsumerNumber(self.by_name[at]), false),
            Err(at) => at,
        };
        let consumer = Consumer { name: Blob::from(name), seen_at, active_at: None, pending: BTreeSet::new() };
        let number = if self.by_name.len() == self.consumers.len() {
            self.consumers.push(Some(consumer));
            self.consumers.len() - 1
        } else {
            let free = self.consumers.iter().position(Option::is_none).expect("fewer are named than there are places");
            self.consumers[free] = Some(consumer);
            free
        };
        self.by_name.insert(at, number as u32);
        (ConsumerNumber(number as u32), true)
    }

    /// Removes a consumer and all that waits for its acknowledgement; gives the ids of that.
    pub(crate) fn remove_consumer(&mut self, name: &[u8]) -> Option<BTreeSet<Id>> {
        let number = self.by_name.remove(self.search(name).ok()?);
        let consumer = self.consumers[number as usize].take()?;
        for id in &consumer.pending {
            self.pending.remove(id);
        }
        Some(consumer.pending)
    }

    /// Notes a delivery, taking the entry from whoever had it.
    pub(crate) fn assign(&mut self, id: Id, pending: Pending) {
        let before = match self.pending.entry(id) {
            btree_map::Entry::Vacant(place) => {
                place.insert(pending);
                None
            }
            btree_map::Entry::Occupied(mut place) => Some(place.insert(pending).consumer),
        };
        if before == Some(pending.consumer) {
            return;
        }
        if let Some(before) = before {
            self.consumer_mut(before).pending.remove(&id);
        }
        self.consumer_mut(pending.consumer).pending.insert(id);
    }

    /// Forgets a delivery; tells whether there was one.
    pub(crate) fn forget(&mut self, id: Id) -> bool {
        let Some(pending) = self.pending.remove(&id) else { return false };
        self.consumer_mut(pending.consumer).pending.remove(&id);
        true
    }

    /// Bytes taken in memory, roughly.
    pub(crate) fn memory_bytes(&self) -> usize {
        // A B-tree's nodes are about two thirds full.
        let pending_bytes = (size_of::<Id>() + size_of::<Pending>() + size_of::<Id>()) * 3 / 2;
        size_of::<Group>() + self.pending.len() * pending_bytes + self.consumers.capacity() * (size_of::<Option<Consumer>>() + 4)
    }

    fn search(&self, name: &[u8]) -> Result<usize, usize> {
        self.by_name.binary_search_by(|&number| (*self.consumer(ConsumerNumber(number)).name).cmp(name))
    }
}
