//! The journal: batches of bytes under rising numbers, appended to files (segments) that are removed from the front once
//! the tables hold what is in them. After a crash a batch is there as a whole or not at all, and so is every batch before it.
//!
//! Only one thread appends. Others may read meanwhile.

mod header;
mod reading;
mod record;
mod segment;
mod survey;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use crate::storage::disk::Disk;
use crate::storage::{Error, folder};
use header::{FRONT_BYTES, Header};

pub(crate) use reading::Span;
pub use reading::{Origin, Reading, Stretch};
pub use record::Batch;
pub(crate) use segment::Segment;
pub(crate) use survey::{Expected, Survey, Torn, first_header, named};

/// A segment that has grown to this is usually followed by a new one, where nobody says otherwise: it may have to be copied.
pub(crate) const SEGMENT_BYTES: u64 = 1 << 30;

/// Of what nobody needs any more, the last segment may keep this part of its size: a file is not worth beginning for less.
const KEPT_SHARE: u64 = 16;

/// A journal in a folder.
#[derive(Debug)]
pub struct Journal {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    segment_bytes: AtomicU64,
    history: u64,
    /// In the order of their numbers. Invariant: there is one; a folder without any has lost its journal.
    segments: Mutex<Vec<Arc<Segment>>>,
    /// The first number of a file that was begun behind the last one, has its name, and may lose it again: the last one must not grow
    /// before it is there for good, since it says where that ends.
    begun: Mutex<Option<u64>>,
}

impl Journal {
    /// Makes the first file of a journal whose next batch comes after this one.
    pub fn create(disk: &Arc<dyn Disk>, folder: &Path, history: u64, follows: u64, segment_bytes: u64) -> Result<Journal, Error> {
        let header = Header { history, first: follows + 1, follows };
        let first = Segment::create(&**disk, header, folder.join(folder::segment_name(header.first)))?;
        Ok(Journal::of(disk, folder, vec![first], segment_bytes))
    }

    /// A journal as it was found, to be read; it must have a file.
    pub(crate) fn of(disk: &Arc<dyn Disk>, folder: &Path, segments: Vec<Segment>, segment_bytes: u64) -> Journal {
        let history = segments.first().map_or(0, |segment| segment.header.history);
        let segments = Mutex::new(segments.into_iter().map(Arc::new).collect());
        let segment_bytes = AtomicU64::new(segment_bytes);
        Journal { disk: Arc::clone(disk), folder: folder.to_owned(), segment_bytes, history, segments, begun: Mutex::default() }
    }

    /// The same, to be gone on with: what is behind its last whole batch is cut off, and all that is left is on disk.
    pub(crate) fn settled(
        disk: &Arc<dyn Disk>,
        folder: &Path,
        segments: Vec<Segment>,
        segment_bytes: u64,
    ) -> Result<Journal, Error> {
        segments.last().map_or(Ok(()), Segment::settle)?;
        Ok(Journal::of(disk, folder, segments, segment_bytes))
    }

    /// Makes the journal fit to be gone on with after an error. Batches up to `covered` are needed by nobody, and those after it up to
    /// `needed` are to be had from nowhere else: where the disk lost them, all stays as it is. Files before the last one were on disk
    /// when it began, so they are left alone.
    pub(crate) fn mend(&self, covered: u64, needed: u64) -> Result<(), Error> {
        if let Some(anew) = self.current().mend(&*self.disk, covered, needed)? {
            *self.segments.lock().last_mut().expect("a journal has a file") = Arc::new(anew);
        }
        Ok(())
    }

    /// Sets from which size on a file is followed by a new one.
    pub(crate) fn set_segment_bytes(&self, bytes: u64) {
        self.segment_bytes.store(bytes, Relaxed);
    }

    /// The number of the last batch, or of the last one before the journal's first file; 0 where there never was one.
    pub(crate) fn last(&self) -> u64 {
        self.current().last()
    }

    /// How many files it has.
    pub(crate) fn files(&self) -> usize {
        self.segments.lock().len()
    }

