//! The checkpointer: folds what the journal holds into the tables, so that the journal can be cut off behind it. It
//! works from the files alone, so no client ever waits for it.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::clock;
use crate::engine::persist::passes::Passes;
use crate::engine::persist::{Error, Inner, apply, growth};
use crate::memory::{self, Aside, Work};
use crate::storage::{self, Journal, Tables};

/// A key or a row that changes in place has pages written anew: its own, those above it, and some of them twice.
const CHANGE_BYTES: u64 = 8 << 10;
/// The tables are written anew when their file has grown by more than a part of this size since they were: of free pages,
/// and of pages that are half empty.
const SLACK_SHARE: u64 = 4;
/// Before a file of this size it is not worth a thought.
const SLACK_BYTES_MIN: u64 = 4 << 20;
/// The journal may be this part of the tables before they are written anew. So what is written to the disk is no more than
/// two and a third times what changed, and the folder three times the data.
const TABLES_SHARE: (u64, u64) = (3, 4);
/// The journal has about so many files when a checkpoint is due: what is done with goes a file at a time, and each takes a descriptor.
const SEGMENTS: u64 = 8;
/// A file is not worth beginning for less.
const SEGMENT_BYTES_MIN: u64 = 1 << 20;
/// How often it looks whether a checkpoint is due.
const LOOK: Duration = Duration::from_millis(500);
/// After a failure it is left at that for a while, unless someone asks.
const RETRY: Duration = Duration::from_secs(5);
/// Tables are opened anew no more often than this because a read failed: where a sector is bad, each client that asks for it meets it.
const REOPEN: Duration = Duration::from_secs(1);

/// Who is told how a checkpoint ended.
type Waiting = oneshot::Sender<Result<(), String>>;

/// How others reach the checkpointer, and what it has come to.
#[derive(Default)]
pub(crate) struct Checkpoints {
    requests: Mutex<Vec<Waiting>>,
    changed: Condvar,
    is_stopping: AtomicBool,
    /// Too little of what is in memory may be dropped.
    wants_clean: AtomicBool,
    /// Whether a read of the tables failed: redb reads nothing more until it is opened anew.
    is_stale: AtomicBool,
    /// Whether the tables' file may lack what it shows, after an error.
    is_doubtful: AtomicBool,
    /// Bytes of the journal that the last one was to bring into the tables, where it failed: it may have.
    tried_bytes: AtomicU64,
    pub(super) is_running: AtomicBool,
    pub(super) has_failed: AtomicBool,
    /// Why the last one failed, if it did.
    error: Mutex<Option<String>>,
    pub(super) count: AtomicU64,
    pub(super) ended_at: AtomicU64,
    pub(super) took_ms: AtomicU64,
    /// Since one ended well.
    pub(super) failures: AtomicU64,
    /// When the one that runs began, in milliseconds of the monotonic clock; 0 while none runs.
    began_at: AtomicU64,
    pub(super) journal_base_bytes: AtomicU64,
    /// How many bytes the rows of the tables take.
    pub(super) tables_bytes: AtomicU64,
    /// How long the tables' file was when they were last written anew.
    dense_bytes: AtomicU64,
}

impl Checkpoints {
    /// Why the last one failed, if it did.
    pub(super) fn error(&self) -> Option<String> {
        self.error.lock().clone()
    }

    /// How long the one that runs takes so far, in milliseconds.
    pub(super) fn runs_ms(&self) -> Option<u64> {
        let began_at = self.began_at.load(Relaxed);
        (began_at > 0).then(|| clock::monotonic_ms().saturating_sub(began_at))
    }

    /// Whether one was asked for that has not begun.
    pub(super) fn is_wanted(&self) -> bool {
        !self.requests.lock().is_empty()
    }

