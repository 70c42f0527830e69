//! What scripts find: the globals, all of them frozen.

use std::ffi::{CStr, c_int};

use mlua::ffi::{
    LUA_GLOBALSINDEX, LUA_REGISTRYINDEX, lua_CFunction, lua_State, lua_call, lua_createtable, lua_getfield_, lua_getmetatable,
    lua_gettop, lua_pushcclosure, lua_pushvalue, lua_rawseti_, lua_replace, lua_setmetatable, lua_settop, lua_tolstring,
    luaL_error, luaopen_base, luaopen_math, luaopen_string, luaopen_table,
};

use crate::lua::raw::{Slot, WORDS, is_text, pop, push_bytes, push_slot, set_field, set_function, set_slot};
use crate::lua::{base, coroutine, frozen, library, libs, redis, table};

/// What a `Vm` is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Scripts,
    Functions,
}

#[derive(Clone, Debug)]
pub struct Options {
    pub kind: Kind,
    /// How many bytes a run may take, beside what is there before it.
    pub limit: usize,
    /// What Redis scripts are told they run on.
    pub version: String,
}

/// Makes a fresh state one for scripts. Nothing protects it: it needs some kilobytes, and no ceiling is set yet.
pub(crate) unsafe fn build(state: *mut lua_State, options: &Options) {
    unsafe {
        for (index, word) in WORDS.iter().enumerate() {
            push_bytes(state, word.to_bytes());
            lua_rawseti_(state, LUA_REGISTRYINDEX, index as c_int + 1);
        }
        keep_texts(state);
        let stock: [lua_CFunction; 4] = [luaopen_base, luaopen_table, luaopen_string, luaopen_math];
        for open in stock {
            lua_pushcclosure(state, open, 0);
            push_bytes(state, b"");
            lua_call(state, 1, 0);
        }
        lua_createtable(state, 0, 0);
        for name in base::KEPT {
            lua_getfield_(state, LUA_GLOBALSINDEX, name.as_ptr());
            set_field(state, name);
        }
        base::open(state);
        for (name, improve) in STOCK {
            lua_getfield_(state, LUA_GLOBALSINDEX, name.as_ptr());
            improve(state);
            freeze_as(state, name);
        }
        for (name, open) in libs::LIBRARIES {
            open(state);
            freeze_as(state, name);
        }
        redis::open(state, &options.version, options.kind == Kind::Scripts);
        freeze_as(state, c"redis");
        freeze_metatable_of_strings(state);
        freeze_globals(state);
        make_library_globals(state, &options.version);
        lua_settop(state, 0);
    }
}

/// Errors that Lua itself tells where nothing protects it: it finds these texts, and needs no memory for them. Without memory it would end
/// the process.
const TEXTS: &[&CStr] = &[c"C stack overflow", c"cannot resume non-suspended coroutine", c"error in error handling"];

unsafe fn keep_texts(state: *mut lua_State) {
    unsafe {
        lua_createtable(state, TEXTS.len() as c_int, 0);
        for (index, text) in TEXTS.iter().enumerate() {
            push_bytes(state, text.to_bytes());
            lua_rawseti_(state, -2, index as c_int + 1);
        }
        set_slot(state, Slot::Texts);
    }
}

/// Libraries of stock Lua, and what becomes of them.
const STOCK: &[(&CStr, unsafe fn(*mut lua_State))] =
    &[(c"coroutine", coroutine::improve), (c"math", improve_math), (c"string", libs::improve_string), (c"table", table::improve)];

unsafe fn improve_math(state: *mut lua_State) {
    unsafe {
        set_function(state, c"random", base::random);
        set_function(state, c"randomseed", base::randomseed);
    }
}

/// The library on top becomes a global of the table below it.
unsafe fn freeze_as(state: *mut lua_State, name: &CStr) {
    unsafe {
        frozen::freeze(state);
        set_field(state, name);
    }
}

/// What `getmetatable('')` gives is not the metatable itself, through which a script could change what `('x'):upper()` is for others.
/// The globals are on top.
unsafe fn freeze_metatable_of_strings(state: *mut lua_State) {
    unsafe {
        let globals = lua_gettop(state);
        push_bytes(state, b"");
        lua_getmetatable(state, -1);
        lua_createtable(state, 0, 1);
        lua_getfield_(state, globals, c"string".as_ptr());
        set_field(state, c"__index");
        frozen::freeze(state);
        set_field(state, c"__metatable");
        lua_settop(state, globals);
    }
}

/// The table on top becomes that of the globals.
unsafe fn freeze_globals(state: *mut lua_State) {
    unsafe {
        let globals = lua_gettop(state);
        refuse_unknown(state);
        push_shown_metatable(state);
        lua_pushvalue(state, globals);
        set_slot(state, Slot::Globals);
        lua_pushvalue(state, globals);
        frozen::freeze_with_metatable(state);
        let face = lua_gettop(state);
        lua_getmetatable(state, face);
        set_slot(state, Slot::GlobalsFace);
        lua_pushvalue(state, face);
        lua_replace(state, LUA_GLOBALSINDEX);
        lua_pushvalue(state, globals);
        lua_pushvalue(state, face);
        set_field(state, c"_G");
        lua_settop(state, globals);
    }
}

/// Reading what is not in the table on top raises.
unsafe fn refuse_unknown(state: *mut lua_State) {
    unsafe {
        lua_createtable(state, 0, 1);
        set_function(state, c"__index", nonexistent);
        lua_setmetatable(state, -2);
    }
}

/// What scripts see as the metatable of such a table.
unsafe fn push_shown_metatable(state: *mut lua_State) {
    unsafe {
        lua_createtable(state, 0, 1);
        set_function(state, c"__index", nonexistent);
        frozen::freeze(state);
    }
}

/// While a library is loaded, it finds `redis`, and there little.
unsafe fn make_library_globals(state: *mut lua_State, version: &str) {
    unsafe {
        lua_createtable(state, 0, 1);
        push_shown_metatable(state);
        lua_createtable(state, 0, 0);
        set_function(state, c"register_function", library::register_function);
        redis::set_log_and_version(state, version);
        refuse_unknown(state);
        frozen::freeze_with_metatable(state);
        set_field(state, c"redis");
        refuse_unknown(state);
        set_slot(state, Slot::LibraryGlobals);
    }
}

/// Has scripts find the globals, or those of a library that is loaded.
pub(crate) unsafe fn set_globals(state: *mut lua_State, slot: Slot) {
    unsafe {
        push_slot(state, Slot::GlobalsFace);
        push_slot(state, slot);
        set_field(state, c"__index");
        pop(state, 1);
    }
}

/// `__index` of the globals. Scripts reach it by their metatable.
unsafe extern "C-unwind" fn nonexistent(state: *mut lua_State) -> c_int {
    unsafe {
        if lua_gettop(state) != 2 {
            return luaL_error(state, c"Wrong number of arguments to luaProtectedTableError".as_ptr());
        }
        if !is_text(state, 2) {
            return luaL_error(state, c"Second argument to luaProtectedTableError must be a string or number".as_ptr());
        }
        let name = lua_tolstring(state, 2, std::ptr::null_mut());
        luaL_error(state, c"Script attempted to access nonexistent global variable '%s'".as_ptr(), name)
    }
}