    /// The first of its files that is not in its place any more, though batches after `covered` stand in it, or are to. For who appends and
    /// trims.
    pub(crate) fn missing(&self, covered: u64) -> Option<PathBuf> {
        let segments = self.segments.lock().clone();
        let is_needed = |at: usize| segments.get(at + 1).is_none_or(|next| next.header.first > covered.saturating_add(1));
        let is_gone = |path: &Path| matches!(self.disk.exists(path), Ok(false));
        let gone = segments.iter().enumerate().find(|(at, segment)| is_needed(*at) && is_gone(&segment.path));
        gone.map(|(_, segment)| segment.path.clone())
    }

    fn current(&self) -> Arc<Segment> {
        Arc::clone(self.segments.lock().last().expect("a journal has a file"))
    }

    /// Appends batches; whether they are on disk is not known before [`Self::sync`]. After an error of either, [`Self::mend`] must
    /// come first, and the same batches may then be appended again: those that are there already are left out.
    pub fn append(&self, batches: &[Batch<'_>]) -> Result<(), Error> {
        let last = self.last();
        batches.iter().filter(|batch| batch.seq > last).try_for_each(|batch| self.room_for(batch.seq)?.append(batch))
    }

    /// Waits until all that was appended is on disk.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        self.current().sync()
    }

    /// Whether more is on disk than the journal's file says of itself.
    pub(crate) fn wants_mark(&self) -> bool {
        self.current().wants_mark()
    }

    /// Has the journal's file say how much of it is on disk: what is missing there later is damage, not what a crash left. It need not
    /// be synced, and costs the next sync a page.
    pub(crate) fn mark(&self) -> Result<(), Error> {
        self.current().mark(false)
    }

    /// Removes the oldest file, if none of its batches is after `seq` and another one follows; tells whether it did.
    pub(crate) fn trim(&self, seq: u64) -> Result<bool, Error> {
        let oldest = {
            let segments = self.segments.lock();
            let is_over = segments.get(1).is_some_and(|next| next.header.first <= seq.saturating_add(1));
            segments.first().filter(|_| is_over).cloned()
        };
        let Some(oldest) = oldest else { return Ok(false) };
        self.disk.remove(&oldest.path).map_err(Error::io("remove", &oldest.path))?;
        let mut segments = self.segments.lock();
        assert!(Arc::ptr_eq(&segments[0], &oldest), "two trim at once: a file would be forgotten that is there");
        segments.remove(0);
        assert!(!segments.is_empty(), "the last file is what the next batch follows");
        Ok(true)
    }

    /// Has the last file make way for an empty one, if none of its batches is after `seq` and that gives back much of the disk; tells
    /// whether it did. After an error it can be tried again, and nothing else is hindered. Not to be called before [`Self::mend`].
    pub(crate) fn make_way(&self, seq: u64) -> Result<bool, Error> {
        let last = self.current();
        let is_much = last.end() - FRONT_BYTES > self.segment_bytes.load(Relaxed) / KEPT_SHARE;
        // Were a sync to fail here, nobody would know what is in doubt.
        if last.last() > seq || !is_much || !last.is_synced() {
            return Ok(false);
        }
        // One that was begun before may have its name already: another one beside it would hold what comes before it.
        let first = self.begun.lock().unwrap_or(last.last() + 1);
        self.follow(&last, first)?;
        Ok(true)
    }

    /// Its files as they are now, to be read.
    pub fn reading(&self) -> Reading {
        Reading::of(self.segments.lock().clone())
    }

