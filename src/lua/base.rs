//! Basic functions of ours: those that Redis changed, those that know of frozen tables, and those of stock Lua that crash or can't be stopped.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::{mem, ptr};

use mlua::ffi::{
    LUA_GCCOLLECT, LUA_GCCOUNT, LUA_GCCOUNTB, LUA_GCRESTART, LUA_GCSTEP, LUA_GCSTOP, LUA_MULTRET, LUA_TFUNCTION, LUA_TNIL,
    LUA_TTABLE, lua_CFunction, lua_State, lua_checkstack, lua_concat, lua_createtable, lua_error, lua_gc, lua_getmetatable,
    lua_gettop, lua_insert, lua_load, lua_next, lua_objlen, lua_pcall, lua_pushboolean, lua_pushcclosure, lua_pushnil,
    lua_pushnumber, lua_pushvalue, lua_rawget_, lua_rawgeti_, lua_rawset, lua_rawseti_, lua_remove, lua_replace,
    lua_setmetatable, lua_settop, lua_type, lua_upvalueindex, luaL_argerror, luaL_checkany, luaL_checkinteger, luaL_checklstring,
    luaL_checkoption, luaL_checktype, luaL_error, luaL_getmetafield_, luaL_optinteger, luaL_optlstring, luaL_where,
};

use crate::lua::chance::Chance;
use crate::lua::frozen;
use crate::lua::raw::{self, Slot, bytes, is_text, pop, push_bytes, set_function};
use crate::lua::run::{interrupt, is_ended, shared};

/// Of the globals that stock Lua has, those that scripts keep.
pub(crate) const KEPT: &[&CStr] =
    &[c"assert", c"error", c"gcinfo", c"ipairs", c"rawequal", c"select", c"tonumber", c"tostring", c"type", c"_VERSION"];

const OURS: &[(&CStr, lua_CFunction)] = &[
    (c"collectgarbage", collectgarbage),
    (c"getmetatable", getmetatable),
    (c"load", load),
    (c"loadstring", loadstring),
    (c"next", next),
    (c"pcall", pcall),
    (c"rawget", rawget),
    (c"rawset", rawset),
    (c"setmetatable", setmetatable),
    (c"unpack", unpack),
    (c"xpcall", xpcall),
];

/// Puts them into the table on top.
pub(crate) unsafe fn open(state: *mut lua_State) {
    unsafe {
        for (name, function) in OURS {
            set_function(state, name, *function);
        }
        push_bytes(state, b"pairs");
        lua_pushcclosure(state, next, 0);
        lua_pushcclosure(state, pairs, 1);
        lua_rawset(state, -3);
    }
}

/// As in Redis: where the error is a table with a text in `err`, as those of commands are, the script gets that text.
unsafe extern "C-unwind" fn pcall(state: *mut lua_State) -> c_int {
    unsafe {
        luaL_checkany(state, 1);
        let arguments = lua_gettop(state) - 1;
        lua_pushboolean(state, 1);
        lua_insert(state, 1);
        if lua_pcall(state, arguments, LUA_MULTRET, 0) != 0 {
            pass_on_the_end(state);
            lua_remove(state, 1);
            if lua_type(state, -1) == LUA_TTABLE {
                let top = lua_gettop(state);
                raw::raw_field(state, top, Slot::Err);
                if is_text(state, -1) {
                    lua_replace(state, -2);
                }
            }
            lua_pushboolean(state, 0);
            lua_insert(state, 1);
        }
        lua_gettop(state)
    }
}

/// The handler is called once the error has left what raised it: in stock Lua one that loops is never stopped. No script can tell, since none
/// can look at the stack.
unsafe extern "C-unwind" fn xpcall(state: *mut lua_State) -> c_int {
    unsafe {
        luaL_checkany(state, 2);
        lua_settop(state, 2);
        lua_pushboolean(state, 1);
        lua_pushvalue(state, 1);
        if lua_pcall(state, 0, LUA_MULTRET, 0) == 0 {
            return lua_gettop(state) - 2;
        }
        pass_on_the_end(state);
        lua_pushboolean(state, 0);
        lua_replace(state, 3);
        lua_pushvalue(state, 2);
        lua_insert(state, 4);
        if lua_type(state, 4) != LUA_TFUNCTION || lua_pcall(state, 1, 1, 0) != 0 {
            pass_on_the_end(state);
            lua_settop(state, 3);
            push_bytes(state, b"error in error handling");
        }
        2
    }
}

