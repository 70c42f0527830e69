//! HyperLogLogs as strings, byte for byte as Redis keeps them, so that values and counts can be carried over.
//!
//! Sixteen bytes of head: `HYLL`, the form, three unused, the cached count in little-endian with its highest bit set while it is
//! out of date. Then 16,384 registers, dense (six bits each) or sparse (runs: `00llllll` zeros, `01llllll llllllll` more zeros,
//! `1vvvvvll` a value up to 32 up to four times; lengths and values less one).
//! The estimate is Ertl's, "New cardinality estimation algorithms for HyperLogLog sketches" (2017).

use std::ops::Range;

const REGISTERS: usize = 1 << INDEX_BITS;
/// Bits of a hash that choose the register.
const INDEX_BITS: u32 = 14;
/// Bits of a hash that are left for the register's value.
const VALUE_BITS: u32 = 64 - INDEX_BITS;
const HEAD_BYTES: usize = 16;
const DENSE_BYTES: usize = HEAD_BYTES + REGISTERS * 6 / 8;
/// Where the cached count stands.
const CACHE: Range<usize> = 8..16;
/// The byte of the cached count whose highest bit says that it is out of date.
pub(crate) const STALE_BYTE: usize = 15;
const FORM_BYTE: usize = 4;
const DENSE: u8 = 0;
const SPARSE: u8 = 1;
/// The longest run of zeros in one byte.
const ZEROS_SHORT_MAX: usize = 64;
/// The highest value, and the longest run of it, that the sparse form can say.
const SPARSE_VALUE_MAX: u8 = 32;
const SPARSE_RUN_MAX: usize = 4;
/// The seed Redis gives its hash; another one would count every element of an old value anew.
const SEED: u64 = 0xadc8_3b19;

/// A sparse form whose runs do not make up the registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Corrupted;

/// One with nothing in it.
pub(crate) fn empty() -> Vec<u8> {
    let mut bytes = vec![0; HEAD_BYTES];
    bytes[..4].copy_from_slice(b"HYLL");
    bytes[FORM_BYTE] = SPARSE;
    push_zeros(&mut bytes, REGISTERS);
    bytes
}

/// Whether bytes look like one. The runs of the sparse form are only checked on use.
pub(crate) fn is_valid(bytes: &[u8]) -> bool {
    bytes.len() >= HEAD_BYTES
        && bytes.starts_with(b"HYLL")
        && (bytes[FORM_BYTE] == SPARSE || bytes[FORM_BYTE] == DENSE && bytes.len() == DENSE_BYTES)
}

/// Whether it has the sparse form.
pub(crate) fn is_sparse(bytes: &[u8]) -> bool {
    bytes[FORM_BYTE] == SPARSE
}

/// The count it holds, if that is up to date.
pub(crate) fn cached_count(bytes: &[u8]) -> Option<u64> {
    let count = bytes[CACHE].try_into().map(u64::from_le_bytes).expect("eight bytes are a number");
    (bytes[STALE_BYTE] & 0x80 == 0).then_some(count)
}

/// Lets it hold a count; tells which bytes that changed.
pub(crate) fn cache_count(bytes: &mut [u8], count: u64) -> Range<usize> {
    bytes[CACHE].copy_from_slice(&count.to_le_bytes());
    CACHE
}

/// Notes that the count it holds is out of date.
pub(crate) fn mark_stale(bytes: &mut [u8]) {
    bytes[STALE_BYTE] |= 0x80;
}

/// Adds an element; tells which register changed, if one did. A sparse form that would grow beyond `sparse_bytes_max`
/// becomes dense. Does not touch the cached count.
pub(crate) fn add(bytes: &mut Vec<u8>, element: &[u8], sparse_bytes_max: usize) -> Result<Option<usize>, Corrupted> {
    let (register, value) = place(element);
    Ok(raise(bytes, register, value, sparse_bytes_max)?.then_some(register))
}

/// The register of an element, and the value it asks for.
fn place(element: &[u8]) -> (usize, u8) {
    let hash = murmur64a(element, SEED);
    // The bit on top ends the count of zeros.
    let rest = hash >> INDEX_BITS | 1 << VALUE_BITS;
    (hash as usize & (REGISTERS - 1), rest.trailing_zeros() as u8 + 1)
}

