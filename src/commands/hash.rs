//! Commands of Redis' `hash` group.
//!
//! Fields whose time is over are not there for any of them. Commands that write first remove those they come upon.

use crate::commands::args::{Rest, int, parse_int, wrong_number};
use crate::commands::elements::{self, Scan, Walked};
use crate::commands::float::LongDouble;
use crate::commands::table::Group::Hash as GROUP;
use crate::commands::{Command, Outcome};
use crate::engine::error::{self, Error, invalid_expire_time};
use crate::engine::keys::{Edit, Expiry, Read, Write};
use crate::engine::notify::Class;
use crate::engine::types::hash::Hash;
use crate::engine::types::packed::{IntText, Item};
use crate::engine::types::sample;
use crate::engine::types::string::canonical_int;
use crate::engine::value::Type;
use crate::resp::{Args, Reply};

/// The latest a field may expire, in milliseconds since the epoch: the year 4199. Redis has no room for more.
const EXPIRE_AT_MAX: i64 = (1 << 46) - 1;
/// Reply for a field that is not there.
const NO_FIELD: i64 = -2;
/// Reply for a field that does not expire.
const NO_EXPIRY: i64 = -1;

/// The group's rows.
pub(crate) const COMMANDS: &[Command] = &[
    Command::write(GROUP, "hdel", hdel)
        .args_min(2)
        .key()
        .fast()
        .since("2.0.0", "O(N) where N is the number of fields to be removed.")
        .doc("key field [field ...]", "Removes fields from a hash; counts those that were there."),
    Command::read(GROUP, "hexists", hexists)
        .args(2)
        .key()
        .fast()
        .since("2.0.0", "O(1)")
        .doc("key field", "Tells whether a hash has a field."),
    Command::write(GROUP, "hexpire", hexpire).args_min(5).key().grows().fast().since("7.4.0", PER_FIELD).doc(
        "key seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
        "Lets fields of a hash expire after a number of seconds.",
    ),
    Command::write(GROUP, "hexpireat", hexpireat).args_min(5).key().grows().fast().since("7.4.0", PER_FIELD).doc(
        "key unix-time-seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
        "Lets fields of a hash expire at a time in seconds.",
    ),
    Command::read(GROUP, "hexpiretime", hexpiretime)
        .args_min(4)
        .key()
        .fast()
        .since("7.4.0", PER_FIELD)
        .doc("key FIELDS numfields field [field ...]", "Tells when fields of a hash expire, in seconds."),
    Command::read(GROUP, "hget", hget).args(2).key().fast().since("2.0.0", "O(1)").doc("key field", "Shows the value of a field."),
    Command::read(GROUP, "hgetall", hgetall)
        .args(1)
        .key()
        .since("2.0.0", "O(N) where N is the size of the hash.")
        .doc("key", "Shows all fields of a hash and their values."),
    Command::write(GROUP, "hgetdel", hgetdel)
        .args_min(4)
        .key()
        .fast()
        .since("8.0.0", PER_FIELD)
        .doc("key FIELDS numfields field [field ...]", "Shows the values of several fields and removes them."),
    Command::write(GROUP, "hgetex", hgetex).args_min(4).key().fast().since("8.0.0", PER_FIELD).doc(
        "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST] FIELDS numfields field \
         [field ...]",
        "Shows the values of several fields and changes when they expire.",
    ),
    Command::write(GROUP, "hincrby", hincrby)
        .args(3)
        .key()
        .grows()
        .fast()
        .since("2.0.0", "O(1)")
        .doc("key field increment", "Adds to the integer in a field, which is 0 where it is missing."),
    Command::write(GROUP, "hincrbyfloat", hincrbyfloat)
        .args(3)
        .key()
        .grows()
        .fast()
        .since("2.6.0", "O(1)")
        .doc("key field increment", "Adds to the number in a field, which is 0 where it is missing."),
    Command::read(GROUP, "hkeys", hkeys)
        .args(1)
        .key()
        .since("2.0.0", "O(N) where N is the size of the hash.")
        .doc("key", "Shows all fields of a hash."),
    Command::read(GROUP, "hlen", hlen).args(1).key().fast().since("2.0.0", "O(1)").doc("key", "Counts the fields of a hash."),
    Command::read(GROUP, "hmget", hmget)
        .args_min(2)
        .key()
        .fast()
        .since("2.0.0", "O(N) where N is the number of fields being requested.")
        .doc("key field [field ...]", "Shows the values of several fields."),
    Command::write(GROUP, "hmset", hmset)
        .args_min(3)
        .key()
        .grows()
        .fast()
        .since("2.0.0", "O(N) where N is the number of fields being set.")
        .doc("key field value [field value ...]", "Sets fields of a hash; HSET does the same and counts the new ones."),
    Command::write(GROUP, "hpersist", hpersist)
        .args_min(4)
        .key()
        .fast()
        .since("7.4.0", PER_FIELD)
        .doc("key FIELDS numfields field [field ...]", "Lets fields of a hash last that were to expire."),
    Command::write(GROUP, "hpexpire", hpexpire).args_min(5).key().grows().fast().since("7.4.0", PER_FIELD).doc(
        "key milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
        "Lets fields of a hash expire after a number of milliseconds.",
    ),
    Command::write(GROUP, "hpexpireat", hpexpireat).args_min(5).key().grows().fast().since("7.4.0", PER_FIELD).doc(
        "key unix-time-milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
        "Lets fields of a hash expire at a time in milliseconds.",
    ),
    Command::read(GROUP, "hpexpiretime", hpexpiretime)
        .args_min(4)
        .key()
        .fast()
        .since("7.4.0", PER_FIELD)
        .doc("key FIELDS numfields field [field ...]", "Tells when fields of a hash expire, in milliseconds."),
    Command::read(GROUP, "hpttl", hpttl)
        .args_min(4)
        .key()
        .fast()
        .since("7.4.0", PER_FIELD)
        .doc("key FIELDS numfields field [field ...]", "Tells how many milliseconds fields of a hash have left."),
    Command::read(GROUP, "hrandfield", hrandfield)
        .args_min(1)
        .key()
        .since("6.2.0", "O(N) where N is the number of fields returned")
        .doc("key [count [WITHVALUES]]", "Shows random fields of a hash: different ones, or with a negative count any."),
    Command::read(GROUP, "hscan", hscan)
        .args_min(2)
        .key()
        .since(
            "2.8.0",
            "O(1) for every call. O(N) for a complete iteration, including enough command calls for the cursor to return back to 0. \
             N is the number of elements inside the collection.",
        )
        .doc("key cursor [MATCH pattern] [COUNT count] [NOVALUES]", "Walks through the fields of a hash, some at a time."),
    Command::write(GROUP, "hset", hset)
        .args_min(3)
        .key()
        .grows()
        .fast()
        .since(
            "2.0.0",
            "O(1) for each field/value pair added, so O(N) to add N field/value pairs when the command is called with multiple \
             field/value pairs.",
        )
        .doc("key field value [field value ...]", "Sets fields of a hash; counts those that are new."),
    Command::write(GROUP, "hsetex", hsetex).args_min(5).key().grows().fast().since("8.0.0", PER_FIELD).doc(
        "key [NX | XX] [FNX | FXX] [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL] \
         FIELDS numfields field value [field value ...]",
        "Sets fields of a hash that expire together; on request only where the hash, or all of them, are there or are not.",
    ),
    Command::write(GROUP, "hsetnx", hsetnx)
        .args(3)
        .key()
        .grows()
        .fast()
        .since("2.0.0", "O(1)")
        .doc("key field value", "Sets a field of a hash if it is missing."),
    Command::read(GROUP, "hstrlen", hstrlen)
        .args(2)
        .key()
        .fast()
        .since("3.2.0", "O(1)")
        .doc("key field", "Tells how many bytes the value of a field has."),
    Command::read(GROUP, "httl", httl)
        .args_min(4)
        .key()
        .fast()
        .since("7.4.0", PER_FIELD)
        .doc("key FIELDS numfields field [field ...]", "Tells how many seconds fields of a hash have left."),
    Command::read(GROUP, "hvals", hvals)
        .args(1)
        .key()
        .since("2.0.0", "O(N) where N is the size of the hash.")
        .doc("key", "Shows all values of a hash."),
];

