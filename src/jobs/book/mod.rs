//! The book of jobs: who is where. Each change is one script on keys of one part, so nobody sees half of it, a crash leaves all of it or
//! nothing, and it is the same on every keyspace that a [`Store`] opens.
//!
//! A part has, beside a hash for each job: a stream with a consumer group for each priority, whose pending entries are the leases; the
//! jobs whose time has not come, by time; those held back by their concurrency key; lists by state; and what happened of late. Whoever holds
//! a job bears its fence, a number that grows with each try, so what a worker says that was given up changes nothing.
//!
//! Time is an argument of everything, but for how long a lease was not renewed, which the keyspace's own clock tells: clocks of workers may differ.

use std::sync::LazyLock;
use std::time::Duration;

use redis::{AsyncCommands, RedisError, RedisResult, Value, cmd};
use serde_json::value::RawValue;

use crate::jobs::names::{JobId, Part};
use crate::jobs::spec::{Concurrency, Spec};
use crate::jobs::state::State;
use crate::store::{Script, Store, Topics};

mod job;

pub(crate) use job::{Job, Try};

/// A script that says in its first line what it wants: to be refused before it has done anything, or to run though memory is short.
macro_rules! script {
    ($name:ident, $file:literal, $wants:literal) => {
        static $name: LazyLock<Script> =
            LazyLock::new(|| Script::new(concat!($wants, "\n", include_str!("common.lua"), include_str!($file))));
    };
    // What is under way comes to its end however short memory is.
    ($name:ident, $file:literal) => {
        script!($name, $file, "#!lua flags=allow-oom");
    };
}

script!(SUBMIT, "submit.lua", "#!lua");
script!(CLAIM, "claim.lua");
script!(FINISH, "finish.lua");
script!(BEAT, "beat.lua");
script!(REAP, "reap.lua");
script!(DUE, "due.lua");
script!(CANCEL, "cancel.lua");
script!(RETRY, "retry.lua");
script!(DELETE, "delete.lua");

/// Where the number of parts is kept, which never changes.
const PARTS: &str = "flux:jobs:parts";

/// Jobs that are forgotten at once.
const PRUNED: usize = 100;

/// The jobs of a keyspace. Clones are cheap, and are the same book.
#[derive(Clone)]
pub struct Book {
    store: Store,
    parts: u8,
}

/// A job to be taken.
pub struct Order {
    /// What is to run.
    pub spec: Spec,
    /// JSON that the program is given.
    pub payload: Box<RawValue>,
    /// The program.
    pub script: Vec<u8>,
    /// The same job is taken once for the same key.
    pub once: Option<Once>,
}

/// What tells that a job was submitted before.
pub struct Once {
    /// Of whoever submits it; known for a day.
    pub key: String,
    /// All that was said of the job but its script. Another job with the same key is refused.
    pub said: String,
}

/// A job that a worker has got.
#[derive(Debug)]
pub struct Claimed {
    /// Which.
    pub id: JobId,
    /// What the worker proves with that it is still its own.
    pub fence: u64,
    /// The number of this try, from 1.
    pub attempt: u32,
    /// What is to run.
    pub spec: Spec,
    /// The program.
    pub script: Vec<u8>,
    /// JSON that the program is given.
    pub payload: String,
}

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It did what it should.
    Completed,
    /// It failed.
    Failed,
    /// It took longer than it might.
    TimedOut,
    /// Somebody ended it.
    Cancelled,
    /// It could not be run, or nobody knows how it ended.
    Lost,
    /// Its worker was asked to end, and lets another one have it.
    GivenBack,
}

impl How {
    fn name(self) -> &'static str {
        match self {
            How::Completed => "COMPLETED",
            How::Failed => "FAILED",
            How::TimedOut => "TIMED_OUT",
            How::Cancelled => "CANCELLED",
            How::Lost => "LOST",
            How::GivenBack => "GIVEN_BACK",
        }
    }
}

/// The end of a try.
#[derive(Debug, Clone)]
pub struct End {
    /// How it ended.
    pub how: How,
    /// The program's exit code, if it came that far.
    pub exit_code: Option<i32>,
    /// What it gave: JSON.
    pub output: Option<String>,
    /// What went wrong.
    pub why: Option<String>,
}

/// Why a worker is to end a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// Somebody cancelled it.
    Cancel,
    /// It is no longer this worker's.
    Stale,
}

impl Book {
    /// The book of a keyspace. The first who opens it says over how many parts jobs are spread (1 to 255): one is fastest on one server, and a
    /// cluster spreads as many as there are over its masters.
    pub async fn open(store: Store, parts: u8) -> RedisResult<Book> {
        let mut asked = store.clone();
        let _: Value = cmd("SET").arg(PARTS).arg(parts.max(1)).arg("NX").query_async(&mut asked).await?;
        let parts = asked.get(PARTS).await?;
        Ok(Book { store, parts })
    }

    /// All parts.
    pub fn parts(&self) -> impl Iterator<Item = Part> + use<> {
        (0..self.parts).map(Part)
    }

