//! What a script may set about JSON, and the functions that set it.

use std::ffi::{CStr, c_char, c_int};
use std::ptr;

use mlua::ffi::{
    LUA_TBOOLEAN, LUA_TNIL, lua_State, lua_gettop, lua_newuserdata, lua_pushboolean, lua_pushfstring, lua_pushinteger,
    lua_pushnil, lua_toboolean, lua_touserdata, lua_type, lua_upvalueindex, luaL_argerror, luaL_checkinteger, luaL_checkoption,
};

use crate::lua::raw::push_bytes;

pub(crate) struct Options {
    /// Arrays with many holes are written as objects; they are errors otherwise.
    pub converts_sparse: c_int,
    /// How many times as long as its items an array may be; 0 for any length.
    pub sparse_ratio: c_int,
    /// Shorter ones are never sparse.
    pub sparse_safe: c_int,
    pub encode_depth: c_int,
    pub decode_depth: c_int,
    /// What is done with infinity and NaN when they are written: `OFF`, `ON`, `AS_NULL`.
    pub encode_invalid: c_int,
    pub decode_invalid: c_int,
    pub digits: c_int,
    /// Changes nothing here.
    keeps_buffer: c_int,
}

pub(crate) const OFF: c_int = 0;
const ON: c_int = 1;
pub(crate) const AS_NULL: c_int = 2;

const SWITCH: &[&CStr] = &[c"off", c"on"];
const INVALID: &[&CStr] = &[c"off", c"on", c"null"];

/// Puts those that hold at first on the stack.
pub(crate) unsafe fn push(state: *mut lua_State) {
    let options = Options {
        converts_sparse: OFF,
        sparse_ratio: 2,
        sparse_safe: 10,
        encode_depth: 1000,
        decode_depth: 1000,
        encode_invalid: OFF,
        decode_invalid: ON,
        digits: 14,
        keeps_buffer: ON,
    };
    unsafe { lua_newuserdata(state, size_of::<Options>()).cast::<Options>().write(options) }
}

/// Those of the function that runs.
pub(crate) unsafe fn options<'a>(state: *mut lua_State) -> &'a mut Options {
    unsafe { &mut *lua_touserdata(state, lua_upvalueindex(2)).cast::<Options>() }
}

pub(crate) unsafe extern "C-unwind" fn encode_sparse_array(state: *mut lua_State) -> c_int {
    unsafe {
        let options = with_arguments(state, 3);
        choose(state, 1, &mut options.converts_sparse, SWITCH);
        number(state, 2, &mut options.sparse_ratio, 0, c_int::MAX);
        number(state, 3, &mut options.sparse_safe, 0, c_int::MAX);
        3
    }
}

pub(crate) unsafe extern "C-unwind" fn encode_max_depth(state: *mut lua_State) -> c_int {
    unsafe { number(state, 1, &mut with_arguments(state, 1).encode_depth, 1, c_int::MAX) }
}

pub(crate) unsafe extern "C-unwind" fn decode_max_depth(state: *mut lua_State) -> c_int {
    unsafe { number(state, 1, &mut with_arguments(state, 1).decode_depth, 1, c_int::MAX) }
}

pub(crate) unsafe extern "C-unwind" fn encode_number_precision(state: *mut lua_State) -> c_int {
    unsafe { number(state, 1, &mut with_arguments(state, 1).digits, 1, 14) }
}

pub(crate) unsafe extern "C-unwind" fn encode_keep_buffer(state: *mut lua_State) -> c_int {
    unsafe { choose(state, 1, &mut with_arguments(state, 1).keeps_buffer, SWITCH) }
}

pub(crate) unsafe extern "C-unwind" fn encode_invalid_numbers(state: *mut lua_State) -> c_int {
    unsafe { choose(state, 1, &mut with_arguments(state, 1).encode_invalid, INVALID) }
}

pub(crate) unsafe extern "C-unwind" fn decode_invalid_numbers(state: *mut lua_State) -> c_int {
    unsafe { choose(state, 1, &mut with_arguments(state, 1).decode_invalid, SWITCH) }
}

/// The options, where there are no more arguments than these; those that are missing are nil.
unsafe fn with_arguments<'a>(state: *mut lua_State, count: c_int) -> &'a mut Options {
    unsafe {
        if lua_gettop(state) > count {
            luaL_argerror(state, count + 1, c"found too many arguments".as_ptr());
        }
        while lua_gettop(state) < count {
            lua_pushnil(state);
        }
        options(state)
    }
}

/// Sets it where an argument says so, and answers what it is.
unsafe fn number(state: *mut lua_State, index: c_int, setting: &mut c_int, least: c_int, most: c_int) -> c_int {
    unsafe {
        if lua_type(state, index) != LUA_TNIL {
            // As C does it: what is beyond an int is cut off.
            let value = luaL_checkinteger(state, index) as c_int;
            if value < least || value > most {
                refuse(state, least, most);
            }
            *setting = value;
        }
        lua_pushinteger(state, (*setting).into());
        1
    }
}

unsafe fn refuse(state: *mut lua_State, least: c_int, most: c_int) {
    unsafe {
        let text = lua_pushfstring(state, c"expected integer between %d and %d".as_ptr(), least, most);
        luaL_argerror(state, 1, text);
    }
}

/// The same for one of these words, or a boolean for the first two.
unsafe fn choose(state: *mut lua_State, index: c_int, setting: &mut c_int, words: &[&CStr]) -> c_int {
    unsafe {
        match lua_type(state, index) {
            LUA_TNIL => {}
            LUA_TBOOLEAN => *setting = lua_toboolean(state, index),
            _ => {
                let mut list: [*const c_char; 4] = [ptr::null(); 4];
                for (place, word) in list.iter_mut().zip(words) {
                    *place = word.as_ptr();
                }
                *setting = luaL_checkoption(state, index, ptr::null(), list.as_ptr());
            }
        }
        match *setting {
            OFF | ON => lua_pushboolean(state, *setting),
            other => push_bytes(state, words[other as usize].to_bytes()),
        }
        1
    }
}
