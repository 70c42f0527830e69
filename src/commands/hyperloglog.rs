//! Commands of Redis' `hyperloglog` group. What they mean is in `engine::types::hyperloglog`.

use smallvec::SmallVec;

use crate::commands::session::Session;
use crate::commands::table::Group::Hyperloglog as GROUP;
use crate::commands::table::{Keys, flag};
use crate::commands::{Command, Outcome};
use crate::engine::error::{self, Error};
use crate::engine::keys::{Read, Write};
use crate::engine::log::RowLog;
use crate::engine::notify::Class;
use crate::engine::types::hyperloglog::{self as hll, Corrupted, Union};
use crate::engine::types::string::{IntText, Str};
use crate::engine::value::Value;
use crate::limits;
use crate::resp::{Args, Reply};

const ALL: Keys = Keys::Range { first: 1, last: -1, step: 1 };

/// Changed registers above which a dense HyperLogLog is recorded as a whole: about where its bytes are fewer than theirs.
const RECORDED_REGISTERS_MAX: usize = 256;

/// The group's rows.
pub(crate) const COMMANDS: &[Command] = &[
    Command::write(GROUP, "pfadd", pfadd)
        .args_min(1)
        .key()
        .grows()
        .fast()
        .since("2.8.9", "O(1) for each element")
        .doc("key [element [element ...]]", "Adds elements to a HyperLogLog; tells whether its count may have changed."),
    Command::write(GROUP, "pfcount", pfcount)
        .args_min(1)
        .keys(ALL)
        .flags(flag::READ_ONLY)
        .since("2.8.9", "O(1) for one key that did not change, O(N) for N keys")
        .doc("key [key ...]", "Estimates how many different elements a HyperLogLog, or several together, have seen."),
    Command::write(GROUP, "pfmerge", pfmerge)
        .args_min(1)
        .keys(ALL)
        .grows()
        .since("2.8.9", "O(N), N HyperLogLogs to merge")
        .doc("destkey [sourcekey [sourcekey ...]]", "Adds what several HyperLogLogs have seen to another."),
    Command::write(GROUP, "pfdebug", pfdebug)
        .args(2)
        .keys(Keys::Range { first: 2, last: 2, step: 1 })
        .grows()
        .flags(flag::ADMIN)
        .since("2.8.9", "O(N), N registers")
        .doc("<GETREG | DECODE | ENCODING | TODENSE> key", "Shows a HyperLogLog from within, for tests."),
    Command::session(GROUP, "pfselftest", pfselftest)
        .args(0)
        .flags(flag::ADMIN)
        .since("2.8.9", "O(N), N registers")
        .doc("", "Checks that HyperLogLogs count as they should, for tests."),
];

fn corrupted(_: Corrupted) -> Error {
    error::HYPERLOGLOG_CORRUPTED
}

fn sparse_bytes_max() -> usize {
    limits::get(&limits::HLL_SPARSE_MAX_BYTES)
}

/// The HyperLogLog at a key.
fn find<'k>(keys: &'k mut Read<'_>, key: &[u8], text: &'k mut IntText) -> Result<Option<&'k [u8]>, Error> {
    match keys.get::<Str>(key)?.map(|string| string.bytes(text)) {
        Some(bytes) if !hll::is_valid(bytes) => Err(error::NOT_HYPERLOGLOG),
        found => Ok(found),
    }
}

fn pfadd(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let key = args.at(1);
    let mut edit = keys.edit_or_new::<Str>(key)?;
    if edit.is_new {
        *edit.value = Str::raw(&hll::empty());
    } else if !hll::is_valid(edit.value.bytes(&mut IntText::new())) {
        return Err(error::NOT_HYPERLOGLOG);
    }
    let bytes = edit.value.growing();
    let before = Before::of(bytes);
    let registers = match add_all(bytes, args.from(2)) {
        Ok(registers) => registers,
        Err(error) => {
            before.restore(bytes);
            return Err(corrupted(error));
        }
    };
    let changes = edit.is_new || !registers.is_empty();
    if edit.is_new {
        hll::mark_stale(bytes);
        edit.log.put(b"", bytes);
    } else if changes {
        hll::mark_stale(bytes);
        before.record(bytes, &registers, &mut edit.log);
    }
    drop(edit);
    if changes {
        keys.notify(Class::String, "pfadd", key);
    }
    reply.int(i64::from(changes));
    Ok(())
}