    /// Takes a job; its id, and whether it is a new one. Tells once it is on disk, where the keyspace can say so.
    ///
    /// Errors: `DIFFERS` where another job was submitted with the same idempotency key.
    pub async fn submit(&self, order: &Order, now: u64) -> RedisResult<(JobId, bool)> {
        let Order { spec, payload, script, once } = order;
        let part = self.part_of(order);
        let id = JobId::new(part, self.parts);
        let said = serde_json::to_string(spec).expect("a spec is JSON");
        let (slot, slots) = spec.concurrency.as_ref().map_or(("", 0), |Concurrency { key, limit }| (key.as_str(), *limit));
        let key = once.as_ref().map_or("", |once| once.key.as_str());
        let digest = once.as_ref().map(|once| blake3::hash(&[once.said.as_bytes(), b"\0", script].concat()).to_hex().to_string());
        let queue = format!("{}:{}", spec.runtime, spec.priority);
        let args = (
            (now, id.as_str(), said, script, payload.get(), spec.run_at),
            (queue, spec.max_retries, slot, slots, key, digest.unwrap_or_default()),
        );
        let (id, is_new): (String, bool) = SUBMIT.run_kept(&self.store, &[part.base()], args).await?;
        Ok((known(&id)?, is_new))
    }

    /// Jobs that bound each other lie in one part, as do those that may be the same.
    fn part_of(&self, Order { spec, once, .. }: &Order) -> Part {
        let key = spec.concurrency.as_ref().map(|bound| &bound.key).or(once.as_ref().map(|once| &once.key));
        let number = key.map_or_else(crate::id::random, |key| {
            let digest = blake3::hash(key.as_bytes());
            u64::from_le_bytes(*digest.as_bytes().first_chunk().expect("it has 32 bytes"))
        });
        Part((number % u64::from(self.parts)) as u8)
    }

    /// Gives a worker at most so many jobs of the runtimes it has.
    pub async fn claim(&self, part: Part, worker: &str, runtimes: &[&str], count: usize, now: u64) -> RedisResult<Vec<Claimed>> {
        let claimed: Vec<(String, u64, u32, String, Vec<u8>, String)> =
            CLAIM.run(&self.store, &[part.base()], (now, worker, count, runtimes)).await?;
        let read = claimed.into_iter().map(|(id, fence, attempt, spec, script, payload)| {
            let spec = serde_json::from_str(&spec).map_err(|error| strange(format!("the spec of {id}: {error}")))?;
            Ok(Claimed { id: known(&id)?, fence, attempt, spec, script, payload })
        });
        read.collect()
    }

    /// A try has ended; it is tried again at this time, if it is. Tells the job's state.
    ///
    /// Errors: `STALE` where the job is no longer the worker's, and `NOJOB` where it is gone.
    pub async fn finish(&self, id: &JobId, fence: u64, end: &End, retry_at: u64, now: u64) -> RedisResult<State> {
        let exit_code = end.exit_code.map(|code| code.to_string()).unwrap_or_default();
        let (output, why) = (end.output.as_deref().unwrap_or_default(), end.why.as_deref().unwrap_or_default());
        let args = (now, id.as_str(), fence, end.how.name(), exit_code, output, why, retry_at);
        let state: String = FINISH.run(&self.store, &[self.base_of(id)], args).await?;
        state_named(&state)
    }

    /// A worker says that it still runs jobs of a part; tells those that it is to end.
    pub async fn beat(&self, part: Part, worker: &str, held: &[(JobId, u64)], now: u64) -> RedisResult<Vec<(JobId, u64, Told)>> {
        let held: Vec<(&str, u64)> = held.iter().map(|(id, fence)| (id.as_str(), *fence)).collect();
        let told: Vec<(String, u64, String)> = BEAT.run(&self.store, &[part.base()], (now, worker, held)).await?;
        let read = told
            .into_iter()
            .map(|(id, fence, why)| Ok((known(&id)?, fence, if why == "CANCEL" { Told::Cancel } else { Told::Stale })));
        read.collect()
    }

    /// Takes jobs of a part from workers of which nothing was heard for so many milliseconds.
    pub async fn reap(&self, part: Part, lease_ms: u64, now: u64) -> RedisResult<Vec<JobId>> {
        let ids: Vec<String> = REAP.run(&self.store, &[part.base()], (now, lease_ms, 100)).await?;
        ids.iter().map(|id| known(id)).collect()
    }

    /// Has jobs of a part wait for a worker whose time has come; tells when the next one's comes.
    pub async fn due(&self, part: Part, now: u64) -> RedisResult<Option<u64>> {
        let (_, next): (u64, Option<f64>) = DUE.run(&self.store, &[part.base()], (now, 100)).await?;
        Ok(next.map(|next| next as u64))
    }

    /// Ends a job; tells its state. One that runs is ended by its worker.
    ///
    /// Errors: `NOJOB`.
    pub async fn cancel(&self, id: &JobId, why: &str, now: u64) -> RedisResult<State> {
        let state: String = CANCEL.run(&self.store, &[self.base_of(id)], (now, id.as_str(), why)).await?;
        state_named(&state)
    }

