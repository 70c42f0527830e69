//! Why a file could not be used, in words that say what to do.

use std::path::{Path, PathBuf};

use crate::storage::damage::{Damage, WAY_OUT};
use crate::storage::rows::key_place;

/// The layout of the files, written into each. Others are refused.
pub(crate) const FORMAT: u64 = 2;

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
        "open `{}`: a build before the first release wrote it, in format 1, and this one reads {FORMAT}: let that build serve it and copy its keys over, or begin with an empty folder",
        path.display()
    )]
    TooOld { path: PathBuf },
    /// A backup was to be restored here, and that did not come to its end.
    #[error("open `{}`: a restore into this folder was broken off; empty it, and restore the backup again", path.display())]
    Unrestored { path: PathBuf },
    /// What is there is not what was written.
    #[error("use {0}")]
    Damaged(Box<Damage>),
    /// Something in the tables is not what was written.
    #[error("read `{}`, database {db}, {place}: {cause}; {WAY_OUT}", path.display())]
    Row { path: PathBuf, db: u8, place: String, cause: String },
    /// redb was refused by the operating system.
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
    pub(crate) fn is_full(&self) -> bool {
        self.is_of(std::io::ErrorKind::StorageFull)
    }

    /// Whether the system lets this user not do what was asked.
    pub(crate) fn is_denied(&self) -> bool {
        self.is_of(std::io::ErrorKind::PermissionDenied)
    }

    fn is_of(&self, kind: std::io::ErrorKind) -> bool {
        let source = match self {
            Error::Io { source, .. } => source,
            Error::Database { source, .. } => match &**source {
                redb::Error::Io(source) => source,
                _ => return false,
            },
            _ => return false,
        };
        source.kind() == kind
    }

    pub(crate) fn io<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> Error + 'a {
        move |source| Error::Io { what, path: path.to_owned(), source }
    }

    /// What redb said about a file: that the system refused, or that the file is damaged.
    pub(super) fn database(path: &Path, source: redb::Error) -> Error {
        let path = path.to_owned();
        match source {
            redb::Error::Io(error) if is_damage(&error) => Damage::new(path, None, error.to_string()).into(),
            redb::Error::DatabaseAlreadyOpen => Error::InUse { path },
            redb::Error::Io(_) | redb::Error::PreviousIo => Error::Database { path, source: Box::new(source) },
            other => Damage::new(path, None, other.to_string()).into(),
        }
    }

    pub(super) fn unsound(path: &Path, cause: &str) -> Error {
        Damage::new(path.to_owned(), None, cause).into()
    }

    /// The same error, told of a key.
    pub(crate) fn of_key(self, key: &[u8]) -> Error {
        match self {
            Error::Row { path, db, cause, .. } => Error::Row { path, db, place: key_place(key), cause },
            other => other,
        }
    }
}

/// Whether a file holds less than it should, or something else.
fn is_damage(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::InvalidData | std::io::ErrorKind::UnexpectedEof)
}