/// MurmurHash64A (Appleby 2008), reading little-endian everywhere.
fn murmur64a(bytes: &[u8], seed: u64) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    let mut hash = seed ^ (bytes.len() as u64).wrapping_mul(M);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let mut word = u64::from_le_bytes(*word).wrapping_mul(M);
        word ^= word >> 47;
        hash = (hash ^ word.wrapping_mul(M)).wrapping_mul(M);
    }
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0, |tail, byte| tail << 8 | u64::from(*byte));
        hash = (hash ^ tail).wrapping_mul(M);
    }
    hash = (hash ^ hash >> 47).wrapping_mul(M);
    hash ^ hash >> 47
}

/// Lets a register have at least this value; tells whether it had less.
fn raise(bytes: &mut Vec<u8>, register: usize, value: u8, sparse_bytes_max: usize) -> Result<bool, Corrupted> {
    if !is_sparse(bytes) {
        return Ok(raise_dense(bytes, register, value));
    }
    if value <= SPARSE_VALUE_MAX {
        let run = run_at(bytes, register)?;
        if run.value >= value {
            return Ok(false);
        }
        if raise_sparse(bytes, &run, register, value, sparse_bytes_max) {
            return Ok(true);
        }
    }
    make_dense(bytes)?;
    Ok(raise_dense(bytes, register, value))
}

fn raise_dense(bytes: &mut [u8], register: usize, value: u8) -> bool {
    let raises = dense_register(bytes, register) < value;
    if raises {
        set_dense_register(bytes, register, value);
    }
    raises
}

/// The bytes a register lies in, in the dense form.
pub(crate) fn dense_bytes(register: usize) -> Range<usize> {
    let start = HEAD_BYTES + register * 6 / 8;
    start..(start + 2).min(DENSE_BYTES)
}

fn dense_register(bytes: &[u8], register: usize) -> u8 {
    let pair = &bytes[dense_bytes(register)];
    let pair = u16::from_le_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
    (pair >> (register * 6 % 8) & 63) as u8
}

fn set_dense_register(bytes: &mut [u8], register: usize, value: u8) {
    let (pair, shift) = (&mut bytes[dense_bytes(register)], register * 6 % 8);
    let cleared = (63u16 << shift).to_le_bytes();
    let new = (u16::from(value) << shift).to_le_bytes();
    for (byte, (cleared, new)) in pair.iter_mut().zip(cleared.into_iter().zip(new)) {
        *byte = *byte & !cleared | new;
    }
}

/// A run of registers with one value, in the sparse form.
#[derive(Debug, Clone)]
struct Run {
    value: u8,
    /// The registers it covers.
    registers: Range<usize>,
    /// The bytes that say so.
    bytes: Range<usize>,
    /// Where the run before it starts, or it itself if it is the first.
    previous: usize,
}

/// The runs of a sparse form. One that is cut off ends with zero bits, as Redis reads it.
fn runs(bytes: &[u8]) -> impl Iterator<Item = Run> {
    let (mut at, mut register, mut previous) = (HEAD_BYTES, 0, HEAD_BYTES);
    std::iter::from_fn(move || {
        let (value, len, width) = match *bytes.get(at..)? {
            [byte, ..] if byte & 0x80 != 0 => ((byte >> 2 & 0x1f) + 1, usize::from(byte & 3) + 1, 1),
            [byte, ..] if byte & 0x40 == 0 => (0, usize::from(byte) + 1, 1),
            [high, low, ..] => (0, (usize::from(high & 0x3f) << 8 | usize::from(low)) + 1, 2),
            [high] => (0, (usize::from(high & 0x3f) << 8) + 1, 1),
            [] => return None,
        };
        let run = Run { value, registers: register..register + len, bytes: at..at + width, previous };
        (previous, at, register) = (at, at + width, register + len);
        Some(run)
    })
}

fn run_at(bytes: &[u8], register: usize) -> Result<Run, Corrupted> {
    runs(bytes).find(|run| register < run.registers.end).ok_or(Corrupted)
}

/// Splits the run a register is in. Does nothing and answers false where that takes more bytes than allowed.
fn raise_sparse(bytes: &mut Vec<u8>, run: &Run, register: usize, value: u8, bytes_max: usize) -> bool {
    let mut parts = Vec::with_capacity(5);
    push_run(&mut parts, run.value, register - run.registers.start);
    push_run(&mut parts, value, 1);
    push_run(&mut parts, run.value, run.registers.end - 1 - register);
    if parts.len() > run.bytes.len() && bytes.len() + parts.len() - run.bytes.len() > bytes_max {
        return false;
    }
    bytes.splice(run.bytes.clone(), parts);
    merge_runs(bytes, run.previous);
    true
}

