//! The `redis` table.

use std::ffi::{CStr, c_int};

use mlua::ffi::{
    LUA_TSTRING, lua_CFunction, lua_State, lua_concat, lua_createtable, lua_gettop, lua_isnumber, lua_pushboolean,
    lua_pushnumber, lua_pushvalue, lua_rawset, lua_tonumber, lua_type,
};
use sha1::{Digest, Sha1};

use crate::lua::call::{self, gather};
use crate::lua::raw::{Slot, bytes, cast, push_bytes, push_error, push_slot, raise_error, set_field, set_function, string};
use crate::lua::run::{ask, run_or_raise, shared};
use crate::lua::text::c_text;

const OF_SCRIPTS: &[(&CStr, lua_CFunction)] = &[
    (c"acl_check_cmd", acl_check_cmd),
    (c"call", call::call),
    (c"error_reply", error_reply),
    (c"pcall", call::pcall),
    (c"set_repl", set_repl),
    (c"setresp", setresp),
    (c"sha1hex", sha1hex),
    (c"status_reply", status_reply),
];

/// Functions have none of these.
const OF_EVAL: &[(&CStr, lua_CFunction)] =
    &[(c"breakpoint", breakpoint), (c"debug", debug), (c"replicate_commands", replicate_commands)];

const REPL_AOF: f64 = 1.0;
const REPL_REPLICA: f64 = 2.0;
const REPL: &[(&CStr, f64)] = &[
    (c"REPL_NONE", 0.0),
    (c"REPL_AOF", REPL_AOF),
    (c"REPL_SLAVE", REPL_REPLICA),
    (c"REPL_REPLICA", REPL_REPLICA),
    (c"REPL_ALL", REPL_AOF + REPL_REPLICA),
];

const LOG: &[(&CStr, f64)] = &[(c"LOG_DEBUG", 0.0), (c"LOG_VERBOSE", 1.0), (c"LOG_NOTICE", 2.0), (c"LOG_WARNING", 3.0)];

/// Puts the table on the stack that scripts have, or functions.
pub(crate) unsafe fn open(state: *mut lua_State, version: &str, is_for_eval: bool) {
    unsafe {
        lua_createtable(state, 0, 0);
        for (name, function) in OF_SCRIPTS.iter().chain(if is_for_eval { OF_EVAL } else { &[] }) {
            set_function(state, name, *function);
        }
        set_numbers(state, REPL);
        set_log_and_version(state, version);
    }
}

/// Puts into the table on top what a library has also while it is loaded.
pub(crate) unsafe fn set_log_and_version(state: *mut lua_State, version: &str) {
    unsafe {
        set_function(state, c"log", log);
        set_numbers(state, LOG);
        push_bytes(state, version.as_bytes());
        set_field(state, c"REDIS_VERSION");
        lua_pushnumber(state, version_number(version));
        set_field(state, c"REDIS_VERSION_NUM");
    }
}

unsafe fn set_numbers(state: *mut lua_State, numbers: &[(&CStr, f64)]) {
    unsafe {
        for (name, number) in numbers {
            lua_pushnumber(state, *number);
            set_field(state, name);
        }
    }
}

/// `7.4.0` is 0x00070400.
fn version_number(version: &str) -> f64 {
    let parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or_default());
    f64::from(parts.chain([0, 0, 0]).take(3).fold(0_u32, |number, part| number << 8 | part & 0xFF))
}

/// `-` before it is optional.
unsafe extern "C-unwind" fn error_reply(state: *mut lua_State) -> c_int {
    unsafe {
        let Some(text) = only_text(state) else { return 1 };
        let text = c_text(text);
        let text = text.strip_prefix(b"-").unwrap_or(text);
        // Whatever has no code is one.
        let (code, text): (&[u8], &[u8]) = match memchr::memchr(b' ', text) {
            Some(at) => (&text[..at], &text[at + 1..]),
            None => (b"ERR", text),
        };
        let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
        let from = text.iter().position(|byte| !is_end(byte)).unwrap_or(text.len());
        let to = text.iter().rposition(|byte| !is_end(byte)).map_or(from, |at| at + 1);
        lua_createtable(state, 0, 1);
        push_slot(state, Slot::Err);
        push_bytes(state, code);
        push_bytes(state, b" ");
        push_bytes(state, &text[from..to]);
        lua_concat(state, 3);
        lua_rawset(state, -3);
        1
    }
}

