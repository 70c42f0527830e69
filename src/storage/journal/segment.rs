//! One file of the journal: its front (`header`), then batches to the end (`record`).

use std::ops::Range;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use redb::StorageBackend;

use crate::storage::disk::{Disk, PART, replace};
use crate::storage::journal::header::{FRONT_BYTES, Header, Mark, Unreadable};
use crate::storage::journal::record::{Batch, HEAD_BYTES, Head, MAGIC};
use crate::storage::{Damage, Error};

/// A batch is written in pieces of this size; most are smaller.
const WRITE_BYTES: usize = 1 << 20;
/// Read at once where heads are looked for.
const READ_BYTES: usize = 64 << 10;

/// A segment.
#[derive(Debug)]
pub(crate) struct Segment {
    /// What it says of itself.
    pub header: Header,
    /// Where it is.
    pub path: PathBuf,
    file: Box<dyn StorageBackend>,
    tail: Mutex<Tail>,
}

#[derive(Debug, Clone, Copy)]
struct Tail {
    /// Where the next batch comes.
    end: u64,
    /// The last batch's number; that of the last one before the segment, if it has none.
    last: u64,
    /// Bytes that are known to be on disk.
    synced: u64,
    /// Whether the system may have dropped some of what is beyond these, and yet show it.
    is_doubtful: bool,
    mark: Mark,
}

/// What a walk over a segment's batches found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Walk {
    /// Where the first batch begins that is not whole, or the file ends.
    pub end: u64,
    /// The number of the last whole batch; that of the last one before the segment, if it has none.
    pub last: u64,
    /// Whether all to the end of the file is whole.
    pub is_whole: bool,
}

/// What stands behind a batch that is not whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Beyond {
    /// Whole batches there.
    pub batches: u64,
    /// How much of the file was on disk when the last of them were written.
    pub synced: u64,
}

impl Segment {
    /// Makes a segment that is there for good before anything is written into it.
    pub(crate) fn create(disk: &dyn Disk, header: Header, path: PathBuf) -> Result<Segment, Error> {
        let mut file = None;
        replace(disk, &path, |new| file.insert(write_front(disk, new, &header)?).sync_data().map_err(Error::io("sync", new)))?;
        let file = file.expect("it was made above");
        Ok(Segment::empty(header, path, file))
    }

    fn empty(header: Header, path: PathBuf, file: Box<dyn StorageBackend>) -> Segment {
        let (end, last, mark) = (FRONT_BYTES, header.follows, Mark::FIRST);
        let tail = Tail { end, last, synced: FRONT_BYTES, is_doubtful: false, mark };
        Segment { header, path, file, tail: Mutex::new(tail) }
    }

    /// Opens a segment; all that is in the file counts as its batches until they were walked over.
    pub(crate) fn open(disk: &dyn Disk, path: PathBuf) -> Result<Segment, Error> {
        let file = disk.open(&path).map_err(Error::io("open", &path))?;
        let header = match Header::read(&*file) {
            Ok(header) => header,
            Err(Unreadable::Damaged) => return Err(front_damaged(path)),
            Err(Unreadable::Version(1)) => return Err(Error::TooOld { path }),
            Err(Unreadable::Version(found)) => return Err(Error::TooNew { path, found: found.into() }),
            Err(Unreadable::Io(source)) => return Err(Error::io("read", &path)(source)),
        };
        let mark = Mark::read(&*file, header.seed()).map_err(Error::io("read", &path))?;
        let end = file.len().map_err(Error::io("read", &path))?;
        let Some(mark) = mark.filter(|_| end >= FRONT_BYTES) else { return Err(front_damaged(path)) };
        let tail = Tail { end, last: header.follows, synced: mark.synced, is_doubtful: false, mark };
        Ok(Segment { header, path, file, tail: Mutex::new(tail) })
    }

    /// What comes after these batches of it, of which nothing is read up to `covered`.
    pub(crate) fn walk(&self, covered: u64, mut show: impl FnMut(u64, &[u8]) -> Result<(), Error>) -> Result<Walk, Error> {
        let mut batches = self.batches();
        loop {
            let (end, last) = (batches.at, batches.seq);
            let is_whole = match batches.next_head() {
                Ok(None) => return Ok(Walk { end, last, is_whole: true }),
                Ok(Some(head)) if head.seq <= covered => {
                    batches.skip(&head);
                    true
                }
                Ok(Some(head)) => match batches.body(&head) {
                    Ok(bytes) => {
                        show(head.seq, bytes)?;
                        true
                    }
                    Err(Error::Damaged(_)) => false,
                    Err(error) => return Err(error),
                },
                Err(Error::Damaged(_)) => false,
                Err(error) => return Err(error),
            };
            if !is_whole {
                return Ok(Walk { end, last, is_whole });
            }
        }
    }

