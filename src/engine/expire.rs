//! The sweep that removes keys, and fields of hashes, whose time is over, soonest first. (Reads remove what they meet.)

use std::sync::Arc;

use crate::engine::Engine;
use crate::engine::Scope;
use crate::engine::blob::Blob;
use crate::engine::block::Place;
use crate::engine::dict;
use crate::engine::effect;
use crate::engine::free::{self, Freeing};
use crate::engine::keys::Write;
use crate::engine::notify::{Class, Event};
use crate::engine::shard::{DATABASES, Entry, Shard};
use crate::engine::shard_of;
use crate::engine::tracking::Invalid;
use crate::engine::types::hash::Hash;
use crate::engine::value::Value;

/// Keys removed from a shard before its lock is released, so that commands are not held up.
const KEYS_PER_LOCK: usize = 64;
/// Fields removed from a hash at once.
const FIELDS_PER_LOCK: usize = 256;

/// What a sweep did.
#[derive(Default)]
pub(crate) struct Swept {
    /// Events of the removed keys.
    pub events: Vec<Event>,
    /// Keys that someone waits for.
    pub touched: Vec<Place>,
    /// Keys of which clients hold copies.
    pub invalid: Vec<Invalid>,
    /// Whether more is left to be removed now.
    pub has_more: bool,
    /// Of the keys that expire and the hashes with fields that do, how many there were, and how many were over.
    pub keys: Share,
    /// See [`Self::keys`].
    pub hashes: Share,
    /// Fields removed.
    pub fields: u64,
}

/// A part of a number of things.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    /// The part.
    pub part: u64,
    /// All of them.
    pub whole: u64,
}

/// Removes some of what is over at `now` (milliseconds since the epoch) from every shard.
pub(crate) fn sweep(engine: &Engine, now: u64) -> Swept {
    let mut swept = Swept::default();
    let clients: [u8; DATABASES] = std::array::from_fn(|stored| engine.client_db(stored as u8));
    let mut hashes = Vec::new();
    engine.each_shard(|_, shard| {
        // For a script that runs, time stands still.
        if engine.solo().is_shut() {
            return;
        }
        let mut removed = 0;
        for (stored, db) in clients.iter().enumerate() {
            swept.keys.whole += shard.databases[stored].expiries.len() as u64;
            swept.hashes.whole += shard.databases[stored].field_expiries.len() as u64;
            removed += sweep_keys(engine.freeing(), shard, stored, *db, now, KEYS_PER_LOCK - removed, &mut swept.events);
            hashes.extend(due_hashes(shard, stored, now).into_iter().map(|key| (*db, key)));
        }
        swept.has_more |= removed == KEYS_PER_LOCK;
        swept.keys.part += removed as u64;
        if !shard.log.waiters.is_empty() {
            swept.touched.append(&mut shard.log.waiters.take_touched());
        }
        shard.log.tracked.take_invalid(&mut swept.invalid);
    });
    swept.hashes.part = hashes.len() as u64;
    for (db, key) in hashes {
        engine.write(db, now, Scope::Keys(&[&key]), |keys| sweep_fields(keys, &key, now, &mut swept));
    }
    swept
}

fn sweep_keys(
    freeing: &Arc<Freeing>,
    shard: &mut Shard,
    stored: usize,
    db: u8,
    now: u64,
    count_max: usize,
    events: &mut Vec<Event>,
) -> usize {
    let mut count = 0;
    while count < count_max {
        let database = &mut shard.databases[stored];
        let Some((expire_at, hash)) = database.expiries.first().filter(|(expire_at, _)| *expire_at <= now) else { break };
        let Some(at) = database.keys.find_where(hash, |entry| database.expire_at_or_0(entry) == expire_at) else {
            database.drop_expiry(expire_at, hash);
            continue;
        };
        let entry = database.remove(at);
        shard.counts.expired += 1;
        shard.log.touch_unasked(stored as u8, &entry.key);
        shard.log.record(|to| effect::push_remove(to, stored as u8, &entry.key));
        free::value(freeing, entry.value);
        events.push(Event { class: Class::Expired, name: "expired", db, key: entry.key, elements: Vec::new() });
        count += 1;
    }
    count
}

