//! A data folder, held by one process at a time.

use std::fs::{DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustix::fs::OFlags;

use crate::storage::files::Files;
pub(crate) use crate::storage::files::{PRIVATE_FILE, folder_of};
use crate::storage::{Error, Untouched};

/// The data is nobody else's to read.
const PRIVATE_FOLDER: u32 = 0o700;

/// Makes a folder, if it is missing, that only this user may enter, there for good. One that is there stays as it is.
pub(crate) fn make_private(path: &Path) -> io::Result<()> {
    let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
    let missing: Vec<&Path> = path.ancestors().take_while(is_missing).collect();
    DirBuilder::new().recursive(true).mode(PRIVATE_FOLDER).create(path)?;
    missing.into_iter().try_for_each(|made| File::open(folder_of(made))?.sync_all())
}

/// A folder this process holds, until it is let go or dropped. It holds the folder itself and not its path: where the folder is
/// moved, its files are those in the new place.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    files: Files,
    /// Locked as long as it is open. None where nobody ever wrote to the folder.
    lock: Mutex<Option<File>>,
}

/// The name of the file whose lock is the folder's.
pub(crate) const LOCK: &str = "lock";

impl Folder {
    /// Takes hold of a folder, made if missing.
    pub(crate) fn open(path: &Path) -> Result<Folder, Error> {
        make_private(path).map_err(Error::io("create", path))?;
        let files = hold(path)?;
        let place = path.join(LOCK);
        let lock = files.file(&place, OFlags::WRONLY | OFlags::CREATE).map_err(Error::io("open", &place))?;
        locked(path, lock.try_lock())?;
        Ok(Folder { path: path.to_owned(), files, lock: Mutex::new(Some(lock)) })
    }

    /// Takes hold of a folder to look at it: nothing in it is changed, others may look too, and nobody may write meanwhile.
    pub fn look(path: &Path) -> Result<Folder, Error> {
        let files = hold(path)?;
        let place = path.join(LOCK);
        let lock = match files.file(&place, OFlags::RDONLY) {
            Ok(lock) => Some(lock),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => return Err(Error::io("open", &place)(source)),
        };
        if let Some(lock) = &lock {
            locked(path, lock.try_lock_shared())?;
        }
        Ok(Folder { path: path.to_owned(), files, lock: Mutex::new(lock) })
    }

    /// Whether this path leads to it now.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        let held = self.files.file(&self.path, OFlags::RDONLY | OFlags::DIRECTORY).and_then(|folder| folder.metadata());
        match (held, path.metadata()) {
            (Ok(held), Ok(other)) => (held.dev(), held.ino()) == (other.dev(), other.ino()),
            _ => false,
        }
    }

    /// Its files.
    pub(crate) fn files(&self) -> Files {
        self.files.clone()
    }

    /// Its files, none of which is changed.
    pub(crate) fn untouched(&self) -> Untouched {
        Untouched(Arc::new(self.files().read_only()))
    }

    /// Lets go of it: another process may take it. Its files must be closed.
    pub(crate) fn let_go(&self) {
        if let Some(lock) = self.lock.lock().take() {
            // Not only closed: a process that is just being started holds a copy of the file for a moment, and the lock with it.
            let _ = lock.unlock();
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where its tables are.
    pub(crate) fn tables(&self) -> PathBuf {
        self.path.join(TABLES)
    }
}

fn hold(path: &Path) -> Result<Files, Error> {
    let handle = Files::default().file(path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(Error::io("open", path))?;
    Ok(Files::held(path, Arc::new(handle)))
}

fn locked(path: &Path, result: Result<(), TryLockError>) -> Result<(), Error> {
    match result {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(Error::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(Error::Io { what: "lock", path: path.join(LOCK), source }),
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.let_go();
    }
}

/// What the names of the journal's files begin with; then comes a number, so that they sort by age.
pub(crate) const JOURNAL: &str = "journal-";
/// What the names of files begin with that hold what was cut off.
pub(crate) const LOST: &str = "lost-";
/// The tables' file name.
pub(crate) const TABLES: &str = "tables.redb";

/// The name of the file of the journal whose first batch has this number.
pub(crate) fn segment_name(first: u64) -> String {
    format!("{JOURNAL}{first:016x}")
}

/// The number in the name of a file of the journal; None if it is no such name.
pub(crate) fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(JOURNAL)?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    (segment_name(number) == name).then_some(number)
}

/// Makes a rename or a new file in this folder last.
pub(crate) fn sync_folder(path: &Path) -> Result<(), Error> {
    let folder = File::open(path).map_err(Error::io("open", path))?;
    folder.sync_all().map_err(Error::io("sync", path))
}
