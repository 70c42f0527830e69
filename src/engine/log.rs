//! Where changes are told while a shard is locked: to the journal, to clients that watch a key, that wait for one or hold a copy of it. And
//! a value together with the log its changes must be told to.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::engine::blob::Blob;
use crate::engine::block::Waiters;
use crate::engine::crowd::{Crowd, give_room_back};
use crate::engine::effect::{self, Effects};
use crate::engine::rows::Kind;
use crate::engine::tracking::{Tracked, Tracking};

/// Where a shard's changes are told: to the journal, to clients that watch a key, and to clients that wait for one.
pub(crate) struct EffectLog {
    /// Effects by the parity of the epoch they happened in; see `Engine::cut`.
    pub(crate) pending: [Effects; 2],
    /// The epoch of the view that holds the lock; set when the lock is taken.
    pub(crate) epoch: u64,
    /// Whether that view has recorded anything here.
    pub(crate) has_recorded: bool,
    /// Bytes of it, which go to the journal.
    pub(crate) recorded_bytes: usize,
    /// Where they begin among those that are pending.
    pub(crate) recorded_from: usize,
    /// The generation of what changes now; see [`crate::engine::Engine::is_clean`].
    pub(crate) generation: u8,
    pub(crate) is_kept: bool,
    pub(crate) changes: u64,
    /// Set by a transaction's first change to the key.
    pub(crate) watched: HashMap<(u8, Blob), Crowd<AtomicBool>, foldhash::fast::RandomState>,
    pub(crate) waiters: Waiters,
    pub(crate) tracked: Tracked,
}

impl EffectLog {
    /// An empty one. `is_kept`: whether there is a journal.
    pub(crate) fn new(is_kept: bool, tracking: &Arc<Tracking>) -> EffectLog {
        EffectLog {
            pending: Default::default(),
            epoch: 0,
            has_recorded: false,
            recorded_bytes: 0,
            recorded_from: 0,
            generation: 1,
            is_kept,
            changes: 0,
            watched: HashMap::default(),
            waiters: Waiters::default(),
            tracked: Tracked::new(tracking),
        }
    }

    /// Records the effect that is appended, where there is a journal.
    #[inline]
    pub(crate) fn record(&mut self, append: impl FnOnce(&mut Vec<u8>)) {
        self.has_recorded = true;
        if self.is_kept {
            self.recorded_bytes += self.pending[(self.epoch & 1) as usize].record(append);
        }
    }

    /// The same for an effect that has an order with those of other shards.
    pub(crate) fn record_meeting(&mut self, append: impl FnOnce(&mut Vec<u8>)) {
        self.record(append);
        self.pending[(self.epoch & 1) as usize].set_meet();
    }

    /// Takes the lock's holder's own effects from those that are pending, and adds them to others.
    pub(crate) fn set_aside(&mut self, to: &mut Effects) {
        if std::mem::take(&mut self.has_recorded) && self.is_kept {
            let pending = &mut self.pending[(self.epoch & 1) as usize];
            to.record(|bytes| bytes.extend_from_slice(&pending[self.recorded_from..]));
            if pending.meet() {
                to.set_meet();
            }
            pending.truncate(self.recorded_from);
        }
        self.recorded_bytes = 0;
    }

    /// Records effects that were set aside.
    pub(crate) fn file(&mut self, effects: &Effects) {
        if effects.is_empty() {
            return;
        }
        self.record(|to| to.extend_from_slice(effects));
        if effects.meet() {
            self.pending[(self.epoch & 1) as usize].set_meet();
        }
    }

    /// Tells those who watch or wait for a key that it changed. `db` is the stored number.
    #[inline]
    pub(crate) fn touch(&mut self, db: u8, key: &[u8]) {
        self.tell(db, key, Audience::All);
    }

    /// The same for a key that no command of a client changed: its time was over, or it had to make room.
    pub(crate) fn touch_unasked(&mut self, db: u8, key: &[u8]) {
        self.tell_within(db, key, Audience::All);
        self.tracked.changed(key, false);
    }

    #[inline]
    fn tell(&mut self, db: u8, key: &[u8], audience: Audience) {
        self.tell_within(db, key, audience);
        if audience == Audience::All {
            self.tracked.changed(key, true);
        }
    }

    #[inline]
    fn tell_within(&mut self, db: u8, key: &[u8], audience: Audience) {
        self.changes += 1;
        if audience == Audience::All && !self.watched.is_empty() {
            self.wake_watchers(db, key);
        }
        if audience != Audience::Nobody && !self.waiters.is_empty() {
            self.waiters.touch(db, key);
        }
    }

