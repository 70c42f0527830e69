//! Functions of the `table` library of ours: those that would write to a frozen table's face, or look for its fields there, and those that
//! could take minutes.

use std::ffi::c_int;

use mlua::ffi::{
    LUA_TFUNCTION, LUA_TNIL, LUA_TSTRING, LUA_TTABLE, lua_State, lua_call, lua_gettop, lua_insert, lua_iscfunction, lua_lessthan,
    lua_next, lua_objlen, lua_pushboolean, lua_pushcclosure, lua_pushinteger, lua_pushnil, lua_pushvalue, lua_rawget_,
    lua_rawgeti_, lua_rawset, lua_rawseti_, lua_replace, lua_settop, lua_type, lua_upvalueindex, luaL_checkinteger,
    luaL_checktype, luaL_error,
};

use crate::lua::frozen;
use crate::lua::raw::{pop, push_bytes, set_function};
use crate::lua::run::interrupt;

/// How many steps are taken between two looks at the bell.
const STEPS: i64 = 4096;

/// From how many elements on sorting looks at the bell, and where there is a string that is longer than this.
const MANY: usize = 20_000;
const LONG: usize = 256;

/// Puts them into the library's table, on top.
pub(crate) unsafe fn improve(state: *mut lua_State) {
    unsafe {
        set_function(state, c"insert", insert);
        set_function(state, c"foreach", foreach);
        set_function(state, c"foreachi", foreachi);
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
            interrupt(state);
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

unsafe extern "C-unwind" fn foreachi(state: *mut lua_State) -> c_int {
    unsafe {
        luaL_checktype(state, 1, LUA_TTABLE);
        luaL_checktype(state, 2, LUA_TFUNCTION);
        let count = lua_objlen(state, 1) as c_int;
        for index in 1..=count {
            interrupt(state);
            lua_pushvalue(state, 2);
            lua_pushinteger(state, index.into());
            lua_rawgeti_(state, 1, index);
            lua_call(state, 2, 1);
            if lua_type(state, -1) != LUA_TNIL {
                return 1;
            }
            pop(state, 1);
        }
        0
    }
}

/// Stock sort, which gets a way to be interrupted where no function of Lua is called for it.
unsafe extern "C-unwind" fn sort(state: *mut lua_State) -> c_int {
    unsafe {
        luaL_checktype(state, 1, LUA_TTABLE);
        if lua_type(state, 2) <= LUA_TNIL {
            if takes_long(state) {
                lua_settop(state, 1);
                lua_pushcclosure(state, is_less, 0);
            }
        } else if lua_iscfunction(state, 2) != 0 {
            lua_settop(state, 2);
            lua_pushcclosure(state, is_less_by, 1);
        }
        lua_pushvalue(state, lua_upvalueindex(1));
        lua_insert(state, 1);
        lua_call(state, lua_gettop(state) - 1, 0);
        0
    }
}

/// Whether the table at 1 has many items, or some whose comparison alone takes long.
unsafe fn takes_long(state: *mut lua_State) -> bool {
    unsafe {
        let count = lua_objlen(state, 1);
        let is_long = |index| {
            lua_rawgeti_(state, 1, index);
            let is_long = lua_type(state, -1) == LUA_TSTRING && lua_objlen(state, -1) > LONG;
            pop(state, 1);
            is_long
        };
        count >= MANY || (1..=count as c_int).any(is_long)
    }
}

unsafe extern "C-unwind" fn is_less(state: *mut lua_State) -> c_int {
    unsafe {
        interrupt(state);
        lua_pushboolean(state, lua_lessthan(state, 1, 2));
        1
    }
}

/// By a function that is none of Lua.
unsafe extern "C-unwind" fn is_less_by(state: *mut lua_State) -> c_int {
    unsafe {
        interrupt(state);
        lua_pushvalue(state, lua_upvalueindex(1));
        lua_insert(state, 1);
        lua_call(state, lua_gettop(state) - 1, 1);
        1
    }
}
