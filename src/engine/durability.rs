//! What commands need to know of the journal, so that the engine works with any or none.

use tokio::sync::watch;

/// Where effects become durable.
pub trait Durability: Send + Sync {
    /// Says that there are effects to commit. Called after every write, so it must cost next to nothing while the committer is awake.
    fn poke(&self);

    /// Says that a reply waits until its effects are on disk.
    fn hurry(&self);

    /// Whether replies wait until their effects are on disk (`appendfsync always`).
    fn is_always(&self) -> bool;

    /// The highest epoch whose effects are on disk.
    fn durable(&self) -> watch::Receiver<u64>;

    /// Why writes are refused now: the last commit failed. None while all is well.
    fn write_error(&self) -> Option<String>;
}
