//! The `struct` library: values as the bytes of a C struct, and back.

use std::ffi::{CStr, c_int};

use mlua::ffi::{
    lua_Integer, lua_State, lua_createtable, lua_isnumber, lua_pushfstring, lua_pushinteger, lua_pushnil, lua_pushnumber,
    lua_tonumber, luaL_argerror, luaL_checknumber, luaL_error, luaL_optinteger,
};

use crate::lua::libs::scratch::{Buffer, push_scratch, scratch};
use crate::lua::libs::steps::Steps;
use crate::lua::libs::values::{check_bytes, cleared, need, set_function};
use crate::lua::raw::{cast, pop, push_bytes};

/// The most bytes of `i` and `I`.
const INTEGER_MAX: usize = 32;

/// What `!` without a number means.
const ALIGNMENT: i32 = 8;

pub(crate) unsafe fn open(state: *mut lua_State) {
    unsafe {
        lua_createtable(state, 0, 3);
        push_scratch(state);
        set_function(state, c"pack", pack, 1);
        set_function(state, c"unpack", unpack, 1);
        set_function(state, c"size", size, 1);
        pop(state, 1);
    }
}

unsafe extern "C-unwind" fn pack(state: *mut lua_State) -> c_int {
    unsafe {
        let mut format = Format::new(state);
        let text = &mut scratch(state).text;
        // An argument that is missing right here is called nil, as in C.
        lua_pushnil(state);
        let (mut argument, mut position) = (2, 0);
        while let Some(option) = format.next() {
            let padding = format.padding(position, option);
            text.extend_zeros(state, padding);
            argument += format.pack_option(text, option, argument);
            position = text.bytes().len();
        }
        push_bytes(state, text.bytes());
        text.clear(state);
        1
    }
}

unsafe extern "C-unwind" fn unpack(state: *mut lua_State) -> c_int {
    unsafe {
        let mut format = Format::new(state);
        let data = check_bytes(state, 2);
        let mut position = luaL_optinteger(state, 3, 1) as usize;
        check(state, position > 0, 3, c"offset must be 1 or greater");
        position -= 1;
        let mut count = 0;
        while let Some(option) = format.next() {
            position = position.wrapping_add(format.padding(position, option));
            let Some(bytes) = data.get(position..).and_then(|rest| rest.get(..option.size)) else {
                return luaL_argerror(cleared(state), 2, TOO_SHORT.as_ptr());
            };
            need(state, 2, c"too many results");
            position += match option.letter {
                b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => format.push_integer(bytes, option),
                b'f' | b'd' => format.push_float(bytes),
                b'c' if option.size == 0 => format.push_counted(&data[position..], &mut count),
                b'c' => push_whole(state, bytes),
                b's' => format.push_terminated(&data[position..]),
                b'x' => 1,
                _ => format.control(option),
            };
            count += c_int::from(option.is_value());
        }
        lua_pushinteger(state, position as lua_Integer + 1);
        count + 1
    }
}

unsafe extern "C-unwind" fn size(state: *mut lua_State) -> c_int {
    unsafe {
        let mut format = Format::new(state);
        let mut position = 0_usize;
        while let Some(option) = format.next() {
            position = position.wrapping_add(format.padding(position, option));
            check(state, option.letter != b's', 1, c"option 's' has no fixed size");
            check(state, option.letter != b'c' || option.size > 0, 1, c"option 'c0' has no fixed size");
            if !option.letter.is_ascii_alphanumeric() {
                format.control(option);
            }
            position = position.wrapping_add(option.size);
        }
        lua_pushinteger(state, position as lua_Integer);
        1
    }
}

const TOO_SHORT: &CStr = c"data string too short";

#[derive(Clone, Copy)]
struct Opt {
    letter: u8,
    size: usize,
}

impl Opt {
    /// Whether it stands for one.
    fn is_value(self) -> bool {
        matches!(self.letter, b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' | b'f' | b'd' | b'c' | b's')
    }
}

struct Format<'a> {
    state: *mut lua_State,
    rest: &'a [u8],
    is_big_endian: bool,
    alignment: usize,
    steps: Steps,
}