    /// Shows whole batches after a number: see [`Reading::read_after`].
    pub(crate) fn read_after<E: From<Error>>(
        &self,
        seq: u64,
        last: u64,
        bytes_max: usize,
        mut show: impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<bool, E> {
        self.reading().read_after(seq, last, bytes_max, |batch| show(batch.seq, batch.bytes))
    }

    fn room_for(&self, seq: u64) -> Result<Arc<Segment>, Error> {
        let last = self.current();
        assert!(seq > last.last(), "batch {seq} after {}: the new file would say that it follows a later one", last.last());
        let begun = *self.begun.lock();
        match begun {
            Some(first) => self.follow(&last, first),
            None if last.end() < self.segment_bytes.load(Relaxed) => Ok(last),
            None => self.follow(&last, seq),
        }
    }

    /// Begins a segment behind the last one, with this batch.
    fn follow(&self, last: &Segment, seq: u64) -> Result<Arc<Segment>, Error> {
        // Whoever finds a segment may rely on those before it.
        last.sync()?;
        let header = Header { history: self.history, first: seq, follows: last.last() };
        let path = self.folder.join(folder::segment_name(seq));
        let begin = || -> Result<_, Error> {
            let new = Segment::create(&*self.disk, header, path.clone())?;
            last.mark(true)?;
            Ok(Arc::new(new))
        };
        let new = begin().inspect_err(|_| {
            let is_there = self.disk.exists(&path).unwrap_or(true);
            *self.begun.lock() = is_there.then_some(seq);
        })?;
        *self.begun.lock() = None;
        self.segments.lock().push(Arc::clone(&new));
        Ok(new)
    }
}

/// Builds before the first release kept the journal in a database. What it holds must not be passed over in silence.
pub(super) fn refuse_older(disk: &dyn Disk, folder: &Path) -> Result<(), Error> {
    let path = folder.join("journal.redb");
    if disk.exists(&path).map_err(Error::io("look for", &path))? { Err(Error::TooOld { path }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Files;

    const SEGMENT: u64 = FRONT_BYTES + 300;
    const HISTORY: u64 = 77;

    fn disk() -> Arc<dyn Disk> {
        Arc::new(Files::default())
    }

    fn survey(dir: &Path) -> Survey {
        survey_after(dir, 0)
    }

    fn survey_after(dir: &Path, covered: u64) -> Survey {
        Survey::of(&Files::default(), dir, &Expected { history: Some(HISTORY), covered }).unwrap()
    }

    /// The journal of a folder as a start finds it, made if missing.
    fn open(dir: &Path) -> Journal {
        open_after(dir, 0)
    }

    fn open_after(dir: &Path, covered: u64) -> Journal {
        if files(dir).is_empty() {
            return Journal::create(&disk(), dir, HISTORY, 0, SEGMENT).unwrap();
        }
        let survey = survey_after(dir, covered);
        assert_eq!(survey.damage, None);
        Journal::settled(&disk(), dir, survey.segments, SEGMENT).unwrap()
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
        named(&Files::default(), dir).unwrap().into_iter().map(|(_, path)| path).collect()
    }

    #[test]
    fn batches_come_back_from_all_segments() {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(dir.path());
        assert_eq!(journal.last(), 0);
        append(&journal, 1..=30);
        assert!(files(dir.path()).len() > 3);
        for journal in [journal, open(dir.path())] {
            assert_eq!(journal.last(), 30);
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
        assert_eq!(read(&open_after(dir.path(), 12), 12, u64::MAX).unwrap(), (13..=30).collect::<Vec<_>>());
        while journal.trim(u64::MAX).unwrap() {}
        append(&journal, 31..=40);
        assert_eq!(read(&open_after(dir.path(), 30), 30, u64::MAX).unwrap(), (31..=40).collect::<Vec<_>>());
    }

    #[test]
    fn a_journal_that_nobody_needs_any_more_takes_next_to_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::create(&disk(), dir.path(), HISTORY, 0, 1 << 20).unwrap();
        let taken = || files(dir.path()).iter().map(|path| path.metadata().unwrap().len()).sum::<u64>();
        (1..=30).for_each(|seq| journal.append(&[Batch { seq, pieces: vec![&[7; 10_000]] }]).unwrap());
        journal.sync().unwrap();
        let trim = |seq| while journal.trim(seq).unwrap() || journal.make_way(seq).unwrap() {};
        trim(29);
        assert!(taken() > 300_000);
        trim(30);
        assert_eq!((files(dir.path()).len(), taken()), (1, FRONT_BYTES));
        append(&journal, [31]);
        journal.sync().unwrap();
        trim(31);
        assert!(taken() > FRONT_BYTES, "a file is begun for little");
        assert_eq!([journal.last(), open_after(dir.path(), 30).last()], [31, 31]);
    }

    #[test]
    fn a_batch_that_is_there_is_not_written_again() {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(dir.path());
        append(&journal, [1, 2, 3, 2, 3, 4]);
        assert_eq!(read(&journal, 0, u64::MAX).unwrap(), [1, 2, 3, 4]);
    }

    #[test]
    fn wherever_a_crash_cuts_off_what_was_not_synced_the_batches_before_that_remain() {
        let dir = tempfile::tempdir().unwrap();
        append(&open(dir.path()), [1, 2, 11, 12]);
        let [file] = &*files(dir.path()) else { panic!("all of it fits into one segment") };
        let whole = std::fs::read(file).unwrap();
        for len in FRONT_BYTES as usize..=whole.len() {
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
    fn a_changed_byte_is_told_in_all_that_was_synced_and_ends_what_was_not() {
        let dir = tempfile::tempdir().unwrap();
        let journal = open(dir.path());
        append(&journal, 1..=25);
        journal.sync().unwrap();
        let synced = journal.current().end() as usize;
        append(&journal, 26..=30);
        let files = files(dir.path());
        for (file, is_last) in [(&files[0], false), (&files[files.len() - 1], true)] {
            let whole = std::fs::read(file).unwrap();
            for at in FRONT_BYTES as usize..whole.len() {
                let mut changed = whole.clone();
                changed[at] ^= 0x10;
                std::fs::write(file, &changed).unwrap();
                let survey = survey(dir.path());
                let is_known = !is_last || survey.segments.last().unwrap().header.first <= 25 && at < synced;
                assert_eq!(survey.damage.is_some(), is_known, "{at}: {survey:?}");
                assert_eq!(survey.torn.is_some(), !is_known, "{at}: {survey:?}");
            }
            std::fs::write(file, &whole).unwrap();
        }
    }

    #[test]
    fn a_file_that_is_missing_or_is_not_the_one_that_belongs_there_is_told() {
        let dir = tempfile::tempdir().unwrap();
        append(&open(dir.path()), 1..=30);
        drop(open(dir.path()));
        let files = files(dir.path());
        let is_told = || survey(dir.path()).damage.is_some();
        let whole: Vec<_> = files.iter().map(|file| std::fs::read(file).unwrap()).collect();
        for (file, bytes) in files.iter().zip(&whole) {
            std::fs::remove_file(file).unwrap();
            assert!(is_told(), "without {}", file.display());
            for (other, others) in files.iter().zip(&whole).filter(|(other, _)| *other != file) {
                std::fs::write(file, others).unwrap();
                std::fs::write(other, bytes).unwrap();
                assert!(is_told(), "{} and {} swapped", file.display(), other.display());
                std::fs::write(other, others).unwrap();
            }
            for len in (0..FRONT_BYTES as usize).step_by(512).chain(FRONT_BYTES as usize..bytes.len()) {
                std::fs::write(file, &bytes[..len]).unwrap();
                assert!(is_told(), "{} cut at {len}", file.display());
            }
            std::fs::write(file, bytes).unwrap();
            assert!(!is_told());
        }
    }

    #[test]
    fn any_change_to_the_front_of_a_file_is_told_or_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        append(&open(dir.path()), 1..=3);
        drop(open(dir.path()));
        let [file] = &*files(dir.path()) else { panic!("all of it fits into one segment") };
        let whole = std::fs::read(file).unwrap();
        for at in (0..FRONT_BYTES as usize).filter(|at| at % 4096 < 64 || at % 512 == 0) {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            std::fs::write(file, &changed).unwrap();
            let survey = Survey::of(&Files::default(), dir.path(), &Expected { history: Some(HISTORY), covered: 0 });
            let is_told = survey.as_ref().map_or(true, |survey| survey.damage.is_some());
            assert!(is_told || survey.unwrap().segments[0].last() == 3, "{at}");
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
        assert!(matches!(refuse_older(&Files::default(), dir.path()), Err(Error::TooOld { .. })));
    }
}
