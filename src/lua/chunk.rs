//! What is compiled: scripts, and the functions of libraries.

use std::ffi::c_int;

/// What a function, or a script, may say of itself: the words and their bits.
pub(crate) const FLAGS: &[(&str, u32)] =
    &[("no-writes", 1), ("allow-oom", 2), ("allow-stale", 4), ("no-cluster", 8), ("allow-cross-slot-keys", 16)];

/// A library that was loaded.
#[derive(Debug)]
pub(crate) struct Library {
    pub functions: Vec<Function>,
}

#[derive(Debug)]
pub(crate) struct Function {
    pub name: Vec<u8>,
    pub description: Option<Vec<u8>>,
    /// Bits of `FLAGS`.
    pub flags: u32,
    pub chunk: Chunk,
}

/// Something that a `Vm` can run; it is of that one, which also forgets it.
#[derive(Debug)]
pub struct Chunk {
    /// Its place in the registry.
    pub(super) function: c_int,
    /// What errors call it.
    pub(super) label: Box<str>,
    /// It takes keys and arguments itself, rather than as globals.
    pub(super) takes_arguments: bool,
}
