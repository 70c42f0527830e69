//! Rows of the tables: each has a checksum over what it is and where it belongs, and what belongs together has a sum of
//! them, so that a row that is missing is found like one that changed.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Bytes of its checksum, which a row begins with.
const CHECKSUM_BYTES: usize = 4;

/// Which of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Records of keys.
    Keys = 1,
    /// Elements of large values.
    Elements = 2,
}

/// A table: of this kind, of this database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Table {
    pub kind: Kind,
    pub db: u8,
}

impl Table {
    /// The hash of a row: over the table, the key and the bytes.
    pub(crate) fn hash(self, key: &[u8], bytes: &[u8]) -> u64 {
        let table = u64::from(self.kind as u8) << 8 | u64::from(self.db);
        xxh3_64_with_seed(bytes, xxh3_64_with_seed(key, table))
    }

    /// Writes a row as it stands in the table; gives its hash.
    pub(crate) fn seal(self, key: &[u8], bytes: &[u8], to: &mut Vec<u8>) -> u64 {
        let hash = self.hash(key, bytes);
        to.clear();
        to.extend_from_slice(&checksum(hash));
        to.extend_from_slice(bytes);
        hash
    }

    /// The bytes of a row as it stands in the table, and its hash; None if this is not what was written.
    pub(crate) fn open<'r>(self, key: &[u8], row: &'r [u8]) -> Option<(&'r [u8], u64)> {
        let (expected, bytes) = row.split_first_chunk::<CHECKSUM_BYTES>()?;
        let hash = self.hash(key, bytes);
        (checksum(hash) == *expected).then_some((bytes, hash))
    }
}

/// The bytes of a row whose checksum was found to fit.
pub(crate) fn without_checksum(row: &[u8]) -> &[u8] {
    &row[CHECKSUM_BYTES..]
}

fn checksum(hash: u64) -> [u8; CHECKSUM_BYTES] {
    (hash as u32).to_le_bytes()
}

/// How many rows there are, and the sum of their hashes, in whatever order they were met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many.
    pub rows: u64,
    /// The sum of their hashes.
    pub digest: u64,
}

impl Sum {
    /// Bytes it takes.
    pub(crate) const BYTES: usize = 16;

    /// A row is there.
    pub(crate) fn add(&mut self, hash: u64) {
        self.rows = self.rows.wrapping_add(1);
        self.digest = self.digest.wrapping_add(hash);
    }

    /// A row is there no more.
    pub(crate) fn remove(&mut self, hash: u64) {
        self.rows = self.rows.wrapping_sub(1);
        self.digest = self.digest.wrapping_sub(hash);
    }

    /// Its bytes.
    pub(crate) fn to_bytes(self) -> [u8; Sum::BYTES] {
        let mut bytes = [0; Sum::BYTES];
        bytes[..8].copy_from_slice(&self.rows.to_le_bytes());
        bytes[8..].copy_from_slice(&self.digest.to_le_bytes());
        bytes
    }

    /// The sum that has these bytes.
    pub(crate) fn from_bytes(bytes: [u8; Sum::BYTES]) -> Sum {
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("it is eight bytes"));
        Sum { rows: number(0), digest: number(8) }
    }
}

/// How an error names a key.
pub(crate) fn key_place(key: &[u8]) -> String {
    format!("key `{}`", key.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: Table = Table { kind: Kind::Keys, db: 3 };

    #[test]
    fn a_row_of_format_2_stays_as_it_is() {
        let mut row = Vec::new();
        let hash = KEYS.seal(b"key", b"bytes", &mut row);
        assert_eq!(row, b"\x83\x06\xce\xa8bytes");
        assert_eq!(KEYS.open(b"key", &row), Some((&b"bytes"[..], hash)));
    }

    #[test]
    fn a_row_that_changed_or_stands_elsewhere_is_refused() {
        let mut row = Vec::new();
        KEYS.seal(b"key", b"bytes", &mut row);
        for at in 0..row.len() * 8 {
            let mut changed = row.clone();
            changed[at / 8] ^= 1 << (at % 8);
            assert_eq!(KEYS.open(b"key", &changed), None, "bit {at}");
        }
        assert_eq!(KEYS.open(b"kez", &row), None);
        assert_eq!(KEYS.open(b"key", &row[..row.len() - 1]), None);
        assert_eq!(KEYS.open(b"key", &[]), None);
        for other in [Table { db: 4, ..KEYS }, Table { kind: Kind::Elements, ..KEYS }] {
            assert_eq!(other.open(b"key", &row), None);
        }
    }

    #[test]
    fn a_sum_is_the_same_in_any_order_and_tells_rows_apart() {
        let [mut one, mut other] = [Sum::default(); 2];
        [1, 2, u64::MAX].into_iter().for_each(|hash| one.add(hash));
        [7, u64::MAX, 2, 1].into_iter().for_each(|hash| other.add(hash));
        assert_ne!(one, other);
        other.remove(7);
        assert_eq!(one, other);
        assert_eq!(Sum::from_bytes(one.to_bytes()), one);
    }
}
