//! Asks the operating system for chance: the one source of random numbers in the project.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

thread_local! {
    static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0u64) | 1);
}

/// A random number for sampling and random replies (xorshift64*, Vigna 2014). Not for secrets.
pub fn random() -> u64 {
    STATE.with(|state| {
        let mut x = state.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        state.set(x);
        x.wrapping_mul(0x2545_F491_4F6C_DD1D)
    })
}

/// A random number in `0..below`; `below` must not be 0.
pub fn random_below(below: usize) -> usize {
    ((random() as u128 * below as u128) >> 64) as usize
}

/// Forty hexadecimal digits, as Redis names a run or a replication stream.
pub fn run_id() -> String {
    let words = [random(), random(), random()];
    let mut text: String = words.iter().map(|word| format!("{word:016x}")).collect();
    text.truncate(40);
    text
}