fn push_run(to: &mut Vec<u8>, value: u8, len: usize) {
    match (value, len) {
        (_, 0) => {}
        (0, _) => push_zeros(to, len),
        _ => to.push(0x80 | (value - 1) << 2 | (len - 1) as u8),
    }
}

fn push_zeros(to: &mut Vec<u8>, len: usize) {
    if len > ZEROS_SHORT_MAX {
        to.extend_from_slice(&[0x40 | ((len - 1) >> 8) as u8, (len - 1) as u8]);
    } else {
        to.push((len - 1) as u8);
    }
}

/// Joins neighbouring runs of the same value from a run on. Looks at five runs, as many as a split can have disturbed and as
/// Redis looks at.
fn merge_runs(bytes: &mut Vec<u8>, from: usize) {
    let mut at = from;
    for _ in 0..5 {
        match bytes.get(at..) {
            None | Some([]) => break,
            Some([zeros, ..]) if zeros & 0xc0 == 0x40 => at += 2,
            Some([one, other, ..]) if one & other & 0x80 != 0 && one >> 2 == other >> 2 => {
                let len = usize::from(one & 3) + usize::from(other & 3) + 2;
                if len <= SPARSE_RUN_MAX {
                    bytes[at + 1] = bytes[at] & !3 | (len - 1) as u8;
                    bytes.remove(at);
                } else {
                    at += 1;
                }
            }
            Some(_) => at += 1,
        }
    }
}

/// Gives it the dense form.
pub(crate) fn make_dense(bytes: &mut Vec<u8>) -> Result<(), Corrupted> {
    if !is_sparse(bytes) {
        return Ok(());
    }
    let mut dense = vec![0; DENSE_BYTES];
    dense[..HEAD_BYTES].copy_from_slice(&bytes[..HEAD_BYTES]);
    dense[FORM_BYTE] = DENSE;
    let mut covered = 0;
    for run in runs(bytes) {
        if run.registers.end > REGISTERS {
            return Err(Corrupted);
        }
        covered = run.registers.end;
        if run.value > 0 {
            run.registers.for_each(|register| set_dense_register(&mut dense, register, run.value));
        }
    }
    if covered != REGISTERS {
        return Err(Corrupted);
    }
    *bytes = dense;
    Ok(())
}

/// Shows the value and the number of neighbouring registers that have it, over and over until all are shown.
fn each_run(bytes: &[u8], mut show: impl FnMut(u8, Range<usize>)) -> Result<(), Corrupted> {
    if is_sparse(bytes) {
        let mut covered = 0;
        for run in runs(bytes) {
            covered = run.registers.end;
            if covered > REGISTERS {
                return Err(Corrupted);
            }
            show(run.value, run.registers);
        }
        return if covered == REGISTERS { Ok(()) } else { Err(Corrupted) };
    }
    // Three bytes hold four registers.
    for (group, three) in bytes[HEAD_BYTES..].as_chunks::<3>().0.iter().enumerate() {
        let four = u32::from_le_bytes([three[0], three[1], three[2], 0]);
        for number in 0..4 {
            let register = group * 4 + number;
            show((four >> (6 * number) & 63) as u8, register..register + 1);
        }
    }
    Ok(())
}

/// The estimated count of its elements.
pub(crate) fn count(bytes: &[u8]) -> Result<u64, Corrupted> {
    let mut histogram = Histogram::default();
    each_run(bytes, |value, registers| histogram.0[usize::from(value)] += registers.len())?;
    Ok(histogram.estimate())
}

/// How many registers have each value.
struct Histogram([usize; 64]);

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram([0; 64])
    }
}

impl Histogram {
    fn estimate(&self) -> u64 {
        /// One by twice the logarithm of two.
        const ALPHA: f64 = 0.721_347_520_444_481_7;
        let total = REGISTERS as f64;
        let full = self.0[VALUE_BITS as usize + 1] as f64;
        let mut z = total * tau((total - full) / total);
        for value in (1..=VALUE_BITS as usize).rev() {
            z = (z + self.0[value] as f64) * 0.5;
        }
        z += total * sigma(self.0[0] as f64 / total);
        (ALPHA * total * total / z).round() as u64
    }
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut z) = (1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut z) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x).powi(2) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

