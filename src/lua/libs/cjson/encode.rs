//! Values of Lua as JSON.

use std::ffi::{CStr, c_int};

use mlua::ffi::{
    LUA_TBOOLEAN, LUA_TLIGHTUSERDATA, LUA_TNIL, LUA_TNUMBER, LUA_TSTRING, LUA_TTABLE, lua_State, lua_checkstack, lua_gettop,
    lua_next, lua_pushnil, lua_rawgeti_, lua_replace, lua_toboolean, lua_tonumber, lua_topointer, lua_type, lua_typename,
    luaL_argerror, luaL_error,
};

use crate::lua::frozen::real;
use crate::lua::libs::cjson::options::{AS_NULL, OFF, Options, options};
use crate::lua::libs::number::general;
use crate::lua::libs::scratch::{Scratch, scratch};
use crate::lua::libs::steps::Steps;
use crate::lua::libs::values::{bytes, cleared, small};
use crate::lua::raw::{pop, push_bytes};

pub(crate) unsafe extern "C-unwind" fn encode(state: *mut lua_State) -> c_int {
    unsafe {
        if lua_gettop(state) != 1 {
            luaL_argerror(state, 1, c"expected 1 argument".as_ptr());
        }
        let scratch = scratch(state);
        let mut encoder = Encoder { state, options: options(state), scratch, depth: 0, steps: Steps::new() };
        encoder.write_top();
        push_bytes(state, encoder.scratch.text.bytes());
        encoder.scratch.clear(state);
        1
    }
}

struct Encoder<'a> {
    state: *mut lua_State,
    options: &'a Options,
    scratch: &'a mut Scratch,
    depth: c_int,
    steps: Steps,
}

/// A table that is being written. It lies on the stack; above it, where it is an object, the key of what was written last.
#[derive(Clone, Copy)]
struct Level {
    written: c_int,
    /// 0 for an object.
    length: c_int,
}

