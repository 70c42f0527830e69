//! Every order in which threads may meet at a mailbox, its outlet and a gate, played by loom: also what weak memory allows. The files
//! under test are the program's own, unchanged: `instead` is here under the names they use.
//!
//! `cargo test --manifest-path tests/interleavings/Cargo.toml tries` runs it; the files' own tests need real threads and are left out.

#![cfg(test)]

extern crate instead as atomic_waker;
extern crate instead as parking_lot;
extern crate instead as std;
extern crate instead as tokio;

mod clock {
    /// Time stands still: no order may depend on it.
    pub fn monotonic_ms() -> u64 {
        0
    }
}

mod resp {
    #[allow(dead_code, reason = "what the mailbox names of it")]
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Protocol {
        Resp2,
        Resp3,
    }
}

#[allow(dead_code, reason = "not all of these files is tried")]
mod engine;
mod tries;
