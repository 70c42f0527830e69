//! Tables that scripts can read and not change. Lua 5.1 has no such thing, so what a script sees is an empty face whose metatable leads to the
//! real table. What reads or writes tables without metamethods (`base`, `table`) knows of faces.

use std::ffi::c_int;

use mlua::ffi::{
    LUA_TTABLE, lua_State, lua_createtable, lua_getmetatable, lua_insert, lua_isnil, lua_pushcclosure, lua_pushnil,
    lua_pushvalue, lua_rawget_, lua_rawset, lua_remove, lua_setmetatable, lua_type, luaL_error,
};

use crate::lua::raw::{pop, push_mark, raise, set_field};

const REFUSAL: &[u8] = b"Attempt to modify a readonly table";

/// In the metatable of a face: the real table, and the metatable that scripts see.
static REAL: u8 = 1;
static SHOWN: u8 = 2;

/// Takes the table on top, and puts its face there; below it stands the metatable that scripts are to see, or nil, and is taken as well.
pub(crate) unsafe fn freeze_with_metatable(state: *mut lua_State) {
    unsafe {
        // shown, real
        lua_createtable(state, 0, 0);
        lua_createtable(state, 0, 4);
        // shown, real, face, metatable
        push_mark(state, &REAL);
        lua_pushvalue(state, -4);
        lua_rawset(state, -3);
        push_mark(state, &SHOWN);
        lua_pushvalue(state, -5);
        lua_rawset(state, -3);
        lua_pushvalue(state, -3);
        set_field(state, c"__index");
        lua_pushcclosure(state, refuse, 0);
        set_field(state, c"__newindex");
        lua_setmetatable(state, -2);
        lua_insert(state, -3);
        pop(state, 2);
    }
}

/// Takes the table on top, and puts its face there.
pub(crate) unsafe fn freeze(state: *mut lua_State) {
    unsafe {
        lua_pushnil(state);
        lua_insert(state, -2);
        freeze_with_metatable(state);
    }
}

/// Whether this is a face; the real table is on top then.
pub(crate) unsafe fn real(state: *mut lua_State, index: c_int) -> bool {
    unsafe { behind(state, index, &REAL) }
}

/// Whether this is a face; the metatable that scripts see is on top then, or nil.
pub(crate) unsafe fn shown(state: *mut lua_State, index: c_int) -> bool {
    unsafe {
        if !real(state, index) {
            return false;
        }
        pop(state, 1);
        lua_getmetatable(state, index);
        push_mark(state, &SHOWN);
        lua_rawget_(state, -2);
        lua_remove(state, -2);
        true
    }
}

unsafe fn behind(state: *mut lua_State, index: c_int, mark: &'static u8) -> bool {
    unsafe {
        if lua_type(state, index) != LUA_TTABLE || lua_getmetatable(state, index) == 0 {
            return false;
        }
        push_mark(state, mark);
        lua_rawget_(state, -2);
        lua_remove(state, -2);
        let is_face = lua_isnil(state, -1) == 0;
        if !is_face {
            pop(state, 1);
        }
        is_face
    }
}

/// For what writes without metamethods.
pub(crate) unsafe fn refuse_if_frozen(state: *mut lua_State, index: c_int) {
    unsafe {
        if real(state, index) {
            raise(state, REFUSAL);
        }
    }
}

/// `__newindex` of a face.
unsafe extern "C-unwind" fn refuse(state: *mut lua_State) -> c_int {
    unsafe { luaL_error(state, c"Attempt to modify a readonly table".as_ptr()) }
}
