//! Commands of Redis' `bitmap` group. What they mean is in `engine::types::bits`.

use crate::commands::args::{self, Rest, int};
use crate::commands::table::Group::Bitmap as GROUP;
use crate::commands::table::Keys;
use crate::commands::{Command, Outcome};
use crate::engine::error::{self, Error};
use crate::engine::keys::{Edit, Expiry, Read, Write};
use crate::engine::notify::Class;
use crate::engine::types::bits::{self, Combined, Field, Operation, Overflow};
use crate::engine::types::string::{IntText, Str, bytes_max};
use crate::resp::{Args, Reply};

/// The group's rows.
pub(crate) const COMMANDS: &[Command] = &[
    Command::write(GROUP, "setbit", setbit)
        .args(3)
        .key()
        .grows()
        .since("2.2.0", "O(1)")
        .doc("key offset value", "Sets a bit of a string and returns what it was."),
    Command::read(GROUP, "getbit", getbit)
        .args(2)
        .key()
        .fast()
        .since("2.2.0", "O(1)")
        .doc("key offset", "Returns a bit of a string."),
    Command::read(GROUP, "bitcount", bitcount)
        .args_min(1)
        .key()
        .since("2.6.0", "O(N), N bytes looked at")
        .doc("key [start end [BYTE | BIT]]", "Counts the bits set in a string or a part of it."),
    Command::read(GROUP, "bitpos", bitpos)
        .args_min(2)
        .key()
        .since("2.8.7", "O(N), N bytes looked at")
        .doc("key bit [start [end [BYTE | BIT]]]", "Finds the first bit that is set, or that is not, in a string or a part of it."),
    Command::write(GROUP, "bitop", bitop)
        .args_min(3)
        .keys(Keys::Range { first: 2, last: -1, step: 1 })
        .grows()
        .since("2.6.0", "O(N), N bytes of the longest string")
        .doc("<AND | OR | XOR | NOT | DIFF | DIFF1 | ANDOR | ONE> destkey key [key ...]", "Combines strings bit by bit and stores the result."),
    Command::write(GROUP, "bitfield", bitfield).args_min(1).key().grows().since("3.2.0", "O(1) for each operation").doc(
        "key [GET encoding offset | [OVERFLOW <WRAP | SAT | FAIL>] <SET encoding offset value | INCRBY encoding offset increment> [...]]",
        "Reads, sets and adds to integers of any width within a string.",
    ),
    Command::read(GROUP, "bitfield_ro", bitfield_ro)
        .args_min(1)
        .key()
        .fast()
        .since("6.0.0", "O(1) for each operation")
        .doc("key [GET encoding offset [GET encoding offset ...]]", "Reads integers of any width within a string."),
];

fn setbit(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (key, at) = (args.at(1), bit_offset(args.at(2))?);
    let value = match args.at(3) {
        b"0" => false,
        b"1" => true,
        _ => return Err(error::BIT_VALUE),
    };
    let mut edit = keys.edit_or_new::<Str>(key)?;
    let is_longer = grow(&mut edit, at / 8 + 1);
    let bytes = edit.value.growing();
    let before = bits::set(bytes, at, value);
    let changes = is_longer || before != value;
    if changes {
        edit.log.write_at(at / 8, &bytes[at / 8..=at / 8]);
    }
    drop(edit);
    if changes {
        keys.notify(Class::String, "setbit", key);
    }
    reply.int(i64::from(before));
    Ok(())
}

/// Fills a string up to a length; tells whether it was shorter, or new. The caller records the last byte at least.
fn grow(edit: &mut Edit<'_, Str>, len: usize) -> bool {
    let is_longer = edit.value.len() < len;
    if is_longer {
        edit.value.write_at(len, b"");
    }
    is_longer || edit.is_new
}

/// A bit's position that a string can have.
fn bit_offset(text: &[u8]) -> Result<usize, Error> {
    let offset = args::parse_int(text).ok().and_then(|offset| usize::try_from(offset).ok());
    offset.filter(|offset| offset / 8 < bytes_max()).ok_or(error::BIT_OFFSET)
}

fn getbit(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let at = bit_offset(args.at(2))?;
    let bit = keys.get::<Str>(args.at(1))?.is_some_and(|string| bits::get(string.bytes(&mut IntText::new()), at));
    reply.int(i64::from(bit));
    Ok(())
}

/// Whether positions count bits (`BIT`) rather than bytes (`BYTE`).
fn counts_bits(args: Args<'_>, at: usize) -> Result<bool, Error> {
    if args.is(at, "bit") || at >= args.len() || args.is(at, "byte") { Ok(args.is(at, "bit")) } else { Err(error::SYNTAX) }
}

