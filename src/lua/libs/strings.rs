//! `string.rep`, which as it comes can fill an hour or all memory.

use std::ffi::c_int;
use std::slice;

use mlua::ffi::{lua_State, lua_newuserdata, lua_pushvalue, luaL_checkinteger, luaL_error};

use crate::lua::libs::values::{check_bytes, set_function};
use crate::lua::raw::push_bytes;

/// Puts it into the table on top.
pub(crate) unsafe fn improve(state: *mut lua_State) {
    unsafe { set_function(state, c"rep", rep, 0) }
}

unsafe extern "C-unwind" fn rep(state: *mut lua_State) -> c_int {
    unsafe {
        let text = check_bytes(state, 1);
        // As C does it: what is beyond an int is cut off.
        let count = (luaL_checkinteger(state, 2) as i32).max(0) as usize;
        match text.len().checked_mul(count) {
            Some(0) => push_bytes(state, b""),
            Some(length) if length == text.len() => lua_pushvalue(state, 1),
            Some(length) => push_repeated(state, text, length),
            None => return luaL_error(state, c"resulting string too large".as_ptr()),
        }
        1
    }
}

/// What does not fit is refused before anything is written.
unsafe fn push_repeated(state: *mut lua_State, text: &[u8], length: usize) {
    unsafe {
        let block = lua_newuserdata(state, length).cast::<u8>();
        block.copy_from_nonoverlapping(text.as_ptr(), text.len());
        let mut written = text.len();
        while written < length {
            let more = written.min(length - written);
            block.add(written).copy_from_nonoverlapping(block, more);
            written += more;
        }
        push_bytes(state, slice::from_raw_parts(block, length));
    }
}
