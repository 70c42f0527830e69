//! A string that is put together while functions of the script run in between: what is full becomes a string on Lua's stack, and these are joined
//! as they come, so that each byte is copied a few times at most and the stack stays short.

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::slice;

use mlua::ffi::{lua_State, lua_concat, lua_insert, lua_objlen, luaL_checkstack_};

use crate::lua::libs::values::bytes;
use crate::lua::raw::{pop, push_bytes};

const CHUNK: usize = 1024;

/// Of Lua's stack.
const PIECES_MAX: c_int = 12;

/// Invariant: `count` strings of it lie on top of the stack whenever it is told something, but for the one value of `add_value`.
pub(crate) struct Pieces {
    state: *mut lua_State,
    count: c_int,
    used: usize,
    chunk: [MaybeUninit<u8>; CHUNK],
}

impl Pieces {
    pub(crate) unsafe fn new(state: *mut lua_State) -> Pieces {
        unsafe { luaL_checkstack_(state, PIECES_MAX + 4, c"too many pieces".as_ptr()) };
        Pieces { state, count: 0, used: 0, chunk: [MaybeUninit::uninit(); CHUNK] }
    }

    pub(crate) unsafe fn push(&mut self, byte: u8) {
        unsafe {
            if self.used == CHUNK {
                self.flush();
            }
            self.chunk[self.used].write(byte);
            self.used += 1;
        }
    }

    pub(crate) unsafe fn extend(&mut self, bytes: &[u8]) {
        unsafe {
            if bytes.len() > CHUNK - self.used {
                self.flush();
            }
            if bytes.len() > CHUNK {
                push_bytes(self.state, bytes);
                return self.join();
            }
            let room = self.chunk.as_mut_ptr().cast::<u8>().add(self.used);
            room.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            self.used += bytes.len();
        }
    }

    /// Takes the value on top, a string or a number.
    pub(crate) unsafe fn add_value(&mut self) {
        unsafe {
            let value = bytes(self.state, -1);
            if value.len() <= CHUNK - self.used {
                self.extend(value);
                return pop(self.state, 1);
            }
            if self.used > 0 {
                self.push_chunk();
                lua_insert(self.state, -2);
                self.count += 1;
            }
            self.join();
        }
    }

    /// Leaves the whole on top.
    pub(crate) unsafe fn finish(&mut self) {
        unsafe {
            self.push_chunk();
            lua_concat(self.state, self.count + 1);
        }
    }

    unsafe fn flush(&mut self) {
        if self.used > 0 {
            unsafe {
                self.push_chunk();
                self.join();
            }
        }
    }

    unsafe fn push_chunk(&mut self) {
        unsafe {
            push_bytes(self.state, slice::from_raw_parts(self.chunk.as_ptr().cast::<u8>(), self.used));
            self.used = 0;
        }
    }

    /// The string on top is one more piece: shorter ones below go into it, and all where there are many.
    unsafe fn join(&mut self) {
        unsafe {
            self.count += 1;
            let (mut joined, mut length) = (1, lua_objlen(self.state, -1));
            while joined < self.count {
                let below = lua_objlen(self.state, -1 - joined);
                if length <= below && self.count - joined < PIECES_MAX - 1 {
                    break;
                }
                length += below;
                joined += 1;
            }
            if joined > 1 {
                lua_concat(self.state, joined);
                self.count -= joined - 1;
            }
        }
    }
}
