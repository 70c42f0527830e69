//! What stands in a journal, read: batches in their order, and later, by where they stand, bytes of those that were shown.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::storage::Error;
use crate::storage::journal::segment::Segment;

/// Read at once of bytes that are not wanted all together: four rows of a large string.
const PIECES: usize = 4;
/// Where in a place the number of its file begins. No file comes to a fraction of what the other bits can say.
const FILE_SHIFT: u32 = 48;

/// The files of a journal at one moment. They can be read as long as this is there, whatever the journal lets go of meanwhile.
#[derive(Debug)]
pub struct Reading {
    segments: Vec<Arc<Segment>>,
    has_failed: AtomicBool,
}

/// A batch as it stands in the journal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown<'b> {
    /// Its number.
    pub seq: u64,
    /// Its bytes.
    pub bytes: &'b [u8],
    /// Where these begin, if there is a word for that.
    place: Option<Place>,
}

/// Batches that were read together, in a room that the next ones can use again: where free memory is handed back at once, a new one for each
/// costs as much as reading it.
#[derive(Debug, Default)]
pub struct Stretch {
    room: Vec<u8>,
    batches: Vec<(Range<usize>, Option<Place>)>,
    /// The number of the last one that was read, ever.
    pub(crate) last: u64,
}

impl Stretch {
    /// None yet, after this one.
    pub fn after(seq: u64) -> Stretch {
        Stretch { last: seq, ..Stretch::default() }
    }

    /// The batches, and where they stand.
    pub fn batches(&self) -> impl Iterator<Item = (&[u8], Option<Origin>)> {
        self.batches.iter().map(|(range, place)| {
            let bytes = &self.room[range.clone()];
            (bytes, place.map(|place| Origin::new(place, bytes)))
        })
    }

    /// Bytes of the batches.
    pub(crate) fn bytes(&self) -> usize {
        self.room.len()
    }

    fn clear(&mut self) {
        self.room.clear();
        self.batches.clear();
    }

    fn push(&mut self, batch: Shown<'_>) {
        let start = self.room.len();
        self.room.extend_from_slice(batch.bytes);
        self.batches.push((start..self.room.len(), batch.place));
        self.last = batch.seq;
    }
}

/// Where something stands in the files that are read: the number of the file among them, and how far from its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(u64);

impl Place {
    /// None where the file's number is too large: nobody has so many files open.
    fn new(file: usize, at: u64) -> Option<Place> {
        let is_sound = file < 1 << (u64::BITS - FILE_SHIFT) && at < 1 << FILE_SHIFT;
        is_sound.then_some(Place((file as u64) << FILE_SHIFT | at))
    }

    fn file(self) -> usize {
        (self.0 >> FILE_SHIFT) as usize
    }

    fn at(self) -> u64 {
        self.0 & ((1 << FILE_SHIFT) - 1)
    }
}

/// Bytes that are in memory, and where they stand in the journal.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    place: Place,
    /// Their address.
    start: usize,
    len: usize,
}

impl Origin {
    /// Of bytes that stand at a place.
    pub(crate) fn new(place: Place, bytes: &[u8]) -> Origin {
        Origin { place, start: bytes.as_ptr().addr(), len: bytes.len() }
    }

    /// The span of some of these bytes; None if they are not among these, or too many for a span.
    pub(crate) fn span(&self, part: &[u8]) -> Option<Span> {
        let offset = part.as_ptr().addr().checked_sub(self.start)?;
        let is_part = offset.checked_add(part.len())? <= self.len;
        let place = Place::new(self.place.file(), self.place.at() + offset as u64)?;
        let len = u32::try_from(part.len()).ok()?;
        is_part.then(|| Span { place, len, checksum: xxh3_64(part) as u32 })
    }
}

/// Bytes that stand in the journal. They were part of a batch that was what was written, and must still be that when they are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    place: Place,
    len: u32,
    checksum: u32,
}

impl Span {
    /// How many bytes.
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    /// Where they begin.
    pub(crate) fn place(&self) -> Place {
        self.place
    }
}

impl Reading {
    /// Of these files, in their order.
    pub(super) fn of(segments: Vec<Arc<Segment>>) -> Reading {
        Reading { segments, has_failed: AtomicBool::new(false) }
    }

