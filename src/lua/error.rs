//! Errors of scripts: what is noted of where they were raised, and how they are told to the client.

use std::ffi::{CStr, c_int};
use std::mem;

use mlua::ffi::{
    LUA_ERRMEM, LUA_TBOOLEAN, LUA_TNIL, LUA_TTABLE, lua_Debug, lua_State, lua_concat, lua_createtable, lua_getinfo, lua_getstack,
    lua_gettop, lua_pushfstring, lua_pushnumber, lua_pushstring_, lua_rawset, lua_replace, lua_settop, lua_toboolean, lua_type,
    lua_typename,
};

use crate::lua::frozen;
use crate::lua::raw::{Slot, address, bytes, is_text, pop, push_bytes, push_slot, raw_field};
use crate::lua::run::Ending;
use crate::lua::text::{c_text, push_line, without_end};

/// Lua calls it where an error is raised that nothing catches. An error is a table from here on: its text in `err`, and where it was raised in
/// `source` and `line`. Nothing of the script runs for it, neither `__tostring` nor `__newindex`.
pub(crate) unsafe extern "C-unwind" fn handler(state: *mut lua_State) -> c_int {
    unsafe {
        lua_settop(state, 1);
        if lua_type(state, 1) != LUA_TTABLE {
            describe(state);
        } else if frozen::real(state, 1) {
            // It has no text, and can't be written to.
            lua_createtable(state, 0, 2);
            lua_replace(state, 1);
        }
        lua_settop(state, 1);
        let mut call: lua_Debug = mem::zeroed();
        if find_caller(state, &mut call) {
            push_slot(state, Slot::Source);
            lua_pushstring_(state, call.source);
            lua_rawset(state, 1);
            push_slot(state, Slot::Line);
            lua_pushnumber(state, f64::from(call.currentline));
            lua_rawset(state, 1);
        }
        1
    }
}

/// What raised the error, or what called that where it is no function of Lua.
unsafe fn find_caller(state: *mut lua_State, call: &mut lua_Debug) -> bool {
    unsafe {
        if lua_getstack(state, 1, call) == 0 {
            return false;
        }
        lua_getinfo(state, c"nSl".as_ptr(), call);
        if CStr::from_ptr(call.what) == c"C" {
            if lua_getstack(state, 2, call) == 0 {
                return false;
            }
            lua_getinfo(state, c"nSl".as_ptr(), call);
        }
        true
    }
}

/// Replaces the value at 1, which is no table, by an error that says it.
unsafe fn describe(state: *mut lua_State) {
    unsafe {
        lua_createtable(state, 0, 4);
        push_slot(state, Slot::Err);
        push_bytes(state, b"ERR ");
        match lua_type(state, 1) {
            _ if is_text(state, 1) => push_bytes(state, bytes(state, 1).unwrap_or_default()),
            LUA_TNIL => push_bytes(state, b"nil"),
            LUA_TBOOLEAN => push_bytes(state, if lua_toboolean(state, 1) != 0 { b"true" } else { b"false" }),
            kind => {
                lua_pushfstring(state, c"%s: %p".as_ptr(), lua_typename(state, kind), address(state, 1));
            }
        }
        lua_concat(state, 2);
        lua_rawset(state, -3);
        lua_replace(state, 1);
    }
}

/// Writes the error on top, which is left there, as the reply of a script.
pub(crate) unsafe fn write(state: *mut lua_State, status: c_int, label: &str, limit: usize, reply: &mut Vec<u8>) -> Ending {
    unsafe {
        let error = lua_gettop(state);
        if status == LUA_ERRMEM {
            let why = format!("-ERR not enough memory: a script may use {limit} bytes (script-memory-limit) script: {label}\r\n");
            reply.extend(why.as_bytes());
            return Ending { is_error: true, is_counted: false };
        }
        if lua_type(state, error) != LUA_TTABLE {
            let text = if is_text(state, error) { bytes(state, error).unwrap_or_default() } else { b"execution failure" };
            reply.extend(format!("-ERR Error running script {label}, ").as_bytes());
            push_line(reply, &c_text(text)[..c_text(text).len().min(100)]);
            reply.extend(b"\r\n");
            return Ending { is_error: true, is_counted: false };
        }
        reply.push(b'-');
        push_message(state, error, reply);
        push_place(state, error, label, reply);
        reply.extend(b"\r\n");
        Ending { is_error: true, is_counted: is_counted(state, error) }
    }
}

/// Writes why a script was ended.
pub(crate) fn write_end(why: &str, label: &str, reply: &mut Vec<u8>) -> Ending {
    reply.extend(format!("-ERR {why} script: {label}\r\n").as_bytes());
    Ending { is_error: true, is_counted: false }
}

/// The text of an error that is a table.
pub(crate) unsafe fn push_message(state: *mut lua_State, error: c_int, out: &mut Vec<u8>) {
    unsafe {
        raw_field(state, error, Slot::Err);
        let text = if is_text(state, -1) { bytes(state, -1).unwrap_or_default() } else { b"ERR unknown error" };
        push_line(out, without_end(c_text(text)));
        pop(state, 1);
    }
}

unsafe fn push_place(state: *mut lua_State, error: c_int, label: &str, out: &mut Vec<u8>) {
    unsafe {
        raw_field(state, error, Slot::Source);
        raw_field(state, error, Slot::Line);
        if is_text(state, -1) && is_text(state, -2) {
            out.extend(format!(" script: {label}, on ").as_bytes());
            push_line(out, c_text(bytes(state, -2).unwrap_or_default()));
            out.push(b':');
            push_line(out, c_text(bytes(state, -1).unwrap_or_default()));
            out.push(b'.');
        }
        pop(state, 2);
    }
}

/// Whether it came from a command.
pub(crate) unsafe fn is_counted(state: *mut lua_State, error: c_int) -> bool {
    unsafe {
        raw_field(state, error, Slot::IgnoreErrorStatsUpdate);
        let is_counted = lua_type(state, -1) == LUA_TBOOLEAN && lua_toboolean(state, -1) != 0;
        pop(state, 1);
        is_counted
    }
}
