//! See `flux_fuzz::commands`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| flux_fuzz::commands(bytes));