/// The bits from `start` to `end`, both included, of so many bytes. Negative positions count from the end.
fn bit_range(len: usize, start: i64, end: i64, counts_bits: bool) -> std::ops::Range<usize> {
    let (units, unit_bits) = if counts_bits { (len as i64 * 8, 1) } else { (len as i64, 8) };
    let from_end = |at: i64| if at < 0 { (units + at).max(0) } else { at };
    let (start, end) = (from_end(start), from_end(end).min(units - 1));
    if start > end { 0..0 } else { start as usize * unit_bits..(end as usize + 1) * unit_bits }
}

fn bitcount(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    if args.len() == 3 || args.len() > 5 {
        return Err(error::SYNTAX);
    }
    let (start, end) = if args.len() == 2 { (0, -1) } else { (int(args, 2)?, int(args, 3)?) };
    let counts_bits = counts_bits(args, 4)?;
    let mut text = IntText::new();
    let bytes = keys.get::<Str>(args.at(1))?.map_or(&b""[..], |string| string.bytes(&mut text));
    // Two negative positions in the wrong order are an empty range, also where both lie before the start.
    let is_reversed = start < 0 && end < 0 && start > end;
    let range = if is_reversed { 0..0 } else { bit_range(bytes.len(), start, end, counts_bits) };
    reply.count(bits::count(bytes, range));
    Ok(())
}

fn bitpos(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let value = match int(args, 2)? {
        0 => false,
        1 => true,
        _ => return Err(error::BIT_WANTED),
    };
    if args.len() > 6 {
        return Err(error::SYNTAX);
    }
    let start = if args.len() > 3 { int(args, 3)? } else { 0 };
    let counts_bits = counts_bits(args, 5)?;
    let end = if args.len() > 4 { Some(int(args, 4)?) } else { None };
    let mut text = IntText::new();
    let Some(string) = keys.get::<Str>(args.at(1))? else {
        // What is missing counts as zeros without end.
        reply.int(if value { -1 } else { 0 });
        return Ok(());
    };
    let bytes = string.bytes(&mut text);
    let range = bit_range(bytes.len(), start, end.unwrap_or(-1), counts_bits);
    let is_empty = range.is_empty();
    reply.int(match bits::find(bytes, range, value) {
        Some(at) => at as i64,
        // Without an end, the zeros behind the string count too.
        None if !value && end.is_none() && !is_empty => bytes.len() as i64 * 8,
        None => -1,
    });
    Ok(())
}

const OPERATIONS: [(&str, Operation); 8] = [
    ("and", Operation::And),
    ("or", Operation::Or),
    ("xor", Operation::Xor),
    ("not", Operation::Not),
    ("diff", Operation::Diff),
    ("diff1", Operation::Diff1),
    ("andor", Operation::AndOr),
    ("one", Operation::One),
];

fn bitop(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (_, operation) = OPERATIONS.into_iter().find(|(name, _)| args.is(1, name)).ok_or(error::SYNTAX)?;
    match operation {
        Operation::Not if args.len() != 4 => return Err(error::BITOP_NOT),
        Operation::Diff if args.len() == 4 => return Err(error::BITOP_DIFF),
        Operation::Diff1 if args.len() == 4 => return Err(error::BITOP_DIFF1),
        Operation::AndOr if args.len() == 4 => return Err(error::BITOP_ANDOR),
        _ => {}
    }
    let destination = args.at(2);
    let mut text = IntText::new();
    let first = keys.get::<Str>(args.at(3))?.map_or(&b""[..], |string| string.bytes(&mut text));
    let mut combined = Combined::of(operation, first);
    for key in args.from(4).iter() {
        let other = keys.get::<Str>(key)?.map_or(&b""[..], |string| string.bytes(&mut text));
        combined.add(other);
    }
    let result = combined.bits();
    let len = result.len();
    if len > 0 {
        keys.put(destination, Str::from(result), Expiry::Never);
        keys.notify(Class::String, "set", destination);
    } else if keys.remove(destination) {
        keys.notify(Class::Generic, "del", destination);
    }
    reply.count(len);
    Ok(())
}

/// One operation of `BITFIELD`.
struct Step {
    field: Field,
    at: usize,
    change: Option<Change>,
}

struct Change {
    /// Whether the operand is added (`INCRBY`) rather than set (`SET`).
    adds: bool,
    operand: i64,
    overflow: Overflow,
}

