//! A worker: takes jobs from the book, runs as many at once as it may, and says how they ended.
//!
//! It is one task that waits for the bell of each part, and one for each job. Of what it holds it says every third of a lease that it still runs it. One
//! that does not hear from the book for as long as a lease takes its jobs for lost, kills them, and goes on when the book answers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redis::RedisResult;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::clock;
use crate::id;
use crate::jobs::book::{Book, Claimed, End, How, Told};
use crate::jobs::logs::Writer;
use crate::jobs::names::{JobId, Part};
use crate::jobs::runtime::Runtime;
use crate::jobs::runtime::wire::Said;
use crate::lifecycle::{Backoff, Lifecycle, Phase, Plan};

/// After so long without a word from its worker a job is another's.
pub(crate) const LEASE: Duration = Duration::from_millis(750);
/// How long the bell is waited for at once: jobs of which the bell did not tell are found so late.
const ROUND: Duration = Duration::from_millis(500);

/// What a worker is told of a job that runs.
type Ending = watch::Sender<Option<Told>>;

/// A worker.
pub(crate) struct Worker {
    book: Book,
    name: String,
    runtimes: BTreeMap<String, Arc<dyn Runtime>>,
    slots: Arc<Semaphore>,
    held: Mutex<HashMap<JobId, Held>>,
    lifecycle: Lifecycle,
    /// How many may run at once.
    most: u32,
}

/// A job that runs here.
struct Held {
    fence: u64,
    ending: Ending,
}

impl Worker {
    /// A worker with a name that no other has, which runs so many jobs at once.
    pub(crate) fn new(
        book: Book,
        slots: usize,
        runtimes: BTreeMap<String, Arc<dyn Runtime>>,
        lifecycle: Lifecycle,
    ) -> Arc<Worker> {
        let name = format!("worker-{}", &id::run_id()[..12]);
        let (slots, most) = (Arc::new(Semaphore::new(slots)), slots as u32);
        Arc::new(Worker { book, name, runtimes, slots, held: Mutex::default(), lifecycle, most })
    }

    /// Starts its tasks, on the runtime that this is called within.
    pub(crate) fn start(self: &Arc<Worker>) -> std::io::Result<()> {
        for part in self.book.parts() {
            let this = Arc::clone(self);
            self.lifecycle.keep_task(Plan::new(format!("jobs {}", part.0), Phase::Rooms), Backoff::USUAL, move |stop| {
                let this = Arc::clone(&this);
                async move {
                    tokio::select! {
                        () = stop.asked() => Ok(()),
                        failed = this.serve(part) => failed,
                    }
                }
            })?;
            let this = Arc::clone(self);
            self.lifecycle.keep_task(
                Plan::new(format!("jobs' leases {}", part.0), Phase::Rooms),
                Backoff::USUAL,
                move |stop| {
                    let this = Arc::clone(&this);
                    async move {
                        tokio::select! {
                            () = stop.asked() => Ok(()),
                            failed = this.keep_leases(part) => failed,
                        }
                    }
                },
            )?;
        }
        Ok(())
    }

    /// Runs jobs of a part until the book fails.
    async fn serve(self: &Arc<Worker>, part: Part) -> RedisResult<()> {
        let runtimes: Vec<&str> = self.runtimes.keys().map(String::as_str).collect();
        loop {
            let mut free = Arc::clone(&self.slots).acquire_owned().await.expect("it is never closed");
            while let Ok(another) = Arc::clone(&self.slots).try_acquire_owned() {
                free.merge(another);
            }
            let (now, count) = (clock::now_ms(), free.num_permits());
            let next = self.book.due(part, now).await?;
            let claimed = self.book.claim(part, &self.name, &runtimes, count, now).await?;
            let is_all = claimed.len() < count;
            for job in claimed {
                self.begin(job, free.split(1).expect("as many were asked for as there are"));
            }
            drop(free);
            if is_all {
                // Until the next one's time has come, if that is sooner.
                let next = next.map_or(ROUND, |next| Duration::from_millis(next.saturating_sub(clock::now_ms()).max(1)));
                self.book.wait(part, next.min(ROUND)).await?;
            }
        }
    }

    /// Says that it still runs what it holds, hears what it is to end, and takes from other workers what they say no more of.
    async fn keep_leases(self: &Arc<Worker>, part: Part) -> RedisResult<()> {
        let parts = self.book.parts().count() as u8;
        loop {
            let held: Vec<(JobId, u64)> = {
                let held = self.held.lock();
                let of_part = held.iter().filter(|(id, _)| id.part(parts) == part);
                of_part.map(|(id, held)| (id.clone(), held.fence)).collect()
            };
            if !held.is_empty() {
                let asked = tokio::time::timeout(LEASE, self.book.beat(part, &self.name, &held, clock::now_ms())).await;
                match asked {
                    Ok(told) => told?.into_iter().for_each(|(id, fence, told)| self.tell(&id, fence, told)),
                    // It may be another's by now.
                    Err(_) => held.iter().for_each(|(id, fence)| self.tell(id, *fence, Told::Stale)),
                }
            }
            self.book.reap(part, LEASE.as_millis() as u64, clock::now_ms()).await?;
            tokio::time::sleep(LEASE / 3).await;
        }
    }

    /// Tells a job that runs here to end.
    fn tell(&self, id: &JobId, fence: u64, told: Told) {
        if let Some(held) = self.held.lock().get(id).filter(|held| held.fence == fence) {
            held.ending.send_replace(Some(told));
        }
    }

