//! Where replies wait for the disk. The committer wakes the gate of each worker once for a commit, and the gate wakes those
//! of the worker's connections that wait: waking each of them from another thread would cost a system call for every reply.

use std::future::poll_fn;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::engine::durability::Durability;

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
pub struct Visit {
    /// The round in which it was noted.
    round: Option<u64>,
}

#[derive(Default)]
struct Inside {
    waiting: Vec<Waker>,
    /// How often those who waited were let look again.
    round: u64,
    /// Whether someone came since the keeper looked.
    has_news: bool,
    keeper: Option<Waker>,
    /// The highest epoch known to be on disk.
    reached: u64,
    /// No more commits come.
    is_over: bool,
    /// The disk has refused for so long that nobody is let wait for it.
    is_refused: bool,
}

/// Why it is not known whether an epoch is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unknown {
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

    /// Waits until an epoch is on disk; an error if that will never be known. A task that is woken by other things asks again, with the same
    /// `visit`, and is noted once.
    pub fn poll(&self, epoch: u64, visit: &mut Visit, cx: &Context<'_>) -> Poll<Result<(), Unknown>> {
        let mut inside = self.inside.lock();
        if inside.reached >= epoch {
            return Poll::Ready(Ok(()));
        }
        if inside.is_over {
            return Poll::Ready(Err(Unknown::Over));
        }
        if inside.is_refused {
            return Poll::Ready(Err(Unknown::Refused));
        }
        if visit.round == Some(inside.round) {
            return Poll::Pending;
        }
        visit.round = Some(inside.round);
        inside.waiting.push(cx.waker().clone());
        inside.has_news = true;
        // The keeper's turn comes after all connections that were ready together, so the committer is told of them at once.
        if let Some(keeper) = inside.keeper.take() {
            keeper.wake();
        }
        Poll::Pending
    }

    /// Tells the committer who came, and lets through who may pass; ends when no more commits come.
    pub async fn keep(&self, durability: Arc<dyn Durability>) {
        let mut durable = durability.durable();
        loop {
            // Commits nobody waits for wake no worker.
            let is_awaited = {
                let inside = self.inside.lock();
                !inside.waiting.is_empty() || inside.is_refused
            };
            tokio::select! {
                () = self.news() => durability.hurry(),
                changed = durable.changed(), if is_awaited => if changed.is_err() { break },
            }
            let reached = *durable.borrow_and_update();
            self.open(reached, false, durability.refusal().is_some());
        }
        self.open(0, true, false);
    }

    async fn news(&self) {
        poll_fn(|cx| {
            let mut inside = self.inside.lock();
            if mem::take(&mut inside.has_news) {
                return Poll::Ready(());
            }
            inside.keeper = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn open(&self, reached: u64, is_over: bool, is_refused: bool) {
        let waiting = {
            let mut inside = self.inside.lock();
            inside.is_refused = is_refused;
            if reached <= inside.reached && !is_over && !is_refused {
                return;
            }
            inside.reached = inside.reached.max(reached);
            inside.is_over = is_over;
            inside.round += 1;
            mem::take(&mut inside.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }
}