/// What catches an error lets through the one that ends the run.
pub(crate) unsafe fn pass_on_the_end(state: *mut lua_State) {
    unsafe {
        if is_ended(state) {
            lua_error(state);
        }
    }
}

/// Stock Lua counts in 32 bits, and wraps around.
unsafe extern "C-unwind" fn unpack(state: *mut lua_State) -> c_int {
    unsafe {
        luaL_checktype(state, 1, LUA_TTABLE);
        let first = i64::from(luaL_optinteger(state, 2, 1) as i32);
        let last = if lua_type(state, 3) <= LUA_TNIL {
            lua_objlen(state, 1) as i64
        } else {
            i64::from(luaL_checkinteger(state, 3) as i32)
        };
        if first > last {
            return 0;
        }
        let count = last - first + 1;
        if count >= 8000 || lua_checkstack(state, count as c_int) == 0 {
            return luaL_error(state, c"too many results to unpack".as_ptr());
        }
        for index in first..=last {
            lua_rawgeti_(state, 1, index as c_int);
        }
        count as c_int
    }
}

unsafe extern "C-unwind" fn next(state: *mut lua_State) -> c_int {
    unsafe {
        luaL_checktype(state, 1, LUA_TTABLE);
        lua_settop(state, 2);
        if frozen::real(state, 1) {
            lua_replace(state, 1);
        }
        if lua_next(state, 1) != 0 {
            return 2;
        }
        lua_pushnil(state);
        1
    }
}

unsafe extern "C-unwind" fn pairs(state: *mut lua_State) -> c_int {
    unsafe {
        luaL_checktype(state, 1, LUA_TTABLE);
        lua_pushvalue(state, lua_upvalueindex(1));
        lua_pushvalue(state, 1);
        lua_pushnil(state);
        3
    }
}

unsafe extern "C-unwind" fn rawget(state: *mut lua_State) -> c_int {
    unsafe {
        luaL_checktype(state, 1, LUA_TTABLE);
        luaL_checkany(state, 2);
        lua_settop(state, 2);
        if frozen::real(state, 1) {
            lua_replace(state, 1);
        }
        lua_rawget_(state, 1);
        1
    }
}

unsafe extern "C-unwind" fn rawset(state: *mut lua_State) -> c_int {
    unsafe {
        luaL_checktype(state, 1, LUA_TTABLE);
        luaL_checkany(state, 2);
        luaL_checkany(state, 3);
        lua_settop(state, 3);
        frozen::refuse_if_frozen(state, 1);
        lua_rawset(state, 1);
        1
    }
}

unsafe extern "C-unwind" fn getmetatable(state: *mut lua_State) -> c_int {
    unsafe {
        luaL_checkany(state, 1);
        if frozen::shown(state, 1) {
            return 1;
        }
        if lua_getmetatable(state, 1) == 0 {
            lua_pushnil(state);
            return 1;
        }
        // What it is told to show stands above the metatable then, else the metatable itself.
        luaL_getmetafield_(state, 1, c"__metatable".as_ptr());
        1
    }
}

unsafe extern "C-unwind" fn setmetatable(state: *mut lua_State) -> c_int {
    unsafe {
        let kind = lua_type(state, 2);
        luaL_checktype(state, 1, LUA_TTABLE);
        if !matches!(kind, LUA_TNIL | LUA_TTABLE) {
            return luaL_argerror(state, 2, c"nil or table expected".as_ptr());
        }
        frozen::refuse_if_frozen(state, 1);
        if luaL_getmetafield_(state, 1, c"__metatable".as_ptr()) != 0 {
            return luaL_error(state, c"cannot change a protected metatable".as_ptr());
        }
        lua_settop(state, 2);
        lua_setmetatable(state, 1);
        1
    }
}

