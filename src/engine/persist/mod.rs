//! What makes the keyspace last: effects go to the journal, the journal is folded into the tables, and both are read
//! when the server starts. Its own threads do the work; no shard stays locked while a disk is waited for.

pub mod apply;
pub(crate) mod backup;
pub mod batch;
pub(crate) mod check;
pub(crate) mod checkpoint;
pub(crate) mod chunk;
pub(crate) mod committer;
pub mod fold;
pub(crate) mod growth;
pub mod load;
mod metrics;
pub(crate) mod passes;
pub(crate) mod progress;
pub mod record;
pub mod replay;
mod salvage;
pub(crate) mod spill;

pub use backup::{backup_folder, restore};
pub use check::check;
pub(crate) use metrics::METRICS;

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::{Acquire, Relaxed, SeqCst};
use std::sync::atomic::{AtomicU8, AtomicU64};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{oneshot, watch};

use crate::clock;
use crate::engine::durability::{LinePlace, LineShare, Stage};
use crate::engine::load::{Backing, Missing};
use crate::engine::notify::{Names, Prefixes};
use crate::engine::persist::progress::Progress;
use crate::engine::shard::Database;
use crate::engine::value::{BadRow, Value};
use crate::engine::{self, Engine};
use crate::id;
use crate::lifecycle::{Phase, Plan};
use crate::memory::{self, Aside};
use crate::panics;
use crate::storage::journal::{SEGMENT_BYTES, Stretch};
use crate::storage::opening::{self, OnDamage};
use crate::storage::tables::key_place;
use crate::storage::{self, Disk, Folder, Journal, Tables};

/// When effects are on disk: `appendfsync`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Fsync {
    /// Before the reply: whoever answers a client waits for [`Persistence::reached`].
    Always = 0,
    /// A few milliseconds after the reply; a second at most where the disk is slow.
    Everysec = 1,
    /// About a second after the reply.
    No = 2,
}

/// How a folder is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// See [`Fsync`]; [`Persistence::set_fsync`] changes it later.
    pub fsync: Fsync,
    /// A checkpoint starts when the journal holds this much.
    pub checkpoint_bytes: u64,
    /// A checkpoint starts when the journal's oldest batch has waited this long.
    pub checkpoint_interval: Duration,
    /// Clean values are dropped from memory above this; 0 for no limit.
    pub memory_limit: u64,
    /// Time between attempts to write again after an error.
    pub write_retry: Duration,
    /// Pages of the tables that redb keeps in memory.
    pub tables_cache_bytes: usize,
    /// A file of the journal that has grown to this is followed by a new one; also a smaller one, where a checkpoint is due early.
    pub segment_bytes: u64,
    /// What to do where the folder is not as it was written.
    pub on_damage: OnDamage,
    /// Keys whose values stay in memory whatever the limit, by what their names begin with.
    pub resident: Vec<Prefixes>,
    /// Is told how far the folder is loaded.
    pub progress: Arc<Progress>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            fsync: Fsync::Everysec,
            checkpoint_bytes: 128 << 20,
            checkpoint_interval: Duration::from_secs(300),
            memory_limit: 0,
            write_retry: Duration::from_millis(100),
            tables_cache_bytes: TABLES_CACHE_BYTES,
            segment_bytes: SEGMENT_BYTES,
            on_damage: OnDamage::Refuse,
            resident: Vec::new(),
            progress: Arc::default(),
        }
    }
}

/// Why persistence could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or the folder could not be used.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// Contents are not what was written.
    #[error("read {place}: {cause}; run `flux check`")]
    Corrupt {
        /// Where.
        place: String,
        /// What is wrong.
        cause: String,
    },
    /// A folder to restore into holds something.
    #[error("restore into `{}`: the folder is not empty", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// What is to be restored is not a whole backup.
    #[error("read `{}`: it is damaged, or not a whole backup: {cause}; make one with `flux backup FILE`, or take another one", path.display())]
    NoBackup {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: String,
    },
    /// A backup would take the place of what a server works with, its lock above all.
    #[error("back up to `{}`: it is inside the data folder; choose a place outside of it", path.display())]
    Inside {
        /// Where to.
        path: PathBuf,
    },
    /// The journal or the tables cannot be written now.
    #[error("{0}")]
    Write(String),
}

