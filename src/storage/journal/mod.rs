//! The journal: batches of bytes under rising numbers, appended to files (segments) that are removed from the front once
//! the tables hold what is in them. After a crash a batch is there as a whole or not at all, and so is every batch before it.
//!
//! Only one thread appends. Others may read meanwhile.

mod record;
mod segment;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::storage::disk::Disk;
use crate::storage::{Error, folder};
use segment::Segment;

pub use record::Batch;

/// A segment that has grown to this is followed by a new one. Also about how much a checkpoint leaves in the last one.
const SEGMENT_BYTES: u64 = 64 << 20;

/// A journal in a folder.
#[derive(Debug)]
pub struct Journal {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    segment_bytes: u64,
    /// In the order of their numbers.
    segments: Mutex<Vec<Arc<Segment>>>,
}

impl Journal {
    /// Opens the journal of a folder. What a crash left half written at its end is cut off; all that is left is on disk.
    pub fn open(disk: &Arc<dyn Disk>, folder: &Path) -> Result<Journal, Error> {
        refuse_older(&**disk, folder)?;
        let mut segments = Vec::new();
        for (first, path) in named(&**disk, folder)? {
            segments.push(Segment::open(&**disk, first, path)?);
        }
        if let Some(last) = segments.last_mut() {
            last.cut_torn_end()?;
        }
        let segments = Mutex::new(segments.into_iter().map(Arc::new).collect());
        Ok(Journal { disk: Arc::clone(disk), folder: folder.to_owned(), segment_bytes: SEGMENT_BYTES, segments })
    }

    /// The same, after an error that was not for lack of space. What the system could not write it may have dropped, and
    /// yet show as written, so the last segment is written anew, into a new file; those before it were on disk when it began.
    pub fn renew(disk: &Arc<dyn Disk>, folder: &Path) -> Result<Journal, Error> {
        if let Some((first, path)) = named(&**disk, folder)?.pop() {
            Segment::open(&**disk, first, path)?.write_anew(&**disk)?;
        }
        Journal::open(disk, folder)
    }

    /// The number of the last batch; None when there is none.
    pub fn last(&self) -> Result<Option<u64>, Error> {
        // Only the last segment may be empty: it is made before its first batch is written.
        for segment in self.segments.lock().iter().rev() {
            if let Some(last) = segment.last()? {
                return Ok(Some(last));
            }
        }
        Ok(None)
    }

