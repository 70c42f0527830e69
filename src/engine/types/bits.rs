//! Bits of byte strings: counting them, finding them, and integers of any width that start at any bit. Bit 0 is the highest of
//! the first byte. What lies beyond the end counts as zeros.

use std::ops::Range;

/// How many bits in a range of bits are set. The range must lie within the bytes.
pub(crate) fn count(bytes: &[u8], range: Range<usize>) -> usize {
    let (head, whole, tail) = split(bytes, range);
    // Eight bytes at a time: the compiler makes one instruction of each.
    let (words, rest) = whole.as_chunks::<8>();
    let in_words: usize = words.iter().map(|word| u64::from_le_bytes(*word).count_ones() as usize).sum();
    let in_rest: usize = rest.iter().map(|byte| byte.count_ones() as usize).sum();
    in_words + in_rest + head.count_ones() as usize + tail.count_ones() as usize
}

/// Cuts a range of bits into the whole bytes within, and what it has of the bytes before and behind them.
fn split(bytes: &[u8], range: Range<usize>) -> (u8, &[u8], u8) {
    if range.is_empty() {
        return (0, &[], 0);
    }
    let (first, last) = (range.start / 8, range.end / 8);
    let from_start = 0xff >> (range.start % 8);
    let to_end = !(0xff >> (range.end % 8));
    let tail = |mask: u8| if range.end.is_multiple_of(8) { 0 } else { bytes[last] & mask };
    if range.start.is_multiple_of(8) {
        return (0, &bytes[first..last], tail(to_end));
    }
    if first == last {
        return (bytes[first] & from_start & to_end, &[], 0);
    }
    (bytes[first] & from_start, &bytes[first + 1..last], tail(to_end))
}

/// The first bit of this value in a range of bits. The range must lie within the bytes.
pub(crate) fn find(bytes: &[u8], range: Range<usize>, value: bool) -> Option<usize> {
    let skipped = if value { 0x00 } else { 0xff };
    let mut at = range.start;
    while at < range.end {
        if at.is_multiple_of(8) && bytes[at / 8] == skipped {
            at += 8 * run_of(skipped, &bytes[at / 8..range.end.div_ceil(8)]);
        } else if get(bytes, at) == value {
            return Some(at);
        } else {
            at += 1;
        }
    }
    None
}

/// How many bytes at the beginning are this one.
fn run_of(byte: u8, bytes: &[u8]) -> usize {
    // Many at a time without a branch in between: the compiler makes a few wide instructions of it.
    let (blocks, _) = bytes.as_chunks::<64>();
    let is_run = |block: &&[u8; 64]| block.iter().fold(0, |differing, other| differing | (other ^ byte)) == 0;
    let whole = 64 * blocks.iter().take_while(is_run).count();
    whole + bytes[whole..].iter().take_while(|&&other| other == byte).count()
}

/// A bit.
pub(crate) fn get(bytes: &[u8], at: usize) -> bool {
    bytes.get(at / 8).is_some_and(|byte| byte & mask(at) != 0)
}

/// Sets a bit, which must lie within the bytes; tells what it was before.
pub(crate) fn set(bytes: &mut [u8], at: usize, value: bool) -> bool {
    let byte = &mut bytes[at / 8];
    let before = *byte & mask(at) != 0;
    if value {
        *byte |= mask(at)
    } else {
        *byte &= !mask(at)
    }
    before
}

fn mask(at: usize) -> u8 {
    0x80 >> (at % 8)
}

/// Bytes a field can lie in: 64 bits that do not start with a byte.
const WINDOW_BYTES: usize = 9;

/// The width of an integer within a string, and whether it has a sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field {
    /// Whether it is a two's complement.
    pub is_signed: bool,
    /// From 1 to 64, to 63 without a sign.
    pub bits: u32,
}

/// What becomes of an integer that does not fit its field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Overflow {
    /// Its low bits stay.
    #[default]
    Wrap,
    /// The nearest one that fits.
    Saturate,
    /// Nothing is written.
    Fail,
}

impl Field {
    /// Reads `i16`, `u8` and so on.
    pub(crate) fn parse(text: &[u8]) -> Option<Field> {
        let (is_signed, bits) = match text {
            [b'i', bits @ ..] => (true, bits),
            [b'u', bits @ ..] => (false, bits),
            _ => return None,
        };
        let bits = super::string::canonical_int(bits)?;
        let bits_max = if is_signed { 64 } else { 63 };
        (1..=bits_max).contains(&bits).then_some(Field { is_signed, bits: bits as u32 })
    }