/// Takes the hashes with fields whose time is over off the list of such; those that keep some are put back.
fn due_hashes(shard: &mut Shard, stored: usize, now: u64) -> Vec<Blob> {
    let database = &mut shard.databases[stored];
    let mut due = Vec::new();
    while let Some(&(expire_at, hash)) = database.field_expiries.first().filter(|(expire_at, _)| *expire_at <= now) {
        database.field_expiries.remove(&(expire_at, hash));
        let is_due = |entry: &Entry| matches!(&entry.value, Value::Hash(hash) if hash.next_expiry().is_some());
        let Some(at) = database.keys.find_where(hash, is_due) else { continue };
        let entry = database.keys.at_mut(at);
        if let Value::Hash(hash) = &mut entry.value {
            hash.forget_note();
        }
        due.push(entry.key.clone());
    }
    due
}

/// Removes fields of one hash.
fn sweep_fields(keys: &mut Write<'_>, key: &[u8], now: u64, swept: &mut Swept) {
    let Ok(Some(mut edit)) = keys.edit::<Hash>(key) else { return };
    let removed = edit.remove_expired(now, FIELDS_PER_LOCK);
    let next = edit.value.next_expiry();
    drop(edit);
    if removed > 0 {
        keys.notify(Class::Hash, "hexpired", key);
        keys.remove_if_empty::<Hash>(key);
    }
    keys.note_field_expiry(key);
    swept.events.append(&mut keys.take_events());
    swept.touched.append(&mut keys.take_touched());
    swept.invalid.append(&mut keys.take_invalid());
    swept.fields += removed as u64;
    swept.has_more |= next.is_some_and(|next| next <= now);
}

/// Keys forgotten under one lock when a bound was lowered.
const FORGOTTEN_PER_LOCK: usize = 256;

/// Forgets who read some keys where there are more than `tracking-table-max-keys`, and tells them.
pub(crate) fn forget_tracked(engine: &Engine) {
    if !engine.tracking().is_full() {
        return;
    }
    let mut invalid = Vec::new();
    engine.each_shard(|_, shard| {
        shard.log.tracked.shrink(FORGOTTEN_PER_LOCK);
        shard.log.tracked.take_invalid(&mut invalid);
    });
    engine.tracking().tell(&invalid, None);
}

/// Notes which hashes have fields that expire, once all are loaded.
pub(crate) fn note_field_expiries(engine: &Engine) {
    engine.each_shard(|_, shard| {
        for database in &mut shard.databases {
            (0..database.keys.len() as u32).for_each(|at| database.note_field_expiry(at));
        }
    });
}

impl Write<'_> {
    /// Notes for the sweep when fields of a hash are over, so that they are removed then.
    pub(crate) fn note_field_expiry(&mut self, key: &[u8]) {
        let hash = dict::hash(key);
        let stored = usize::from(self.stored_db());
        let database = &mut self.shard(shard_of(hash)).databases[stored];
        if let Some(at) = database.keys.find(hash as u32, key) {
            database.note_field_expiry(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::evict::{self, Policy};
    use crate::engine::keys::Expiry;

    /// What is removed by no command must be on disk, too, before someone is shown that it is gone.
    #[test]
    fn what_a_sweep_or_an_eviction_removes_is_shown_once_it_is_on_disk() {
        let engine = Engine::new(true);
        engine.set_shows_only_durable(true);
        let put = |expiry: Expiry| {
            engine.write(0, 0, Scope::Keys(&[b"key"]), |keys| keys.put_string(b"key", b"value", expiry));
            engine.note_durable(engine.cut().epoch);
            assert_eq!(engine.unshown_epoch(), 0);
        };
        put(Expiry::At(1));
        assert_eq!(sweep(&engine, 2).keys.part, 1);
        assert_eq!(engine.unshown_epoch(), engine.epoch(), "the sweep of keys");
        put(Expiry::Never);
        engine.eviction().set(1, Policy::AllkeysRandom, 5);
        assert!(!evict::make_room(&engine).expect("there is too much").events.is_empty());
        assert_eq!(engine.unshown_epoch(), engine.epoch(), "eviction");
    }

    #[test]
    fn what_a_sweep_removes_of_a_hash_is_shown_once_it_is_on_disk() {
        let engine = Engine::new(true);
        engine.set_shows_only_durable(true);
        engine.write(0, 0, Scope::Keys(&[b"hash"]), |keys| {
            let mut edit = keys.edit_or_new::<Hash>(b"hash").expect("nothing is there");
            edit.set(b"field", b"value");
            edit.expire(b"field", Some(1));
            drop(edit);
            keys.note_field_expiry(b"hash");
        });
        engine.note_durable(engine.cut().epoch);
        assert_eq!((engine.unshown_epoch(), sweep(&engine, 2).fields), (0, 1));
        assert_eq!(engine.unshown_epoch(), engine.epoch());
    }
}
