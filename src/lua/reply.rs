//! What a script returns, as RESP for its client.
//!
//! Tables are written without recursion: they may be nested as deeply as Lua's stack goes, which is thousands of levels, and further where a
//! table holds itself.

use std::ffi::c_int;
use std::io::Write;

use mlua::ffi::{
    LUA_TBOOLEAN, LUA_TNIL, LUA_TNUMBER, LUA_TSTRING, LUA_TTABLE, lua_State, lua_checkstack, lua_gettop, lua_next, lua_pushnil,
    lua_pushvalue, lua_rawget_, lua_rawgeti_, lua_toboolean, lua_tonumber, lua_type,
};

use crate::lua::error;
use crate::lua::raw::{Slot, bytes, pop, push_slot, raise_error, string, whole};
use crate::lua::run::{Ending, Level, LevelKind, Run, Shared, interrupt, shared};
use crate::lua::text::{c_text, general, push_line, without_end};

/// How many values are written, or counted, between two looks at the bell.
const STEPS: u32 = 1024;

/// Takes the value on top and writes it as the reply of the run.
pub(crate) unsafe fn write(state: *mut lua_State) {
    unsafe {
        let shared = shared(state);
        let run = (*shared).run;
        (*shared).levels.clear();
        loop {
            write_value(state, shared, run);
            while !(*shared).levels.is_empty() && !push_next(state, shared) {}
            if (*shared).levels.is_empty() {
                return;
            }
            step(state, shared);
            if (*(*run).reply).len() - (*run).reply_start > (*run).reply_max {
                raise_error(state, "the reply is larger than what a script may use (script-memory-limit)");
            }
        }
    }
}

unsafe fn step(state: *mut lua_State, shared: *mut Shared) {
    unsafe {
        (*shared).steps = (*shared).steps.wrapping_add(1);
        if (*shared).steps.is_multiple_of(STEPS) {
            interrupt(state);
        }
    }
}

/// Takes the value on top. A table that holds others stays there, as the level that is written from here on.
unsafe fn write_value(state: *mut lua_State, shared: *mut Shared, run: *mut Run) {
    unsafe {
        let reply = &mut *(*run).reply;
        if lua_checkstack(state, 6) == 0 {
            reply.extend(b"-ERR reached lua stack limit\r\n");
            return pop(state, 1);
        }
        match lua_type(state, -1) {
            LUA_TSTRING => push_bulk(reply, bytes(state, -1).unwrap_or_default()),
            LUA_TNUMBER => push_head(reply, b':', whole(state, -1)),
            LUA_TBOOLEAN => push_boolean(reply, lua_toboolean(state, -1) != 0, &*run),
            LUA_TTABLE => return write_table(state, shared, run),
            _ => push_null(reply, (*run).client),
        }
        pop(state, 1);
    }
}

fn push_boolean(reply: &mut Vec<u8>, is_true: bool, run: &Run) {
    match (run.protocol, is_true) {
        (2, true) => reply.extend(b":1\r\n"),
        (2, false) => push_null(reply, run.client),
        _ if run.client == 2 => reply.extend(if is_true { b":1\r\n" } else { b":0\r\n" }),
        _ => reply.extend(if is_true { b"#t\r\n" } else { b"#f\r\n" }),
    }
}

fn push_null(reply: &mut Vec<u8>, client: u8) {
    reply.extend_from_slice(if client == 2 { b"$-1\r\n" } else { b"_\r\n" });
}

fn push_bulk(reply: &mut Vec<u8>, bytes: &[u8]) {
    push_head(reply, b'$', bytes.len() as i64);
    reply.extend(bytes);
    reply.extend(b"\r\n");
}

fn push_head(reply: &mut Vec<u8>, kind: u8, number: i64) {
    reply.push(kind);
    reply.extend(itoa::Buffer::new().format(number).as_bytes());
    reply.extend(b"\r\n");
}

/// A table with one of certain fields means what that says; any other is an array.
unsafe fn write_table(state: *mut lua_State, shared: *mut Shared, run: *mut Run) {
    unsafe {
        let reply = &mut *(*run).reply;
        let table = lua_gettop(state);
        let field = |slot| push_field(state, table, slot);
        if field(Slot::Err) == LUA_TSTRING {
            return write_error(state, shared, run, table);
        }
        if field(Slot::Ok) == LUA_TSTRING {
            reply.push(b'+');
            push_line(reply, c_text(string(state, -1).unwrap_or_default()));
            reply.extend(b"\r\n");
            return pop(state, 3);
        }
        if field(Slot::Double) == LUA_TNUMBER {
            push_double(reply, lua_tonumber(state, -1), (*run).client);
            return pop(state, 4);
        }
        if field(Slot::BigNumber) == LUA_TSTRING {
            push_big_number(reply, string(state, -1).unwrap_or_default(), (*run).client);
            return pop(state, 5);
        }
        pop(state, 4);
        if field(Slot::VerbatimString) == LUA_TTABLE && write_verbatim(state, reply, (*run).client) {
            return pop(state, 2);
        }
        pop(state, 1);
        let header = if (*run).client == 2 { (b'*', b'*') } else { (b'%', b'~') };
        if field(Slot::Map) == LUA_TTABLE {
            let pairs = count_fields(state, shared);
            push_head(reply, header.0, if (*run).client == 2 { pairs * 2 } else { pairs });
            lua_pushnil(state);
            return (*shared).levels.push(Level { kind: LevelKind::Map { is_value_next: false }, count: 0 });
        }
        pop(state, 1);
        if field(Slot::Set) == LUA_TTABLE {
            let members = count_fields(state, shared);
            push_head(reply, header.1, members);
            lua_pushnil(state);
            return (*shared).levels.push(Level { kind: LevelKind::Set, count: 0 });
        }
        pop(state, 1);
        push_head(reply, b'*', count_items(state, shared, table));
        (*shared).levels.push(Level { kind: LevelKind::Array, count: 0 });
    }
}

