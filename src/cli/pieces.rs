//! What a command has made so far, so that it leaves nothing behind when it fails or is interrupted.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;

use parking_lot::Mutex;
use tokio::signal::unix::{SignalKind, signal};

use crate::lifecycle::{Lifecycle, Phase, Plan};

/// As shells tell a program that SIGINT ended.
const INTERRUPTED: i32 = 130;

/// Files and folders that go when it is dropped, unless they are kept; and when the user interrupts.
pub(crate) struct Pieces(Arc<Mutex<Vec<Piece>>>);

enum Piece {
    /// A file by its name.
    File(PathBuf),
    /// A folder, if it is empty by then.
    Folder(PathBuf),
    /// Files in a folder whose names begin and end so, but for those that were there before.
    Like { folder: PathBuf, begin: String, end: &'static str, before: Vec<PathBuf> },
}

impl Pieces {
    /// None yet.
    pub(crate) fn begin() -> Pieces {
        let pieces = Pieces(Arc::default());
        let made = Arc::clone(&pieces.0);
        on_interrupt(move || {
            remove(&mut made.lock());
            std::process::exit(INTERRUPTED);
        });
        pieces
    }

    /// A file that may be there from now on.
    pub(crate) fn file(&self, path: PathBuf) {
        self.0.lock().push(Piece::File(path));
    }

    /// The file that a backup is written into until it is whole. It is named after the backup.
    pub(crate) fn part_of(&self, backup: &Path) {
        let folder = backup.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
        let name = backup.file_name().unwrap_or_default().to_string_lossy();
        let (begin, end) = (format!(".{name}."), ".part");
        let before = like(folder, &begin, end);
        self.0.lock().push(Piece::Like { folder: folder.to_owned(), begin, end, before });
    }

    /// The folders on the way to this one, and it, that are not there yet.
    pub(crate) fn missing_folders(&self, path: &Path) {
        let missing = path.ancestors().take_while(|folder| *folder != Path::new("") && !folder.exists());
        let missing: Vec<Piece> = missing.map(|folder| Piece::Folder(folder.to_owned())).collect();
        // Outer ones first, since they are removed last.
        self.0.lock().extend(missing.into_iter().rev());
    }

    /// All is well: they stay.
    pub(crate) fn keep(self) {
        self.0.lock().clear();
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        remove(&mut self.0.lock());
    }
}

/// Does something when the user or the system wants the program to end; from the moment on at which this returns. Where that cannot be had, an
/// interrupt ends it as it ends any other.
pub(crate) fn on_interrupt(then: impl FnOnce() + Send + 'static) {
    let (ready, is_ready) = mpsc::channel::<()>();
    let wait = move |_: &_| {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            let signals = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
            let [Ok(mut interrupt), Ok(mut terminate)] = signals else { return };
            drop(ready);
            tokio::select! {
                _ = interrupt.recv() => then(),
                _ = terminate.recv() => then(),
            }
        });
    };
    if Lifecycle::default().work(Plan::new("interrupt", Phase::Finish), wait).is_ok() {
        // Nothing is ever sent: the sender is dropped when the signals are caught, or cannot be.
        let _ = is_ready.recv();
    }
}

/// Removes them, the last one first. What is not there, or not empty, is left alone.
fn remove(pieces: &mut Vec<Piece>) {
    for piece in pieces.drain(..).rev() {
        match piece {
            Piece::File(path) => drop(std::fs::remove_file(path)),
            Piece::Folder(path) => drop(std::fs::remove_dir(path)),
            Piece::Like { folder, begin, end, before } => {
                let made = like(&folder, &begin, end).into_iter().filter(|path| !before.contains(path));
                made.for_each(|path| drop(std::fs::remove_file(path)));
            }
        }
    }
}

/// Files in a folder whose names begin and end so.
fn like(folder: &Path, begin: &str, end: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let is_like = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(begin) && name.ends_with(end)
    };
    entries.map(|entry| entry.path()).filter(is_like).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_kept_goes_and_what_was_there_stays() {
        let dir = tempfile::tempdir().expect("a folder for the test");
        let there = [dir.path().join("there"), dir.path().join(".copy.mine.part")];
        there.iter().for_each(|path| std::fs::write(path, "mine").expect("it is ours"));
        for is_kept in [false, true] {
            let pieces = Pieces::begin();
            let inner = dir.path().join("outer/inner");
            pieces.missing_folders(&inner);
            pieces.file(inner.join("made"));
            pieces.part_of(&dir.path().join("copy"));
            std::fs::create_dir_all(&inner).expect("it is ours");
            for path in [inner.join("made"), dir.path().join(".copy.1.part")] {
                std::fs::write(path, "").expect("it is ours");
            }
            if is_kept {
                pieces.keep();
            } else {
                drop(pieces);
            }
            assert_eq!(inner.join("made").exists(), is_kept);
            assert_eq!(dir.path().join("outer").exists(), is_kept);
            assert_eq!(dir.path().join(".copy.1.part").exists(), is_kept);
        }
        assert!(there.iter().all(|path| path.exists()));
    }
}
