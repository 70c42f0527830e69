//! When keys expire: `EXPIRE`, `TTL` and their families, `PERSIST`.

use crate::commands::Outcome;
use crate::commands::args::int;
use crate::engine::error::{self, Error};
use crate::engine::keys::{Read, Write};
use crate::engine::notify::Class;
use crate::resp::{Args, Reply};

/// What `TTL` and its like say of a key that lasts.
const LASTS: i64 = -1;
/// What they say of a key that is not there.
const MISSING: i64 = -2;

pub(crate) fn ttl(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    show(keys, args, reply, |at, now| (at.saturating_sub(now) + 500) / 1000)
}

pub(crate) fn pttl(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    show(keys, args, reply, u64::saturating_sub)
}

pub(crate) fn expiretime(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    show(keys, args, reply, |at, _| at.saturating_add(500) / 1000)
}

pub(crate) fn pexpiretime(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    show(keys, args, reply, |at, _| at)
}

fn show(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply, say: fn(u64, u64) -> u64) -> Outcome {
    let now = keys.now();
    let is_there = keys.look(args.at(1)).is_some();
    let expiry = if is_there { keys.expiry(args.at(1)) } else { None };
    reply.int(match expiry {
        None => MISSING,
        Some(expire_at) => expire_at.map_or(LASTS, |at| say(at, now) as i64),
    });
    Ok(())
}

pub(crate) fn expire(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let now = keys.now();
    set(keys, args, reply, Time { from: now, unit_ms: 1000, command: "expire" })
}

pub(crate) fn pexpire(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let now = keys.now();
    set(keys, args, reply, Time { from: now, unit_ms: 1, command: "pexpire" })
}

pub(crate) fn expireat(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    set(keys, args, reply, Time { from: 0, unit_ms: 1000, command: "expireat" })
}

pub(crate) fn pexpireat(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    set(keys, args, reply, Time { from: 0, unit_ms: 1, command: "pexpireat" })
}

/// How a command gives a time.
struct Time {
    /// From when it counts, in milliseconds since the epoch.
    from: u64,
    unit_ms: i64,
    command: &'static str,
}

impl Time {
    /// An argument as milliseconds since the epoch; may lie before it.
    fn read(&self, args: Args<'_>, at: usize) -> Result<i64, Error> {
        let number = int(args, at)?;
        let milliseconds = number.checked_mul(self.unit_ms).and_then(|after| after.checked_add(self.from as i64));
        milliseconds.ok_or_else(|| error::invalid_expire_time(self.command))
    }
}

/// Under which conditions an expiry is set.
#[derive(Default)]
struct Conditions {
    nx: bool,
    xx: bool,
    gt: bool,
    lt: bool,
}

impl Conditions {
    fn read(args: Args<'_>) -> Result<Conditions, Error> {
        let mut conditions = Conditions::default();
        for at in 0..args.len() {
            let condition = if args.is(at, "nx") {
                &mut conditions.nx
            } else if args.is(at, "xx") {
                &mut conditions.xx
            } else if args.is(at, "gt") {
                &mut conditions.gt
            } else if args.is(at, "lt") {
                &mut conditions.lt
            } else {
                return Err(Error::new(format!("ERR Unsupported option {}", String::from_utf8_lossy(args.at(at)))));
            };
            *condition = true;
        }
        if conditions.nx && (conditions.xx || conditions.gt || conditions.lt) {
            return Err(error::EXPIRE_NX);
        }
        if conditions.gt && conditions.lt { Err(error::EXPIRE_GT_LT) } else { Ok(conditions) }
    }

    /// Whether they let a key with this expiry have that one.
    fn allow(&self, before: Option<u64>, after: i64) -> bool {
        // A key that lasts counts as one that expires after all others.
        let is_later = before.is_some_and(|before| after > before as i64);
        let is_sooner = before.is_none_or(|before| after < before as i64);
        !(self.nx && before.is_some() || self.xx && before.is_none() || self.gt && !is_later || self.lt && !is_sooner)
    }
}

fn set(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply, time: Time) -> Outcome {
    let key = args.at(1);
    let conditions = Conditions::read(args.from(3))?;
    let at = time.read(args, 2)?;
    let Some(before) = keys.expiry(key) else {
        reply.int(0);
        return Ok(());
    };
    if !conditions.allow(before, at) {
        reply.int(0);
        return Ok(());
    }
    match u64::try_from(at) {
        Ok(at) if at > keys.now() => {
            keys.set_expiry(key, Some(at));
            keys.notify(Class::Generic, "expire", key);
        }
        _ => {
            keys.remove(key);
            keys.notify(Class::Generic, "del", key);
        }
    }
    reply.int(1);
    Ok(())
}

pub(crate) fn persist(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let key = args.at(1);
    let expires = keys.peek(key).is_some_and(|entry| entry.expires());
    if expires {
        keys.set_expiry(key, None);
        keys.notify(Class::Generic, "persist", key);
    }
    reply.int(i64::from(expires));
    Ok(())
}
