//! The committer: cuts the keyspace's effects again and again and commits each cut to the journal, as soon and as often
//! as the durability asked for wants it.
//!
//!   Asleep --poke--> Cutting --something to commit--> Committing --done--> Pacing --> Cutting
//!     ^                 |                                  |
//!     +-----nothing-----+                                failed --> Failing --after a while--> Committing

use std::sync::OnceLock;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::engine::Cut;
use crate::engine::persist::batch::Heads;
use crate::engine::persist::{Error, Fsync, Inner};
use crate::memory::{self, Aside};
use crate::storage::Journal;
use crate::storage::journal::Batch;

/// Commits are this far apart while there is work: what a kill of the process may lose with `everysec`.
const PACE: Duration = Duration::from_millis(5);
/// With `no`.
const PACE_NO: Duration = Duration::from_secs(1);
/// However slow the disk, commits are no further apart than this.
const PACE_MAX: Duration = Duration::from_secs(1);
/// After a commit the disk has this many times as long for others as it took. More would cost less on a slow disk, and
/// lose more when the process is killed.
const REST: u32 = 1;
/// Attempts to write what is left when told to stop; then it is lost, and whoever closes is told.
const LAST_TRIES: u32 = 5;
/// It looks for effects now and then even if nobody pokes it: expiry and other chores of the keyspace need not.
const LOOK: Duration = Duration::from_secs(1);
/// A cut this large means that the disk is behind the writers; see `Persistence::is_behind`.
const BEHIND_BYTES: usize = 64 << 20;

/// How others reach the committer, and what it has come to.
#[derive(Default)]
pub struct Commits {
    /// Whether it has found nothing to commit and waits to be poked.
    is_asleep: AtomicBool,
    /// Whether someone cannot wait for the usual pace.
    is_urgent: AtomicBool,
    is_stopping: AtomicBool,
    thread: OnceLock<Thread>,
    pub(super) is_failing: AtomicBool,
    /// Whether the journal's file may lack what it shows, after an error.
    is_doubtful: AtomicBool,
    pub(super) is_behind: AtomicBool,
    pub(super) error: Mutex<Option<String>>,
    /// Commits made.
    pub(super) count: AtomicU64,
    /// Microseconds they took.
    pub(super) micros: AtomicU64,
}

impl Commits {
    #[inline]
    pub(super) fn poke(&self) {
        if self.is_asleep.load(SeqCst) {
            self.wake();
        }
    }

    pub(super) fn hurry(&self) {
        self.is_urgent.store(true, SeqCst);
        self.wake();
    }

    pub(super) fn stop(&self) {
        self.is_stopping.store(true, SeqCst);
        self.wake();
    }

