//! Libraries that Redis adds to Lua.

use std::ffi::CStr;

use mlua::ffi::lua_State;

/// By their names; each leaves its table on the stack.
pub const LIBRARIES: &[(&CStr, unsafe fn(*mut lua_State))] = &[];

/// Puts functions of ours into the stock `string` library, whose table is on top.
pub unsafe fn improve_string(_: *mut lua_State) {}
