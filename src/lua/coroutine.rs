//! Coroutines: `resume` and `wrap` of ours say to the bell which coroutine runs, for Lua 5.1 keeps a hook for each, and let the end of a run
//! through, which stock Lua would hand to the script as an error of the coroutine.

use std::ffi::{CStr, c_int};
use std::mem;

use mlua::ffi::{
    LUA_TFUNCTION, LUA_TNUMBER, LUA_TSTRING, LUA_YIELD, lua_Debug, lua_State, lua_checkstack, lua_concat, lua_error,
    lua_getstack, lua_gettop, lua_insert, lua_iscfunction, lua_newthread, lua_pushboolean, lua_pushcclosure, lua_pushvalue,
    lua_resume_, lua_status, lua_tothread, lua_type, lua_upvalueindex, lua_xmove, luaL_argerror, luaL_error, luaL_where,
};

use crate::lua::base::pass_on_the_end;
use crate::lua::raw::{push_bytes, set_function};
use crate::lua::run::shared;

unsafe extern "C-unwind" {
    /// Of the public API of 5.1, so that coroutines within coroutines count as calls within calls, and don't overflow the stack.
    fn lua_setlevel(from: *mut lua_State, to: *mut lua_State);
}

/// Puts them into the library's table, on top.
pub(crate) unsafe fn improve(state: *mut lua_State) {
    unsafe {
        set_function(state, c"resume", resume);
        set_function(state, c"wrap", wrap);
    }
}

unsafe extern "C-unwind" fn resume(state: *mut lua_State) -> c_int {
    unsafe {
        let coroutine = lua_tothread(state, 1);
        if coroutine.is_null() {
            return luaL_argerror(state, 1, c"coroutine expected".as_ptr());
        }
        let results = go_on(state, coroutine, lua_gettop(state) - 1);
        lua_pushboolean(state, c_int::from(results >= 0));
        // The results, or the error.
        let count = if results < 0 { 1 } else { results };
        lua_insert(state, -(count + 1));
        count + 1
    }
}

unsafe extern "C-unwind" fn wrap(state: *mut lua_State) -> c_int {
    unsafe {
        if lua_type(state, 1) != LUA_TFUNCTION || lua_iscfunction(state, 1) != 0 {
            return luaL_argerror(state, 1, c"Lua function expected".as_ptr());
        }
        let coroutine = lua_newthread(state);
        lua_pushvalue(state, 1);
        lua_xmove(state, coroutine, 1);
        lua_pushcclosure(state, wrapped, 1);
        1
    }
}

unsafe extern "C-unwind" fn wrapped(state: *mut lua_State) -> c_int {
    unsafe {
        let coroutine = lua_tothread(state, lua_upvalueindex(1));
        let results = go_on(state, coroutine, lua_gettop(state));
        if results < 0 {
            if matches!(lua_type(state, -1), LUA_TSTRING | LUA_TNUMBER) {
                luaL_where(state, 1);
                lua_insert(state, -2);
                lua_concat(state, 2);
            }
            lua_error(state);
        }
        results
    }
}

/// Gives so many values from the top to the coroutine and runs it. How many results it left on top; below zero, an error is there.
unsafe fn go_on(state: *mut lua_State, coroutine: *mut lua_State, arguments: c_int) -> c_int {
    unsafe {
        if lua_checkstack(coroutine, arguments) == 0 {
            luaL_error(state, c"too many arguments to resume".as_ptr());
        }
        if let Some(why) = why_not(state, coroutine) {
            push_bytes(state, why.to_bytes());
            return -1;
        }
        lua_xmove(state, coroutine, arguments);
        lua_setlevel(state, coroutine);
        (*shared(state)).bell.moves_to(coroutine);
        let status = lua_resume_(coroutine, arguments);
        (*shared(state)).bell.moves_to(state);
        if !matches!(status, 0 | LUA_YIELD) {
            lua_xmove(coroutine, state, 1);
            pass_on_the_end(state);
            return -1;
        }
        let results = lua_gettop(coroutine);
        if lua_checkstack(state, results + 1) == 0 {
            luaL_error(state, c"too many results to resume".as_ptr());
        }
        lua_xmove(coroutine, state, results);
        results
    }
}

unsafe fn why_not(state: *mut lua_State, coroutine: *mut lua_State) -> Option<&'static CStr> {
    unsafe {
        if state == coroutine {
            return Some(c"cannot resume running coroutine");
        }
        let mut call: lua_Debug = mem::zeroed();
        match lua_status(coroutine) {
            LUA_YIELD => None,
            0 if lua_getstack(coroutine, 0, &mut call) > 0 => Some(c"cannot resume normal coroutine"),
            0 if lua_gettop(coroutine) > 0 => None,
            _ => Some(c"cannot resume dead coroutine"),
        }
    }
}
