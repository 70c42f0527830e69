//! Whole strings: `SET` and its family, `GET` and its family.

use crate::commands::Outcome;
use crate::commands::args::{self, Rest};
use crate::commands::string::compare::Comparison;
use crate::engine::error::{self, Error};
use crate::engine::keys::{Expiry, Read, Write};
use crate::engine::notify::Class;
use crate::engine::types::string::{IntText, Str, canonical_int};
use crate::resp::{Args, Reply};

pub(crate) fn get(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    show(keys, args.at(1), reply).map(|_| ())
}

/// Replies with the string at a key, or null; tells whether it is there.
fn show(keys: &mut Read<'_>, key: &[u8], reply: &mut Reply) -> Result<bool, Error> {
    match keys.get::<Str>(key)? {
        Some(string) => {
            reply.bulk(string.bytes(&mut IntText::new()));
            Ok(true)
        }
        None => {
            reply.null();
            Ok(false)
        }
    }
}

pub(crate) fn set(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (key, value) = (args.at(1), args.at(2));
    if args.len() == 3 {
        put(keys, key, value, Expiry::Never);
        reply.ok();
        return Ok(());
    }
    let options = Options::read(args.from(3), Kind::Set)?;
    let expiry = options.expiry(keys.now(), "set")?.unwrap_or(Expiry::Never);
    if options.returns_old {
        show(keys, key, reply)?;
    }
    if !options.allow(keys, key)? {
        if !options.returns_old {
            reply.null();
        }
        return Ok(());
    }
    put(keys, key, value, expiry);
    if !options.returns_old {
        reply.ok();
    }
    Ok(())
}

#[inline]
fn put(keys: &mut Write<'_>, key: &[u8], value: &[u8], expiry: Expiry) {
    keys.put_string(key, value, expiry);
    keys.notify(Class::String, "set", key);
    if let Expiry::At(_) = expiry {
        keys.notify(Class::Generic, "expire", key);
    }
}

pub(crate) fn getset(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    show(keys, args.at(1), reply)?;
    put(keys, args.at(1), args.at(2), Expiry::Never);
    Ok(())
}

pub(crate) fn getdel(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    if show(keys, args.at(1), reply)? {
        keys.remove(args.at(1));
        keys.notify(Class::Generic, "del", args.at(1));
    }
    Ok(())
}

pub(crate) fn getex(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let key = args.at(1);
    let options = Options::read(args.from(2), Kind::GetEx)?;
    if !show(keys, key, reply)? {
        return Ok(());
    }
    match options.expiry(keys.now(), "getex")? {
        Some(Expiry::At(at)) if at <= keys.now() => {
            keys.remove(key);
            keys.notify(Class::Generic, "del", key);
        }
        Some(Expiry::At(at)) => {
            keys.set_expiry(key, Some(at));
            keys.notify(Class::Generic, "expire", key);
        }
        Some(Expiry::Never) if keys.peek(key).is_some_and(|entry| entry.expires()) => {
            keys.set_expiry(key, None);
            keys.notify(Class::Generic, "persist", key);
        }
        _ => {}
    }
    Ok(())
}

pub(crate) fn setex(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    set_expiring(keys, args, reply, Unit::Seconds, "setex")
}

pub(crate) fn psetex(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    set_expiring(keys, args, reply, Unit::Milliseconds, "psetex")
}

fn set_expiring(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply, unit: Unit, name: &str) -> Outcome {
    let at = expire_at(args.at(2), unit, Start::Now(keys.now()), name)?;
    put(keys, args.at(1), args.at(3), Expiry::At(at));
    reply.ok();
    Ok(())
}

pub(crate) fn setnx(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let is_new = keys.peek(args.at(1)).is_none();
    if is_new {
        put(keys, args.at(1), args.at(2), Expiry::Never);
    }
    reply.int(i64::from(is_new));
    Ok(())
}

pub(crate) fn mset(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    put_all(keys, args, "mset")?;
    reply.ok();
    Ok(())
}

pub(crate) fn msetnx(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    check_pairs(args, "msetnx")?;
    let is_free = (1..args.len()).step_by(2).all(|at| keys.peek(args.at(at)).is_none());
    if is_free {
        put_all(keys, args, "msetnx")?;
    }
    reply.int(i64::from(is_free));
    Ok(())
}

fn check_pairs(args: Args<'_>, name: &str) -> Outcome {
    if args.len() % 2 == 1 { Ok(()) } else { Err(args::wrong_number(name)) }
}

fn put_all(keys: &mut Write<'_>, args: Args<'_>, name: &str) -> Outcome {
    check_pairs(args, name)?;
    for at in (1..args.len()).step_by(2) {
        put(keys, args.at(at), args.at(at + 1), Expiry::Never);
    }
    Ok(())
}

pub(crate) fn mget(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    reply.array(args.len() - 1);
    for key in args.from(1).iter() {
        match keys.get::<Str>(key) {
            Ok(Some(string)) => reply.bulk(string.bytes(&mut IntText::new())),
            Err(error) if error != error::WRONG_TYPE => return Err(error),
            // A key that holds another kind of value is as good as none here.
            _ => reply.null(),
        }
    }
    Ok(())
}

