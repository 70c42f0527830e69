//! Draws different positions at random: what `SRANDMEMBER`, `HRANDFIELD` and `ZRANDMEMBER` pick their elements with.

use std::collections::HashSet;

use crate::id;

/// From how large a share of all positions on they are shuffled; below it, drawing again after a repetition is cheaper.
const SHUFFLED_SHARE_MIN: usize = 3;

/// `count` different positions below `below`, or all of them where there are fewer; each choice is equally likely.
pub(crate) fn distinct(count: usize, below: usize) -> Vec<u32> {
    if count.saturating_mul(SHUFFLED_SHARE_MIN) > below { shuffled(count.min(below), below) } else { drawn(count, below) }
}

fn shuffled(count: usize, below: usize) -> Vec<u32> {
    let mut positions: Vec<u32> = (0..below as u32).collect();
    for drawn in 0..count {
        positions.swap(drawn, drawn + id::random_below(below - drawn));
    }
    positions.truncate(count);
    positions
}

fn drawn(count: usize, below: usize) -> Vec<u32> {
    let mut seen = HashSet::with_capacity(count);
    let mut positions = Vec::with_capacity(count);
    while positions.len() < count {
        let position = id::random_below(below) as u32;
        if seen.insert(position) {
            positions.push(position);
        }
    }
    positions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_different_and_below_the_bound() {
        for (count, below) in [(0, 0), (0, 5), (3, 5), (5, 5), (9, 5), (10, 1000), (400, 1000)] {
            let positions = distinct(count, below);
            assert_eq!(positions.len(), count.min(below));
            assert!(positions.iter().all(|&position| (position as usize) < below));
            assert_eq!(positions.iter().collect::<HashSet<_>>().len(), positions.len());
        }
    }

    #[test]
    fn every_position_is_equally_likely() {
        for count in [1, 3] {
            let mut drawn = [0; 10];
            for _ in 0..10_000 {
                distinct(count, 10).into_iter().for_each(|position| drawn[position as usize] += 1);
            }
            let expected = count * 1000;
            assert!(drawn.iter().all(|&times| times > expected * 8 / 10 && times < expected * 12 / 10), "{drawn:?}");
        }
    }
}