impl Error {
    /// Whether something is not what was written.
    fn is_damage(&self) -> bool {
        matches!(self, Error::Corrupt { .. } | Error::Storage(storage::Error::Damaged(_) | storage::Error::Row { .. }))
    }

    /// Whether it is what rows of the tables say that is not what was written, and not how redb finds them.
    fn is_of_rows(&self) -> bool {
        matches!(self, Error::Corrupt { .. } | Error::Storage(storage::Error::Row { .. }))
    }

    /// Whether the system lets this user not do what was asked.
    pub(crate) fn is_denied(&self) -> bool {
        matches!(self, Error::Storage(error) if error.is_denied())
    }

    /// Whether there was no space left.
    fn is_full(&self) -> bool {
        matches!(self, Error::Storage(error) if error.is_full())
    }

    /// The same error; where effects make no sense, told of the batches of the journal that have them.
    fn of_batches(self, numbers: RangeInclusive<u64>) -> Error {
        match self {
            Error::Corrupt { cause, .. } => bad_batch(numbers, cause),
            other => other,
        }
    }

    /// The same error, told of a key.
    fn of_key(self, key: &[u8]) -> Error {
        match self {
            Error::Storage(error) => Error::Storage(error.of_key(key)),
            Error::Corrupt { cause, .. } => Error::Corrupt { place: format!("tables, {}", key_place(key)), cause },
            other => other,
        }
    }
}

fn removed_text(what: &str, path: &Path) -> String {
    let folder = path.parent().unwrap_or(path);
    format!("{what} removed from `{}` while the server runs: `{}` is not there", folder.display(), path.display())
}

/// One of these batches of the journal cannot be read.
fn bad_batch(numbers: RangeInclusive<u64>, cause: impl ToString) -> Error {
    let place = match numbers.into_inner() {
        (first, last) if first == last => format!("journal, batch {first}"),
        (first, last) => format!("journal, one of the batches {first} to {last}"),
    };
    Error::Corrupt { place, cause: cause.to_string() }
}

impl From<BadRow> for Error {
    fn from(error: BadRow) -> Error {
        Error::Corrupt { place: "a record".into(), cause: error.to_string() }
    }
}

/// What was found when the folder was opened.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// Keys in memory afterwards.
    pub keys: u64,
    /// Keys that were not kept, since their time was over.
    pub(crate) expired: u64,
    /// Batches of the journal that were replayed on top of the tables.
    pub batches: u64,
    /// How long all of it took.
    pub(crate) took: Duration,
    /// What was done to the folder that its owner should know, a sentence each.
    pub notes: Vec<String>,
}

/// Counts and times for `INFO`.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// Bytes in the journal that no checkpoint covers.
    pub journal_bytes: u64,
    /// Files of the journal.
    pub(crate) journal_files: u64,
    /// Commits of the journal.
    pub(crate) commits: u64,
    /// Microseconds these commits took.
    pub(crate) commit_us: u64,
    /// Whether the last commit of the journal succeeded.
    pub(crate) is_writable: bool,
    /// Why it did not.
    pub(crate) last_error: Option<String>,
    /// Checkpoints that ended well.
    pub(crate) checkpoints: u64,
    /// Whether a checkpoint runs now.
    pub(crate) is_checkpointing: bool,
    /// When the last checkpoint ended, in seconds since the epoch.
    pub(crate) last_checkpoint_at: u64,
    /// How long it took, in milliseconds.
    pub(crate) last_checkpoint_ms: u64,
    /// Whether it ended well.
    pub last_checkpoint_ok: bool,
    /// How many have failed since one ended well.
    pub(crate) failed_checkpoints: u64,
    /// How long the one that runs takes so far, in milliseconds; None while none runs.
    pub(crate) checkpoint_runs_ms: Option<u64>,
    /// Whether one was asked for that has not begun.
    pub(crate) is_checkpoint_wanted: bool,
    /// Bytes in the journal when the last checkpoint ended, or at the start.
    pub(crate) journal_base_bytes: u64,
    /// Bytes written to the journal that may not be on the disk yet.
    pub(crate) unsynced_bytes: u64,
    /// Syncs of the journal.
    pub(crate) syncs: u64,
    /// Syncs that took so long that the next commit had to wait.
    pub(crate) slow_syncs: u64,
    /// Values dropped from memory under the limit.
    pub drops: u64,
    /// Values read back from disk.
    pub loads: u64,
    /// Whether writers are slowed down now because memory is over its limit.
    pub(crate) is_crowded: bool,
    /// How often replies to writes were held back for that.
    pub(crate) waits: u64,
    /// How often replies to writes were held back because the journal grew faster than checkpoints took it over.
    pub pauses: u64,
}

