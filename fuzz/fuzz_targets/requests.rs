//! See `flux_fuzz::requests`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| flux_fuzz::requests(bytes));