const PER_FIELD: &str = "O(N) where N is the number of specified fields";

/// Runs with the hash at a key, if there is one in which any field is left.
fn edit<R>(keys: &mut Write<'_>, key: &[u8], change: impl FnOnce(&mut Edit<'_, Hash>) -> R) -> Result<Option<R>, Error> {
    let now = keys.now();
    let Some(mut edit) = keys.edit::<Hash>(key)? else { return Ok(None) };
    if edit.remove_expired(now, usize::MAX) == 0 {
        return Ok(Some(change(&mut edit)));
    }
    drop(edit);
    if announce_expired(keys, key) { Ok(None) } else { Ok(keys.edit::<Hash>(key)?.map(|mut edit| change(&mut edit))) }
}

/// Runs with the hash at a key, made where there is none or no field is left in it.
fn edit_or_new<R>(keys: &mut Write<'_>, key: &[u8], change: impl FnOnce(&mut Edit<'_, Hash>) -> R) -> Result<R, Error> {
    let now = keys.now();
    let mut edit = keys.edit_or_new::<Hash>(key)?;
    if edit.remove_expired(now, usize::MAX) == 0 {
        return Ok(change(&mut edit));
    }
    drop(edit);
    announce_expired(keys, key);
    Ok(change(&mut keys.edit_or_new::<Hash>(key)?))
}

