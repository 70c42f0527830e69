//! How storage reaches its files. Tests put failing disks in its place.

use std::cell::Cell;
use std::fmt::Debug;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{BackendError, Database, StorageBackend};

use crate::storage::Error;
use crate::storage::branches::Branches;
use crate::storage::caught::caught;

thread_local! {
    static SERVES: Cell<bool> = const { Cell::new(false) };
}

/// This thread serves clients from now on, all of whom would wait while it waits for a disk: it must leave that to others.
pub(crate) fn serve_here() {
    SERVES.set(true);
}

/// What the thread that is about to read or write a file must hold to.
fn may_wait() {
    debug_assert!(
        !SERVES.get(),
        "a thread that serves clients was about to wait for a disk: leave it to another (see `engine::block`)"
    );
}

/// Opens the files that the journal and the tables live in.
pub trait Disk: Debug + Send + Sync + 'static {
    /// Opens a file for reading and writing, made if missing.
    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageBackend>>;

    /// The files of a folder.
    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>>;

    /// Whether there is such a file.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Removes a file, if it is there.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Gives a file another name in the same folder, for good.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
}

/// How the name of a file ends that is not yet in its place.
pub(crate) const NEW: &str = "new";
/// The same for a copy.
pub(crate) const PART: &str = "part";

/// Writes a file under another name and puts it in the place of the one that may be there.
pub(crate) fn replace<E: From<Error>>(disk: &dyn Disk, path: &Path, write: impl FnOnce(&Path) -> Result<(), E>) -> Result<(), E> {
    let new = path.with_extension(NEW);
    disk.remove(&new).map_err(Error::io("remove", &new))?;
    if let Err(error) = write(&new) {
        // The space it takes may be what others wait for.
        let _ = disk.remove(&new);
        return Err(error);
    }
    disk.rename(&new, path).map_err(Error::io("rename to", path))?;
    Ok(())
}

/// Opens a database that is there. redb would take an empty file for a new one.
pub(crate) fn open_file(disk: &dyn Disk, path: &Path, cache_bytes: usize) -> Result<(Database, Arc<Branches>), Error> {
    let backend = open_there(disk, path).map_err(Error::io("open", path))?;
    if backend.len().map_err(Error::io("open", path))? == 0 {
        return Err(Error::unsound(path, "it is empty"));
    }
    database(backend, path, cache_bytes)
}

/// How long a file is.
pub(crate) fn file_bytes(disk: &dyn Disk, path: &Path) -> Result<u64, Error> {
    open_there(disk, path).and_then(|file| file.len()).map_err(Error::io("look at", path))
}

/// Opens a file that is there. One that is missing must not be there afterwards, as if someone had emptied it.
fn open_there(disk: &dyn Disk, path: &Path) -> io::Result<Box<dyn StorageBackend>> {
    if disk.exists(path)? { disk.open(path) } else { Err(io::ErrorKind::NotFound.into()) }
}

/// Makes a database in a new file.
pub(crate) fn make_file(disk: &dyn Disk, path: &Path, cache_bytes: usize) -> Result<(Database, Arc<Branches>), Error> {
    database(disk.open(path).map_err(Error::io("make", path))?, path, cache_bytes)
}

fn database(file: Box<dyn StorageBackend>, path: &Path, cache_bytes: usize) -> Result<(Database, Arc<Branches>), Error> {
    let branches = Arc::<Branches>::default();
    let backend = Backend { file, branches: Arc::clone(&branches) };
    let database = caught(path, || redb::Builder::new().set_cache_size(cache_bytes).create_with_backend(backend))?;
    Ok((database, branches))
}

/// Any backend as one type, which is what redb takes, and which sees to it that only those wait for it who may.
#[derive(Debug)]
pub(crate) struct Backend {
    file: Box<dyn StorageBackend>,
    branches: Arc<Branches>,
}

impl Backend {
    /// One of which no pages are kept.
    pub(crate) fn of(file: Box<dyn StorageBackend>) -> Backend {
        Backend { file, branches: Arc::default() }
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        may_wait();
        if !self.branches.read(offset, out) {
            self.file.read(offset, out)?;
            self.branches.note(offset, out);
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        may_wait();
        self.branches.forget(len, u64::MAX);
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        may_wait();
        self.file.sync_data()
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        may_wait();
        self.branches.forget(offset, bytes.len() as u64);
        self.file.write(offset, bytes)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;

    #[test]
    fn a_page_that_is_written_over_or_cut_off_is_read_as_it_is_now() {
        /// A page that leads to others begins so.
        const BRANCH: u8 = 2;
        const LEN: usize = 4096;
        let branches = Arc::<Branches>::default();
        branches.keep(1 << 20);
        let backend = Backend { file: Box::new(InMemoryBackend::new()), branches: Arc::clone(&branches) };
        let page = |mark: u8| [&[BRANCH][..], &[mark; LEN - 1]].concat();
        let read = || {
            let mut page = vec![0; LEN];
            backend.read(0, &mut page).unwrap();
            page
        };
        backend.set_len(LEN as u64).unwrap();
        for mark in [1, 2] {
            backend.write(0, &page(mark)).unwrap();
            assert!(read() == page(mark) && read() == page(mark), "page {mark}");
        }
        assert!(branches.read(0, &mut [0; LEN]), "it is kept");
        backend.set_len(0).unwrap();
        backend.set_len(LEN as u64).unwrap();
        assert!(read() == [0; LEN], "what was cut off is still read");
    }
}