    /// The integer that starts at a bit.
    pub(crate) fn read(self, bytes: &[u8], at: usize) -> i64 {
        let window = (0..WINDOW_BYTES)
            .fold(0u128, |window, place| window << 8 | u128::from(bytes.get(at / 8 + place).copied().unwrap_or(0)));
        self.extended((window >> self.shift(at)) as u64)
    }

    /// Writes an integer that fits, from a bit on; all of the field must lie within the bytes.
    pub(crate) fn write(self, bytes: &mut [u8], at: usize, number: i64) {
        let mask = (1u128 << self.bits) - 1;
        let (number, mask) = ((number as u128 & mask) << self.shift(at), mask << self.shift(at));
        for (place, byte) in bytes[at / 8..].iter_mut().take(WINDOW_BYTES).enumerate() {
            let shift = 8 * (WINDOW_BYTES - 1 - place);
            *byte = *byte & !(mask >> shift) as u8 | (number >> shift) as u8;
        }
    }

    /// How many bits are behind the field in the window that begins with its first byte.
    fn shift(self, at: usize) -> usize {
        8 * WINDOW_BYTES - at % 8 - self.bits as usize
    }

    /// A number as the field can hold it; the flag tells whether it overflowed. None if then nothing shall be written.
    pub(crate) fn fit(self, number: i128, overflow: Overflow) -> Option<i64> {
        let (low, high) = self.bounds();
        if (low..=high).contains(&number) {
            return Some(number as i64);
        }
        match overflow {
            Overflow::Wrap => Some(self.extended(number as u64)),
            Overflow::Saturate => Some(number.clamp(low, high) as i64),
            Overflow::Fail => None,
        }
    }

    /// A number given by a client, as the field sees it: without a sign, one below zero is a very large one.
    pub(crate) fn given(self, number: i64) -> i128 {
        if self.is_signed { i128::from(number) } else { i128::from(number as u64) }
    }

    fn bounds(self) -> (i128, i128) {
        if self.is_signed { (-(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1) } else { (0, (1 << self.bits) - 1) }
    }

    /// The number that low bits of a word are, its sign extended.
    fn extended(self, raw: u64) -> i64 {
        let unused = 64 - self.bits;
        if self.is_signed { ((raw << unused) as i64) >> unused } else { (raw << unused >> unused) as i64 }
    }
}

/// The ways `BITOP` combines strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Bits set in all.
    And,
    /// Bits set in any.
    Or,
    /// Bits set in an odd number of them.
    Xor,
    /// Bits not set in the first.
    Not,
    /// Bits set in the first and in no other.
    Diff,
    /// Bits set in any other and not in the first.
    Diff1,
    /// Bits set in the first and in any other.
    AndOr,
    /// Bits set in exactly one of them.
    One,
}

impl Operation {
    /// Combines another string into one, bit by bit; the shorter one is filled up with zeros. `Not` and `One` leave it as it is.
    fn combine(self, into: &mut Vec<u8>, other: &[u8]) {
        if into.len() < other.len() {
            into.resize(other.len(), 0);
        }
        let (common, beyond) = into.split_at_mut(other.len());
        let pairs = common.iter_mut().zip(other);
        match self {
            Operation::And | Operation::AndOr => {
                pairs.for_each(|(byte, other)| *byte &= other);
                beyond.fill(0);
            }
            Operation::Or => pairs.for_each(|(byte, other)| *byte |= other),
            Operation::Xor => pairs.for_each(|(byte, other)| *byte ^= other),
            Operation::Diff => pairs.for_each(|(byte, other)| *byte &= !other),
            Operation::Diff1 => {
                pairs.for_each(|(byte, other)| *byte = !*byte & other);
                beyond.fill(0);
            }
            Operation::Not | Operation::One => {}
        }
    }
}

/// Strings that are combined one after another.
pub(crate) struct Combined {
    operation: Operation,
    result: Vec<u8>,
    /// What any string but the first has; for `One`, what more than one have.
    others: Vec<u8>,
}

impl Combined {
    /// Begins with the first string.
    pub(crate) fn of(operation: Operation, first: &[u8]) -> Combined {
        let mut result = first.to_vec();
        if operation == Operation::Not {
            result.iter_mut().for_each(|byte| *byte = !*byte);
        }
        Combined { operation, result, others: Vec::new() }
    }

