//! One file of the journal: a header, then batches to the end. A batch that does not match its checksum is where a crash cut
//! the last segment off; in any other segment it is damage, since a segment is on disk before the next one is begun.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use redb::StorageBackend;

use crate::storage::Error;
use crate::storage::disk::{Disk, replace};
use crate::storage::journal::record::{Batch, HEAD_BYTES, Head};

/// The first bytes of a segment; then come four for the version, little-endian.
const MAGIC: &[u8; 12] = b"flux journal";
const VERSION: u32 = 1;
const HEADER_BYTES: u64 = 16;
/// A batch is written in pieces of this size; most are smaller.
const WRITE_BYTES: usize = 1 << 20;
/// Read at once where heads are looked for.
const READ_BYTES: usize = 64 << 10;

/// A segment.
#[derive(Debug)]
pub struct Segment {
    /// No batch in it has a lower number, and none in the segments before it one as high.
    pub first: u64,
    /// Where it is.
    pub path: PathBuf,
    file: Box<dyn StorageBackend>,
    tail: Mutex<Tail>,
}

#[derive(Debug, Clone, Copy)]
struct Tail {
    /// Where the next batch comes.
    end: u64,
    /// The last batch's number, once it is known.
    last: Option<u64>,
}

impl Segment {
    /// Makes a segment that is there for good before anything is written into it.
    pub fn create(disk: &dyn Disk, first: u64, path: PathBuf) -> Result<Segment, Error> {
        let mut file = None;
        replace(disk, &path, |new| file.insert(write_header(disk, new)?).sync_data().map_err(Error::io("sync", new)))?;
        let file = file.expect("it was made above");
        Ok(Segment { first, path, file, tail: Mutex::new(Tail { end: HEADER_BYTES, last: None }) })
    }

    /// Opens a segment; all that is in the file counts as its batches until they are read.
    pub fn open(disk: &dyn Disk, first: u64, path: PathBuf) -> Result<Segment, Error> {
        let file = disk.open(&path).map_err(Error::io("open", &path))?;
        let end = file.len().map_err(Error::io("read", &path))?;
        let mut header = [0; HEADER_BYTES as usize];
        if end >= HEADER_BYTES {
            file.read(0, &mut header).map_err(Error::io("read", &path))?;
        }
        let version = u32::from_le_bytes(std::array::from_fn(|byte| header[MAGIC.len() + byte]));
        if !header.starts_with(MAGIC) {
            return Err(Error::Damaged { path, at: 0 });
        }
        if version != VERSION {
            return Err(Error::TooNew { path, found: version.into() });
        }
        Ok(Segment { first, path, file, tail: Mutex::new(Tail { end, last: None }) })
    }

    /// Cuts off what a crash left half written, and sees to it that the rest is on disk.
    pub fn cut_torn_end(&self) -> Result<(), Error> {
        let (end, last) = self.whole_end(|_, _| Ok(()))?;
        if end < self.end() {
            self.file.set_len(end).map_err(Error::io("shorten", &self.path))?;
        }
        *self.tail.lock() = Tail { end, last };
        self.sync()
    }

    /// Puts a file with the same whole batches in its place.
    pub fn write_anew(&self, disk: &dyn Disk) -> Result<(), Error> {
        replace(disk, &self.path, |new| {
            let tail = Mutex::new(Tail { end: HEADER_BYTES, last: None });
            let copy = Segment { first: self.first, path: new.to_owned(), file: write_header(disk, new)?, tail };
            self.whole_end(|seq, bytes| copy.append(&Batch { seq, pieces: vec![bytes] }))?;
            copy.sync()
        })
    }

    /// Appends a batch.
    pub fn append(&self, batch: &Batch<'_>) -> Result<(), Error> {
        let head = Head::new(batch);
        let mut at = self.end();
        let mut buf = Vec::with_capacity(WRITE_BYTES.min(HEAD_BYTES + head.len as usize));
        buf.extend_from_slice(&head.to_bytes());
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
        *self.tail.lock() = Tail { end, last: Some(batch.seq) };
        Ok(())
    }

