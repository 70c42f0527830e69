//! Tasks of a runtime, started and stopped as threads are. At the deadline a task is dropped where it waits; so is one whose runtime ends.

use std::fmt::Display;
use std::future::poll_fn;
use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;

use futures_util::FutureExt;

use super::life::{Deaths, Entry, Outcome, panic_text};
use super::{Backoff, Kind, Lifecycle, OnDeath, Plan, Stop};
use crate::clock;
use crate::panics;

/// Shown no more when the task is gone, however it goes.
struct Gone(Arc<Entry>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Lifecycle {
    /// Starts a task that lives until it is asked to stop; if it ends before, the process does. Like all of these it is to be called
    /// within the runtime that carries it.
    pub fn start_task<F>(&self, plan: Plan, body: impl FnOnce(Stop) -> F) -> io::Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.run_task(plan, OnDeath::EndProcess, body)
    }

    /// Starts a task that comes to its end by itself.
    pub fn work_task<F>(&self, plan: Plan, body: impl FnOnce(Stop) -> F) -> io::Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.run_task(plan, OnDeath::Done, body)
    }

    /// Starts a task that lives until it is asked to stop, and is started again after a pause where it panics, fails or returns before.
    pub fn keep_task<F, E>(
        &self,
        plan: Plan,
        backoff: Backoff,
        mut body: impl FnMut(Stop) -> F + Send + 'static,
    ) -> io::Result<()>
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display,
    {
        let entry = self.enter(plan, Kind::Task, OnDeath::Restart)?;
        keep(entry, backoff, move |entry| body(entry.stop.clone()));
        Ok(())
    }

    fn run_task<F>(&self, plan: Plan, on_death: OnDeath, body: impl FnOnce(Stop) -> F) -> io::Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let entry = self.enter(plan, Kind::Task, on_death)?;
        let future = body(entry.stop.clone());
        let lives = Gone(Arc::clone(&entry));
        let task = spawn(async move {
            let outcome = caught(future.map(Ok::<(), String>)).await;
            lives.0.end(outcome);
        });
        entry.carried_by(task);
        Ok(())
    }
}

/// Runs something again and again until it is asked to stop.
pub(super) fn keep<F, E>(entry: Arc<Entry>, backoff: Backoff, mut body: impl FnMut(&Arc<Entry>) -> F + Send + 'static)
where
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: Display,
{
    let lives = Gone(Arc::clone(&entry));
    let task = spawn(async move {
        let mut deaths = Deaths::new(backoff);
        loop {
            let began = clock::monotonic_ms();
            let outcome = caught(surviving(body(&lives.0))).await;
            let Some(pause) = lives.0.died(outcome, &mut deaths, began) else { return };
            tokio::select! {
                () = lives.0.stop.asked() => return,
                () = tokio::time::sleep(pause) => lives.0.restarts(),
            }
        }
    });
    entry.carried_by(task);
}

/// Panics of what is kept do not end the process.
async fn surviving<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    poll_fn(|context| panics::surviving(|| future.as_mut().poll(context))).await
}

async fn caught<E: Display>(future: impl Future<Output = Result<(), E>>) -> Outcome {
    match AssertUnwindSafe(future).catch_unwind().await {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(panic) => Err(panic_text(&*panic)),
    }
}

/// Starts a task that serves one connection, or one request of it, and ends with it: there may be as many as clients, so they are not
/// listed. They end when the thread that carries them does.
#[expect(clippy::disallowed_methods, reason = "this is the place that starts tasks")]
pub fn of_connection<F>(future: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    tokio::spawn(future)
}

#[expect(clippy::disallowed_methods, reason = "this is the place that starts tasks")]
fn spawn(future: impl Future<Output = ()> + Send + 'static) -> tokio::task::AbortHandle {
    tokio::spawn(future).abort_handle()
}
