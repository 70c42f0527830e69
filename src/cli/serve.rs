//! `flux serve`: opens the house, says where it can be reached, and closes it when asked to.

use std::process::ExitCode;

use crate::config::Config;

/// Serves until a signal or `SHUTDOWN`.
pub fn serve(_config: Config) -> anyhow::Result<ExitCode> {
    anyhow::bail!("the server is not wired up yet")
}