/// What the room's threads share.
pub(crate) struct Inner {
    engine: Arc<Engine>,
    disk: Arc<dyn Disk>,
    folder: Folder,
    options: Options,
    /// The number of an epoch's batch is this and the epoch; see [`Self::seq_of`]. Runs are told apart by it.
    base: u64,
    /// None while it must be opened anew after an error.
    journal: RwLock<Option<Journal>>,
    /// None while they must be opened anew after an error.
    tables: RwLock<Option<Tables>>,
    /// The epochs up to which everything is written, and on disk.
    written: watch::Sender<u64>,
    durable: watch::Sender<u64>,
    commits: committer::Commits,
    checkpoints: checkpoint::Checkpoints,
    spill: spill::Spill,
    growth: growth::Growth,
    fsync: AtomicU8,
    checkpoint_bytes: AtomicU64,
    memory_limit: AtomicU64,
    /// Bytes in the journal that the tables do not cover.
    journal_bytes: AtomicU64,
    /// The batch up to which the tables hold everything.
    covered: AtomicU64,
    /// The batch up to which the journal may be dropped, and that up to which it was.
    trim_to: AtomicU64,
    trimmed: AtomicU64,
    loaded: OnceLock<Loaded>,
    /// What is wrong with the journal. What is written behind it is lost at the next start, so nothing is.
    damage: OnceLock<String>,
}

/// The room's threads, in the order they end.
#[derive(Debug, Clone, Copy)]
enum Part {
    Spill,
    Reads,
    Checkpoints,
    Commits,
}

impl Part {
    fn phase(self) -> Phase {
        Phase::Flush(self as u8)
    }
}

/// Tables are written and loaded in the order of their keys, so each page is done with soon. What is read back from them
/// one by one is in the system's cache, which the system can take away when memory is short.
const TABLES_CACHE_BYTES: usize = 1 << 20;
/// Threads that read values back. A disk answers several at once in the time of one, and each is mostly asleep.
const READERS: usize = 4;
/// Journal read in one go while replaying, at most, and at least where memory has a limit. What it becomes meanwhile may be several times as much.
const REPLAY_BYTES_MAX: usize = 16 << 20;
const REPLAY_BYTES_MIN: usize = 1 << 20;
/// The share of a limit that is read in one go.
const REPLAY_SHARE: u64 = 32;
/// How long a checkpoint that must cover everything waits for the journal.
const DURABLE_WAIT_MAX: Duration = Duration::from_secs(60);
/// Why nothing is written any more.
const CLOSED: &str = "the journal is closed";
/// How it is told that someone has removed a file.
const THE_JOURNAL_WAS: &str = "the journal was";
const THE_TABLES_WERE: &str = "the tables were";

/// Puts what the tables hold into an empty keyspace. Of damage, nothing stays there.
fn load(engine: &Engine, tables: &Tables, options: &Options) -> Result<(), Error> {
    if let Some(stored) = tables.meta()?.stored {
        engine.stored.store(stored, SeqCst);
    }
    // What the journal adds needs room, too.
    let room = options.memory_limit - options.memory_limit / spill::DIRTY_SHARE;
    let loaded = load::load(engine, tables, clock::now_ms(), room, &options.progress);
    if loaded.is_err() {
        engine.each_shard(|_, shard| shard.databases.iter_mut().for_each(|database| *database = Database::default()));
    }
    loaded.map(drop)
}

