//! Walks over keys: `KEYS`, `SCAN`, `RANDOMKEY`.

use crate::commands::Outcome;
use crate::commands::args::{Rest, parse_int};
use crate::engine::SHARDS;
use crate::engine::blob::Blob;
use crate::engine::error::{self, Error};
use crate::engine::glob;
use crate::engine::keys::Read;
use crate::engine::value::Kind;
use crate::id;
use crate::resp::{Args, Reply};

/// Buckets looked at by a call of `SCAN` at least, if it does not find what it was asked for sooner: more than a small
/// database has in all its shards, so that one call walks over it as over a small one of Redis.
const STEPS_MIN: usize = 1000;
/// How often a key whose time is over is passed over before `RANDOMKEY` gives up, while keys may not expire.
const TRIES_MAX: usize = 100;

pub(crate) fn keys(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let pattern = Pattern::of(args.at(1));
    let (now, mark, mut count) = (keys.now(), reply.mark(), 0);
    for shard in 0..SHARDS {
        for entry in keys.database_in(shard).keys().iter() {
            if pattern.takes(entry.key()) && !entry.is_expired(now) {
                reply.bulk(entry.key());
                count += 1;
            }
        }
    }
    reply.insert_array(mark, count);
    Ok(())
}

/// A pattern, or none where it takes everything.
struct Pattern<'a>(Option<&'a [u8]>);

impl<'a> Pattern<'a> {
    fn of(text: &'a [u8]) -> Pattern<'a> {
        Pattern((text != b"*").then_some(text))
    }

    fn takes(&self, key: &[u8]) -> bool {
        self.0.is_none_or(|pattern| glob::matches(pattern, key, false))
    }
}

/// Where a walk stands: the shard, and the cursor of [`crate::engine::dict::Dict::scan`] within it. As a number, it is 0 only before the
/// first step and after the last one.
#[derive(Clone, Copy)]
struct Cursor {
    shard: usize,
    within: u32,
}

impl Cursor {
    fn from_number(number: u64) -> Cursor {
        Cursor { shard: usize::try_from(number >> 32).unwrap_or(SHARDS), within: number as u32 }
    }

    fn number(self) -> u64 {
        if self.is_at_the_end() { 0 } else { (self.shard as u64) << 32 | u64::from(self.within) }
    }

    fn is_at_the_end(self) -> bool {
        self.shard >= SHARDS
    }

    fn after(self, within: u32) -> Cursor {
        Cursor { shard: self.shard + usize::from(within == 0), within }
    }
}

struct Options<'a> {
    count: usize,
    pattern: Pattern<'a>,
    /// `TYPE`: its text, and the kind that is.
    kind: Option<Option<Kind>>,
}

pub(crate) fn scan(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let mut cursor = Cursor::from_number(parse_cursor(args.at(1)).ok_or(error::INVALID_CURSOR)?);
    let options = Options::read(Rest::of(args, 2))?;
    let now = keys.now();
    let (mut found, mut expired, mut seen) = (Vec::<Blob>::new(), Vec::<Blob>::new(), 0);
    let mut steps = options.count.saturating_mul(10).max(STEPS_MIN);
    while !cursor.is_at_the_end() && seen < options.count && steps > 0 {
        let within = keys.database_in(cursor.shard).keys().scan(cursor.within, |entry| {
            seen += 1;
            if options.take(entry.key(), entry.value().kind()) {
                if entry.is_expired(now) { &mut expired } else { &mut found }.push(entry.key().clone());
            }
        });
        cursor = cursor.after(within);
        steps -= 1;
    }
    for key in expired {
        // Looking at a key whose time is over removes it.
        keys.peek(&key);
    }
    reply.array(2);
    reply.bulk(itoa::Buffer::new().format(cursor.number()).as_bytes());
    reply.array(found.len());
    found.iter().for_each(|key| reply.bulk(key));
    Ok(())
}

/// A cursor as C's `strtoul` reads it, which takes a sign and also nothing at all.
pub(crate) fn parse_cursor(text: &[u8]) -> Option<u64> {
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return text.is_empty().then_some(0);
    }
    let number = digits.iter().try_fold(0u64, |number, digit| {
        let digit = char::from(*digit).to_digit(10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })?;
    Some(if is_negative { number.wrapping_neg() } else { number })
}

impl<'a> Options<'a> {
    fn read(mut rest: Rest<'a>) -> Result<Options<'a>, Error> {
        let mut options = Options { count: 10, pattern: Pattern(None), kind: None };
        loop {
            if let Some(count) = rest.value("count") {
                options.count = usize::try_from(parse_int(count)?).ok().filter(|&count| count > 0).ok_or(error::SYNTAX)?;
            } else if let Some(pattern) = rest.value("match") {
                options.pattern = Pattern::of(pattern);
            } else if let Some(name) = rest.value("type") {
                options.kind = Some(KINDS.into_iter().find(|kind| name.eq_ignore_ascii_case(kind.name().as_bytes())));
            } else if rest.is("novalues") {
                return Err(error::NO_VALUES_OF_HASHES_ONLY);
            } else if rest.is("noscores") {
                return Err(error::NO_SCORES_OF_ZSETS_ONLY);
            } else {
                rest.end()?;
                return Ok(options);
            }
        }
    }

    fn take(&self, key: &[u8], kind: Kind) -> bool {
        self.kind.is_none_or(|wanted| wanted == Some(kind)) && self.pattern.takes(key)
    }
}

const KINDS: [Kind; 6] = [Kind::String, Kind::List, Kind::Hash, Kind::Set, Kind::Zset, Kind::Stream];

pub(crate) fn randomkey(keys: &mut Read<'_>, _: Args<'_>, reply: &mut Reply) -> Outcome {
    for _ in 0..TRIES_MAX {
        let Some(key) = choose(keys) else { break };
        // Looking removes a key whose time is over; then there is one less to choose from.
        if keys.look(&key).is_some() {
            reply.bulk(&key);
            return Ok(());
        }
    }
    reply.null();
    Ok(())
}

fn choose(keys: &mut Read<'_>) -> Option<Blob> {
    let total: usize = (0..SHARDS).map(|shard| keys.database_in(shard).keys().len()).sum();
    let mut position = if total == 0 { return None } else { id::random_below(total) };
    for shard in 0..SHARDS {
        let table = keys.database_in(shard).keys();
        if position < table.len() {
            return Some(table.at(position as u32).key().clone());
        }
        position -= table.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_read_as_c_reads_them() {
        for (text, number) in
            [("0", Some(0)), ("", Some(0)), ("+5", Some(5)), ("-1", Some(u64::MAX)), ("-", None), ("1x", None), (" 1", None)]
        {
            assert_eq!(parse_cursor(text.as_bytes()), number, "{text}");
        }
        assert_eq!(parse_cursor(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(parse_cursor(b"18446744073709551616"), None);
    }

    #[test]
    fn a_cursor_is_zero_only_at_the_ends() {
        assert_eq!(Cursor { shard: 0, within: 7 }.number(), 7);
        assert_eq!(Cursor { shard: 0, within: 7 }.after(0).number(), 1 << 32);
        assert_eq!(Cursor { shard: SHARDS - 1, within: 7 }.after(0).number(), 0);
        assert!(Cursor::from_number(u64::MAX).is_at_the_end());
    }
}
