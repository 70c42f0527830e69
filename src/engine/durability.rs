//! What commands need to know of the journal, so that the engine works with any or none.

use std::time::Duration;

use tokio::sync::watch;

/// Where effects become durable.
pub trait Durability: Send + Sync {
    /// Says that there are effects to commit. Called after every write, so it must cost next to nothing while the committer is awake.
    fn poke(&self);

    /// Says that a reply waits until its effects are on disk.
    fn hurry(&self);

    /// Whether replies wait until their effects are on disk (`appendfsync always`).
    fn is_always(&self) -> bool;

    /// Whether replies are held back: memory is over `memory-limit` with changes that cannot leave it yet, or the journal grows
    /// too fast.
    fn is_crowded(&self) -> bool;

    /// While memory is crowded: what tells when that is over. Whoever wrote should wait for it for a while. Each wait is noted.
    fn crowded(&self) -> Option<watch::Receiver<bool>>;

    /// For whoever wrote this many bytes: how long the reply is held back, since the journal grows too fast.
    fn pause(&self, bytes: usize) -> Option<Duration> {
        let _ = bytes;
        None
    }

    /// The highest epoch whose effects are on disk.
    fn durable(&self) -> watch::Receiver<u64>;

    /// Why writes are refused now: the last commit failed. None while all is well.
    fn write_error(&self) -> Option<String>;

    /// Why nobody should wait for the disk any longer: it has refused for a while. Whoever watches [`Self::durable`] is told when that
    /// begins. None while there is hope.
    fn refusal(&self) -> Option<String> {
        None
    }
}
