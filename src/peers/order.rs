//! What may be said of a call, in words: `FLUX.CALL` has them behind the payload, and HTTP says them in its own way.

use std::ops::RangeInclusive;

use crate::commands::args::{Rest, parse_int};
use crate::engine::error::Error;
use crate::peers::calls::{Again, Order, Route, TIMEOUT_MS_MAX};
use crate::peers::names;

/// How often a call may be given to another peer.
pub(crate) const RETRIES_MAX: i64 = 1000;
/// How far a call may be put before others; as far behind them.
pub(crate) const PRIORITY_MAX: i64 = 100;
/// Answers that a gathering call may wait for; there are not as many peers.
pub(crate) const GATHER_MAX: i64 = u32::MAX as i64;
/// Tries that a call may have behind it.
const ATTEMPTS_MAX: i64 = 1_000_000;
/// Bytes of a key of `ROUTE STICKY`.
pub(crate) const STICKY_BYTES_MAX: usize = 1024;

/// Takes what is said of a call into its order. Tells whether the caller does not wait for its result (`ASYNC`).
pub(crate) fn read(order: &mut Order, mut rest: Rest<'_>) -> Result<bool, Error> {
    let mut is_async = false;
    loop {
        if rest.word("async") {
            is_async = true;
        } else if rest.word("chunks") {
            order.has_audience = true;
        } else if let Some(id) = rest.value("to") {
            order.to = Some(names::id("peer id", id)?.into());
        } else if let Some(ms) = rest.value("timeout") {
            order.timeout_ms = number("TIMEOUT", ms, 1..=TIMEOUT_MS_MAX as i64)? as u64;
        } else if let Some(count) = rest.value("retries") {
            order.retries = number("RETRIES", count, 0..=RETRIES_MAX)? as u32;
        } else if let Some(priority) = rest.value("priority") {
            order.priority = number("PRIORITY", priority, -PRIORITY_MAX..=PRIORITY_MAX)? as i8;
        } else if let Some(count) = rest.value("gather") {
            order.gather = Some(number("GATHER", count, 0..=GATHER_MAX)? as usize);
        } else if let Some(id) = rest.value("id") {
            order.id = Some(names::id("call id", id)?.into());
        } else if let Some(attempt) = rest.value("attempt") {
            again(order).attempt = number("ATTEMPT", attempt, 1..=ATTEMPTS_MAX)? as u32;
        } else if let Some(pieces) = rest.value("seen") {
            again(order).seen = number("SEEN", pieces, 0..=i64::MAX)? as u64;
        } else if rest.left() > 1 && rest.word("route") {
            order.route = route(&mut rest)?;
        } else {
            break rest.end_named()?;
        }
    }
    if order.gather.is_some() && order.to.is_some() {
        return Err(Error::new("ERR GATHER asks all peers with the capability: leave out TO"));
    }
    if order.again.is_some() && order.id.is_none() {
        return Err(Error::new("ERR ATTEMPT and SEEN are about a call that was given before: say its ID"));
    }
    Ok(is_async)
}

fn again(order: &mut Order) -> &mut Again {
    order.again.get_or_insert(Again { attempt: 1, seen: 0 })
}

fn route(rest: &mut Rest<'_>) -> Result<Route, Error> {
    if rest.word("least-loaded") {
        return Ok(Route::LeastLoaded);
    }
    if rest.word("round-robin") {
        return Ok(Route::RoundRobin);
    }
    let key = rest.value("sticky").ok_or(Error::new("ERR invalid ROUTE: it must be LEAST-LOADED, ROUND-ROBIN or STICKY key"))?;
    if key.len() > STICKY_BYTES_MAX {
        let len = key.len();
        return Err(Error::new(format!("ERR invalid sticky key: it is {len} bytes long, the limit is {STICKY_BYTES_MAX}")));
    }
    Ok(Route::Sticky(key.to_vec()))
}

/// A number that an option may be. `option` is its word, for the error that names it.
pub(crate) fn number(option: &str, text: &[u8], range: RangeInclusive<i64>) -> Result<i64, Error> {
    let number = Some(parse_int(text)?).filter(|number| range.contains(number));
    number.ok_or_else(|| Error::new(format!("ERR invalid {option}: it must be {} to {}", range.start(), range.end())))
}
