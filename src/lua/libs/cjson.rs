//! The `cjson` library.

mod decode;
mod encode;
mod options;

use std::ffi::c_int;

use mlua::ffi::{lua_State, lua_createtable, lua_insert, lua_rawset};

use crate::lua::libs::scratch::push_scratch;
use crate::lua::libs::values::{push_null, set_function, set_text};
use crate::lua::raw::{pop, push_bytes};

/// With options of its own, as every table of `cjson.new` has.
pub(crate) unsafe fn open(state: *mut lua_State) {
    unsafe {
        lua_createtable(state, 0, 0);
        push_scratch(state);
        options::push(state);
        set_function(state, c"encode", encode::encode, 2);
        set_function(state, c"decode", decode::decode, 2);
        set_function(state, c"encode_sparse_array", options::encode_sparse_array, 2);
        set_function(state, c"encode_max_depth", options::encode_max_depth, 2);
        set_function(state, c"decode_max_depth", options::decode_max_depth, 2);
        set_function(state, c"encode_number_precision", options::encode_number_precision, 2);
        set_function(state, c"encode_keep_buffer", options::encode_keep_buffer, 2);
        set_function(state, c"encode_invalid_numbers", options::encode_invalid_numbers, 2);
        set_function(state, c"decode_invalid_numbers", options::decode_invalid_numbers, 2);
        set_function(state, c"new", new, 2);
        pop(state, 2);
        push_null(state);
        push_bytes(state, b"null");
        lua_insert(state, -2);
        lua_rawset(state, -3);
        set_text(state, c"_NAME", c"cjson");
        set_text(state, c"_VERSION", c"2.1.0");
    }
}

unsafe extern "C-unwind" fn new(state: *mut lua_State) -> c_int {
    unsafe {
        open(state);
        1
    }
}