/// Tells that fields of a hash were removed because their time was over, and removes the key if none is left.
pub(crate) fn announce_expired(keys: &mut Write<'_>, key: &[u8]) -> bool {
    keys.notify(Class::Hash, "hexpired", key);
    keys.remove_if_empty::<Hash>(key)
}

fn hset(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let added = set_all(keys, args, "hset")?;
    reply.count(added);
    Ok(())
}

fn hmset(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    set_all(keys, args, "hmset")?;
    reply.ok();
    Ok(())
}

fn set_all(keys: &mut Write<'_>, args: Args<'_>, name: &str) -> Result<usize, Error> {
    if !args.len().is_multiple_of(2) {
        return Err(wrong_number(name));
    }
    let key = args.at(1);
    let added =
        edit_or_new(keys, key, |hash| (2..args.len()).step_by(2).filter(|&at| hash.set(args.at(at), args.at(at + 1))).count())?;
    keys.notify(Class::Hash, "hset", key);
    Ok(added)
}

fn hsetnx(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (key, now) = (args.at(1), keys.now());
    let is_set = edit_or_new(keys, key, |hash| hash.value.get(args.at(2), now).is_none() && hash.set(args.at(2), args.at(3)))?;
    if is_set {
        keys.notify(Class::Hash, "hset", key);
    }
    reply.int(is_set.into());
    Ok(())
}

fn hdel(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let key = args.at(1);
    let removed = edit(keys, key, |hash| args.from(2).iter().filter(|field| hash.remove(field)).count())?.unwrap_or(0);
    if removed > 0 {
        keys.notify(Class::Hash, "hdel", key);
        keys.remove_if_empty::<Hash>(key);
    }
    reply.count(removed);
    Ok(())
}

fn hincrby(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (key, field, now) = (args.at(1), args.at(2), keys.now());
    let increment = int(args, 3)?;
    let sum = edit_or_new(keys, key, |hash| {
        let before = match hash.value.get(field, now) {
            None => 0,
            Some(Item::Int(number)) => number,
            Some(Item::Bytes(bytes)) => canonical_int(bytes).ok_or(error::HASH_NOT_INTEGER)?,
        };
        let sum = before.checked_add(increment).ok_or(error::OVERFLOW)?;
        hash.set_keeping_expiry(field, IntText::new().format(sum).as_bytes());
        Ok(sum)
    })??;
    keys.notify(Class::Hash, "hincrby", key);
    reply.int(sum);
    Ok(())
}

fn hincrbyfloat(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (key, field, now) = (args.at(1), args.at(2), keys.now());
    let increment = LongDouble::parse(args.at(3)).ok_or(error::NOT_FLOAT)?;
    if increment.is_infinite() {
        return Err(error::NAN_OR_INFINITY);
    }
    let sum = edit_or_new(keys, key, |hash| {
        let sum = match hash.value.get(field, now) {
            // Zero and a negative zero make zero.
            None => LongDouble::parse(b"0").expect("it is a number").plus(increment),
            Some(value) => {
                let before = LongDouble::parse(value.bytes(&mut IntText::new())).ok_or(error::HASH_NOT_FLOAT)?;
                before.plus(increment)
            }
        };
        if sum.is_infinite() {
            return Err(error::INCREMENT_NAN);
        }
        let text = sum.text();
        hash.set_keeping_expiry(field, text.as_bytes());
        Ok(text)
    })??;
    keys.notify(Class::Hash, "hincrbyfloat", key);
    reply.bulk(sum.as_bytes());
    Ok(())
}

