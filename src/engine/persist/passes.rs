//! What a span of the journal did, told in the order of the keys and in little memory: it is read again and again, and
//! each time what became of the next stretch of keys is kept.

use std::sync::atomic::Ordering::Relaxed;

use crate::engine::persist::fold::{Fold, Place};
use crate::engine::persist::{Error, Inner};

/// Changes kept in memory at once: the fewer, the more often the journal is read.
const FOLD_BYTES_MAX: usize = 48 << 20;
/// However little memory there is, changes kept at once.
const FOLD_BYTES_MIN: usize = 1 << 20;
/// This part of a memory limit may be changes kept at once. What was read, and redb's pages, take as much again.
const FOLD_SHARE: usize = 16;
/// Journal read in one go. Its old pages cannot be used again meanwhile.
const READ_BYTES: usize = 4 << 20;

/// Passes over a span of the journal.
pub struct Passes<'i> {
    inner: &'i Inner,
    /// The span is what follows this batch, up to the last.
    after: u64,
    last: u64,
    /// Where the next pass begins; None when there is none.
    next: Option<Option<Place>>,
    /// Bytes of the span, once it was read.
    pub bytes: u64,
}

impl Passes<'_> {
    /// Passes over what follows a batch, up to the last.
    pub fn over(inner: &Inner, after: u64, last: u64) -> Passes<'_> {
        Passes { inner, after, last, next: Some(None), bytes: 0 }
    }

    /// What became of the next stretch of keys; None after the last.
    pub fn next(&mut self) -> Result<Option<Fold>, Error> {
        let Some(from) = self.next.take() else { return Ok(None) };
        let mut fold = Fold::from(from);
        let (mut seq, mut is_end) = (self.after, false);
        self.bytes = 0;
        while !is_end {
            let (first, mut batches) = (seq + 1, Vec::new());
            is_end = {
                let journal = self.inner.journal.read();
                let journal = journal.as_ref().ok_or_else(|| Error::Write(self.inner.error_text()))?;
                journal.read_after(seq, self.last, READ_BYTES.min(fold_bytes_max(self.inner)), |number, bytes| {
                    seq = number;
                    self.bytes += bytes.len() as u64;
                    batches.push(bytes.to_vec());
                    Ok::<_, Error>(())
                })?
            };
            let batches: Vec<&[u8]> = batches.iter().map(Vec::as_slice).collect();
            fold.add_batches(&batches).map_err(|error| Error::Corrupt {
                place: format!("journal, one of the batches {first} to {seq}"),
                cause: error.to_string(),
            })?;
            while fold.bytes > fold_bytes_max(self.inner) && fold.halve() {}
        }
        self.next = fold.below().cloned().map(Some);
        Ok(Some(fold))
    }

    /// Whether there are more.
    pub fn has_more(&self) -> bool {
        self.next.is_some()
    }
}

/// Less under a memory limit: it is within `memory-limit`, or little beside `maxmemory`.
fn fold_bytes_max(inner: &Inner) -> usize {
    let limits = [inner.memory_limit.load(Relaxed), inner.engine.eviction().bytes_max()];
    let limit = limits.into_iter().filter(|limit| *limit != 0).min();
    limit.map_or(FOLD_BYTES_MAX, |limit| (limit as usize / FOLD_SHARE).clamp(FOLD_BYTES_MIN, FOLD_BYTES_MAX))
}
