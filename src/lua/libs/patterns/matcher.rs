//! Matches a pattern at one place of a subject. What can be tried yet is kept as a list, not as calls within calls, and every step counts.

use std::ffi::{CStr, c_int};

use mlua::ffi::{lua_Integer, lua_State, lua_pushinteger, luaL_checkstack_, luaL_error};

use crate::lua::libs::patterns::class::{is_of_item, is_of_set};
use crate::lua::libs::scratch::Buffer;
use crate::lua::libs::steps::Steps;
use crate::lua::raw::push_bytes;

const CAPTURES_MAX: usize = 32;

pub(crate) struct Matcher<'a> {
    pub state: *mut lua_State,
    pub subject: &'a [u8],
    pattern: &'a [u8],
    /// Of `Choice`s, the latest last. Between two matches it may be another matcher's, of a function that was called meanwhile.
    choices: *mut Buffer,
    captures: [Capture; CAPTURES_MAX],
    /// How many of them are there.
    level: usize,
    steps: Steps,
}

#[derive(Clone, Copy)]
struct Capture {
    from: usize,
    extent: Extent,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    Unfinished,
    /// It is its place.
    Position,
    Length(usize),
}

/// What is done where the rest of the pattern does not match.
#[derive(Clone, Copy)]
enum Choice {
    /// Goes on here, at this place of the pattern.
    Skip { at: usize, next: usize },
    /// Takes one less of what was taken from here, before this place of the pattern.
    Fewer { from: usize, taken: usize, next: usize },
    /// Takes one more of this item.
    More { at: usize, item: usize, next: usize },
    /// Forgets the last capture.
    Reopen,
    /// Has this one unfinished again.
    Unfinish(usize),
}