unsafe extern "C-unwind" fn status_reply(state: *mut lua_State) -> c_int {
    unsafe {
        if only_text(state).is_some() {
            lua_createtable(state, 0, 1);
            push_slot(state, Slot::Ok);
            lua_pushvalue(state, 1);
            lua_rawset(state, -3);
        }
        1
    }
}

/// The one argument; where it isn't one text, an error is on top.
unsafe fn only_text<'a>(state: *mut lua_State) -> Option<&'a [u8]> {
    unsafe {
        if lua_gettop(state) != 1 || lua_type(state, 1) != LUA_TSTRING {
            push_error(state, "wrong number or type of arguments");
            return None;
        }
        string(state, 1)
    }
}

unsafe extern "C-unwind" fn sha1hex(state: *mut lua_State) -> c_int {
    unsafe {
        if lua_gettop(state) != 1 {
            raise_error(state, "wrong number of arguments");
        }
        let digest = Sha1::digest(bytes(state, 1).unwrap_or_default());
        let mut hex = [0; 40];
        for (pair, byte) in hex.chunks_mut(2).zip(digest) {
            pair.copy_from_slice(&[b"0123456789abcdef"[usize::from(byte >> 4)], b"0123456789abcdef"[usize::from(byte & 15)]]);
        }
        push_bytes(state, &hex);
        1
    }
}

unsafe extern "C-unwind" fn log(state: *mut lua_State) -> c_int {
    unsafe {
        let count = lua_gettop(state);
        if count < 2 {
            raise_error(state, "redis.log() requires two arguments or more.");
        }
        if lua_isnumber(state, 1) == 0 {
            raise_error(state, "First argument must be a number (log level).");
        }
        let level = lua_tonumber(state, 1);
        if !(0.0..4.0).contains(&level) {
            raise_error(state, "Invalid debug level.");
        }
        let shared = shared(state);
        (*shared).text.clear();
        for index in 2..=count {
            if let Some(text) = bytes(state, index) {
                if !(*shared).text.is_empty() {
                    (*shared).text.push(b' ');
                }
                (*shared).text.extend(text);
            }
        }
        if !(*shared).run.is_null() {
            ask(state, |host| host.log(level as u8, &(*shared).text));
        }
        0
    }
}

unsafe extern "C-unwind" fn setresp(state: *mut lua_State) -> c_int {
    unsafe {
        let run = run_or_raise(state, "redis.setresp can only be called inside a script invocation");
        if lua_gettop(state) != 1 {
            raise_error(state, "redis.setresp() requires one argument.");
        }
        let protocol = cast(lua_tonumber(state, 1));
        if !matches!(protocol, 2 | 3) {
            raise_error(state, "RESP version must be 2 or 3.");
        }
        (*run).protocol = protocol as u8;
        0
    }
}

/// Accepted: what a script changes is kept, or not, as one.
unsafe extern "C-unwind" fn set_repl(state: *mut lua_State) -> c_int {
    unsafe {
        run_or_raise(state, "redis.set_repl can only be called inside a script invocation");
        if lua_gettop(state) != 1 {
            raise_error(state, "redis.set_repl() requires two arguments.");
        }
        if cast(lua_tonumber(state, 1)) & !3 != 0 {
            raise_error(state, "Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.");
        }
        0
    }
}

unsafe extern "C-unwind" fn acl_check_cmd(state: *mut lua_State) -> c_int {
    unsafe {
        run_or_raise(state, "redis.acl_check_cmd can only be called inside a script invocation");
        if let Err(why) = gather(state) {
            raise_error(state, why);
        }
        let shared = shared(state);
        let may = ask(state, |host| host.may_call(&(*shared).words));
        (*shared).words.clear();
        let Some(may) = may else { raise_error(state, "Invalid command passed to redis.acl_check_cmd()") };
        lua_pushboolean(state, c_int::from(may));
        1
    }
}

/// Nobody debugs a script here.
unsafe extern "C-unwind" fn breakpoint(state: *mut lua_State) -> c_int {
    unsafe { lua_pushboolean(state, 0) };
    1
}

unsafe extern "C-unwind" fn debug(_: *mut lua_State) -> c_int {
    0
}

unsafe extern "C-unwind" fn replicate_commands(state: *mut lua_State) -> c_int {
    unsafe { lua_pushboolean(state, 1) };
    1
}
