//! Libraries of functions: what `redis.register_function` takes while one is loaded.

use std::ffi::c_int;

use mlua::ffi::{
    LUA_REGISTRYINDEX, LUA_TFUNCTION, LUA_TNIL, LUA_TTABLE, lua_State, lua_gettable_, lua_gettop, lua_next, lua_pushnil,
    lua_pushnumber, lua_pushvalue, lua_replace, lua_settop, lua_type, luaL_ref, luaL_unref,
};

use crate::lua::chunk::{Chunk, FLAGS, Function};
use crate::lua::raw::{bytes, is_text, pop, raise_error, string};
use crate::lua::run::shared;
use crate::lua::text::c_text;

/// What is read of the arguments, which stay on the stack meanwhile.
#[derive(Default)]
struct Given<'a> {
    name: Option<&'a [u8]>,
    description: Option<&'a [u8]>,
    flags: u32,
    /// Where the callback is on the stack.
    callback: c_int,
}

pub(crate) unsafe extern "C-unwind" fn register_function(state: *mut lua_State) -> c_int {
    unsafe {
        if (*shared(state)).loading.is_none() {
            raise_error(state, "redis.register_function can only be called on FUNCTION LOAD command");
        }
        let given = match lua_gettop(state) {
            1 => read_named(state),
            2 => read_two(state),
            _ => Err("wrong number of arguments to redis.register_function"),
        };
        if let Err(why) = given.and_then(|given| register(state, given)) {
            raise_error(state, why);
        }
        0
    }
}

unsafe fn register(state: *mut lua_State, given: Given<'_>) -> Result<(), &'static str> {
    unsafe {
        let name = c_text(given.name.ok_or("redis.register_function must get a function name argument")?);
        if given.callback == 0 {
            return Err("redis.register_function must get a callback argument");
        }
        if name.is_empty() || !name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
            return Err(
                "Function names can only contain letters, numbers, or underscores(_) and must be at least one character long",
            );
        }
        let loading = &(*shared(state)).loading;
        if loading.as_ref().is_some_and(|loading| loading.contains_key(name)) {
            return Err("Function already exists in the library");
        }
        lua_pushvalue(state, given.callback);
        let function = luaL_ref(state, LUA_REGISTRYINDEX);
        // From here on nothing raises.
        let label = String::from_utf8_lossy(name).into_owned().into_boxed_str();
        let chunk = Chunk { function, label, takes_arguments: true };
        let description = given.description.map(|text| c_text(text).to_vec());
        let function = Function { name: name.to_vec(), description, flags: given.flags, chunk };
        (*shared(state)).loading.get_or_insert_default().insert(name.to_vec(), function);
        Ok(())
    }
}

unsafe fn read_two<'a>(state: *mut lua_State) -> Result<Given<'a>, &'static str> {
    unsafe {
        if !is_text(state, 1) {
            return Err("first argument to redis.register_function must be a string");
        }
        if lua_type(state, 2) != LUA_TFUNCTION {
            return Err("second argument to redis.register_function must be a function");
        }
        Ok(Given { name: bytes(state, 1), callback: 2, ..Given::default() })
    }
}

unsafe fn read_named<'a>(state: *mut lua_State) -> Result<Given<'a>, &'static str> {
    unsafe {
        if lua_type(state, 1) != LUA_TTABLE {
            return Err(
                "calling redis.register_function with a single argument is only applicable to Lua table (representing named arguments).",
            );
        }
        // Places for the name, the description and the callback, which a script could change in the table meanwhile.
        lua_settop(state, 4);
        let mut given = Given::default();
        lua_pushnil(state);
        while lua_next(state, 1) != 0 {
            read_argument(state, &mut given)?;
            pop(state, 1);
        }
        Ok(given)
    }
}

/// The key and the value on top.
unsafe fn read_argument(state: *mut lua_State, given: &mut Given<'_>) -> Result<(), &'static str> {
    unsafe {
        if !is_text(state, -2) {
            return Err("named argument key given to redis.register_function is not a string");
        }
        let key = string(state, -2).unwrap_or_default();
        let is = |name: &str| key.eq_ignore_ascii_case(name.as_bytes());
        if is("function_name") {
            given.name = Some(keep(state, 2).ok_or("function_name argument given to redis.register_function must be a string")?);
        } else if is("description") {
            given.description =
                Some(keep(state, 3).ok_or("description argument given to redis.register_function must be a string")?);
        } else if is("callback") {
            if lua_type(state, -1) != LUA_TFUNCTION {
                return Err("callback argument given to redis.register_function must be a function");
            }
            lua_pushvalue(state, -1);
            lua_replace(state, 4);
            given.callback = 4;
        } else if is("flags") {
            if lua_type(state, -1) != LUA_TTABLE {
                return Err("flags argument to redis.register_function must be a table representing function flags");
            }
            given.flags = read_flags(state)?;
        } else {
            return Err("unknown argument given to redis.register_function");
        }
        Ok(())
    }
}

/// The text on top, which is kept at a place on the stack as well.
unsafe fn keep<'a>(state: *mut lua_State, place: c_int) -> Option<&'a [u8]> {
    unsafe {
        if !is_text(state, -1) {
            return None;
        }
        lua_pushvalue(state, -1);
        lua_replace(state, place);
        bytes(state, place)
    }
}

unsafe fn read_flags(state: *mut lua_State) -> Result<u32, &'static str> {
    unsafe {
        let mut flags = 0;
        for index in 1.. {
            lua_pushnumber(state, f64::from(index));
            lua_gettable_(state, -2);
            if lua_type(state, -1) == LUA_TNIL {
                pop(state, 1);
                break;
            }
            let text = if is_text(state, -1) { bytes(state, -1) } else { None };
            let known = text.and_then(|text| FLAGS.iter().find(|(name, _)| c_text(text).eq_ignore_ascii_case(name.as_bytes())));
            let (_, bit) = known.ok_or("unknown flag given")?;
            flags |= bit;
            pop(state, 1);
        }
        Ok(flags)
    }
}

/// Lets go of what a library registered before it failed.
pub(crate) unsafe fn forget(state: *mut lua_State, functions: Vec<Function>) {
    for function in functions {
        unsafe { luaL_unref(state, LUA_REGISTRYINDEX, function.chunk.function) };
    }
}