    /// What stands behind a batch that is not whole.
    pub(crate) fn beyond(&self, at: u64) -> Result<Beyond, Error> {
        let (end, mut found) = (self.file_len()?, Beyond::default());
        let (mut at, mut buf, mut buf_at) = (at + 1, Vec::new(), 0);
        while at + HEAD_BYTES as u64 <= end {
            // What was read is searched on: a value may be full of what a head begins with.
            if at < buf_at || at + HEAD_BYTES as u64 > buf_at + buf.len() as u64 {
                buf.resize((end - at).min(READ_BYTES as u64) as usize, 0);
                buf_at = at;
                self.read(at, &mut buf)?;
            }
            let heads_end = buf.len() - HEAD_BYTES + 1;
            let place = ((at - buf_at) as usize..heads_end).find(|place| buf[*place..].starts_with(&MAGIC));
            at = buf_at + place.unwrap_or(heads_end) as u64;
            let Some(place) = place else { continue };
            let head = Head::from_bytes(&std::array::from_fn(|byte| buf[place + byte]), self.header.seed());
            at += match head {
                Some(head) => {
                    found.synced = found.synced.max(head.synced);
                    let body = at + HEAD_BYTES as u64;
                    let is_whole = head.len <= end - body && {
                        let mut bytes = vec![0; head.len as usize];
                        self.read(body, &mut bytes)?;
                        head.fits(&bytes)
                    };
                    found.batches += u64::from(is_whole);
                    HEAD_BYTES as u64 + if is_whole { head.len } else { 0 }
                }
                None => 1,
            };
        }
        Ok(found)
    }

    /// Sees its batches as ending here. The file itself stays as it is.
    pub(crate) fn ends(&self, walk: &Walk) {
        let mut tail = self.tail.lock();
        (tail.end, tail.last) = (walk.end, walk.last);
    }

    /// Cuts off what is beyond its last batch, and sees to it that the rest is on disk and known to be, and that no other
    /// segment is expected after it.
    pub(crate) fn settle(&self) -> Result<(), Error> {
        let end = self.end();
        if end < self.file_len()? {
            self.file.set_len(end).map_err(Error::io("shorten", &self.path))?;
        }
        self.sync()?;
        self.mark(false)
    }

    /// Makes it fit to be gone on with after an error: on disk up to its last whole batch, and cut off there. Where the system may have
    /// dropped what it could not write, and yet show it as written, that is a new file, which is given. It has all batches up to
    /// `needed`, whole but for those up to `covered`, which nobody reads any more; where they are not there, all stays as it is.
    pub(crate) fn mend(&self, disk: &dyn Disk, covered: u64, needed: u64) -> Result<Option<Segment>, Error> {
        let is_doubtful = self.tail.lock().is_doubtful && !self.is_synced();
        if is_doubtful {
            return self.write_anew(disk, covered, needed).map(Some);
        }
        let (end, len) = (self.end(), self.file_len()?);
        if len < end {
            return Err(self.lost(len));
        }
        self.settle()?;
        self.tail.lock().is_doubtful = false;
        Ok(None)
    }

    /// Copies the bytes from a place to the end of the file into another file, there for good when this returns.
    pub(crate) fn copy_end(&self, disk: &dyn Disk, at: u64, to: &Path) -> Result<(), Error> {
        let part = to.with_extension(PART);
        disk.remove(&part).map_err(Error::io("remove", &part))?;
        let run = || {
            let copy = disk.open(&part).map_err(Error::io("open", &part))?;
            self.copy_bytes(at..self.file_len()?, &*copy, 0, &part)?;
            copy.sync_data().map_err(Error::io("sync", &part))?;
            disk.rename(&part, to).map_err(Error::io("rename to", to))
        };
        // Half a copy is of no use, and takes room.
        run().inspect_err(|_| drop(disk.remove(&part)))
    }

    fn copy_bytes(&self, from: Range<u64>, to: &dyn StorageBackend, at: u64, path: &Path) -> Result<(), Error> {
        let (mut from_at, mut buf) = (from.start, Vec::new());
        while from_at < from.end {
            buf.resize((from.end - from_at).min(WRITE_BYTES as u64) as usize, 0);
            self.read(from_at, &mut buf)?;
            to.write(at + from_at - from.start, &buf).map_err(Error::io("write to", path))?;
            from_at += buf.len() as u64;
        }
        Ok(())
    }

