//! Gives large values' memory back on a thread of its own, so that nobody waits while a million elements are freed.
//!
//! One thread, from the first large value until the engine ends, with a queue before it. Where the queue holds its share, whoever
//! removes a value frees it; and whoever is short of memory under `maxmemory` frees what is queued before any key goes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use parking_lot::{Condvar, Mutex};

use crate::engine::shard::{Database, Entry};
use crate::engine::value::{Rows, Value};
use crate::lifecycle::{Lifecycle, Phase, Plan};
use crate::memory::{self, Aside, Held};

/// Values with fewer elements are freed where they are removed, and not counted; Redis has the same bound.
const ELEMENTS_MIN: usize = 64;
/// Below this many elements or keys, freeing takes less time than waking a thread.
const THREAD_MIN: usize = 4096;
/// Bytes of values that may wait to be freed. A flushed database may always wait: it is no more than the memory there was.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// Keys looked at to tell how much memory a database gives back, roughly.
const SAMPLES: usize = 8;

/// What is being freed, and what was.
pub(crate) struct Freeing {
    /// Large values and databases' keys not freed yet (`lazyfree_pending_objects`).
    pub pending: AtomicU64,
    /// Those that were (`lazyfreed_objects`).
    pub freed: AtomicU64,
    /// How many pieces wait, to be known without the lock.
    waiting: AtomicUsize,
    queue: Mutex<Queue>,
    changed: Condvar,
    lifecycle: Lifecycle,
}

#[derive(Default)]
struct Queue {
    garbage: VecDeque<Garbage>,
    /// Of the values in it.
    bytes: usize,
    has_thread: bool,
    is_stopping: bool,
}

struct Garbage {
    objects: u64,
    bytes: usize,
    what: What,
}

#[expect(dead_code, reason = "what stands in them is dropped and not read")]
enum What {
    Value(Value),
    Database(Database),
}

/// Frees a value that was removed.
#[inline]
pub(crate) fn value(freeing: &Arc<Freeing>, value: Value) {
    if !matches!(value, Value::String(_)) {
        freeing.add_value(value);
    }
}

/// Frees the databases of a flush, one of each shard.
pub(crate) fn databases(freeing: &Arc<Freeing>, databases: Vec<Database>) {
    let keys: usize = databases.iter().map(|database| database.keys.len()).sum();
    for database in databases {
        let (objects, bytes) = (database.keys.len() as u64, database_bytes(&database));
        freeing.add(Garbage { objects, bytes, what: What::Database(database) }, keys >= THREAD_MIN);
    }
}

impl Freeing {
    /// Nothing yet. Its thread starts with the first large value.
    pub(crate) fn new(lifecycle: &Lifecycle) -> Freeing {
        Freeing {
            pending: AtomicU64::new(0),
            freed: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            queue: Mutex::default(),
            changed: Condvar::new(),
            lifecycle: lifecycle.clone(),
        }
    }

    fn add_value(self: &Arc<Self>, value: Value) {
        let Some(rows) = value.rows() else { return };
        let (elements, bytes) = (rows.row_count(), rows.memory_bytes());
        if elements > ELEMENTS_MIN {
            self.add(Garbage { objects: 1, bytes, what: What::Value(value) }, elements >= THREAD_MIN);
        }
    }

    fn add(self: &Arc<Self>, garbage: Garbage, is_large: bool) {
        self.pending.fetch_add(garbage.objects, Relaxed);
        let refused = if is_large { self.queue(garbage) } else { Some(garbage) };
        if let Some(garbage) = refused {
            self.free(garbage);
        }
    }

