//! Arguments and tables, as libraries take and make them.

use std::ffi::{CStr, c_int};
use std::{ptr, slice};

use mlua::ffi::{
    lua_CFunction, lua_State, lua_checkstack, lua_gettop, lua_pushcclosure, lua_pushlightuserdata, lua_pushvalue, lua_rawset,
    lua_settop, luaL_checklstring, luaL_error,
};

use crate::lua::raw::{self, push_bytes};

/// The bytes of what is a string or a number, which becomes a string by this. They live as long as the value is on the stack.
pub(crate) unsafe fn bytes<'a>(state: *mut lua_State, index: c_int) -> &'a [u8] {
    unsafe { raw::bytes(state, index).unwrap_or_default() }
}

/// The same of an argument, which must be one of these.
pub(crate) unsafe fn check_bytes<'a>(state: *mut lua_State, index: c_int) -> &'a [u8] {
    unsafe {
        let mut length = 0;
        let start = luaL_checklstring(state, index, &mut length);
        slice::from_raw_parts(start.cast::<u8>(), length)
    }
}

/// Puts a function with so many values from the top into the table below them; they stay.
pub(crate) unsafe fn set_function(state: *mut lua_State, name: &CStr, function: lua_CFunction, upvalues: c_int) {
    unsafe {
        push_bytes(state, name.to_bytes());
        for _ in 0..upvalues {
            lua_pushvalue(state, -1 - upvalues);
        }
        lua_pushcclosure(state, function, upvalues);
        lua_rawset(state, -3 - upvalues);
    }
}

/// Puts a text into the table on top.
pub(crate) unsafe fn set_text(state: *mut lua_State, name: &CStr, text: &CStr) {
    unsafe {
        push_bytes(state, name.to_bytes());
        push_bytes(state, text.to_bytes());
        lua_rawset(state, -3);
    }
}

/// What stands for null, since a table of Lua holds no nil.
pub(crate) unsafe fn push_null(state: *mut lua_State) {
    unsafe { lua_pushlightuserdata(state, ptr::null_mut()) }
}

/// Asks for so many places on the stack. More than Lua gives is an error that says for what.
pub(crate) unsafe fn need(state: *mut lua_State, slots: c_int, what: &CStr) {
    unsafe {
        if lua_checkstack(state, slots) == 0 {
            luaL_error(cleared(state), c"stack overflow (%s)".as_ptr(), what.as_ptr());
        }
    }
}

/// The same state, its stack emptied but for the first argument: whoever filled it up has no room for an error otherwise.
pub(crate) unsafe fn cleared(state: *mut lua_State) -> *mut lua_State {
    unsafe {
        if lua_gettop(state) > 1 {
            lua_settop(state, 1);
        }
        state
    }
}

/// As C casts a double to an int: what that cannot hold is the smallest one.
pub(crate) fn small(number: f64) -> i32 {
    if number > -2_147_483_649.0 && number < 2_147_483_648.0 { number as i32 } else { i32::MIN }
}