    fn write_anew(&self, disk: &dyn Disk, covered: u64, needed: u64) -> Result<Segment, Error> {
        let mut anew = None;
        replace(disk, &self.path, |new| {
            let end = self.end().min(self.file_len()?);
            let file = write_front(disk, new, &self.header)?;
            // Byte for byte, so that what is covered may be as rotten as it is.
            self.copy_bytes(FRONT_BYTES..end, &*file, FRONT_BYTES, new)?;
            let copy = Segment::empty(self.header, self.path.clone(), file);
            copy.tail.lock().end = end;
            // What counts is what the new file holds, however the old one is read another time.
            let walk = copy.walk(covered, |_, _| Ok(()))?;
            if walk.last < needed {
                return Err(self.lost(walk.end));
            }
            copy.ends(&walk);
            copy.settle()?;
            copy.sync()?;
            anew = Some(copy);
            Ok(())
        })?;
        Ok(anew.expect("it was made above"))
    }

    fn lost(&self, at: u64) -> Error {
        let cause = "the disk no longer holds what was written there and acknowledged; what is in memory is whole: copy it to another server while this one runs";
        Damage::new(self.path.clone(), Some(at), cause).into()
    }

    /// Appends a batch.
    pub(crate) fn append(&self, batch: &Batch<'_>) -> Result<(), Error> {
        let tail = *self.tail.lock();
        assert!(batch.seq > tail.last, "batch {} after {}: numbers rise, or a replay would leave it out", batch.seq, tail.last);
        let head = Head::new(batch, tail.last, tail.synced);
        let mut at = tail.end;
        let mut buf = Vec::with_capacity(WRITE_BYTES.min(HEAD_BYTES + head.len as usize));
        buf.extend_from_slice(&head.to_bytes(self.header.seed()));
        for mut piece in batch.pieces.iter().copied() {
            while !piece.is_empty() {
                if buf.len() == WRITE_BYTES {
                    at = self.write(at, &buf)?;
                    buf.clear();
                }
                let (now, later) = piece.split_at(piece.len().min(WRITE_BYTES - buf.len()));
                buf.extend_from_slice(now);
                piece = later;
            }
        }
        let end = self.write(at, &buf)?;
        let mut tail = self.tail.lock();
        (tail.end, tail.last) = (end, batch.seq);
        Ok(())
    }

    /// Waits until all that was appended is on disk.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        let end = self.end();
        let synced = self.file.sync_data();
        let mut tail = self.tail.lock();
        match synced {
            Ok(()) => tail.synced = end,
            // The system tells of it once, and may take what it could not write for written from then on.
            Err(_) => tail.is_doubtful = true,
        }
        synced.map_err(Error::io("sync", &self.path))
    }

    /// Whether all that was appended is on disk.
    pub(crate) fn is_synced(&self) -> bool {
        let tail = self.tail.lock();
        tail.synced == tail.end
    }

    /// Whether more is on disk than the file's mark says.
    pub(crate) fn wants_mark(&self) -> bool {
        let tail = self.tail.lock();
        tail.synced > tail.mark.synced
    }

    /// Marks in the file how much of it is on disk, and whether another segment follows.
    pub(crate) fn mark(&self, is_over: bool) -> Result<(), Error> {
        let tail = *self.tail.lock();
        let mark = Mark { count: tail.mark.count + 1, synced: tail.synced, is_over };
        mark.write(&*self.file, self.header.seed()).map_err(Error::io("write to", &self.path))?;
        self.tail.lock().mark = mark;
        Ok(())
    }

    /// What its mark says.
    pub(crate) fn marked(&self) -> Mark {
        self.tail.lock().mark
    }

    /// Where the next batch comes.
    pub(crate) fn end(&self) -> u64 {
        self.tail.lock().end
    }

    /// The last batch's number; that of the last one before the segment, if it has none.
    pub(crate) fn last(&self) -> u64 {
        self.tail.lock().last
    }

    /// How long its file is.
    pub(crate) fn file_len(&self) -> Result<u64, Error> {
        self.file.len().map_err(Error::io("read", &self.path))
    }

    /// Its batches, in order.
    pub(crate) fn batches(&self) -> Batches<'_> {
        let (end, seq) = (self.end(), self.header.follows);
        Batches { segment: self, end, at: FRONT_BYTES, seq, buf: Vec::new(), buf_at: 0, body: Vec::new() }
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Result<u64, Error> {
        let written = self.file.write(at, bytes).map_err(Error::io("write to", &self.path));
        // It may be what was written before that the system could not bring to the disk.
        self.tail.lock().is_doubtful |= written.as_ref().is_err_and(|error| !error.is_full());
        written.map(|()| at + bytes.len() as u64)
    }

    /// A batch there, or some of its bytes, are damaged.
    pub(crate) fn damaged(&self, at: u64) -> Error {
        Damage::new(self.path.clone(), Some(at), "the batch there is not what was written").into()
    }

    /// Reads what stands there.
    pub(crate) fn read(&self, at: u64, bytes: &mut [u8]) -> Result<(), Error> {
        self.file.read(at, bytes).map_err(Error::io("read", &self.path))
    }
}

