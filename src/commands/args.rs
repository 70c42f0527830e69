//! Arguments as numbers, with the error replies Redis gives where they are none; and options, one after another.

use crate::commands::double;
use crate::engine::error::{self, Error};
use crate::engine::types::string::canonical_int;
use crate::resp::Args;

/// Options of a command, taken one after another in whatever order they come.
///
/// Redis looks at an option's word and at how many arguments follow it at once: a word with too few behind it is no option, and what is
/// no option is a syntax error. So a loop asks for each option it knows, stops at what is none, and says that this should be the end:
///
/// ```text
/// loop {
///     if options.word("replace") {
///         replaces = true;
///     } else if let Some(number) = options.value("db") {
///         to = database(number)?;
///     } else {
///         break options.end()?;
///     }
/// }
/// ```
#[derive(Clone, Copy)]
pub(crate) struct Rest<'a> {
    args: Args<'a>,
    at: usize,
}

impl<'a> Rest<'a> {
    /// The arguments from a position on; none where that lies past the end.
    pub(crate) fn of(args: Args<'a>, at: usize) -> Rest<'a> {
        Rest { args, at: at.min(args.len()) }
    }

    /// Where the next argument stands among those of the command.
    pub(crate) fn position(self) -> usize {
        self.at
    }

    /// How many have not been taken.
    pub(crate) fn left(self) -> usize {
        self.args.len() - self.at
    }

    /// Whether the next argument is this word. It stays.
    pub(crate) fn is(self, word: &str) -> bool {
        self.args.is(self.at, word)
    }

    /// The next argument, which stays.
    pub(crate) fn peek(self) -> Option<&'a [u8]> {
        self.args.get(self.at)
    }

    /// Takes the next argument, whatever it is.
    pub(crate) fn take(&mut self) -> Option<&'a [u8]> {
        self.args.get(self.at).inspect(|_| self.at += 1)
    }

    /// Passes over as many, or all that are left.
    pub(crate) fn skip(&mut self, count: usize) {
        self.at = self.at.saturating_add(count).min(self.args.len());
    }

    /// Takes as many arguments, if there are.
    pub(crate) fn take_many(&mut self, count: usize) -> Option<Args<'a>> {
        (count <= self.left()).then(|| {
            self.at += count;
            self.args.slice(self.at - count..self.at)
        })
    }

    /// Takes the next argument if it is this word, in any case.
    pub(crate) fn word(&mut self, word: &str) -> bool {
        self.values::<0>(word).is_some()
    }

    /// Takes this word and the value behind it, if both are there.
    pub(crate) fn value(&mut self, word: &str) -> Option<&'a [u8]> {
        self.values(word).map(|[value]| value)
    }

    /// Takes this word and as many values behind it, if all are there.
    pub(crate) fn values<const N: usize>(&mut self, word: &str) -> Option<[&'a [u8]; N]> {
        if self.left() <= N || !self.args.is(self.at, word) {
            return None;
        }
        let first = self.at + 1;
        self.at = first + N;
        Some(std::array::from_fn(|number| self.args.at(first + number)))
    }

    /// Takes the next argument if it is one of these words, and tells what that word stands for.
    pub(crate) fn one_of<T: Copy>(&mut self, words: &[(&str, T)]) -> Option<T> {
        words.iter().find(|(word, _)| self.word(word)).map(|(_, meaning)| *meaning)
    }

    /// The same, as commands of our own say it: the error names the word, and begins as Redis' own, which clients know.
    pub(crate) fn end_named(self) -> Result<(), Error> {
        let Some(word) = self.peek() else { return Ok(()) };
        let word = String::from_utf8_lossy(word);
        let word: String = word.chars().filter(|letter| !letter.is_control()).take(WORD_CHARS_MAX).collect();
        let why = if self.left() == 1 { "nothing stands behind" } else { "there is no option" };
        Err(Error::new(format!("{}: {why} '{word}'", error::SYNTAX.0)))
    }

    /// That nothing is left: what is, is a mistake.
    pub(crate) fn end(self) -> Result<(), Error> {
        if self.left() == 0 { Ok(()) } else { Err(error::SYNTAX) }
    }
}

/// Reads an argument as an integer, as strictly as Redis: no spaces, no `+`, no leading zeros.
pub(crate) fn int(args: Args<'_>, at: usize) -> Result<i64, Error> {
    parse_int(args.at(at))
}

/// Reads bytes as an integer, as strictly.
pub(crate) fn parse_int(bytes: &[u8]) -> Result<i64, Error> {
    canonical_int(bytes).ok_or(error::NOT_INTEGER)
}

/// Reads a number that is not below zero, of all 64 bits: commands of our own have such.
pub(crate) fn natural(text: &[u8]) -> Result<u64, Error> {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or(error::NOT_INTEGER)
}

/// Reads bytes as a floating-point number, as Redis' `string2d`: no spaces, `inf` allowed, `nan` not.
#[inline]
pub(crate) fn parse_float(bytes: &[u8]) -> Option<f64> {
    double::parse_in_range(bytes)
}

/// Reads an argument as a floating-point number.
pub(crate) fn float(args: Args<'_>, at: usize) -> Result<f64, Error> {
    parse_float(args.at(at)).ok_or(error::NOT_FLOAT)
}

/// Reads how long to wait, in seconds, as milliseconds; None for ever.
pub(crate) fn timeout(args: Args<'_>, at: usize) -> Result<Option<u64>, Error> {
    let ms = double::parse(args.at(at)).ok_or(error::TIMEOUT_NOT_FLOAT)? * 1000.0;
    match ms.ceil() {
        // Redis keeps it in 64 bits with a sign, where what is too much for them comes out negative.
        ms if ms < 0.0 || ms >= i64::MAX as f64 => Err(error::TIMEOUT_NEGATIVE),
        0.0 => Ok(None),
        ms => Ok(Some(ms as u64)),
    }
}

/// Characters of a word that are repeated to who wrote it.
const WORD_CHARS_MAX: usize = 64;

/// The error for a call with the wrong number of arguments. `name` is in lower case, `config|get` for a subcommand.
pub(crate) fn wrong_number(name: &str) -> Error {
    Error::new(format!("ERR wrong number of arguments for '{name}' command"))
}

/// The error for a subcommand with the wrong number of arguments, in the words older commands use.
pub(crate) fn wrong_subcommand(args: Args<'_>) -> Error {
    let container = String::from_utf8_lossy(args.at(0)).to_uppercase();
    let name = args.get(1).map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default();
    Error::new(format!("ERR unknown subcommand or wrong number of arguments for '{name}'. Try {container} HELP."))
}
