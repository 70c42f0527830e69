//! Counts the bytes this process has allocated, so that `maxmemory` and `INFO memory` speak of real numbers.
//! Each thread keeps its own balance and hands it to the shared total in steps, so counting costs no contention.

#![expect(unsafe_code, reason = "a global allocator can only be written with unsafe")]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use mimalloc::MiMalloc;

/// How far a thread's own balance may drift before it is added to the total. Small against any sensible `maxmemory`.
const STEP_BYTES: i64 = 16 * 1024;

/// The number of mimalloc's option `purge_delay`, the same in its versions 2 and 3, for which the crate has no name; and its usual value.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
const PURGE_DELAY_MS: std::ffi::c_long = 1000;

static TOTAL: AtomicI64 = AtomicI64::new(0);
static PEAK: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static BALANCE: Cell<i64> = const { Cell::new(0) };
    /// What this thread's work is set aside as, and how much that is so far; see [`Work`].
    static WORK: Cell<Option<(Aside, i64)>> = const { Cell::new(None) };
}

/// What used memory holds that is on its way and not the user's data: it is bounded by slowing down who makes it, and must not
/// cost anyone keys under `maxmemory`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aside {
    /// Effects on their way to the journal.
    Journal = 0,
    /// Changes on their way to the tables.
    Checkpoint = 1,
    /// A value that is being freed now.
    Freeing = 2,
}

static ASIDE: [AtomicI64; 3] = [const { AtomicI64::new(0) }; 3];

/// Bytes set aside, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Held {
    what: Aside,
    bytes: usize,
}

impl Held {
    /// Sets bytes aside.
    pub(crate) fn new(what: Aside, bytes: usize) -> Held {
        let mut held = Held { what, bytes: 0 };
        held.set(bytes);
        held
    }

    /// How many bytes these are.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// There are so many now.
    pub(crate) fn set(&mut self, bytes: usize) {
        ASIDE[self.what as usize].fetch_add(bytes as i64 - self.bytes as i64, Relaxed);
        self.bytes = bytes;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Sets aside all that its thread allocates while this lives, whoever frees it; for work that leaves nothing behind.
pub(crate) struct Work(PhantomData<*const ()>);

impl Work {
    /// Begins such work.
    pub(crate) fn begin(what: Aside) -> Work {
        flush();
        WORK.set(Some((what, 0)));
        Work(PhantomData)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        flush();
        if let Some((what, bytes)) = WORK.take() {
            ASIDE[what as usize].fetch_sub(bytes, Relaxed);
        }
    }
}

/// Bytes that are set aside as this.
#[inline]
pub(crate) fn aside_bytes_of(what: Aside) -> u64 {
    ASIDE[what as usize].load(Relaxed).max(0) as u64
}

/// All bytes that are set aside.
pub(crate) fn aside_bytes() -> u64 {
    [Aside::Journal, Aside::Checkpoint, Aside::Freeing].map(aside_bytes_of).iter().sum()
}

/// Bytes allocated and not yet freed, over all threads, to within 16 KiB per thread.
pub fn used_bytes() -> u64 {
    flush();
    let used = TOTAL.load(Relaxed).max(0) as u64;
    if used > PEAK.load(Relaxed) {
        PEAK.fetch_max(used, Relaxed);
    }
    used
}

/// The highest value `used_bytes` has returned.
pub(crate) fn peak_bytes() -> u64 {
    PEAK.load(Relaxed)
}

/// Gives the system back what this thread has freed and keeps for later, and what all threads have freed of late. Takes a
/// moment for each 64 KiB this thread has in use: for a thread that was busy and has come to rest.
pub(crate) fn hand_back() {
    // SAFETY: it has no conditions; it only collects the calling thread's free memory.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

/// Whether freed pages go back to the system at once, or after a while, in which they mostly are used again: under `maxmemory` or
/// `memory-limit` the process should be no larger than its data.
pub(crate) fn hand_back_at_once(is_wanted: bool) {
    let delay_ms = if is_wanted { 0 } else { PURGE_DELAY_MS };
    // SAFETY: it has no conditions; it only sets an option of the allocator.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, delay_ms) }
}

/// Bytes the allocator has made usable for itself, those it keeps for later with them.
pub(crate) fn committed_bytes() -> u64 {
    use std::ptr::null_mut;
    let mut committed = 0usize;
    // SAFETY: it writes to the places it is given and skips those that are null.
    unsafe {
        libmimalloc_sys::mi_process_info(
            null_mut(),
            null_mut(),
            null_mut(),
            null_mut(),
            null_mut(),
            &raw mut committed,
            null_mut(),
            null_mut(),
        );
    }
    committed as u64
}

fn flush() {
    let _ = BALANCE.try_with(|balance| add(balance.replace(0)));
}

fn add(bytes: i64) {
    TOTAL.fetch_add(bytes, Relaxed);
    if let Ok(Some((what, sum))) = WORK.try_with(Cell::get) {
        WORK.set(Some((what, sum + bytes)));
        ASIDE[what as usize].fetch_add(bytes, Relaxed);
    }
}

fn count(bytes: i64) {
    let _ = BALANCE.try_with(|balance| {
        let sum = balance.get() + bytes;
        if sum.abs() < STEP_BYTES {
            balance.set(sum);
        } else {
            balance.set(0);
            add(sum);
        }
    });
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call is passed on unchanged to mimalloc, which upholds the contract; counting neither allocates nor panics.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: `ptr` came from `alloc` above with this `layout`.
        unsafe { MiMalloc.dealloc(ptr, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as i64 - layout.size() as i64);
        // SAFETY: `ptr` came from `alloc` above with this `layout`; `size` is the caller's promise.
        unsafe { MiMalloc.realloc(ptr, layout, size) }
    }
}
