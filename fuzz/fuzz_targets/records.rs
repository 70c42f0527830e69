//! See `flux_fuzz::records`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| flux_fuzz::records(bytes));
