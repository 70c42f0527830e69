//! What everyone may know of the script that runs, and do to it, without a lock that it holds.

use std::collections::HashMap;
use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU64,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::clock;
use crate::config::{Config, Name};
use crate::engine::Engine;
use crate::engine::block::Waiter;
use crate::engine::error::Error;
use crate::engine::mailbox::Ended;
use crate::lifecycle::{Lifecycle, Phase, Plan, Stop};
use crate::lua::Alarm;
use crate::resp::Args;

/// What a client is told while a script runs that takes too long.
const BUSY: Error = Error::text("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.");
const BUSY_FUNCTION: Error =
    Error::text("BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.");
const NOT_BUSY: Error = Error::text("NOTBUSY No scripts in execution right now.");
const UNKILLABLE: Error = Error::text(
    "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the script \
     termination or kill the server in a hard way using the SHUTDOWN NOSAVE command.",
);

/// How often it is looked whether a script runs for long.
const TICK: Duration = Duration::from_millis(5);
/// So many looks at which no script has run since the last one, until nobody looks any more.
const QUIET_TICKS: u32 = 200;

/// How far a script has come, for whoever would kill it.
mod state {
    pub(crate) const NONE: u8 = 0;
    pub(crate) const READS: u8 = 1;
    pub(crate) const WROTE: u8 = 2;
    pub(crate) const KILLED: u8 = 3;
}

/// See the file's head.
#[derive(Default)]
pub(crate) struct Running {
    state: AtomicU8,
    /// When it began, on the monotonic clock.
    since: AtomicU64,
    /// Scripts that were begun.
    begun: AtomicU64,
    /// Whether it must end now, whatever it did.
    must_end: AtomicBool,
    /// Whether it is a function of a library.
    is_function: AtomicBool,
    /// How the function was called that takes long.
    told: Mutex<Option<Vec<Vec<u8>>>>,
    /// Reaches into what it runs in.
    alarm: Mutex<Option<Alarm>>,
    held_back: Mutex<HashMap<u64, Arc<Waiter>>>,
    watch: Mutex<Watch>,
    changed: Condvar,
    is_asleep: AtomicBool,
}

#[derive(Default)]
struct Watch {
    is_watched: bool,
}

impl Running {
    /// Says how what runs from now on is reached.
    pub(crate) fn set_alarm(&self, alarm: Alarm) {
        *self.alarm.lock() = Some(alarm);
    }

    /// Begins a run.
    pub(crate) fn begin(&self, is_function: bool) {
        self.is_function.store(is_function, Relaxed);
        self.since.store(clock::monotonic_ms(), Relaxed);
        self.state.store(state::READS, SeqCst);
        self.begun.fetch_add(1, SeqCst);
        if self.is_asleep.load(SeqCst) {
            let _watch = self.watch.lock();
            self.is_asleep.store(false, SeqCst);
            self.changed.notify_all();
        }
    }

    /// What ran before was another thing: the time begins here.
    pub(crate) fn begin_again(&self) {
        self.since.store(clock::monotonic_ms(), Relaxed);
    }

    /// What a client is told while it runs and takes too long.
    pub(crate) fn busy(&self) -> Error {
        if self.is_function.load(Relaxed) { BUSY_FUNCTION } else { BUSY }
    }

    /// Tells how the function was called that takes long.
    pub(crate) fn tell(&self, args: Args<'_>) {
        self.told.lock().get_or_insert_with(|| args.iter().map(<[u8]>::to_vec).collect());
    }

    /// How the function was called that takes long; an error while a script runs.
    pub(crate) fn function(&self) -> Result<Option<Vec<Vec<u8>>>, Error> {
        let runs = self.state.load(SeqCst) != state::NONE;
        if runs && !self.is_function.load(Relaxed) {
            return Err(BUSY);
        }
        Ok(self.told.lock().clone())
    }

    /// Ends it.
    pub(crate) fn end(&self) {
        self.state.store(state::NONE, SeqCst);
        if self.is_function.load(Relaxed) {
            *self.told.lock() = None;
        }
    }

    /// Notes that it is about to change keys; false where it was killed before.
    pub(crate) fn writes(&self) -> bool {
        match self.state.load(Relaxed) {
            state::WROTE => true,
            _ => match self.state.compare_exchange(state::READS, state::WROTE, SeqCst, SeqCst) {
                Ok(_) => true,
                Err(now) => now == state::WROTE,
            },
        }
    }

    /// Whether it has changed keys.
    pub(crate) fn has_written(&self) -> bool {
        self.state.load(Relaxed) == state::WROTE
    }

