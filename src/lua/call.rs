//! `redis.call` and `redis.pcall`: a script's values become the words of a command, and its reply in RESP a value of Lua.

use std::ffi::c_int;

use mlua::ffi::{
    LUA_TNUMBER, LUA_TSTRING, lua_State, lua_checkstack, lua_concat, lua_createtable, lua_error, lua_gettop, lua_pushboolean,
    lua_pushnil, lua_pushnumber, lua_rawset, lua_rawseti_, lua_settable, lua_settop, lua_tonumber, lua_type,
};

use crate::lua::raw::{Slot, pop, push_bytes, push_error, push_slot, raise, string};
use crate::lua::run::{Shared, ask, run_or_raise, shared};
use crate::lua::text;

pub(crate) unsafe extern "C-unwind" fn call(state: *mut lua_State) -> c_int {
    unsafe {
        if command(state) {
            lua_error(state);
        }
        1
    }
}

/// An error is a value, not raised.
pub(crate) unsafe extern "C-unwind" fn pcall(state: *mut lua_State) -> c_int {
    unsafe {
        command(state);
        1
    }
}

/// Runs the command that the stack holds; its reply is on top. Whether that is an error.
unsafe fn command(state: *mut lua_State) -> bool {
    unsafe {
        let run = run_or_raise(state, "redis.call/pcall can only be called inside a script invocation");
        if let Err(why) = gather(state) {
            lua_settop(state, 0);
            push_error(state, why);
            return true;
        }
        let shared = shared(state);
        (*shared).answer.clear();
        let protocol = (*run).protocol;
        ask(state, |host| host.call(&(*shared).words, protocol, &mut (*shared).answer));
        (*shared).words.clear();
        lua_settop(state, 0);
        let answer = std::slice::from_raw_parts((*shared).answer.as_ptr(), (*shared).answer.len());
        push_reply(state, answer, protocol);
        answer.first() == Some(&b'-')
    }
}

/// Puts what the stack holds into `Shared::words`. The words lie in the strings on the stack, and numbers in `Shared::numbers`.
pub(crate) unsafe fn gather(state: *mut lua_State) -> Result<(), &'static str> {
    /// As long as a number becomes.
    const NUMBER_MAX: usize = 32;
    unsafe {
        let count = lua_gettop(state);
        if count == 0 {
            return Err("Please specify at least one argument for this redis lib call");
        }
        let shared: &mut Shared = &mut *shared(state);
        shared.words.clear();
        shared.numbers.clear();
        for index in 1..=count {
            let word = match lua_type(state, index) {
                LUA_TSTRING => string(state, index).unwrap_or_default(),
                LUA_TNUMBER => {
                    if shared.numbers.is_empty() {
                        // All at once, so that none is moved any more.
                        shared.numbers.reserve((count - index + 1) as usize * NUMBER_MAX);
                    }
                    let from = shared.numbers.len();
                    text::number(&mut shared.numbers, lua_tonumber(state, index));
                    std::slice::from_raw_parts(shared.numbers.as_ptr().add(from), shared.numbers.len() - from)
                }
                _ => return Err("Lua redis lib command arguments must be strings or integers"),
            };
            shared.words.push(word);
        }
        Ok(())
    }
}

/// Puts a whole reply on the stack.
unsafe fn push_reply(state: *mut lua_State, reply: &[u8], protocol: u8) {
    unsafe {
        let mut rest = reply;
        push_value(state, &mut rest, protocol);
    }
}

unsafe fn push_value(state: *mut lua_State, rest: &mut &[u8], protocol: u8) {
    unsafe {
        if lua_checkstack(state, 6) == 0 {
            raise(state, b"a reply is nested too deeply");
        }
        let line = take_line(rest);
        let Some((kind, head)) = line.split_first() else { return lua_pushnil(state) };
        match kind {
            b'+' => push_labelled(state, Slot::Ok, head),
            b'-' => push_command_error(state, head),
            b':' => lua_pushnumber(state, integer(head) as f64),
            b'$' if head.starts_with(b"-") => lua_pushboolean(state, 0),
            b'$' => push_bytes(state, take_bulk(rest, head)),
            b'*' if head.starts_with(b"-") => lua_pushboolean(state, 0),
            b'*' => push_array(state, rest, integer(head), protocol),
            b'%' => push_map(state, rest, integer(head), protocol),
            b'~' => push_set(state, rest, integer(head), protocol),
            b'#' => lua_pushboolean(state, c_int::from(head == b"t")),
            b',' => push_double(state, head),
            b'(' => push_labelled(state, Slot::BigNumber, head),
            b'=' => push_verbatim(state, take_bulk(rest, head)),
            b'|' => {
                // Attributes are not for scripts.
                for _ in 0..integer(head).saturating_mul(2) {
                    push_value(state, rest, protocol);
                    pop(state, 1);
                }
                push_value(state, rest, protocol);
            }
            _ => lua_pushnil(state),
        }
    }
}

