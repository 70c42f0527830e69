//! Payloads are checked before a call is made of them, and schemas are compiled when a peer registers: at once where that takes less than a
//! millisecond, else on a thread of their own, so that no thread that serves clients is held up by what a stranger sent.
//!
//! Who has to wait for that thread waits in a line of its own, and the lines take turns: one client's checks, however
//! long, delay another's by one check each. The thread makes the call itself once the payload was found fit; other work is
//! found done by the command that wanted it, which is run again.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::clock;
use crate::engine::block::Waiter;
use crate::engine::mailbox::Ended;
use crate::lifecycle::{Phase, Plan};
use crate::peers::calls::{Caller, Failure, Ongoing, Order, PartsTaken, TIMEOUT_MS};
use crate::peers::directory::{Capability, Id};
use crate::peers::room::Room;
use crate::peers::schema::{Budget, CHECK_STEPS_MAX, INLINE_STEPS_MAX, Spent, Unfit};
use crate::peers::{calling, old, wire};

/// Bytes of a payload that are read at once to see whether they are JSON: less than a millisecond.
const INLINE_BYTES_MAX: usize = 512 * 1024;
/// Checks that may wait: as many as the thread gets through before the deadline of callers that name none (a tenth of a second each).
const WAITING_MAX: usize = 256;
/// Checks of one caller that may wait: a connection waits for each of its own, so only a peer with many, or an old one, has more.
const WAITING_OF_ONE_MAX: usize = 64;
/// Bytes of payloads that wait to be checked, of all and of one caller.
const BYTES_MAX: usize = 512 << 20;
const BYTES_OF_ONE_MAX: usize = 64 << 20;

/// Whose line a check waits in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Origin {
    /// A peer's.
    Peer(Id),
    /// That of a connection which is no peer.
    Client(u64),
    /// A caller's within the process, by the name it gave; the capability stands for those without.
    Within(Id),
}

/// Who waits for a call to be made, and gets its id, or hears why it is not made.
pub(crate) enum Asker {
    /// A session that waits for the call's id.
    Id(Arc<Waiter>),
    /// A session that waits for the call's outcome. The cell gets the call's id.
    Outcome(Arc<Waiter>, Arc<OnceLock<Id>>),
    /// Someone within the process, and where the call's parts go.
    Within(oneshot::Sender<Result<Ongoing, Failure>>, PartsTaken),
    /// An old peer, that gave this job.
    Old(wire::Job),
}

impl Asker {
    fn is_there(&self) -> bool {
        match self {
            Asker::Id(waiter) | Asker::Outcome(waiter, _) => !waiter.is_over(),
            Asker::Within(sender, _) => !sender.is_closed(),
            Asker::Old(_) => true,
        }
    }

    /// Tells of the call. It is cancelled where nobody is there any more who wants its outcome.
    fn tell(self, room: &Room, made: Result<Id, Failure>) {
        match (self, made) {
            (Asker::Id(waiter), made) => {
                if waiter.end() {
                    calling::answer(&waiter, |reply| match made {
                        Ok(id) => reply.bulk(id.as_bytes()),
                        Err(failure) => reply.error(&failure.to_string()),
                    });
                }
            }
            (Asker::Outcome(waiter, _), Err(failure)) => {
                if waiter.end() {
                    calling::answer(&waiter, |reply| reply.error(&failure.to_string()));
                }
            }
            (Asker::Outcome(waiter, cell), Ok(id)) => {
                {
                    // Under the lock, as `calling::left` looks at it: one of the two sees what the other did.
                    let _state = room.state.lock();
                    let _ = cell.set(Arc::clone(&id));
                }
                if waiter.is_over() {
                    room.cancel_in_process(&id);
                }
            }
            (Asker::Within(sender, parts), made) => {
                let Some(room) = room.this() else { return };
                // One that nobody takes is dropped, which cancels it.
                let _ = sender.send(made.map(|id| room.ongoing(id, parts)));
            }
            (Asker::Old(job), Err(failure)) => old::refuse(room, &job, failure),
            (Asker::Old(_), Ok(_)) => {}
        }
    }
}

/// What is found out at once.
pub(crate) enum Found {
    /// The payload is fit.
    Fit,
    /// It would take too long here.
    TooLong,
}

/// Checks a payload as far as that takes no time to speak of.
pub(crate) fn at_once(room: &Room, order: &Order) -> Result<Found, Failure> {
    if order.payload.len() > INLINE_BYTES_MAX {
        return Ok(Found::TooLong);
    }
    match check(room, order, &mut Budget::new(INLINE_STEPS_MAX)) {
        Ok(()) => Ok(Found::Fit),
        Err(Unfit::Unknown(_)) => Ok(Found::TooLong),
        Err(Unfit::Invalid(why)) => Err(Failure::new("INVALID", why)),
    }
}

