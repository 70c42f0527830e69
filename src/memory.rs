//! Counts the bytes this process has allocated, so that `maxmemory` and `INFO memory` speak of real numbers.
//! Each thread keeps its own balance and hands it to the shared total in steps, so counting costs no contention.

#![expect(unsafe_code, reason = "a global allocator can only be written with unsafe")]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use mimalloc::MiMalloc;

/// How far a thread's own balance may drift before it is added to the total. Small against any sensible `maxmemory`.
const STEP_BYTES: i64 = 16 * 1024;

static TOTAL: AtomicI64 = AtomicI64::new(0);
static PEAK: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static BALANCE: Cell<i64> = const { Cell::new(0) };
}

/// What used memory holds that is not the user's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aside {
    /// Effects on their way to the journal.
    Journal = 0,
    /// Changes on their way to the tables.
    Checkpoint = 1,
}

static ASIDE: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];

/// Says how many of the used bytes are passing work of ours, which must not cost anyone keys under `maxmemory`.
pub fn set_aside(what: Aside, bytes: u64) {
    ASIDE[what as usize].store(bytes, Relaxed);
}

/// What [`set_aside`] was told last, of this kind.
pub fn aside_bytes_of(what: Aside) -> u64 {
    ASIDE[what as usize].load(Relaxed)
}

/// What [`set_aside`] was told last, of all kinds.
pub fn aside_bytes() -> u64 {
    aside_bytes_of(Aside::Journal) + aside_bytes_of(Aside::Checkpoint)
}

/// Bytes allocated and not yet freed, over all threads, to within 16 KiB per thread.
pub fn used_bytes() -> u64 {
    flush();
    let used = TOTAL.load(Relaxed).max(0) as u64;
    PEAK.fetch_max(used, Relaxed);
    used
}

/// The highest value `used_bytes` has returned.
pub fn peak_bytes() -> u64 {
    PEAK.load(Relaxed)
}

/// Gives the system back what this thread has freed and keeps for later, and what all threads have freed of late. Takes a
/// moment for each 64 KiB this thread has in use: for a thread that was busy and has come to rest.
pub fn hand_back() {
    // SAFETY: it has no conditions; it only collects the calling thread's free memory.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

/// Bytes the allocator has made usable for itself, those it keeps for later with them.
pub fn committed_bytes() -> u64 {
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
    let _ = BALANCE.try_with(|balance| TOTAL.fetch_add(balance.replace(0), Relaxed));
}

fn count(bytes: i64) {
    let _ = BALANCE.try_with(|balance| {
        let sum = balance.get() + bytes;
        if sum.abs() < STEP_BYTES {
            balance.set(sum);
        } else {
            balance.set(0);
            TOTAL.fetch_add(sum, Relaxed);
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
