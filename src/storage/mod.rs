//! The files of a data folder: the journal (what happened, in order), files that are only appended to, and the tables (what
//! is), a redb database. Writing one never waits for the other. This room knows bytes only; what they mean is the engine's.

mod damage;
pub mod disk;
mod files;
pub mod folder;
pub mod journal;
pub mod opening;
pub mod tables;
mod untouched;

pub use damage::Damage;
pub use disk::{Disk, serve_here};
pub use files::Files;
pub use folder::Folder;
pub use journal::Journal;
pub use tables::Tables;
pub use untouched::Untouched;

use std::path::{Path, PathBuf};

/// The layout of the files, written into each. Others are refused.
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
    #[error(
        "use `{}`: a build before the first release wrote it, in format 1, which this one does not read: copy the data over with a client that reads from the old build and writes to this one, in a new folder", path.display()
    )]
    TooOld { path: PathBuf },
    /// What is there is not what was written.
    #[error("use {0}")]
    Damaged(Box<Damage>),
    /// redb refused, or found its file damaged.
    #[error("use `{}`: {source}", path.display())]
    Database { path: PathBuf, source: Box<redb::Error> },
}

impl From<Damage> for Error {
    fn from(damage: Damage) -> Error {
        Error::Damaged(Box::new(damage))
    }
}

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

    pub(crate) fn io<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> Error + 'a {
        move |source| Error::Io { what, path: path.to_owned(), source }
    }

    fn database<'a, E: Into<redb::Error>>(path: &'a Path) -> impl Fn(E) -> Error + 'a {
        move |source| Error::Database { path: path.to_owned(), source: Box::new(source.into()) }
    }
}