impl Encoder<'_> {
    /// Takes the value on top. It does not recurse: how deep a script may nest tables is up to the script.
    unsafe fn write_top(&mut self) {
        unsafe {
            loop {
                if lua_type(self.state, -1) == LUA_TTABLE {
                    self.open_table();
                } else {
                    self.write_scalar();
                    pop(self.state, 1);
                }
                while !self.push_next() {
                    if self.depth == 0 {
                        return;
                    }
                    self.scratch.levels.pop_record::<Level>();
                    self.depth -= 1;
                    pop(self.state, 1);
                }
            }
        }
    }

    /// Puts the next value of the innermost table on the stack, if there is one.
    unsafe fn push_next(&mut self) -> bool {
        unsafe {
            self.steps.take(self.state, 1);
            let Some(level) = self.scratch.levels.last_record::<Level>() else { return false };
            if level.length == 0 { self.push_next_field(level) } else { self.push_next_item(level) }
        }
    }

    unsafe fn push_next_item(&mut self, level: Level) -> bool {
        unsafe {
            if level.written == level.length {
                self.push(b']');
                return false;
            }
            if level.written > 0 {
                self.push(b',');
            }
            let index = level.written + 1;
            self.scratch.levels.set_last_record(Level { written: index, ..level });
            lua_rawgeti_(self.state, -1, index);
            true
        }
    }

    unsafe fn push_next_field(&mut self, level: Level) -> bool {
        unsafe {
            if level.written == 0 {
                lua_pushnil(self.state);
            }
            if lua_next(self.state, -2) == 0 {
                self.push(b'}');
                return false;
            }
            if level.written == 0 {
                self.scratch.levels.set_last_record(Level { written: 1, ..level });
            } else {
                self.push(b',');
            }
            self.write_key();
            true
        }
    }

    /// That below the value on top.
    unsafe fn write_key(&mut self) {
        unsafe {
            match lua_type(self.state, -2) {
                LUA_TNUMBER => {
                    self.push(b'"');
                    self.write_number(-2);
                    self.push(b'"');
                }
                LUA_TSTRING => self.write_string(-2),
                _ => self.refuse(-2, c"table key must be a number or string"),
            }
            self.push(b':');
        }
    }

    unsafe fn write_scalar(&mut self) {
        unsafe {
            match lua_type(self.state, -1) {
                LUA_TSTRING => self.write_string(-1),
                LUA_TNUMBER => self.write_number(-1),
                LUA_TBOOLEAN if lua_toboolean(self.state, -1) != 0 => self.extend(b"true"),
                LUA_TBOOLEAN => self.extend(b"false"),
                LUA_TNIL => self.extend(b"null"),
                LUA_TLIGHTUSERDATA if lua_topointer(self.state, -1).is_null() => self.extend(b"null"),
                _ => self.refuse(-1, c"type not supported"),
            }
        }
    }

    unsafe fn open_table(&mut self) {
        unsafe {
            self.depth += 1;
            // For a key, a value, and the text of an error.
            if self.depth > self.options.encode_depth || lua_checkstack(self.state, 3) == 0 {
                luaL_error(cleared(self.state), c"Cannot serialise, excessive nesting (%d)".as_ptr(), self.depth);
            }
            if real(self.state, -1) {
                lua_replace(self.state, -2);
            }
            let length = self.array_length().max(0);
            self.push(if length > 0 { b'[' } else { b'{' });
            self.scratch.levels.push_record(self.state, Level { written: 0, length });
        }
    }

    /// The greatest index of the table on top; less than 1 where it is an object. Indexes are ints here, and wrap as in C.
    unsafe fn array_length(&mut self) -> c_int {
        unsafe {
            let (mut greatest, mut count): (c_int, c_int) = (0, 0);
            lua_pushnil(self.state);
            while lua_next(self.state, -2) != 0 {
                self.steps.take(self.state, 1);
                let key = if lua_type(self.state, -2) == LUA_TNUMBER { lua_tonumber(self.state, -2) } else { 0.0 };
                pop(self.state, 1);
                if key < 1.0 || key.floor() != key {
                    pop(self.state, 1);
                    return -1;
                }
                if key > f64::from(greatest) {
                    greatest = small(key);
                }
                count = count.wrapping_add(1);
            }
            if self.is_sparse(greatest, count) {
                if self.options.converts_sparse == OFF {
                    self.refuse(-1, c"excessively sparse array");
                }
                return -1;
            }
            greatest
        }
    }

    fn is_sparse(&self, greatest: c_int, count: c_int) -> bool {
        let ratio = self.options.sparse_ratio;
        ratio > 0 && greatest > count.wrapping_mul(ratio) && greatest > self.options.sparse_safe
    }

    unsafe fn write_number(&mut self, index: c_int) {
        unsafe {
            let number = lua_tonumber(self.state, index);
            if !number.is_finite() {
                return self.write_invalid(number, index);
            }
            self.extend(general(number, self.options.digits as usize).bytes());
        }
    }

    unsafe fn write_invalid(&mut self, number: f64, index: c_int) {
        unsafe {
            match self.options.encode_invalid {
                OFF => self.refuse(index, c"must not be NaN or Inf"),
                AS_NULL => self.extend(b"null"),
                _ if number.is_nan() => self.extend(b"nan"),
                _ if number > 0.0 => self.extend(b"inf"),
                _ => self.extend(b"-inf"),
            }
        }
    }

    unsafe fn write_string(&mut self, index: c_int) {
        unsafe {
            let text = bytes(self.state, index);
            self.steps.take(self.state, text.len() / 16);
            self.scratch.text.reserve(self.state, text.len() + 2);
            self.push(b'"');
            let mut from = 0;
            for (at, byte) in text.iter().enumerate() {
                if IS_ESCAPED[usize::from(*byte)] {
                    self.extend(&text[from..at]);
                    self.write_escape(*byte);
                    from = at + 1;
                }
            }
            self.extend(&text[from..]);
            self.push(b'"');
        }
    }

    unsafe fn write_escape(&mut self, byte: u8) {
        let letter = match byte {
            b'"' | b'\\' | b'/' => byte,
            0x08 => b'b',
            b'\t' => b't',
            b'\n' => b'n',
            0x0c => b'f',
            b'\r' => b'r',
            _ => {
                let digit = |four: u8| b"0123456789abcdef"[usize::from(four & 15)];
                return unsafe { self.extend(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte)]) };
            }
        };
        unsafe { self.extend(&[b'\\', letter]) }
    }

    unsafe fn push(&mut self, byte: u8) {
        unsafe { self.scratch.text.push(self.state, byte) }
    }

    unsafe fn extend(&mut self, bytes: &[u8]) {
        unsafe { self.scratch.text.extend(self.state, bytes) }
    }

    unsafe fn refuse(&mut self, index: c_int, why: &CStr) {
        unsafe {
            let kind = lua_typename(self.state, lua_type(self.state, index));
            luaL_error(cleared(self.state), c"Cannot serialise %s: %s".as_ptr(), kind, why.as_ptr());
        }
    }
}

const IS_ESCAPED: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 32 {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table[b'/' as usize] = true;
    table[127] = true;
    table
};
