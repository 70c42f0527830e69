//! The entries of a stream, in their order, and what is known of those that were there before.

use crate::engine::types::stream::entries::Entries;
use crate::engine::types::stream::group::Group;
use crate::engine::types::stream::id::Id;

/// The entries and what is known of those that were there before.
#[derive(Default, Clone)]
pub(crate) struct Sequence {
    /// The entries.
    pub entries: Entries,
    /// The highest id any entry had.
    pub last_id: Id,
    /// The highest id among deleted entries. Trimming does not count as deleting.
    pub max_deleted_id: Id,
    /// How many entries were ever added.
    pub added: u64,
}

impl Sequence {
    /// The id an entry added now gets.
    pub(crate) fn next_id(&self, now: u64) -> Option<Id> {
        if now > self.last_id.ms { Some(Id::new(now, 0)) } else { self.last_id.next() }
    }

    /// How many entries come up to an id, counted from the first there ever was, where that can be known.
    pub(super) fn distance_to(&self, id: Id) -> Option<i64> {
        let (added, len, first_id) = (self.added as i64, self.entries.len() as i64, self.entries.first_id());
        if added == 0 {
            return Some(0);
        }
        if len == 0 && id <= self.last_id {
            return Some(added);
        }
        if (id != Id::MIN && id < self.max_deleted_id) || id > self.last_id {
            return None;
        }
        if id == self.last_id {
            return Some(added);
        }
        // Where nothing was deleted behind the first entry, entries are counted from there.
        let is_whole = self.max_deleted_id == Id::MIN || self.max_deleted_id < first_id;
        match id.cmp(&first_id) {
            std::cmp::Ordering::Less if is_whole => Some(added - len),
            std::cmp::Ordering::Equal if is_whole => Some(added - len + 1),
            _ => None,
        }
    }

    /// Whether there is an entry a group has not delivered.
    pub(crate) fn has_new_for(&self, group: &Group) -> bool {
        !self.entries.is_empty() && self.entries.last_id() > group.last_id
    }

    pub(super) fn is_deleted_from(&self, id: Id) -> bool {
        !self.entries.is_empty() && self.max_deleted_id != Id::MIN && id <= self.max_deleted_id
    }

    /// How many entries a group has not read yet, where that can be known.
    pub(crate) fn lag(&self, group: &Group) -> Option<i64> {
        let first_id = self.entries.first_id();
        if self.added == 0 || self.entries.is_empty() {
            return Some(0);
        }
        if group.last_id < first_id && self.max_deleted_id < first_id {
            return Some(self.entries.len() as i64);
        }
        let read = match group.entries_read {
            Some(read) if !self.is_deleted_from(group.last_id) => read,
            _ => self.distance_to(group.last_id)?,
        };
        Some((self.added as i64).wrapping_sub(read))
    }
}