impl Format<'_> {
    /// The first argument. A zero byte ends it.
    unsafe fn new<'a>(state: *mut lua_State) -> Format<'a> {
        let text: &[u8] = unsafe { check_bytes(state, 1) };
        let rest = &text[..memchr::memchr(0, text).unwrap_or(text.len())];
        Format { state, rest, is_big_endian: cfg!(target_endian = "big"), alignment: 1, steps: Steps::new() }
    }

    unsafe fn next(&mut self) -> Option<Opt> {
        unsafe {
            self.steps.take(self.state, 1);
            let (&letter, rest) = self.rest.split_first()?;
            self.rest = rest;
            let size = match letter {
                b'b' | b'B' | b'x' => 1,
                b'h' | b'H' => 2,
                b'f' => 4,
                b'l' | b'L' | b'T' | b'd' => 8,
                b'c' => self.number(1) as usize,
                b'i' | b'I' => self.integer_size(),
                _ => 0,
            };
            Some(Opt { letter, size })
        }
    }

    unsafe fn integer_size(&mut self) -> usize {
        unsafe {
            let size = self.number(4);
            if size as usize > INTEGER_MAX {
                let text = c"integral size %d is larger than limit of %d";
                luaL_error(cleared(self.state), text.as_ptr(), size, INTEGER_MAX as c_int);
            }
            size as usize
        }
    }

    unsafe fn number(&mut self, default: i32) -> i32 {
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (number, rest) = self.rest.split_at(digits);
        self.rest = rest;
        if number.is_empty() {
            return default;
        }
        let add = |number: i32, digit: &u8| number.checked_mul(10)?.checked_add(i32::from(digit - b'0'));
        let sum = number.iter().try_fold(0, add);
        if sum.is_none() {
            unsafe { luaL_error(cleared(self.state), c"integral size overflow".as_ptr()) };
        }
        sum.unwrap_or_default()
    }

    /// How many bytes come before it, so that it is aligned.
    fn padding(&self, position: usize, option: Opt) -> usize {
        if option.size == 0 || option.letter == b'c' {
            return 0;
        }
        // As in C also where it is no power of two.
        let size = option.size.min(self.alignment);
        size.wrapping_sub(position & (size - 1)) & (size - 1)
    }

    /// Answers how many arguments it took.
    unsafe fn pack_option(&mut self, text: &mut Buffer, option: Opt, argument: c_int) -> c_int {
        unsafe {
            match option.letter {
                b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                    let number = to_unsigned(luaL_checknumber(self.state, argument));
                    let mut bytes = [0; INTEGER_MAX];
                    bytes[..8].copy_from_slice(&number.to_le_bytes());
                    self.put(text, &mut bytes[..option.size]);
                }
                b'f' => self.put(text, &mut (luaL_checknumber(self.state, argument) as f32).to_le_bytes()),
                b'd' => self.put(text, &mut luaL_checknumber(self.state, argument).to_le_bytes()),
                b'c' | b's' => {
                    let bytes: &[u8] = check_bytes(self.state, argument);
                    let size = if option.size == 0 { bytes.len() } else { option.size };
                    // C names the argument behind it.
                    check(self.state, size <= bytes.len(), argument + 1, c"string too short");
                    text.extend(self.state, &bytes[..size.min(bytes.len())]);
                    text.extend_zeros(self.state, usize::from(option.letter == b's'));
                }
                b'x' => text.push(self.state, 0),
                _ => {
                    self.control(option);
                }
            }
            c_int::from(option.is_value())
        }
    }

    /// Bytes that begin with the lowest.
    unsafe fn put(&self, text: &mut Buffer, bytes: &mut [u8]) {
        if self.is_big_endian {
            bytes.reverse();
        }
        unsafe { text.extend(self.state, bytes) }
    }

    /// These answer how long it is.
    unsafe fn push_integer(&self, bytes: &[u8], option: Opt) -> usize {
        let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        let mut number = if self.is_big_endian { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) };
        let number = if option.letter.is_ascii_lowercase() {
            // More bytes than the number has shift as C's processor does it, by the lowest bits of the count.
            let mask = u64::MAX.wrapping_shl((option.size as u32 * 8).wrapping_sub(1));
            if number & mask != 0 {
                number |= mask;
            }
            number as i64 as f64
        } else {
            number as f64
        };
        unsafe { lua_pushnumber(self.state, number) };
        option.size
    }

    unsafe fn push_float(&self, bytes: &[u8]) -> usize {
        let mut ordered = [0; 8];
        let ordered = &mut ordered[..bytes.len()];
        ordered.copy_from_slice(bytes);
        if self.is_big_endian {
            ordered.reverse();
        }
        let number = match *ordered {
            [a, b, c, d] => f32::from_le_bytes([a, b, c, d]).into(),
            _ => f64::from_le_bytes(std::array::from_fn(|at| ordered[at])),
        };
        unsafe { lua_pushnumber(self.state, number) };
        bytes.len()
    }

    /// As many bytes as the value before says, which goes.
    unsafe fn push_counted(&self, data: &[u8], count: &mut c_int) -> usize {
        unsafe {
            if *count == 0 || lua_isnumber(self.state, -1) == 0 {
                luaL_error(cleared(self.state), c"format 'c0' needs a previous size".as_ptr());
            }
            let size = to_unsigned(lua_tonumber(self.state, -1)) as usize;
            pop(self.state, 1);
            *count -= 1;
            check(self.state, size <= data.len(), 2, TOO_SHORT);
            push_whole(self.state, &data[..size.min(data.len())])
        }
    }

    unsafe fn push_terminated(&self, data: &[u8]) -> usize {
        unsafe {
            let end = memchr::memchr(0, data);
            if end.is_none() {
                luaL_error(cleared(self.state), c"unfinished string in data".as_ptr());
            }
            push_whole(self.state, &data[..end.unwrap_or_default()]) + 1
        }
    }

    /// What says how the others are meant.
    unsafe fn control(&mut self, option: Opt) -> usize {
        unsafe {
            match option.letter {
                b' ' => {}
                b'>' => self.is_big_endian = true,
                b'<' => self.is_big_endian = false,
                b'!' => {
                    let alignment = self.number(ALIGNMENT);
                    if alignment.count_ones() != 1 || alignment < 0 {
                        luaL_error(cleared(self.state), c"alignment %d is not a power of 2".as_ptr(), alignment);
                    }
                    self.alignment = alignment as usize;
                }
                letter => {
                    let text = lua_pushfstring(cleared(self.state), c"invalid format option '%c'".as_ptr(), c_int::from(letter));
                    luaL_argerror(self.state, 1, text);
                }
            }
            0
        }
    }
}

unsafe fn check(state: *mut lua_State, is_so: bool, argument: c_int, otherwise: &CStr) {
    if !is_so {
        unsafe { luaL_argerror(cleared(state), argument, otherwise.as_ptr()) };
    }
}

unsafe fn push_whole(state: *mut lua_State, bytes: &[u8]) -> usize {
    unsafe { push_bytes(state, bytes) };
    bytes.len()
}

/// As C casts a double to a number without a sign, by way of one with a sign where that is negative.
fn to_unsigned(number: f64) -> u64 {
    const HALF: f64 = 9_223_372_036_854_775_808.0;
    if number >= HALF { cast(number - HALF) as u64 ^ 1 << 63 } else { cast(number) as u64 }
}
