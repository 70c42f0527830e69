//! JSON as values of Lua. A zero byte ends the text, as it does in C.

use std::ffi::{CStr, c_int};

use mlua::ffi::{
    lua_State, lua_checkstack, lua_createtable, lua_gettop, lua_pushboolean, lua_pushnumber, lua_rawset, lua_rawseti_,
    luaL_argerror, luaL_error,
};

use crate::lua::libs::cjson::options::{OFF, Options, options};
use crate::lua::libs::number::parse;
use crate::lua::libs::scratch::{Scratch, scratch};
use crate::lua::libs::steps::Steps;
use crate::lua::libs::values::{check_bytes, cleared, push_null};
use crate::lua::raw::push_bytes;

pub(crate) unsafe extern "C-unwind" fn decode(state: *mut lua_State) -> c_int {
    unsafe {
        if lua_gettop(state) != 1 {
            luaL_argerror(state, 1, c"expected 1 argument".as_ptr());
        }
        let text = check_bytes(state, 1);
        if text.len() >= 2 && (text[0] == 0 || text[1] == 0) {
            luaL_error(state, c"JSON parser does not support UTF-16 or UTF-32".as_ptr());
        }
        let mut decoder = Decoder {
            state,
            options: options(state),
            scratch: scratch(state),
            text,
            at: 0,
            token_at: 0,
            depth: 0,
            steps: Steps::new(),
        };
        decoder.push_value();
        match decoder.next() {
            Token::End => {}
            token => decoder.unexpected(c"the end", token),
        }
        decoder.scratch.clear(state);
        1
    }
}

struct Decoder<'a> {
    state: *mut lua_State,
    options: &'a Options,
    scratch: &'a mut Scratch,
    text: &'a [u8],
    at: usize,
    /// Where the token that was read last begins, or what is wrong in it.
    token_at: usize,
    depth: c_int,
    steps: Steps,
}

#[derive(Clone, Copy)]
enum Token {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    /// It stands between these two places, as it is meant.
    String(usize, usize),
    /// It had escapes, and stands in the scratch.
    Unescaped,
    Number(f64),
    Boolean(bool),
    Null,
    Colon,
    Comma,
    End,
    Error(&'static CStr),
}

/// A table that is being read: where an array is, or `OBJECT`.
type Level = c_int;

const OBJECT: Level = 0;

impl Decoder<'_> {
    /// Reads a value and puts it on the stack. It does not recurse: how deep it may be nested is up to the script.
    unsafe fn push_value(&mut self) {
        unsafe {
            let mut token = self.next();
            loop {
                let is_open = match token {
                    Token::ObjectBegin => self.open_object(&mut token),
                    Token::ArrayBegin => self.open_array(&mut token),
                    _ => {
                        self.push_scalar(token);
                        false
                    }
                };
                if !is_open && !self.store(&mut token) {
                    return;
                }
            }
        }
    }

    /// Puts an object on the stack, and the first key, unless it is empty; the token is that of the first value then.
    unsafe fn open_object(&mut self, token: &mut Token) -> bool {
        unsafe {
            // The table, a key, a value.
            self.descend(3);
            *token = self.next();
            if let Token::ObjectEnd = *token {
                self.depth -= 1;
                return false;
            }
            self.scratch.levels.push_record(self.state, OBJECT);
            *token = self.push_key(*token);
            true
        }
    }

    unsafe fn open_array(&mut self, token: &mut Token) -> bool {
        unsafe {
            // The table, a value.
            self.descend(2);
            *token = self.next();
            if let Token::ArrayEnd = *token {
                self.depth -= 1;
                return false;
            }
            self.scratch.levels.push_record::<Level>(self.state, 1);
            true
        }
    }

    unsafe fn descend(&mut self, slots: c_int) {
        unsafe {
            self.depth += 1;
            if self.depth > self.options.decode_depth || lua_checkstack(self.state, slots) == 0 {
                let text = c"Found too many nested data structures (%d) at character %d";
                luaL_error(cleared(self.state), text.as_ptr(), self.depth, self.at as c_int);
            }
            // Not presized: how a table grew decides the order of its keys.
            lua_createtable(self.state, 0, 0);
        }
    }