    /// Whether something could not be read, or was not what was written.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Relaxed)
    }

    /// Shows whole batches after a number, in order, until the end or until about `bytes_max` were shown. Batches above
    /// `last` are not shown. Tells whether it came to the end.
    pub(crate) fn read_after<E: From<Error>>(
        &self,
        seq: u64,
        last: u64,
        bytes_max: usize,
        mut show: impl FnMut(Shown<'_>) -> Result<(), E>,
    ) -> Result<bool, E> {
        let mut shown = 0;
        for (file, segment) in self.segments.iter().enumerate() {
            let next = self.segments.get(file + 1).map(|next| next.header.first);
            if next.is_some_and(|next| next <= seq.saturating_add(1)) {
                continue;
            }
            let mut batches = segment.batches();
            while let Some(head) = self.noted(batches.next_head())? {
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
                let place = Place::new(file, batches.body_at());
                let bytes = self.noted(batches.body(&head))?;
                shown += bytes.len();
                show(Shown { seq: head.seq, bytes, place })?;
                // What comes behind is not looked at: after an error of the disk it need not be what was written.
                if head.seq == last {
                    return Ok(true);
                }
            }
        }
        Ok(true)
    }

    /// Reads the next stretch, of about so many bytes, up to the batch `last`; tells whether it came to the end.
    pub fn read_stretch(&self, last: u64, bytes_max: usize, to: &mut Stretch) -> Result<bool, Error> {
        to.clear();
        self.read_after(to.last, last, bytes_max, |batch| {
            to.push(batch);
            Ok(())
        })
    }

    /// Appends the bytes of a span.
    pub(crate) fn read(&self, span: Span, to: &mut Vec<u8>) -> Result<(), Error> {
        let start = to.len();
        to.resize(start + span.len(), 0);
        self.read_at(span, 0, &mut to[start..])?;
        self.check(span, xxh3_64(&to[start..]))
    }

    /// Shows the bytes of a span in pieces of this length, all but the last. Whether they are what was written is known at the end.
    pub(crate) fn each_piece<E: From<Error>>(
        &self,
        span: Span,
        piece_bytes: usize,
        mut show: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut hasher, mut at, mut room) = (Xxh3::new(), 0, Vec::new());
        while at < span.len() {
            room.resize((span.len() - at).min(PIECES * piece_bytes), 0);
            self.read_at(span, at, &mut room)?;
            hasher.update(&room);
            at += room.len();
            room.chunks(piece_bytes).try_for_each(&mut show)?;
        }
        Ok(self.check(span, hasher.digest())?)
    }

    fn read_at(&self, span: Span, offset: usize, out: &mut [u8]) -> Result<(), Error> {
        let segment = &self.segments[span.place.file()];
        self.noted(segment.read(span.place.at() + offset as u64, out))
    }

    fn check(&self, span: Span, hash: u64) -> Result<(), Error> {
        let is_same = hash as u32 == span.checksum;
        let segment = &self.segments[span.place.file()];
        self.noted(if is_same { Ok(()) } else { Err(segment.damaged(span.place.at())) })
    }

    fn noted<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        self.has_failed.fetch_or(result.is_err(), Relaxed);
        result
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::storage::journal::{Batch, Journal, SEGMENT_BYTES};
    use crate::storage::{Disk, Files};

    fn value(seq: u64) -> Vec<u8> {
        (0..50_000).map(|at| (at * seq / 7) as u8).collect()
    }

    /// A journal with a value in each of a few files, and where they stand, but for the first byte of each.
    fn journal(dir: &std::path::Path) -> (Journal, Reading, Vec<Span>) {
        let disk: Arc<dyn Disk> = Arc::new(Files::default());
        let journal = Journal::create(&disk, dir, 7, 0, 60_000).unwrap();
        (1..=5).for_each(|seq| journal.append(&[Batch { seq, pieces: vec![&value(seq)] }]).unwrap());
        let reading = journal.reading();
        let (mut stretch, mut spans, mut is_end) = (Stretch::after(0), Vec::new(), false);
        while !is_end {
            is_end = reading.read_stretch(u64::MAX, 60_000, &mut stretch).unwrap();
            spans.extend(stretch.batches().map(|(bytes, origin)| origin.unwrap().span(&bytes[1..]).unwrap()));
        }
        (journal, reading, spans)
    }

    #[test]
    fn what_was_shown_can_be_read_again_though_the_journal_let_go_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, reading, spans) = journal(dir.path());
        while journal.trim(u64::MAX).unwrap() {}
        assert_eq!(spans.len(), 5);
        for (seq, span) in (1..).zip(spans) {
            let mut bytes = b"before".to_vec();
            reading.read(span, &mut bytes).unwrap();
            assert_eq!(bytes, [b"before", &value(seq)[1..]].concat());
            let mut pieces: Vec<Vec<u8>> = Vec::new();
            let shown = reading.each_piece(span, 7000, |piece| {
                pieces.push(piece.to_vec());
                Ok::<_, Error>(())
            });
            shown.unwrap();
            assert!(pieces[..pieces.len() - 1].iter().all(|piece| piece.len() == 7000));
            assert_eq!(pieces.concat(), value(seq)[1..]);
        }
        assert!(!reading.has_failed());
    }

    #[test]
    fn what_is_no_more_what_was_shown_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, reading, spans) = journal(dir.path());
        let file = std::fs::File::options().write(true).open(&journal.current().path).unwrap();
        file.write_all_at(b"x", journal.current().end() - 1).unwrap();
        reading.read(spans[0], &mut Vec::new()).unwrap();
        assert!(matches!(reading.read(spans[4], &mut Vec::new()), Err(Error::Damaged(_))));
        assert!(matches!(reading.each_piece(spans[4], 7000, |_| Ok(())), Err(Error::Damaged(_))));
        assert!(reading.has_failed());
    }

    #[test]
    fn bytes_from_elsewhere_have_no_span() {
        let dir = tempfile::tempdir().unwrap();
        let (_journal, reading, _) = journal(dir.path());
        let mut stretch = Stretch::after(0);
        reading.read_stretch(u64::MAX, 1, &mut stretch).unwrap();
        let (bytes, origin) = stretch.batches().next().unwrap();
        let origin = origin.unwrap();
        assert_eq!(origin.span(&[1, 2, 3]), None);
        assert_eq!(origin.span(bytes).map(|span| span.len()), Some(50_000));
        assert_eq!(Place::new(1 << 16, 0), None);
        assert_eq!(Place::new(0, 1 << 48), None);
        assert_eq!(Place::new(3, SEGMENT_BYTES).map(|place| (place.file(), place.at())), Some((3, SEGMENT_BYTES)));
    }
}
