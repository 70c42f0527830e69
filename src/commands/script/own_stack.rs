//! Scripts run on a stack of their own, so that one which takes long can be left where it stands: the thread serves others in between, and
//! among them whoever would kill it. A thread that carries connections keeps one such stack, and a task that goes on with what stands there
//! ([`keep`]). Where no such task is, as in HTTP's threads, scripts are run by a thread for all of these ([`Runner`]).
//!
//! A run that stands is always gone on with to its end: what Lua has on its stack cannot be unwound.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use std::{io, mem};

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

use crate::commands::Outcome;
use crate::commands::instance::Instance;
use crate::commands::session::{Session, Shelf};
use crate::commands::slowlog;
use crate::engine::block::{Block, Waiter};
use crate::engine::error::Error;
use crate::lifecycle::{Lifecycle, Phase, Plan, Stop};
use crate::resp::{Args, OwnedArgs, Protocol, Reply};

/// What a script may call nested in C and in commands takes far less; only what is touched takes memory.
const STACK_BYTES: usize = 8 << 20;
/// How long a script that takes long rests between two stretches, at least.
const REST: Duration = Duration::from_millis(1);

/// What lets others go on for a moment, while whoever calls it holds no lock.
pub(crate) trait Rest {
    /// Returns later.
    fn rest(&self);
}

impl Rest for Yielder<(), ()> {
    fn rest(&self) {
        self.suspend(());
    }
}

/// What is done on a stack of its own.
pub(crate) type Work = fn(&mut Session, &dyn Rest, Args<'_>, &mut Reply) -> Outcome;

/// A command on its way.
struct Trip {
    session: Box<Session>,
    args: OwnedArgs,
    protocol: Protocol,
    work: Work,
}

/// What became of it.
struct Back {
    session: Box<Session>,
    args: OwnedArgs,
    reply: Reply,
    outcome: Outcome,
    work: Work,
}

impl Trip {
    fn make(mut self, rest: &dyn Rest) -> Back {
        let mut reply = Reply::new(self.protocol);
        let outcome = (self.work)(&mut self.session, rest, self.args.args(), &mut reply);
        Back { session: self.session, args: self.args, reply, outcome, work: self.work }
    }

    fn on(self, stack: DefaultStack) -> Run {
        Coroutine::with_stack(stack, move |yielder, ()| self.make(yielder))
    }

    fn refused(self, error: Error) -> Back {
        Back { session: self.session, args: self.args, reply: Reply::new(self.protocol), outcome: Err(error), work: self.work }
    }
}

impl Back {
    /// The same from its beginning: it did nothing.
    fn again(mut self) -> Trip {
        self.session.is_shut_out = false;
        Trip { session: self.session, args: self.args, protocol: self.reply.protocol(), work: self.work }
    }
}

type Run = Coroutine<(), (), Back>;

/// Who is told how a run ended.
struct Asker {
    waiter: Arc<Waiter>,
    shelf: Shelf,
    began_ns: u64,
}

/// What a thread has that can leave runs where they stand.
struct Here {
    stack: Option<DefaultStack>,
    standing: Option<(Run, Asker)>,
    wake: Arc<Notify>,
}

thread_local! {
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };
}

/// Carries a command out where it can be left.
pub(crate) fn carry(session: &mut Session, args: Args<'_>, reply: &mut Reply, work: Work) -> Outcome {
    let is_kept = HERE.with_borrow(Option::is_some);
    if is_kept { carry_here(session, args, reply, work) } else { carry_elsewhere(session, args, reply, work) }
}

