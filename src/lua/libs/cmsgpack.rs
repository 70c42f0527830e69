//! The `cmsgpack` library.

mod pack;
mod unpack;

use mlua::ffi::{lua_State, lua_createtable};

use crate::lua::libs::scratch::push_scratch;
use crate::lua::libs::values::{set_function, set_text};
use crate::lua::raw::pop;

pub(crate) unsafe fn open(state: *mut lua_State) {
    unsafe {
        lua_createtable(state, 0, 0);
        push_scratch(state);
        set_function(state, c"pack", pack::pack, 1);
        set_function(state, c"unpack", unpack::unpack, 1);
        set_function(state, c"unpack_one", unpack::unpack_one, 1);
        set_function(state, c"unpack_limit", unpack::unpack_limit, 1);
        pop(state, 1);
        set_text(state, c"_NAME", c"cmsgpack");
        set_text(state, c"_VERSION", c"lua-cmsgpack 0.4.0");
        set_text(state, c"_COPYRIGHT", c"Copyright (C) 2012, Salvatore Sanfilippo");
        set_text(state, c"_DESCRIPTION", c"MessagePack C implementation for Lua");
    }
}