    pub(super) fn request(&self) -> oneshot::Receiver<Result<(), String>> {
        let (sender, receiver) = oneshot::channel();
        let mut requests = self.requests.lock();
        // Once it is stopping nobody would answer; the receiver then learns that its sender is gone.
        if !self.is_stopping.load(SeqCst) {
            requests.push(sender);
        }
        self.changed.notify_one();
        receiver
    }

    /// Asks for a checkpoint that lets values be dropped from memory, unless one is being made.
    pub(super) fn want_clean(&self) {
        if !self.is_running.load(SeqCst) && !self.wants_clean.swap(true, Relaxed) {
            self.changed.notify_one();
        }
    }

    /// Has the tables opened anew, after an error of a read; with a checkpoint, since no other thread may do that.
    pub(super) fn want_opening(&self) {
        if !self.is_stale.swap(true, SeqCst) {
            self.changed.notify_one();
        }
    }

    pub(super) fn stop(&self) {
        let _requests = self.requests.lock();
        self.is_stopping.store(true, SeqCst);
        self.changed.notify_one();
    }
}

/// Makes checkpoints when they are due, until told to stop.
pub(crate) fn run(inner: &Inner) {
    // Clients come first where processors are short.
    let _ = rustix::process::setpriority_process(None, 10);
    let mut last = clock::instant();
    let mut not_before = last;
    note_bytes(inner);
    inner.checkpoints.dense_bytes.store(file_bytes(inner).unwrap_or(0), Relaxed);
    loop {
        let requests = {
            let mut requests = inner.checkpoints.requests.lock();
            if requests.is_empty() && !inner.checkpoints.is_stopping.load(SeqCst) {
                inner.checkpoints.changed.wait_for(&mut requests, LOOK);
            }
            std::mem::take(&mut *requests)
        };
        if inner.checkpoints.is_stopping.load(SeqCst) && requests.is_empty() {
            return;
        }
        let is_due = is_due(inner, last) && clock::instant() >= not_before;
        if requests.is_empty() && !is_due {
            continue;
        }
        let is_stale = inner.checkpoints.is_stale.load(SeqCst);
        let result = checkpoint(inner);
        // It has freed a hundred megabytes, and may not run again for long.
        memory::hand_back();
        last = clock::instant();
        match result {
            Err(_) => not_before = last + RETRY,
            Ok(()) if is_stale => not_before = last + REOPEN,
            Ok(()) => {}
        }
        let result = result.map_err(|error| error.to_string());
        requests.into_iter().for_each(|request| drop(request.send(result.clone())));
    }
}

fn is_due(inner: &Inner, last: Instant) -> bool {
    let bytes = inner.journal_bytes.load(Relaxed);
    let is_old = bytes > 0 && clock::since(last) >= inner.options.checkpoint_interval;
    wants_opening(inner) || bytes >= inner.due_bytes() || is_old || inner.checkpoints.wants_clean.swap(false, Relaxed)
}

impl Inner {
    /// The size of the journal from which on a checkpoint is due: as it is set, or as much as makes writing the tables anew
    /// worth it.
    pub(super) fn due_bytes(&self) -> u64 {
        let tables = self.checkpoints.tables_bytes.load(Relaxed);
        self.checkpoint_bytes.load(Relaxed).max(tables / TABLES_SHARE.1 * TABLES_SHARE.0)
    }

    /// How large a file of the journal becomes.
    pub(super) fn segment_bytes(&self) -> u64 {
        (self.due_bytes() / SEGMENTS).max(SEGMENT_BYTES_MIN).min(self.options.segment_bytes)
    }
}

