//! Who lives, how they are doing, and how they are stopped. A thing's states:
//!
//!   Running --died, is kept--> Pausing --pause over--> Running
//!      |                          |
//!      +--asked to stop--> Stopping <--asked to stop--+
//!      |                       |
//!      |                       +--ended--> (gone)     +--not even when cut--> LeftBehind
//!      +--died, the process lives on--> Failed

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use serde::Serialize;
use tokio::task::AbortHandle;

use super::{Backoff, Hook, Phase, Plan, Stop};
use crate::clock;
use crate::panics;

/// What something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A thread of this process.
    Thread,
    /// A task of a runtime.
    Task,
    /// A process of its own, with the task that sees to it.
    Child,
}

/// What its death leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDeath {
    /// The process ends.
    EndProcess,
    /// It is started again.
    Restart,
    /// It is done.
    Done,
}

/// How it is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It lives.
    Running,
    /// It died and is started again when a pause is over.
    Pausing,
    /// It is asked to end.
    Stopping,
    /// It died, and is not started again.
    Failed,
    /// It did not end when it was cut, and was waited for no more.
    LeftBehind,
}

/// What is shown of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Its name; a thread's is the system's too.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// How it is doing.
    pub state: State,
    /// When it is stopped: see [`Phase`].
    pub phase: &'static str,
    /// What its death leads to.
    pub on_death: OnDeath,
    /// How often it was started again.
    pub restarts: u64,
    /// The system's number of a child process while there is one.
    pub pid: Option<u32>,
    /// Why it died last, at most [`ERROR_BYTES_MAX`] bytes of it.
    pub last_error: Option<String>,
}

impl Kind {
    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Thread => "thread",
            Kind::Task => "task",
            Kind::Child => "child",
        }
    }
}

impl OnDeath {
    /// In a word or two.
    pub fn name(self) -> &'static str {
        match self {
            OnDeath::EndProcess => "end_process",
            OnDeath::Restart => "restart",
            OnDeath::Done => "done",
        }
    }
}

impl State {
    /// In a word or two.
    pub fn name(self) -> &'static str {
        match self {
            State::Running => "running",
            State::Pausing => "pausing",
            State::Stopping => "stopping",
            State::Failed => "failed",
            State::LeftBehind => "left_behind",
        }
    }
}

/// All but its name and kind, as INFO has it. The error comes last, since it may hold commas.
impl Display for Row {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { state, phase, on_death, restarts, .. } = self;
        write!(out, "state={},phase={phase},on_death={},restarts={restarts}", state.name(), on_death.name())?;
        if let Some(pid) = self.pid {
            write!(out, ",pid={pid}")?;
        }
        match &self.last_error {
            Some(error) => write!(out, ",last_error={}", error.escape_debug()),
            None => Ok(()),
        }
    }
}

/// Bytes of a last error that are kept.
pub(super) const ERROR_BYTES_MAX: usize = 1024;

/// Who lives around an instance. Cheap to clone.
#[derive(Clone, Default)]
pub struct Lifecycle(Arc<Shared>);

#[derive(Default)]
struct Shared {
    living: Mutex<Living>,
    /// Told whenever one has ended.
    ended: Condvar,
}

#[derive(Default)]
struct Living {
    /// By number, so in the order in which they were started.
    entries: BTreeMap<u64, Arc<Entry>>,
    count: u64,
    /// Phases that were stopped: nothing is started in them any more.
    stopped: BTreeSet<Phase>,
    is_ending: bool,
}

pub(super) struct Entry {
    number: u64,
    pub(super) name: String,
    phase: Phase,
    on_death: OnDeath,
    pub(super) stop: Stop,
    life: Lifecycle,
    now: Mutex<Now>,
}

struct Now {
    kind: Kind,
    state: State,
    is_over: bool,
    restarts: u64,
    pid: Option<u32>,
    last_error: Option<String>,
    wake: Option<Arc<Hook>>,
    cut: Option<Arc<Hook>>,
    thread: Option<JoinHandle<()>>,
    task: Option<AbortHandle>,
}

/// How it ended; the text of a panic or error, if it was one.
pub(super) type Outcome = Result<(), String>;

