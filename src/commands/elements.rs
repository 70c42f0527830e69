//! What the commands of collections share: elements as replies, walks by cursor, random choices.

use crate::commands::Outcome;
use crate::commands::args::{Rest, int, parse_int};
use crate::engine::error::{self, Error};
use crate::engine::glob;
use crate::engine::types::packed::{IntText, Item};
use crate::id;
use crate::resp::{Args, Reply};

/// Bytes a reply of repeated random elements may have. Redis has no bound and answers a short request with any number of gigabytes.
const RANDOM_REPLY_BYTES_MAX: usize = 64 << 20;
/// Bytes of the shortest element in a reply.
const ELEMENT_BYTES_MIN: usize = 6;
/// Elements a walk by cursor shows at a time, roughly, unless told otherwise.
const SCAN_COUNT: usize = 10;
/// Buckets a walk by cursor looks at for each element it is to show: many may be empty.
const SCAN_BUCKETS_PER_ELEMENT: usize = 10;

/// Answers with an element.
#[inline]
pub(crate) fn bulk(reply: &mut Reply, item: Item<'_>) {
    match item {
        Item::Bytes(bytes) => reply.bulk(bytes),
        Item::Int(number) => reply.bulk_int(number),
    }
}

/// Reads a count of random elements: below zero for elements that may repeat.
pub(crate) fn random_count(args: Args<'_>, at: usize) -> Result<i64, Error> {
    let count = int(args, at)?;
    if count == i64::MIN { Err(error::COUNT_RANGE) } else { Ok(count) }
}

/// Answers with `count` random choices of `below`, each of them shown by `show`. A reply that no client could take is refused.
pub(crate) fn repeated(count: u64, below: usize, reply: &mut Reply, mut show: impl FnMut(&mut Reply, usize)) -> Outcome {
    let start = reply.mark();
    if count > (RANDOM_REPLY_BYTES_MAX / ELEMENT_BYTES_MIN) as u64 {
        return Err(error::OUT_OF_RANGE);
    }
    for _ in 0..count {
        show(reply, id::random_below(below));
        if reply.mark() - start > RANDOM_REPLY_BYTES_MAX {
            return Err(error::OUT_OF_RANGE);
        }
    }
    Ok(())
}

/// Reads a cursor as Redis does, which takes it as C takes an unsigned number.
pub(crate) fn cursor(text: &[u8]) -> Result<u64, Error> {
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.len() < text.len() && digits.is_empty() {
        return Err(error::CURSOR);
    }
    let number = digits.iter().try_fold(0u64, |sum, digit| match digit {
        b'0'..=b'9' => sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    });
    number.map(|number| if is_negative { number.wrapping_neg() } else { number }).ok_or(error::CURSOR)
}

/// What a walk shows, which says what of it can be left out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Walked {
    /// Members of a set.
    Members,
    /// Members of a sorted set, and their scores.
    Scored,
    /// Fields of a hash, and their values.
    Fields,
}

/// The options of `SSCAN`, `HSCAN` and `ZSCAN`.
pub(crate) struct Scan<'a> {
    count: usize,
    pattern: Option<&'a [u8]>,
    /// Whether values are left out.
    pub hides_values: bool,
    /// Whether scores are.
    pub hides_scores: bool,
}

impl<'a> Scan<'a> {
    /// Reads the options that begin at a position, for elements that are these.
    pub(crate) fn read(args: Args<'a>, at: usize, walked: Walked) -> Result<Scan<'a>, Error> {
        let mut scan = Scan { count: SCAN_COUNT, pattern: None, hides_values: false, hides_scores: false };
        let mut rest = Rest::of(args, at);
        loop {
            if let Some(count) = rest.value("count") {
                let count = parse_int(count)?;
                scan.count = usize::try_from(count).ok().filter(|&count| count > 0).ok_or(error::SYNTAX)?;
            } else if let Some(pattern) = rest.value("match") {
                // A lone star also matches the empty text, which as a pattern it would not.
                scan.pattern = Some(pattern).filter(|pattern| *pattern != b"*");
            } else if rest.word("novalues") {
                scan.hides_values = true;
            } else if rest.word("noscores") {
                scan.hides_scores = true;
            } else {
                rest.end()?;
                break;
            }
        }
        if scan.hides_values && walked != Walked::Fields {
            return Err(error::NO_VALUES_OF_HASHES_ONLY);
        }
        if scan.hides_scores && walked != Walked::Scored {
            return Err(error::NO_SCORES_OF_ZSETS_ONLY);
        }
        Ok(scan)
    }

    /// Whether an element is asked for.
    pub(crate) fn wants(&self, element: Item<'_>) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches(pattern, element.bytes(&mut IntText::new()), false))
    }

    /// Walks from a cursor on: `step` shows some elements in the reply it is given, and tells how many it looked at and the
    /// next cursor. `shown` counts what was put in the reply.
    pub(crate) fn run(&self, cursor: u64, reply: &mut Reply, mut step: impl FnMut(u32, &mut Reply, &mut usize) -> (usize, u32)) {
        let mut elements = Reply::new(reply.protocol());
        let (mut next, mut looked_at, mut shown) = (cursor as u32, 0, 0);
        for _ in 0..self.count.saturating_mul(SCAN_BUCKETS_PER_ELEMENT) {
            let (count, after) = step(next, &mut elements, &mut shown);
            (next, looked_at) = (after, looked_at + count);
            if next == 0 || looked_at >= self.count {
                break;
            }
        }
        reply.array(2);
        reply.bulk_int(i64::from(next));
        reply.array(shown);
        reply.append(elements);
    }
}

/// Answers a walk with no elements in it.
pub(crate) fn empty_scan(reply: &mut Reply) {
    reply.array(2);
    reply.bulk(b"0");
    reply.array(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_read_as_c_reads_them() {
        for (text, number) in [("0", 0), ("17", 17), ("", 0), ("+5", 5), ("-1", u64::MAX)] {
            assert_eq!(cursor(text.as_bytes()), Ok(number));
        }
        for text in ["x", "1x", " 1", "-", "18446744073709551616"] {
            assert_eq!(cursor(text.as_bytes()), Err(error::CURSOR), "{text}");
        }
    }
}
