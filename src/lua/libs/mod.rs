//! Libraries that Redis adds to Lua, and functions of its `string` library that could be neither stopped nor bounded as they come.
//!
//! An error of Lua is a `longjmp`, so no frame here owns anything: what grows lies in blocks of Lua's allocator (`scratch`) or on its stack
//! (`pieces`), and what takes long counts its steps (`steps`).

mod bit;
mod cjson;
mod cmsgpack;
mod number;
mod patterns;
mod pieces;
mod scratch;
mod steps;
mod strings;
mod structs;
#[cfg(test)]
mod tests;
mod values;

use std::ffi::CStr;

use mlua::ffi::lua_State;

/// By their names; each leaves its table on the stack.
pub(crate) const LIBRARIES: &[(&CStr, unsafe fn(*mut lua_State))] =
    &[(c"cjson", cjson::open), (c"cmsgpack", cmsgpack::open), (c"struct", structs::open), (c"bit", bit::open)];

/// Puts functions of ours into the stock `string` library, whose table is on top.
///
/// # Safety
/// A table is on top of the stack of a live state.
pub(crate) unsafe fn improve_string(state: *mut lua_State) {
    unsafe {
        patterns::improve(state);
        strings::improve(state);
    }
}