/// Checks that a payload is JSON, and what the schema asks for of whoever will get it.
fn check(room: &Room, order: &Order, budget: &mut Budget<'_>) -> Result<(), Unfit> {
    wire::json("payload", &order.payload).map_err(|error| Unfit::Invalid(error.0.trim_start_matches("INVALID ").to_owned()))?;
    let schema = {
        let state = room.state.lock();
        let first = || state.directory.with_capability(&order.capability)?.iter().next();
        let peer = order.to.as_ref().or_else(first);
        let peer = peer.and_then(|peer| state.directory.get(peer));
        peer.and_then(|peer| peer.capability(&order.capability)).and_then(|Capability { schema, .. }| schema.clone())
    };
    let Some(schema) = schema else { return Ok(()) };
    schema.1.check(&order.payload, budget).map_err(|unfit| match unfit {
        Unfit::Invalid(why) => Unfit::Invalid(format!("payload of \"{}\": {why}", order.capability)),
        unknown => unknown,
    })
}

/// Checks and other work that wait, and the thread that does them.
#[derive(Default)]
pub struct Checks {
    lines: Mutex<Lines>,
    bell: Condvar,
    is_ending: AtomicBool,
    is_started: OnceLock<bool>,
}

impl Checks {
    /// Puts a check in its line. Who asks is asked for only where there is a place.
    pub(crate) fn add(
        &self,
        room: &Room,
        origin: &Origin,
        order: Order,
        caller: Caller,
        asker: impl FnOnce() -> Asker,
    ) -> Result<(), Failure> {
        let (bytes, timeout_ms) = (order.payload.len(), order.timeout_ms);
        self.join(room, origin, bytes, timeout_ms, || Task::Check { order, caller, asker: asker() })
    }

    /// Puts other work in its line. The command that waits for it is run again when it is done, or, with the reason, will not be done.
    pub(crate) fn add_work(
        &self,
        room: &Room,
        origin: &Origin,
        waiter: Arc<Waiter>,
        bytes: usize,
        run: impl FnOnce(Result<(), Failure>) + Send + 'static,
    ) -> Result<(), Failure> {
        let task = || Task::Work(Work { waiter, bytes, run: Box::new(run) });
        self.join(room, origin, bytes, TIMEOUT_MS, task)
    }

    fn join(
        &self,
        room: &Room,
        origin: &Origin,
        bytes: usize,
        timeout_ms: u64,
        task: impl FnOnce() -> Task,
    ) -> Result<(), Failure> {
        if !self.is_started.get_or_init(|| self.start(room).is_some()) {
            return Err(Failure::new("BUSY", "the thread that checks long payloads could not be started: send less at once"));
        }
        let mut lines = self.lines.lock();
        lines.admit(origin, bytes)?;
        let until = clock::monotonic_ms().saturating_add(timeout_ms);
        lines.add(origin, Waiting { task: task(), until, timeout_ms });
        drop(lines);
        self.bell.notify_one();
        Ok(())
    }

    fn start(&self, room: &Room) -> Option<()> {
        let (room, instance) = (room.this()?, room.instance()?);
        let plan = Plan::new("checks", Phase::Rooms).wakes(&room, |room| room.checks.end());
        instance.lifecycle().start(plan, move |_| room.checks.carry(&room)).ok()
    }

    /// Has the thread end. Who still waits hears that the server ends.
    fn end(&self) {
        self.is_ending.store(true, Relaxed);
        // Taken, so that the bell cannot ring between the thread's look at the flag and its sleep.
        drop(self.lines.lock());
        self.bell.notify_one();
    }

    fn carry(&self, room: &Room) {
        while !self.is_ending.load(Relaxed) {
            let (next, over) = self.next();
            over.into_iter().for_each(|(waiting, why)| waiting.task.give_up(room, why));
            if let Some(waiting) = next {
                self.run(room, waiting);
            }
        }
        let rest = self.lines.lock().take_if(|_| Some(Failure::new("GONE", "the server ends")));
        rest.into_iter().for_each(|(waiting, why)| waiting.task.give_up(room, why));
    }

