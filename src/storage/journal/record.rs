//! A batch in a segment: its number, its length and a checksum of all of it (each eight bytes, little-endian), then its bytes.

use xxhash_rust::xxh3::Xxh3;

/// What stands before a batch's bytes.
pub const HEAD_BYTES: usize = 24;

/// A batch to append: its number, and pieces that together are its bytes.
pub struct Batch<'a> {
    /// Higher than that of any batch before it.
    pub seq: u64,
    /// Its bytes.
    pub pieces: Vec<&'a [u8]>,
}

/// What stands before a batch's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The batch's number.
    pub seq: u64,
    /// How many bytes follow.
    pub len: u64,
    checksum: u64,
}

impl Head {
    /// The head of a batch.
    pub fn new(batch: &Batch<'_>) -> Head {
        let len = batch.pieces.iter().map(|piece| piece.len() as u64).sum();
        Head { seq: batch.seq, len, checksum: checksum(batch.seq, len, &batch.pieces) }
    }

    /// Whether these are its bytes.
    pub fn fits(&self, bytes: &[u8]) -> bool {
        self.checksum == checksum(self.seq, self.len, &[bytes])
    }

    /// As it is written.
    pub fn to_bytes(self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..8].copy_from_slice(&self.seq.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.len.to_le_bytes());
        bytes[16..].copy_from_slice(&self.checksum.to_le_bytes());
        bytes
    }

    /// As it was written; any bytes make one.
    pub fn from_bytes(bytes: &[u8; HEAD_BYTES]) -> Head {
        let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        Head { seq: number(0), len: number(8), checksum: number(16) }
    }
}

fn checksum(seq: u64, len: u64, pieces: &[&[u8]]) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&seq.to_le_bytes());
    hash.update(&len.to_le_bytes());
    pieces.iter().for_each(|piece| hash.update(piece));
    hash.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_format_1_stays_as_it_is() {
        let head = Head::new(&Batch { seq: 0x0102, pieces: vec![b"ab", b"c"] });
        let bytes = head.to_bytes();
        assert_eq!(bytes[..16], *b"\x02\x01\0\0\0\0\0\0\x03\0\0\0\0\0\0\0");
        assert_eq!(u64::from_le_bytes(bytes[16..].try_into().unwrap()), 8_635_511_543_463_363_216);
        assert_eq!(Head::from_bytes(&bytes), head);
    }

    #[test]
    fn other_bytes_do_not_fit() {
        let head = Head::new(&Batch { seq: 7, pieces: vec![b"abc"] });
        assert!(head.fits(b"abc"));
        assert!(!head.fits(b"abd") && !head.fits(b"ab"));
        assert!(!Head { seq: 8, ..head }.fits(b"abc"));
        assert!(!Head::from_bytes(&[0; HEAD_BYTES]).fits(b""));
    }
}