/// What would change how the collector works for those who come after has no effect.
unsafe extern "C-unwind" fn collectgarbage(state: *mut lua_State) -> c_int {
    struct Names([*const c_char; 8]);
    // SAFETY: they are constants.
    unsafe impl Sync for Names {}
    static NAMES: Names = Names([
        c"stop".as_ptr(),
        c"restart".as_ptr(),
        c"collect".as_ptr(),
        c"count".as_ptr(),
        c"step".as_ptr(),
        c"setpause".as_ptr(),
        c"setstepmul".as_ptr(),
        ptr::null(),
    ]);
    /// What both settings are at first, and stay.
    const PERCENT: f64 = 200.0;
    unsafe {
        let option = luaL_checkoption(state, 1, c"collect".as_ptr(), NAMES.0.as_ptr());
        let argument = luaL_optinteger(state, 2, 0) as c_int;
        match option {
            2 => lua_pushnumber(state, f64::from(lua_gc(state, LUA_GCCOLLECT, 0))),
            3 => {
                let kilobytes = f64::from(lua_gc(state, LUA_GCCOUNT, 0));
                lua_pushnumber(state, kilobytes + f64::from(lua_gc(state, LUA_GCCOUNTB, 0)) / 1024.0);
            }
            4 => lua_pushboolean(state, lua_gc(state, LUA_GCSTEP, argument)),
            5 | 6 => lua_pushnumber(state, PERCENT),
            _ => lua_pushnumber(state, 0.0),
        }
        1
    }
}

unsafe extern "C-unwind" fn loadstring(state: *mut lua_State) -> c_int {
    unsafe {
        let mut length = 0;
        let text = luaL_checklstring(state, 1, &mut length);
        let name = luaL_optlstring(state, 2, text, ptr::null_mut());
        let source = bytes(state, 1).unwrap_or_default();
        loaded(state, compile(state, source, name))
    }
}

/// All pieces are gathered first, so that no script runs within the parser.
unsafe extern "C-unwind" fn load(state: *mut lua_State) -> c_int {
    unsafe {
        luaL_checktype(state, 1, LUA_TFUNCTION);
        luaL_optlstring(state, 2, c"=(load)".as_ptr(), ptr::null_mut());
        lua_settop(state, 2);
        lua_createtable(state, 0, 0);
        let (mut pieces, mut length): (c_int, usize) = (0, 0);
        loop {
            lua_pushvalue(state, 1);
            if lua_pcall(state, 0, 1, 0) != 0 {
                pass_on_the_end(state);
                return loaded(state, 1);
            }
            if lua_type(state, -1) == LUA_TNIL {
                break;
            }
            if !is_text(state, -1) {
                luaL_where(state, 1);
                push_bytes(state, b"reader function must return a string");
                lua_concat(state, 2);
                return loaded(state, 1);
            }
            let piece = bytes(state, -1).unwrap_or_default();
            if piece.is_empty() {
                break;
            }
            // The same piece a million times takes no memory, and would be parsed for hours.
            length = length.saturating_add(piece.len());
            if length > (*shared(state)).memory.ceiling {
                push_bytes(state, b"not enough memory");
                return loaded(state, 1);
            }
            pieces += 1;
            lua_rawseti_(state, 3, pieces);
        }
        lua_settop(state, 3);
        let name = luaL_optlstring(state, 2, c"=(load)".as_ptr(), ptr::null_mut());
        let status = parse(state, &mut Source::new(b"", pieces), name);
        loaded(state, status)
    }
}

/// The function on top, or nil and the message on top.
unsafe fn loaded(state: *mut lua_State, status: c_int) -> c_int {
    unsafe {
        if status == 0 {
            return 1;
        }
        lua_pushnil(state);
        lua_insert(state, -2);
        2
    }
}

/// Where the parser reads: bytes, and then so many pieces that stand in the table at 3.
struct Source {
    rest: *const [u8],
    pieces: c_int,
    /// The next piece.
    at: c_int,
    is_begun: bool,
}

