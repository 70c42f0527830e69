//! The `bit` library: whole numbers of 32 bits.

use std::ffi::c_int;

use mlua::ffi::{lua_State, lua_createtable, lua_gettop, lua_isnone, lua_isnumber, lua_pushnumber, lua_tonumber, luaL_typerror};

use crate::lua::libs::values::set_function;
use crate::lua::raw::push_bytes;

/// 2^52 + 2^51: added to a number, it moves the lowest 32 bits of it, rounded to even, to the lowest of the double.
const MAGIC: f64 = 6_755_399_441_055_744.0;

pub(crate) unsafe fn open(state: *mut lua_State) {
    unsafe {
        lua_createtable(state, 0, 12);
        set_function(state, c"tobit", tobit, 0);
        set_function(state, c"bnot", bnot, 0);
        set_function(state, c"band", band, 0);
        set_function(state, c"bor", bor, 0);
        set_function(state, c"bxor", bxor, 0);
        set_function(state, c"lshift", lshift, 0);
        set_function(state, c"rshift", rshift, 0);
        set_function(state, c"arshift", arshift, 0);
        set_function(state, c"rol", rol, 0);
        set_function(state, c"ror", ror, 0);
        set_function(state, c"bswap", bswap, 0);
        set_function(state, c"tohex", tohex, 0);
    }
}

unsafe extern "C-unwind" fn tobit(state: *mut lua_State) -> c_int {
    unsafe { answer(state, bits(state, 1)) }
}

unsafe extern "C-unwind" fn bnot(state: *mut lua_State) -> c_int {
    unsafe { answer(state, !bits(state, 1)) }
}

unsafe extern "C-unwind" fn band(state: *mut lua_State) -> c_int {
    unsafe { fold(state, |left, right| left & right) }
}

unsafe extern "C-unwind" fn bor(state: *mut lua_State) -> c_int {
    unsafe { fold(state, |left, right| left | right) }
}

unsafe extern "C-unwind" fn bxor(state: *mut lua_State) -> c_int {
    unsafe { fold(state, |left, right| left ^ right) }
}

unsafe extern "C-unwind" fn lshift(state: *mut lua_State) -> c_int {
    unsafe { shift(state, |bits, count| bits << count) }
}

unsafe extern "C-unwind" fn rshift(state: *mut lua_State) -> c_int {
    unsafe { shift(state, |bits, count| bits >> count) }
}

unsafe extern "C-unwind" fn arshift(state: *mut lua_State) -> c_int {
    unsafe { shift(state, |bits, count| (bits as i32 >> count) as u32) }
}

unsafe extern "C-unwind" fn rol(state: *mut lua_State) -> c_int {
    unsafe { shift(state, u32::rotate_left) }
}

unsafe extern "C-unwind" fn ror(state: *mut lua_State) -> c_int {
    unsafe { shift(state, u32::rotate_right) }
}

unsafe extern "C-unwind" fn bswap(state: *mut lua_State) -> c_int {
    unsafe { answer(state, bits(state, 1).swap_bytes()) }
}

/// With so many digits, in capitals where that is negative.
unsafe extern "C-unwind" fn tohex(state: *mut lua_State) -> c_int {
    unsafe {
        let mut bits_left = bits(state, 1);
        let count = if lua_isnone(state, 2) != 0 { 8 } else { bits(state, 2) as i32 };
        let letters = if count < 0 { b"0123456789ABCDEF" } else { b"0123456789abcdef" };
        let mut text = [0; 8];
        let length = count.unsigned_abs().min(8) as usize;
        for digit in text[..length].iter_mut().rev() {
            *digit = letters[(bits_left & 15) as usize];
            bits_left >>= 4;
        }
        push_bytes(state, &text[..length]);
        1
    }
}

unsafe fn bits(state: *mut lua_State, index: c_int) -> u32 {
    unsafe {
        let bits = (lua_tonumber(state, index) + MAGIC).to_bits() as u32;
        if bits == 0 && lua_isnumber(state, index) == 0 {
            luaL_typerror(state, index, c"number".as_ptr());
        }
        bits
    }
}

/// From the last argument to the second, as errors name the first of them that is none.
unsafe fn fold(state: *mut lua_State, both: impl Fn(u32, u32) -> u32) -> c_int {
    unsafe {
        let mut result = bits(state, 1);
        for index in (2..=lua_gettop(state)).rev() {
            result = both(result, bits(state, index));
        }
        answer(state, result)
    }
}

unsafe fn shift(state: *mut lua_State, by: impl Fn(u32, u32) -> u32) -> c_int {
    unsafe {
        let value = bits(state, 1);
        answer(state, by(value, bits(state, 2) & 31))
    }
}

unsafe fn answer(state: *mut lua_State, bits: u32) -> c_int {
    unsafe {
        lua_pushnumber(state, f64::from(bits as i32));
        1
    }
}
