//! `string.find`, `match`, `gmatch` and `gsub`, whose patterns as they come in Lua 5.1 can neither be stopped nor, where they are long, keep within
//! the stack.

mod class;
mod matcher;

use std::ffi::c_int;

use mlua::ffi::{
    LUA_TFUNCTION, LUA_TNUMBER, LUA_TSTRING, LUA_TTABLE, lua_Integer, lua_State, lua_call, lua_gettable, lua_insert,
    lua_isstring, lua_pushcclosure, lua_pushinteger, lua_pushnil, lua_pushvalue, lua_rawset, lua_replace, lua_settop,
    lua_toboolean, lua_tonumber, lua_type, lua_typename, lua_upvalueindex, luaL_argerror, luaL_error, luaL_optinteger,
};

use crate::lua::libs::patterns::matcher::Matcher;
use crate::lua::libs::pieces::Pieces;
use crate::lua::libs::scratch::{push_scratch, scratch};
use crate::lua::libs::values::{bytes, check_bytes, set_function};
use crate::lua::raw::{pop, push_bytes};

/// Puts them into the table on top.
pub(crate) unsafe fn improve(state: *mut lua_State) {
    unsafe {
        push_scratch(state);
        set_function(state, c"find", find, 1);
        set_function(state, c"match", match_, 1);
        set_function(state, c"gsub", gsub, 1);
        lua_pushvalue(state, -1);
        lua_pushcclosure(state, gmatch, 1);
        // One function by two names.
        for name in [&b"gmatch"[..], b"gfind"] {
            push_bytes(state, name);
            lua_pushvalue(state, -2);
            lua_rawset(state, -5);
        }
        pop(state, 2);
    }
}

unsafe extern "C-unwind" fn find(state: *mut lua_State) -> c_int {
    unsafe { search(state, true) }
}

unsafe extern "C-unwind" fn match_(state: *mut lua_State) -> c_int {
    unsafe { search(state, false) }
}

unsafe fn search(state: *mut lua_State, is_find: bool) -> c_int {
    unsafe {
        let subject = check_bytes(state, 1);
        let pattern = check_bytes(state, 2);
        let start = start(luaL_optinteger(state, 3, 1), subject.len());
        if is_find && (lua_toboolean(state, 4) != 0 || is_plain(pattern)) {
            let Some(at) = memchr::memmem::find(&subject[start..], pattern) else {
                lua_pushnil(state);
                return 1;
            };
            lua_pushinteger(state, (start + at + 1) as lua_Integer);
            lua_pushinteger(state, (start + at + pattern.len()) as lua_Integer);
            return 2;
        }
        let (pattern, is_anchored) = anchored(pattern);
        let mut matcher = Matcher::new(state, subject, pattern, &mut scratch(state).levels);
        for from in start..=subject.len() {
            if let Some(to) = matcher.matches_at(from) {
                if !is_find {
                    return matcher.push_captures(from, to);
                }
                lua_pushinteger(state, from as lua_Integer + 1);
                lua_pushinteger(state, to as lua_Integer);
                return matcher.push_own_captures() + 2;
            }
            if is_anchored {
                break;
            }
        }
        lua_pushnil(state);
        1
    }
}

/// Where to begin, from 0. A negative position counts from the end.
fn start(position: lua_Integer, length: usize) -> usize {
    let position = if position < 0 { position.saturating_add(length as lua_Integer + 1) } else { position };
    usize::try_from(position - 1).unwrap_or(0).min(length)
}

/// Whether it has nothing special. As in C, a zero byte ends it here.
fn is_plain(pattern: &[u8]) -> bool {
    !c_string(pattern).iter().any(|byte| b"^$*+?.([%-".contains(byte))
}

fn c_string(bytes: &[u8]) -> &[u8] {
    &bytes[..memchr::memchr(0, bytes).unwrap_or(bytes.len())]
}

fn anchored(pattern: &[u8]) -> (&[u8], bool) {
    match pattern {
        [b'^', rest @ ..] => (c_string(rest), true),
        _ => (c_string(pattern), false),
    }
}