fn hget(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let now = keys.now();
    let hash = keys.get::<Hash>(args.at(1))?;
    show(hash.and_then(|hash| hash.get(args.at(2), now)), reply);
    Ok(())
}

fn hmget(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let now = keys.now();
    let hash = keys.get::<Hash>(args.at(1))?;
    let fields = args.from(2).iter();
    reply.array(fields.len());
    fields.for_each(|field| show(hash.and_then(|hash| hash.get(field, now)), reply));
    Ok(())
}

fn show(value: Option<Item<'_>>, reply: &mut Reply) {
    match value {
        Some(value) => elements::bulk(reply, value),
        None => reply.null(),
    }
}

fn hstrlen(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let now = keys.now();
    let hash = keys.get::<Hash>(args.at(1))?;
    reply.count(hash.and_then(|hash| hash.get(args.at(2), now)).map_or(0, |value| value.len()));
    Ok(())
}

fn hexists(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let now = keys.now();
    let hash = keys.get::<Hash>(args.at(1))?;
    reply.int(hash.is_some_and(|hash| hash.get(args.at(2), now).is_some()).into());
    Ok(())
}

fn hlen(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let now = keys.now();
    let hash = keys.get::<Hash>(args.at(1))?;
    reply.count(hash.map_or(0, |hash| hash.live_len(now)));
    Ok(())
}

fn hgetall(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let now = keys.now();
    let Some(hash) = keys.get::<Hash>(args.at(1))? else {
        reply.map(0);
        return Ok(());
    };
    reply.map(hash.live_len(now));
    hash.iter(now).for_each(|pair| show_pair(pair, reply));
    Ok(())
}

fn show_pair((field, value): (Item<'_>, Item<'_>), reply: &mut Reply) {
    elements::bulk(reply, field);
    elements::bulk(reply, value);
}

fn hkeys(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    show_each(keys, args, reply, |(field, _)| field)
}

fn hvals(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    show_each(keys, args, reply, |(_, value)| value)
}

fn show_each(
    keys: &mut Read<'_>,
    args: Args<'_>,
    reply: &mut Reply,
    part: impl for<'i> Fn((Item<'i>, Item<'i>)) -> Item<'i>,
) -> Outcome {
    let now = keys.now();
    let Some(hash) = keys.get::<Hash>(args.at(1))? else {
        reply.array(0);
        return Ok(());
    };
    reply.array(hash.live_len(now));
    hash.iter(now).for_each(|pair| elements::bulk(reply, part(pair)));
    Ok(())
}

fn hscan(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (cursor, now) = (elements::cursor(args.at(2))?, keys.now());
    let Some(hash) = keys.get::<Hash>(args.at(1))? else {
        elements::empty_scan(reply);
        return Ok(());
    };
    let scan = Scan::read(args, 3, Walked::Fields)?;
    scan.run(cursor, reply, |cursor, reply, shown| {
        hash.scan(cursor, now, |field, value| {
            if !scan.wants(field) {
                return;
            }
            elements::bulk(reply, field);
            *shown += 1;
            if !scan.hides_values {
                elements::bulk(reply, value);
                *shown += 1;
            }
        })
    });
    Ok(())
}

fn hrandfield(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    if args.len() == 2 {
        return random_field(keys, args.at(1), reply);
    }
    let (count, now) = (elements::random_count(args, 2)?, keys.now());
    let with_values = match args.len() {
        3 => false,
        4 if args.is(3, "withvalues") => true,
        _ => return Err(error::SYNTAX),
    };
    if with_values && count.abs() > i64::MAX / 2 {
        return Err(error::OUT_OF_RANGE);
    }
    match keys.get::<Hash>(args.at(1))? {
        Some(hash) => random_fields(&Pool::of(hash, now), count, with_values, reply),
        None => {
            reply.array(0);
            Ok(())
        }
    }
}

