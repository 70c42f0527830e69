//! A shard: a share of all databases' keys behind one lock, with the effects written there since the last cut.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::engine::blob::Blob;
use crate::engine::dict::{self, Dict};
use crate::engine::expiries::Expiries;
use crate::engine::log::EffectLog;
use crate::engine::policy::Candidates;
use crate::engine::tracking::Tracking;
use crate::engine::value::Value;

/// Databases a server has; clients choose with `SELECT`.
pub const DATABASES: usize = 16;

/// Databases that are stored: those of clients, and that of [`LIBRARIES`].
pub(crate) const STORED: usize = DATABASES + 1;

/// The stored number of the database that no client can choose: its keys are the names of libraries of functions, each a string with
/// the library's code. So libraries last, as keys do, by the same journal, tables, backups and checks.
pub(crate) const LIBRARIES: u8 = DATABASES as u8;

/// A key and what it holds, in one cache line.
#[repr(align(64))]
pub struct Entry {
    pub(crate) key: Blob,
    pub(crate) value: Value,
    link: dict::Link,
    /// Milliseconds since the epoch, 48 bits; 0 for never, [`FAR`] where [`Database::far`] tells.
    expire_at: [u16; 3],
    /// When and how often it was used, 24 bits, as the eviction policy keeps it; see `engine::evict`.
    access: [u8; 3],
    /// The generation of its last change; see [`crate::engine::Engine::is_clean`].
    pub(crate) changed: u8,
}

/// What an entry says that expires at this time, in milliseconds since the epoch, or later: some time in the year 10889.
const FAR: u64 = (1 << 48) - 1;

impl dict::Entry for Entry {
    #[inline]
    fn key(&self) -> &[u8] {
        &self.key
    }

    #[inline]
    fn link(&self) -> dict::Link {
        self.link
    }

    #[inline]
    fn link_mut(&mut self) -> &mut dict::Link {
        &mut self.link
    }
}

impl Entry {
    /// A key that lasts, until [`Database::insert`] says when it expires.
    pub(crate) fn new(key: &[u8], value: Value, access: u32, changed: u8) -> Entry {
        let mut entry =
            Entry { key: Blob::from(key), value, link: dict::Link::default(), expire_at: [0; 3], access: [0; 3], changed };
        entry.set_access(access);
        entry
    }

    /// The key.
    pub fn key(&self) -> &Blob {
        &self.key
    }

    /// What it holds.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Whether it expires at all.
    pub(crate) fn expires(&self) -> bool {
        self.expire_at != [0; 3]
    }

    /// When it expires, in milliseconds since the epoch; 0 for never. What is far away seems nearer: see [`Database::expire_at`].
    #[inline]
    pub(crate) fn expire_at_or_0(&self) -> u64 {
        let [low, middle, high] = self.expire_at.map(u64::from);
        low | middle << 16 | high << 32
    }

    fn set_expire_at(&mut self, expire_at: u64) {
        let at = expire_at.min(FAR);
        self.expire_at = [at as u16, (at >> 16) as u16, (at >> 32) as u16];
    }

    /// Whether its time is over.
    #[inline]
    pub(crate) fn is_expired(&self, now: u64) -> bool {
        self.expires() && self.expire_at_or_0() <= now
    }

    /// When and how often it was used; see `engine::evict`.
    #[inline]
    pub(crate) fn access(&self) -> u32 {
        let [low, middle, high] = self.access;
        u32::from_le_bytes([low, middle, high, 0])
    }

    #[inline]
    pub(crate) fn set_access(&mut self, access: u32) {
        let [low, middle, high, _] = access.to_le_bytes();
        self.access = [low, middle, high];
    }
}

/// One database's keys within a shard.
#[derive(Default)]
pub struct Database {
    pub(crate) keys: Dict<Entry>,
    /// Keys that expire, soonest first, each as its time and the low 32 bits of its hash.
    pub(crate) expiries: Expiries,
    /// When keys expire whose entries have no room for that. Few have.
    far: HashMap<Blob, u64, foldhash::fast::RandomState>,
    /// The same as [`Self::expiries`] for hashes with fields that expire; a hint, checked when its time has come.
    pub(crate) field_expiries: BTreeSet<(u64, u32)>,
    /// The sum of the times in `expiries`; 128 bits, as 2^16 of them fill 64.
    expiry_sum: u128,
}

impl Database {
    /// The table of keys.
    pub fn keys(&self) -> &Dict<Entry> {
        &self.keys
    }

    /// How many keys expire.
    pub(crate) fn expiring(&self) -> usize {
        self.expiries.len()
    }

    /// How many hashes may have fields that expire.
    pub(crate) fn expiring_within(&self) -> usize {
        self.field_expiries.len()
    }

    /// The mean of the times keys expire at, in milliseconds since the epoch.
    pub(crate) fn mean_expiry(&self) -> Option<u64> {
        self.expiry_sum.checked_div(self.expiries.len() as u128).map(|mean| mean as u64)
    }

