//! The committer: cuts the keyspace's effects again and again and writes each cut to the journal, so that a process which
//! is killed loses next to nothing, and syncs what it has written as often as the durability asked for wants it.
//!
//!   Asleep --poke--> Cutting --something to write--> Writing --Syncing, where it is time--> Pacing --> Cutting
//!     ^                 |                               |          |
//!     +-----nothing-----+                              failed -----+--> Failing --after a while--> Writing

use std::sync::OnceLock;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::clock;
use crate::engine::Cut;
use crate::engine::persist::batch::Heads;
use crate::engine::persist::{Error, Fsync, Inner, growth};
use crate::memory;
use crate::storage::Journal;
use crate::storage::journal::Batch;

/// Cuts are this far apart while there is work and no reply waits: what a kill of the process may lose.
const PACE: Duration = Duration::from_millis(5);
/// With `everysec`, syncs are no further apart than this while there is work: what a power cut may lose.
const SYNC: Duration = Duration::from_secs(1);
/// With `everysec`, this much is synced earlier, so that no sync takes long: cuts wait for it. The disk has as long for
/// others between two such syncs as the last one took.
const SYNC_BYTES: u64 = 4 << 20;
/// The journal's file says how much of it is on disk no more often than this, since that costs the next sync a page: what a hand
/// may cut off in silence after a kill.
const MARK: Duration = Duration::from_millis(100);
/// After so long a time of failing, nobody is let wait for it.
const REFUSAL: Duration = Duration::from_secs(1);
/// After a file could not be removed it is left at that for so long.
const TRIM_RETRY: Duration = Duration::from_secs(1);
/// Attempts to write what is left when told to stop; then it is lost, and whoever closes is told.
const LAST_TRIES: u32 = 5;
/// It looks for effects now and then even if nobody pokes it: expiry and other chores of the keyspace need not.
const LOOK: Duration = Duration::from_secs(1);

/// How others reach the committer, and what it has come to.
#[derive(Default)]
pub(crate) struct Commits {
    /// Whether it has found nothing to commit and waits to be poked.
    is_asleep: AtomicBool,
    /// Whether someone waits for a sync and cannot wait for the usual pace.
    is_urgent: AtomicBool,
    /// Whether someone waits for the next write, since too much is on its way.
    is_full: AtomicBool,
    is_stopping: AtomicBool,
    /// Whether it has made its last cut: nothing that is changed later comes to the disk.
    pub(super) is_over: AtomicBool,
    thread: OnceLock<Thread>,
    pub(super) is_failing: AtomicBool,
    pub(super) error: Mutex<Option<String>>,
    /// Since when it fails.
    failing_since: Mutex<Option<Instant>>,
    /// Whether it has failed for [`REFUSAL`].
    pub(super) is_refusing: AtomicBool,
    /// Cuts written.
    pub(super) count: AtomicU64,
    /// Microseconds that took, and syncing them.
    pub(super) micros: AtomicU64,
    /// Bytes written that may not be on the disk yet.
    pub(super) unsynced_bytes: AtomicU64,
    /// Syncs.
    pub(super) syncs: AtomicU64,
    /// Syncs that were longer than [`PACE`], so that the next cut had to wait.
    pub(super) slow_syncs: AtomicU64,
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

    pub(super) fn write_soon(&self) {
        self.is_full.store(true, SeqCst);
        self.wake();
    }