    /// The same for all keys of a database, so many.
    pub(crate) fn touch_all<'k>(&mut self, db: u8, count: usize, keys: impl Iterator<Item = &'k [u8]>) {
        self.tracked.clear();
        if self.watched.is_empty() && self.waiters.is_empty() {
            self.changes += count as u64;
        } else {
            keys.for_each(|key| self.tell_within(db, key, Audience::All));
        }
    }

    /// Clients name databases by the number that was just swapped: those who wait and those who watch follow to the other
    /// one's keys. What they watch has changed, unless it is in neither.
    pub(crate) fn swap_places(&mut self, a: u8, b: u8, is_there: impl Fn(u8, &[u8]) -> bool) {
        let other = |db: u8| {
            if db == a {
                b
            } else if db == b {
                a
            } else {
                db
            }
        };
        for ((db, key), flags) in std::mem::take(&mut self.watched) {
            if other(db) != db && (is_there(a, &key) || is_there(b, &key)) {
                flags.each(|flag| flag.store(true, Relaxed));
            } else {
                self.watched.insert((other(db), key), flags);
            }
        }
        self.waiters.swap(a, b, is_there);
        // What is tracked goes by name alone.
        self.tracked.clear();
    }

    #[cold]
    fn wake_watchers(&mut self, db: u8, key: &[u8]) {
        if let Some(flags) = self.watched.remove(&(db, Blob::from(key))) {
            flags.each(|flag| flag.store(true, Relaxed));
            give_room_back(&mut self.watched);
        }
    }
}

/// Who is told that a key changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Those who watch it, and those who wait for it.
    All,
    /// Only those who wait for it: to WATCH a stream's groups are no part of it, as in Redis.
    Waiters,
    /// Nobody: nothing came of it that anyone waits for.
    Nobody,
}

/// Records the rows that change under one key; the first one marks the key as changed, and dropping it ends the effect.
pub(crate) struct RowLog<'a> {
    pub(crate) log: &'a mut EffectLog,
    pub(crate) changed: &'a mut u8,
    pub(crate) db: u8,
    pub(crate) key: &'a [u8],
    pub(crate) kind: Kind,
    pub(crate) is_open: bool,
    pub(crate) audience: Audience,
}

impl RowLog<'_> {
    /// Records that an element now has these bytes.
    #[inline]
    pub(crate) fn put(&mut self, element: &[u8], bytes: &[u8]) {
        self.open();
        self.log.record(|to| effect::push_row(to, element, bytes));
    }

    /// Records that an element now has these bytes, given in parts.
    #[inline]
    pub(crate) fn put_parts(&mut self, element: &[u8], parts: &[&[u8]]) {
        self.open();
        self.log.record(|to| effect::push_row_parts(to, element, parts));
    }

    /// Records that an element is gone.
    #[inline]
    pub(crate) fn remove(&mut self, element: &[u8]) {
        self.open();
        self.log.record(|to| effect::push_row_removal(to, element));
    }

    /// Records a write into a string, instead of rows.
    pub(crate) fn write_at(&mut self, offset: usize, bytes: &[u8]) {
        *self.changed = self.log.generation;
        self.log.touch(self.db, self.key);
        let (db, key) = (self.db, self.key);
        self.log.record(|to| effect::push_write_at(to, db, key, offset, bytes));
    }

    /// Tells of a change that left all as it was: who watches the key cannot know that.
    pub(crate) fn touch(&mut self) {
        self.log.touch(self.db, self.key);
    }

    #[inline]
    fn open(&mut self) {
        if !self.is_open {
            self.is_open = true;
            *self.changed = self.log.generation;
            self.log.tell(self.db, self.key, self.audience);
            let (db, key, kind) = (self.db, self.key, self.kind);
            self.log.record(|to| effect::push_change(to, db, key, kind));
        }
    }
}

impl Drop for RowLog<'_> {
    fn drop(&mut self) {
        if self.is_open {
            self.log.record(effect::push_end);
        }
    }
}

/// A value to change, with the log its changes must be told to.
pub(crate) struct Edit<'a, T> {
    /// The value.
    pub value: &'a mut T,
    /// Where each changed row is recorded.
    pub log: RowLog<'a>,
    /// Whether the key was made for this edit.
    pub is_new: bool,
}
