//! The ranges that commands name (by rank, by score, by name), as ranges of ranks.

use std::ops::Range;

use crate::commands::args::int;
use crate::commands::double;
use crate::engine::error::{self, Error};
use crate::engine::types::zset::{Cut, Zset};
use crate::resp::Args;

/// What the two ends of a range are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    Rank,
    Score,
    Name,
}

/// A range as a command named it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bounds<'a> {
    /// First and last; from the end where they are below zero.
    Ranks(i64, i64),
    Scores(Score, Score),
    Names(Name<'a>, Name<'a>),
}

/// An end of a range by score.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Score {
    number: f64,
    is_open: bool,
}

/// An end of a range by name.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Name<'a> {
    /// `-`
    Lowest,
    /// `+`
    Highest,
    Closed(&'a [u8]),
    Open(&'a [u8]),
}

impl<'a> Bounds<'a> {
    /// Reads the ends at two positions.
    pub(crate) fn read(by: By, args: Args<'a>, min: usize, max: usize) -> Result<Bounds<'a>, Error> {
        Ok(match by {
            By::Rank => Bounds::Ranks(int(args, min)?, int(args, max)?),
            By::Score => Bounds::Scores(Score::read(args.at(min))?, Score::read(args.at(max))?),
            By::Name => Bounds::Names(Name::read(args.at(min))?, Name::read(args.at(max))?),
        })
    }

    /// The ranks of the members within. `is_reversed`: whether ranks are counted from the highest.
    pub(crate) fn ranks(&self, zset: &Zset, is_reversed: bool) -> Range<usize> {
        match self {
            Bounds::Ranks(first, last) => ranks(*first, *last, zset.len(), is_reversed),
            Bounds::Scores(min, max) => {
                let start = zset.rank_of(if min.is_open { Cut::After(min.number) } else { Cut::Before(min.number) });
                let end = zset.rank_of(if max.is_open { Cut::Before(max.number) } else { Cut::After(max.number) });
                start..end.max(start)
            }
            Bounds::Names(min, max) => {
                let start = min.start(zset);
                start..max.end(zset).max(start)
            }
        }
    }
}

fn ranks(first: i64, last: i64, len: usize, is_reversed: bool) -> Range<usize> {
    let from_start = |index: i64| if index < 0 { index.saturating_add(len as i64) } else { index };
    let start = (from_start(first).max(0) as usize).min(len);
    let end = (from_start(last).max(-1) as usize).wrapping_add(1).min(len).max(start);
    if is_reversed { len - end..len - start } else { start..end }
}

impl Score {
    fn read(text: &[u8]) -> Result<Score, Error> {
        let (is_open, number) = match text {
            [b'(', number @ ..] => (true, number),
            number => (false, number),
        };
        Ok(Score { number: double::parse_bound(number).ok_or(error::BOUND_NOT_FLOAT)?, is_open })
    }
}

impl<'a> Name<'a> {
    fn read(text: &'a [u8]) -> Result<Name<'a>, Error> {
        match text {
            [b'-'] | [b'-', 0, ..] => Ok(Name::Lowest),
            [b'+'] | [b'+', 0, ..] => Ok(Name::Highest),
            [b'[', name @ ..] => Ok(Name::Closed(name)),
            [b'(', name @ ..] => Ok(Name::Open(name)),
            _ => Err(error::BOUND_NOT_STRING),
        }
    }

    /// The rank where a range begins that has this as its lower end.
    fn start(self, zset: &Zset) -> usize {
        match self {
            Name::Lowest => 0,
            Name::Highest => zset.len(),
            Name::Closed(name) => zset.rank_of(Cut::BeforeMember(name)),
            Name::Open(name) => zset.rank_of(Cut::AfterMember(name)),
        }
    }

    /// The rank where a range ends that has this as its upper end.
    fn end(self, zset: &Zset) -> usize {
        match self {
            Name::Lowest => 0,
            Name::Highest => zset.len(),
            Name::Closed(name) => zset.rank_of(Cut::AfterMember(name)),
            Name::Open(name) => zset.rank_of(Cut::BeforeMember(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_count_from_either_end() {
        for (first, last, range, reversed) in [
            (0, -1, 0..5, 0..5),
            (0, 0, 0..1, 4..5),
            (1, 2, 1..3, 2..4),
            (-2, -1, 3..5, 0..2),
            (3, 1, 3..3, 2..2),
            (7, 9, 5..5, 0..0),
            (-9, -8, 0..0, 5..5),
            (i64::MIN, i64::MAX, 0..5, 0..5),
        ] {
            assert_eq!(ranks(first, last, 5, false), range);
            assert_eq!(ranks(first, last, 5, true), reversed);
        }
        assert_eq!(ranks(0, -1, 0, false), 0..0);
    }
}
