//! Streams that keep the last of something: events, chunks, versions. Bounded by count and by bytes, and of the room's own: where
//! someone put another kind of value under such a key, it makes way.

use redis::FromRedisValue;

use crate::commands::inner::Together;
use crate::engine::error::{self, Error};

/// Bytes that large entries of one stream may take together, roughly: an entry of so many bytes is the only one that stays.
const BYTES_MAX: usize = 16 << 20;
/// A lease is made longer when a tenth of it is gone, not with every entry.
const LEASE_PARTS: i64 = 10;

/// How much a stream keeps.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    /// So many entries; fewer where they are large.
    Exactly(usize),
    /// At least so many, and some more: cheaper.
    About(usize),
}

/// Adds an entry with one name and value, or more, and drops the oldest. Answers its id.
pub(crate) fn add(
    together: &mut Together<'_>,
    key: &str,
    id: &str,
    bound: Bound,
    fields: &[(&str, &[u8])],
) -> Result<String, Error> {
    let bytes = fields.iter().map(|(_, value)| value.len()).sum::<usize>();
    let (effort, count) = match bound {
        Bound::Exactly(count) => ("=", count),
        Bound::About(count) => ("~", count),
    };
    let fitting = BYTES_MAX / bytes.max(1);
    let (effort, count) = if fitting < count { ("=", fitting.max(1)) } else { (effort, count) };
    let count = count.to_string();
    let mut args: Vec<&[u8]> = vec![b"XADD", key.as_bytes(), b"MAXLEN", effort.as_bytes(), count.as_bytes(), id.as_bytes()];
    args.extend(fields.iter().flat_map(|(name, value)| [name.as_bytes(), *value]));
    own(together, &args)
}

/// The same, but where the stream holds a higher id than this, all it holds makes way.
pub(crate) fn add_anew(
    together: &mut Together<'_>,
    key: &str,
    id: &str,
    bound: Bound,
    fields: &[(&str, &[u8])],
) -> Result<String, Error> {
    match add(together, key, id, bound, fields) {
        Err(error) if error == error::XADD_SMALL || error == error::XADD_EXHAUSTED => {
            together.run::<i64>(&[b"DEL", key.as_bytes()])?;
            add(together, key, id, bound, fields)
        }
        added => added,
    }
}

/// Runs a command on a key, the second argument, that only the room writes: another kind of value there makes way.
pub(crate) fn own<T: FromRedisValue>(together: &mut Together<'_>, args: &[&[u8]]) -> Result<T, Error> {
    match together.run(args) {
        Err(error) if error == error::WRONG_TYPE => {
            together.run::<i64>(&[b"DEL", args[1]])?;
            together.run(args)
        }
        answer => answer,
    }
}

/// Lets a key last at least this long from now on, less a tenth.
pub(crate) fn lease(together: &mut Together<'_>, key: &str, ms: i64) -> Result<(), Error> {
    let left: i64 = together.run(&[b"PTTL", key.as_bytes()])?;
    if left < ms - ms / LEASE_PARTS {
        together.run::<i64>(&[b"PEXPIRE", key.as_bytes(), ms.to_string().as_bytes()])?;
    }
    Ok(())
}

/// Lets a key last at most this long from now on.
pub(crate) fn shorten(together: &mut Together<'_>, key: &str, ms: i64) -> Result<(), Error> {
    together.run::<i64>(&[b"PEXPIRE", key.as_bytes(), ms.to_string().as_bytes(), b"LT"]).map(|_| ())
}
