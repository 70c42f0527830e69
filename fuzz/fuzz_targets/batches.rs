//! See `flux_fuzz::batches`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| flux_fuzz::batches(bytes));
