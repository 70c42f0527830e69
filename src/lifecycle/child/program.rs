//! What is to be launched, and what it may use.

use std::ffi::OsString;
use std::path::PathBuf;

/// What a program may use. None is as much as we may ourselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of address space (`RLIMIT_AS`), each of its processes for itself.
    pub address_space_bytes: Option<u64>,
    /// Seconds of processor time, each of its processes for itself: SIGXCPU then, and SIGKILL a second later.
    pub cpu_seconds: Option<u64>,
    /// Files, pipes and sockets that a process may have open.
    pub open_files: Option<u64>,
    /// Processes and threads of the user it runs as, so also of others. The system does not hold root to it.
    pub processes: Option<u64>,
    /// Bytes of a file it writes.
    pub file_bytes: Option<u64>,
}

/// What is to be launched. Nothing of our environment is handed on.
#[derive(Debug, Clone)]
pub struct Program {
    /// For the log and reports.
    pub name: String,
    /// The program's file; a bare name is looked for in the `PATH` of `env`.
    pub path: PathBuf,
    /// Its arguments, without its name.
    pub args: Vec<OsString>,
    /// All of its environment.
    pub env: Vec<(OsString, OsString)>,
    /// Where it works; None is where we do.
    pub folder: Option<PathBuf>,
    /// What it may use.
    pub limits: Limits,
    /// Bytes of a frame in either direction. A program that announces a longer one has lost its way ([`Broken::TooLong`](super::Broken::TooLong)).
    pub frame_bytes_max: usize,
}

impl Program {
    /// With no arguments, no environment, no limits, and frames of a megabyte.
    pub fn new(name: impl Into<String>, path: impl Into<PathBuf>) -> Program {
        Program {
            name: name.into(),
            path: path.into(),
            args: Vec::new(),
            env: Vec::new(),
            folder: None,
            limits: Limits::default(),
            frame_bytes_max: 1 << 20,
        }
    }
}
