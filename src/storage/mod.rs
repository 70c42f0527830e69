//! The files of a data folder: the journal (what happened, in order), files that are only appended to, and the tables (what
//! is), a redb database. Writing one never waits for the other. This room knows bytes only; what they mean is the engine's.

mod caught;
pub mod disk;
pub mod folder;
pub mod journal;
mod rows;
pub mod tables;

pub use disk::{Disk, Files, serve_here};
pub use folder::Folder;
pub use journal::Journal;
pub use rows::Sum;
pub use tables::Tables;

use std::path::{Path, PathBuf};

/// The layout of the files, written into the tables. A newer one is refused.
pub const FORMAT: u64 = 2;

/// Why a file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("{what} `{}`: {source}", path.display())]
    Io { what: &'static str, path: PathBuf, source: std::io::Error },
    /// Another process has the folder open.
    #[error("open `{}`: another process is using this folder; stop it or choose another one with --data", path.display())]
    InUse { path: PathBuf },
    /// The file was written by a later version of this program.
    #[error("open `{}`: format {found} is newer than this build ({FORMAT}); upgrade flux", path.display())]
    TooNew { path: PathBuf, found: u64 },
    /// The file was written by a build older than the first release.
    #[error("use `{}`: a build before the first release wrote it; stop that build with SHUTDOWN SAVE, then remove this file", path.display())]
    TooOld { path: PathBuf },
    /// A file of the journal does not hold what was written.
    #[error("read `{}`: damaged at byte {at}; restore a backup, or move this file away and what follows it is lost", path.display())]
    Damaged { path: PathBuf, at: u64 },
    /// The tables are of a format that no release had.
    #[error("open `{}`: a build before the first release wrote it, in format {found}, and this one reads {FORMAT}; let that build serve it and copy its keys over, or begin with an empty folder", path.display())]
    OldTables { path: PathBuf, found: u64 },
    /// The tables' file makes no sense.
    #[error("read `{}`: {cause}; {WAY_OUT}", path.display())]
    Unsound { path: PathBuf, cause: String },
    /// Something in the tables is not what was written.
    #[error("read `{}`, database {db}, {place}: {cause}; {WAY_OUT}", path.display())]
    Row { path: PathBuf, db: u8, place: String, cause: String },
    /// redb was refused by the operating system.
    #[error("use `{}`: {source}", path.display())]
    Database { path: PathBuf, source: Box<redb::Error> },
}

/// What can be done about tables that are damaged.
const WAY_OUT: &str =
    "`flux check` tells what else is wrong; restore a backup, or start with `--accept-loss` to go on with what is whole";

impl Error {
    /// Whether there was no space left: the one failure after which a file is what it was before.
    pub fn is_full(&self) -> bool {
        let source = match self {
            Error::Io { source, .. } => source,
            Error::Database { source, .. } => match &**source {
                redb::Error::Io(source) => source,
                _ => return false,
            },
            _ => return false,
        };
        source.kind() == std::io::ErrorKind::StorageFull
    }

    fn io<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> Error + 'a {
        move |source| Error::Io { what, path: path.to_owned(), source }
    }

    /// What redb said about a file: that the system refused, or that the file is damaged.
    fn database(path: &Path, source: redb::Error) -> Error {
        let path = path.to_owned();
        match source {
            redb::Error::Io(error) if is_damage(&error) => Error::Unsound { path, cause: error.to_string() },
            redb::Error::Io(_) | redb::Error::PreviousIo => Error::Database { path, source: Box::new(source) },
            other => Error::Unsound { path, cause: other.to_string() },
        }
    }

    fn unsound(path: &Path, cause: &str) -> Error {
        Error::Unsound { path: path.to_owned(), cause: cause.into() }
    }

    /// The same error, told of a key.
    pub fn of_key(self, key: &[u8]) -> Error {
        match self {
            Error::Row { path, db, cause, .. } => Error::Row { path, db, place: tables::key_place(key), cause },
            other => other,
        }
    }
}

/// Whether a file holds less than it should, or something else.
fn is_damage(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof)
}
