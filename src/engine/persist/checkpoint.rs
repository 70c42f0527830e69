//! The checkpointer: folds what the journal holds into the tables, so that the journal can be cut off behind it. It
//! works from the files alone, so no client ever waits for it.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::clock;
use crate::engine::persist::apply::apply;
use crate::engine::persist::fold::Fold;
use crate::engine::persist::{Error, Inner};
use crate::memory::{self, Aside, Work};
use crate::storage::Tables;

/// Changes kept in memory before they are written: large enough that keys which change often are written once.
const FOLD_BYTES_MAX: usize = 64 << 20;
/// However little memory there is, changes gathered before they are written.
const FOLD_BYTES_MIN: usize = 1 << 20;
/// This part of a memory limit may be changes gathered before they are written. What was read, and redb's pages, take as much again.
const FOLD_SHARE: usize = 16;
/// Journal read in one go. Its old pages cannot be used again meanwhile.
const READ_BYTES: usize = 16 << 20;
/// How often it looks whether a checkpoint is due.
const LOOK: Duration = Duration::from_millis(500);
/// After a failure it is left at that for a while, unless someone asks.
const RETRY: Duration = Duration::from_secs(5);

/// Who is told how a checkpoint ended.
type Waiting = oneshot::Sender<Result<(), String>>;

/// How others reach the checkpointer, and what it has come to.
#[derive(Default)]
pub struct Checkpoints {
    requests: Mutex<Vec<Waiting>>,
    changed: Condvar,
    is_stopping: AtomicBool,
    /// Too little of what is in memory may be dropped.
    wants_clean: AtomicBool,
    /// Whether the tables' file may lack what it shows, after an error.
    is_doubtful: AtomicBool,
    pub(super) is_running: AtomicBool,
    pub(super) has_failed: AtomicBool,
    pub(super) count: AtomicU64,
    pub(super) ended_at: AtomicU64,
    pub(super) took_ms: AtomicU64,
    /// Since one ended well.
    pub(super) failures: AtomicU64,
    /// When the one that runs began, in milliseconds of the monotonic clock; 0 while none runs.
    began_at: AtomicU64,
    pub(super) journal_base_bytes: AtomicU64,
}

impl Checkpoints {
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

    pub(super) fn stop(&self) {
        let _requests = self.requests.lock();
        self.is_stopping.store(true, SeqCst);
        self.changed.notify_one();
    }
}

/// Makes checkpoints when they are due, until told to stop.
pub fn run(inner: &Inner) {
    // Clients come first where processors are short.
    let _ = rustix::process::setpriority_process(None, 10);
    let mut last = Instant::now();
    let mut not_before = last;
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
        let is_due = is_due(inner, last) && Instant::now() >= not_before;
        if requests.is_empty() && !is_due {
            continue;
        }
        let result = checkpoint(inner);
        // It has freed a hundred megabytes, and may not run again for long.
        memory::hand_back();
        last = Instant::now();
        if result.is_err() {
            not_before = last + RETRY;
        }
        let result = result.map_err(|error| error.to_string());
        requests.into_iter().for_each(|request| drop(request.send(result.clone())));
    }
}

fn is_due(inner: &Inner, last: Instant) -> bool {
    let bytes = inner.journal_bytes.load(Relaxed);
    let is_old = bytes > 0 && last.elapsed() >= inner.options.checkpoint_interval;
    bytes >= inner.checkpoint_bytes.load(Relaxed) || is_old || inner.checkpoints.wants_clean.swap(false, Relaxed)
}