impl Source {
    fn new(text: &[u8], pieces: c_int) -> Source {
        Source { rest: text, pieces, at: 1, is_begun: false }
    }
}

/// Compiles a text; the function, or the message, is on top. Whoever calls keeps text and name where they are.
pub(crate) unsafe fn compile(state: *mut lua_State, text: &[u8], name: *const c_char) -> c_int {
    unsafe { parse(state, &mut Source::new(text, 0), name) }
}

/// While it parses, nothing is collected: the parser of 5.1 lets go of the chunk's name (CVE-2025-49844).
unsafe fn parse(state: *mut lua_State, source: &mut Source, name: *const c_char) -> c_int {
    unsafe {
        lua_gc(state, LUA_GCSTOP, 0);
        let status = lua_load(state, read, (&raw mut *source).cast(), name);
        lua_gc(state, LUA_GCRESTART, 0);
        if status != 0 {
            pass_on_the_end(state);
        }
        status
    }
}

/// A little at a time, so that a long text can be interrupted. What begins as compiled code does gets a space before it, so that it is read as
/// text: bytes of the caller's own making are no code.
unsafe extern "C-unwind" fn read(state: *mut lua_State, source: *mut c_void, size: *mut usize) -> *const c_char {
    const COMPILED: u8 = 27;
    const SLICE: usize = 64 << 10;
    unsafe {
        interrupt(state);
        let source = source.cast::<Source>();
        if (&*(*source).rest).is_empty() && (*source).at <= (*source).pieces {
            (*source).rest = piece(state, (*source).at);
            (*source).at += 1;
        }
        let rest = &*(*source).rest;
        if !mem::replace(&mut (*source).is_begun, true) && rest.first() == Some(&COMPILED) {
            *size = 1;
            return c" ".as_ptr();
        }
        let (slice, rest) = rest.split_at(rest.len().min(SLICE));
        (*source).rest = rest;
        *size = slice.len();
        slice.as_ptr().cast()
    }
}

unsafe fn piece(state: *mut lua_State, number: c_int) -> *const [u8] {
    unsafe {
        // The parser may have filled what there was.
        if lua_checkstack(state, 1) == 0 {
            luaL_error(state, c"too many nested functions".as_ptr());
        }
        lua_rawgeti_(state, 3, number);
        let text = bytes(state, -1).unwrap_or_default();
        // It stays in the table.
        pop(state, 1);
        text
    }
}

/// `math.random`, by numbers that are the same on every machine.
pub(crate) unsafe extern "C-unwind" fn random(state: *mut lua_State) -> c_int {
    unsafe {
        within_a_run(state, c"math.random can only be called inside a script invocation");
        let part = (*shared(state)).chance.part();
        let (low, high) = match lua_gettop(state) {
            0 => {
                lua_pushnumber(state, part);
                return 1;
            }
            1 => (1, luaL_checkinteger(state, 1) as i32),
            2 => (luaL_checkinteger(state, 1) as i32, luaL_checkinteger(state, 2) as i32),
            _ => return luaL_error(state, c"wrong number of arguments".as_ptr()),
        };
        if low > high {
            return luaL_argerror(state, lua_gettop(state), c"interval is empty".as_ptr());
        }
        let count = f64::from(high.wrapping_sub(low).wrapping_add(1));
        lua_pushnumber(state, (part * count).floor() + f64::from(low));
        1
    }
}

pub(crate) unsafe extern "C-unwind" fn randomseed(state: *mut lua_State) -> c_int {
    unsafe {
        within_a_run(state, c"math.randomseed can only be called inside a script invocation");
        let seed = luaL_checkinteger(state, 1) as i32;
        (*shared(state)).chance = Chance::of(seed);
        0
    }
}

unsafe fn within_a_run(state: *mut lua_State, refusal: &CStr) {
    unsafe {
        if (*shared(state)).run.is_null() {
            luaL_error(state, refusal.as_ptr());
        }
    }
}