fn take_line<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let end = memchr::memchr(b'\r', rest).unwrap_or(rest.len());
    let line = &rest[..end];
    *rest = rest.get(end + 2..).unwrap_or_default();
    line
}

fn take_bulk<'a>(rest: &mut &'a [u8], head: &[u8]) -> &'a [u8] {
    let length = usize::try_from(integer(head)).unwrap_or_default().min(rest.len());
    let bulk = &rest[..length];
    *rest = rest.get(length + 2..).unwrap_or_default();
    bulk
}

fn integer(digits: &[u8]) -> i64 {
    let (is_negative, digits) = match digits.split_first() {
        Some((b'-', digits)) => (true, digits),
        _ => (false, digits),
    };
    // Downwards, since the smallest number has no positive counterpart.
    let value =
        digits.iter().fold(0_i64, |value, digit| value.wrapping_mul(10).wrapping_sub(i64::from(digit.wrapping_sub(b'0'))));
    if is_negative { value } else { value.wrapping_neg() }
}

/// `{label = text}`.
unsafe fn push_labelled(state: *mut lua_State, label: Slot, text: &[u8]) {
    unsafe {
        lua_createtable(state, 0, 1);
        push_slot(state, label);
        push_bytes(state, text);
        lua_rawset(state, -3);
    }
}

unsafe fn push_command_error(state: *mut lua_State, text: &[u8]) {
    unsafe {
        if text.contains(&b' ') {
            push_labelled(state, Slot::Err, text);
        } else {
            lua_createtable(state, 0, 1);
            push_slot(state, Slot::Err);
            push_bytes(state, b"ERR ");
            push_bytes(state, text);
            lua_concat(state, 2);
            lua_rawset(state, -3);
        }
        push_slot(state, Slot::IgnoreErrorStatsUpdate);
        lua_pushboolean(state, 1);
        lua_rawset(state, -3);
    }
}

unsafe fn push_array(state: *mut lua_State, rest: &mut &[u8], count: i64, protocol: u8) {
    unsafe {
        let count = count as c_int;
        // With nil in it, how long a table is depends on how it grew; only RESP3 has nil.
        lua_createtable(state, if protocol == 2 { count } else { 0 }, 0);
        for index in 1..=count {
            push_value(state, rest, protocol);
            lua_rawseti_(state, -2, index);
        }
    }
}

unsafe fn push_map(state: *mut lua_State, rest: &mut &[u8], count: i64, protocol: u8) {
    unsafe {
        lua_createtable(state, 0, 1);
        push_slot(state, Slot::Map);
        lua_createtable(state, 0, 0);
        for _ in 0..count {
            push_value(state, rest, protocol);
            push_value(state, rest, protocol);
            lua_settable(state, -3);
        }
        lua_rawset(state, -3);
    }
}

unsafe fn push_set(state: *mut lua_State, rest: &mut &[u8], count: i64, protocol: u8) {
    unsafe {
        lua_createtable(state, 0, 1);
        push_slot(state, Slot::Set);
        lua_createtable(state, 0, 0);
        for _ in 0..count {
            push_value(state, rest, protocol);
            lua_pushboolean(state, 1);
            lua_settable(state, -3);
        }
        lua_rawset(state, -3);
    }
}

unsafe fn push_double(state: *mut lua_State, text: &[u8]) {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<f64>().ok()).unwrap_or(f64::NAN);
    unsafe {
        lua_createtable(state, 0, 1);
        push_slot(state, Slot::Double);
        lua_pushnumber(state, number);
        lua_rawset(state, -3);
    }
}

unsafe fn push_verbatim(state: *mut lua_State, bulk: &[u8]) {
    let (format, text) = bulk.split_at(bulk.len().min(4));
    unsafe {
        lua_createtable(state, 0, 1);
        push_slot(state, Slot::VerbatimString);
        lua_createtable(state, 0, 2);
        push_slot(state, Slot::String);
        push_bytes(state, text);
        lua_rawset(state, -3);
        push_slot(state, Slot::Format);
        push_bytes(state, format.strip_suffix(b":").unwrap_or(format));
        lua_rawset(state, -3);
        lua_rawset(state, -3);
    }
}