    /// Appends batches; whether they are on disk is not known before [`Self::sync`]. After an error the journal must be
    /// opened anew, and the same batches may then be appended again: those that are there already are left out.
    pub fn append(&self, batches: &[Batch<'_>]) -> Result<(), Error> {
        let last = self.last()?.unwrap_or(0);
        batches.iter().filter(|batch| batch.seq > last).try_for_each(|batch| self.room_for(batch.seq)?.append(batch))
    }

    /// Waits until all that was appended is on disk.
    pub fn sync(&self) -> Result<(), Error> {
        let last = self.segments.lock().last().cloned();
        last.map_or(Ok(()), |segment| segment.sync())
    }

    /// Removes a segment all of whose batches are up to `seq`, if there is one. Tells whether there are more.
    pub fn trim(&self, seq: u64) -> Result<bool, Error> {
        let is_over = |segments: &[Arc<Segment>]| segments.get(1).is_some_and(|next| next.first <= seq.saturating_add(1));
        let oldest = {
            let segments = self.segments.lock();
            segments.first().filter(|_| is_over(&segments)).cloned()
        };
        let Some(oldest) = oldest else { return Ok(false) };
        self.disk.remove(&oldest.path).map_err(Error::io("remove", &oldest.path))?;
        let mut segments = self.segments.lock();
        segments.remove(0);
        Ok(is_over(&segments))
    }

    /// Shows whole batches after a number, in order, until the end or until about `bytes_max` were shown. Batches above
    /// `last` are not shown. Tells whether it came to the end.
    pub fn read_after<E: From<Error>>(
        &self,
        seq: u64,
        last: u64,
        bytes_max: usize,
        mut show: impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<bool, E> {
        let segments = self.segments.lock().clone();
        let mut shown = 0;
        for (at, segment) in segments.iter().enumerate() {
            let next = segments.get(at + 1).map(|next| next.first);
            if next.is_some_and(|next| next <= seq.saturating_add(1)) {
                continue;
            }
            let mut batches = segment.batches();
            while let Some(head) = batches.next_head()? {
                if head.seq > last {
                    return Ok(true);
                }
                if head.seq <= seq {
                    batches.skip(&head);
                    continue;
                }
                if shown >= bytes_max {
                    return Ok(false);
                }
                let bytes = batches.body(&head)?;
                shown += bytes.len();
                show(head.seq, bytes)?;
            }
        }
        Ok(true)
    }

    fn room_for(&self, seq: u64) -> Result<Arc<Segment>, Error> {
        let last = self.segments.lock().last().cloned();
        if let Some(last) = last {
            if last.end() < self.segment_bytes {
                return Ok(last);
            }
            // Whoever finds a segment may rely on those before it.
            last.sync()?;
        }
        let new = Arc::new(Segment::create(&*self.disk, seq, self.folder.join(folder::segment_name(seq)))?);
        self.segments.lock().push(Arc::clone(&new));
        Ok(new)
    }
}

/// The segments of a folder, with the numbers their names tell, in order.
fn named(disk: &dyn Disk, folder: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let files = disk.list(folder).map_err(Error::io("read", folder))?;
    let mut named: Vec<(u64, PathBuf)> =
        files.into_iter().filter_map(|path| Some((folder::segment_number(path.file_name()?.to_str()?)?, path))).collect();
    named.sort_unstable();
    Ok(named)
}

/// Builds before the first release kept the journal in a database. What it holds must not be passed over in silence.
fn refuse_older(disk: &dyn Disk, folder: &Path) -> Result<(), Error> {
    let path = folder.join("journal.redb");
    if disk.exists(&path).map_err(Error::io("look for", &path))? { Err(Error::TooOld { path }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Files;

    const SEGMENT: u64 = 300;

    fn open(dir: &Path) -> Journal {
        let disk: Arc<dyn Disk> = Arc::new(Files);
        Journal { segment_bytes: SEGMENT, ..Journal::open(&disk, dir).unwrap() }
    }

    fn bytes(seq: u64) -> Vec<u8> {
        vec![seq as u8; 10 * seq as usize % 90]
    }

    fn append(journal: &Journal, seqs: impl IntoIterator<Item = u64>) {
        for seq in seqs {
            let bytes = bytes(seq);
            let (front, back) = bytes.split_at(bytes.len() / 3);
            journal.append(&[Batch { seq, pieces: vec![front, back] }]).unwrap();
        }
    }

    fn read(journal: &Journal, after: u64, last: u64) -> Result<Vec<u64>, Error> {
        let mut seqs = Vec::new();
        let is_end = journal.read_after(after, last, usize::MAX, |seq, found| {
            assert_eq!(found, bytes(seq));
            seqs.push(seq);
            Ok::<_, Error>(())
        })?;
        assert!(is_end);
        Ok(seqs)
    }

    fn files(dir: &Path) -> Vec<PathBuf> {
        named(&Files, dir).unwrap().into_iter().map(|(_, path)| path).collect()
    }

    #[test]
    fn batches_come_back_from_all_segments() {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(dir.path());
        assert_eq!(journal.last().unwrap(), None);
        append(&journal, 1..=30);
        assert!(files(dir.path()).len() > 3);
        for journal in [journal, open(dir.path())] {
            assert_eq!(journal.last().unwrap(), Some(30));
            assert_eq!(read(&journal, 0, u64::MAX).unwrap(), (1..=30).collect::<Vec<_>>());
            assert_eq!(read(&journal, 7, 20).unwrap(), (8..=20).collect::<Vec<_>>());
        }
    }

    #[test]
    fn reading_stops_where_enough_was_shown() {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(dir.path());
        append(&journal, 1..=30);
        let (mut seq, mut rounds) = (0, 0);
        while !journal
            .read_after(seq, u64::MAX, 200, |number, _| {
                assert_eq!(number, seq + 1);
                seq = number;
                Ok::<_, Error>(())
            })
            .unwrap()
        {
            rounds += 1;
        }
        assert!(seq == 30 && rounds > 3, "{seq} in {rounds} rounds");
    }

    #[test]
    fn trimming_removes_segments_and_no_batch_that_is_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(dir.path());
        append(&journal, 1..=30);
        let before = files(dir.path()).len();
        while journal.trim(12).unwrap() {}
        assert!(files(dir.path()).len() < before);
        assert_eq!(read(&open(dir.path()), 12, u64::MAX).unwrap(), (13..=30).collect::<Vec<_>>());
        while journal.trim(u64::MAX).unwrap() {}
        append(&journal, 31..=40);
        assert_eq!(read(&open(dir.path()), 30, u64::MAX).unwrap(), (31..=40).collect::<Vec<_>>());
    }

    #[test]
    fn a_batch_that_is_there_is_not_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(dir.path());
        append(&journal, [1, 2, 3, 2, 3, 4]);
        assert_eq!(read(&journal, 0, u64::MAX).unwrap(), [1, 2, 3, 4]);
    }

    #[test]
    fn wherever_the_last_segment_is_cut_off_the_batches_before_that_remain() {
        let dir = tempfile::tempdir().unwrap();
        append(&open(dir.path()), [1, 2, 11, 12]);
        let [file] = &*files(dir.path()) else { panic!("all of it fits into one segment") };
        let whole = std::fs::read(file).unwrap();
        for len in 16..=whole.len() {
            std::fs::write(file, &whole[..len]).unwrap();
            let journal = open(dir.path());
            let found = read(&journal, 0, u64::MAX).unwrap();
            assert!([1, 2, 11, 12].starts_with(&found), "{found:?}");
            assert_eq!(found.len() == 4, len == whole.len());
            append(&journal, [13]);
            assert_eq!(read(&open(dir.path()), 0, u64::MAX).unwrap(), [&found[..], &[13]].concat());
        }
    }

    #[test]
    fn a_changed_byte_ends_the_last_segment_and_is_told_in_any_other() {
        let dir = tempfile::tempdir().unwrap();
        append(&open(dir.path()), 1..=30);
        let files = files(dir.path());
        for (file, is_last) in [(&files[0], false), (&files[files.len() - 1], true)] {
            let whole = std::fs::read(file).unwrap();
            for at in 16..whole.len() {
                let mut changed = whole.clone();
                changed[at] ^= 0x10;
                std::fs::write(file, &changed).unwrap();
                let found = read(&open(dir.path()), 0, u64::MAX);
                if is_last {
                    assert!(found.as_ref().is_ok_and(|found| (1..30).collect::<Vec<_>>().starts_with(found)), "{found:?}");
                } else {
                    assert!(matches!(found, Err(Error::Damaged { .. })), "{at}: {found:?}");
                }
            }
            std::fs::write(file, &whole).unwrap();
        }
    }

    #[test]
    fn a_batch_larger_than_one_write_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let large: Vec<u8> = (0..3_000_000_u32).map(|number| number as u8).collect();
        open(dir.path()).append(&[Batch { seq: 1, pieces: vec![&large[..5], &large[5..]] }]).unwrap();
        let mut is_shown = false;
        let show = |_, found: &[u8]| {
            is_shown = found == large;
            Ok::<_, Error>(())
        };
        assert!(open(dir.path()).read_after(0, u64::MAX, 1, show).unwrap());
        assert!(is_shown);
    }

    #[test]
    fn a_folder_of_an_older_build_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("journal.redb"), b"").unwrap();
        let disk: Arc<dyn Disk> = Arc::new(Files);
        assert!(matches!(Journal::open(&disk, dir.path()), Err(Error::TooOld { .. })));
    }
}