fn checkpoint(inner: &Inner) -> Result<(), Error> {
    let checkpoints = &inner.checkpoints;
    checkpoints.began_at.store(clock::monotonic_ms(), Relaxed);
    checkpoints.is_running.store(true, SeqCst);
    let start = clock::instant();
    inner.engine.begin_generation();
    let work = Work::begin(Aside::Checkpoint);
    let result = fold_journal(inner);
    drop(work);
    match &result {
        Ok(()) => {
            inner.engine.end_generation();
            checkpoints.count.fetch_add(1, Relaxed);
            checkpoints.failures.store(0, Relaxed);
            checkpoints.journal_base_bytes.store(inner.journal_bytes.load(Relaxed), Relaxed);
            checkpoints.took_ms.store(clock::since(start).as_millis() as u64, Relaxed);
            checkpoints.ended_at.store(clock::now_ms() / 1000, Relaxed);
        }
        Err(error) => {
            checkpoints.failures.fetch_add(1, Relaxed);
            tracing::error!("make a checkpoint: {error}; the journal is kept, and it will be tried again");
        }
    }
    *checkpoints.error.lock() = result.as_ref().err().map(ToString::to_string);
    checkpoints.has_failed.store(result.is_err(), Relaxed);
    growth::look(inner);
    checkpoints.is_running.store(false, SeqCst);
    checkpoints.began_at.store(0, Relaxed);
    result
}

/// Brings all that happened before it was called into the tables.
fn fold_journal(inner: &Inner) -> Result<(), Error> {
    // Those that are open can be read on, and nothing that is written into them lasts.
    inner.check_tables_are_there()?;
    if wants_opening(inner) {
        open_again(inner)?;
    }
    inner.wait_durable(inner.engine.epoch())?;
    // Known only once the tables are open: they may hold more than the last checkpoint said that it wrote. What stands in the journal
    // must not be done to them twice, since a value would go from one key to another twice.
    let mut covered = inner.covered.load(Acquire);
    // No further than there are batches: a journal that ends before the tables do is an older copy. Where it is closed after an error,
    // nobody knows how far it goes.
    let journaled = inner.journal.read().as_ref().map(Journal::last).ok_or_else(|| Error::Write(inner.error_text()))?;
    let last = inner.seq_of(*inner.durable.borrow()).min(journaled);
    while covered < last {
        covered = fold_span(inner, covered, last)?;
    }
    Ok(())
}

/// Brings what follows a batch into the tables, up to the last if that is not too much at once; tells up to which.
fn fold_span(inner: &Inner, covered: u64, last: u64) -> Result<u64, Error> {
    let mut passes = Passes::over(inner, covered, last);
    if let Err(error) = write(inner, &mut passes) {
        inner.checkpoints.tried_bytes.store(passes.bytes, Relaxed);
        // A row that is not what was written is nothing that redb knows of: it goes on.
        if !error.is_of_rows() {
            let is_of_journal = passes.has_failed();
            if passes.has_read_wrong() {
                inner.note_damage(&error);
            }
            inner.checkpoints.is_doubtful.fetch_or(!is_of_journal && !error.is_full() && !error.is_damage(), SeqCst);
            let _ = open_again(inner);
        }
        return Err(error);
    }
    note_covered(inner, passes.last, passes.bytes);
    Ok(passes.last)
}

/// Notes that the tables hold everything up to a batch, for good: so many bytes of the journal are needed no more.
fn note_covered(inner: &Inner, last: u64, bytes: u64) {
    assert!(inner.trim_to.load(Acquire) < last, "the journal would be gone up to a batch that no tables hold");
    inner.covered.store(last, Release);
    inner.trim_to.store(last, Release);
    inner.journal_bytes.fetch_sub(bytes.min(inner.journal_bytes.load(Relaxed)), Relaxed);
    inner.commits.poke();
}