impl Lifecycle {
    /// Starts a thread that lives until it is asked to stop; if it ends before, the process does.
    pub fn start(&self, plan: Plan, body: impl FnOnce(&Stop) + Send + 'static) -> io::Result<()> {
        let entry = self.enter(plan, Kind::Thread, OnDeath::EndProcess)?;
        self.spawn(entry, |entry| {
            let outcome = caught(|| body(&entry.stop));
            entry.end(outcome);
        })
    }

    /// Starts a thread that comes to its end by itself. It is waited for in its phase.
    pub fn work(&self, plan: Plan, body: impl FnOnce(&Stop) + Send + 'static) -> io::Result<()> {
        let entry = self.enter(plan, Kind::Thread, OnDeath::Done)?;
        self.spawn(entry, |entry| {
            let outcome = caught(|| body(&entry.stop));
            entry.end(outcome);
        })
    }

    /// Starts a thread that lives until it is asked to stop, and is started again after a pause where it panics, fails or returns before.
    /// It must leave nothing half done that others see; where it changes keys, a panic ends the process all the same.
    pub fn keep<E: Display>(
        &self,
        plan: Plan,
        backoff: Backoff,
        mut body: impl FnMut(&Stop) -> Result<(), E> + Send + 'static,
    ) -> io::Result<()> {
        let entry = self.enter(plan, Kind::Thread, OnDeath::Restart)?;
        self.spawn(entry, move |entry| {
            let mut deaths = Deaths::new(backoff);
            loop {
                let began = clock::monotonic_ms();
                let lived = || body(&entry.stop).map_err(|error| error.to_string());
                let outcome = caught(|| panics::surviving(lived)).and_then(|outcome| outcome);
                let Some(pause) = entry.died(outcome, &mut deaths, began) else { break };
                if entry.stop.wait_for(pause) {
                    break;
                }
                entry.restarts();
            }
            drop(body);
            entry.end(Ok(()));
        })
    }

    #[expect(clippy::disallowed_methods, reason = "this is the place that starts threads")]
    fn spawn(&self, entry: Arc<Entry>, run: impl FnOnce(&Entry) + Send + 'static) -> io::Result<()> {
        let lives = Arc::clone(&entry);
        let thread = thread::Builder::new().name(entry.name.clone());
        match thread.spawn(move || run(&lives)) {
            Ok(thread) => {
                entry.now.lock().thread = Some(thread);
                Ok(())
            }
            Err(error) => {
                entry.leave();
                Err(error)
            }
        }
    }

    /// From now on nobody's end is a death: all are about to be stopped. The first phase that is stopped says so, too.
    pub fn begin_end(&self) {
        self.0.living.lock().is_ending = true;
    }

    /// Whether all are about to be stopped.
    pub fn is_ending(&self) -> bool {
        self.0.living.lock().is_ending
    }

    /// Ends all of a phase and waits for them, however long that takes. When it returns, their threads are gone. Nothing can be
    /// started in the phase afterwards.
    pub fn stop(&self, phase: Phase) {
        let entries = self.ask(phase);
        self.wait_for(&entries, None);
    }

    /// The same, at most until a deadline: who has not ended then is cut, and who does not end even then is left behind.
    pub fn stop_by(&self, phase: Phase, deadline: &Deadline) {
        let entries = self.ask(phase);
        let cut = || entries.iter().for_each(|entry| entry.cut());
        if !deadline.bound(cut, |until| self.wait_for(&entries, Some(until))) {
            entries.iter().for_each(|entry| entry.leave_behind());
        }
    }

    /// Everyone that lives, and everyone that died and should not have, in the order in which they were started.
    pub fn report(&self) -> Vec<Row> {
        let entries: Vec<_> = self.0.living.lock().entries.values().cloned().collect();
        entries.iter().map(|entry| entry.row()).collect()
    }