    /// Adds the next string.
    pub(crate) fn add(&mut self, string: &[u8]) {
        match self.operation {
            Operation::Diff | Operation::Diff1 | Operation::AndOr => Operation::Or.combine(&mut self.others, string),
            Operation::One => {
                let common = self.result.len().min(string.len());
                self.others.resize(self.others.len().max(common), 0);
                let pairs = self.result.iter().zip(string);
                self.others.iter_mut().zip(pairs).for_each(|(again, (seen, byte))| *again |= seen & byte);
                Operation::Or.combine(&mut self.result, string);
            }
            operation => operation.combine(&mut self.result, string),
        }
    }

    /// What they make, as long as the longest of them.
    pub(crate) fn bits(mut self) -> Vec<u8> {
        match self.operation {
            Operation::Diff | Operation::Diff1 | Operation::AndOr => self.operation.combine(&mut self.result, &self.others),
            Operation::One => Operation::Diff.combine(&mut self.result, &self.others),
            Operation::And | Operation::Or | Operation::Xor | Operation::Not => {}
        }
        self.result
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counting_and_finding_agree_with_looking_at_each_bit(bytes: Vec<u8>, start: usize, end: usize, value: bool) {
            let len = bytes.len() * 8;
            let (start, end) = (start % (len + 1), end % (len + 1));
            prop_assume!(start <= end);
            prop_assert_eq!(count(&bytes, start..end), (start..end).filter(|&at| get(&bytes, at)).count());
            prop_assert_eq!(find(&bytes, start..end, value), (start..end).find(|&at| get(&bytes, at) == value));
        }

        #[test]
        fn a_field_reads_what_was_written(mut bytes in proptest::collection::vec(any::<u8>(), 16..32), at in 0usize..64, bits in 1u32..64, is_signed: bool, number: i64) {
            let field = Field { is_signed, bits };
            let before = bytes.clone();
            let number = field.fit(field.given(number), Overflow::Wrap).unwrap();
            field.write(&mut bytes, at, number);
            prop_assert_eq!(field.read(&bytes, at), number);
            prop_assert!((0..at).chain(at + bits as usize..bytes.len() * 8).all(|at| get(&bytes, at) == get(&before, at)));
        }
    }

    /// Whether each bit of several strings is as an operation has it, looked at one by one.
    fn is_set(operation: Operation, strings: &[Vec<u8>], at: usize) -> bool {
        let first = get(&strings[0], at);
        let others = strings[1..].iter().filter(|string| get(string, at)).count();
        match operation {
            Operation::And => first && others == strings.len() - 1,
            Operation::Or => first || others > 0,
            Operation::Xor => (usize::from(first) + others) % 2 == 1,
            Operation::Not => !first,
            Operation::Diff => first && others == 0,
            Operation::Diff1 => !first && others > 0,
            Operation::AndOr => first && others > 0,
            Operation::One => usize::from(first) + others == 1,
        }
    }

    proptest! {
        #[test]
        fn operations_are_what_they_are_for_each_bit(strings in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..5), 2..5)) {
            use Operation::{And, AndOr, Diff, Diff1, One, Or, Xor};
            let len = strings.iter().map(Vec::len).max().unwrap();
            for operation in [And, Or, Xor, Diff, Diff1, AndOr, One] {
                let mut combined = Combined::of(operation, &strings[0]);
                strings[1..].iter().for_each(|string| combined.add(string));
                let result = combined.bits();
                prop_assert_eq!(result.len(), len);
                prop_assert!((0..len * 8).all(|at| get(&result, at) == is_set(operation, &strings, at)), "{:?}", operation);
            }
        }
    }

    #[test]
    fn fields_wrap_saturate_and_fail() {
        let byte = Field::parse(b"u8").unwrap();
        assert_eq!(byte.fit(257, Overflow::Wrap), Some(1));
        assert_eq!(byte.fit(257, Overflow::Saturate), Some(255));
        assert_eq!(byte.fit(-1, Overflow::Saturate), Some(0));
        assert_eq!(byte.fit(257, Overflow::Fail), None);
        let signed = Field::parse(b"i8").unwrap();
        assert_eq!(signed.fit(128, Overflow::Wrap), Some(-128));
        assert_eq!(signed.fit(-129, Overflow::Saturate), Some(-128));
        let widest = Field::parse(b"i64").unwrap();
        assert_eq!(widest.fit(i128::from(i64::MAX) + 1, Overflow::Wrap), Some(i64::MIN));
        assert_eq!(Field::parse(b"u64"), None);
        assert_eq!(Field::parse(b"i0"), None);
    }
}