fn random_field(keys: &mut Read<'_>, key: &[u8], reply: &mut Reply) -> Outcome {
    let now = keys.now();
    match keys.get::<Hash>(key)? {
        Some(hash) if !hash.has_expired(now) => elements::bulk(reply, hash.random().0),
        Some(hash) => {
            let pool = Pool::of(hash, now);
            let chosen = sample::distinct(1, pool.len()).first().map(|at| pool.at(*at as usize).0);
            show(chosen, reply);
        }
        None => reply.null(),
    }
    Ok(())
}

/// Fields to choose from by position.
enum Pool<'a> {
    All(&'a Hash),
    /// Where finding a field by its position takes long, or some must not be chosen.
    Listed(Vec<(Item<'a>, Item<'a>)>),
}

impl<'a> Pool<'a> {
    fn of(hash: &'a Hash, now: u64) -> Pool<'a> {
        if hash.is_walked() || hash.has_expired(now) { Pool::Listed(hash.iter(now).collect()) } else { Pool::All(hash) }
    }

    fn len(&self) -> usize {
        match self {
            Pool::All(hash) => hash.len(),
            Pool::Listed(fields) => fields.len(),
        }
    }

    fn at(&self, position: usize) -> (Item<'a>, Item<'a>) {
        match self {
            Pool::All(hash) => hash.at(position),
            Pool::Listed(fields) => fields[position],
        }
    }
}

fn random_fields(pool: &Pool<'_>, count: i64, with_values: bool, reply: &mut Reply) -> Outcome {
    let show = |reply: &mut Reply, at: usize| {
        let (field, value) = pool.at(at);
        if with_values && reply.is_resp3() {
            reply.array(2);
        }
        elements::bulk(reply, field);
        if with_values {
            elements::bulk(reply, value);
        }
    };
    let is_repeated = count < 0 && pool.len() > 0;
    let wanted = if is_repeated { count.unsigned_abs() } else { count.unsigned_abs().min(pool.len() as u64) };
    let elements_each = if with_values && !reply.is_resp3() { 2 } else { 1 };
    reply.array(wanted as usize * elements_each);
    if is_repeated {
        return elements::repeated(wanted, pool.len(), reply, show);
    }
    if wanted as usize == pool.len() {
        (0..pool.len()).for_each(|at| show(reply, at));
    } else {
        sample::distinct(wanted as usize, pool.len()).into_iter().for_each(|at| show(reply, at as usize));
    }
    Ok(())
}

/// Milliseconds of a unit that expiries are given in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Seconds = 1000,
    Milliseconds = 1,
}

impl Unit {
    /// A time in this unit, rounded up.
    fn of_ms(self, ms: i64) -> i64 {
        (ms + self as i64 - 1) / self as i64
    }
}

fn hexpire(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let from = keys.now();
    set_expiry(keys, args, reply, "hexpire", from, Unit::Seconds)
}

fn hpexpire(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let from = keys.now();
    set_expiry(keys, args, reply, "hpexpire", from, Unit::Milliseconds)
}

fn hexpireat(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    set_expiry(keys, args, reply, "hexpireat", 0, Unit::Seconds)
}

fn hpexpireat(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    set_expiry(keys, args, reply, "hpexpireat", 0, Unit::Milliseconds)
}

/// Under which condition a field's expiry is set.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Always,
    /// It has none.
    New,
    /// It has one.
    Existing,
    /// It is later than the one it has; lasting is latest.
    Later,
    /// It is earlier than the one it has, or the first.
    Earlier,
}

impl Condition {
    fn read(args: Args<'_>, at: usize) -> Option<Condition> {
        let words = [("nx", Condition::New), ("xx", Condition::Existing), ("gt", Condition::Later), ("lt", Condition::Earlier)];
        words.into_iter().find(|(word, _)| args.is(at, word)).map(|(_, condition)| condition)
    }

    fn holds(self, before: Option<u64>, expire_at: u64) -> bool {
        match self {
            Condition::Always => true,
            Condition::New => before.is_none(),
            Condition::Existing => before.is_some(),
            Condition::Later => before.is_some_and(|before| expire_at > before),
            Condition::Earlier => before.is_none_or(|before| expire_at < before),
        }
    }
}

/// What became of a field whose expiry was to be set, with its number in the reply.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expired {
    NoField = -2,
    Refused = 0,
    Set = 1,
    Removed = 2,
}

