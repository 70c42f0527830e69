//! Where replies wait for the disk. The committer wakes the gate of each worker once for a commit, and the gate wakes those
//! of the worker's connections that wait: waking each of them from another thread would cost a system call for every reply.

use std::future::poll_fn;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use crate::engine::durability::Durability;

/// The gate of the connections that share a runtime; [`Gate::keep`] must run there.
#[derive(Default)]
pub struct Gate(Mutex<Inside>);

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
}

impl Gate {
    /// Waits until an epoch is on disk; an error if that will never be known. A task that is woken by other things asks again, with the same
    /// `visit`, and is noted once.
    pub fn poll(&self, epoch: u64, visit: &mut Visit, cx: &Context<'_>) -> Poll<Result<(), ()>> {
        let mut inside = self.0.lock();
        if inside.reached >= epoch {
            return Poll::Ready(Ok(()));
        }
        if inside.is_over {
            return Poll::Ready(Err(()));
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
            let is_awaited = !self.0.lock().waiting.is_empty();
            tokio::select! {
                () = self.news() => durability.hurry(),
                changed = durable.changed(), if is_awaited => if changed.is_err() { break },
            }
            let reached = *durable.borrow_and_update();
            self.open(reached, false);
        }
        self.open(0, true);
    }

    async fn news(&self) {
        poll_fn(|cx| {
            let mut inside = self.0.lock();
            if mem::take(&mut inside.has_news) {
                return Poll::Ready(());
            }
            inside.keeper = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn open(&self, reached: u64, is_over: bool) {
        let waiting = {
            let mut inside = self.0.lock();
            if reached <= inside.reached && !is_over {
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