/// Tables with what is whole of damaged ones, which are kept aside; and what to say of it.
fn salvaged(
    disk: &dyn Disk,
    folder: &Folder,
    damaged: Tables,
    options: &Options,
    error: &Error,
) -> Result<(Tables, String), Error> {
    let (path, cache_bytes) = (folder.tables(), options.tables_cache_bytes);
    opening::keep_copy(disk, folder.path(), &path)?;
    let mut lost = 0;
    let tables = Tables::replace(disk, &path, cache_bytes, damaged.meta()?, |tables| {
        lost = salvage::salvage(&damaged, tables)?;
        Ok::<_, Error>(())
    })?;
    let kept = opening::settle_copy(disk, folder.path(), &path)?.unwrap_or_default();
    Ok((tables, format!("accepted a loss: {error}: {lost} keys are gone; the damaged tables are kept in `{}`", kept.display())))
}

impl Inner {
    fn seq_of(&self, epoch: u64) -> u64 {
        self.base + epoch
    }

    fn fsync(&self) -> Fsync {
        match self.fsync.load(Relaxed) {
            0 => Fsync::Always,
            1 => Fsync::Everysec,
            _ => Fsync::No,
        }
    }

    fn has_trimming(&self) -> bool {
        self.trimmed.load(Acquire) < self.trim_to.load(Acquire)
    }

    /// Notes that the journal is damaged, if this error says so.
    fn note_damage(&self, error: &Error) {
        if error.is_damage() && self.damage.set(error.to_string()).is_ok() {
            tracing::error!(
                "{error}; commands that change data are refused: copy the data to another server while this one runs"
            );
        }
    }

    /// Notes that someone has removed the folder, or a file in it without which the next start would not find what is here now: what is
    /// written from then on would be gone with the process. A look at each file.
    fn note_removal(&self, journal: &Journal) {
        let gone = match journal.missing(self.covered.load(Acquire)) {
            Some(path) => Some((THE_JOURNAL_WAS, path)),
            None if self.has_lost_tables() => Some((THE_TABLES_WERE, self.folder.tables())),
            None => None,
        };
        let Some((what, path)) = gone.filter(|_| self.damage.get().is_none()) else { return };
        let text = removed_text(what, &path);
        if self.damage.set(text.clone()).is_ok() {
            tracing::error!("{text}; commands that change data are refused: copy the data to another server while this one runs");
        }
    }

    /// Whether someone has removed the tables' file: what it takes over from the journal would be gone with the process.
    fn has_lost_tables(&self) -> bool {
        matches!(self.disk.exists(&self.folder.tables()), Ok(false))
    }

    /// An error where someone has removed the tables' file.
    fn check_tables_are_there(&self) -> Result<(), Error> {
        if self.has_lost_tables() { Err(Error::Write(removed_text(THE_TABLES_WERE, &self.folder.tables()))) } else { Ok(()) }
    }

    fn error_text(&self) -> String {
        self.commits.error.lock().clone().unwrap_or_else(|| CLOSED.into())
    }

    fn replay_bytes(&self) -> usize {
        let limits = [self.options.memory_limit, self.engine.eviction().bytes_max()];
        let limit = limits.into_iter().filter(|limit| *limit != 0).min();
        limit.map_or(REPLAY_BYTES_MAX, |limit| ((limit / REPLAY_SHARE) as usize).clamp(REPLAY_BYTES_MIN, REPLAY_BYTES_MAX))
    }

    /// Replays the journal after a batch; tells how many batches that were, and how many values that got another key were lost before.
    fn replay(&self, covered: u64) -> Result<(u64, u64), Error> {
        let reading = self.journal.read().as_ref().expect("it was opened a moment ago").reading();
        let (mut stretch, mut count, mut lost, now) = (Stretch::after(covered), 0, 0, clock::now_ms());
        loop {
            let first = stretch.last + 1;
            let is_end = reading.read_stretch(u64::MAX, self.replay_bytes(), &mut stretch)?;
            self.journal_bytes.fetch_add(stretch.bytes() as u64, Relaxed);
            self.options.progress.add(stretch.bytes() as u64);
            for _ in stretch.batches() {
                count += 1;
                self.options.progress.linger(count);
            }
            let rest = Rest { inner: self, unread: Mutex::default() };
            lost += replay::replay(&self.engine, &rest, stretch.batches().map(|(bytes, _)| bytes), now)
                .map_err(|error| rest.unread.into_inner().unwrap_or_else(|| bad_batch(first..=stretch.last, error)))?;
            if is_end {
                return Ok((count, lost));
            }
        }
    }

