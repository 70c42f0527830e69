//! Asks the operating system for chance: the one source of random numbers in the project (clippy.toml), but for a simulation
//! (`lifecycle::Simulation`), which is one for its thread.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

thread_local! {
    static STATE: Cell<u64> = Cell::new(of_the_system());
    static IS_SIMULATED: Cell<bool> = const { Cell::new(false) };
}

fn of_the_system() -> u64 {
    RandomState::new().hash_one(0u64) | 1
}

/// From now on, all chance of this thread comes from a seed, also what nobody should guess.
pub(crate) fn simulate(seed: u64) {
    // Spread over all bits by an odd number, and never 0, from which the next one would be 0 too.
    STATE.set(seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1 << 63);
    IS_SIMULATED.set(true);
}

/// This thread's chance is the system's again.
pub(crate) fn end_simulation() {
    STATE.set(of_the_system());
    IS_SIMULATED.set(false);
}

/// A random number for sampling and random replies (xorshift64*, Vigna 2014). Not for secrets.
pub(crate) fn random() -> u64 {
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
pub(crate) fn random_below(below: usize) -> usize {
    ((random() as u128 * below as u128) >> 64) as usize
}

/// Forty hexadecimal digits, as Redis names a run or a replication stream.
pub(crate) fn run_id() -> String {
    let words = [random(), random(), random()];
    let mut text: String = words.iter().map(|word| format!("{word:016x}")).collect();
    text.truncate(40);
    text
}

/// Bytes that nobody can guess, for secrets and for names that must not be guessed.
pub(crate) fn secret_bytes() -> [u8; 16] {
    if IS_SIMULATED.get() {
        return ((random() as u128) << 64 | random() as u128).to_le_bytes();
    }
    fill(&mut [0; 16])
}

#[expect(clippy::disallowed_methods, reason = "this is the place that asks")]
fn fill(bytes: &mut [u8; 16]) -> [u8; 16] {
    // Without the system's chance there is no safe way on.
    getrandom::fill(bytes).expect("the system gives random bytes");
    *bytes
}

/// Thirty-two hexadecimal digits that nobody can guess.
pub(crate) fn secret() -> String {
    secret_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A UUID of version 4.
pub(crate) fn uuid() -> String {
    let mut bytes = secret_bytes();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// A name for something short-lived: never the same twice, but it can be guessed.
pub(crate) fn call() -> String {
    format!("{:016x}{:016x}", random(), random())
}