    /// Leaves it to the thread; gives it back where that has enough to do, or is not to be had.
    fn queue(self: &Arc<Self>, garbage: Garbage) -> Option<Garbage> {
        let mut queue = self.queue.lock();
        let is_value = matches!(garbage.what, What::Value(_));
        if queue.is_stopping || is_value && queue.bytes >= QUEUE_BYTES_MAX {
            return Some(garbage);
        }
        if !queue.has_thread {
            let freeing = Arc::clone(self);
            let plan = Plan::new("free", Phase::Tend).wakes(self, Freeing::end);
            if self.lifecycle.start(plan, move |_| freeing.run()).is_err() {
                return Some(garbage);
            }
            queue.has_thread = true;
        }
        queue.bytes += if is_value { garbage.bytes } else { 0 };
        queue.garbage.push_back(garbage);
        self.waiting.store(queue.garbage.len(), Relaxed);
        self.changed.notify_one();
        None
    }

    /// Frees what waits until told to stop. What is left then goes with the last handle.
    fn run(&self) {
        while let Some(garbage) = self.next() {
            self.free(garbage);
        }
    }

    fn next(&self) -> Option<Garbage> {
        let mut queue = self.queue.lock();
        let mut has_rested = false;
        while !queue.is_stopping {
            if let Some(garbage) = self.take(&mut queue) {
                return Some(garbage);
            }
            if !has_rested {
                parking_lot::MutexGuard::unlocked(&mut queue, memory::hand_back);
                has_rested = true;
                continue;
            }
            self.changed.wait(&mut queue);
        }
        None
    }

    fn take(&self, queue: &mut Queue) -> Option<Garbage> {
        let garbage = queue.garbage.pop_front()?;
        if matches!(garbage.what, What::Value(_)) {
            queue.bytes -= garbage.bytes;
        }
        if queue.garbage.is_empty() {
            queue.garbage = VecDeque::new();
        }
        self.waiting.store(queue.garbage.len(), Relaxed);
        Some(garbage)
    }

    /// Frees one piece of what waits, here and now; false if nothing does.
    pub(crate) fn free_one(&self) -> bool {
        if self.waiting.load(Relaxed) == 0 {
            return false;
        }
        let garbage = self.take(&mut self.queue.lock());
        garbage.map(|garbage| self.free(garbage)).is_some()
    }

    fn free(&self, garbage: Garbage) {
        // While it is going, it counts as gone: nobody must evict a key for the same bytes.
        let held = Held::new(Aside::Freeing, garbage.bytes);
        drop(garbage.what);
        // What this thread has counted goes to the total now.
        memory::used_bytes();
        drop(held);
        self.pending.fetch_sub(garbage.objects, Relaxed);
        self.freed.fetch_add(garbage.objects, Relaxed);
    }

    /// Has the thread end, once it has freed what it is at. From here on, values are freed where they are removed.
    fn end(&self) {
        self.queue.lock().is_stopping = true;
        self.changed.notify_one();
    }

    /// The same, and waits for it. The lifecycle asks it to: an end that was not asked for there is a death.
    pub(crate) fn stop(&self) {
        self.lifecycle.stop(Phase::Tend);
    }
}

/// What a database takes, judged by some of its keys.
fn database_bytes(database: &Database) -> usize {
    let (keys, len) = (&database.keys, database.keys.len());
    let own = |entry: &Entry| entry.key().heap_bytes() + entry.value().rows().map_or(0, Rows::memory_bytes);
    let samples = SAMPLES.min(len);
    let sum: usize = (0..samples).map(|number| own(keys.at((number * len / samples) as u32))).sum();
    keys.table_bytes() + sum * len / samples.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::types::string::Str;

    /// It may hear that it is to end at any point of its life; asked by the lifecycle, that is no death.
    #[test]
    fn the_end_of_its_thread_is_no_death() {
        for round in 0..300 {
            let lifecycle = Lifecycle::default();
            let freeing = Arc::new(Freeing::new(&lifecycle));
            let what = What::Value(Value::String(Str::from(&b"value"[..])));
            assert!(freeing.queue(Garbage { objects: 0, bytes: 0, what }).is_none());
            (0..round * 50).for_each(|_| std::thread::yield_now());
            freeing.stop();
            assert_eq!(lifecycle.report(), []);
        }
    }
}