unsafe extern "C-unwind" fn gmatch(state: *mut lua_State) -> c_int {
    unsafe {
        check_bytes(state, 1);
        check_bytes(state, 2);
        lua_settop(state, 2);
        lua_pushvalue(state, lua_upvalueindex(1));
        lua_insert(state, 1);
        lua_pushinteger(state, 0);
        lua_pushcclosure(state, next_match, 4);
        1
    }
}

/// Its values: the scratch, the subject, the pattern, and where it goes on.
unsafe extern "C-unwind" fn next_match(state: *mut lua_State) -> c_int {
    unsafe {
        let subject = bytes(state, lua_upvalueindex(2));
        let pattern = c_string(bytes(state, lua_upvalueindex(3)));
        let start = lua_tonumber(state, lua_upvalueindex(4)) as usize;
        let mut matcher = Matcher::new(state, subject, pattern, &mut scratch(state).levels);
        for from in start..=subject.len() {
            if let Some(to) = matcher.matches_at(from) {
                // One that is empty is not found again.
                let next = if to == from { to + 1 } else { to };
                lua_pushinteger(state, next as lua_Integer);
                lua_replace(state, lua_upvalueindex(4));
                return matcher.push_captures(from, to);
            }
        }
        0
    }
}

unsafe extern "C-unwind" fn gsub(state: *mut lua_State) -> c_int {
    unsafe {
        let subject = check_bytes(state, 1);
        let pattern = check_bytes(state, 2);
        let kind = lua_type(state, 3);
        // As C does it: what is beyond an int is cut off.
        let most = luaL_optinteger(state, 4, subject.len() as lua_Integer + 1) as c_int;
        let (pattern, is_anchored) = anchored(pattern);
        if !matches!(kind, LUA_TNUMBER | LUA_TSTRING | LUA_TFUNCTION | LUA_TTABLE) {
            luaL_argerror(state, 3, c"string/function/table expected".as_ptr());
        }
        let mut result = Pieces::new(state);
        let mut matcher = Matcher::new(state, subject, pattern, &mut scratch(state).levels);
        let (mut at, mut count) = (0, 0);
        while count < most {
            let found = matcher.matches_at(at);
            if let Some(to) = found {
                count += 1;
                add_replacement(&matcher, kind, &mut result, at, to);
            }
            match found {
                Some(to) if to > at => at = to,
                _ if at < subject.len() => {
                    result.push(subject[at]);
                    at += 1;
                }
                _ => break,
            }
            if is_anchored {
                break;
            }
        }
        result.extend(&subject[at..]);
        result.finish();
        lua_pushinteger(state, lua_Integer::from(count));
        2
    }
}

unsafe fn add_replacement(matcher: &Matcher<'_>, kind: c_int, result: &mut Pieces, from: usize, to: usize) {
    unsafe {
        let state = matcher.state;
        match kind {
            LUA_TFUNCTION => {
                lua_pushvalue(state, 3);
                let count = matcher.push_captures(from, to);
                lua_call(state, count, 1);
            }
            LUA_TTABLE => {
                matcher.push_capture(0, from, to);
                lua_gettable(state, 3);
            }
            _ => return add_template(matcher, result, from, to),
        }
        if lua_toboolean(state, -1) == 0 {
            pop(state, 1);
            return result.extend(&matcher.subject[from..to]);
        }
        if lua_isstring(state, -1) == 0 {
            let name = lua_typename(state, lua_type(state, -1));
            luaL_error(state, c"invalid replacement value (a %s)".as_ptr(), name);
        }
        result.add_value();
    }
}

unsafe fn add_template(matcher: &Matcher<'_>, result: &mut Pieces, from: usize, to: usize) {
    unsafe {
        let mut template = bytes(matcher.state, 3);
        while let Some(at) = memchr::memchr(b'%', template) {
            result.extend(&template[..at]);
            // Behind one that is last, C finds the zero that ends a string.
            match template.get(at + 1).copied().unwrap_or(0) {
                b'0' => result.extend(&matcher.subject[from..to]),
                digit @ b'1'..=b'9' => {
                    matcher.push_capture(usize::from(digit - b'1'), from, to);
                    result.add_value();
                }
                other => result.push(other),
            }
            template = template.get(at + 2..).unwrap_or_default();
        }
        result.extend(template);
    }
}
