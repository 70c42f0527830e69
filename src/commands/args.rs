//! Arguments as numbers, with the error replies Redis gives where they are none.

use crate::commands::double;
use crate::engine::error::{self, Error};
use crate::engine::types::string::canonical_int;
use crate::resp::Args;

/// Reads an argument as an integer, as strictly as Redis: no spaces, no `+`, no leading zeros.
pub fn int(args: Args<'_>, at: usize) -> Result<i64, Error> {
    parse_int(args.at(at))
}

/// Reads bytes as an integer, as strictly.
pub fn parse_int(bytes: &[u8]) -> Result<i64, Error> {
    canonical_int(bytes).ok_or(error::NOT_INTEGER)
}

/// Reads bytes as a floating-point number, as Redis' `string2d`: no spaces, `inf` allowed, `nan` not.
#[inline]
pub fn parse_float(bytes: &[u8]) -> Option<f64> {
    double::parse_in_range(bytes)
}

/// Reads an argument as a floating-point number.
pub fn float(args: Args<'_>, at: usize) -> Result<f64, Error> {
    parse_float(args.at(at)).ok_or(error::NOT_FLOAT)
}

/// Reads how long to wait, in seconds, as milliseconds; None for ever.
pub fn timeout(args: Args<'_>, at: usize) -> Result<Option<u64>, Error> {
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

/// The error for a word that a command of ours does not know where an option may stand. It begins as Redis' own, which clients know.
pub fn unknown_option(args: Args<'_>, at: usize) -> Error {
    Error::new(format!("{}: there is no option '{}'", error::SYNTAX.0, shown(args, at)))
}

/// What stands behind an option's name.
pub fn option_value<'a>(args: Args<'a>, at: usize) -> Result<&'a [u8], Error> {
    args.get(at + 1).ok_or_else(|| Error::new(format!("{}: nothing stands behind '{}'", error::SYNTAX.0, shown(args, at))))
}

fn shown(args: Args<'_>, at: usize) -> String {
    let word = String::from_utf8_lossy(args.get(at).unwrap_or_default());
    word.chars().filter(|letter| !letter.is_control()).take(WORD_CHARS_MAX).collect()
}

/// The error for a call with the wrong number of arguments. `name` is in lower case, `config|get` for a subcommand.
pub fn wrong_number(name: &str) -> Error {
    Error::new(format!("ERR wrong number of arguments for '{name}' command"))
}

/// The error for a subcommand with the wrong number of arguments, in the words older commands use.
pub fn wrong_subcommand(args: Args<'_>) -> Error {
    let container = String::from_utf8_lossy(args.at(0)).to_uppercase();
    let name = args.get(1).map(|name| String::from_utf8_lossy(name).into_owned()).unwrap_or_default();
    Error::new(format!("ERR unknown subcommand or wrong number of arguments for '{name}'. Try {container} HELP."))
}
