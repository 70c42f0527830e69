//! Ordinary files, where a test sees what is done to them, or has it fail.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flux::storage::{Disk, Files};
use redb::StorageBackend;

/// What a test does before something is done to a file; an error is what comes of that instead.
pub trait Hooks: Debug + Send + Sync + 'static {
    /// So many bytes are read.
    fn read(&self, _path: &Path, _bytes: usize) -> io::Result<()> {
        Ok(())
    }

    /// So many bytes are written.
    fn write(&self, _path: &Path, _bytes: usize) -> io::Result<()> {
        Ok(())
    }

    /// A file gets this name.
    fn rename(&self, _to: &Path) -> io::Result<()> {
        Ok(())
    }
}

/// Ordinary files with hooks.
#[derive(Debug)]
pub struct Hooked<H>(pub Arc<H>);

#[derive(Debug)]
struct HookedFile<H> {
    path: PathBuf,
    file: Box<dyn StorageBackend>,
    hooks: Arc<H>,
}

impl<H: Hooks> Disk for Hooked<H> {
    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageBackend>> {
        let file = Files::default().open(path)?;
        Ok(Box::new(HookedFile { path: path.to_owned(), file, hooks: Arc::clone(&self.0) }))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        Files::default().list(folder)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Files::default().exists(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Files::default().remove(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(to)?;
        Files::default().rename(from, to)
    }
}

impl<H: Hooks> StorageBackend for HookedFile<H> {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.hooks.read(&self.path, out.len())?;
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.hooks.write(&self.path, bytes.len())?;
        self.file.write(offset, bytes)
    }
}