/// Adds elements; tells which registers changed.
fn add_all(bytes: &mut Vec<u8>, elements: Args<'_>) -> Result<SmallVec<[usize; 16]>, Corrupted> {
    let max = sparse_bytes_max();
    elements.iter().filter_map(|element| hll::add(bytes, element, max).transpose()).collect()
}

/// What a HyperLogLog was before it was changed, as far as that is needed to record the change in few bytes.
enum Before {
    Sparse(Vec<u8>),
    Dense { was_stale: bool },
}

impl Before {
    fn of(bytes: &[u8]) -> Before {
        if hll::is_sparse(bytes) {
            Before::Sparse(bytes.to_vec())
        } else {
            Before::Dense { was_stale: hll::cached_count(bytes).is_none() }
        }
    }

    /// Takes changes back. Dense ones are never found corrupted, so there is nothing to take back from them.
    fn restore(self, bytes: &mut Vec<u8>) {
        if let Before::Sparse(before) = self {
            *bytes = before;
        }
    }

    fn record(&self, after: &[u8], registers: &[usize], log: &mut RowLog<'_>) {
        match self {
            Before::Dense { was_stale } if registers.len() <= RECORDED_REGISTERS_MAX => {
                for &register in registers {
                    let place = hll::dense_bytes(register);
                    log.write_at(place.start, &after[place]);
                }
                if !was_stale {
                    log.write_at(hll::STALE_BYTE, &after[hll::STALE_BYTE..=hll::STALE_BYTE]);
                }
            }
            Before::Sparse(before) if hll::is_sparse(after) && before.len() <= after.len() => {
                record_difference(before, after, log)
            }
            _ => log.put(b"", after),
        }
    }
}

/// Records from where two strings begin to differ; the later one must not be shorter.
fn record_difference(before: &[u8], after: &[u8], log: &mut RowLog<'_>) {
    let start = before.iter().zip(after).take_while(|(one, other)| one == other).count();
    let same_at_end = if before.len() == after.len() {
        before[start..].iter().rev().zip(after[start..].iter().rev()).take_while(|(one, other)| one == other).count()
    } else {
        0
    };
    log.write_at(start, &after[start..after.len() - same_at_end]);
}

fn pfcount(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    if args.len() == 2 {
        return count_one(keys, args.at(1), reply);
    }
    let mut union = Union::default();
    for key in args.from(1).iter() {
        if let Some(bytes) = find(keys, key, &mut IntText::new())? {
            union.add(bytes).map_err(corrupted)?;
        }
    }
    reply.int(union.count() as i64);
    Ok(())
}

fn count_one(keys: &mut Write<'_>, key: &[u8], reply: &mut Reply) -> Outcome {
    let mut text = IntText::new();
    let Some(bytes) = find(keys, key, &mut text)? else {
        reply.int(0);
        return Ok(());
    };
    let count = match hll::cached_count(bytes) {
        Some(count) => count,
        None => {
            let count = hll::count(bytes).map_err(corrupted)?;
            keep_count(keys, key, count)?;
            count
        }
    };
    reply.int(count as i64);
    Ok(())
}

/// Keeps a count in the HyperLogLog it was computed from.
fn keep_count(keys: &mut Write<'_>, key: &[u8], count: u64) -> Outcome {
    if let Some(mut edit) = keys.edit::<Str>(key)? {
        let bytes = edit.value.growing();
        let place = hll::cache_count(bytes, count);
        edit.log.write_at(place.start, &bytes[place]);
    }
    Ok(())
}