fn set_expiry(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply, name: &str, from: u64, unit: Unit) -> Outcome {
    let (key, now) = (args.at(1), keys.now());
    keys.peek_type::<Hash>(key)?;
    let expire_at = expire_at(args.at(2), name, from, unit)?;
    let condition = Condition::read(args, 3);
    let fields = fields(args, 3 + usize::from(condition.is_some()), error::NUMFIELDS_TOO_SMALL)?;
    let condition = condition.unwrap_or(Condition::Always);
    let outcomes = edit(keys, key, |hash| {
        fields.iter().map(|field| expire_field(hash, field, expire_at, condition, now)).collect::<Vec<_>>()
    })?;
    reply.array(fields.len());
    let Some(outcomes) = outcomes else {
        fields.iter().for_each(|_| reply.int(NO_FIELD));
        return Ok(());
    };
    outcomes.iter().for_each(|outcome| reply.int(*outcome as i64));
    if outcomes.contains(&Expired::Set) {
        keys.note_field_expiry(key);
        keys.notify(Class::Hash, "hexpire", key);
    }
    if outcomes.contains(&Expired::Removed) {
        keys.notify(Class::Hash, "hdel", key);
        keys.remove_if_empty::<Hash>(key);
    }
    Ok(())
}

fn expire_at(text: &[u8], name: &str, from: u64, unit: Unit) -> Result<u64, Error> {
    let time = parse_int(text)?;
    if time < 0 {
        return Err(error::EXPIRE_TIME_NEGATIVE);
    }
    let ms = time.checked_mul(unit as i64).and_then(|ms| ms.checked_add(from as i64));
    let ms = ms.filter(|&ms| ms <= EXPIRE_AT_MAX).ok_or_else(|| invalid_expire_time(name))?;
    Ok(ms as u64)
}

fn expire_field(hash: &mut Edit<'_, Hash>, field: &[u8], expire_at: u64, condition: Condition, now: u64) -> Expired {
    if hash.value.get(field, now).is_none() {
        return Expired::NoField;
    }
    if !condition.holds(hash.value.expiry(field), expire_at) {
        return Expired::Refused;
    }
    if expire_at <= now {
        hash.remove(field);
        return Expired::Removed;
    }
    hash.expire(field, Some(expire_at));
    Expired::Set
}

