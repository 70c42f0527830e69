//! What stands at the front of a segment, before its batches: a page that never changes, and two that say by turns how much of
//! the file is known to be on disk. Each has a page of its own, so that a power cut while one is written leaves the others alone.
//!
//! ```text
//! page 0    0  "flux journal"     16  the folder's history      40  checksum of 0 to 40
//!          12  the format, 2      24  the first batch's number
//!                                 32  the number of the batch before it
//! page 1    0  how often a mark was written    16  1 if another segment follows
//! and 2     8  bytes known on disk             24  checksum of 0 to 24
//! ```

use redb::StorageBackend;
use std::io;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Batches begin here.
pub(crate) const FRONT_BYTES: u64 = 3 * PAGE_BYTES;
const PAGE_BYTES: u64 = 4096;
const NAME: &[u8; 12] = b"flux journal";
const VERSION: u32 = 2;
const HEADER_BYTES: usize = 48;
const MARK_BYTES: usize = 32;

/// What a segment says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    /// Drawn once for each data folder; its tables have it too.
    pub history: u64,
    /// No batch in the segment has a lower number.
    pub first: u64,
    /// The last batch before the segment; 0 where there was none.
    pub follows: u64,
}

/// Why a file's front could not be read.
#[derive(Debug)]
pub(crate) enum Unreadable {
    /// It is not what was written.
    Damaged,
    /// Another format.
    Version(u32),
    /// The system refused.
    Io(io::Error),
}

impl Header {
    /// What the checksums of the segment's heads and marks begin with.
    pub(crate) fn seed(&self) -> u64 {
        self.history ^ self.first.rotate_left(32)
    }

    /// Writes it.
    pub(crate) fn write(&self, file: &dyn StorageBackend) -> io::Result<()> {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..12].copy_from_slice(NAME);
        bytes[12..16].copy_from_slice(&VERSION.to_le_bytes());
        put(&mut bytes[16..40], &[self.history, self.first, self.follows]);
        let sum = xxh3_64(&bytes[..40]);
        put(&mut bytes[40..], &[sum]);
        file.write(0, &bytes)
    }

    /// Reads it.
    pub(crate) fn read(file: &dyn StorageBackend) -> Result<Header, Unreadable> {
        let mut bytes = [0; HEADER_BYTES];
        let there = file.len().map_err(Unreadable::Io)?.min(HEADER_BYTES as u64) as usize;
        file.read(0, &mut bytes[..there]).map_err(Unreadable::Io)?;
        let version = u32::from_le_bytes(std::array::from_fn(|byte| bytes[12 + byte]));
        // Format 1 had no checksum here.
        if bytes.starts_with(NAME) && version == 1 {
            return Err(Unreadable::Version(version));
        }
        if !bytes.starts_with(NAME) || number(&bytes, 40) != xxh3_64(&bytes[..40]) {
            return Err(Unreadable::Damaged);
        }
        if version != VERSION {
            return Err(Unreadable::Version(version));
        }
        Ok(Header { history: number(&bytes, 16), first: number(&bytes, 24), follows: number(&bytes, 32) })
    }
}

/// How much of a segment is known to be on disk. Written after the sync that made it so, and itself not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Rises by one with each mark.
    pub count: u64,
    /// Bytes from the beginning of the file.
    pub synced: u64,
    /// Whether another segment follows, so that nothing comes after these bytes.
    pub is_over: bool,
}

impl Mark {
    /// The mark of a segment without batches.
    pub(crate) const FIRST: Mark = Mark { count: 0, synced: FRONT_BYTES, is_over: false };

    /// Writes it where the one before the last was.
    pub(crate) fn write(&self, file: &dyn StorageBackend, seed: u64) -> io::Result<()> {
        let mut bytes = [0; MARK_BYTES];
        put(&mut bytes[..24], &[self.count, self.synced, self.is_over.into()]);
        let sum = xxh3_64_with_seed(&bytes[..24], seed);
        put(&mut bytes[24..], &[sum]);
        file.write(place(self.count), &bytes)
    }

    /// The newest mark; None if there is no sound one.
    pub(crate) fn read(file: &dyn StorageBackend, seed: u64) -> io::Result<Option<Mark>> {
        let mut newest: Option<Mark> = None;
        for count in 0..2 {
            let mut bytes = [0; MARK_BYTES];
            if file.len()? < place(count) + MARK_BYTES as u64 {
                continue;
            }
            file.read(place(count), &mut bytes)?;
            let is_sound = number(&bytes, 24) == xxh3_64_with_seed(&bytes[..24], seed);
            let mark = Mark { count: number(&bytes, 0), synced: number(&bytes, 8), is_over: number(&bytes, 16) == 1 };
            if is_sound && newest.is_none_or(|newest| newest.count < mark.count) {
                newest = Some(mark);
            }
        }
        Ok(newest)
    }
}

fn place(count: u64) -> u64 {
    (1 + count % 2) * PAGE_BYTES
}

fn put(to: &mut [u8], numbers: &[u64]) {
    for (place, number) in to.chunks_exact_mut(8).zip(numbers) {
        place.copy_from_slice(&number.to_le_bytes());
    }
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]))
}

#[cfg(test)]
mod tests {
    use redb::backends::InMemoryBackend;

    use super::*;

    #[test]
    fn the_front_of_format_2_stays_as_it_is() {
        let file = InMemoryBackend::new();
        file.set_len(FRONT_BYTES).unwrap();
        let header = Header { history: 0x0908, first: 0x0102, follows: 0x0101 };
        header.write(&file).unwrap();
        let mark = Mark { count: 1, synced: 0x3005, is_over: true };
        Mark::FIRST.write(&file, header.seed()).unwrap();
        mark.write(&file, header.seed()).unwrap();
        let mut bytes = vec![0; FRONT_BYTES as usize];
        file.read(0, &mut bytes).unwrap();
        assert_eq!(bytes[..40], *b"flux journal\x02\0\0\0\x08\x09\0\0\0\0\0\0\x02\x01\0\0\0\0\0\0\x01\x01\0\0\0\0\0\0");
        assert_eq!(number(&bytes, 40), 9_986_315_086_969_789_267);
        assert_eq!(bytes[8192..8216], *b"\x01\0\0\0\0\0\0\0\x05\x30\0\0\0\0\0\0\x01\0\0\0\0\0\0\0");
        assert_eq!(number(&bytes, 8216), 1_813_883_472_338_290_990);
        assert_eq!(Header::read(&file).unwrap(), header);
        assert_eq!(Mark::read(&file, header.seed()).unwrap(), Some(mark));
    }
}