fn carry_here(session: &mut Session, args: Args<'_>, reply: &mut Reply, work: Work) -> Outcome {
    let stack = HERE.with_borrow_mut(|here| here.as_mut().and_then(|here| here.stack.take()));
    let stack = match stack {
        Some(stack) => stack,
        None => DefaultStack::new(STACK_BYTES).map_err(|cause| no_stack(&cause))?,
    };
    let began_ns = session.now_ns;
    let trip = Trip { session: session.go_away(), args: args.to_owned(), protocol: reply.protocol(), work };
    let mut run = trip.on(stack);
    match run.resume(()) {
        CoroutineResult::Return(back) => {
            HERE.with_borrow_mut(|here| here.as_mut().expect("it was there before").stack = Some(run.into_stack()));
            session.take_back(back.session);
            reply.append(back.reply);
            back.outcome
        }
        CoroutineResult::Yield(()) => {
            let waiter = session.waiter(args, reply);
            let asker = Asker { waiter: Arc::clone(&waiter), shelf: session.shelf(), began_ns };
            HERE.with_borrow_mut(|here| {
                let here = here.as_mut().expect("it was there before");
                assert!(here.standing.is_none(), "scripts run one at a time");
                here.standing = Some((run, asker));
                here.wake.notify_one();
            });
            session.block = Some(Block { waiter, timeout_ms: None, tries_again: false, is_under_way: true });
            Ok(())
        }
    }
}

fn carry_elsewhere(session: &mut Session, args: Args<'_>, reply: &Reply, work: Work) -> Outcome {
    let waiter = session.waiter(args, reply);
    let instance = Arc::clone(&session.instance);
    let began_ns = session.now_ns;
    let away = session.go_away();
    let asker = Asker { waiter: Arc::clone(&waiter), shelf: session.shelf(), began_ns };
    let trip = Trip { session: away, args: args.to_owned(), protocol: reply.protocol(), work };
    if let Err((error, trip)) = instance.scripts.runner.take_on(instance.lifecycle(), trip, asker) {
        session.take_back(trip.session);
        return Err(error);
    }
    session.block = Some(Block { waiter, timeout_ms: None, tries_again: false, is_under_way: true });
    Ok(())
}

/// The thread for scripts of those whose threads cannot leave one where it stands. Since scripts run one at a time, one is enough.
#[derive(Default)]
pub(crate) struct Runner {
    jobs: Mutex<Jobs>,
    came: Condvar,
}

#[derive(Default)]
struct Jobs {
    queue: VecDeque<(Trip, Asker)>,
    is_started: bool,
    is_over: bool,
}

/// What the runner has in hand.
#[derive(Default)]
struct Hands {
    stack: Option<DefaultStack>,
    standing: Option<(Run, Asker)>,
    held_back: Vec<(Trip, Asker)>,
}

impl Runner {
    fn take_on(self: &Arc<Self>, lifecycle: &Lifecycle, trip: Trip, asker: Asker) -> Result<(), (Error, Trip)> {
        let mut jobs = self.jobs.lock();
        if jobs.is_over {
            return Err((Error::text("ERR the server ends, and runs no scripts any more"), trip));
        }
        if !jobs.is_started {
            let runner = Arc::clone(self);
            let plan = Plan::new("script", Phase::Finish).wakes(self, |runner| {
                let _jobs = runner.jobs.lock();
                runner.came.notify_all();
            });
            if let Err(cause) = lifecycle.start(plan, move |stop| runner.live(stop)) {
                return Err((Error::new(format!("ERR no thread could be started: {cause}")), trip));
            }
            jobs.is_started = true;
        }
        jobs.queue.push_back((trip, asker));
        self.came.notify_one();
        Ok(())
    }

    fn live(&self, stop: &Stop) {
        let mut hands = Hands::default();
        while self.wait(stop, &mut hands) {
            hands.go_on();
        }
    }

    /// Waits for something to do; false at the end.
    fn wait(&self, stop: &Stop, hands: &mut Hands) -> bool {
        let mut jobs = self.jobs.lock();
        let is_busy = hands.standing.is_some() || !hands.held_back.is_empty();
        while jobs.queue.is_empty() && !is_busy && !stop.is_asked() {
            self.came.wait(&mut jobs);
        }
        if is_busy && jobs.queue.is_empty() {
            self.came.wait_for(&mut jobs, REST);
        }
        hands.held_back.extend(jobs.queue.drain(..));
        jobs.is_over = stop.is_asked() && hands.standing.is_none() && hands.held_back.is_empty();
        !jobs.is_over
    }
}

impl Hands {
    fn go_on(&mut self) {
        if let Some((run, asker)) = self.standing.take() {
            self.step(run, asker);
        }
        for (trip, asker) in mem::take(&mut self.held_back) {
            if self.standing.is_none() {
                self.begin(trip, asker);
            } else {
                self.hold_back(trip, asker);
            }
        }
    }