/// The fields after `FIELDS numfields`, which must be all that follows.
fn fields(args: Args<'_>, at: usize, too_small: Error) -> Result<Args<'_>, Error> {
    if !args.is(at, "fields") {
        return Err(error::FIELDS_MISSING);
    }
    let count = args.get(at + 1).and_then(canonical_int).filter(|&count| count > 0).ok_or(too_small)?;
    if count != args.len() as i64 - at as i64 - 2 {
        return Err(error::NUMFIELDS_MISMATCH);
    }
    Ok(args.from(at + 2))
}

/// The words that an expiry stands behind, and whether it counts from now.
const EXPIRY_WORDS: [(&str, Unit, bool); 4] = [
    ("ex", Unit::Seconds, true),
    ("px", Unit::Milliseconds, true),
    ("exat", Unit::Seconds, false),
    ("pxat", Unit::Milliseconds, false),
];

/// Takes an expiry, if the next arguments are one.
fn take_expiry(args: &mut Rest<'_>, name: &str, now: u64) -> Result<Option<Expiry>, Error> {
    for (word, unit, is_from_now) in EXPIRY_WORDS {
        if let Some(text) = args.value(word) {
            let from = if is_from_now { now } else { 0 };
            return expire_at(text, name, from, unit).map(|at| Some(Expiry::At(at)));
        }
    }
    Ok(None)
}

fn hgetdel(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (key, now) = (args.at(1), keys.now());
    keys.peek_type::<Hash>(key)?;
    let fields = fields(args, 2, error::NUMFIELDS_NOT_POSITIVE)?;
    reply.array(fields.len());
    let removed = edit(keys, key, |hash| {
        let removes = |field: &&[u8]| {
            show(hash.value.get(field, now), reply);
            hash.remove(field)
        };
        fields.iter().filter(removes).count()
    })?;
    match removed {
        None => fields.iter().for_each(|_| reply.null()),
        Some(0) => {}
        Some(_) => {
            keys.notify(Class::Hash, "hdel", key);
            keys.remove_if_empty::<Hash>(key);
        }
    }
    Ok(())
}

fn hgetex(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (key, now) = (args.at(1), keys.now());
    keys.peek_type::<Hash>(key)?;
    let mut rest = Rest::of(args, 2);
    let expiry = if rest.word("persist") { Some(Expiry::Never) } else { take_expiry(&mut rest, "hgetex", now)? };
    let expiry = expiry.unwrap_or(Expiry::Keep);
    if rest.is("fields") && rest.left() < 3 {
        return Err(wrong_number("hgetex"));
    }
    let fields = fields(args, rest.position(), error::NUMFIELDS_NOT_POSITIVE)?;
    reply.array(fields.len());
    let events = edit(keys, key, |hash| {
        let renewed = fields.iter().map(|field| {
            show(hash.value.get(field, now), reply);
            renew(hash, field, expiry, now)
        });
        renewed.collect::<Vec<_>>()
    })?;
    match events {
        None => fields.iter().for_each(|_| reply.null()),
        Some(events) => tell_renewed(keys, key, &events),
    }
    Ok(())
}

/// Changes when a field expires; tells the event that this is, if it changes anything.
fn renew(hash: &mut Edit<'_, Hash>, field: &[u8], expiry: Expiry, now: u64) -> Option<&'static str> {
    match expiry {
        Expiry::Keep => None,
        Expiry::Never => (persist_field(hash, field, now) > 0).then_some("hpersist"),
        Expiry::At(at) => match expire_field(hash, field, at, Condition::Always, now) {
            Expired::Set => Some("hexpire"),
            Expired::Removed => Some("hdel"),
            Expired::NoField | Expired::Refused => None,
        },
    }
}

fn tell_renewed(keys: &mut Write<'_>, key: &[u8], events: &[Option<&'static str>]) {
    let Some(event) = events.iter().find_map(|event| *event) else { return };
    keys.note_field_expiry(key);
    keys.notify(Class::Hash, event, key);
    keys.remove_if_empty::<Hash>(key);
}

/// What `HSETEX` says before the fields.
#[derive(Default)]
struct Together {
    /// Whether the hash must be there (`XX`) or not (`NX`).
    hash: Option<bool>,
    /// Whether all of the fields must be there (`FXX`) or none (`FNX`).
    fields: Option<bool>,
    expiry: Option<Expiry>,
}

impl Together {
    /// Takes what stands before `FIELDS`.
    fn read(args: &mut Rest<'_>, now: u64) -> Result<Together, Error> {
        let mut options = Together::default();
        while !args.is("fields") {
            if let Some(wanted) = args.one_of(&[("nx", false), ("xx", true)]) {
                let before = options.hash.replace(wanted);
                before.map_or(Ok(()), |_| Err(error::SYNTAX))?;
            } else if let Some(wanted) = args.one_of(&[("fnx", false), ("fxx", true)]) {
                let before = options.fields.replace(wanted);
                before.map_or(Ok(()), |_| Err(error::HSETEX_CONDITIONS))?;
            } else if args.word("keepttl") {
                options.set_expiry(Expiry::Keep)?;
            } else if let Some(expiry) = take_expiry(args, "hsetex", now)? {
                options.set_expiry(expiry)?;
            } else {
                return Err(unknown_argument(*args));
            }
        }
        Ok(options)
    }

    fn set_expiry(&mut self, expiry: Expiry) -> Outcome {
        self.expiry.replace(expiry).map_or(Ok(()), |_| Err(error::HSETEX_EXPIRIES))
    }

    /// Whether the hash and its fields are as they must be.
    fn holds(&self, keys: &mut Write<'_>, key: &[u8], pairs: Args<'_>) -> Result<bool, Error> {
        keys.peek_type::<Hash>(key)?;
        let now = keys.now();
        let hash = keys.inspect(key)?.and_then(Hash::of).filter(|hash| hash.live_len(now) > 0);
        let has = |field: &[u8]| hash.is_some_and(|hash| hash.get(field, now).is_some());
        let are_as_wanted = |wanted| (0..pairs.len()).step_by(2).all(|at| has(pairs.at(at)) == wanted);
        Ok(self.hash.is_none_or(|wanted| hash.is_some() == wanted) && self.fields.is_none_or(are_as_wanted))
    }
}

/// The error for a word that is no option.
fn unknown_argument(args: Rest<'_>) -> Error {
    match args.peek() {
        None => error::FIELDS_MISSING,
        Some(_) if EXPIRY_WORDS.iter().any(|(word, ..)| args.is(word)) => error::SYNTAX,
        Some(word) => Error::new(format!("ERR unknown argument: {}", String::from_utf8_lossy(word))),
    }
}

fn hsetex(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (key, now) = (args.at(1), keys.now());
    let mut rest = Rest::of(args, 2);
    let options = Together::read(&mut rest, now)?;
    let pairs = pairs(args, rest.position())?;
    if !options.holds(keys, key, pairs)? {
        reply.int(0);
        return Ok(());
    }
    let expiry = options.expiry.unwrap_or(Expiry::Never);
    edit_or_new(keys, key, |hash| {
        for at in (0..pairs.len()).step_by(2) {
            set_lasting(hash, pairs.at(at), pairs.at(at + 1), expiry);
            if expiry.is_over(now) {
                hash.remove(pairs.at(at));
            }
        }
    })?;
    keys.notify(Class::Hash, "hset", key);
    if expiry.is_over(now) {
        keys.notify(Class::Hash, "hdel", key);
        keys.remove_if_empty::<Hash>(key);
    } else if let Expiry::At(_) = expiry {
        keys.note_field_expiry(key);
        keys.notify(Class::Hash, "hexpire", key);
    }
    reply.int(1);
    Ok(())
}

/// The fields and values after `FIELDS numfields`, which must be all that follows.
fn pairs(args: Args<'_>, at: usize) -> Result<Args<'_>, Error> {
    let count = args.get(at + 1).and_then(canonical_int).filter(|&count| (1..=i64::from(i32::MAX)).contains(&count));
    let count = count.ok_or(error::HSETEX_NUMFIELDS)?;
    if 2 * count != args.len() as i64 - at as i64 - 2 {
        return Err(wrong_number("hsetex"));
    }
    Ok(args.from(at + 2))
}

fn set_lasting(hash: &mut Edit<'_, Hash>, field: &[u8], value: &[u8], expiry: Expiry) {
    match expiry {
        Expiry::Keep => hash.set_keeping_expiry(field, value),
        Expiry::Never => {
            hash.set(field, value);
        }
        Expiry::At(at) => hash.set_expiring(field, value, at),
    }
}

fn httl(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let from = keys.now();
    show_expiry(keys, args, reply, from, Unit::Seconds)
}

fn hpttl(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let from = keys.now();
    show_expiry(keys, args, reply, from, Unit::Milliseconds)
}

fn hexpiretime(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    show_expiry(keys, args, reply, 0, Unit::Seconds)
}

fn hpexpiretime(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    show_expiry(keys, args, reply, 0, Unit::Milliseconds)
}

fn show_expiry(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply, from: u64, unit: Unit) -> Outcome {
    let now = keys.now();
    let hash = keys.get::<Hash>(args.at(1))?;
    let fields = fields(args, 2, error::NUMFIELDS_NOT_POSITIVE)?;
    reply.array(fields.len());
    for field in fields.iter() {
        let found = hash.filter(|hash| hash.get(field, now).is_some());
        reply.int(match found.map(|hash| hash.expiry(field)) {
            None => NO_FIELD,
            Some(None) => NO_EXPIRY,
            Some(Some(expire_at)) => unit.of_ms(expire_at as i64 - from as i64),
        });
    }
    Ok(())
}

fn hpersist(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (key, now) = (args.at(1), keys.now());
    keys.peek_type::<Hash>(key)?;
    let fields = fields(args, 2, error::NUMFIELDS_NOT_POSITIVE)?;
    reply.array(fields.len());
    let persisted = edit(keys, key, |hash| {
        let outcomes = fields.iter().map(|field| persist_field(hash, field, now));
        outcomes.inspect(|outcome| reply.int(*outcome)).filter(|outcome| *outcome > 0).count()
    })?;
    match persisted {
        None => fields.iter().for_each(|_| reply.int(NO_FIELD)),
        Some(0) => {}
        Some(_) => keys.notify(Class::Hash, "hpersist", key),
    }
    Ok(())
}

fn persist_field(hash: &mut Edit<'_, Hash>, field: &[u8], now: u64) -> i64 {
    if hash.value.get(field, now).is_none() {
        return NO_FIELD;
    }
    if hash.value.expiry(field).is_none() {
        return NO_EXPIRY;
    }
    hash.expire(field, None);
    1
}
