//! Gives large values' memory back on a thread of its own, so that nobody waits while a million elements are freed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

use crate::engine::shard::Database;
use crate::engine::value::{Rows, Value};
use crate::memory;

/// Values with fewer elements are freed where they are removed, and not counted; Redis has the same bound.
const ELEMENTS_MIN: usize = 64;
/// Below this many elements or keys, freeing takes less time than starting a thread.
const THREAD_MIN: usize = 4096;

/// What is being freed, and what was.
#[derive(Default)]
pub struct Freeing {
    /// Large values and databases not freed yet (`lazyfree_pending_objects`).
    pub pending: AtomicU64,
    /// Those that were (`lazyfreed_objects`).
    pub freed: AtomicU64,
}

/// Frees a value that was removed.
pub fn value(freeing: &Arc<Freeing>, value: Value) {
    let elements = value.rows().map_or(0, Rows::row_count);
    if elements > ELEMENTS_MIN {
        later(freeing, 1, elements, value);
    }
}

/// Frees the databases of a flush.
pub fn databases(freeing: &Arc<Freeing>, databases: Vec<Database>) {
    let keys = databases.iter().map(|database| database.keys.len()).sum();
    later(freeing, keys as u64, keys, databases);
}

fn later<T: Send + 'static>(freeing: &Arc<Freeing>, objects: u64, size: usize, garbage: T) {
    freeing.pending.fetch_add(objects, Relaxed);
    let counts = Arc::clone(freeing);
    let free = move || {
        drop(garbage);
        // This thread ends: what it has counted goes to the total now.
        memory::used_bytes();
        counts.pending.fetch_sub(objects, Relaxed);
        counts.freed.fetch_add(objects, Relaxed);
    };
    if size < THREAD_MIN {
        free();
    } else {
        // Where no thread can be had, what was to be run on it is dropped, and with it the garbage.
        let _ = thread::Builder::new().name("free".into()).spawn(free);
    }
}