    /// Notes when a key expires.
    fn note_expiry(&mut self, expire_at: u64, hash: u32) {
        if self.expiries.insert(expire_at, hash) {
            self.expiry_sum += u128::from(expire_at);
        }
    }

    /// Takes a time off the list.
    pub(crate) fn drop_expiry(&mut self, expire_at: u64, hash: u32) {
        if self.expiries.remove(expire_at, hash) {
            self.expiry_sum -= u128::from(expire_at);
        }
    }

    /// When a key of this database expires, in milliseconds since the epoch; None for never.
    pub fn expire_at(&self, entry: &Entry) -> Option<u64> {
        Some(self.expire_at_or_0(entry)).filter(|at| *at != 0)
    }

    #[inline]
    pub(crate) fn expire_at_or_0(&self, entry: &Entry) -> u64 {
        match entry.expire_at_or_0() {
            FAR => self.far.get(&entry.key).copied().unwrap_or(FAR),
            near => near,
        }
    }

    pub(crate) fn set_expiry(&mut self, position: u32, expire_at: u64) {
        let hash = self.keys.hash_at(position);
        let before = self.expire_at_or_0(self.keys.at(position));
        if before == expire_at {
            return;
        }
        let entry = self.keys.at_mut(position);
        entry.set_expire_at(expire_at);
        if expire_at >= FAR {
            self.far.insert(entry.key.clone(), expire_at);
        } else if before >= FAR {
            self.far.remove(&entry.key);
        }
        if before != 0 {
            self.forget_expiry(before, hash);
        }
        if expire_at != 0 {
            self.note_expiry(expire_at, hash);
        }
    }

    /// Adds a key that is not there, and that expires at this time (milliseconds since the epoch, 0 for never).
    pub(crate) fn insert(&mut self, hash: u32, entry: Entry, expire_at: u64) -> u32 {
        let position = self.keys.insert_new(hash, entry);
        if expire_at != 0 {
            self.set_expiry(position, expire_at);
        }
        position
    }

    pub(crate) fn remove(&mut self, position: u32) -> Entry {
        let hash = self.keys.hash_at(position);
        let expire_at = self.expire_at_or_0(self.keys.at(position));
        let (entry, _) = self.keys.remove(position);
        if expire_at >= FAR {
            self.far.remove(&entry.key);
        }
        if expire_at != 0 {
            self.forget_expiry(expire_at, hash);
        }
        entry
    }

    /// Notes for the sweep when fields of the hash at a position are over, if that is a hash with such fields.
    pub(crate) fn note_field_expiry(&mut self, position: u32) {
        let hash = self.keys.hash_at(position);
        if let Value::Hash(value) = &mut self.keys.at_mut(position).value
            && let Some(expire_at) = value.expiry_to_note()
        {
            self.field_expiries.insert((expire_at, hash));
        }
    }

    fn forget_expiry(&mut self, expire_at: u64, hash: u32) {
        // Two keys may share both time and hash; the set holds such a pair once, until the last of them is gone.
        if self.keys.find_where(hash, |entry| self.expire_at_or_0(entry) == expire_at).is_none() {
            self.drop_expiry(expire_at, hash);
        }
    }
}

/// Counts kept under the shard's lock.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    /// Reads that found their key.
    pub hits: u64,
    /// Reads that did not.
    pub misses: u64,
    /// Keys removed because their time was over.
    pub expired: u64,
    /// Keys removed to make room.
    pub evicted: u64,
    /// Changes ever made (`rdb_changes_since_last_save` is a difference of these).
    pub changes: u64,
}

/// A share of the keyspace; see the file's head.
pub struct Shard {
    pub(crate) databases: [Database; STORED],
    pub(crate) log: EffectLog,
    pub(crate) counts: Counts,
    /// The best keys to evict that were met so far.
    pub(crate) candidates: Candidates,
}

impl Shard {
    pub(crate) fn new(is_kept: bool, tracking: &Arc<Tracking>) -> Shard {
        Shard {
            databases: std::array::from_fn(|_| Database::default()),
            log: EffectLog::new(is_kept, tracking),
            counts: Counts::default(),
            candidates: Candidates::default(),
        }
    }

    /// A database by its stored number.
    pub fn database(&self, db: u8) -> &Database {
        &self.databases[usize::from(db)]
    }

    /// Counts reads, expired and evicted keys from zero again; changes go on.
    pub fn reset_counts(&mut self) {
        self.counts = Counts::default();
    }

    /// How many keys are watched.
    pub(crate) fn watched_keys(&self) -> usize {
        self.log.watched.len()
    }

    /// How many keys are waited for, and how many of them by someone who is told of their end.
    pub(crate) fn awaited_keys(&self) -> (usize, usize) {
        (self.log.waiters.place_count(), self.log.waiters.count_told_of_end())
    }

    /// What happened here so far.
    pub(crate) fn counts(&self) -> Counts {
        Counts { changes: self.log.changes, ..self.counts }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_fills_one_cache_line() {
        assert_eq!(size_of::<Entry>(), 64);
    }
}