    /// Waits for a check. Those that nobody waits for any more, or whose time is over, are taken out with the reason: also while
    /// there are others, so that a caller hears of its deadline one check late at most.
    fn next(&self) -> (Option<Waiting>, Vec<(Waiting, Failure)>) {
        let mut lines = self.lines.lock();
        if lines.count == 0 && !self.is_ending.load(Relaxed) {
            self.bell.wait(&mut lines);
        }
        let now = clock::monotonic_ms();
        let over = lines.take_if(|waiting| waiting.is_over(now).then(|| timeout(waiting.timeout_ms)));
        (lines.pop(), over)
    }

    fn run(&self, room: &Room, waiting: Waiting) {
        let Waiting { task, until, timeout_ms } = waiting;
        let (mut order, caller, asker) = match task {
            Task::Work(work) => return work.end(Ok(())),
            Task::Check { order, caller, asker } => (order, caller, asker),
        };
        let is_wanted = || !self.is_ending.load(Relaxed) && asker.is_there() && until > clock::monotonic_ms();
        let found = check(room, &order, &mut Budget::while_wanted(CHECK_STEPS_MAX, &is_wanted));
        let failure = match found {
            Ok(()) if is_wanted() => {
                let Some(mut session) = room.session() else { return };
                order.timeout_ms = until.saturating_sub(clock::monotonic_ms()).max(1);
                let made = calling::make_checked(room, &mut session, order, caller);
                return asker.tell(room, made);
            }
            Err(Unfit::Invalid(why)) => Failure::new("INVALID", why),
            Err(Unfit::Unknown(Spent::Steps)) => too_long(&order.capability),
            _ if self.is_ending.load(Relaxed) => Failure::new("GONE", "the server ends"),
            _ => timeout(timeout_ms),
        };
        asker.tell(room, Err(failure));
    }
}

fn timeout(timeout_ms: u64) -> Failure {
    Failure::new("TIMEOUT", format!("timeout after {timeout_ms} ms"))
}

fn too_long(capability: &str) -> Failure {
    let text = format!(
        "payload of \"{capability}\": checking it against the schema would take more than {CHECK_STEPS_MAX} steps: send less at \
         once, or have the schema's patterns, alternatives and references simplified"
    );
    Failure::new("INVALID", text)
}

/// What waits for the thread.
struct Waiting {
    task: Task,
    /// Its deadline, on the monotonic clock.
    until: u64,
    timeout_ms: u64,
}

enum Task {
    /// A payload is to be checked, and a call to be made then.
    Check {
        order: Order,
        /// Who gets the call's outcome.
        caller: Caller,
        /// Who waits until it is made.
        asker: Asker,
    },
    Work(Work),
}

/// Work for a command that is run again then.
struct Work {
    waiter: Arc<Waiter>,
    /// What it is done about.
    bytes: usize,
    run: Box<dyn FnOnce(Result<(), Failure>) + Send>,
}

impl Waiting {
    fn is_over(&self, now: u64) -> bool {
        self.until <= now || !self.task.is_wanted()
    }
}

impl Task {
    fn is_wanted(&self) -> bool {
        match self {
            Task::Check { asker, .. } => asker.is_there(),
            Task::Work(work) => !work.waiter.is_over(),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Task::Check { order, .. } => order.payload.len(),
            Task::Work(work) => work.bytes,
        }
    }

    fn give_up(self, room: &Room, why: Failure) {
        match self {
            Task::Check { asker, .. } => asker.tell(room, Err(why)),
            Task::Work(work) => work.end(Err(why)),
        }
    }
}

impl Work {
    fn end(self, may_run: Result<(), Failure>) {
        (self.run)(may_run);
        if self.waiter.end() {
            self.waiter.mailbox.end(Ended::Again);
        }
    }
}

/// A line for each caller, which take turns.
#[derive(Default)]
struct Lines {
    lines: HashMap<Origin, VecDeque<Waiting>>,
    turns: VecDeque<Origin>,
    count: usize,
    bytes: usize,
}

impl Lines {
    /// Whether there is a place for one more.
    fn admit(&self, origin: &Origin, bytes: usize) -> Result<(), Failure> {
        let busy = |what: &str| Err(Failure::new("BUSY", format!("{what} wait to be checked already: try again later")));
        if self.count == WAITING_MAX || self.count > 0 && self.bytes + bytes > BYTES_MAX {
            return busy("too many payloads");
        }
        if let Some(line) = self.lines.get(origin) {
            let bytes_of_one: usize = line.iter().map(|waiting| waiting.task.bytes()).sum();
            if line.len() == WAITING_OF_ONE_MAX || bytes_of_one + bytes > BYTES_OF_ONE_MAX {
                return busy("too many payloads of this caller");
            }
        }
        Ok(())
    }