    /// Whether someone cannot wait for the usual pace.
    fn is_wanted(&self) -> bool {
        self.is_stopping.load(SeqCst) || self.is_urgent.load(SeqCst) || self.is_full.load(SeqCst)
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

/// What is cut and not yet on disk.
struct Progress {
    /// Cut and not written.
    waiting: Vec<Cut>,
    /// All up to this epoch is written, the last batch under this number.
    written: u64,
    last_seq: u64,
    /// Bytes written and not synced.
    unsynced_bytes: u64,
    synced_at: Instant,
    looked_at: Instant,
    marked_at: Instant,
    sync_took: Duration,
    /// Whether someone waits for a sync.
    is_awaited: bool,
    /// The journal, while it must be mended after an error.
    broken: Option<Journal>,
    /// When a file of the journal that is done with could not be removed.
    untrimmed_at: Option<Instant>,
}

/// Commits until told to stop, and then what is left. Whoever waits for more then, or changes something, is told that it is over.
pub(crate) fn run(inner: &Inner) {
    commit_all(inner);
    inner.commits.is_over.store(true, SeqCst);
    tell_of_refusal(inner);
}

fn commit_all(inner: &Inner) {
    let commits = &inner.commits;
    let _ = commits.thread.set(thread::current());
    let mut progress = Progress {
        waiting: Vec::new(),
        written: 0,
        last_seq: inner.seq_of(0),
        unsynced_bytes: 0,
        synced_at: clock::instant(),
        looked_at: clock::instant(),
        marked_at: clock::instant(),
        sync_took: Duration::ZERO,
        is_awaited: false,
        broken: None,
        untrimmed_at: None,
    };
    let mut is_announced = false;
    let mut has_garbage = false;
    let mut last_tries = LAST_TRIES;
    loop {
        // Read before the cut, so that what was written before the stop, or before someone began to wait, is in it.
        let is_stopping = commits.is_stopping.load(SeqCst);
        progress.is_awaited |= commits.is_urgent.swap(false, SeqCst);
        commits.is_full.store(false, SeqCst);
        gather(inner, &mut progress);
        if progress.must_look() {
            note_removal(inner, &progress);
        }
        let must_sync = is_stopping || progress.must_sync(inner.fsync());
        let has_work = !progress.waiting.is_empty()
            || progress.may_trim(inner)
            || must_sync && progress.unsynced_bytes > 0
            || inner.journal.read().as_ref().is_some_and(|journal| progress.must_mark(journal, is_stopping))
            || commits.is_failing.load(SeqCst);
        if !has_work {
            progress.is_awaited = false;
            if is_stopping {
                break;
            }
            let has_rested = is_announced;
            is_announced = rest(inner, is_announced, progress.look(inner));
            if has_rested && has_garbage && commits.is_asleep.load(SeqCst) {
                memory::hand_back();
                has_garbage = false;
            }
            continue;
        }
        is_announced = false;
        has_garbage = true;
        commits.is_asleep.store(false, SeqCst);
        let start = clock::instant();
        match commit(inner, &mut progress, is_stopping) {
            Ok(()) => {
                committed(inner, clock::since(start));
                pace(inner, start);
            }
            Err(error) => {
                failed(inner, &mut progress, &error);
                last_tries -= u32::from(is_stopping);
                if last_tries == 0 {
                    progress.tell_loss(&error);
                    break;
                }
                thread::park_timeout(inner.options.write_retry);
            }
        }
    }
}

impl Progress {
    /// Whether what is written, or is about to be, must be synced.
    fn must_sync(&self, fsync: Fsync) -> bool {
        let since = clock::since(self.synced_at);
        self.is_awaited
            || match fsync {
                Fsync::Always => true,
                Fsync::Everysec => since >= SYNC || self.unsynced_bytes >= SYNC_BYTES && since >= self.sync_took,
                Fsync::No => false,
            }
    }

    /// Whether it is time for the journal's file to say how much of it is on disk.
    fn must_mark(&self, journal: &Journal, is_stopping: bool) -> bool {
        journal.wants_mark() && (is_stopping || clock::since(self.marked_at) >= MARK)
    }

    /// Says what is given up at the end.
    fn tell_loss(&self, error: &Error) {
        let changes: usize = self.waiting.iter().flat_map(|cut| &cut.shards).map(|(_, effects)| effects.len()).sum();
        tracing::error!(
            "the latest changes, {changes} bytes of the journal, were not saved and are lost: they were acknowledged, and could not be \
             written: {error}"
        );
    }

    /// Whether it is time to see that the journal is still in its folder.
    fn must_look(&mut self) -> bool {
        let is_time = clock::since(self.looked_at) >= LOOK;
        if is_time {
            self.looked_at = clock::instant();
        }
        is_time
    }

    /// Whether it is time to let go of what the tables hold.
    fn may_trim(&self, inner: &Inner) -> bool {
        inner.has_trimming() && self.untrimmed_at.is_none_or(|at| clock::since(at) >= TRIM_RETRY)
    }

    /// After how long there may be something to do though nobody pokes.
    fn look(&self, inner: &Inner) -> Duration {
        let wants_mark = inner.journal.read().as_ref().is_some_and(Journal::wants_mark);
        match (wants_mark, self.unsynced_bytes > 0) {
            (true, _) => MARK,
            (false, true) => SYNC / 4,
            (false, false) => LOOK,
        }
    }
}

/// Sees whether the journal and the tables are still in their folder.
fn note_removal(inner: &Inner, progress: &Progress) {
    let journal = inner.journal.read();
    if let Some(journal) = journal.as_ref().or(progress.broken.as_ref()) {
        inner.note_removal(journal);
    }
}

/// Cuts. Where there is nothing to write, everything so far counts as written.
fn gather(inner: &Inner, progress: &mut Progress) {
    let cut = inner.engine.cut();
    let epoch = cut.epoch;
    assert!(epoch > progress.written, "epoch {epoch} is cut though {} is written: its batch would be left out", progress.written);
    if !cut.shards.is_empty() {
        progress.waiting.push(cut);
    } else if progress.waiting.is_empty() {
        progress.written = epoch;
        publish(inner, progress);
    }
}

/// Tells how far everything is written, and on disk.
fn publish(inner: &Inner, progress: &Progress) {
    inner.written.send_replace(progress.written);
    if progress.unsynced_bytes == 0 {
        inner.engine.note_durable(progress.written);
        inner.durable.send_replace(progress.written);
    }
}

/// Sleeps until poked or for a while. Says so first and lets the caller look once more: whoever wrote after that look sees the word.
fn rest(inner: &Inner, is_announced: bool, look: Duration) -> bool {
    let commits = &inner.commits;
    if !is_announced {
        commits.is_asleep.store(true, SeqCst);
        return true;
    }
    if commits.is_asleep.load(SeqCst) && !commits.is_wanted() {
        thread::park_timeout(look);
    }
    false
}

/// Lets go of what the tables hold, writes what waits, and syncs if it must.
fn commit(inner: &Inner, progress: &mut Progress, is_stopping: bool) -> Result<(), Error> {
    let committer = inner.commits.thread.get().map(Thread::id);
    debug_assert_eq!(committer, Some(thread::current().id()), "only the committer commits: batches of two would mix");
    if let Some(broken) = progress.broken.take() {
        mend(inner, progress, broken)?;
    }
    let journal = inner.journal.read();
    let journal = journal.as_ref().expect("it was mended above");
    // First, since it may be what makes room for the rest.
    trim(inner, progress, journal, true);
    let cuts = &progress.waiting;
    assert!(cuts.is_sorted_by(|one, next| one.epoch < next.epoch), "cuts wait in their order, or what is on disk is no prefix");
    let heads: Vec<Heads> = cuts.iter().map(|cut| Heads::new(cut, inner.base)).collect();
    let batches: Vec<Batch<'_>> =
        cuts.iter().zip(&heads).map(|(cut, heads)| Batch { seq: inner.seq_of(cut.epoch), pieces: heads.pieces(cut) }).collect();
    journal.set_segment_bytes(inner.segment_bytes());
    journal.append(&batches)?;
    let bytes = batches.iter().flat_map(|batch| &batch.pieces).map(|piece| piece.len() as u64).sum();
    progress.unsynced_bytes += bytes;
    progress.written = cuts.last().map_or(progress.written, |cut| cut.epoch);
    if is_stopping || progress.must_sync(inner.fsync()) {
        let start = clock::instant();
        journal.sync()?;
        (progress.synced_at, progress.sync_took) = (clock::instant(), clock::since(start));
        (progress.unsynced_bytes, progress.is_awaited) = (0, false);
        inner.commits.syncs.fetch_add(1, Relaxed);
        inner.commits.slow_syncs.fetch_add(u64::from(progress.sync_took > PACE), Relaxed);
    }
    if progress.must_mark(journal, is_stopping) {
        journal.mark()?;
        progress.marked_at = clock::instant();
    }
    inner.commits.unsynced_bytes.store(progress.unsynced_bytes, Relaxed);
    progress.last_seq = batches.last().map_or(progress.last_seq, |batch| batch.seq);
    // Kept until here: after a sync that failed they are written again, where they are missing.
    progress.waiting.clear();
    // Counted here, and so once, however often they were written.
    inner.journal_bytes.fetch_add(bytes, Relaxed);
    growth::look(inner);
    publish(inner, progress);
    Ok(())
}

/// Lets go of what the tables hold, a file at a time. What cannot be removed takes room and nothing else: nobody is kept from writing.
fn trim(inner: &Inner, progress: &mut Progress, journal: &Journal, is_mended: bool) {
    if !progress.may_trim(inner) {
        return;
    }
    let trim_to = inner.trim_to.load(Acquire);
    let trimmed = || match journal.trim(trim_to)? {
        false if is_mended => Ok(journal.make_way(trim_to)?),
        false => Ok(true),
        true => Ok(true),
    };
    // What the journal lets go of is nowhere else.
    match inner.check_tables_are_there().and_then(|()| trimmed()) {
        Ok(has_more) => {
            progress.untrimmed_at = None;
            if !has_more {
                inner.trimmed.store(trim_to, Release);
            }
        }
        Err(error) => {
            if progress.untrimmed_at.replace(clock::instant()).is_none() {
                tracing::warn!("make room in the journal for what follows: {error}; it will be tried again");
            }
        }
    }
}

/// After an error the journal must be fit to be gone on with. Without the batches up to `last_seq`, which nobody holds any more, what
/// follows would be no prefix of what happened.
fn mend(inner: &Inner, progress: &mut Progress, broken: Journal) -> Result<(), Error> {
    trim(inner, progress, &broken, false);
    if let Some(damage) = inner.damage.get() {
        // What the disk has lost does not come back: only a start can go on without it.
        progress.broken = Some(broken);
        return Err(Error::Write(damage.clone()));
    }
    let mended = broken.mend(inner.covered.load(Acquire), progress.last_seq).map_err(Error::from);
    if let Err(error) = mended {
        inner.note_damage(&error);
        progress.broken = Some(broken);
        return Err(error);
    }
    // All that is in it is on disk.
    progress.unsynced_bytes = 0;
    *inner.journal.write() = Some(broken);
    Ok(())
}

fn committed(inner: &Inner, took: Duration) {
    let commits = &inner.commits;
    commits.count.fetch_add(1, Relaxed);
    commits.micros.fetch_add(took.as_micros() as u64, Relaxed);
    if commits.is_failing.swap(false, SeqCst) {
        *commits.error.lock() = None;
        *commits.failing_since.lock() = None;
        if commits.is_refusing.swap(false, SeqCst) {
            tell_of_refusal(inner);
        }
        tracing::info!("writing to the journal works again");
    }
}

fn failed(inner: &Inner, progress: &mut Progress, error: &Error) {
    // The journal is closed before anyone may see the failure: nobody reads from a broken one for long.
    if let Some(broken) = inner.journal.write().take() {
        progress.broken = Some(broken);
    }
    let text = error.to_string();
    *inner.commits.error.lock() = Some(text.clone());
    let since = *inner.commits.failing_since.lock().get_or_insert_with(clock::instant);
    if clock::since(since) >= REFUSAL {
        inner.commits.is_refusing.store(true, SeqCst);
        tell_of_refusal(inner);
    }
    if !inner.commits.is_failing.swap(true, SeqCst) {
        tracing::error!("write to the journal: {text}; commands that change data are refused until writing works again");
    }
}

/// Has those who wait look whether the disk refuses.
fn tell_of_refusal(inner: &Inner) {
    inner.written.send_modify(|_| {});
    inner.durable.send_modify(|_| {});
}

/// Waits until the next cut is due, or someone is in a hurry.
fn pace(inner: &Inner, start: Instant) {
    let commits = &inner.commits;
    loop {
        let left = PACE.saturating_sub(clock::since(start));
        if left.is_zero() || commits.is_wanted() || inner.fsync() == Fsync::Always {
            return;
        }
        thread::park_timeout(left);
    }
}