    fn begin(&mut self, trip: Trip, asker: Asker) {
        match self.stack.take().map_or_else(|| DefaultStack::new(STACK_BYTES), Ok) {
            Ok(stack) => self.step(trip.on(stack), asker),
            Err(cause) => tell(trip.refused(no_stack(&cause)), asker),
        }
    }

    fn step(&mut self, mut run: Run, asker: Asker) {
        match run.resume(()) {
            CoroutineResult::Yield(()) => self.standing = Some((run, asker)),
            CoroutineResult::Return(back) => {
                self.stack = Some(run.into_stack());
                if back.session.is_shut_out { self.hold_back(back.again(), asker) } else { tell(back, asker) }
            }
        }
    }

    /// Another script takes long: it is tried again, or given up when that has run for too long.
    fn hold_back(&mut self, trip: Trip, asker: Asker) {
        let instance = &trip.session.instance;
        if instance.engine.solo().is_shut() && instance.scripts.running.patience_ms(&instance.config) == 0 {
            let busy = instance.scripts.running.busy();
            tell(trip.refused(busy), asker);
        } else {
            self.held_back.push((trip, asker));
        }
    }
}

fn no_stack(cause: &io::Error) -> Error {
    Error::new(format!("ERR there is no memory for the script's stack: {cause}"))
}

/// Leaves the answer for who asked, and the session.
fn tell(back: Back, asker: Asker) {
    let Back { mut session, args, mut reply, outcome, .. } = back;
    let args = args.args();
    if !session.missing.is_empty() {
        let missing = session.take_missing();
        let instance = Arc::clone(&session.instance);
        *asker.shelf.lock() = Some(session);
        // It gets another try once they are there.
        instance.engine.loads().fetch(missing, &asker.waiter);
        return;
    }
    session.let_go_of_values();
    session.tick();
    let took_ns = session.now_ns.saturating_sub(asker.began_ns);
    let has_failed = mem::take(&mut session.has_failed_inside) || outcome.is_err();
    if let Err(error) = outcome {
        reply.truncate(0);
        session.instance.stats.error(&error.0);
        reply.error(&error.0);
    }
    if let Some((number, command)) = session.instance.table.find(args.at(0)) {
        session.count(number, took_ns, has_failed);
        slowlog::note(&session, command, args, took_ns);
    }
    let epoch = mem::take(&mut session.wrote_epoch);
    *asker.shelf.lock() = Some(session);
    if asker.waiter.end() {
        asker.waiter.mailbox.serve(reply.take(), epoch);
    }
}

/// The life of the task that goes on with what stands on this thread's own stack. To be run by the runtime that carries its connections.
pub(crate) fn keep() -> impl Future<Output = ()> + Send {
    let wake = Arc::new(Notify::new());
    let here = Here { stack: None, standing: None, wake: Arc::clone(&wake) };
    HERE.set(Some(here));
    async move {
        loop {
            wake.notified().await;
            while go_on() {
                tokio::time::sleep(REST).await;
            }
        }
    }
}

/// Ends what stands here, before its thread does.
pub(crate) fn end_here(instance: &Instance) {
    loop {
        let stands = HERE.with_borrow(|here| here.as_ref().is_some_and(|here| here.standing.is_some()));
        if !stands {
            break;
        }
        instance.scripts.running.end_now();
        go_on();
    }
    HERE.set(None);
}

/// Goes on with what stands here; false if nothing stands here any more.
fn go_on() -> bool {
    let standing = HERE.with_borrow_mut(|here| here.as_mut().and_then(|here| here.standing.take()));
    let Some((mut run, asker)) = standing else { return false };
    match run.resume(()) {
        CoroutineResult::Yield(()) => {
            HERE.with_borrow_mut(|here| here.as_mut().expect("it was there before").standing = Some((run, asker)));
            true
        }
        CoroutineResult::Return(back) => {
            HERE.with_borrow_mut(|here| here.as_mut().expect("it was there before").stack = Some(run.into_stack()));
            tell(back, asker);
            false
        }
    }
}