    fn start(self: &Arc<Self>, part: Part, name: &str, run: fn(&Inner)) {
        let inner = Arc::clone(self);
        let plan = Plan::new(name, part.phase()).wakes(self, move |inner| inner.end(part));
        self.engine.lifecycle().start(plan, move |_| run(&inner)).expect("the system starts a thread");
    }

    fn end(&self, part: Part) {
        match part {
            Part::Spill => self.spill.stop(),
            Part::Reads => self.engine.loads().stop(),
            Part::Checkpoints => self.checkpoints.stop(),
            Part::Commits => self.commits.stop(),
        }
    }

    /// Waits until this epoch is on disk, unless writing fails.
    fn wait_durable(&self, epoch: u64) -> Result<(), Error> {
        let start = clock::instant();
        while *self.durable.borrow() < epoch {
            self.commits.hurry();
            if self.commits.is_failing.load(SeqCst) || clock::since(start) > DURABLE_WAIT_MAX {
                return Err(Error::Write(self.error_text()));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

/// What rests on disk while the journal is replayed, and why some of it could not be read: the batch that needs it is not to blame.
struct Rest<'i> {
    inner: &'i Inner,
    unread: Mutex<Option<Error>>,
}

impl Backing for Rest<'_> {
    fn load(&self, missing: &Missing) -> Result<Value, engine::error::Error> {
        spill::read_back(self.inner, missing).map_err(|error| {
            *self.unread.lock() = Some(error.of_key(&missing.key));
            engine::error::DISK_READ
        })
    }
}

/// A folder that this process holds, of which nothing was read yet.
pub(crate) struct Held {
    folder: Folder,
    disk: Arc<dyn Disk>,
}

impl Held {
    /// Takes hold of a folder, made if missing.
    pub(crate) fn at(dir: &Path) -> Result<Held, Error> {
        let folder = Folder::open(dir)?;
        Ok(Held { disk: Arc::new(folder.files()), folder })
    }

    /// The same, with the files on another kind of disk.
    pub(crate) fn on(disk: Arc<dyn Disk>, dir: &Path) -> Result<Held, Error> {
        Ok(Held { folder: Folder::open(dir)?, disk })
    }
}

/// The running room. Cheap to clone.
#[derive(Clone)]
pub struct Persistence(Arc<Inner>);

impl Persistence {
    /// Opens a folder, made if missing: loads its keys, replays its journal, starts the threads.
    pub fn open(dir: &Path, options: Options) -> Result<(Arc<Engine>, Persistence), Error> {
        Persistence::open_held(Held::at(dir)?, options)
    }

    /// The same, with the files on another kind of disk.
    pub fn open_on(disk: Arc<dyn Disk>, dir: &Path, options: Options) -> Result<(Arc<Engine>, Persistence), Error> {
        Persistence::open_held(Held::on(disk, dir)?, options)
    }

    fn open_held(held: Held, options: Options) -> Result<(Arc<Engine>, Persistence), Error> {
        let engine = Arc::new(Engine::new(true));
        let persistence = Persistence::load(held, &engine, options)?;
        Ok((engine, persistence))
    }

    /// Loads the keys of a folder into an empty keyspace, replays its journal, starts the threads. Others may look at the keyspace meanwhile,
    /// and must change nothing in it.
    pub(crate) fn load(held: Held, engine: &Arc<Engine>, options: Options) -> Result<Persistence, Error> {
        let Held { folder, disk } = held;
        let start = clock::instant();
        panics::end_the_process_from_within();
        let how = opening::Options {
            cache_bytes: options.tables_cache_bytes,
            segment_bytes: options.segment_bytes,
            on_damage: options.on_damage,
            new_history: id::random(),
        };
        options.progress.expect(opening::bytes(&*disk, folder.path())?);
        engine.keep_resident(Names::of(options.resident.iter().copied()));
        let found = opening::find(&disk, folder.path(), how)?;
        // Before anything is changed: every row is read.
        let in_tables = match found.tables().map(|tables| load(engine, tables, &options)).transpose() {
            Err(error) if !error.is_damage() || options.on_damage == OnDamage::Refuse => return Err(error),
            result => result,
        };
        let opened = found.open()?;
        opened.notes.iter().for_each(|note| tracing::warn!("{note}"));
        let (mut tables, journal, mut notes) = (opened.tables, opened.journal, opened.notes);
        let meta = tables.meta()?;
        let last = journal.last();
        match in_tables {
            Ok(Some(())) => {}
            Ok(None) => load(engine, &tables, &options)?,
            Err(error) => {
                let note;
                (tables, note) = salvaged(&*disk, &folder, tables, &options, &error)?;
                tracing::warn!("{note}");
                notes.push(note);
                load(engine, &tables, &options)?;
            }
        }
        // A kill may have come after the tables were whole again.
        opening::settle_copy(&*disk, folder.path(), &folder.tables())?;
        let inner = Arc::new(Inner {
            base: last.max(meta.covered),
            engine: Arc::clone(engine),
            disk,
            folder,
            journal: RwLock::new(Some(journal)),
            tables: RwLock::new(Some(tables)),
            written: watch::Sender::new(0),
            durable: watch::Sender::new(0),
            commits: committer::Commits::default(),
            checkpoints: checkpoint::Checkpoints::default(),
            spill: spill::Spill::default(),
            growth: growth::Growth::default(),
            fsync: AtomicU8::new(options.fsync as u8),
            checkpoint_bytes: AtomicU64::new(options.checkpoint_bytes),
            memory_limit: AtomicU64::new(options.memory_limit),
            journal_bytes: AtomicU64::new(0),
            covered: AtomicU64::new(meta.covered),
            trim_to: AtomicU64::new(meta.covered),
            trimmed: AtomicU64::new(0),
            loaded: OnceLock::new(),
            damage: OnceLock::new(),
            options,
        });
        let (batches, lost) = inner.replay(meta.covered)?;
        if lost > 0 {
            let note = format!("{lost} values that got another key are gone: what they were before was lost");
            tracing::warn!("{note}");
            notes.push(note);
        }
        let expired = replay::remove_expired(&inner.engine, clock::now_ms());
        let mut keys = 0;
        inner
            .engine
            .each_shard(|_, shard| keys += shard.databases.iter().map(|database| database.keys.len() as u64).sum::<u64>());
        let loaded = Loaded { keys, expired, batches, took: clock::since(start), notes };
        inner.checkpoints.journal_base_bytes.store(inner.journal_bytes.load(Relaxed), Relaxed);
        inner.loaded.set(loaded).expect("it is set nowhere else");
        inner.start(Part::Commits, "flux-journal", committer::run);
        inner.start(Part::Checkpoints, "flux-tables", checkpoint::run);
        inner.start(Part::Spill, "flux-memory", spill::run);
        for number in 0..READERS {
            inner.start(Part::Reads, &format!("flux-read-{number}"), spill::read);
        }
        inner.start(Part::Reads, "flux-read-held", spill::read_for_holders);
        inner.engine.set_shows_only_durable(inner.fsync() == Fsync::Always);
        inner.commits.poke();
        if lost > 0 {
            // Once the tables hold what is left, the journal's part of it is gone, and no later start need tell of it again.
            let mut checkpoint = inner.checkpoints.request();
            while checkpoint.try_recv() == Err(TryRecvError::Empty) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(Persistence(inner))
    }

    /// What was found when the folder was opened.
    pub fn loaded(&self) -> Loaded {
        self.0.loaded.get().cloned().unwrap_or_default()
    }

    /// The highest epoch that has come to a stage, with all before it. To wait for a write, read `engine.epoch()` after it,
    /// [`Self::poke`], and wait until this is at least that.
    pub fn reached(&self, stage: Stage) -> watch::Receiver<u64> {
        match stage {
            Stage::Written => self.0.written.subscribe(),
            Stage::Durable => self.0.durable.subscribe(),
        }
    }

    /// Tells the committer that there may be something to commit. Costs one atomic load when it is awake.
    #[inline]
    pub fn poke(&self) {
        self.0.commits.poke();
    }

    /// The same, and asks it to commit without gathering more first: someone waits who does not usually.
    pub(crate) fn hurry(&self) {
        self.0.commits.hurry();
    }

    /// Asks the committer to write without gathering more first: someone waits until there is room for more.
    pub(crate) fn write_soon(&self) {
        self.0.commits.write_soon();
    }

    /// When effects are on disk.
    pub(crate) fn fsync(&self) -> Fsync {
        self.0.fsync()
    }

    /// Changes when effects are on disk, from the next commit on.
    pub(crate) fn set_fsync(&self, fsync: Fsync) {
        self.0.fsync.store(fsync as u8, SeqCst);
        self.0.engine.set_shows_only_durable(fsync == Fsync::Always);
        self.0.commits.hurry();
    }

    /// Whether effects reach the disk, and may. While not, commands that change data must be refused with [`Self::refusal`].
    #[inline]
    pub fn is_writable(&self) -> bool {
        let commits = &self.0.commits;
        let is_open = !commits.is_failing.load(Relaxed) && !commits.is_over.load(Relaxed);
        is_open && self.0.damage.get().is_none() && !self.0.growth.is_stuck()
    }

    /// Whether so much is on its way to the journal that a writer should wait until what it wrote is there, whatever the mode: so memory stays bounded.
    #[inline]
    pub(crate) fn is_behind(&self) -> bool {
        memory::aside_bytes_of(Aside::Journal) > self.0.engine.eviction().passing_bytes_max()
    }

    /// Whether memory is over its limit with changes that no checkpoint holds yet.
    #[inline]
    pub(crate) fn is_crowded(&self) -> bool {
        self.0.spill.is_crowded()
    }

    /// For a writer: while memory is crowded, what tells when that is over. Counts the wait.
    pub(crate) fn wait_for_room(&self) -> Option<watch::Receiver<bool>> {
        self.0.spill.wait()
    }

    /// Whether the journal grows so fast that replies to writes are held back.
    #[inline]
    pub fn is_pressed(&self) -> bool {
        growth::is_pressed(&self.0)
    }

    /// For a writer of this many bytes: its place in the line of those whose replies are held back, if its is. Notes in `written` that it did.
    pub fn line_up(&self, bytes: usize, written: &mut LineShare) -> Option<LinePlace> {
        growth::line_up(&self.0, bytes, written)
    }

    /// How long the one at a place waits until it asks again; None when it goes on.
    pub fn pause(&self, place: LinePlace) -> Option<Duration> {
        growth::pause(&self.0, place)
    }

    /// Why the last commit failed, or the next one must not be made.
    pub fn last_error(&self) -> Option<String> {
        let closed = || self.0.commits.is_over.load(SeqCst).then(|| CLOSED.to_owned());
        self.commit_error().or_else(closed).or_else(|| growth::stuck_text(&self.0))
    }

    /// Why the journal cannot be written, if it cannot: some of what was acknowledged may be in memory only.
    pub(crate) fn commit_error(&self) -> Option<String> {
        self.0.damage.get().cloned().or_else(|| self.0.commits.error.lock().clone())
    }

    /// Why the last checkpoint failed, if it did.
    pub fn checkpoint_error(&self) -> Option<String> {
        self.0.checkpoints.error()
    }

    /// Why nobody should wait for the disk any longer, once it has refused for a while, or the journal is closed.
    pub fn gives_up(&self) -> Option<String> {
        let commits = &self.0.commits;
        let is_hopeless = commits.is_refusing.load(Relaxed) || commits.is_over.load(SeqCst);
        is_hopeless.then(|| self.last_error()).flatten()
    }

    /// The reply to a command that would change data while that cannot reach the disk.
    pub fn refusal(&self) -> engine::error::Error {
        let cause = self.last_error().unwrap_or_default();
        engine::error::Error::new(format!(
            "MISCONF Errors writing to the journal: {cause}; commands that change data are refused until writing works again"
        ))
    }

    /// Starts a checkpoint of everything written so far; the receiver tells how it ended.
    pub fn checkpoint(&self) -> oneshot::Receiver<Result<(), String>> {
        self.0.checkpoints.request()
    }

    /// Sets from which size of the journal on a checkpoint starts.
    pub(crate) fn set_checkpoint_bytes(&self, bytes: u64) {
        self.0.checkpoint_bytes.store(bytes, Relaxed);
    }

    /// Sets above how much used memory clean values are dropped; 0 for no limit.
    pub fn set_memory_limit(&self, bytes: u64) {
        self.0.memory_limit.store(bytes, Relaxed);
        self.0.spill.wake();
    }

    /// Counts and times.
    pub fn stats(&self) -> Stats {
        let inner = &*self.0;
        Stats {
            journal_bytes: inner.journal_bytes.load(Relaxed),
            journal_files: inner.journal.read_recursive().as_ref().map_or(0, |journal| journal.files() as u64),
            commits: inner.commits.count.load(Relaxed),
            commit_us: inner.commits.micros.load(Relaxed),
            is_writable: self.is_writable(),
            last_error: self.last_error().filter(|_| !self.is_writable()),
            checkpoints: inner.checkpoints.count.load(Relaxed),
            is_checkpointing: inner.checkpoints.is_running.load(Relaxed),
            last_checkpoint_at: inner.checkpoints.ended_at.load(Relaxed),
            last_checkpoint_ms: inner.checkpoints.took_ms.load(Relaxed),
            last_checkpoint_ok: !inner.checkpoints.has_failed.load(Relaxed),
            failed_checkpoints: inner.checkpoints.failures.load(Relaxed),
            checkpoint_runs_ms: inner.checkpoints.runs_ms(),
            is_checkpoint_wanted: inner.checkpoints.is_wanted(),
            journal_base_bytes: inner.checkpoints.journal_base_bytes.load(Relaxed),
            unsynced_bytes: inner.commits.unsynced_bytes.load(Relaxed),
            syncs: inner.commits.syncs.load(Relaxed),
            slow_syncs: inner.commits.slow_syncs.load(Relaxed),
            drops: inner.spill.drops.load(Relaxed),
            loads: inner.spill.loads.load(Relaxed),
            is_crowded: self.is_crowded(),
            waits: inner.spill.waits.load(Relaxed),
            pauses: inner.growth.waits.load(Relaxed),
        }
    }

    /// Makes a checkpoint, and drops from memory what the tables then hold as it is there; tells how many values that were. Call it where
    /// waiting is allowed.
    pub fn spill(&self) -> Result<usize, Error> {
        self.wait_checkpoint()?;
        Ok(spill::drop_all(&self.0))
    }

    /// Writes a consistent copy of everything written so far to a file, while serving. Takes as long as writing it takes;
    /// call it where waiting is allowed.
    pub fn backup(&self, to: &Path) -> Result<(), Error> {
        backup::check_place(&self.0, to)?;
        self.wait_checkpoint()?;
        backup::backup(&self.0, to)
    }

    /// Commits what is left, makes a checkpoint if asked to, and ends the threads. Writes made later are lost. Call it
    /// where waiting is allowed.
    pub fn close(&self, with_checkpoint: bool) -> Result<(), Error> {
        let checkpointed = if with_checkpoint { self.wait_checkpoint() } else { Ok(()) };
        for part in [Part::Spill, Part::Reads, Part::Checkpoints, Part::Commits] {
            self.0.engine.lifecycle().stop(part.phase());
        }
        let failure = self.commit_error();
        // Closed here and not when the last handle goes, so that the folder can be opened again at once.
        *self.0.journal.write() = None;
        *self.0.tables.write() = None;
        self.0.folder.let_go();
        match failure {
            Some(text) => Err(Error::Write(text)),
            None => checkpointed,
        }
    }

    fn wait_checkpoint(&self) -> Result<(), Error> {
        // Not `blocking_recv`, which must not be called where a runtime is at hand.
        let mut receiver = self.checkpoint();
        loop {
            match receiver.try_recv() {
                Ok(result) => return result.map_err(Error::Write),
                Err(TryRecvError::Empty) => std::thread::sleep(Duration::from_millis(1)),
                Err(TryRecvError::Closed) => return Err(Error::Write("the checkpointer has ended".into())),
            }
        }
    }
}

/// Something wrong in a data folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, table and key it is in.
    pub(crate) place: String,
    /// What is wrong there.
    pub cause: String,
}

/// What a check saw.
#[derive(Debug, Clone, Default)]
pub struct Checked {
    /// Keys in the tables.
    pub keys: u64,
    /// Rows of their values.
    pub(crate) rows: u64,
    /// Batches in the journal that are not in the tables.
    pub(crate) batches: u64,
    /// Changes to keys of which they tell.
    pub(crate) changes: u64,
    /// What its owner should know that is no problem, a sentence each.
    pub notes: Vec<String>,
    /// The first problems found.
    pub problems: Vec<Problem>,
}
