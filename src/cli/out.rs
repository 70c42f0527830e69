//! Prints to whoever reads what the commands say.

use std::io::{self, Write};

use anyhow::Context;

/// Prints to a reader that may have gone (`| head`), which is no failure.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("failed to print"),
        _ => Ok(()),
    }
}