pub(crate) fn msetex(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let count = canonical_int(args.at(1)).filter(|count| (1..=i64::from(i32::MAX)).contains(count));
    let end = 2 + 2 * count.ok_or(error::MSETEX_NUMKEYS)? as usize;
    if end > args.len() {
        return Err(error::MSETEX_PAIRS);
    }
    let options = Options::read(args.from(end), Kind::MsetEx)?;
    let expiry = options.expiry(keys.now(), "msetex")?.unwrap_or(Expiry::Never);
    let mut is_allowed = true;
    for at in (2..end).step_by(2) {
        is_allowed = is_allowed && options.allow(keys, args.at(at))?;
    }
    if is_allowed {
        (2..end).step_by(2).for_each(|at| put(keys, args.at(at), args.at(at + 1), expiry));
    }
    reply.int(is_allowed.into());
    Ok(())
}

/// Whose options are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Set,
    MsetEx,
    GetEx,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Seconds,
    Milliseconds,
}

/// From when a time counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    Now(u64),
    Epoch,
}

/// The options of `SET`, `MSETEX` and `GETEX`.
#[derive(Default)]
struct Options<'a> {
    condition: Option<Condition<'a>>,
    /// `GET`
    returns_old: bool,
    /// `KEEPTTL`
    keeps_expiry: bool,
    /// `PERSIST`
    persists: bool,
    expiry: Option<(Word, &'a [u8])>,
}

/// Under which condition a key is set.
#[derive(Clone, Copy)]
enum Condition<'a> {
    /// `XX`
    IsThere,
    /// `NX`
    IsNotThere,
    /// What it holds is, or is not, as given.
    Compares(Comparison<'a>),
}

/// How an expiry is given.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Ex,
    Px,
    ExAt,
    PxAt,
}

const WORDS: [(&str, Word); 4] = [("ex", Word::Ex), ("px", Word::Px), ("exat", Word::ExAt), ("pxat", Word::PxAt)];

impl<'a> Options<'a> {
    fn read(args: Args<'a>, kind: Kind) -> Result<Options<'a>, Error> {
        let (mut options, mut args) = (Options::default(), Rest::of(args, 0));
        while options.read_one(&mut args, kind) {}
        args.end()?;
        Ok(options)
    }

    /// Takes in the next option; false if none may stand there.
    fn read_one(&mut self, args: &mut Rest<'a>, kind: Kind) -> bool {
        let is_set = kind != Kind::GetEx;
        if is_set && matches!(self.condition, None | Some(Condition::IsNotThere)) && args.word("nx") {
            self.condition = Some(Condition::IsNotThere);
        } else if is_set && matches!(self.condition, None | Some(Condition::IsThere)) && args.word("xx") {
            self.condition = Some(Condition::IsThere);
        } else if kind == Kind::Set && args.word("get") {
            self.returns_old = true;
        } else if kind == Kind::Set
            && self.condition.is_none()
            && let Some(comparison) = Comparison::take(args)
        {
            self.condition = Some(Condition::Compares(comparison));
        } else if is_set && self.expiry.is_none() && args.word("keepttl") {
            self.keeps_expiry = true;
        } else if !is_set && self.expiry.is_none() && args.word("persist") {
            self.persists = true;
        } else if self.keeps_expiry || self.persists {
            return false;
        } else {
            let before = self.expiry.map(|(word, _)| word);
            let mut words = WORDS.into_iter().filter(|(_, word)| before.is_none_or(|before| before == *word));
            let Some(given) = words.find_map(|(name, word)| Some((word, args.value(name)?))) else { return false };
            self.expiry = Some(given);
        }
        true
    }

    /// Whether a key may be set.
    fn allow(&self, keys: &mut Write<'_>, key: &[u8]) -> Result<bool, Error> {
        Ok(match self.condition {
            None => true,
            Some(Condition::IsThere) => keys.peek(key).is_some(),
            Some(Condition::IsNotThere) => keys.peek(key).is_none(),
            Some(Condition::Compares(comparison)) => comparison.holds(keys, key)?.unwrap_or(comparison.holds_of_none()),
        })
    }

    /// What they say about the expiry, None if nothing.
    fn expiry(&self, now: u64, name: &str) -> Result<Option<Expiry>, Error> {
        let Some((word, text)) = self.expiry else {
            return Ok(match (self.keeps_expiry, self.persists) {
                (true, _) => Some(Expiry::Keep),
                (_, true) => Some(Expiry::Never),
                _ => None,
            });
        };
        let (unit, start) = match word {
            Word::Ex => (Unit::Seconds, Start::Now(now)),
            Word::Px => (Unit::Milliseconds, Start::Now(now)),
            Word::ExAt => (Unit::Seconds, Start::Epoch),
            Word::PxAt => (Unit::Milliseconds, Start::Epoch),
        };
        expire_at(text, unit, start, name).map(|at| Some(Expiry::At(at)))
    }
}

/// The time a text names, in milliseconds since the epoch.
fn expire_at(text: &[u8], unit: Unit, start: Start, name: &str) -> Result<u64, Error> {
    let number = args::parse_int(text)?;
    let milliseconds = match unit {
        Unit::Seconds => number.checked_mul(1000),
        Unit::Milliseconds => Some(number),
    };
    let at = match start {
        Start::Now(now) => milliseconds.filter(|&after| after > 0).and_then(|after| after.checked_add(now as i64)),
        Start::Epoch => milliseconds,
    };
    match at {
        Some(at) if at > 0 => Ok(at as u64),
        _ => Err(error::invalid_expire_time(name)),
    }
}
