//! MessagePack as values of Lua.

use std::ffi::c_int;

use mlua::ffi::{
    lua_Integer, lua_State, lua_createtable, lua_gettop, lua_insert, lua_pushboolean, lua_pushinteger, lua_pushnil,
    lua_pushnumber, lua_rawset, luaL_checkinteger, luaL_error, luaL_optinteger,
};

use crate::lua::libs::scratch::{Buffer, scratch};
use crate::lua::libs::steps::Steps;
use crate::lua::libs::values::{check_bytes, cleared, need};
use crate::lua::raw::{pop, push_bytes};

/// All values of a text.
pub(crate) unsafe extern "C-unwind" fn unpack(state: *mut lua_State) -> c_int {
    unsafe { unpack_some(state, 0, 0) }
}

/// The first value behind an offset.
pub(crate) unsafe extern "C-unwind" fn unpack_one(state: *mut lua_State) -> c_int {
    unsafe {
        let offset = luaL_optinteger(state, 2, 0);
        pop(state, lua_gettop(state) - 1);
        unpack_some(state, 1, offset)
    }
}

/// So many values behind an offset.
pub(crate) unsafe extern "C-unwind" fn unpack_limit(state: *mut lua_State) -> c_int {
    unsafe {
        let limit = luaL_checkinteger(state, 2);
        let offset = luaL_optinteger(state, 3, 0);
        pop(state, lua_gettop(state) - 1);
        unpack_some(state, limit, offset)
    }
}

/// Answers where it goes on before the values, -1 at the end; but with neither a limit nor an offset the values alone, and all.
unsafe fn unpack_some(state: *mut lua_State, limit: lua_Integer, offset: lua_Integer) -> c_int {
    unsafe {
        let takes_all = limit == 0 && offset == 0;
        let text = check_bytes(state, 1);
        let length = text.len();
        if offset < 0 || limit < 0 {
            let error = c"Invalid request to unpack with offset of %d and limit of %d.";
            return luaL_error(state, error.as_ptr(), offset as c_int, length as c_int);
        }
        let Some(rest) = text.get(offset as usize..) else {
            let error = c"Start offset %d greater than input length %d.";
            return luaL_error(state, error.as_ptr(), offset as c_int, length as c_int);
        };
        let limit = if takes_all { lua_Integer::from(c_int::MAX) } else { limit };
        let mut unpacker = Unpacker { state, rest, levels: &mut scratch(state).levels, steps: Steps::new() };
        let mut count = 0;
        while !unpacker.rest.is_empty() && lua_Integer::from(count) < limit {
            unpacker.push_value();
            count += 1;
        }
        unpacker.levels.clear(state);
        if takes_all {
            return count;
        }
        need(state, 1, c"in function mp_unpack_full");
        let left = unpacker.rest.len();
        lua_pushinteger(state, if left == 0 { -1 } else { (length - left) as lua_Integer });
        lua_insert(state, 2);
        count + 1
    }
}

struct Unpacker<'a> {
    state: *mut lua_State,
    rest: &'a [u8],
    levels: &'a mut Buffer,
    steps: Steps,
}

/// A table that is being read. Above it on the stack lies the key of the next value, where that is known.
#[derive(Clone, Copy)]
struct Level {
    is_array: bool,
    has_key: bool,
    /// Values that are yet to come, this one among them.
    left: u32,
    /// Of an array.
    index: u32,
}

impl<'a> Unpacker<'a> {
    /// Reads a value and puts it on the stack. It does not recurse: how deep it is nested is up to who made the text.
    unsafe fn push_value(&mut self) {
        unsafe {
            loop {
                if !self.begin_value() && !self.store() {
                    return;
                }
            }
        }
    }

