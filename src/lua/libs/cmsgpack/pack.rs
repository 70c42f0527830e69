//! Values of Lua as MessagePack.

use std::ffi::c_int;

use mlua::ffi::{
    LUA_TBOOLEAN, LUA_TNUMBER, LUA_TSTRING, LUA_TTABLE, lua_State, lua_checkstack, lua_gettop, lua_next, lua_objlen, lua_pushnil,
    lua_pushvalue, lua_rawgeti_, lua_replace, lua_settop, lua_toboolean, lua_tonumber, lua_type, luaL_argerror,
};

use crate::lua::frozen::real;
use crate::lua::libs::scratch::{Buffer, scratch};
use crate::lua::libs::steps::Steps;
use crate::lua::libs::values::{bytes, need, small};
use crate::lua::raw::{cast, pop, push_bytes};

/// A table that is deeper becomes nil, so that one which holds itself comes to an end.
const NESTING_MAX: u32 = 16;

pub(crate) unsafe extern "C-unwind" fn pack(state: *mut lua_State) -> c_int {
    unsafe {
        let count = lua_gettop(state);
        if count == 0 {
            luaL_argerror(state, 0, c"MessagePack pack needs input.".as_ptr());
        }
        if lua_checkstack(state, count) == 0 {
            luaL_argerror(state, 0, c"Too many arguments for MessagePack pack.".as_ptr());
        }
        let scratch = scratch(state);
        let mut packer = Packer { state, text: &mut scratch.text, steps: Steps::new() };
        for index in 1..=count {
            need(state, 1, c"in function mp_check");
            lua_pushvalue(state, index);
            packer.take_top(0);
        }
        push_bytes(state, packer.text.bytes());
        packer.text.clear(state);
        1
    }
}

struct Packer<'a> {
    state: *mut lua_State,
    text: &'a mut Buffer,
    steps: Steps,
}

impl Packer<'_> {
    /// Takes the value on top, which is within so many tables.
    unsafe fn take_top(&mut self, level: u32) {
        unsafe {
            self.steps.take(self.state, 1);
            match lua_type(self.state, -1) {
                LUA_TSTRING => self.string(bytes(self.state, -1)),
                LUA_TBOOLEAN => self.put(&[if lua_toboolean(self.state, -1) != 0 { 0xc3 } else { 0xc2 }]),
                LUA_TNUMBER => self.number(lua_tonumber(self.state, -1)),
                LUA_TTABLE if level < NESTING_MAX => self.table(level),
                _ => self.put(&[0xc0]),
            }
            pop(self.state, 1);
        }
    }

    unsafe fn string(&mut self, text: &[u8]) {
        unsafe {
            match text.len() {
                length @ 0..32 => self.put(&[0xa0 | length as u8]),
                length @ 32..0x100 => self.put(&[0xd9, length as u8]),
                length => self.wide(0xda, length),
            }
            self.put(text);
        }
    }

    unsafe fn number(&mut self, number: f64) {
        let integer = cast(number);
        unsafe {
            if integer as f64 == number {
                self.integer(integer);
            } else if f64::from(number as f32) == number {
                self.tagged(0xca, &(number as f32).to_be_bytes());
            } else {
                self.tagged(0xcb, &number.to_be_bytes());
            }
        }
    }

    unsafe fn integer(&mut self, number: i64) {
        unsafe {
            match number {
                -32..128 => self.put(&[number as u8]),
                128..0x100 => self.tagged(0xcc, &[number as u8]),
                0x100..0x1_0000 => self.tagged(0xcd, &(number as u16).to_be_bytes()),
                0x1_0000..0x1_0000_0000 => self.tagged(0xce, &(number as u32).to_be_bytes()),
                0x1_0000_0000.. => self.tagged(0xcf, &number.to_be_bytes()),
                -0x80..-32 => self.tagged(0xd0, &[number as u8]),
                -0x8000..-0x80 => self.tagged(0xd1, &(number as u16).to_be_bytes()),
                -0x8000_0000..-0x8000 => self.tagged(0xd2, &(number as u32).to_be_bytes()),
                ..-0x8000_0000 => self.tagged(0xd3, &number.to_be_bytes()),
            }
        }
    }

    unsafe fn table(&mut self, level: u32) {
        unsafe {
            need(self.state, 3, c"in function table_is_an_array");
            if real(self.state, -1) {
                lua_replace(self.state, -2);
            }
            if self.is_array() { self.array(level) } else { self.map(level) }
        }
    }

    /// Whether the keys of the table on top are 1 to their number.
    unsafe fn is_array(&mut self) -> bool {
        unsafe {
            let top = lua_gettop(self.state);
            let (mut count, mut greatest) = (0_i32, 0_i32);
            lua_pushnil(self.state);
            while lua_next(self.state, -2) != 0 {
                self.steps.take(self.state, 1);
                pop(self.state, 1);
                let is_number = lua_type(self.state, -1) == LUA_TNUMBER;
                let key = if is_number { lua_tonumber(self.state, -1) } else { 0.0 };
                if key <= 0.0 || f64::from(small(key)) != key {
                    lua_settop(self.state, top);
                    return false;
                }
                greatest = greatest.max(small(key));
                count = count.wrapping_add(1);
            }
            count == greatest
        }
    }

    unsafe fn array(&mut self, level: u32) {
        unsafe {
            let length = lua_objlen(self.state, -1);
            self.header(0x90, 0xdc, length);
            for index in 1..=length {
                lua_rawgeti_(self.state, -1, index as c_int);
                self.take_top(level + 1);
            }
        }
    }

    unsafe fn map(&mut self, level: u32) {
        unsafe {
            let mut length = 0;
            lua_pushnil(self.state);
            while lua_next(self.state, -2) != 0 {
                self.steps.take(self.state, 1);
                pop(self.state, 1);
                length += 1;
            }
            self.header(0x80, 0xde, length);
            lua_pushnil(self.state);
            while lua_next(self.state, -2) != 0 {
                lua_pushvalue(self.state, -2);
                self.take_top(level + 1);
                self.take_top(level + 1);
            }
        }
    }

    /// That of an array or a map.
    unsafe fn header(&mut self, short: u8, wide: u8, length: usize) {
        unsafe { if length < 16 { self.put(&[short | length as u8]) } else { self.wide(wide, length) } }
    }

    /// With 16 bits, or with the next tag and 32.
    unsafe fn wide(&mut self, tag: u8, length: usize) {
        unsafe {
            match u16::try_from(length) {
                Ok(length) => self.tagged(tag, &length.to_be_bytes()),
                Err(_) => self.tagged(tag + 1, &(length as u32).to_be_bytes()),
            }
        }
    }

    unsafe fn tagged(&mut self, tag: u8, bytes: &[u8]) {
        unsafe {
            self.put(&[tag]);
            self.put(bytes);
        }
    }

    unsafe fn put(&mut self, bytes: &[u8]) {
        unsafe { self.text.extend(self.state, bytes) }
    }
}
