//! A batch in a segment: a head, then its bytes. The head says what came before it, and how much of the file was on disk when it
//! was written: so a batch that is damaged or gone is told from one that a crash left half written.
//!
//! ```text
//!  0  magic, 4 bytes        16  the number of the batch before it      32  bytes that follow
//!  4  checksum of 8 to 48   24  bytes of this file known on disk       40  checksum of these bytes
//!  8  the batch's number        when this was written
//! ```
//!
//! Numbers are little-endian. Checksums are XXH3, the head's the lower four bytes of it, begun with a seed that each segment has
//! for itself (`segment::Header::seed`): what an older file left behind on the disk is no batch of a newer one.

use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

/// What stands before a batch's bytes.
pub(crate) const HEAD_BYTES: usize = 48;
/// The first bytes of a head: where one is looked for behind damage.
pub(crate) const MAGIC: [u8; 4] = *b"\xf1btc";
const CHECKED: usize = 8;

/// A batch to append: its number, and pieces that together are its bytes.
pub struct Batch<'a> {
    /// Higher than that of any batch before it.
    pub seq: u64,
    /// Its bytes.
    pub pieces: Vec<&'a [u8]>,
}

impl Batch<'_> {
    fn len(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.len() as u64).sum()
    }
}

/// What stands before a batch's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// The batch's number.
    pub seq: u64,
    /// The number of the batch before it.
    pub follows: u64,
    /// Bytes of the file that were known to be on disk when it was written.
    pub synced: u64,
    /// How many bytes follow.
    pub len: u64,
    checksum: u64,
}

impl Head {
    /// The head of a batch.
    pub(crate) fn new(batch: &Batch<'_>, follows: u64, synced: u64) -> Head {
        let checksum = checksum(batch.seq, &batch.pieces);
        Head { seq: batch.seq, follows, synced, len: batch.len(), checksum }
    }

    /// Whether these are its bytes.
    pub(crate) fn fits(&self, bytes: &[u8]) -> bool {
        self.len == bytes.len() as u64 && self.checksum == checksum(self.seq, &[bytes])
    }

    /// As it is written in a segment with this seed.
    pub(crate) fn to_bytes(self, seed: u64) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..MAGIC.len()].copy_from_slice(&MAGIC);
        for (place, number) in
            bytes[CHECKED..].chunks_exact_mut(8).zip([self.seq, self.follows, self.synced, self.len, self.checksum])
        {
            place.copy_from_slice(&number.to_le_bytes());
        }
        let sum = xxh3_64_with_seed(&bytes[CHECKED..], seed) as u32;
        bytes[MAGIC.len()..CHECKED].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// As it was written in a segment with this seed; None if these bytes are no head.
    pub(crate) fn from_bytes(bytes: &[u8; HEAD_BYTES], seed: u64) -> Option<Head> {
        let sum = xxh3_64_with_seed(&bytes[CHECKED..], seed) as u32;
        if bytes[..MAGIC.len()] != MAGIC || bytes[MAGIC.len()..CHECKED] != sum.to_le_bytes() {
            return None;
        }
        let number = |place: usize| u64::from_le_bytes(std::array::from_fn(|byte| bytes[CHECKED + 8 * place + byte]));
        Some(Head { seq: number(0), follows: number(1), synced: number(2), len: number(3), checksum: number(4) })
    }
}

fn checksum(seq: u64, pieces: &[&[u8]]) -> u64 {
    let mut hash = Xxh3::with_seed(seq);
    pieces.iter().for_each(|piece| hash.update(piece));
    hash.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_format_2_stays_as_it_is() {
        let head = Head::new(&Batch { seq: 0x0102, pieces: vec![b"ab", b"c"] }, 0x0101, 0x3000);
        let bytes = head.to_bytes(7);
        assert_eq!(bytes[..4], MAGIC);
        assert_eq!(bytes[8..40], *b"\x02\x01\0\0\0\0\0\0\x01\x01\0\0\0\0\0\0\0\x30\0\0\0\0\0\0\x03\0\0\0\0\0\0\0");
        assert_eq!(u32::from_le_bytes(bytes[4..8].try_into().unwrap()), 3_129_898_938);
        assert_eq!(u64::from_le_bytes(bytes[40..].try_into().unwrap()), 12_510_640_177_017_356_411);
        assert_eq!(Head::from_bytes(&bytes, 7), Some(head));
    }

    #[test]
    fn other_bytes_do_not_fit() {
        let head = Head::new(&Batch { seq: 7, pieces: vec![b"abc"] }, 6, 0);
        assert!(head.fits(b"abc"));
        assert!(!head.fits(b"abd") && !head.fits(b"ab"));
        assert!(!Head { seq: 8, ..head }.fits(b"abc"));
        let bytes = head.to_bytes(1);
        assert_eq!(Head::from_bytes(&bytes, 2), None);
        for at in 0..HEAD_BYTES {
            let mut changed = bytes;
            changed[at] ^= 1;
            assert_eq!(Head::from_bytes(&changed, 1), None, "{at}");
        }
        assert_eq!(Head::from_bytes(&[0; HEAD_BYTES], 1), None);
    }
}
