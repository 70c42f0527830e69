//! Functions of the `table` library of ours: those that would write to a frozen table's face, or look for its fields there, and those that
//! could take minutes.

use std::ffi::c_int;

use mlua::ffi::{
    LUA_TFUNCTION, LUA_TNIL, LUA_TTABLE, lua_State, lua_call, lua_gettop, lua_insert, lua_lessthan, lua_next, lua_objlen,
    lua_pushboolean, lua_pushcclosure, lua_pushnil, lua_pushvalue, lua_rawget_, lua_rawgeti_, lua_rawset, lua_rawseti_,
    lua_replace, lua_settop, lua_type, lua_upvalueindex, luaL_checkinteger, luaL_checktype, luaL_error,
};

use crate::lua::frozen;
use crate::lua::raw::{pop, push_bytes, set_function};
use crate::lua::run::{interrupt, shared};

/// How many steps are taken between two looks at the bell.
const STEPS: i64 = 4096;

/// From how many elements on sorting looks at the bell.
const MANY: usize = 20_000;

/// Puts them into the library's table, on top.
pub unsafe fn improve(state: *mut lua_State) {
    unsafe {
        set_function(state, c"insert", insert);
        set_function(state, c"foreach", foreach);
        push_bytes(state, b"sort");
        push_bytes(state, b"sort");
        lua_rawget_(state, -3);
        lua_pushcclosure(state, sort, 1);
        lua_rawset(state, -3);
    }
}

unsafe extern "C-unwind" fn insert(state: *mut lua_State) -> c_int {
    unsafe {
        luaL_checktype(state, 1, LUA_TTABLE);
        let mut end = (lua_objlen(state, 1) as c_int).wrapping_add(1);
        let place = match lua_gettop(state) {
            2 => end,
            3 => luaL_checkinteger(state, 2) as c_int,
            _ => return luaL_error(state, c"wrong number of arguments to 'insert'".as_ptr()),
        };
        frozen::refuse_if_frozen(state, 1);
        end = end.max(place);
        let mut at = end;
        while at > place {
            // A place far below zero would take minutes.
            if i64::from(at) % STEPS == 0 {
                interrupt(state);
            }
            lua_rawgeti_(state, 1, at - 1);
            lua_rawseti_(state, 1, at);
            at -= 1;
        }
        lua_rawseti_(state, 1, place);
        0
    }
}

unsafe extern "C-unwind" fn foreach(state: *mut lua_State) -> c_int {
    unsafe {
        luaL_checktype(state, 1, LUA_TTABLE);
        luaL_checktype(state, 2, LUA_TFUNCTION);
        if frozen::real(state, 1) {
            lua_replace(state, 1);
        }
        lua_pushnil(state);
        while lua_next(state, 1) != 0 {
            lua_pushvalue(state, 2);
            lua_pushvalue(state, -3);
            lua_pushvalue(state, -3);
            lua_call(state, 2, 1);
            if lua_type(state, -1) != LUA_TNIL {
                return 1;
            }
            pop(state, 2);
        }
        0
    }
}

/// Stock sort, which gets a way to be interrupted where there is much to sort and no function of Lua is called for it.
unsafe extern "C-unwind" fn sort(state: *mut lua_State) -> c_int {
    unsafe {
        luaL_checktype(state, 1, LUA_TTABLE);
        if lua_type(state, 2) <= LUA_TNIL && lua_objlen(state, 1) >= MANY {
            lua_settop(state, 1);
            lua_pushcclosure(state, is_less, 0);
        }
        lua_pushvalue(state, lua_upvalueindex(1));
        lua_insert(state, 1);
        lua_call(state, lua_gettop(state) - 1, 0);
        0
    }
}

unsafe extern "C-unwind" fn is_less(state: *mut lua_State) -> c_int {
    unsafe {
        let shared = shared(state);
        (*shared).steps = (*shared).steps.wrapping_add(1);
        if i64::from((*shared).steps) % STEPS == 0 {
            interrupt(state);
        }
        lua_pushboolean(state, lua_lessthan(state, 1, 2));
        1
    }
}