/// The union of several: for each register the highest value.
pub(crate) struct Union(Box<[u8; REGISTERS]>);

impl Default for Union {
    fn default() -> Union {
        Union(Box::new([0; REGISTERS]))
    }
}

impl Union {
    /// Takes one in.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> Result<(), Corrupted> {
        each_run(bytes, |value, registers| {
            if value > 0 {
                self.0[registers].iter_mut().for_each(|register| *register = value.max(*register));
            }
        })
    }

    /// The estimated count of elements in any of them.
    pub(crate) fn count(&self) -> u64 {
        let mut histogram = Histogram::default();
        self.0.iter().for_each(|&value| histogram.0[usize::from(value)] += 1);
        histogram.estimate()
    }

    /// Lets another one be the union.
    pub(crate) fn write_to(&self, bytes: &mut Vec<u8>, sparse_bytes_max: usize) -> Result<(), Corrupted> {
        for (register, &value) in self.0.iter().enumerate().filter(|(_, value)| **value > 0) {
            raise(bytes, register, value, sparse_bytes_max)?;
        }
        mark_stale(bytes);
        Ok(())
    }
}

/// The registers' values, for `PFDEBUG`.
pub(crate) fn registers(bytes: &[u8]) -> Result<Vec<u8>, Corrupted> {
    let mut all = Vec::with_capacity(REGISTERS);
    each_run(bytes, |value, registers| all.extend(registers.map(|_| value)))?;
    Ok(all)
}

/// The runs of a sparse form as text, for `PFDEBUG`: `z:` zeros in one byte, `Z:` in two, `v:` a value and how often.
pub(crate) fn describe_runs(bytes: &[u8]) -> String {
    let words: Vec<String> = runs(bytes)
        .map(|run| match (run.value, bytes[run.bytes.start] & 0x40) {
            (0, 0) => format!("z:{}", run.registers.len()),
            (0, _) => format!("Z:{}", run.registers.len()),
            (value, _) => format!("v:{value},{}", run.registers.len()),
        })
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Redis' default for `hll-sparse-max-bytes`.
    const SPARSE_BYTES_MAX: usize = 3000;

    fn filled(elements: impl Iterator<Item = u32>, sparse_bytes_max: usize) -> Vec<u8> {
        let mut bytes = empty();
        for element in elements {
            add(&mut bytes, element.to_string().as_bytes(), sparse_bytes_max).unwrap();
        }
        bytes
    }

    #[test]
    fn hashes_as_redis_does() {
        // From `redis-server`: PFADD h hello; PFDEBUG DECODE h.
        let mut bytes = empty();
        assert!(add(&mut bytes, b"hello", SPARSE_BYTES_MAX).unwrap().is_some());
        assert!(add(&mut bytes, b"hello", SPARSE_BYTES_MAX).unwrap().is_none());
        assert_eq!(describe_runs(&bytes), "Z:9216 v:1,1 Z:7167");
    }

    #[test]
    fn estimates_are_near() {
        for total in [1u32, 10, 100, 1000, 10_000, 100_000] {
            let estimate = count(&filled(0..total, SPARSE_BYTES_MAX)).unwrap() as f64;
            assert!((estimate / f64::from(total) - 1.0).abs() < 0.03, "{total} {estimate}");
        }
    }

    proptest! {
        #[test]
        fn sparse_and_dense_say_the_same(start: u32, total in 0u32..3000) {
            let elements = || (0..total).map(|n| start.wrapping_add(n));
            let (sparse, dense) = (filled(elements(), 100_000), filled(elements(), 0));
            prop_assert!(is_sparse(&sparse));
            prop_assert_eq!(registers(&sparse).unwrap(), registers(&dense).unwrap());
            prop_assert_eq!(count(&sparse), count(&dense));
            let mut union = Union::default();
            union.add(&sparse).unwrap();
            prop_assert_eq!(union.count(), count(&dense).unwrap());
        }

        #[test]
        fn any_bytes_are_refused_or_counted(mut runs: Vec<u8>, element: Vec<u8>) {
            let mut bytes = empty();
            bytes.truncate(HEAD_BYTES);
            bytes.append(&mut runs);
            let _ = count(&bytes);
            let _ = add(&mut bytes, &element, SPARSE_BYTES_MAX);
            let _ = describe_runs(&bytes);
            let _ = make_dense(&mut bytes);
        }
    }
}
