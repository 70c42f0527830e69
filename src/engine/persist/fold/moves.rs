//! From which keys values went to which: whoever looks at some keys only must look at those, too.

use std::collections::HashMap;

use crate::engine::persist::fold::Place;

/// What a key from which a value went takes beside its bytes, roughly: where it stands, its number, and while a pass asks for them, its lead.
const MOVED_KEY_BYTES: usize = 160;

/// From which keys values went to which, in the order in which they did. There may be millions.
#[derive(Default)]
pub struct Moves {
    /// The keys, each with a number: a value may go to and fro between two of them a million times.
    numbers: HashMap<Place, u32>,
    /// Bytes these take, roughly.
    keys_bytes: usize,
    moves: Vec<(u32, u32)>,
}

impl Moves {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.moves.is_empty()
    }

    /// Adds that a value went from one key to another.
    pub(super) fn push(&mut self, from: Place, to: Place) {
        let [from, to] = [from, to].map(|place| {
            let next = self.numbers.len() as u32;
            let bytes = MOVED_KEY_BYTES + place.1.len();
            *self.numbers.entry(place).or_insert_with(|| {
                self.keys_bytes += bytes;
                next
            })
        });
        self.moves.push((from, to));
    }

    /// Bytes they take in memory, roughly.
    pub(crate) fn bytes(&self) -> usize {
        self.moves.capacity() * size_of::<(u32, u32)>() + self.keys_bytes
    }

    /// For each key whose value went on to keys from this one on: the first of these, or itself if it comes before.
    pub(super) fn leads(&self, start: &Place) -> HashMap<Place, Place> {
        let mut leads: Vec<Option<&Place>> = vec![None; self.numbers.len()];
        for (place, number) in self.numbers.iter().filter(|(place, _)| *place >= start) {
            leads[*number as usize] = Some(place);
        }
        let mut is_left = vec![false; leads.len()];
        for (from, to) in self.moves.iter().rev().map(|(from, to)| (*from as usize, *to as usize)) {
            leads[from] = [leads[from], leads[to]].into_iter().flatten().min();
            is_left[from] = true;
        }
        let left = self.numbers.iter().filter(|(_, number)| is_left[**number as usize]);
        left.filter_map(|(place, number)| Some((place.clone(), leads[*number as usize]?.clone()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_goes_to_and_fro_is_two_keys_and_leads_to_the_first_of_them() {
        let mut moves = Moves::default();
        let place = |key: &str| (0, key.as_bytes().to_vec());
        for _ in 0..1000 {
            moves.push(place("a"), place("b"));
            moves.push(place("b"), place("a"));
        }
        moves.push(place("b"), place("z"));
        assert_eq!(moves.numbers.len(), 3);
        let leads = |start: &str| {
            let mut leads: Vec<(Place, Place)> = moves.leads(&place(start)).into_iter().collect();
            leads.sort();
            leads
        };
        assert_eq!(leads(""), [(place("a"), place("a")), (place("b"), place("a"))]);
        assert_eq!(leads("b"), [(place("a"), place("b")), (place("b"), place("b"))]);
        assert_eq!(leads("c"), [(place("a"), place("z")), (place("b"), place("z"))]);
        assert_eq!(leads("zz"), []);
    }
}