/// Puts a field on top, and says its type. Nothing of the script runs while its reply is written.
unsafe fn push_field(state: *mut lua_State, table: c_int, slot: Slot) -> c_int {
    unsafe {
        push_slot(state, slot);
        lua_rawget_(state, table);
        lua_type(state, -1)
    }
}

/// Takes all from the table on.
unsafe fn write_error(state: *mut lua_State, shared: *mut Shared, run: *mut Run, table: c_int) {
    unsafe {
        let reply = &mut *(*run).reply;
        let text = c_text(string(state, -1).unwrap_or_default());
        reply.push(b'-');
        push_line(reply, without_end(text));
        reply.extend(b"\r\n");
        if (*shared).levels.is_empty() {
            (*run).ending = Ending { is_error: true, is_counted: error::is_counted(state, table) };
        }
        pop(state, 2);
    }
}

fn push_double(reply: &mut Vec<u8>, number: f64, client: u8) {
    let mut text = Vec::with_capacity(32);
    general(&mut text, number);
    if client == 2 {
        push_bulk(reply, &text);
    } else {
        reply.push(b',');
        reply.extend(text);
        reply.extend(b"\r\n");
    }
}

fn push_big_number(reply: &mut Vec<u8>, digits: &[u8], client: u8) {
    if client == 2 {
        let _ = write!(reply, "${}\r\n", digits.len());
    } else {
        reply.push(b'(');
    }
    push_line(reply, digits);
    reply.extend(b"\r\n");
}

/// Writes the verbatim string on top, where it is one.
unsafe fn write_verbatim(state: *mut lua_State, reply: &mut Vec<u8>, client: u8) -> bool {
    unsafe {
        let table = lua_gettop(state);
        push_field(state, table, Slot::Format);
        push_field(state, table, Slot::String);
        let (format, text) = (string(state, -2), string(state, -1));
        if let (Some(format), Some(text)) = (format, text) {
            if client == 2 {
                push_bulk(reply, text);
            } else {
                push_head(reply, b'=', text.len() as i64 + 4);
                reply.extend(c_text(format).iter().copied().chain([b' '; 3]).take(3));
                reply.push(b':');
                reply.extend(text);
                reply.extend(b"\r\n");
            }
        }
        pop(state, 2);
        format.is_some() && text.is_some()
    }
}

/// How many fields the table on top has.
unsafe fn count_fields(state: *mut lua_State, shared: *mut Shared) -> i64 {
    unsafe {
        let mut count = 0;
        lua_pushnil(state);
        while lua_next(state, -2) != 0 {
            pop(state, 1);
            count += 1;
            step(state, shared);
        }
        count
    }
}

/// How many items there are before the first that is nil.
unsafe fn count_items(state: *mut lua_State, shared: *mut Shared, table: c_int) -> i64 {
    unsafe {
        let mut count: c_int = 0;
        loop {
            lua_rawgeti_(state, table, count + 1);
            let is_end = lua_type(state, -1) == LUA_TNIL;
            pop(state, 1);
            if is_end {
                return i64::from(count);
            }
            count += 1;
            step(state, shared);
        }
    }
}

/// Puts the next value of the innermost table on top; or ends that table, and there is none.
unsafe fn push_next(state: *mut lua_State, shared: *mut Shared) -> bool {
    unsafe {
        let levels = &mut (*shared).levels;
        let Some(level) = levels.last_mut() else { return false };
        match &mut level.kind {
            LevelKind::Array => {
                level.count += 1;
                lua_rawgeti_(state, -1, level.count);
                if lua_type(state, -1) != LUA_TNIL {
                    return true;
                }
            }
            LevelKind::Map { is_value_next: is_value_next @ true } => {
                // The key was written from a copy; the value lies on top.
                *is_value_next = false;
                return true;
            }
            LevelKind::Map { is_value_next } => {
                if lua_next(state, -2) != 0 {
                    // Now: key, value. The value waits below a copy of the key.
                    lua_pushvalue(state, -2);
                    *is_value_next = true;
                    return true;
                }
                // For the table that has it as `map`, which goes with it.
            }
            LevelKind::Set => {
                if lua_next(state, -2) != 0 {
                    pop(state, 1);
                    lua_pushvalue(state, -1);
                    return true;
                }
            }
        }
        // The table, and with it the nil that ended an array, or the table around a map or a set.
        pop(state, 2);
        (*shared).levels.pop();
        false
    }
}