    /// Has a job that ended run again.
    ///
    /// Errors: `NOJOB`, and `NOTENDED` where it has not ended.
    pub async fn retry(&self, id: &JobId, now: u64) -> RedisResult<State> {
        let state: String = RETRY.run(&self.store, &[self.base_of(id)], (now, id.as_str())).await?;
        state_named(&state)
    }

    /// Forgets a job that ended.
    ///
    /// Errors: `NOJOB`, and `NOTENDED` where it has not ended.
    pub async fn delete(&self, id: &JobId, now: u64) -> RedisResult<()> {
        DELETE.run(&self.store, &[self.base_of(id)], (now, id.as_str())).await
    }

    /// Forgets jobs of a part that ended before a time, some of them at once; tells how many.
    pub async fn prune(&self, part: Part, before: u64, now: u64) -> RedisResult<usize> {
        let mut old = cmd("ZRANGE");
        old.arg(part.base() + "ended").arg("-inf").arg(format!("({before}")).arg("BYSCORE").arg("LIMIT").arg(0).arg(PRUNED);
        let old: Vec<String> = old.query_async(&mut self.store.clone()).await?;
        for id in &old {
            match self.delete(&known(id)?, now).await {
                // Somebody else forgot it, or has it run again.
                Err(error) if matches!(error.code(), Some("NOJOB" | "NOTENDED")) => {}
                deleted => deleted?,
            }
        }
        Ok(old.len())
    }

    /// What is known of a job, without what may be long; None where there is none.
    pub async fn job(&self, id: &JobId) -> RedisResult<Option<Job>> {
        let fields: Vec<(String, Vec<u8>)> = self.store.clone().hgetall(self.key_of(id)).await?;
        if fields.is_empty() { Ok(None) } else { Job::read(id.clone(), fields).map(Some) }
    }

    /// What of a job may be long: the payload, and an output that does not lie in the job itself.
    pub async fn data(&self, id: &JobId) -> RedisResult<(Option<String>, Option<String>)> {
        let key = format!("{}data:{id}", self.base_of(id));
        cmd("HMGET").arg(key).arg("payload").arg("output").query_async(&mut self.store.clone()).await
    }

    /// The newest jobs, newest first; only those in a state, if one is given.
    pub async fn newest(&self, state: Option<State>, count: usize) -> RedisResult<Vec<Job>> {
        let mut found: Vec<(String, f64)> = Vec::new();
        for part in self.parts() {
            let list = state.map_or_else(|| "all".to_owned(), |state| format!("in:{}", state.name()));
            let mut read = cmd("ZREVRANGE");
            read.arg(part.base() + &list).arg(0).arg(count.saturating_sub(1)).arg("WITHSCORES");
            let part: Vec<(String, f64)> = read.query_async(&mut self.store.clone()).await?;
            found.extend(part);
        }
        found.sort_by(|one, other| other.1.total_cmp(&one.1).then_with(|| other.0.cmp(&one.0)));
        let mut jobs = Vec::new();
        for (id, _) in found.into_iter().take(count) {
            // One may have been deleted meanwhile.
            jobs.extend(self.job(&known(&id)?).await?);
        }
        Ok(jobs)
    }

    /// How many jobs are in a state.
    pub async fn count(&self, state: State) -> RedisResult<u64> {
        let mut count = 0;
        for part in self.parts() {
            let here: u64 = self.store.clone().zcard(format!("{}in:{}", part.base(), state.name())).await?;
            count += here;
        }
        Ok(count)
    }

    /// Waits until a job of a part is to be run, at most so long.
    pub(crate) async fn wait(&self, part: Part, longest: Duration) -> RedisResult<()> {
        let mut wait = cmd("BLPOP");
        wait.arg(part.base() + "bell").arg(longest.as_secs_f64());
        wait.query_async::<Option<(String, String)>>(&mut self.store.clone()).await.map(drop)
    }

    /// Where jobs that run are told that they were cancelled, by their ids.
    pub(crate) fn cancels(&self) -> Topics {
        Topics::channels(self.parts().map(|part| part.base() + "cancel"))
    }

    /// The keyspace.
    pub(crate) fn store(&self) -> Store {
        self.store.clone()
    }

    /// Where what a try writes is kept.
    pub(super) fn log_of(&self, id: &JobId, attempt: u32) -> String {
        format!("{}log:{id}:{attempt}", self.base_of(id))
    }

    fn base_of(&self, id: &JobId) -> String {
        id.part(self.parts).base()
    }

    fn key_of(&self, id: &JobId) -> String {
        format!("{}job:{id}", self.base_of(id))
    }
}

fn known(id: &str) -> RedisResult<JobId> {
    JobId::parse(id).ok_or_else(|| strange(format!("`{id}` is no job's id")))
}

fn state_named(name: &str) -> RedisResult<State> {
    State::named(name).ok_or_else(|| strange(format!("`{name}` is no state")))
}

/// What lies under the names of jobs is none.
fn strange(what: String) -> RedisError {
    RedisError::from((redis::ErrorKind::UnexpectedReturnType, "what lies under flux:{j…} is no job", what))
}
