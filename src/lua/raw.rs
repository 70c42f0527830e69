//! The few words in which this room speaks to the raw API.
//!
//! All of it is `unsafe` for the same reason: `state` must be a live state of the calling thread, an index one of its stack, and what raises
//! leaves the caller's frames behind without dropping what is in them.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::slice;

use mlua::ffi::{
    LUA_REGISTRYINDEX, LUA_TNUMBER, LUA_TSTRING, lua_CFunction, lua_State, lua_concat, lua_createtable, lua_error, lua_insert,
    lua_pushcclosure, lua_pushlightuserdata, lua_pushlstring_, lua_rawget_, lua_rawgeti_, lua_rawset, lua_rawseti_, lua_settop,
    lua_tolstring, lua_tonumber, lua_topointer, lua_type,
};

/// What stands in the registry under a number of its own, which costs a tenth of looking a name up.
#[derive(Clone, Copy)]
#[repr(i32)]
pub(crate) enum Slot {
    Ok = 1,
    Err,
    Double,
    BigNumber,
    VerbatimString,
    Format,
    String,
    Map,
    Set,
    IgnoreErrorStatsUpdate,
    Source,
    Line,
    Keys,
    Argv,
    /// The real table behind the frozen globals.
    Globals,
    /// The metatable of the frozen globals.
    GlobalsFace,
    /// The globals of a library while it is loaded.
    LibraryGlobals,
    /// Texts that must not need memory.
    Texts,
}

/// Words that are slots, in their order.
pub(crate) const WORDS: &[&CStr] = &[
    c"ok",
    c"err",
    c"double",
    c"big_number",
    c"verbatim_string",
    c"format",
    c"string",
    c"map",
    c"set",
    c"ignore_error_stats_update",
    c"source",
    c"line",
    c"KEYS",
    c"ARGV",
];

pub(crate) unsafe fn push_slot(state: *mut lua_State, slot: Slot) {
    unsafe { lua_rawgeti_(state, LUA_REGISTRYINDEX, slot as c_int) }
}

/// Takes the value on top.
pub(crate) unsafe fn set_slot(state: *mut lua_State, slot: Slot) {
    unsafe { lua_rawseti_(state, LUA_REGISTRYINDEX, slot as c_int) }
}

pub(crate) unsafe fn push_bytes(state: *mut lua_State, bytes: &[u8]) {
    unsafe { lua_pushlstring_(state, bytes.as_ptr().cast::<c_char>(), bytes.len()) }
}

/// The bytes of a string, or of a number, which becomes a string by this. They live as long as the value is on the stack.
pub(crate) unsafe fn bytes<'a>(state: *mut lua_State, index: c_int) -> Option<&'a [u8]> {
    unsafe {
        let mut length = 0;
        let start = lua_tolstring(state, index, &mut length);
        (!start.is_null()).then(|| slice::from_raw_parts(start.cast::<u8>(), length))
    }
}

/// The bytes of what is a string; a number stays what it is.
pub(crate) unsafe fn string<'a>(state: *mut lua_State, index: c_int) -> Option<&'a [u8]> {
    unsafe { if lua_type(state, index) == LUA_TSTRING { bytes(state, index) } else { None } }
}

pub(crate) unsafe fn is_text(state: *mut lua_State, index: c_int) -> bool {
    matches!(unsafe { lua_type(state, index) }, LUA_TSTRING | LUA_TNUMBER)
}

/// As C casts a double: what no int can hold is the smallest one.
pub(crate) unsafe fn whole(state: *mut lua_State, index: c_int) -> i64 {
    cast(unsafe { lua_tonumber(state, index) })
}

pub(crate) fn cast(number: f64) -> i64 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if (-LIMIT..LIMIT).contains(&number) { number as i64 } else { i64::MIN }
}

pub(crate) unsafe fn pop(state: *mut lua_State, count: c_int) {
    unsafe { lua_settop(state, -count - 1) }
}

/// Raises a text as it is; `luaL_error` says also where.
pub(crate) unsafe fn raise(state: *mut lua_State, text: &[u8]) -> ! {
    unsafe {
        push_bytes(state, text);
        lua_error(state)
    }
}

/// Puts `{err = "ERR …"}` on the stack.
pub(crate) unsafe fn push_error(state: *mut lua_State, message: &str) {
    unsafe {
        lua_createtable(state, 0, 1);
        push_slot(state, Slot::Err);
        push_bytes(state, b"ERR ");
        push_bytes(state, message.as_bytes());
        lua_concat(state, 2);
        lua_rawset(state, -3);
    }
}

/// As functions of the `redis` table raise.
pub(crate) unsafe fn raise_error(state: *mut lua_State, message: &str) -> ! {
    unsafe {
        push_error(state, message);
        lua_error(state)
    }
}

/// Replaces the value on top by its field of this name, without metamethods; nil where it is no table.
pub(crate) unsafe fn raw_field(state: *mut lua_State, table: c_int, slot: Slot) -> c_int {
    unsafe {
        push_slot(state, slot);
        lua_rawget_(state, table);
        lua_type(state, -1)
    }
}

/// Puts a function into the table on top.
pub(crate) unsafe fn set_function(state: *mut lua_State, name: &CStr, function: lua_CFunction) {
    unsafe {
        push_bytes(state, name.to_bytes());
        lua_pushcclosure(state, function, 0);
        lua_rawset(state, -3);
    }
}

/// The value on top becomes the field of the table below it.
pub(crate) unsafe fn set_field(state: *mut lua_State, name: &CStr) {
    unsafe {
        push_bytes(state, name.to_bytes());
        lua_insert(state, -2);
        lua_rawset(state, -3);
    }
}

/// A key that no script can make.
pub(crate) unsafe fn push_mark(state: *mut lua_State, mark: &'static u8) {
    unsafe { lua_pushlightuserdata(state, (&raw const *mark).cast_mut().cast::<c_void>()) }
}

pub(crate) unsafe fn address(state: *mut lua_State, index: c_int) -> *const c_void {
    unsafe { lua_topointer(state, index) }
}