impl<'a> Matcher<'a> {
    pub(crate) fn new(state: *mut lua_State, subject: &'a [u8], pattern: &'a [u8], choices: *mut Buffer) -> Matcher<'a> {
        let captures = [Capture { from: 0, extent: Extent::Unfinished }; CAPTURES_MAX];
        Matcher { state, subject, pattern, choices, captures, level: 0, steps: Steps::new() }
    }

    /// Where a match that begins here ends.
    pub(crate) unsafe fn matches_at(&mut self, from: usize) -> Option<usize> {
        unsafe {
            self.level = 0;
            (*self.choices).clear(self.state);
            let (mut at, mut place) = (from, 0);
            loop {
                self.steps.take(self.state, 1);
                let next = if place == self.pattern.len() { return Some(at) } else { self.step(at, place) };
                (at, place) = match next {
                    Some(next) => next,
                    None => self.retry()?,
                };
            }
        }
    }

    /// Matches what stands at this place of the pattern: where both go on, or nothing where it does not match.
    unsafe fn step(&mut self, at: usize, place: usize) -> Option<(usize, usize)> {
        unsafe {
            match (self.pattern[place], self.pattern_byte(place + 1)) {
                (b'(', b')') => self.open_capture(at, Extent::Position).then_some((at, place + 2)),
                (b'(', _) => self.open_capture(at, Extent::Unfinished).then_some((at, place + 1)),
                (b')', _) => self.close_capture(at).then_some((at, place + 1)),
                (b'%', b'b') => Some((self.balanced(at, place + 2)?, place + 4)),
                (b'%', b'f') => self.frontier(at, place + 2),
                (b'%', digit @ b'0'..=b'9') => Some((self.captured_again(at, digit)?, place + 2)),
                (b'$', 0) if place + 1 == self.pattern.len() => (at == self.subject.len()).then_some((at, place + 1)),
                _ => self.item(at, place),
            }
        }
    }

    /// A single character, class or set, and how often it may come.
    unsafe fn item(&mut self, at: usize, place: usize) -> Option<(usize, usize)> {
        unsafe {
            let end = self.item_end(place);
            let item = &self.pattern[place..end];
            self.steps.take(self.state, item.len() / 16);
            let is_match = self.subject.get(at).is_some_and(|byte| is_of_item(*byte, item));
            match self.pattern_byte(end) {
                b'?' if is_match => {
                    (*self.choices).push_record(self.state, Choice::Skip { at, next: end + 1 });
                    Some((at + 1, end + 1))
                }
                b'?' => Some((at, end + 1)),
                b'+' if !is_match => None,
                b'+' => Some(self.as_many(at + 1, item, end + 1)),
                b'*' => Some(self.as_many(at, item, end + 1)),
                b'-' => {
                    (*self.choices).push_record(self.state, Choice::More { at, item: place, next: end + 1 });
                    Some((at, end + 1))
                }
                _ => is_match.then_some((at + 1, end)),
            }
        }
    }

    unsafe fn as_many(&mut self, from: usize, item: &[u8], next: usize) -> (usize, usize) {
        unsafe {
            let mut taken = 0;
            // A long set makes each of them long.
            for bytes in self.subject[from..].chunks(1 + 256 / item.len()) {
                self.steps.take(self.state, bytes.len() + item.len() / 16);
                let more = bytes.iter().take_while(|byte| is_of_item(**byte, item)).count();
                taken += more;
                if more < bytes.len() {
                    break;
                }
            }
            if taken > 0 {
                (*self.choices).push_record(self.state, Choice::Fewer { from, taken, next });
            }
            (from + taken, next)
        }
    }

    /// Goes back to the latest choice that leaves something to try.
    unsafe fn retry(&mut self) -> Option<(usize, usize)> {
        unsafe {
            loop {
                self.steps.take(self.state, 1);
                match (*self.choices).pop_record::<Choice>()? {
                    Choice::Skip { at, next } => return Some((at, next)),
                    Choice::Fewer { from, taken, next } => {
                        if taken > 1 {
                            (*self.choices).push_record(self.state, Choice::Fewer { from, taken: taken - 1, next });
                        }
                        return Some((from + taken - 1, next));
                    }
                    Choice::More { at, item, next } => {
                        let end = self.item_end(item);
                        if self.subject.get(at).is_some_and(|byte| is_of_item(*byte, &self.pattern[item..end])) {
                            (*self.choices).push_record(self.state, Choice::More { at: at + 1, item, next });
                            return Some((at + 1, next));
                        }
                    }
                    Choice::Reopen => self.level -= 1,
                    Choice::Unfinish(index) => self.captures[index].extent = Extent::Unfinished,
                }
            }
        }
    }

    /// These two answer whether it is there, which it is unless an error was raised.
    unsafe fn open_capture(&mut self, at: usize, extent: Extent) -> bool {
        unsafe {
            if self.level >= CAPTURES_MAX {
                self.fail(c"too many captures");
            }
            self.captures[self.level] = Capture { from: at, extent };
            self.level += 1;
            (*self.choices).push_record(self.state, Choice::Reopen);
            true
        }
    }

    unsafe fn close_capture(&mut self, at: usize) -> bool {
        unsafe {
            let open = self.captures[..self.level].iter().rposition(|capture| capture.extent == Extent::Unfinished);
            let Some(index) = open else { self.fail(c"invalid pattern capture") };
            self.captures[index].extent = Extent::Length(at - self.captures[index].from);
            (*self.choices).push_record(self.state, Choice::Unfinish(index));
            true
        }
    }

    /// Where what two bytes of the pattern enclose ends.
    unsafe fn balanced(&mut self, at: usize, place: usize) -> Option<usize> {
        unsafe {
            let (open, close) = (self.pattern_byte(place), self.pattern_byte(place + 1));
            if open == 0 || close == 0 {
                self.fail(c"unbalanced pattern");
            }
            // The zero that ends a string in C is no byte of a pattern.
            if self.subject.get(at) != Some(&open) {
                return None;
            }
            let mut depth = 1;
            for (more, byte) in self.subject[at + 1..].iter().enumerate() {
                if *byte == close {
                    depth -= 1;
                    if depth == 0 {
                        self.steps.take(self.state, more);
                        return Some(at + 1 + more + 1);
                    }
                } else if *byte == open {
                    depth += 1;
                }
            }
            self.steps.take(self.state, self.subject.len() - at);
            None
        }
    }

    unsafe fn frontier(&mut self, at: usize, place: usize) -> Option<(usize, usize)> {
        unsafe {
            if self.pattern_byte(place) != b'[' {
                self.fail(c"missing '[' after '%%f' in pattern");
            }
            let end = self.item_end(place);
            let set = &self.pattern[place + 1..end - 1];
            self.steps.take(self.state, set.len() / 16);
            let before = if at == 0 { 0 } else { self.subject[at - 1] };
            let here = self.subject.get(at).copied().unwrap_or(0);
            (!is_of_set(before, set) && is_of_set(here, set)).then_some((at, end))
        }
    }

    unsafe fn captured_again(&mut self, at: usize, digit: u8) -> Option<usize> {
        unsafe {
            let index = usize::from(digit.wrapping_sub(b'1'));
            if index >= self.level || self.captures[index].extent == Extent::Unfinished {
                self.fail(c"invalid capture index");
            }
            let Capture { from, extent } = self.captures[index];
            // A position is longer than any string, for C.
            let Extent::Length(length) = extent else { return None };
            self.steps.take(self.state, length / 16);
            self.subject[at..].starts_with(&self.subject[from..from + length]).then_some(at + length)
        }
    }

    /// Where the single character, class or set that begins here ends.
    unsafe fn item_end(&self, place: usize) -> usize {
        unsafe {
            match self.pattern[place] {
                b'%' if place + 1 >= self.pattern.len() => self.fail(c"malformed pattern (ends with '%%')"),
                b'%' => place + 2,
                b'[' => self.set_end(place),
                _ => place + 1,
            }
        }
    }

    unsafe fn set_end(&self, place: usize) -> usize {
        unsafe {
            let mut at = place + 1 + usize::from(self.pattern_byte(place + 1) == b'^');
            // A bracket that comes first is one of the set.
            loop {
                let byte = self.pattern_byte(at);
                if byte == 0 {
                    self.fail(c"malformed pattern (missing ']')");
                }
                at += if byte == b'%' && self.pattern_byte(at + 1) != 0 { 2 } else { 1 };
                if self.pattern_byte(at) == b']' {
                    return at + 1;
                }
            }
        }
    }

    /// Zero behind the end, as in C; there is no other one in it.
    fn pattern_byte(&self, place: usize) -> u8 {
        self.pattern.get(place).copied().unwrap_or(0)
    }

    unsafe fn fail(&self, text: &CStr) -> ! {
        unsafe {
            luaL_error(self.state, text.as_ptr());
            unreachable!("an error of Lua does not return")
        }
    }

    /// Those of the pattern, or where it has none, all that matched. Answers how many.
    pub(crate) unsafe fn push_captures(&self, from: usize, to: usize) -> c_int {
        unsafe { self.push_first_captures(self.level.max(1), from, to) }
    }

    pub(crate) unsafe fn push_own_captures(&self) -> c_int {
        unsafe { self.push_first_captures(self.level, 0, 0) }
    }

    unsafe fn push_first_captures(&self, count: usize, from: usize, to: usize) -> c_int {
        unsafe {
            // And for the text of an error.
            luaL_checkstack_(self.state, count as c_int + 4, c"too many captures".as_ptr());
            (0..count).for_each(|index| self.push_capture(index, from, to));
            count as c_int
        }
    }

    pub(crate) unsafe fn push_capture(&self, index: usize, from: usize, to: usize) {
        unsafe {
            if index >= self.level {
                if index > 0 {
                    self.fail(c"invalid capture index");
                }
                return push_bytes(self.state, &self.subject[from..to]);
            }
            let capture = self.captures[index];
            match capture.extent {
                Extent::Unfinished => self.fail(c"unfinished capture"),
                Extent::Position => lua_pushinteger(self.state, capture.from as lua_Integer + 1),
                Extent::Length(length) => push_bytes(self.state, &self.subject[capture.from..capture.from + length]),
            }
        }
    }
}
