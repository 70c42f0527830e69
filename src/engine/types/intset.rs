//! A sorted array of integers in as few bytes as its widest one needs: how a small set of numbers is kept.

use std::mem::take;

/// Different integers in ascending order. All have the width that the largest so far needed.
#[derive(Debug, PartialEq, Eq)]
pub enum IntSet {
    /// Two bytes each.
    Narrow(Box<[i16]>),
    /// Four bytes each.
    Middle(Box<[i32]>),
    /// Eight bytes each.
    Wide(Box<[i64]>),
}

impl Default for IntSet {
    fn default() -> Self {
        IntSet::Narrow(Box::default())
    }
}

impl IntSet {
    /// How many integers it holds.
    pub fn len(&self) -> usize {
        match self {
            IntSet::Narrow(numbers) => numbers.len(),
            IntSet::Middle(numbers) => numbers.len(),
            IntSet::Wide(numbers) => numbers.len(),
        }
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The integer at a position below `len`; positions follow the order of the integers.
    pub fn at(&self, position: usize) -> i64 {
        match self {
            IntSet::Narrow(numbers) => numbers[position].into(),
            IntSet::Middle(numbers) => numbers[position].into(),
            IntSet::Wide(numbers) => numbers[position],
        }
    }

    /// All integers in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = i64> {
        (0..self.len()).map(|position| self.at(position))
    }

    /// Whether it holds this integer.
    #[inline]
    pub fn contains(&self, number: i64) -> bool {
        self.search(number).is_ok()
    }

    /// Adds an integer; tells whether it was not there yet.
    pub fn insert(&mut self, number: i64) -> bool {
        let Err(position) = self.search(number) else { return false };
        self.widen_for(number);
        match self {
            IntSet::Narrow(numbers) => insert_at(numbers, position, number as i16),
            IntSet::Middle(numbers) => insert_at(numbers, position, number as i32),
            IntSet::Wide(numbers) => insert_at(numbers, position, number),
        }
        true
    }

    /// Removes an integer; tells whether it was there.
    pub fn remove(&mut self, number: i64) -> bool {
        let Ok(position) = self.search(number) else { return false };
        match self {
            IntSet::Narrow(numbers) => remove_at(numbers, position),
            IntSet::Middle(numbers) => remove_at(numbers, position),
            IntSet::Wide(numbers) => remove_at(numbers, position),
        }
        true
    }

    /// Bytes on the heap.
    pub fn memory_bytes(&self) -> usize {
        match self {
            IntSet::Narrow(numbers) => size_of_val(&**numbers),
            IntSet::Middle(numbers) => size_of_val(&**numbers),
            IntSet::Wide(numbers) => size_of_val(&**numbers),
        }
    }

    /// Where an integer is, or where it would be. One that needs a greater width belongs at one of the ends.
    fn search(&self, number: i64) -> Result<usize, usize> {
        let outside = if number < 0 { 0 } else { self.len() };
        match self {
            IntSet::Narrow(numbers) => numbers.binary_search(&i16::try_from(number).map_err(|_| outside)?),
            IntSet::Middle(numbers) => numbers.binary_search(&i32::try_from(number).map_err(|_| outside)?),
            IntSet::Wide(numbers) => numbers.binary_search(&number),
        }
    }

    fn widen_for(&mut self, number: i64) {
        if let IntSet::Narrow(numbers) = self
            && i16::try_from(number).is_err()
        {
            *self = IntSet::Middle(numbers.iter().map(|&narrow| narrow.into()).collect());
        }
        if let IntSet::Middle(numbers) = self
            && i32::try_from(number).is_err()
        {
            *self = IntSet::Wide(numbers.iter().map(|&middle| middle.into()).collect());
        }
    }
}

/// Keeps no room to spare: memory matters more here than the cost of moving a few bytes.
fn insert_at<N: Copy>(numbers: &mut Box<[N]>, position: usize, number: N) {
    let mut grown = take(numbers).into_vec();
    grown.reserve_exact(1);
    grown.insert(position, number);
    *numbers = grown.into_boxed_slice();
}

fn remove_at<N: Copy>(numbers: &mut Box<[N]>, position: usize) {
    let mut shrunk = take(numbers).into_vec();
    shrunk.remove(position);
    *numbers = shrunk.into_boxed_slice();
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn any_width() -> impl Strategy<Value = i64> {
        prop_oneof![-50i64..50, any::<i16>().prop_map(i64::from), any::<i32>().prop_map(i64::from), any::<i64>()]
    }

    proptest! {
        #[test]
        fn holds_what_a_sorted_set_holds(steps in prop::collection::vec((any::<bool>(), any_width()), 0..200)) {
            let (mut ints, mut model) = (IntSet::default(), BTreeSet::new());
            for (is_insert, number) in steps {
                if is_insert {
                    prop_assert_eq!(ints.insert(number), model.insert(number));
                } else {
                    prop_assert_eq!(ints.remove(number), model.remove(&number));
                }
                prop_assert_eq!(ints.contains(number), model.contains(&number));
            }
            prop_assert_eq!(ints.iter().collect::<Vec<_>>(), model.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn takes_the_width_of_its_widest_integer() {
        let mut ints = IntSet::default();
        ints.insert(1);
        assert_eq!(ints.memory_bytes(), 2);
        ints.insert(-40_000);
        assert_eq!(ints.memory_bytes(), 8);
        ints.insert(i64::MAX);
        assert_eq!(ints.memory_bytes(), 24);
        assert_eq!(ints.iter().collect::<Vec<_>>(), [-40_000, 1, i64::MAX]);
    }
}