impl Step {
    /// Reads a field, where it lies, and how it is changed: whether by adding, the operand, and what is done where it does not fit.
    fn read(field: &[u8], at: &[u8], change: Option<(bool, &[u8], Overflow)>) -> Result<Step, Error> {
        let field = Field::parse(field).ok_or(error::BITFIELD_TYPE)?;
        let at = field_offset(at, field)?;
        let read = |(adds, operand, overflow)| Ok(Change { adds, operand: args::parse_int(operand)?, overflow });
        Ok(Step { field, at, change: change.map(read).transpose()? })
    }

    /// The bytes its field lies in.
    fn bytes(&self) -> std::ops::Range<usize> {
        self.at / 8..(self.at + self.field.bits as usize).div_ceil(8)
    }
}

fn steps(args: Args<'_>) -> Result<Vec<Step>, Error> {
    let (mut steps, mut overflow, mut args) = (Vec::new(), Overflow::default(), Rest::of(args, 2));
    loop {
        if args.left() > 1 && args.word("overflow") {
            let ways = [("wrap", Overflow::Wrap), ("sat", Overflow::Saturate), ("fail", Overflow::Fail)];
            overflow = args.one_of(&ways).ok_or(error::BITFIELD_OVERFLOW)?;
        } else if let Some([field, at]) = args.values("get") {
            steps.push(Step::read(field, at, None)?);
        } else if let Some([field, at, operand]) = args.values("set") {
            steps.push(Step::read(field, at, Some((false, operand, overflow)))?);
        } else if let Some([field, at, operand]) = args.values("incrby") {
            steps.push(Step::read(field, at, Some((true, operand, overflow)))?);
        } else {
            args.end()?;
            return Ok(steps);
        }
    }
}

/// A field's position in bits; `#3` means the fourth field of this width.
fn field_offset(text: &[u8], field: Field) -> Result<usize, Error> {
    let Some(number) = text.strip_prefix(b"#") else { return bit_offset(text) };
    let number = args::parse_int(number).ok().and_then(|number| usize::try_from(number).ok());
    let offset = number.and_then(|number| number.checked_mul(field.bits as usize));
    offset.filter(|offset| offset / 8 < bytes_max()).ok_or(error::BIT_OFFSET)
}

fn bitfield_ro(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let steps = steps(args)?;
    if steps.iter().any(|step| step.change.is_some()) {
        return Err(error::BITFIELD_RO);
    }
    read_fields(keys, args.at(1), &steps, reply)
}

fn read_fields(keys: &mut Read<'_>, key: &[u8], steps: &[Step], reply: &mut Reply) -> Outcome {
    let mut text = IntText::new();
    let bytes = keys.get::<Str>(key)?.map_or(&b""[..], |string| string.bytes(&mut text));
    reply.array(steps.len());
    steps.iter().for_each(|step| reply.int(step.field.read(bytes, step.at)));
    Ok(())
}

fn bitfield(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (key, steps) = (args.at(1), steps(args)?);
    let Some(len) = steps.iter().filter(|step| step.change.is_some()).map(|step| step.bytes().end).max() else {
        return read_fields(keys, key, &steps, reply);
    };
    let mut edit = keys.edit_or_new::<Str>(key)?;
    let is_longer = grow(&mut edit, len);
    let bytes = edit.value.growing();
    reply.array(steps.len());
    // Whether the string's new length follows from what is recorded.
    let mut says_length = !is_longer;
    let mut changes = false;
    for step in &steps {
        match take_step(step, bytes, reply) {
            Taken::Changed => {
                edit.log.write_at(step.bytes().start, &bytes[step.bytes()]);
                says_length |= step.bytes().end == len;
                changes = true;
            }
            Taken::WroteTheSame => changes |= is_longer,
            Taken::WroteNothing => {}
        }
    }
    if !says_length {
        edit.log.write_at(len - 1, &bytes[len - 1..len]);
    }
    drop(edit);
    if changes {
        keys.notify(Class::String, "setbit", key);
    }
    Ok(())
}

/// What an operation of `BITFIELD` did to the bytes.
enum Taken {
    WroteNothing,
    WroteTheSame,
    Changed,
}

/// Carries an operation out and replies with what it gives.
fn take_step(step: &Step, bytes: &mut [u8], reply: &mut Reply) -> Taken {
    let before = step.field.read(bytes, step.at);
    let Some(change) = &step.change else {
        reply.int(before);
        return Taken::WroteNothing;
    };
    let wanted = if change.adds { i128::from(before) + i128::from(change.operand) } else { step.field.given(change.operand) };
    let Some(after) = step.field.fit(wanted, change.overflow) else {
        reply.null();
        return Taken::WroteNothing;
    };
    step.field.write(bytes, step.at, after);
    reply.int(if change.adds { after } else { before });
    if before == after { Taken::WroteTheSame } else { Taken::Changed }
}
