//! Strings that are changed or removed only where they are as expected: `DELEX`, `DELIFEQ`, the conditions of `SET`, and `DIGEST`, by
//! which a long string is told without sending it.

use xxhash_rust::xxh3::xxh3_64;

use crate::commands::Outcome;
use crate::commands::args::{self, Rest};
use crate::engine::error::{self, Error};
use crate::engine::keys::{Read, Write};
use crate::engine::notify::Class;
use crate::engine::types::string::{IntText, Str};
use crate::engine::value::Type;
use crate::resp::{Args, Reply};

/// Digits of a digest, in hexadecimal.
const DIGEST_DIGITS: usize = 16;

/// What a string is compared with, and whether it must be the same.
#[derive(Clone, Copy)]
pub(crate) struct Comparison<'a> {
    with: With<'a>,
    must_equal: bool,
}

#[derive(Clone, Copy)]
enum With<'a> {
    /// All of it.
    Bytes(&'a [u8]),
    /// Its digest, in either case.
    Digest(&'a [u8]),
}

impl<'a> Comparison<'a> {
    /// Takes a comparison, if the next arguments are one.
    pub(crate) fn take(args: &mut Rest<'a>) -> Option<Comparison<'a>> {
        for (word, must_equal) in [("ifeq", true), ("ifne", false)] {
            if let Some(bytes) = args.value(word) {
                return Some(Comparison { with: With::Bytes(bytes), must_equal });
            }
        }
        for (word, must_equal) in [("ifdeq", true), ("ifdne", false)] {
            if let Some(digest) = args.value(word) {
                return Some(Comparison { with: With::Digest(digest), must_equal });
            }
        }
        None
    }

    /// Whether the string at a key is as it must be; None where there is no such key.
    pub(crate) fn holds(self, keys: &mut Read<'_>, key: &[u8]) -> Result<Option<bool>, Error> {
        let Some(value) = keys.inspect(key)? else { return Ok(None) };
        let string = Str::of(value).ok_or(error::WRONG_TYPE)?;
        let mut text = IntText::new();
        let bytes = string.bytes(&mut text);
        let is_equal = match self.with {
            With::Bytes(expected) => bytes == expected,
            With::Digest(expected) if expected.len() != DIGEST_DIGITS => return Err(error::DIGEST_LENGTH),
            With::Digest(expected) => digest_of(bytes).as_bytes().eq_ignore_ascii_case(expected),
        };
        Ok(Some(is_equal == self.must_equal))
    }

    /// Whether a key that is not there is as it must be: it differs from anything.
    pub(crate) fn holds_of_none(self) -> bool {
        !self.must_equal
    }
}

fn digest_of(bytes: &[u8]) -> String {
    format!("{:0DIGEST_DIGITS$x}", xxh3_64(bytes))
}

pub(crate) fn digest(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    match keys.get::<Str>(args.at(1))? {
        Some(string) => reply.bulk(digest_of(string.bytes(&mut IntText::new())).as_bytes()),
        None => reply.null(),
    }
    Ok(())
}

pub(crate) fn delex(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let key = args.at(1);
    if args.len() == 2 {
        remove(keys, key, reply);
        return Ok(());
    }
    // Redis looks at the key before it looks at what follows.
    let Some(entry) = keys.peek(key) else {
        reply.int(0);
        return Ok(());
    };
    if entry.value.kind() != Str::KIND {
        return Err(error::DELEX_NOT_STRING);
    }
    if args.len() != 4 {
        return Err(args::wrong_number("delex"));
    }
    let comparison = Comparison::take(&mut Rest::of(args, 2)).ok_or(error::DELEX_CONDITION)?;
    remove_if(keys, key, comparison, reply)
}

pub(crate) fn delifeq(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    remove_if(keys, args.at(1), Comparison { with: With::Bytes(args.at(2)), must_equal: true }, reply)
}

fn remove_if(keys: &mut Write<'_>, key: &[u8], comparison: Comparison<'_>, reply: &mut Reply) -> Outcome {
    match comparison.holds(keys, key)? {
        Some(true) => remove(keys, key, reply),
        _ => reply.int(0),
    }
    Ok(())
}

fn remove(keys: &mut Write<'_>, key: &[u8], reply: &mut Reply) {
    let is_removed = keys.remove(key);
    if is_removed {
        keys.notify(Class::Generic, "del", key);
    }
    reply.int(is_removed.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_sixteen_digits_of_xxh3() {
        assert_eq!(digest_of(b"Hello world"), "b6acb9d84a38ff74");
        let leading_zeros = b"v8lf0c11xh8ymlqztfd3eeq16kfn4sspw7fqmnuuq3k3t75em5wdizgcdw7uc26nnf961u2jkfzkjytls2kwlj7626sd";
        assert_eq!(digest_of(leading_zeros), "00006c38adf31777");
    }
}