    /// The value on top is whole: it goes into its table, and that into its own where it is whole by this. The token is that of the next value
    /// then, and false says that there is none.
    unsafe fn store(&mut self, token: &mut Token) -> bool {
        unsafe {
            loop {
                let is_object = match self.scratch.levels.last_record::<Level>() {
                    None => return false,
                    Some(OBJECT) => {
                        lua_rawset(self.state, -3);
                        true
                    }
                    Some(index) => {
                        lua_rawseti_(self.state, -2, index);
                        self.scratch.levels.set_last_record::<Level>(index + 1);
                        false
                    }
                };
                *token = self.next();
                match (*token, is_object) {
                    (Token::Comma, true) => {
                        let key = self.next();
                        *token = self.push_key(key);
                        return true;
                    }
                    (Token::Comma, false) => {
                        *token = self.next();
                        return true;
                    }
                    (Token::ObjectEnd, true) | (Token::ArrayEnd, false) => {
                        self.scratch.levels.pop_record::<Level>();
                        self.depth -= 1;
                    }
                    (_, true) => self.unexpected(c"comma or object end", *token),
                    (_, false) => self.unexpected(c"comma or array end", *token),
                }
            }
        }
    }

    /// Answers the first token of the key's value.
    unsafe fn push_key(&mut self, token: Token) -> Token {
        unsafe {
            match token {
                Token::String(..) | Token::Unescaped => self.push_scalar(token),
                _ => self.unexpected(c"object key string", token),
            }
            match self.next() {
                Token::Colon => {}
                token => self.unexpected(c"colon", token),
            }
            self.next()
        }
    }

    unsafe fn push_scalar(&mut self, token: Token) {
        unsafe {
            match token {
                Token::String(from, to) => push_bytes(self.state, &self.text[from..to]),
                Token::Unescaped => push_bytes(self.state, self.scratch.text.bytes()),
                Token::Number(number) => lua_pushnumber(self.state, number),
                Token::Boolean(is_true) => lua_pushboolean(self.state, is_true.into()),
                Token::Null => push_null(self.state),
                _ => self.unexpected(c"value", token),
            }
        }
    }

    unsafe fn unexpected(&mut self, expected: &CStr, found: Token) {
        let found = match found {
            Token::ObjectBegin => c"T_OBJ_BEGIN",
            Token::ObjectEnd => c"T_OBJ_END",
            Token::ArrayBegin => c"T_ARR_BEGIN",
            Token::ArrayEnd => c"T_ARR_END",
            Token::String(..) | Token::Unescaped => c"T_STRING",
            Token::Number(_) => c"T_NUMBER",
            Token::Boolean(_) => c"T_BOOLEAN",
            Token::Null => c"T_NULL",
            Token::Colon => c"T_COLON",
            Token::Comma => c"T_COMMA",
            Token::End => c"T_END",
            Token::Error(why) => why,
        };
        unsafe {
            let text = c"Expected %s but found %s at character %d";
            luaL_error(cleared(self.state), text.as_ptr(), expected.as_ptr(), found.as_ptr(), self.token_at as c_int + 1);
        }
    }

    fn byte(&self, at: usize) -> u8 {
        self.text.get(at).copied().unwrap_or(0)
    }