fn checkpoint(inner: &Inner) -> Result<(), Error> {
    let checkpoints = &inner.checkpoints;
    checkpoints.began_at.store(clock::monotonic_ms(), Relaxed);
    checkpoints.is_running.store(true, SeqCst);
    let start = Instant::now();
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
            checkpoints.took_ms.store(start.elapsed().as_millis() as u64, Relaxed);
            checkpoints.ended_at.store(clock::now_ms() / 1000, Relaxed);
        }
        Err(error) => {
            checkpoints.failures.fetch_add(1, Relaxed);
            tracing::error!("make a checkpoint: {error}; the journal is kept, and it will be tried again");
        }
    }
    checkpoints.has_failed.store(result.is_err(), Relaxed);
    checkpoints.is_running.store(false, SeqCst);
    checkpoints.began_at.store(0, Relaxed);
    result
}

/// Folds all that happened before it was called.
fn fold_journal(inner: &Inner) -> Result<(), Error> {
    inner.wait_durable(inner.engine.epoch())?;
    let last = inner.seq_of(*inner.durable.borrow());
    let mut seq = inner.covered.load(Acquire);
    let mut fold = Fold::default();
    let mut folded = 0;
    let mut is_end = seq >= last;
    while !is_end {
        let mut batches = Vec::new();
        let first = seq + 1;
        is_end = {
            let journal = inner.journal.read();
            let journal = journal.as_ref().ok_or_else(|| Error::Write(inner.error_text()))?;
            journal.read_after(seq, last, READ_BYTES.min(fold_bytes_max(inner)), |number, bytes| {
                seq = number;
                folded += bytes.len() as u64;
                batches.push(bytes.to_vec());
                Ok::<_, Error>(())
            })?
        };
        let batches: Vec<&[u8]> = batches.iter().map(Vec::as_slice).collect();
        fold.add_batches(&batches).map_err(|error| Error::Corrupt {
            place: format!("journal, one of the batches {first} to {seq}"),
            cause: error.to_string(),
        })?;
        if is_end {
            seq = last;
        }
        if is_end || fold.bytes > fold_bytes_max(inner) {
            write(inner, &fold, seq)?;
            inner.journal_bytes.fetch_sub(folded.min(inner.journal_bytes.load(Relaxed)), Relaxed);
            (fold, folded) = (Fold::default(), 0);
        }
    }
    Ok(())
}

/// Smaller folds under a memory limit: they are within `memory-limit`, or little beside `maxmemory`.
fn fold_bytes_max(inner: &Inner) -> usize {
    let limits = [inner.memory_limit.load(Relaxed), inner.engine.eviction().bytes_max()];
    let limit = limits.into_iter().filter(|limit| *limit != 0).min();
    limit.map_or(FOLD_BYTES_MAX, |limit| (limit as usize / FOLD_SHARE).clamp(FOLD_BYTES_MIN, FOLD_BYTES_MAX))
}

/// Writes a fold into the tables; then the journal up to there is needed no more.
fn write(inner: &Inner, fold: &Fold, seq: u64) -> Result<(), Error> {
    if inner.tables.read().is_none() {
        open_again(inner)?;
    }
    let result = match &*inner.tables.read() {
        Some(tables) => apply(tables, fold, seq),
        None => Err(Error::Write("the tables are closed".into())),
    };
    if let Err(error) = result {
        // redb wants to be opened anew after an error; values that rest on disk are wanted soon.
        *inner.tables.write() = None;
        inner.checkpoints.is_doubtful.fetch_or(!error.is_full(), SeqCst);
        let _ = open_again(inner);
        return Err(error);
    }
    inner.covered.store(seq, Release);
    inner.trim_to.store(seq, Release);
    inner.commits.poke();
    Ok(())
}

fn open_again(inner: &Inner) -> Result<(), Error> {
    let (path, cache_bytes) = (inner.folder.tables(), inner.options.tables_cache_bytes);
    let mut tables = inner.tables.write();
    *tables = Some(if inner.checkpoints.is_doubtful.load(SeqCst) {
        Tables::renew(&*inner.disk, &path, cache_bytes)?
    } else {
        Tables::open(&*inner.disk, &path, cache_bytes)?
    });
    inner.checkpoints.is_doubtful.store(false, SeqCst);
    Ok(())
}
