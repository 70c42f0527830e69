//! The bytes of a Lua state: counted, and bounded by a ceiling that its owner moves.

use std::alloc::{Layout, alloc, dealloc, realloc};
use std::ffi::c_void;
use std::ptr;

/// What `malloc` promises, which userdata of libraries may count on.
const ALIGN: usize = 16;

pub(crate) struct Memory {
    pub used: usize,
    pub ceiling: usize,
    #[cfg(test)]
    pub failing: Failing,
}

/// Which allocations fail while there is a ceiling.
#[cfg(test)]
#[derive(Default)]
pub(super) struct Failing {
    /// How many there were.
    pub asked: u64,
    pub which: std::ops::Range<u64>,
}

#[cfg(test)]
impl Failing {
    fn fails(&mut self) -> bool {
        self.asked += 1;
        self.which.contains(&(self.asked - 1))
    }
}

impl Memory {
    pub(crate) const fn unbounded() -> Memory {
        Memory {
            used: 0,
            ceiling: usize::MAX,
            #[cfg(test)]
            failing: Failing { asked: 0, which: 0..0 },
        }
    }
}

/// What Lua allocates by. `owner` is a `Memory`, or what begins with one.
///
/// # Safety
/// Lua hands back the sizes it asked for, and no other thread uses this state.
pub(crate) unsafe extern "C" fn allocate(owner: *mut c_void, block: *mut c_void, old: usize, new: usize) -> *mut c_void {
    // SAFETY: the owner outlives its state, and blocks come from here with the sizes they were asked for.
    unsafe {
        let memory = owner.cast::<Memory>();
        if new == 0 {
            if old > 0 {
                dealloc(block.cast(), layout(old));
                (*memory).used -= old;
            }
            return ptr::null_mut();
        }
        let others = (*memory).used - old;
        // What shrinks must not fail.
        if new > old && (others.saturating_add(new) > (*memory).ceiling || new > isize::MAX as usize - ALIGN) {
            return ptr::null_mut();
        }
        #[cfg(test)]
        if new > old && (*memory).ceiling < usize::MAX && (*memory).failing.fails() {
            return ptr::null_mut();
        }
        let fresh = if old == 0 { alloc(layout(new)) } else { realloc(block.cast(), layout(old), new) };
        if !fresh.is_null() {
            (*memory).used = others + new;
        }
        fresh.cast()
    }
}

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, ALIGN).expect("sizes beyond what a layout takes were refused when they were asked for")
}