    pub(super) fn enter(&self, plan: Plan, kind: Kind, on_death: OnDeath) -> io::Result<Arc<Entry>> {
        let mut living = self.0.living.lock();
        if living.stopped.contains(&plan.phase) {
            return Err(io::Error::other(format!("`{}` cannot be started: the server ends", plan.name)));
        }
        let now = Now {
            kind,
            state: State::Running,
            is_over: false,
            restarts: 0,
            pid: None,
            last_error: None,
            wake: plan.wake.map(Arc::new),
            cut: plan.cut.map(Arc::new),
            thread: None,
            task: None,
        };
        living.count += 1;
        let entry = Arc::new(Entry {
            number: living.count,
            name: plan.name,
            phase: plan.phase,
            on_death,
            stop: Stop::default(),
            life: self.clone(),
            now: Mutex::new(now),
        });
        living.entries.insert(entry.number, Arc::clone(&entry));
        Ok(entry)
    }

    /// Asks all of a phase to end.
    fn ask(&self, phase: Phase) -> Vec<Arc<Entry>> {
        let entries: Vec<_> = {
            let mut living = self.0.living.lock();
            living.is_ending = true;
            living.stopped.insert(phase);
            living.entries.values().filter(|entry| entry.phase == phase).cloned().collect()
        };
        entries.iter().for_each(|entry| entry.ask());
        entries
    }

    /// Waits until all of them have ended, and their threads are gone; false if they had not by then.
    fn wait_for(&self, entries: &[Arc<Entry>], until: Option<Instant>) -> bool {
        let mut living = self.0.living.lock();
        while !entries.iter().all(|entry| entry.is_over()) {
            match until {
                None => self.0.ended.wait(&mut living),
                Some(until) => {
                    if self.0.ended.wait_until(&mut living, until).timed_out() && clock::instant() >= until {
                        break;
                    }
                }
            }
        }
        drop(living);
        entries.iter().filter(|entry| entry.join_if_over()).count() == entries.len()
    }
}

fn caught<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(body)).map_err(|panic| panic_text(&*panic))
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("without a text"))
}

/// How often it died without having lived for long in between.
pub(super) struct Deaths {
    backoff: Backoff,
    in_a_row: u32,
}

impl Deaths {
    pub(super) fn new(backoff: Backoff) -> Deaths {
        Deaths { backoff, in_a_row: 0 }
    }

    fn next_pause(&mut self, lived: Duration) -> Duration {
        self.in_a_row = if lived >= self.backoff.most { 1 } else { self.in_a_row.saturating_add(1) };
        self.backoff.pause(self.in_a_row)
    }
}

impl Entry {
    /// Whether its end is what is wanted.
    fn is_due(&self) -> bool {
        self.stop.is_asked() || self.life.is_ending()
    }

    /// Whether it has ended, or is the one that asks: whoever stops a phase may be of it.
    fn is_over(&self) -> bool {
        let now = self.now.lock();
        now.is_over || now.thread.as_ref().is_some_and(|thread| thread.thread().id() == thread::current().id())
    }

    fn ask(&self) {
        let wake = {
            let mut now = self.now.lock();
            if !now.is_over {
                now.state = State::Stopping;
            }
            now.wake.clone()
        };
        self.stop.ask();
        if let Some(wake) = wake {
            wake();
        }
    }

    fn cut(&self) {
        let (cut, task) = {
            let now = self.now.lock();
            if now.is_over {
                return;
            }
            (now.cut.clone(), now.task.clone())
        };
        match (cut, task) {
            (Some(cut), _) => cut(),
            (None, Some(task)) => task.abort(),
            (None, None) => {}
        }
    }

    /// One that is kept has died, if nobody asked it to end: for how long it pauses.
    pub(super) fn died(&self, outcome: Outcome, deaths: &mut Deaths, began_ms: u64) -> Option<Duration> {
        if self.is_due() {
            return None;
        }
        let lived = Duration::from_millis(clock::monotonic_ms().saturating_sub(began_ms));
        let pause = deaths.next_pause(lived);
        let why = outcome.err().unwrap_or_else(|| "ended without having been asked to".into());
        tracing::error!("`{}` {why}; it is started again in {pause:?}", self.name);
        let mut now = self.now.lock();
        (now.state, now.last_error, now.pid) = (State::Pausing, Some(shortened(why)), None);
        Some(pause)
    }