    unsafe fn next(&mut self) -> Token {
        unsafe { self.steps.take(self.state, 1) };
        while matches!(self.byte(self.at), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
        self.token_at = self.at;
        let token = match self.byte(self.at) {
            b'{' => Token::ObjectBegin,
            b'}' => Token::ObjectEnd,
            b'[' => Token::ArrayBegin,
            b']' => Token::ArrayEnd,
            b':' => Token::Colon,
            b',' => Token::Comma,
            0 => return Token::End,
            b'"' => return unsafe { self.string() },
            b'-' | b'0'..=b'9' if self.options.decode_invalid == OFF && self.is_invalid_number() => return INVALID_NUMBER,
            b'-' | b'0'..=b'9' => return self.number(),
            _ => return self.word(),
        };
        self.at += 1;
        token
    }

    fn word(&mut self) -> Token {
        for (word, token) in [(&b"true"[..], Token::Boolean(true)), (b"false", Token::Boolean(false)), (b"null", Token::Null)] {
            if self.text[self.at..].starts_with(word) {
                self.at += word.len();
                return token;
            }
        }
        let may_be_number = matches!(self.byte(self.at), b'i' | b'I' | b'n' | b'N' | b'+');
        if may_be_number && self.options.decode_invalid != OFF && self.is_invalid_number() {
            return self.number();
        }
        Token::Error(c"invalid token")
    }

    fn number(&mut self) -> Token {
        match parse(&self.text[self.at..]) {
            Some((number, length)) => {
                self.at += length;
                Token::Number(number)
            }
            None => INVALID_NUMBER,
        }
    }

    /// What C reads as a number, and JSON doesn't allow. What C doesn't read either may come out as valid.
    fn is_invalid_number(&self) -> bool {
        let sign = usize::from(self.byte(self.at) == b'-');
        let at = self.at + sign;
        match self.byte(at) {
            b'+' if sign == 0 => true,
            b'0' => matches!(self.byte(at + 1), b'x' | b'X' | b'0'..=b'9'),
            first if first.is_ascii_alphabetic() => {
                let begins = |word| self.text.get(at..at + 3).is_some_and(|start| start.eq_ignore_ascii_case(word));
                begins(b"inf") || begins(b"nan")
            }
            _ => false,
        }
    }

    unsafe fn string(&mut self) -> Token {
        unsafe {
            let from = self.at + 1;
            let end = from + plain(&self.text[from..]);
            self.steps.take(self.state, (end - from) / 16);
            self.at = end;
            if self.byte(end) == b'"' {
                self.at += 1;
                return Token::String(from, end);
            }
            self.scratch.text.clear(self.state);
            self.scratch.text.extend(self.state, &self.text[from..end]);
            self.unescape()
        }
    }

    /// The rest of a string, which goes on with an escape or breaks off.
    unsafe fn unescape(&mut self) -> Token {
        unsafe {
            loop {
                let byte = self.byte(self.at);
                match byte {
                    b'"' => {
                        self.at += 1;
                        return Token::Unescaped;
                    }
                    0 => return self.error(c"unexpected end of string"),
                    b'\\' => {
                        if let Err(error) = self.escape() {
                            return error;
                        }
                    }
                    _ => {
                        let length = plain(&self.text[self.at..]);
                        self.steps.take(self.state, length / 16 + 1);
                        self.scratch.text.extend(self.state, &self.text[self.at..self.at + length]);
                        self.at += length;
                    }
                }
            }
        }
    }

    unsafe fn escape(&mut self) -> Result<(), Token> {
        unsafe {
            let meant = match self.byte(self.at + 1) {
                b'u' => return self.unicode_escape(),
                byte @ (b'"' | b'\\' | b'/') => byte,
                b'b' => 0x08,
                b't' => b'\t',
                b'n' => b'\n',
                b'f' => 0x0c,
                b'r' => b'\r',
                _ => return Err(self.error(c"invalid escape code")),
            };
            self.scratch.text.push(self.state, meant);
            self.at += 2;
            Ok(())
        }
    }

    unsafe fn unicode_escape(&mut self) -> Result<(), Token> {
        let Some((letter, length)) = self.code_point() else { return Err(self.error(c"invalid unicode escape code")) };
        unsafe { self.scratch.text.extend(self.state, letter.encode_utf8(&mut [0; 4]).as_bytes()) };
        self.at += length;
        Ok(())
    }

    /// One escape, or two that are a pair, and how long that is.
    fn code_point(&self) -> Option<(char, usize)> {
        let first = self.code_unit(self.at)?;
        if !(0xd800..0xe000).contains(&first) {
            return Some((char::from_u32(first)?, 6));
        }
        let second = self.code_unit(self.at + 6)?;
        let is_pair = first < 0xdc00 && (0xdc00..0xe000).contains(&second);
        is_pair.then(|| char::from_u32(0x1_0000 + ((first & 0x3ff) << 10 | second & 0x3ff))).flatten().map(|letter| (letter, 12))
    }

    fn code_unit(&self, at: usize) -> Option<u32> {
        let [b'\\', b'u', digits @ ..] = self.text.get(at..at + 6)? else { return None };
        digits.iter().try_fold(0, |number, digit| Some(number << 4 | char::from(*digit).to_digit(16)?))
    }

    fn error(&mut self, why: &'static CStr) -> Token {
        self.token_at = self.at;
        Token::Error(why)
    }
}

const INVALID_NUMBER: Token = Token::Error(c"invalid number");

/// How many bytes at the beginning of a string are what they mean.
fn plain(text: &[u8]) -> usize {
    text.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0)).unwrap_or(text.len())
}
