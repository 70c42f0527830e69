//! See `flux_fuzz::effects`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| flux_fuzz::effects(bytes));
