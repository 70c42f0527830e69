//! `flux backup`, `flux restore`, `flux check`: a data folder and its copies.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};

use crate::cli::failure::told;
use crate::cli::pieces::Pieces;
use crate::cli::progress::{Progress, folder_bytes};
use crate::cli::reach::Target;
use crate::engine::persist;
use crate::storage;
use crate::storage::folder::{LOCK, LOST, TABLES, segment_name, segment_number};

/// Problems that `flux check` prints at most.
const PROBLEMS_MAX: usize = 100;
/// What every file of redb begins with.
const MAGIC: [u8; 9] = *b"redb\x1a\x0a\xa9\x0d\x0a";
/// The first batch of a restored folder's journal.
const RESTORED_FIRST: u64 = 2;
/// How often the bytes of what is copied, restored or checked are read on the way, about; measured, and only for a bar to go by.
const READS_TO_BACK_UP: f64 = 4.3;
const READS_TO_RESTORE: f64 = 3.2;
const READS_TO_CHECK: f64 = 2.4;

/// Copies a folder that no server is using.
pub(crate) fn backup_folder(folder: &Path, file: &Path) -> anyhow::Result<ExitCode> {
    if !folder.is_dir() {
        bail!("{}; to copy the data of a running server use --url", no_folder(folder));
    }
    refuse_strange(folder)?;
    refuse_existing(file)?;
    let pieces = Pieces::begin();
    pieces.part_of(file);
    let progress = Progress::of_reading("backing up", folder_bytes(folder), READS_TO_BACK_UP);
    let (keys, notes) =
        persist::backup_folder(folder, file).context("failed to back up; to copy the data of a running server use --url")?;
    drop(progress);
    pieces.keep();
    notes.iter().for_each(|note| eprintln!("flux: note: {note}"));
    println!("{keys} keys written to {}", file.display());
    Ok(ExitCode::SUCCESS)
}

/// Asks a running server to copy its data.
pub(crate) fn backup_server(target: &Target, file: &Path) -> anyhow::Result<ExitCode> {
    refuse_existing(file)?;
    let file = std::path::absolute(file).context("failed to find out where the file would be")?;
    let mut connection = target.connect().context("failed to back up; to copy the folder of a stopped server use --data DIR")?;
    // The server takes the place of a file of ours only: see `commands::server::saving`.
    let failed = || format!("failed to make `{}`; its folder must be there, and yours to write in", file.display());
    let pieces = Pieces::begin();
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&file).with_context(failed)?;
    pieces.file(file.clone());
    pieces.part_of(&file);
    let progress = Progress::of_backup("backing up", file.clone());
    let mut request = redis::cmd("FLUX");
    connection.wait::<()>(request.arg("BACKUP").arg(file.as_os_str().as_encoded_bytes())).map_err(told)?;
    drop(progress);
    pieces.keep();
    println!("written to {}", file.display());
    Ok(ExitCode::SUCCESS)
}

fn no_folder(path: &Path) -> String {
    let what = if path.exists() { "is a file, not a data folder" } else { "is not there" };
    format!("`{}` {what}; name the folder that `flux serve --data DIR` keeps its data in", path.display())
}

/// A folder in which others keep something, and flux nothing, is not damaged but another one than was meant.
fn refuse_strange(folder: &Path) -> anyhow::Result<()> {
    let names = std::fs::read_dir(folder).with_context(|| format!("failed to read `{}`", folder.display()))?;
    let names: Vec<String> = names.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let is_ours = |name: &String| {
        name == LOCK
            || name.starts_with(TABLES)
            || name.starts_with(LOST)
            || name == "flux.toml"
            || segment_number(name).is_some()
    };
    if names.is_empty() || names.iter().any(is_ours) {
        return Ok(());
    }
    bail!("`{}` is no data folder of flux; name the folder that `flux serve --data DIR` keeps its data in", folder.display());
}

/// Whether nothing is there, not even the folder.
fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).map_or(true, |mut entries| entries.next().is_none())
}

/// Whether a file begins as backups do, which are databases of redb.
fn is_database(file: &Path) -> std::io::Result<bool> {
    let mut start = [0; MAGIC.len()];
    let read = File::open(file)?.take(MAGIC.len() as u64).read(&mut start)?;
    Ok(start[..read] == MAGIC)
}

fn refuse_existing(file: &Path) -> anyhow::Result<()> {
    if file.exists() {
        bail!("`{}` exists already; choose another name or remove it", file.display());
    }
    Ok(())
}

/// Makes a data folder from a backup.
pub(crate) fn restore(file: &Path, folder: &Path) -> anyhow::Result<ExitCode> {
    if !file.is_file() {
        let what = if file.exists() { "is not a file" } else { "is not there" };
        bail!("`{}` {what}; name a file that `flux backup FILE` wrote", file.display());
    }
    if folder.exists() && !folder.is_dir() {
        bail!("`{}` is a file; name a folder that is missing or empty", folder.display());
    }
    let failed = || format!("failed to restore `{}`", file.display());
    if !is_database(file).with_context(failed)? {
        bail!("`{}` is not a backup; name a file that `flux backup FILE` wrote", file.display());
    }
    let pieces = Pieces::begin();
    if is_empty(folder) {
        pieces.missing_folders(folder);
        for name in [LOCK.to_owned(), TABLES.to_owned(), format!("{TABLES}.part"), segment_name(RESTORED_FIRST)] {
            pieces.file(folder.join(name));
        }
    }
    let bytes = file.metadata().map_or(0, |about| about.len());
    let progress = Progress::of_reading("restoring", bytes, READS_TO_RESTORE);
    let restored = persist::restore(file, folder);
    drop(progress);
    // What another process has begun there meanwhile is not ours to remove.
    if matches!(restored, Ok(()) | Err(persist::Error::Storage(storage::Error::InUse { .. }))) {
        pieces.keep();
    }
    restored.with_context(failed)?;
    println!("restored to {}; start it with: flux serve --data {}", folder.display(), folder.display());
    Ok(ExitCode::SUCCESS)
}

/// Verifies a data folder.
pub(crate) fn check(folder: &Path) -> anyhow::Result<ExitCode> {
    if !folder.is_dir() {
        bail!("{}", no_folder(folder));
    }
    refuse_strange(folder)?;
    if is_empty(folder) {
        bail!("`{}` is empty: there is nothing to check; `flux serve --data` would begin a new keyspace in it", folder.display());
    }
    let progress = Progress::of_reading("checking", folder_bytes(folder), READS_TO_CHECK);
    let checked = persist::check(folder, PROBLEMS_MAX).context("failed to check")?;
    drop(progress);
    checked.notes.iter().for_each(|note| eprintln!("flux: note: {note}"));
    let seen = format!(
        "{} keys, {} rows in the tables; {} changes since, which a start makes to them, in {} batches of the journal",
        checked.keys, checked.rows, checked.changes, checked.batches
    );
    if checked.problems.is_empty() {
        println!("{}: no problem found ({seen})", folder.display());
        return Ok(ExitCode::SUCCESS);
    }
    for problem in &checked.problems {
        eprintln!("{}: {}", problem.place, problem.cause);
    }
    let problems = if checked.problems.len() == 1 { "problem" } else { "problems" };
    eprintln!("{}: {} {problems} found ({seen})", folder.display(), checked.problems.len());
    Ok(ExitCode::FAILURE)
}
