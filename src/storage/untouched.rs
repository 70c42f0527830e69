//! Files that are looked at and stay as they are. What a database writes while it is opened, such as its repair after a crash, is kept
//! in memory and forgotten.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use redb::StorageBackend;

use crate::storage::disk::{Backend, Disk};

/// What is written is kept in pieces of this size.
const PAGE_BYTES: u64 = 4096;

/// Files nobody changes.
#[derive(Debug, Clone)]
pub(crate) struct Untouched(pub Arc<dyn Disk>);

impl Disk for Untouched {
    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageBackend>> {
        let file = self.0.open(path)?;
        let len = file.len()?;
        let overlay = Overlay { file, written: Mutex::new(Written { len, kept: len, pages: BTreeMap::new() }) };
        Ok(Box::new(Backend::of(Box::new(overlay))))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        self.0.list(folder)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.0.exists(path)
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }
}

/// A file, and over it what was written.
#[derive(Debug)]
struct Overlay {
    file: Box<dyn StorageBackend>,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    len: u64,
    /// So much of the file still counts; beyond it only what was written is there.
    kept: u64,
    /// By their numbers.
    pages: BTreeMap<u64, Box<[u8]>>,
}

impl Overlay {
    /// Reads what still counts of the file; zeros beyond.
    fn read_kept(&self, kept: u64, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = kept.saturating_sub(offset).min(out.len() as u64) as usize;
        out[there..].fill(0);
        if there == 0 { Ok(()) } else { self.file.read(offset, &mut out[..there]) }
    }
}

/// The parts of a range that lie in one page each: the page, from where in it, and from where to where in the range.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let place = offset + at as u64;
        let within = (place % PAGE_BYTES) as usize;
        let end = len.min(at + PAGE_BYTES as usize - within);
        (at < len).then(|| (place / PAGE_BYTES, within, std::mem::replace(&mut at, end)..end))
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written.lock().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.written.lock();
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > written.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read_kept(written.kept, offset, out)?;
        for (number, within, range) in pieces(offset, out.len()) {
            if let Some(page) = written.pages.get(&number) {
                let len = range.len();
                out[range].copy_from_slice(&page[within..within + len]);
            }
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut written = self.written.lock();
        // What is cut off is zeros when the file grows again.
        written.kept = written.kept.min(len);
        drop(written.pages.split_off(&len.div_ceil(PAGE_BYTES)));
        if let Some(page) = written.pages.get_mut(&(len / PAGE_BYTES)) {
            page[(len % PAGE_BYTES) as usize..].fill(0);
        }
        written.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut written = self.written.lock();
        let kept = written.kept;
        for (number, within, range) in pieces(offset, bytes.len()) {
            let page = match written.pages.entry(number) {
                Entry::Occupied(page) => page.into_mut(),
                Entry::Vacant(place) => {
                    let mut page = vec![0; PAGE_BYTES as usize].into_boxed_slice();
                    self.read_kept(kept, number * PAGE_BYTES, &mut page)?;
                    place.insert(page)
                }
            };
            page[within..within + range.len()].copy_from_slice(&bytes[range]);
        }
        written.len = written.len.max(offset + bytes.len() as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Files;

    #[test]
    fn what_is_written_is_read_and_the_file_stays_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let before: Vec<u8> = (0..10_000_u32).map(|at| at as u8).collect();
        std::fs::write(&path, &before).unwrap();
        let file = Untouched(Arc::new(Files::default())).open(&path).unwrap();
        let mut expected = before.clone();
        file.write(4000, &[7; 5000]).unwrap();
        expected[4000..9000].fill(7);
        file.set_len(6000).unwrap();
        file.set_len(20_000).unwrap();
        expected[6000..].fill(0);
        expected.resize(20_000, 0);
        file.write(19_000, &[9; 3000]).unwrap();
        expected.resize(22_000, 0);
        expected[19_000..].fill(9);
        let mut found = vec![1; expected.len()];
        file.read(0, &mut found).unwrap();
        assert!(found == expected);
        assert!(file.read(21_999, &mut [0; 2]).is_err());
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}
