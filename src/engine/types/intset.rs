//! Integers in ascending order, in as few bytes each as the widest of them needs: how a small set of numbers is kept.
//!
//! The first byte is that width: 2, 4 or 8. The integers follow, little-endian. There is never room to spare: memory
//! matters more here than the cost of moving a few bytes.

use std::mem::take;

/// Integers to read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ints<'a> {
    width: u8,
    numbers: &'a [u8],
}

impl<'a> Ints<'a> {
    /// The integers these bytes hold, which may also be none at all.
    #[inline]
    pub(crate) fn of(bytes: &'a [u8]) -> Ints<'a> {
        let (width, numbers) = bytes.split_first().unwrap_or((&2, &[]));
        Ints { width: *width, numbers }
    }

    /// How many there are.
    #[inline]
    pub(crate) fn len(self) -> usize {
        self.numbers.len() / usize::from(self.width)
    }

    /// Whether there are none.
    pub(crate) fn is_empty(self) -> bool {
        self.numbers.is_empty()
    }

    /// The integer at a position below `len`; positions follow the order of the integers.
    #[inline]
    pub(crate) fn at(self, position: usize) -> i64 {
        match self.width {
            2 => i16::from_le_bytes(self.numbers.as_chunks().0[position]).into(),
            4 => i32::from_le_bytes(self.numbers.as_chunks().0[position]).into(),
            _ => i64::from_le_bytes(self.numbers.as_chunks().0[position]),
        }
    }

    /// Where an integer is, or where it would be.
    #[inline]
    pub(crate) fn search(self, number: i64) -> Result<usize, usize> {
        let (mut from, mut to) = (0, self.len());
        while from < to {
            let middle = from.midpoint(to);
            match self.at(middle).cmp(&number) {
                std::cmp::Ordering::Less => from = middle + 1,
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Greater => to = middle,
            }
        }
        Err(from)
    }
}

/// Adds an integer; tells whether it was not there yet.
pub(crate) fn insert(bytes: &mut Box<[u8]>, number: i64) -> bool {
    let Err(position) = Ints::of(bytes).search(number) else { return false };
    let width = Ints::of(bytes).width.max(width_of(number));
    if bytes.first() != Some(&width) {
        *bytes = widened(Ints::of(bytes), width);
    }
    let (at, width) = (1 + position * usize::from(width), usize::from(width));
    open(bytes, at, width);
    bytes[at..at + width].copy_from_slice(&number.to_le_bytes()[..width]);
    true
}

/// Removes an integer; tells whether it was there.
pub(crate) fn remove(bytes: &mut Box<[u8]>, number: i64) -> bool {
    let ints = Ints::of(bytes);
    let Ok(position) = ints.search(number) else { return false };
    let width = usize::from(ints.width);
    close(bytes, 1 + position * width, width);
    true
}

fn width_of(number: i64) -> u8 {
    match number {
        _ if i16::try_from(number).is_ok() => 2,
        _ if i32::try_from(number).is_ok() => 4,
        _ => 8,
    }
}

fn widened(ints: Ints<'_>, width: u8) -> Box<[u8]> {
    let mut bytes = Vec::with_capacity(1 + ints.len() * usize::from(width));
    bytes.push(width);
    (0..ints.len()).for_each(|at| bytes.extend_from_slice(&ints.at(at).to_le_bytes()[..usize::from(width)]));
    bytes.into_boxed_slice()
}

/// Makes room for `count` bytes at a position.
pub(super) fn open(bytes: &mut Box<[u8]>, at: usize, count: usize) {
    let mut all = take(bytes).into_vec();
    let end = all.len();
    all.reserve_exact(count);
    all.resize(end + count, 0);
    all.copy_within(at..end, at + count);
    *bytes = all.into_boxed_slice();
}

/// Takes `count` bytes out at a position.
pub(super) fn close(bytes: &mut Box<[u8]>, at: usize, count: usize) {
    let mut all = take(bytes).into_vec();
    all.drain(at..at + count);
    *bytes = all.into_boxed_slice();
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn any_width() -> impl Strategy<Value = i64> {
        prop_oneof![-50i64..50, any::<i16>().prop_map(i64::from), any::<i32>().prop_map(i64::from), any::<i64>()]
    }

    fn all(bytes: &[u8]) -> Vec<i64> {
        let ints = Ints::of(bytes);
        (0..ints.len()).map(|at| ints.at(at)).collect()
    }

    proptest! {
        #[test]
        fn holds_what_a_sorted_set_holds(steps in prop::collection::vec((any::<bool>(), any_width()), 0..200)) {
            let (mut bytes, mut model) = (Box::<[u8]>::default(), BTreeSet::new());
            for (is_insert, number) in steps {
                if is_insert {
                    prop_assert_eq!(insert(&mut bytes, number), model.insert(number));
                } else {
                    prop_assert_eq!(remove(&mut bytes, number), model.remove(&number));
                }
                prop_assert_eq!(Ints::of(&bytes).search(number).is_ok(), is_insert);
            }
            prop_assert_eq!(all(&bytes), model.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn takes_the_width_of_its_widest_integer() {
        let mut bytes = Box::default();
        for (number, size) in [(1, 3), (-40_000, 9), (-40_000, 9), (i64::MAX, 25)] {
            insert(&mut bytes, number);
            assert_eq!(bytes.len(), size);
        }
        assert_eq!(all(&bytes), [-40_000, 1, i64::MAX]);
    }
}
