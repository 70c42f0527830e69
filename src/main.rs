//! The `flux` binary; everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    flux::cli::run(std::env::args_os())
}
