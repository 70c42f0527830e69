//! Lua as Redis has it: one state (`Vm`), what scripts may reach in it, and the way between its values and RESP. It knows no command: what a
//! script calls, logs or waits for goes through a `Host`.
//!
//! The engine is Lua 5.1.5 by its raw C API, since the safe one costs three times as much for each call. So this is the one room with `unsafe`
//! in many lines, and these laws hold in it:
//!
//! - An error of Lua is a `longjmp`. Where a call of Lua may raise, no Rust value that needs dropping is alive in a frame that it leaves: what
//!   grows lies in `run::Shared`, beside the state, and is used again.
//! - All that runs is within one protected call (`vm`); a panic of the host is carried through Lua as an error and goes on behind it.
//! - What a script could change for the scripts after it is frozen (`frozen`); functions of Lua that are unsafe, or can't be stopped, are ours
//!   (`base`, `coroutine`, `table`, `libs`).
//! - Bytes are bounded (`memory`), and a script ends when its host says so, whatever it does to go on (`run::interrupt`).
#![expect(unsafe_code, reason = "Lua is a C library; the head of the room says which laws hold")]

mod base;
mod bell;
mod call;
mod chance;
mod chunk;
mod coroutine;
mod error;
mod frozen;
mod host;
mod library;
mod libs;
mod memory;
mod raw;
mod redis;
mod reply;
mod run;
mod sandbox;
mod table;
#[cfg(test)]
mod tests;
mod text;
mod vm;

pub(crate) use bell::Alarm;
pub use chunk::Chunk;
pub(crate) use chunk::{FLAGS, Function};
pub use host::{Host, Verdict};
pub use run::Ending;
pub use sandbox::{Kind, Options};
pub use vm::Vm;