    #[cold]
    fn wake(&self) {
        self.is_asleep.store(false, SeqCst);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

/// Commits until told to stop, and then what is left.
pub fn run(inner: &Inner) {
    let _ = inner.commits.thread.set(thread::current());
    let mut waiting: Vec<Cut> = Vec::new();
    let mut is_announced = false;
    let mut has_garbage = false;
    let mut last_tries = LAST_TRIES;
    loop {
        // Read before the cut, so that what was written before the stop is in it.
        let is_stopping = inner.commits.is_stopping.load(SeqCst);
        let is_idle = !gather(inner, &mut waiting) && !inner.has_trimming();
        if is_idle && is_stopping {
            break;
        }
        if is_idle {
            let has_rested = is_announced;
            is_announced = rest(inner, is_announced);
            if has_rested && has_garbage && inner.commits.is_asleep.load(SeqCst) {
                memory::hand_back();
                has_garbage = false;
            }
            continue;
        }
        is_announced = false;
        has_garbage = true;
        inner.commits.is_asleep.store(false, SeqCst);
        let start = Instant::now();
        match commit(inner, &waiting) {
            Ok(()) => {
                committed(inner, &mut waiting, start.elapsed());
                pace(inner, start, start.elapsed());
            }
            Err(error) => {
                failed(inner, &error);
                last_tries -= u32::from(is_stopping);
                if last_tries == 0 {
                    break;
                }
                thread::park_timeout(inner.options.write_retry);
            }
        }
    }
}

/// Cuts; tells whether there is anything to commit. Without, everything so far is durable as it is.
fn gather(inner: &Inner, waiting: &mut Vec<Cut>) -> bool {
    let cut = inner.engine.cut();
    let epoch = cut.epoch;
    if !cut.shards.is_empty() {
        let bytes: usize = cut.shards.iter().map(|(_, effects)| effects.len()).sum();
        inner.commits.is_behind.store(bytes > BEHIND_BYTES, Relaxed);
        waiting.push(cut);
        let held: usize = waiting.iter().flat_map(|cut| &cut.shards).map(|(_, effects)| effects.len()).sum();
        // The shards made as much room again for the next cut.
        memory::set_aside(Aside::Journal, (held + bytes) as u64);
    } else if waiting.is_empty() {
        inner.commits.is_behind.store(false, Relaxed);
        memory::set_aside(Aside::Journal, 0);
        inner.durable.send_replace(epoch);
    }
    !waiting.is_empty()
}

/// Sleeps until poked or for a while. Says so first and lets the caller look once more: whoever wrote after that look sees the word.
fn rest(inner: &Inner, is_announced: bool) -> bool {
    let commits = &inner.commits;
    if !is_announced {
        commits.is_asleep.store(true, SeqCst);
        return true;
    }
    if commits.is_asleep.load(SeqCst) && !commits.is_stopping.load(SeqCst) {
        thread::park_timeout(LOOK);
    }
    false
}

fn commit(inner: &Inner, cuts: &[Cut]) -> Result<(), Error> {
    let trim_to = inner.trim_to.load(Acquire);
    if inner.journal.read().is_none() {
        // After an error redb wants to be opened anew; it then finds the commit whole or not there.
        let (path, cache_bytes) = (inner.folder.journal(), inner.options.journal_cache_bytes);
        let journal = if inner.commits.is_doubtful.load(SeqCst) {
            Journal::renew(&*inner.disk, &path, cache_bytes, trim_to)?
        } else {
            Journal::open(&*inner.disk, &path, cache_bytes)?
        };
        inner.commits.is_doubtful.store(false, SeqCst);
        *inner.journal.write() = Some(journal);
    }
    let heads: Vec<Heads> = cuts.iter().map(|cut| Heads::new(cut, inner.base)).collect();
    let batches: Vec<Batch<'_>> =
        cuts.iter().zip(&heads).map(|(cut, heads)| Batch { seq: inner.seq_of(cut.epoch), pieces: heads.pieces(cut) }).collect();
    let bytes: usize = batches.iter().flat_map(|batch| &batch.pieces).map(|piece| piece.len()).sum();
    let is_more = {
        let journal = inner.journal.read();
        journal.as_ref().expect("it was opened above").append(&batches, trim_to)?
    };
    if !is_more {
        inner.trimmed.store(trim_to, Release);
    }
    inner.journal_bytes.fetch_add(bytes as u64, Relaxed);
    Ok(())
}

fn committed(inner: &Inner, cuts: &mut Vec<Cut>, took: Duration) {
    let commits = &inner.commits;
    commits.count.fetch_add(1, Relaxed);
    commits.micros.fetch_add(took.as_micros() as u64, Relaxed);
    if commits.is_failing.swap(false, SeqCst) {
        *commits.error.lock() = None;
        tracing::info!("writing to the journal works again");
    }
    if let Some(cut) = cuts.last() {
        inner.durable.send_replace(cut.epoch);
    }
    cuts.clear();
}

fn failed(inner: &Inner, error: &Error) {
    // The journal is closed before anyone may see the failure: nobody reads from a broken one for long.
    *inner.journal.write() = None;
    inner.commits.is_doubtful.fetch_or(!error.is_full(), SeqCst);
    let text = error.to_string();
    *inner.commits.error.lock() = Some(text.clone());
    if !inner.commits.is_failing.swap(true, SeqCst) {
        tracing::error!("write to the journal: {text}; commands that change data are refused until writing works again");
    }
}

/// Waits until the next commit is due, or someone is in a hurry.
fn pace(inner: &Inner, start: Instant, took: Duration) {
    let commits = &inner.commits;
    loop {
        let pause = match inner.fsync() {
            Fsync::Always => return,
            Fsync::Everysec => PACE.max(took * (REST + 1)).min(PACE_MAX),
            Fsync::No => PACE_NO,
        };
        let left = pause.saturating_sub(start.elapsed());
        if left.is_zero() || commits.is_stopping.load(SeqCst) || commits.is_urgent.swap(false, SeqCst) {
            return;
        }
        thread::park_timeout(left);
    }
}