    /// Whether it was killed.
    pub(crate) fn is_killed(&self) -> bool {
        self.state.load(SeqCst) == state::KILLED
    }

    /// `SCRIPT KILL`, `FUNCTION KILL`
    pub(crate) fn kill(&self, is_function: bool) -> Result<(), Error> {
        if self.state.load(SeqCst) != state::NONE && self.is_function.load(Relaxed) != is_function {
            return Err(self.busy());
        }
        match self.state.compare_exchange(state::READS, state::KILLED, SeqCst, SeqCst) {
            Ok(_) | Err(state::KILLED) => {
                self.ring();
                Ok(())
            }
            Err(state::NONE) => Err(NOT_BUSY),
            Err(_) => Err(UNKILLABLE),
        }
    }

    /// Has it end whatever it did: the process ends, and nothing of it is kept.
    pub(crate) fn end_now(&self) {
        self.must_end.store(true, SeqCst);
        self.ring();
    }

    /// Whether it must end now.
    pub(crate) fn must_end(&self) -> bool {
        self.must_end.load(SeqCst)
    }

    /// Milliseconds for which it has run.
    pub(crate) fn age_ms(&self) -> u64 {
        clock::monotonic_ms().saturating_sub(self.since.load(Relaxed))
    }

    /// For how many more milliseconds a command waits for it; then it is refused. As in Redis, a threshold of 0 is none.
    pub(crate) fn patience_ms(&self, config: &Config) -> u64 {
        match config.count(Name::BusyReplyThreshold) {
            0 => u64::MAX,
            threshold => threshold.saturating_sub(self.age_ms()),
        }
    }

    fn ring(&self) {
        if let Some(alarm) = &*self.alarm.lock() {
            alarm.ring();
        }
    }

    /// Holds a command back until the script has ended, if that has not happened just now.
    pub(crate) fn join(&self, engine: &Engine, waiter: &Arc<Waiter>) {
        let mut held_back = self.held_back.lock();
        if engine.solo().is_shut() {
            held_back.insert(waiter.number(), Arc::clone(waiter));
        } else {
            drop(held_back);
            let_go(waiter);
        }
    }

    /// Undoes [`Self::join`].
    pub(crate) fn leave(&self, waiter: &Waiter) {
        self.held_back.lock().remove(&waiter.number());
    }

    /// Lets all commands run that were held back: the keyspace is open again.
    pub(crate) fn let_all_go(&self) {
        let held_back = std::mem::take(&mut *self.held_back.lock());
        let mut held_back: Vec<_> = held_back.into_values().collect();
        held_back.sort_unstable_by_key(|waiter| waiter.number());
        held_back.iter().for_each(|waiter| let_go(waiter));
    }

    /// Sees to it that someone looks after scripts that run for long.
    pub(crate) fn watched(self: &Arc<Self>, lifecycle: &Lifecycle) -> Result<(), Error> {
        let mut watch = self.watch.lock();
        if watch.is_watched {
            return Ok(());
        }
        let plan = Plan::new("scripts", Phase::Tend).wakes(self, |running| {
            let _watch = running.watch.lock();
            running.changed.notify_all();
        });
        let looks = Arc::downgrade(self);
        lifecycle
            .start(plan, move |stop| look(&looks, stop))
            .map_err(|cause| Error::new(format!("ERR no thread could be started: {cause}")))?;
        watch.is_watched = true;
        Ok(())
    }
}

fn let_go(waiter: &Waiter) {
    if waiter.end() {
        waiter.mailbox.end(Ended::Again);
    }
}

/// The life of the thread that rings where the same script runs for more than a tick.
fn look(running: &Weak<Running>, stop: &Stop) {
    let (mut seen, mut quiet) = (0, 0);
    while !stop.wait_for(TICK) {
        let Some(running) = running.upgrade() else {
            stop.wait();
            return;
        };
        let begun = running.begun.load(SeqCst);
        if begun != seen {
            (seen, quiet) = (begun, 0);
        } else if running.state.load(SeqCst) != state::NONE {
            running.ring();
            quiet = 0;
        } else {
            quiet += 1;
        }
        if quiet >= QUIET_TICKS {
            running.sleep(seen, stop);
            quiet = 0;
        }
    }
}

impl Running {
    /// Sleeps until another script begins.
    fn sleep(&self, seen: u64, stop: &Stop) {
        let mut watch = self.watch.lock();
        self.is_asleep.store(true, SeqCst);
        while self.is_asleep.load(SeqCst) && self.begun.load(SeqCst) == seen && !stop.is_asked() {
            self.changed.wait(&mut watch);
        }
        self.is_asleep.store(false, SeqCst);
    }
}