    /// One that died lives again.
    pub(super) fn restarts(&self) {
        let mut now = self.now.lock();
        now.restarts += 1;
        if now.state == State::Pausing {
            now.state = State::Running;
        }
    }

    /// It has ended, and nothing of it is left but this.
    pub(super) fn end(&self, outcome: Outcome) {
        let has_died = match self.on_death {
            OnDeath::EndProcess => outcome.is_err() || !self.is_due(),
            OnDeath::Done => outcome.is_err(),
            OnDeath::Restart => false,
        };
        if !has_died {
            return self.leave();
        }
        let why = outcome.err().unwrap_or_else(|| "ended without having been asked to".into());
        tracing::error!("`{}` {why}", self.name);
        panics::died(&self.name, &why);
        if self.on_death == OnDeath::Done {
            return self.leave();
        }
        self.over(State::Failed, Some(why));
    }

    /// It is no longer there, and shown no more.
    pub(super) fn leave(&self) {
        // What failed stays to be seen, when the task that carried it goes.
        if self.now.lock().is_over {
            return;
        }
        // Before whoever waits for its end goes on.
        self.life.0.living.lock().entries.remove(&self.number);
        self.over(State::Stopping, None);
    }

    fn over(&self, state: State, why: Option<String>) {
        let (wake, cut) = {
            let mut now = self.now.lock();
            (now.state, now.is_over) = (state, true);
            now.last_error = why.map(shortened).or(now.last_error.take());
            now.pid = None;
            (now.wake.take(), now.cut.take())
        };
        // What they hold may end others' lives, so no lock is held.
        drop((wake, cut));
        // Taken, so that it cannot be told between another's look and its sleep.
        drop(self.life.0.living.lock());
        self.life.0.ended.notify_all();
    }

    /// Waits until its thread is gone, which has nothing left to do; false if it lives.
    fn join_if_over(&self) -> bool {
        if !self.is_over() {
            return false;
        }
        let thread = self.now.lock().thread.take().filter(|thread| thread.thread().id() != thread::current().id());
        if let Some(thread) = thread {
            // Its panic was caught before.
            let _ = thread.join();
        }
        true
    }

    fn leave_behind(&self) {
        let mut now = self.now.lock();
        if !now.is_over {
            now.state = State::LeftBehind;
            tracing::error!("`{}` does not end though it was cut; it is left behind", self.name);
        }
    }

    pub(super) fn becomes(&self, pid: Option<u32>) {
        self.now.lock().pid = pid;
    }

    pub(super) fn carried_by(&self, task: AbortHandle) {
        self.now.lock().task = Some(task);
    }

    fn row(&self) -> Row {
        let now = self.now.lock();
        Row {
            name: self.name.clone(),
            kind: now.kind,
            state: now.state,
            phase: self.phase.name(),
            on_death: self.on_death,
            restarts: now.restarts,
            pid: now.pid,
            last_error: now.last_error.clone(),
        }
    }
}

fn shortened(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(ERROR_BYTES_MAX));
    text
}

/// Until when those that clients can hold up are waited for. Several phases may share one.
pub struct Deadline {
    until: Instant,
    patience: Duration,
    cut: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Deadline {
    /// After `grace`, `cut` is called, once; from then on each phase is waited for as long as `patience` more.
    pub fn new(grace: Duration, patience: Duration, cut: impl FnOnce() + Send + 'static) -> Deadline {
        // What is beyond what the clock can count is without an end.
        const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
        let until = clock::instant() + grace.min(YEAR);
        Deadline { until, patience: patience.min(YEAR), cut: Mutex::new(Some(Box::new(cut))) }
    }

    /// Waits for something: `wait` is given until when, and tells whether it came to its end. If it did not at the deadline, it is cut
    /// and waited for once more; false if it did not end even then.
    pub fn bound(&self, cut: impl FnOnce(), wait: impl Fn(Instant) -> bool) -> bool {
        if wait(self.until) {
            return true;
        }
        let cut_all = self.cut.lock().take();
        if let Some(cut_all) = cut_all {
            cut_all();
        }
        cut();
        wait(clock::instant() + self.patience)
    }
}
