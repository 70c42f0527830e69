//! Ordinary files. Those of a folder that is held are reached by its handle: they stay the same ones whatever becomes of its path.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::StorageBackend;
use redb::backends::FileBackend;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{self, AtFlags, CWD, Dir, Mode, OFlags};
use rustix::io::Errno;

use crate::storage::disk::{Backend, Disk};

/// The data is nobody else's to read, wherever a file of it is copied or moved to.
pub(crate) const PRIVATE_FILE: u32 = 0o600;

/// Ordinary files, wherever they are.
#[derive(Debug, Default, Clone)]
pub struct Files {
    held: Option<Held>,
    is_read_only: bool,
}

/// An open folder: its files are found by the handle, not by the path it had.
#[derive(Debug, Clone)]
struct Held {
    path: PathBuf,
    handle: Arc<File>,
}

/// The folder that a file or a folder is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."))
}

impl Files {
    /// Files of which those in this folder are reached by its handle.
    pub(crate) fn held(path: &Path, handle: Arc<File>) -> Files {
        Files { held: Some(Held { path: path.to_owned(), handle }), is_read_only: false }
    }

    /// The same, of which none is made or written, so that they may be on media where that cannot be.
    pub(crate) fn read_only(self) -> Files {
        Files { is_read_only: true, ..self }
    }

    /// The folder to begin at, and the way from there.
    fn place<'a>(&'a self, path: &'a Path) -> (BorrowedFd<'a>, &'a Path) {
        match &self.held {
            Some(held) => match path.strip_prefix(&held.path) {
                Ok(rest) if rest.as_os_str().is_empty() => (held.handle.as_fd(), Path::new(".")),
                Ok(rest) => (held.handle.as_fd(), rest),
                Err(_) => (CWD, path),
            },
            None => (CWD, path),
        }
    }

    /// Opens a file as it is asked for.
    pub(crate) fn file(&self, path: &Path, flags: OFlags) -> io::Result<File> {
        let (from, way) = self.place(path);
        Ok(File::from(fs::openat(from, way, flags | OFlags::CLOEXEC, Mode::from_raw_mode(PRIVATE_FILE))?))
    }

    fn sync_folder_of(&self, path: &Path) -> io::Result<()> {
        self.file(folder_of(path), OFlags::RDONLY | OFlags::DIRECTORY)?.sync_all()
    }
}

impl Disk for Files {
    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageBackend>> {
        let file = self.file(path, if self.is_read_only { OFlags::RDONLY } else { OFlags::RDWR | OFlags::CREATE })?;
        let backend = FileBackend::new(file).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Box::new(Backend::of(Box::new(backend))))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let entries = Dir::new(self.file(folder, OFlags::RDONLY | OFlags::DIRECTORY)?)?;
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                files.push(folder.join(std::ffi::OsStr::from_bytes(name)));
            }
        }
        Ok(files)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let (from, way) = self.place(path);
        match fs::statat(from, way, AtFlags::empty()) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let (from, way) = self.place(path);
        match fs::unlinkat(from, way, AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            result => Ok(result?),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let ((from_folder, from_way), (to_folder, to_way)) = (self.place(from), self.place(to));
        fs::renameat(from_folder, from_way, to_folder, to_way)?;
        self.sync_folder_of(to)
    }
}
