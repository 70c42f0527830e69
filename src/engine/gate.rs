//! Where replies wait for the journal: until their effects are written, or on disk. The committer wakes the gate of each worker once for a
//! commit, and the gate wakes those of the worker's connections that wait: waking each of them from another thread would cost a system
//! call for every reply.

use std::future::poll_fn;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::clock;
use crate::engine::durability::{Awaited, Durability, Stage};

/// Connections that leave before those that go on get a turn. Ending one takes a few microseconds, most of them in the system.
const LEAVING_MAX: usize = 8;

/// The gate of the connections that share a runtime; [`Gate::keep`] must run there.
pub struct Gate {
    inside: Mutex<Inside>,
    leaving: Semaphore,
}

impl Default for Gate {
    fn default() -> Gate {
        Gate { inside: Mutex::default(), leaving: Semaphore::new(LEAVING_MAX) }
    }
}

/// A task's wait at the gate. Its waker must stay the same meanwhile.
#[derive(Debug, Default)]
pub(crate) struct Visit {
    /// The round in which it was noted.
    round: Option<u64>,
}

/// Those who wait for one stage.
#[derive(Default)]
struct Line {
    waiting: Vec<Waker>,
    /// When the first of them came, on the monotonic clock; means nothing while there is none.
    since_ms: u64,
    /// How often those who waited were let look again.
    round: u64,
    /// Whether someone came since the keeper looked.
    has_news: bool,
    /// The highest epoch known to have come to the stage.
    reached: u64,
}

#[derive(Default)]
struct Inside {
    written: Line,
    durable: Line,
    keeper: Option<Waker>,
    /// No more commits come.
    is_over: bool,
    /// The disk has refused for so long that nobody is let wait for it.
    is_refused: bool,
}

impl Inside {
    fn line(&mut self, stage: Stage) -> &mut Line {
        match stage {
            Stage::Written => &mut self.written,
            Stage::Durable => &mut self.durable,
        }
    }
}

/// Why it is not known whether an epoch is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// The journal is closed.
    Over,
    /// The disk refuses, and has for a while ([`Durability::refusal`]).
    Refused,
}

impl Gate {
    /// Ends a connection. Where thousands end at once, a few do in each turn of the runtime, so that those that go on need not wait for all.
    pub async fn leave(&self, end: impl FnOnce()) {
        // The semaphore is never closed.
        let _turn = self.leaving.acquire().await;
        end();
        // The place is free again when all who are ready now have had their turn.
        tokio::task::yield_now().await;
    }

    /// Waits until an epoch has come so far; an error if that will never be known. A task that is woken by other things asks again, with the same
    /// `visit`, and is noted once.
    pub(crate) fn poll(&self, awaited: Awaited, visit: &mut Visit, cx: &Context<'_>) -> Poll<Result<(), Unknown>> {
        let mut inside = self.inside.lock();
        if inside.line(awaited.stage).reached >= awaited.epoch {
            return Poll::Ready(Ok(()));
        }
        if inside.is_over {
            return Poll::Ready(Err(Unknown::Over));
        }
        if inside.is_refused {
            return Poll::Ready(Err(Unknown::Refused));
        }
        let line = inside.line(awaited.stage);
        if visit.round == Some(line.round) {
            return Poll::Pending;
        }
        visit.round = Some(line.round);
        // Once for each commit, however many wait for it.
        if line.waiting.is_empty() {
            line.since_ms = clock::monotonic_ms();
        }
        line.waiting.push(cx.waker().clone());
        line.has_news = true;
        // The keeper's turn comes after all connections that were ready together, so the committer is told of them at once.
        if let Some(keeper) = inside.keeper.take() {
            keeper.wake();
        }
        Poll::Pending
    }

    /// How many replies wait, and since when the first of them has, on the monotonic clock. Those whom a commit let look again without letting
    /// them pass have waited since then.
    pub(crate) fn waiting(&self) -> (usize, Option<u64>) {
        let inside = self.inside.lock();
        let lines = [&inside.written, &inside.durable];
        let count = lines.iter().map(|line| line.waiting.len()).sum();
        (count, lines.iter().filter(|line| !line.waiting.is_empty()).map(|line| line.since_ms).min())
    }

    /// Tells the committer who came, and lets through who may pass; ends when no more commits come.
    pub(crate) async fn keep(&self, durability: Arc<dyn Durability>) {
        let [mut written, mut durable] = [Stage::Written, Stage::Durable].map(|stage| durability.reached(stage));
        loop {
            // Commits nobody waits for wake no worker.
            let (awaits_written, awaits_durable) = {
                let inside = self.inside.lock();
                (!inside.written.waiting.is_empty(), !inside.durable.waiting.is_empty() || inside.is_refused)
            };
            tokio::select! {
                stage = self.news() => durability.hurry(stage),
                changed = written.changed(), if awaits_written => if changed.is_err() { break },
                changed = durable.changed(), if awaits_durable => if changed.is_err() { break },
            }
            let is_refused = durability.refusal().is_some();
            self.open(Stage::Written, *written.borrow_and_update(), false, is_refused);
            self.open(Stage::Durable, *durable.borrow_and_update(), false, is_refused);
        }
        self.open(Stage::Written, 0, true, false);
        self.open(Stage::Durable, 0, true, false);
    }

    /// Waits until someone came, and tells what for.
    async fn news(&self) -> Stage {
        poll_fn(|cx| {
            let mut inside = self.inside.lock();
            for stage in [Stage::Durable, Stage::Written] {
                if mem::take(&mut inside.line(stage).has_news) {
                    return Poll::Ready(stage);
                }
            }
            inside.keeper = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    fn open(&self, stage: Stage, reached: u64, is_over: bool, is_refused: bool) {
        let waiting = {
            let mut inside = self.inside.lock();
            (inside.is_over, inside.is_refused) = (is_over, is_refused);
            let line = inside.line(stage);
            if reached <= line.reached && !is_over && !is_refused {
                return;
            }
            line.reached = line.reached.max(reached);
            line.round += 1;
            mem::take(&mut line.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }
}
