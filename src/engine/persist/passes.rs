//! What a span of the journal did, told in the order of the keys and in little memory: long values are left where they are, and where what is
//! to be known of all keys is still too much, the span is read again and again, and each time what became of the next stretch of keys is kept.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::engine::persist::fold::{Fold, Journaled, Moves, Place};
use crate::engine::persist::{Error, Inner};
use crate::storage::journal::{Reading, Stretch};

/// Changes kept in memory at once: the fewer, the more often the journal is read.
const FOLD_BYTES_MAX: usize = 24 << 20;
/// However little memory there is, changes kept at once.
const FOLD_BYTES_MIN: usize = 1 << 20;
/// This part of a memory limit may be changes kept at once. What was read, and redb's pages, take as much again.
const FOLD_SHARE: usize = 16;
/// Of a small limit it may be a larger part, up to this much: each pass reads the whole journal, and with fewer of them a server with 30 MB takes twice
/// the writes.
const FOLD_SHARE_SMALL: usize = 8;
const FOLD_BYTES_SMALL: usize = 4 << 20;
/// And of these, what it takes to know from which keys values went to which.
const MOVES_SHARE: usize = 2;
/// Journal read in one go. Its old pages cannot be used again meanwhile.
const READ_BYTES: usize = 4 << 20;

/// Passes over a span of the journal.
pub(crate) struct Passes<'i> {
    inner: &'i Inner,
    /// The span is what follows this batch, up to the last.
    after: u64,
    /// The last batch. Before the first pass, how far the span may go: it ends where too many values went from key to key for all of
    /// them to be kept in mind.
    pub last: u64,
    /// Where the next pass begins; None when there is none.
    next: Option<Option<Place>>,
    /// Some of the keys, and how many of them a pass takes; none before the first.
    samples: Vec<Place>,
    samples_each: usize,
    /// About how many places in the tables change, and how many bytes are written there; none before the first.
    changes: (u64, u64),
    /// From which keys values went to which; none before the first.
    moves: Moves,
    /// The journal's files; none before the first.
    reading: Option<Arc<Reading>>,
    /// Bytes of the span, once it was read.
    pub bytes: u64,
    /// Whether the journal made no sense, or was closed.
    has_failed: bool,
}

impl Passes<'_> {
    /// Passes over what follows a batch, up to this one at most.
    pub(crate) fn over(inner: &Inner, after: u64, last: u64) -> Passes<'_> {
        Passes {
            inner,
            after,
            last,
            next: Some(None),
            samples: Vec::new(),
            samples_each: 0,
            changes: (0, 0),
            moves: Moves::default(),
            reading: None,
            bytes: 0,
            has_failed: false,
        }
    }

    /// The batch that the span follows.
    pub(crate) fn after(&self) -> u64 {
        self.after
    }

    /// What became of the next stretch of keys; None after the last.
    pub(crate) fn read(&mut self) -> Result<Option<Fold>, Error> {
        self.next_fold().inspect_err(|_| self.has_failed = true)
    }

    fn next_fold(&mut self) -> Result<Option<Fold>, Error> {
        let Some(from) = self.next.take() else { return Ok(None) };
        let mut fold = if from.is_none() {
            let mut first = self.fold(Fold::sampling())?;
            self.moves = first.take_moves();
            self.changes = (first.key_count() as u64, self.bytes.min(first.told_bytes() as u64));
            if let Some(samples) = first.take_samples() {
                if first.below().is_some() {
                    // It is not known how much of the span was overwritten in it.
                    self.changes = (samples.changes().max(first.key_count() as u64), self.bytes);
                }
                self.samples = samples.keys.into_iter().collect();
                self.samples_each = fill(&first, &self.samples, fold_bytes_max(self.inner));
            }
            match first.below().cloned() {
                // It did not know where the values of its keys came from.
                Some(below) if !self.moves.is_empty() => self.fold(Fold::between(None, Some(below), &self.moves))?,
                _ => first,
            }
        } else {
            self.fold(Fold::between(from.clone(), self.guess(from.as_ref()), &self.moves))?
        };
        fold.forget_others();
        self.next = fold.below().cloned().map(Some);
        Ok(Some(fold))
    }

    /// Adds the span to a fold.
    fn fold(&mut self, fold: Fold) -> Result<Fold, Error> {
        let bytes_max = fold_bytes_max(self.inner);
        let reading = self.reading()?;
        let mut fold = fold.within(bytes_max).from_journal(Journaled::of(Arc::clone(&reading)));
        let (mut stretch, mut is_end) = (Stretch::after(self.after), false);
        self.bytes = 0;
        while !is_end {
            let first = stretch.last + 1;
            is_end = reading.read_stretch(self.last, READ_BYTES.min(bytes_max), &mut stretch)?;
            self.bytes += stretch.bytes() as u64;
            fold.add(stretch.batches()).map_err(|error| error.of_batches(first..=stretch.last))?;
            if fold.moves_bytes() > bytes_max / MOVES_SHARE && !is_end {
                (self.last, is_end) = (stretch.last, true);
            }
        }
        Ok(fold)
    }

    /// The journal's files. Those that the span needs stay, and are gone on with as they are, also after an error of those who write.
    fn reading(&mut self) -> Result<Arc<Reading>, Error> {
        if let Some(reading) = &self.reading {
            return Ok(Arc::clone(reading));
        }
        let journal = self.inner.journal.read();
        let journal = journal.as_ref().ok_or_else(|| Error::Write(self.inner.error_text()))?;
        Ok(Arc::clone(self.reading.insert(Arc::new(journal.reading()))))
    }

    /// Whether the journal could not be read, or made no sense.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed || self.has_read_wrong()
    }

    /// Whether the journal could not be read, or is not what was written: now, or where a value was left.
    pub(crate) fn has_read_wrong(&self) -> bool {
        self.reading.as_ref().is_some_and(|reading| reading.has_failed())
    }

    /// Up to where a pass will come that begins here, so that it need not find out by forgetting half of its keys again and
    /// again; None for the end.
    fn guess(&self, from: Option<&Place>) -> Option<Place> {
        let first = self.samples.partition_point(|place| Some(place) <= from);
        self.samples.get(first + self.samples_each).cloned()
    }

    /// About how many places in the tables change, and how many bytes are written there; once the first was read.
    pub(crate) fn changes(&self) -> (u64, u64) {
        self.changes
    }
}

/// How many samples there are to seven eighths of what a fold may hold, going by one that holds what is before its end.
fn fill(fold: &Fold, samples: &[Place], bytes_max: usize) -> usize {
    let held = samples.partition_point(|place| fold.below().is_none_or(|below| place < below));
    held * (bytes_max / 8 * 7) / fold.bytes().max(1)
}

/// Less under a memory limit: it is within `memory-limit`, or little beside `maxmemory`.
fn fold_bytes_max(inner: &Inner) -> usize {
    let limits = [inner.memory_limit.load(Relaxed), inner.engine.eviction().bytes_max()];
    let limit = limits.into_iter().filter(|limit| *limit != 0).min();
    let share = |limit: usize| (limit / FOLD_SHARE).max((limit / FOLD_SHARE_SMALL).min(FOLD_BYTES_SMALL));
    limit.map_or(FOLD_BYTES_MAX, |limit| share(limit as usize).clamp(FOLD_BYTES_MIN, FOLD_BYTES_MAX))
}