/// Makes a file with the front of a segment.
fn write_front(disk: &dyn Disk, path: &Path, header: &Header) -> Result<Box<dyn StorageBackend>, Error> {
    let file = disk.open(path).map_err(Error::io("open", path))?;
    let write = || {
        file.set_len(FRONT_BYTES)?;
        header.write(&*file)?;
        Mark::FIRST.write(&*file, header.seed())
    };
    write().map_err(Error::io("write to", path))?;
    Ok(file)
}

fn front_damaged(path: PathBuf) -> Error {
    Damage::new(path, Some(0), "its front is not what was written").into()
}

/// Reads the batches of a segment. Heads are found without reading what stands between them.
pub(crate) struct Batches<'a> {
    segment: &'a Segment,
    end: u64,
    at: u64,
    /// The last batch's number.
    seq: u64,
    buf: Vec<u8>,
    buf_at: u64,
    body: Vec<u8>,
}

impl Batches<'_> {
    /// The head of the next batch; None at the end. Then [`Self::body`] or [`Self::skip`] must follow.
    pub(crate) fn next_head(&mut self) -> Result<Option<Head>, Error> {
        if self.at == self.end {
            return Ok(None);
        }
        if self.end - self.at < HEAD_BYTES as u64 {
            return Err(self.damaged());
        }
        let is_there = self.at >= self.buf_at && self.at + HEAD_BYTES as u64 <= self.buf_at + self.buf.len() as u64;
        if !is_there {
            self.buf.resize((self.end - self.at).min(READ_BYTES as u64) as usize, 0);
            self.buf_at = self.at;
            self.segment.read(self.at, &mut self.buf)?;
        }
        let start = (self.at - self.buf_at) as usize;
        let head = Head::from_bytes(&std::array::from_fn(|byte| self.buf[start + byte]), self.segment.header.seed());
        let is_next = |head: &Head| head.follows == self.seq && head.seq > head.follows && head.synced <= self.at;
        let room = self.end - self.at - HEAD_BYTES as u64;
        match head.filter(|head| is_next(head) && head.len <= room) {
            Some(head) => Ok(Some(head)),
            None => Err(self.damaged()),
        }
    }

    /// Passes over the batch whose head was read.
    pub(crate) fn skip(&mut self, head: &Head) {
        self.at += HEAD_BYTES as u64 + head.len;
        self.seq = head.seq;
    }

    /// Where the bytes begin of the batch whose head was read.
    pub(crate) fn body_at(&self) -> u64 {
        self.at + HEAD_BYTES as u64
    }

    /// The bytes of the batch whose head was read.
    pub(crate) fn body(&mut self, head: &Head) -> Result<&[u8], Error> {
        let start = self.body_at();
        self.body.resize(head.len as usize, 0);
        self.segment.read(start, &mut self.body)?;
        if !head.fits(&self.body) {
            return Err(self.damaged());
        }
        self.skip(head);
        Ok(&self.body)
    }

    fn damaged(&self) -> Error {
        self.segment.damaged(self.at)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use redb::backends::InMemoryBackend;

    use super::*;

    /// A file that counts the bytes read from it.
    #[derive(Debug)]
    struct Counted(InMemoryBackend, Arc<AtomicU64>);

    impl StorageBackend for Counted {
        fn len(&self) -> io::Result<u64> {
            self.0.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.1.fetch_add(out.len() as u64, Relaxed);
            self.0.read(offset, out)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.0.set_len(len)
        }

        fn sync_data(&self) -> io::Result<()> {
            Ok(())
        }

        fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
            self.0.write(offset, bytes)
        }
    }

    #[test]
    fn a_value_full_of_what_heads_begin_with_is_searched_once_and_what_is_behind_it_is_found() {
        let header = Header { history: 7, first: 1, follows: 0 };
        let read = Arc::default();
        let file = Counted(InMemoryBackend::new(), Arc::clone(&read));
        let value = MAGIC.repeat(READ_BYTES);
        file.set_len(FRONT_BYTES + 3 * (HEAD_BYTES + value.len()) as u64).unwrap();
        let segment = Segment::empty(header, "journal".into(), Box::new(file));
        for seq in 1..=3 {
            segment.append(&Batch { seq, pieces: vec![&value] }).unwrap();
            segment.sync().unwrap();
        }
        read.store(0, Relaxed);
        let second = FRONT_BYTES + (HEAD_BYTES + value.len()) as u64;
        let beyond = segment.beyond(FRONT_BYTES).unwrap();
        assert_eq!(beyond, Beyond { batches: 2, synced: second + (HEAD_BYTES + value.len()) as u64 });
        let bytes = read.load(Relaxed);
        assert!(bytes < 2 * segment.end(), "{bytes} bytes read of {}", segment.end());
    }
}
