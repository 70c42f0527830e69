//! The room: the jobs of this server's keyspace, and a worker that runs them where something is there that can.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::RedisResult;

use crate::clock;
use crate::commands::instance::Instance;
use crate::commands::offers::Offers;
use crate::commands::room::{self, Open};
use crate::config::Current;
use crate::engine::notify::Observer;
use crate::jobs::book::Book;
use crate::jobs::here::book;
use crate::jobs::http;
use crate::jobs::names::JobId;
use crate::jobs::offer::Offered;
use crate::jobs::runtime::process::Processes;
use crate::jobs::runtime::{Language, Runtime};
use crate::jobs::settings::{SETTINGS, Settings};
use crate::jobs::worker::Worker;
use crate::lifecycle::{Backoff, Phase, Plan, Stop};
use crate::store::Heard;

/// As `node` lists it.
pub(crate) const ROOM: room::Room = room::Room {
    name: "jobs",
    commands: &[],
    observes: &[],
    metrics: &[],
    routes: http::ROUTES,
    settings: SETTINGS,
    make: |instance| Arc::new(Room { instance: Arc::downgrade(instance), settings: Settings::of(&instance.config) }),
};

/// How often it is looked for jobs that ended long ago.
const PRUNE_EVERY: Duration = Duration::from_secs(60);
const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// How long jobs that are killed have to be told of.
const PATIENCE: Duration = Duration::from_secs(5);

/// The room.
pub(crate) struct Room {
    instance: Weak<Instance>,
    settings: Settings,
}

impl Observer for Room {}

impl Open for Room {
    fn offer(self: Arc<Self>, offers: &mut Offers) {
        offers.jobs.set(Arc::new(Offered(self.instance.clone())));
    }

    fn start(&self) {
        let Some(instance) = self.instance.upgrade() else { return };
        let runtimes = self.runtimes();
        if runtimes.is_empty() {
            return;
        }
        tracing::info!(
            "jobs run here, as processes of this machine: {}",
            runtimes.keys().cloned().collect::<Vec<_>>().join(", ")
        );
        let (slots, keep, weak) = (self.settings.slots.count() as usize, self.settings.keep_days.clone(), self.instance.clone());
        let lifecycle = instance.lifecycle().clone();
        let plan = Plan::new("jobs", Phase::Rooms);
        let started = instance.lifecycle().keep(plan, Backoff::USUAL, move |stop| {
            let Some(instance) = weak.upgrade() else { return Ok(()) };
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
            runtime.block_on(async {
                let book = book(&instance).await.map_err(|error| error.to_string())?;
                drop(instance);
                let worker = Worker::new(book.clone(), slots, runtimes.clone(), lifecycle.clone());
                carry(&worker, &book, &keep, stop).await.map_err(|error| error.to_string())
            })
        });
        if let Err(error) = started {
            tracing::error!("jobs: the thread could not be started: {error}; jobs wait");
        }
    }
}

impl Room {
    fn runtimes(&self) -> BTreeMap<String, Arc<dyn Runtime>> {
        let mut runtimes = BTreeMap::new();
        if self.settings.process.is_on() {
            let processes: Arc<dyn Runtime> = Arc::new(Processes::new("/proc/self/exe"));
            runtimes.extend(
                processes.languages().into_iter().map(|language: Language| (language.name().to_owned(), Arc::clone(&processes))),
            );
        }
        runtimes
    }
}

/// Runs jobs until it is asked to stop; then those that run are killed, and given back.
async fn carry(worker: &Arc<Worker>, book: &Book, keep_days: &Current, stop: &Stop) -> RedisResult<()> {
    let mut looks = tokio::time::interval(PRUNE_EVERY);
    let mut cancels = book.store().listen(book.cancels()).await?;
    worker.start()?;
    loop {
        tokio::select! {
            () = stop.asked() => break,
            _ = looks.tick() => {
                let now = clock::now_ms();
                for part in book.parts() {
                    while book.prune(part, now.saturating_sub(keep_days.count() * DAY_MS), now).await? > 0 {}
                }
            }
            heard = cancels.next() => match heard {
                Some(Heard::Item(message)) => {
                    let id = String::from_utf8_lossy(&message.payload);
                    JobId::parse(&id).into_iter().for_each(|id| worker.cancelled(&id));
                }
                // What is missing is told with the next beat.
                Some(Heard::Lost(_)) => {}
                None => break,
            },
        }
    }
    if tokio::time::timeout(PATIENCE, worker.drained()).await.is_err() {
        tracing::warn!("jobs: some that were killed could not be given back: they run again once their leases are over");
    }
    Ok(())
}
