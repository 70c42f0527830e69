//! Where a library collects bytes before they are a string of Lua. The block comes from Lua's own allocator, so it counts as the script's; it
//! hangs at a userdata that every function of the library has as its first upvalue, so an error that jumps over the frame that fills it leaks
//! nothing, and the next call uses it again.

use std::ffi::{c_int, c_void};
use std::{ptr, slice};

use mlua::ffi::{
    LUA_GCCOLLECT, lua_State, lua_createtable, lua_gc, lua_getallocf, lua_newuserdata, lua_pushcclosure, lua_rawset,
    lua_setmetatable, lua_touserdata, lua_upvalueindex, luaL_error,
};

use crate::lua::raw::push_bytes;

/// What is kept between calls; more is given back, as most calls are small.
const KEPT: usize = 64 << 10;

const SMALLEST: usize = 256;

/// Only one function uses it at a time: nothing that fills one calls a function of Lua.
pub(crate) struct Scratch {
    pub text: Buffer,
    /// The tables around the value that is read or written; what can be tried yet.
    pub levels: Buffer,
}

/// Bytes that grow.
pub(crate) struct Buffer {
    start: *mut u8,
    length: usize,
    capacity: usize,
}

/// Puts a new one on the stack.
pub(crate) unsafe fn push_scratch(state: *mut lua_State) {
    unsafe {
        let scratch = lua_newuserdata(state, size_of::<Scratch>()).cast::<Scratch>();
        scratch.write(Scratch { text: Buffer::EMPTY, levels: Buffer::EMPTY });
        lua_createtable(state, 0, 1);
        push_bytes(state, b"__gc");
        lua_pushcclosure(state, free, 0);
        lua_rawset(state, -3);
        lua_setmetatable(state, -2);
    }
}

/// That of the function which runs, emptied.
pub(crate) unsafe fn scratch<'a>(state: *mut lua_State) -> &'a mut Scratch {
    unsafe {
        let scratch = &mut *lua_touserdata(state, lua_upvalueindex(1)).cast::<Scratch>();
        scratch.clear(state);
        scratch
    }
}

unsafe extern "C-unwind" fn free(state: *mut lua_State) -> c_int {
    unsafe {
        let scratch = &mut *lua_touserdata(state, 1).cast::<Scratch>();
        scratch.text.free(state);
        scratch.levels.free(state);
        0
    }
}

impl Scratch {
    pub(crate) unsafe fn clear(&mut self, state: *mut lua_State) {
        unsafe {
            self.text.clear(state);
            self.levels.clear(state);
        }
    }
}

impl Buffer {
    const EMPTY: Buffer = Buffer { start: ptr::null_mut(), length: 0, capacity: 0 };

    pub(crate) fn bytes(&self) -> &[u8] {
        if self.length == 0 {
            return &[];
        }
        // SAFETY: that many bytes were written.
        unsafe { slice::from_raw_parts(self.start, self.length) }
    }

    pub(crate) unsafe fn push(&mut self, state: *mut lua_State, byte: u8) {
        unsafe {
            self.reserve(state, 1);
            self.start.add(self.length).write(byte);
            self.length += 1;
        }
    }

    pub(crate) unsafe fn extend(&mut self, state: *mut lua_State, bytes: &[u8]) {
        unsafe {
            self.reserve(state, bytes.len());
            self.start.add(self.length).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            self.length += bytes.len();
        }
    }

    pub(crate) unsafe fn extend_zeros(&mut self, state: *mut lua_State, count: usize) {
        unsafe {
            self.reserve(state, count);
            self.start.add(self.length).write_bytes(0, count);
            self.length += count;
        }
    }

    /// For a buffer that holds nothing but these.
    pub(crate) unsafe fn push_record<T: Copy>(&mut self, state: *mut lua_State, record: T) {
        unsafe {
            self.reserve(state, size_of::<T>());
            self.start.add(self.length).cast::<T>().write_unaligned(record);
            self.length += size_of::<T>();
        }
    }

    pub(crate) unsafe fn last_record<T: Copy>(&self) -> Option<T> {
        let before = self.length.checked_sub(size_of::<T>())?;
        // SAFETY: the caller pushed one there.
        Some(unsafe { self.start.add(before).cast::<T>().read_unaligned() })
    }

    pub(crate) unsafe fn set_last_record<T: Copy>(&mut self, record: T) {
        // SAFETY: the caller pushed one there.
        unsafe { self.start.add(self.length - size_of::<T>()).cast::<T>().write_unaligned(record) }
    }

    pub(crate) unsafe fn pop_record<T: Copy>(&mut self) -> Option<T> {
        // SAFETY: the caller pushed one there.
        let record = unsafe { self.last_record::<T>() }?;
        self.length -= size_of::<T>();
        Some(record)
    }

    pub(crate) unsafe fn reserve(&mut self, state: *mut lua_State, more: usize) {
        if self.capacity - self.length < more {
            unsafe { self.grow(state, more) }
        }
    }

    #[cold]
    unsafe fn grow(&mut self, state: *mut lua_State, more: usize) {
        unsafe {
            let needed = self.length.saturating_add(more);
            let generous = needed.max(self.capacity.saturating_mul(2)).max(SMALLEST);
            if self.resize(state, generous) || self.resize(state, needed) {
                return;
            }
            // Lua 5.1 collects nothing where memory ends, so this is done for it.
            lua_gc(state, LUA_GCCOLLECT, 0);
            if !self.resize(state, needed) {
                // It is refused as well, and only Lua itself can raise the error for that.
                lua_newuserdata(state, needed);
                luaL_error(state, c"not enough memory".as_ptr());
            }
        }
    }

    unsafe fn resize(&mut self, state: *mut lua_State, capacity: usize) -> bool {
        unsafe {
            if capacity > isize::MAX as usize {
                return false;
            }
            let mut owner = ptr::null_mut();
            let allocate = lua_getallocf(state, &mut owner);
            let fresh = allocate(owner, self.start.cast::<c_void>(), self.capacity, capacity);
            if fresh.is_null() {
                return false;
            }
            self.start = fresh.cast::<u8>();
            self.capacity = capacity;
            true
        }
    }

    /// Empties it, and gives back what is much.
    pub(crate) unsafe fn clear(&mut self, state: *mut lua_State) {
        self.length = 0;
        if self.capacity > KEPT {
            unsafe { self.free(state) }
        }
    }

    unsafe fn free(&mut self, state: *mut lua_State) {
        unsafe {
            if self.capacity > 0 {
                let mut owner = ptr::null_mut();
                let allocate = lua_getallocf(state, &mut owner);
                allocate(owner, self.start.cast::<c_void>(), self.capacity, 0);
            }
            *self = Buffer::EMPTY;
        }
    }
}
