//! Calls: someone is asked for something by the name of a capability, and answers in pieces and with a result, before a deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::sync::mpsc;

use crate::commands::offers::{Failure, Later};

/// How long a caller waits if it does not say.
pub const TIMEOUT_MS: u64 = 30_000;

/// How long a caller may wait.
pub const TIMEOUT_MS_MAX: u64 = 86_400_000;

/// Makes calls.
pub trait Calls: Send + Sync {
    /// Makes a call, once its payload was found fit. Fails with `NOPEER` where nobody can take it, `INVALID` where the payload does not fit,
    /// `TOOBIG` and `BUSY` where a bound is reached.
    fn call(&self, order: Order) -> Later<Ongoing>;
}

/// What a caller asks for.
#[derive(Debug, Clone)]
pub struct Order {
    /// The capability.
    pub capability: Arc<str>,
    /// JSON.
    pub payload: Arc<[u8]>,
    /// Who calls, as the one that answers is told; None for nobody in particular.
    pub caller: Option<Arc<str>>,
    /// The one peer that may answer; None for any with the capability.
    pub to: Option<Arc<str>>,
    /// How long the caller waits, in milliseconds.
    pub timeout_ms: u64,
    /// How often it is given to another peer when the one that runs it dies.
    pub retries: u32,
    /// From -100 to 100; higher ones are taken first.
    pub priority: i8,
    /// How a peer is chosen.
    pub route: Route,
    /// All peers with the capability answer; done after so many answers, 0 for all of them. None for a usual call.
    pub gather: Option<usize>,
}

impl Order {
    /// With everything else as callers usually want it.
    pub fn new(capability: &str, payload: &[u8]) -> Order {
        Order {
            capability: capability.into(),
            payload: payload.into(),
            caller: None,
            to: None,
            timeout_ms: TIMEOUT_MS,
            retries: 1,
            priority: 0,
            route: Route::LeastLoaded,
            gather: None,
        }
    }
}

/// How a peer is chosen among those with the capability.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// The one with the fewest calls; in turn among equals.
    LeastLoaded,
    /// In turn.
    RoundRobin,
    /// The same one for the same key, as long as it lives.
    Sticky(Vec<u8>),
}

/// How a call ends: JSON, or a failure (`TIMEOUT`, `FAILED`, `GONE`, `CANCELLED` …).
pub type Outcome = Result<Arc<[u8]>, Failure>;

/// What a caller gets, pieces first and one end.
#[derive(Debug, Clone)]
pub enum Part {
    /// A piece: JSON and its number, from 1 on.
    Chunk(Arc<[u8]>, u64),
    /// The end.
    End(Outcome),
}

/// Pieces that may wait for a caller who reads slowly; then the one that answers is told to wait.
const PARTS_MAX: usize = 256;
/// Their bytes, beyond a single piece, which may be as long as payloads may be.
const PARTS_BYTES_MAX: usize = 4 << 20;

/// Where parts go to a caller.
#[derive(Clone)]
pub struct Parts {
    sender: mpsc::Sender<Part>,
    bytes: Arc<AtomicUsize>,
}

/// Where that caller takes them.
pub struct PartsTaken {
    receiver: mpsc::Receiver<Part>,
    bytes: Arc<AtomicUsize>,
}

/// A way for the parts of a call.
pub fn parts() -> (Parts, PartsTaken) {
    let (sender, receiver) = mpsc::channel(PARTS_MAX);
    let bytes = Arc::<AtomicUsize>::default();
    (Parts { sender, bytes: Arc::clone(&bytes) }, PartsTaken { receiver, bytes })
}

impl Parts {
    /// Sends a piece, unless as much waits already as may. One place is left for the end.
    pub fn send_piece(&self, data: Arc<[u8]>, number: u64) -> bool {
        let (bytes, waiting) = (data.len(), self.bytes.load(Relaxed));
        if self.sender.capacity() < 2 || waiting > 0 && waiting + bytes > PARTS_BYTES_MAX {
            return false;
        }
        self.bytes.fetch_add(bytes, Relaxed);
        // One that is gone takes nothing.
        let _ = self.sender.try_send(Part::Chunk(data, number));
        true
    }

    /// Sends the end: a place was kept free for it; if it fails, the caller is gone.
    pub fn end(&self, outcome: Outcome) {
        let _ = self.sender.try_send(Part::End(outcome));
    }
}

impl PartsTaken {
    /// The next part; None where whoever makes calls is gone.
    pub async fn next(&mut self) -> Option<Part> {
        let part = self.receiver.recv().await;
        if let Some(Part::Chunk(data, _)) = &part {
            self.bytes.fetch_sub(data.len(), Relaxed);
        }
        part
    }
}

/// A call under way. Dropping it cancels the call.
pub struct Ongoing {
    id: Arc<str>,
    parts: PartsTaken,
    /// None once it has ended.
    cancel: Option<Box<dyn FnOnce(&str) + Send + Sync>>,
}

/// Why nothing comes any more.
pub fn ends() -> Failure {
    Failure::new("GONE", "the server ends")
}

impl Ongoing {
    /// A call that was made, and how it is cancelled.
    pub fn new(id: Arc<str>, parts: PartsTaken, cancel: impl FnOnce(&str) + Send + Sync + 'static) -> Ongoing {
        Ongoing { id, parts, cancel: Some(Box::new(cancel)) }
    }

    /// The call's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The next part; None after the end.
    pub async fn next(&mut self) -> Option<Part> {
        self.cancel.as_ref()?;
        let part = self.parts.next().await;
        // A room that is gone has ended every call.
        let part = part.unwrap_or_else(|| Part::End(Err(ends())));
        if matches!(part, Part::End(_)) {
            self.cancel = None;
        }
        Some(part)
    }

    /// Waits for the end and leaves pieces out.
    pub async fn outcome(mut self) -> Outcome {
        loop {
            match self.next().await {
                Some(Part::End(outcome)) => return outcome,
                Some(Part::Chunk(..)) => {}
                None => return Err(Failure::new("GONE", "the call has ended")),
            }
        }
    }
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        if let Some(cancel) = self.cancel.take() {
            cancel(&self.id);
        }
    }
}