    fn add(&mut self, origin: &Origin, waiting: Waiting) {
        self.count += 1;
        self.bytes += waiting.task.bytes();
        let line = self.lines.entry(origin.clone()).or_default();
        if line.is_empty() {
            self.turns.push_back(origin.clone());
        }
        line.push_back(waiting);
    }

    /// The first of the line whose turn it is.
    fn pop(&mut self) -> Option<Waiting> {
        let origin = self.turns.pop_front()?;
        let line = self.lines.get_mut(&origin)?;
        let next = line.pop_front()?;
        if line.is_empty() {
            self.lines.remove(&origin);
        } else {
            self.turns.push_back(origin);
        }
        self.count -= 1;
        self.bytes -= next.task.bytes();
        Some(next)
    }

    /// Takes those out for which there is a reason to.
    fn take_if(&mut self, why: impl Fn(&Waiting) -> Option<Failure>) -> Vec<(Waiting, Failure)> {
        let mut taken = Vec::new();
        for line in self.lines.values_mut() {
            for waiting in std::mem::take(line) {
                match why(&waiting) {
                    Some(failure) => taken.push((waiting, failure)),
                    None => line.push_back(waiting),
                }
            }
        }
        self.lines.retain(|_, line| !line.is_empty());
        self.turns.retain(|origin| self.lines.contains_key(origin));
        self.count -= taken.len();
        self.bytes -= taken.iter().map(|(waiting, _)| waiting.task.bytes()).sum::<usize>();
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds a check, or says why it may not.
    fn add(lines: &mut Lines, origin: &Origin, payload: usize, until: u64) -> Result<(), Failure> {
        lines.admit(origin, payload)?;
        let order = Order::new("work", &vec![b'1'; payload]);
        let job = wire::Job { id: "job".into(), function: "work".into(), payload: None, source: "old".into(), attempt: None };
        let caller = Caller::Old("old".into(), "job".into());
        lines.add(origin, Waiting { task: Task::Check { order, caller, asker: Asker::Old(job) }, until, timeout_ms: 7 });
        Ok(())
    }

    #[test]
    fn lines_take_turns_however_long_one_of_them_is() {
        let mut lines = Lines::default();
        for until in 0..10 {
            add(&mut lines, &Origin::Client(1), 1, until).unwrap();
        }
        add(&mut lines, &Origin::Peer("p".into()), 1, 99).unwrap();
        let order: Vec<u64> = std::iter::from_fn(|| lines.pop()).map(|waiting| waiting.until).collect();
        assert_eq!(order, [0, 99, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!((lines.count, lines.bytes, lines.lines.len(), lines.turns.len()), (0, 0, 0, 0));
    }

    #[test]
    fn no_caller_and_not_all_together_can_leave_more_than_the_bounds() {
        let mut lines = Lines::default();
        let fill = |lines: &mut Lines, origins: &mut dyn Iterator<Item = Origin>| {
            origins.take_while(|origin| add(lines, origin, 1, 5).is_ok()).count()
        };
        assert_eq!(fill(&mut lines, &mut std::iter::repeat(Origin::Client(0))), WAITING_OF_ONE_MAX);
        assert_eq!(fill(&mut lines, &mut (1..).map(Origin::Client)), WAITING_MAX - WAITING_OF_ONE_MAX);
        let failure = add(&mut lines, &Origin::Client(9999), 1, 5).unwrap_err();
        assert_eq!(failure.to_string(), "BUSY too many payloads wait to be checked already: try again later");
        let mut lines = Lines::default();
        add(&mut lines, &Origin::Client(0), BYTES_OF_ONE_MAX, 5).unwrap();
        assert_eq!(add(&mut lines, &Origin::Client(0), 1, 5).unwrap_err().code, "BUSY");
        add(&mut lines, &Origin::Client(1), 1, 5).unwrap();
    }

    #[test]
    fn what_is_overdue_leaves_its_line_while_others_stay() {
        let mut lines = Lines::default();
        for (client, until) in [(1, 10), (2, 20), (1, 30)] {
            add(&mut lines, &Origin::Client(client), 3, until).unwrap();
        }
        let over = lines.take_if(|waiting| waiting.is_over(20).then(|| timeout(waiting.timeout_ms)));
        assert_eq!(over.len(), 2);
        assert!(over.iter().all(|(_, failure)| failure.to_string() == "TIMEOUT timeout after 7 ms"));
        assert_eq!((lines.count, lines.bytes), (1, 3));
        assert_eq!(lines.pop().map(|waiting| waiting.until), Some(30));
        assert!(lines.pop().is_none());
    }
}