fn pfmerge(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let destination = args.at(1);
    let (mut union, mut is_sparse) = (Union::default(), true);
    for key in args.from(1).iter() {
        if let Some(bytes) = find(keys, key, &mut IntText::new())? {
            is_sparse &= hll::is_sparse(bytes);
            union.add(bytes).map_err(corrupted)?;
        }
    }
    let mut edit = keys.edit_or_new::<Str>(destination)?;
    if edit.is_new {
        *edit.value = Str::raw(&hll::empty());
    }
    let bytes = edit.value.growing();
    // The union was made of valid ones, the destination among them, so none of these steps can fail halfway.
    if !is_sparse {
        hll::make_dense(bytes).map_err(corrupted)?;
    }
    union.write_to(bytes, sparse_bytes_max()).map_err(corrupted)?;
    edit.log.put(b"", bytes);
    drop(edit);
    keys.notify(Class::String, "pfadd", destination);
    reply.ok();
    Ok(())
}

fn pfdebug(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (word, key) = (args.at(1), args.at(2));
    let mut text = IntText::new();
    keys.peek_type::<Str>(key)?;
    let Some(Value::String(string)) = keys.inspect(key)? else { return Err(error::NO_SPECIFIED_KEY) };
    let bytes = string.bytes(&mut text);
    if !hll::is_valid(bytes) {
        return Err(error::NOT_HYPERLOGLOG);
    }
    if args.is(1, "getreg") {
        let registers = hll::registers(bytes).map_err(corrupted)?;
        make_dense(keys, key)?;
        reply.array(registers.len());
        registers.iter().for_each(|&value| reply.int(value.into()));
    } else if args.is(1, "decode") {
        if !hll::is_sparse(bytes) {
            return Err(error::HYPERLOGLOG_DENSE);
        }
        reply.bulk(hll::describe_runs(bytes).as_bytes());
    } else if args.is(1, "encoding") {
        reply.simple(if hll::is_sparse(bytes) { "sparse" } else { "dense" });
    } else if args.is(1, "todense") {
        let was_sparse = make_dense(keys, key)?;
        reply.int(i64::from(was_sparse));
    } else {
        return Err(Error::new(format!("ERR Unknown PFDEBUG subcommand '{}'", String::from_utf8_lossy(word))));
    }
    Ok(())
}

/// Gives the HyperLogLog at a key the dense form; tells whether it was sparse.
fn make_dense(keys: &mut Write<'_>, key: &[u8]) -> Result<bool, Error> {
    let Some(mut edit) = keys.edit::<Str>(key)? else { return Ok(false) };
    let bytes = edit.value.growing();
    let was_sparse = hll::is_sparse(bytes);
    if was_sparse {
        hll::make_dense(bytes).map_err(corrupted)?;
        edit.log.put(b"", bytes);
    }
    Ok(was_sparse)
}

fn pfselftest(_: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    let (mut sparse, mut dense) = (hll::empty(), hll::empty());
    hll::make_dense(&mut dense).map_err(corrupted)?;
    for number in 1..=10_000u32 {
        hll::add(&mut sparse, &number.to_le_bytes(), sparse_bytes_max()).map_err(corrupted)?;
        hll::add(&mut dense, &number.to_le_bytes(), sparse_bytes_max()).map_err(corrupted)?;
        if !number.is_power_of_two() && number != 10_000 {
            continue;
        }
        let (one, other) = (hll::count(&sparse).map_err(corrupted)?, hll::count(&dense).map_err(corrupted)?);
        // Six times the standard error of so many registers.
        let error_max = f64::from(number) * 6.0 * 1.04 / 128.0;
        if one != other || (one as f64 - f64::from(number)).abs() > error_max.max(1.0) {
            return Err(Error::new(format!("TESTFAILED sparse and dense count {number} elements as {one} and {other}")));
        }
    }
    reply.ok();
    Ok(())
}