    fn write(&self, at: u64, bytes: &[u8]) -> Result<u64, Error> {
        self.file.write(at, bytes).map_err(Error::io("write to", &self.path))?;
        Ok(at + bytes.len() as u64)
    }

    /// Waits until all that was appended is on disk.
    pub fn sync(&self) -> Result<(), Error> {
        self.file.sync_data().map_err(Error::io("sync", &self.path))
    }

    /// Where the next batch comes.
    pub fn end(&self) -> u64 {
        self.tail.lock().end
    }

    /// The last batch's number, if there is a batch.
    pub fn last(&self) -> Result<Option<u64>, Error> {
        let known = self.tail.lock().last;
        if known.is_some() {
            return Ok(known);
        }
        let mut batches = self.batches();
        let mut last = None;
        while let Some(head) = batches.next_head()? {
            last = Some(head.seq);
            batches.skip(&head);
        }
        self.tail.lock().last = last;
        Ok(last)
    }

    /// Its batches, in order.
    pub fn batches(&self) -> Batches<'_> {
        Batches { segment: self, end: self.end(), at: HEADER_BYTES, seq: 0, buf: Vec::new(), buf_at: 0, body: Vec::new() }
    }

    /// Shows batches until one is not whole; tells where that is, and the number of the last whole one.
    fn whole_end(&self, mut show: impl FnMut(u64, &[u8]) -> Result<(), Error>) -> Result<(u64, Option<u64>), Error> {
        let mut batches = self.batches();
        let mut last = None;
        loop {
            let at = batches.at;
            let head = match batches.next_head() {
                Ok(Some(head)) => head,
                Ok(None) | Err(Error::Damaged { .. }) => return Ok((at, last)),
                Err(error) => return Err(error),
            };
            match batches.body(&head) {
                Ok(bytes) => show(head.seq, bytes)?,
                Err(Error::Damaged { .. }) => return Ok((at, last)),
                Err(error) => return Err(error),
            }
            last = Some(head.seq);
        }
    }
}

/// Makes a file with a header.
fn write_header(disk: &dyn Disk, path: &Path) -> Result<Box<dyn StorageBackend>, Error> {
    let file = disk.open(path).map_err(Error::io("open", path))?;
    let header = [&MAGIC[..], &VERSION.to_le_bytes()].concat();
    file.write(0, &header).map_err(Error::io("write to", path))?;
    Ok(file)
}

/// Reads the batches of a segment. Heads are found without reading what stands between them.
pub struct Batches<'a> {
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
    pub fn next_head(&mut self) -> Result<Option<Head>, Error> {
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
            self.segment.file.read(self.at, &mut self.buf).map_err(Error::io("read", &self.segment.path))?;
        }
        let start = (self.at - self.buf_at) as usize;
        let head = Head::from_bytes(&std::array::from_fn(|byte| self.buf[start + byte]));
        // Numbers rise, so zeros are no batch.
        if head.seq <= self.seq || head.len > self.end - self.at - HEAD_BYTES as u64 {
            return Err(self.damaged());
        }
        Ok(Some(head))
    }

    /// Passes over the batch whose head was read.
    pub fn skip(&mut self, head: &Head) {
        self.at += HEAD_BYTES as u64 + head.len;
        self.seq = head.seq;
    }

    /// The bytes of the batch whose head was read.
    pub fn body(&mut self, head: &Head) -> Result<&[u8], Error> {
        let start = self.at + HEAD_BYTES as u64;
        self.body.resize(head.len as usize, 0);
        self.segment.file.read(start, &mut self.body).map_err(Error::io("read", &self.segment.path))?;
        if !head.fits(&self.body) {
            return Err(self.damaged());
        }
        self.skip(head);
        Ok(&self.body)
    }

    fn damaged(&self) -> Error {
        Error::Damaged { path: self.segment.path.clone(), at: self.at }
    }
}