    /// Waits until nothing runs here.
    pub(crate) async fn drained(&self) {
        // It is never closed.
        let _ = self.slots.acquire_many(self.most).await;
    }

    /// A job was cancelled, somewhere.
    pub(crate) fn cancelled(&self, id: &JobId) {
        if let Some(held) = self.held.lock().get(id) {
            held.ending.send_replace(Some(Told::Cancel));
        }
    }

    /// Runs a job beside all else.
    fn begin(self: &Arc<Worker>, job: Claimed, slot: OwnedSemaphorePermit) {
        let (ending, ends) = watch::channel(None);
        self.held.lock().insert(job.id.clone(), Held { fence: job.fence, ending });
        let this = Arc::clone(self);
        let plan = Plan::new(format!("job {}", job.id), Phase::Rooms);
        let started = self.lifecycle.work_task(plan, move |stop| async move {
            let end = tokio::select! {
                end = this.run(&job, ends) => Some(end),
                () = stop.asked() => Some(End { how: How::GivenBack, exit_code: None, output: None, why: Some("its worker ended".into()) }),
            };
            if let Some(end) = end {
                this.say_end(&job, &end).await;
            }
            let mut held = this.held.lock();
            if held.get(&job.id).is_some_and(|held| held.fence == job.fence) {
                held.remove(&job.id);
            }
            drop(held);
            drop(slot);
        });
        if let Err(error) = started {
            // Its lease runs out, and another worker gets it.
            tracing::error!("jobs: a task could not be started: {error}");
        }
    }

    /// Runs a job to its end, or until it is to end.
    async fn run(&self, job: &Claimed, mut ends: watch::Receiver<Option<Told>>) -> End {
        let Some(runtime) = self.runtimes.get(&job.spec.runtime) else {
            let why = format!("`{}` is not run here", job.spec.runtime);
            return End { how: How::Lost, exit_code: None, output: None, why: Some(why) };
        };
        let (sender, mut said) = mpsc::channel(16);
        let mut log = Writer::new(self.book.clone(), job.id.clone(), job.attempt);
        let timeout = tokio::time::sleep(Duration::from_millis(job.spec.timeout_ms));
        let mut timeout = std::pin::pin!(timeout);
        let mut program = runtime.run(job, sender);
        let (mut is_over, mut end) = (false, None);
        while end.is_none() {
            tokio::select! {
                biased;
                heard = said.recv() => match heard {
                    Some(Said::Started) => {}
                    Some(Said::Out(bytes)) => log.write("out", bytes).await,
                    Some(Said::Err(bytes)) => log.write("err", bytes).await,
                    Some(Said::Ended { code, output }) => end = Some(ended(code, output)),
                    Some(Said::Failed(why)) => end = Some(End { how: How::Lost, exit_code: None, output: None, why: Some(why) }),
                    None => end = Some(End { how: How::Lost, exit_code: None, output: None, why: Some("its program is gone".into()) }),
                },
                () = &mut program, if !is_over => is_over = true,
                () = &mut timeout => {
                    let why = format!("it took longer than {} ms", job.spec.timeout_ms);
                    end = Some(End { how: How::TimedOut, exit_code: None, output: None, why: Some(why) });
                }
                told = told(&mut ends) => {
                    let (how, why) = if told == Some(Told::Cancel) { (How::Cancelled, "it was cancelled") } else { (How::Lost, "its worker lost it") };
                    end = Some(End { how, exit_code: None, output: None, why: Some(why.into()) });
                }
            }
        }
        log.flush().await;
        end.expect("it was waited for")
    }

    /// Tells the book, until it answers or the job is another's.
    async fn say_end(&self, job: &Claimed, end: &End) {
        let mut pause = Duration::from_millis(20);
        loop {
            let now = clock::now_ms();
            let retry_at = now + job.spec.backoff.wait_ms(job.attempt, id::random());
            match self.book.finish(&job.id, job.fence, end, retry_at, now).await {
                Ok(_) => return,
                Err(error) if matches!(error.code(), Some("STALE" | "NOJOB")) => {
                    return tracing::info!("jobs: how {} ended is not told: {error}", job.id);
                }
                Err(error) => tracing::warn!("jobs: how {} ended cannot be told: {error}", job.id),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }
}

/// Waits until a job is to end; tells why.
async fn told(ends: &mut watch::Receiver<Option<Told>>) -> Option<Told> {
    ends.wait_for(Option::is_some).await.ok().and_then(|told| *told)
}

fn ended(code: i32, output: Result<Vec<u8>, String>) -> End {
    let failed = |why: String| End { how: How::Failed, exit_code: Some(code), output: None, why: Some(why) };
    if code != 0 {
        return failed(if code > 128 { format!("signal {} ended it", code - 128) } else { format!("it ended with code {code}") });
    }
    match output {
        Err(why) => failed(why),
        Ok(bytes) if bytes.is_empty() => End { how: How::Completed, exit_code: Some(0), output: None, why: None },
        Ok(bytes) => match serde_json::from_slice::<&serde_json::value::RawValue>(&bytes) {
            Ok(json) => End { how: How::Completed, exit_code: Some(0), output: Some(json.get().to_owned()), why: None },
            Err(error) => failed(format!("its output is no JSON: {error}")),
        },
    }
}
