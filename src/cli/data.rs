//! `flux backup`, `flux restore`, `flux check`: a data folder and its copies.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};

use crate::cli::{connect, told};
use crate::engine::persist;

/// Problems that `flux check` prints at most.
const PROBLEMS_MAX: usize = 100;

/// Copies a folder that no server is using.
pub fn backup_folder(folder: &Path, file: &Path) -> anyhow::Result<ExitCode> {
    if !folder.is_dir() {
        bail!("{}; to copy the data of a running server use --url", no_folder(folder));
    }
    refuse_existing(file)?;
    let (keys, notes) =
        persist::backup_folder(folder, file).context("failed to back up; to copy the data of a running server use --url")?;
    notes.iter().for_each(|note| eprintln!("flux: note: {note}"));
    println!("{keys} keys written to {}", file.display());
    Ok(ExitCode::SUCCESS)
}

/// Asks a running server to copy its data.
pub fn backup_server(url: &str, file: &Path) -> anyhow::Result<ExitCode> {
    refuse_existing(file)?;
    let file = std::path::absolute(file).context("failed to find out where the file would be")?;
    let mut connection = connect(url).context("failed to back up; to copy the folder of a stopped server use --data DIR")?;
    // The server takes the place of a file of ours only: see `commands::server::saving`.
    let failed = || format!("failed to make `{}`; its folder must be there, and yours to write in", file.display());
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file).with_context(failed)?;
    let mut request = redis::cmd("FLUX");
    let asked = request.arg("BACKUP").arg(file.as_os_str().as_encoded_bytes()).query(&mut connection);
    if asked.is_err() && file.metadata().is_ok_and(|about| about.len() == 0) {
        let _ = std::fs::remove_file(&file);
    }
    let _: () = asked.map_err(told)?;
    println!("written to {}", file.display());
    Ok(ExitCode::SUCCESS)
}

fn no_folder(path: &Path) -> String {
    let what = if path.exists() { "is a file, not a data folder" } else { "is not there" };
    format!("`{}` {what}; name the folder that `flux serve --data DIR` keeps its data in", path.display())
}

fn refuse_existing(file: &Path) -> anyhow::Result<()> {
    if file.exists() {
        bail!("`{}` exists already; choose another name or remove it", file.display());
    }
    Ok(())
}

/// Makes a data folder from a backup.
pub fn restore(file: &Path, folder: &Path) -> anyhow::Result<ExitCode> {
    if !file.is_file() {
        let what = if file.exists() { "is not a file" } else { "is not there" };
        bail!("`{}` {what}; name a file that `flux backup FILE` wrote", file.display());
    }
    if folder.exists() && !folder.is_dir() {
        bail!("`{}` is a file; name a folder that is missing or empty", folder.display());
    }
    let failed = || format!("failed to restore `{}`, which must be a file that `flux backup FILE` wrote", file.display());
    persist::restore(file, folder).with_context(failed)?;
    println!("restored to {}; start it with: flux serve --data {}", folder.display(), folder.display());
    Ok(ExitCode::SUCCESS)
}

/// Verifies a data folder.
pub fn check(folder: &Path) -> anyhow::Result<ExitCode> {
    if !folder.is_dir() {
        bail!("{}", no_folder(folder));
    }
    let checked = persist::check(folder, PROBLEMS_MAX).context("failed to check")?;
    checked.notes.iter().for_each(|note| eprintln!("flux: note: {note}"));
    let seen = format!("{} keys, {} rows, {} batches in the journal", checked.keys, checked.rows, checked.batches);
    if checked.problems.is_empty() {
        println!("{}: no problem found ({seen})", folder.display());
        return Ok(ExitCode::SUCCESS);
    }
    for problem in &checked.problems {
        eprintln!("{}: {}", problem.place, problem.cause);
    }
    eprintln!("{}: {} problems found ({seen})", folder.display(), checked.problems.len());
    Ok(ExitCode::FAILURE)
}
