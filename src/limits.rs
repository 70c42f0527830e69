//! Bounds that can be changed while the server runs: up to which size collections keep their compact forms. Each is
//! named as the setting of `CONFIG` that changes it, and starts as Redis has it.
//!
//! A bound applies to what is written from then on; what is already stored changes its form at its next write.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// `hash-max-listpack-entries`: fields a packed hash holds at most.
pub(crate) static HASH_MAX_LISTPACK_ENTRIES: AtomicU64 = AtomicU64::new(512);
/// `hash-max-listpack-value`: bytes of the longest field or value in a packed hash.
pub(crate) static HASH_MAX_LISTPACK_VALUE: AtomicU64 = AtomicU64::new(64);
/// `set-max-intset-entries`: members of a set of integers kept as a sorted array at most.
pub(crate) static SET_MAX_INTSET_ENTRIES: AtomicU64 = AtomicU64::new(512);
/// `set-max-listpack-entries`: members a packed set holds at most.
pub(crate) static SET_MAX_LISTPACK_ENTRIES: AtomicU64 = AtomicU64::new(128);
/// `set-max-listpack-value`: bytes of the longest member of a packed set.
pub(crate) static SET_MAX_LISTPACK_VALUE: AtomicU64 = AtomicU64::new(64);
/// `zset-max-listpack-entries`: members a packed sorted set holds at most.
pub(crate) static ZSET_MAX_LISTPACK_ENTRIES: AtomicU64 = AtomicU64::new(128);
/// `zset-max-listpack-value`: bytes of the longest member of a packed sorted set.
pub(crate) static ZSET_MAX_LISTPACK_VALUE: AtomicU64 = AtomicU64::new(64);
/// `list-max-listpack-size`: elements a list's node holds at most; from -1 to -5, its bytes: 4, 8, 16, 32 or 64 KiB.
pub(crate) static LIST_MAX_LISTPACK_SIZE: AtomicI64 = AtomicI64::new(-2);
/// `list-compress-depth`: nodes at each end of a list that are never compressed. Kept for `CONFIG`; no list is compressed.
pub(crate) static LIST_COMPRESS_DEPTH: AtomicU64 = AtomicU64::new(0);
/// `stream-node-max-bytes`: bytes a stream's node holds at most; 0 for no bound.
pub(crate) static STREAM_NODE_MAX_BYTES: AtomicU64 = AtomicU64::new(4096);
/// `stream-node-max-entries`: entries a stream's node holds at most; 0 for no bound.
pub(crate) static STREAM_NODE_MAX_ENTRIES: AtomicU64 = AtomicU64::new(100);
/// `hll-sparse-max-bytes`: bytes up to which a HyperLogLog stays sparse.
pub(crate) static HLL_SPARSE_MAX_BYTES: AtomicU64 = AtomicU64::new(3000);
/// `proto-max-bulk-len`: bytes a string, or one argument, has at most.
pub(crate) static PROTO_MAX_BULK_LEN: AtomicU64 = AtomicU64::new(512 << 20);

/// What a bound is now.
#[inline]
pub(crate) fn get(bound: &AtomicU64) -> usize {
    bound.load(Relaxed) as usize
}
