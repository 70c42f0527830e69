//! What the tables say about themselves, in one row.

use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use crate::storage::rows::Sum;
use crate::storage::{Error, FORMAT};

/// Databases there are tables for: the 16 that clients choose among, and one for libraries of functions.
pub(crate) const DATABASES: usize = 17;

/// What the tables say about themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// The journal's batch up to which everything is in the tables.
    pub covered: u64,
    /// The id the next large value gets.
    pub next_id: u64,
    /// The numbers that clients' databases are stored under, four bits each.
    pub stored: Option<u64>,
    /// What tells this folder from any other; its journal has it too.
    pub history: u64,
}

/// Five numbers, and whether the fourth counts.
const HEAD_BYTES: usize = 5 * 8 + 1;

/// All that stands in the row of the tables about themselves: the format, how far they are good, and of each database what rows
/// its keys have and how many bytes all its rows take; then a checksum over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    pub(super) meta: Meta,
    pub(super) keys: [Sum; DATABASES],
    pub(super) bytes: [u64; DATABASES],
}

impl State {
    const BYTES: usize = HEAD_BYTES + DATABASES * (Sum::BYTES + 8) + 8;

    pub(super) fn empty(meta: Meta) -> State {
        State { meta, keys: [Sum::default(); DATABASES], bytes: [0; DATABASES] }
    }

    pub(super) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(State::BYTES);
        let Meta { covered, next_id, stored, history } = self.meta;
        [FORMAT, covered, next_id, stored.unwrap_or(0), history]
            .iter()
            .for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
        bytes.push(stored.is_some().into());
        let count = if self.has_libraries() { DATABASES } else { DATABASES - 1 };
        self.keys[..count].iter().for_each(|sum| bytes.extend_from_slice(&sum.to_bytes()));
        self.bytes[..count].iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
        bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
        bytes
    }

    /// Where there are none, and were none, the last database isn't told of, as before there were libraries.
    fn has_libraries(&self) -> bool {
        self.keys[DATABASES - 1] != Sum::default() || self.bytes[DATABASES - 1] != 0
    }

    pub(super) fn from_bytes(path: &Path, bytes: &[u8]) -> Result<State, Error> {
        let (content, checksum) = bytes.split_last_chunk().ok_or_else(|| Error::unsound(path, "its state is cut off"))?;
        if xxh3_64(content) != u64::from_le_bytes(*checksum) {
            return Err(Error::unsound(path, "its state is not what was written"));
        }
        let number =
            |at: usize| content.get(at * 8..at * 8 + 8).map_or(0, |bytes| u64::from_le_bytes(bytes.try_into().expect("eight")));
        let found = number(0);
        if found > FORMAT {
            return Err(Error::TooNew { path: path.to_owned(), found });
        }
        let (head, sums) =
            content.split_first_chunk::<HEAD_BYTES>().ok_or_else(|| Error::unsound(path, "its state is cut off"))?;
        let count = sums.len() / (Sum::BYTES + 8);
        let is_known = count == DATABASES || count == DATABASES - 1;
        let Some((sums, bytes)) =
            sums.split_at_checked(count * Sum::BYTES).filter(|(_, bytes)| is_known && bytes.len() == count * 8)
        else {
            return Err(Error::unsound(path, "its state is of no known format"));
        };
        let (mut keys, mut bytes_of) = ([Sum::default(); DATABASES], [0; DATABASES]);
        keys.iter_mut().zip(sums.as_chunks().0).for_each(|(sum, bytes)| *sum = Sum::from_bytes(*bytes));
        bytes_of.iter_mut().zip(bytes.as_chunks().0).for_each(|(number, bytes)| *number = u64::from_le_bytes(*bytes));
        let stored = (head[HEAD_BYTES - 1] != 0).then_some(number(3));
        Ok(State { meta: Meta { covered: number(1), next_id: number(2), stored, history: number(4) }, keys, bytes: bytes_of })
    }
}
