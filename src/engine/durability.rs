//! What commands need to know of the journal, so that the engine works with any or none.

use std::time::Duration;

use tokio::sync::watch;

/// How long replies to writes are held back while memory is over `memory-limit`.
pub(crate) const CROWDED_WAIT_MAX: Duration = Duration::from_millis(100);

/// A place in a line of writers, in the order in which they go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinePlace {
    /// When its turn comes: bytes that each who always waits has written by then.
    pub turn: u64,
    /// Who came first, among those whose turn comes at once.
    pub ticket: u64,
}

/// How far a writer has come: what each of those who always wait in the line may have written when they have as much as it has. To be kept from
/// one write to the next; one who writes for the first time begins with the default.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LineShare(pub(crate) f64);

/// How far changes may come on their way to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// In the journal's file, and no longer in memory for it.
    Written,
    /// On disk.
    Durable,
}

/// What a reply waits for: that changes up to an epoch have come to a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Awaited {
    pub stage: Stage,
    pub epoch: u64,
}

/// Where effects become durable.
pub trait Durability: Send + Sync {
    /// Says that there are effects to commit. Called after every write, so it must cost next to nothing while the committer is awake.
    fn poke(&self);

    /// Says that a reply waits until its effects have come to a stage.
    fn hurry(&self, stage: Stage);

    /// What replies to writes wait for now: the disk with `appendfsync always`; that they are written where too many are on their way.
    fn awaited(&self) -> Option<Stage>;

    /// Whether replies are held back: memory is over `memory-limit` with changes that cannot leave it yet, or the journal grows
    /// too fast.
    fn is_crowded(&self) -> bool;

    /// While memory is crowded: what tells when that is over. Whoever wrote should wait for it for a while. Each wait is noted.
    fn crowded(&self) -> Option<watch::Receiver<bool>>;

    /// For whoever wrote this many bytes: its place in the line of those whose replies are held back, since the journal grows too fast. Notes
    /// in `written` that it did.
    fn line_up(&self, bytes: usize, written: &mut LineShare) -> Option<LinePlace> {
        let _ = (bytes, written);
        None
    }

    /// How long the one at a place in this line waits until it asks again; None when its reply goes on.
    fn pause(&self, place: LinePlace) -> Option<Duration> {
        let _ = place;
        None
    }

    /// The highest epoch whose effects have come to a stage.
    fn reached(&self, stage: Stage) -> watch::Receiver<u64>;

    /// Why writes are refused now: the last commit failed. None while all is well.
    fn write_error(&self) -> Option<String>;

    /// Why nobody should wait for the disk any longer: it has refused for a while. Whoever watches [`Self::reached`] is told when that
    /// begins. None while there is hope.
    fn refusal(&self) -> Option<String> {
        None
    }
}
