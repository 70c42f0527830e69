//! Drives the fuzz targets with seeded random and mutated bytes, so that every `cargo test` fuzzes a little, on stable
//! Rust. `FLUX_FUZZ_SECONDS` says how long for each target (default 1); `FLUX_FUZZ_SEED` repeats a run.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

#[path = "../../fuzz/src/lib.rs"]
mod targets;

use targets::{TARGETS, Target};

use crate::random::Random;

#[test]
fn any_request_bytes_are_answered() {
    drive("requests");
}

#[test]
fn any_journal_bytes_are_read_or_refused() {
    drive("effects");
}

#[test]
fn any_rows_are_taken_or_refused() {
    drive("rows");
}

#[test]
fn any_batch_of_the_journal_is_folded_or_refused() {
    drive("batches");
}

#[test]
fn any_record_of_the_tables_is_read_or_refused() {
    drive("records");
}

#[test]
fn any_command_is_answered_and_its_effects_are_whole() {
    drive("commands");
}

#[test]
fn any_bytes_that_a_script_gets_are_answered() {
    drive("script");
}

fn drive(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("the target is in the table");
    let seconds = std::env::var("FLUX_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(1.0);
    let seed = std::env::var("FLUX_FUZZ_SEED").ok().and_then(|text| text.parse().ok());
    let first = seed.unwrap_or_else(|| u64::from(std::process::id()) << 20);
    let deadline = Instant::now() + Duration::from_secs_f64(seconds);
    let seeds = (target.seeds)();
    for round in 0.. {
        run(target, &seeds, first + round);
        if seed.is_some() || Instant::now() > deadline {
            println!("{name}: {} inputs", round + 1);
            break;
        }
    }
}

fn run(target: &Target, seeds: &[Vec<u8>], seed: u64) {
    let input = input(seeds, seed);
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.run)(&input))) {
        println!("{} failed: FLUX_FUZZ_SEED={seed} repeats it; its input is {input:?}", target.name);
        std::panic::resume_unwind(panic);
    }
}

/// A mutated seed, or a joint of two, or now and then nothing but random bytes.
fn input(seeds: &[Vec<u8>], seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    if random.below(10) == 0 {
        return (0..random.below(200)).map(|_| random.byte()).collect();
    }
    let mut bytes = seeds[random.below(seeds.len())].clone();
    if random.below(4) == 0 {
        let other = &seeds[random.below(seeds.len())];
        bytes.truncate(random.below(bytes.len() + 1));
        bytes.extend_from_slice(&other[random.below(other.len() + 1)..]);
    }
    for _ in 0..random.below(8) {
        mutate(&mut bytes, &mut random);
    }
    bytes
}

fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    let end = (at + random.below(12)).min(bytes.len());
    match random.below(7) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(at..end)),
        2 => bytes.insert(at, random.byte()),
        3 => {
            let copy = bytes[at..end].to_vec();
            let to = random.below(bytes.len() + 1);
            bytes.splice(to..to, copy).for_each(drop);
        }
        // A number near a border of a type, which lengths and counts are tried with.
        4 => {
            let number = [0, -1, i64::MAX, i64::MIN, 1 << 31, 1 << 32, 512 << 20, 255][random.below(8)];
            bytes.splice(at..end, number.to_string().into_bytes()).for_each(drop);
        }
        5 => bytes.splice(at..end, [0xff; 9]).for_each(drop),
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
    }
}
