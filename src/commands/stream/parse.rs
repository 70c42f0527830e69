//! Arguments of stream commands: ids, ranges of ids, and how to trim.

use crate::commands::args::{Rest, parse_int};
use crate::engine::error::{self, Error};
use crate::engine::types::stream::id::{Id, Written};
use crate::engine::types::stream::{Trim, TrimEffort};
use crate::limits;
use crate::resp::Args;

/// Reads an id; a missing number after the milliseconds is 0.
pub(crate) fn id(text: &[u8]) -> Result<Id, Error> {
    Id::parse(text, 0).ok_or(error::STREAM_ID)
}

/// Reads ids from a position on.
pub(crate) fn ids(args: Args<'_>, from: usize) -> Result<Vec<Id>, Error> {
    args.iter().skip(from).map(id).collect()
}

/// Reads an id, or `-` and `+` for the lowest and the highest.
pub(crate) fn bound(text: &[u8], missing_seq: u64) -> Result<Id, Error> {
    match text {
        b"-" => Ok(Id::MIN),
        b"+" => Ok(Id::MAX),
        text => Id::parse(text, missing_seq).ok_or(error::STREAM_ID),
    }
}

/// Reads where a range starts; `(` leaves the id itself out.
pub(crate) fn start(text: &[u8]) -> Result<Id, Error> {
    match text {
        [b'(', text @ ..] if !text.is_empty() => id(text)?.next().ok_or(error::STREAM_START),
        text => bound(text, 0),
    }
}

/// Reads where a range ends.
pub(crate) fn end(text: &[u8]) -> Result<Id, Error> {
    match text {
        [b'(', text @ ..] if !text.is_empty() => {
            Id::parse(text, u64::MAX).ok_or(error::STREAM_ID)?.previous().ok_or(error::STREAM_END)
        }
        text => bound(text, u64::MAX),
    }
}

/// Reads a count of which a negative one means none.
pub(crate) fn count(text: &[u8]) -> Result<usize, Error> {
    Ok(usize::try_from(parse_int(text)?).unwrap_or(0))
}

/// The id an added entry is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NewId {
    /// `*`.
    Any,
    /// `ms-*`.
    InMs(u64),
    /// This one.
    Given(Id),
}

/// What `XADD` and `XTRIM` have in common.
pub(crate) struct Options {
    /// What to remove.
    pub trim: Option<Trim>,
    /// How far to go with it.
    pub effort: TrimEffort,
    /// No key is made.
    pub no_mkstream: bool,
    /// The new entry's id, and its position.
    pub id: Option<(NewId, usize)>,
}

impl Options {
    /// Reads the options behind the key, and for `XADD` the id that ends them.
    pub(crate) fn parse(args: Args<'_>, is_add: bool) -> Result<Options, Error> {
        let mut options = Options { trim: None, effort: TrimEffort::Exact, no_mkstream: false, id: None };
        let (mut limit, mut is_approximate, mut rest) = (None, false, Rest::of(args, 2));
        let ways: [(&str, fn(&[u8]) -> Result<Trim, Error>); 2] = [("MAXLEN", max_len), ("MINID", min_id)];
        loop {
            if is_add && rest.peek() == Some(b"*") {
                break options.id = Some((NewId::Any, rest.position()));
            } else if rest.left() > 1
                && let Some(trim) = rest.one_of(&ways)
            {
                if options.trim.is_some() {
                    return Err(error::TRIM_BOTH);
                }
                let sign = rest.peek().filter(|sign| rest.left() > 1 && matches!(sign, [b'~' | b'=']));
                is_approximate = sign == Some(b"~");
                rest.skip(usize::from(sign.is_some()));
                options.trim = rest.take().map(trim).transpose()?;
            } else if let Some(count) = rest.value("LIMIT") {
                limit = Some(usize::try_from(parse_int(count)?).map_err(|_| error::TRIM_LIMIT)?);
            } else if is_add && rest.word("NOMKSTREAM") {
                options.no_mkstream = true;
            } else if is_add && let Some(id) = rest.peek() {
                break options.id = Some((new_id(id)?, rest.position()));
            } else {
                break rest.end()?;
            }
        }
        options.limit(limit, is_approximate, is_add)
    }

    fn limit(mut self, limit: Option<usize>, is_approximate: bool, is_add: bool) -> Result<Options, Error> {
        if limit.is_some_and(|limit| limit > 0) && self.trim.is_none() {
            return Err(error::TRIM_LIMIT_ALONE);
        }
        if !is_add && self.trim.is_none() {
            return Err(error::TRIM_NOTHING);
        }
        if limit.is_some() && !is_approximate {
            return Err(error::TRIM_LIMIT_EXACT);
        }
        if is_approximate {
            self.effort = TrimEffort::Blocks { limit: limit.unwrap_or_else(default_limit) };
        }
        Ok(self)
    }
}

fn max_len(text: &[u8]) -> Result<Trim, Error> {
    Ok(Trim::MaxLen(usize::try_from(parse_int(text)?).map_err(|_| error::TRIM_MAXLEN)?))
}

fn min_id(text: &[u8]) -> Result<Trim, Error> {
    Ok(Trim::MinId(id(text)?))
}

fn new_id(text: &[u8]) -> Result<NewId, Error> {
    match Written::parse(text).ok_or(error::STREAM_ID)? {
        Written::Whole(id) => Ok(NewId::Given(id)),
        Written::Ms(ms) => Ok(NewId::Given(Id::new(ms, 0))),
        Written::AnySeq(ms) => Ok(NewId::InMs(ms)),
    }
}

/// Entries an approximate trim removes at most where the client sets no limit: a hundred blocks, within reason.
fn default_limit() -> usize {
    match limits::get(&limits::STREAM_NODE_MAX_ENTRIES).saturating_mul(100) {
        0 => 10_000,
        limit => limit.min(1_000_000),
    }
}