/// Writes what the passes tell into the tables, which then need the journal up to there no more: where it is, or with all
/// the rest into a new file, whichever is less to write.
fn write(inner: &Inner, passes: &mut Passes<'_>) -> Result<(), Error> {
    let first = passes.read()?;
    let covered = passes.last;
    let rebuilt = {
        let tables = inner.tables.read();
        let tables = tables.as_ref().ok_or_else(|| Error::Write("the tables are closed".into()))?;
        let file_bytes = file_bytes(inner)?;
        let (known, after) = (tables.meta()?.covered, passes.after());
        if known != after {
            return Err(Error::Write(format!("the tables hold batch {known}, and would be told again of what follows {after}")));
        }
        let (places, changed_bytes) = passes.changes();
        // In place, what is larger than redb's buffer is written twice.
        let is_much = places * CHANGE_BYTES + changed_bytes > tables.bytes()?;
        let slack = file_bytes.saturating_sub(inner.checkpoints.dense_bytes.load(Relaxed));
        let mut first = first;
        let folds = || first.take().map_or_else(|| passes.read(), |fold| Ok(Some(fold)));
        if is_much || slack > SLACK_BYTES_MIN + file_bytes / SLACK_SHARE {
            Some(apply::rebuild(tables, &*inner.disk, inner.options.tables_cache_bytes, covered, folds)?)
        } else {
            apply::change(tables, covered, folds)?;
            None
        }
    };
    if let Some(rebuilt) = rebuilt {
        *inner.tables.write() = Some(rebuilt);
        inner.checkpoints.dense_bytes.store(file_bytes(inner)?, Relaxed);
    }
    note_bytes(inner);
    Ok(())
}

/// Notes how much stands in the tables, which tells how large the journal may become.
fn note_bytes(inner: &Inner) {
    let bytes = inner.tables.read().as_ref().and_then(|tables| tables.bytes().ok());
    inner.checkpoints.tables_bytes.store(bytes.unwrap_or(0), Relaxed);
}

fn file_bytes(inner: &Inner) -> Result<u64, Error> {
    Ok(storage::disk::file_bytes(&*inner.disk, &inner.folder.tables())?)
}

/// Whether the tables must be opened anew, or written anew, before anything else is done with them.
fn wants_opening(inner: &Inner) -> bool {
    let checkpoints = &inner.checkpoints;
    checkpoints.is_doubtful.load(SeqCst) || checkpoints.is_stale.load(SeqCst) || inner.tables.read().is_none()
}

/// redb wants to be opened anew after an error. Whoever reads a value that rests on disk waits for that, and not for what may have to
/// be written anew.
fn open_again(inner: &Inner) -> Result<(), Error> {
    let (path, cache_bytes) = (inner.folder.tables(), inner.options.tables_cache_bytes);
    let is_doubtful = &inner.checkpoints.is_doubtful;
    inner.check_tables_are_there()?;
    let covered = {
        let mut tables = inner.tables.write();
        *tables = None;
        // What fails to be read from now on fails in those that are opened.
        inner.checkpoints.is_stale.store(false, SeqCst);
        // They are there only once it is known how far they go: what they hold must not be done to them again.
        let opened = Tables::open(&*inner.disk, &path, cache_bytes)?;
        let covered = opened.meta()?.covered;
        *tables = Some(opened);
        covered
    };
    // They were written before what failed, which may have been that they are on disk.
    let is_further = covered > inner.covered.load(Acquire);
    is_doubtful.fetch_or(is_further, SeqCst);
    if is_doubtful.load(SeqCst) {
        let renewed = {
            let tables = inner.tables.read();
            tables.as_ref().expect("it was opened above").renewed(&*inner.disk, cache_bytes)?
        };
        *inner.tables.write() = Some(renewed);
        is_doubtful.store(false, SeqCst);
    }
    if is_further {
        note_covered(inner, covered, inner.checkpoints.tried_bytes.load(Relaxed));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::persist::{Options, Persistence};

    #[test]
    fn a_checkpoint_that_finds_the_journal_closed_after_an_error_has_failed() {
        let dir = tempfile::tempdir().unwrap();
        let (_engine, persistence) = Persistence::open(dir.path(), Options::default()).unwrap();
        *persistence.0.journal.write() = None;
        assert!(fold_journal(&persistence.0).is_err());
        persistence.close(false).unwrap();
    }
}