    /// Whether it is a table with something in it, whose first value or key comes next.
    unsafe fn begin_value(&mut self) -> bool {
        unsafe {
            self.steps.take(self.state, 1);
            let Some(&tag) = self.rest.first() else { self.missing() };
            let error = c"too many return values at once; use unpack_one or unpack_limit instead.";
            need(self.state, 1, error);
            match tag {
                0x00..0x80 | 0xe0.. => self.integer(1, |_| i64::from(tag as i8)),
                0x80..0x90 => return self.open(false, 1, u32::from(tag & 15)),
                0x90..0xa0 => return self.open(true, 1, u32::from(tag & 15)),
                0xa0..0xc0 => self.string(1, usize::from(tag & 31)),
                0xc0 => {
                    self.take(1);
                    lua_pushnil(self.state);
                }
                0xc2 | 0xc3 => {
                    self.take(1);
                    lua_pushboolean(self.state, (tag & 1).into());
                }
                0xca => {
                    let float = f32::from_be_bytes(self.array());
                    lua_pushnumber(self.state, float.into());
                }
                0xcb => {
                    let double = f64::from_be_bytes(self.array());
                    lua_pushnumber(self.state, double);
                }
                0xcc => self.integer(2, |bytes| bytes[0].into()),
                0xcd => self.integer(3, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]).into()),
                0xce => self.integer(5, |bytes| unsigned(bytes).into()),
                // What has the highest bit set comes out negative, as in C.
                0xcf | 0xd3 => self.integer(9, |bytes| i64::from_be_bytes(std::array::from_fn(|at| bytes[at]))),
                0xd0 => self.integer(2, |bytes| (bytes[0] as i8).into()),
                0xd1 => self.integer(3, |bytes| i16::from_be_bytes([bytes[0], bytes[1]]).into()),
                0xd2 => self.integer(5, |bytes| (unsigned(bytes) as i32).into()),
                0xd9 => self.long_string(2),
                0xda => self.long_string(3),
                0xdb => self.long_string(5),
                0xdc => return self.open_long(true, 3),
                0xdd => return self.open_long(true, 5),
                0xde => return self.open_long(false, 3),
                0xdf => return self.open_long(false, 5),
                _ => {
                    luaL_error(cleared(self.state), c"Bad data format in input.".as_ptr());
                }
            }
            false
        }
    }

    /// The value on top is whole: it goes into its table, and that into its own where it is whole by this. False where it is in none.
    unsafe fn store(&mut self) -> bool {
        unsafe {
            while let Some(mut level) = self.levels.last_record::<Level>() {
                if !level.has_key {
                    self.levels.set_last_record(Level { has_key: true, ..level });
                    return true;
                }
                lua_rawset(self.state, -3);
                level.left -= 1;
                level.has_key = level.is_array;
                if level.left > 0 {
                    if level.is_array {
                        level.index = level.index.wrapping_add(1);
                        lua_pushnumber(self.state, level.index.into());
                    }
                    self.levels.set_last_record(level);
                    return true;
                }
                self.levels.pop_record::<Level>();
            }
            false
        }
    }

    unsafe fn open(&mut self, is_array: bool, header: usize, left: u32) -> bool {
        unsafe {
            self.take(header);
            // Not presized: how a table grew decides the order of its keys.
            lua_createtable(self.state, 0, 0);
            if is_array {
                need(self.state, 1, c"in function mp_decode_to_lua_array");
            }
            if left == 0 {
                return false;
            }
            if is_array {
                lua_pushnumber(self.state, 1.0);
            }
            self.levels.push_record(self.state, Level { is_array, has_key: is_array, left, index: 1 });
            true
        }
    }

    unsafe fn open_long(&mut self, is_array: bool, header: usize) -> bool {
        unsafe {
            let length = unsigned(self.peek(header));
            self.open(is_array, header, length)
        }
    }

    unsafe fn long_string(&mut self, header: usize) {
        unsafe {
            let length = unsigned(self.peek(header)) as usize;
            self.string(header, length);
        }
    }

    unsafe fn string(&mut self, header: usize, length: usize) {
        unsafe {
            let bytes = self.take(header + length);
            push_bytes(self.state, &bytes[header..]);
        }
    }

    unsafe fn integer(&mut self, length: usize, of: impl Fn(&[u8]) -> i64) {
        unsafe {
            let bytes = self.take(length);
            lua_pushnumber(self.state, of(&bytes[1..]) as f64);
        }
    }

    /// What stands behind the tag.
    unsafe fn array<const LENGTH: usize>(&mut self) -> [u8; LENGTH] {
        let bytes = unsafe { self.take(1 + LENGTH) };
        std::array::from_fn(|at| bytes[1 + at])
    }

    /// What stands behind the tag, which stays.
    unsafe fn peek(&self, length: usize) -> &'a [u8] {
        match self.rest.get(1..length) {
            Some(bytes) => bytes,
            None => unsafe { self.missing() },
        }
    }

    unsafe fn take(&mut self, length: usize) -> &'a [u8] {
        let Some((bytes, rest)) = self.rest.split_at_checked(length) else { unsafe { self.missing() } };
        self.rest = rest;
        bytes
    }

    unsafe fn missing(&self) -> ! {
        unsafe {
            luaL_error(cleared(self.state), c"Missing bytes in input.".as_ptr());
            unreachable!("an error of Lua does not return")
        }
    }
}

fn unsigned(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}
