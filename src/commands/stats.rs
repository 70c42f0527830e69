//! What the commands cost: calls, time and failures of each. Every worker counts for itself and only `INFO` adds up, so
//! counting costs no contention.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};

use parking_lot::Mutex;

use crate::engine::gate::Gate;
use crate::machine;
use crate::metrics::{Histogram, Recent};

/// One command's numbers. Written by one worker, read by any.
#[derive(Default)]
pub(crate) struct CommandStats {
    /// Times it ran.
    pub calls: AtomicU64,
    /// Nanoseconds it took in all.
    pub nanoseconds: AtomicU64,
    /// Times it was refused before it ran.
    pub rejected: AtomicU64,
    /// Times it answered with an error.
    pub failed: AtomicU64,
    /// Calls by time, while `latency-tracking` is on.
    pub times: OnceLock<Box<Histogram>>,
}

/// Adds without a locked instruction; right only where one thread writes.
#[inline]
fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(amount), Relaxed);
}

impl CommandStats {
    /// Notes a call.
    #[inline]
    pub(crate) fn called(&self, nanoseconds: u64, failed: bool, is_tracked: bool) {
        add(&self.calls, 1);
        add(&self.nanoseconds, nanoseconds);
        add(&self.failed, u64::from(failed));
        if is_tracked {
            self.times.get_or_init(Box::default).add(nanoseconds);
        }
    }

    /// Notes that a call, which had waited, ended with an error.
    pub(crate) fn failed_later(&self) {
        add(&self.failed, 1);
    }

    /// Notes a call that was refused.
    pub(crate) fn rejected(&self) {
        add(&self.rejected, 1);
    }

    fn counters(&self) -> [&AtomicU64; 4] {
        [&self.calls, &self.nanoseconds, &self.rejected, &self.failed]
    }
}

/// See [`Stats::number`].
static NUMBERS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// See [`Stats::here`].
    static HERE: RefCell<Vec<(u64, Arc<WorkerStats>)>> = const { RefCell::new(Vec::new()) };
}

/// One worker's numbers. Written by its thread only.
#[derive(Default)]
pub struct WorkerStats {
    /// By the command's number in the table.
    pub(crate) commands: Box<[CommandStats]>,
    /// Bytes read from clients.
    pub(crate) bytes_in: AtomicU64,
    /// Bytes sent to clients.
    pub(crate) bytes_out: AtomicU64,
    /// Times that some were read.
    pub(crate) reads: AtomicU64,
    /// Times that some were sent.
    pub(crate) writes: AtomicU64,
    /// Connections it carries.
    pub(crate) clients: AtomicU64,
    /// Bytes their buffers take. A sum of differences: only the sum over all workers means something where one ends.
    pub(crate) buffer_bytes: AtomicU64,
    /// The longest that clients had sent and was not run yet.
    pub(crate) input_peak: Recent,
    /// The longest that waited to be taken by a client.
    pub(crate) output_peak: Recent,
    /// Times a client's buffer for replies became larger.
    pub(crate) buffers_grown: AtomicU64,
    /// Times one was given back.
    pub(crate) buffers_shrunk: AtomicU64,
    /// Bytes of buffers for replies that were freed, sent or not.
    pub(crate) freed_bytes: AtomicU64,
    /// Looks at what a client has sent.
    pub(crate) turns: AtomicU64,
    /// Those that found a whole command.
    pub(crate) full_turns: AtomicU64,
    /// The commands they found.
    pub(crate) turn_commands: AtomicU64,
    /// Times the thread woke.
    pub(crate) wakes: AtomicU64,
    /// Those in which it looked at what a client had sent.
    pub(crate) busy_wakes: AtomicU64,
    turns_at_wake: AtomicU64,
    /// The system's number of its thread, where it has one of its own.
    thread: OnceLock<u32>,
}

impl WorkerStats {
    fn new(commands: usize) -> WorkerStats {
        WorkerStats { commands: (0..commands).map(|_| CommandStats::default()).collect(), ..WorkerStats::default() }
    }

    /// Notes bytes that came and went.
    pub(crate) fn moved(&self, bytes_in: usize, bytes_out: usize) {
        add(&self.bytes_in, bytes_in as u64);
        add(&self.bytes_out, bytes_out as u64);
        add(&self.reads, u64::from(bytes_in > 0));
        add(&self.writes, u64::from(bytes_out > 0));
    }

    /// Notes a look at what a client has sent, and the commands that were in it.
    pub(crate) fn turned(&self, commands: u64) {
        add(&self.turns, 1);
        add(&self.full_turns, u64::from(commands > 0));
        add(&self.turn_commands, commands);
    }

    /// Notes that the thread woke: what it did since it woke before is known now.
    pub(crate) fn woke(&self) {
        let turns = self.turns.load(Relaxed);
        add(&self.wakes, 1);
        add(&self.busy_wakes, u64::from(turns != self.turns_at_wake.load(Relaxed)));
        self.turns_at_wake.store(turns, Relaxed);
    }

    /// Notes that a client came, or that one is gone.
    pub(crate) fn carries(&self, one_more: bool) {
        add(&self.clients, if one_more { 1 } else { u64::MAX });
    }

    /// Notes how the buffers of a client changed.
    pub(crate) fn resized(&self, before: Buffers, now: Buffers) {
        add(&self.buffer_bytes, now.bytes().wrapping_sub(before.bytes()));
        add(&self.buffers_grown, u64::from(now.output > before.output));
        add(&self.buffers_shrunk, u64::from(now.output < before.output));
        add(&self.freed_bytes, before.output.saturating_sub(now.output) as u64);
    }

    /// Notes that the buffers of a client are gone.
    pub(crate) fn released(&self, buffers: Buffers) {
        add(&self.buffer_bytes, buffers.bytes().wrapping_neg());
        add(&self.freed_bytes, buffers.output as u64);
    }

    /// Says that the calling thread is this worker.
    pub(crate) fn is_this_thread(&self) {
        self.thread.get_or_init(machine::thread_number);
    }

    /// The system's number of its thread.
    pub(crate) fn thread(&self) -> Option<u32> {
        self.thread.get().copied()
    }

    fn counters(&self) -> [&AtomicU64; 13] {
        [
            &self.bytes_in,
            &self.bytes_out,
            &self.reads,
            &self.writes,
            &self.buffers_grown,
            &self.buffers_shrunk,
            &self.turns,
            &self.full_turns,
            &self.turn_commands,
            &self.wakes,
            &self.busy_wakes,
            &self.turns_at_wake,
            &self.buffer_bytes,
        ]
    }

    /// Adds the numbers of a worker that is gone.
    fn take_over(&self, other: &WorkerStats) {
        self.counters().into_iter().zip(other.counters()).for_each(|(mine, theirs)| add(mine, theirs.load(Relaxed)));
        for (mine, theirs) in self.commands.iter().zip(&other.commands) {
            mine.counters().into_iter().zip(theirs.counters()).for_each(|(mine, theirs)| add(mine, theirs.load(Relaxed)));
            if let Some(times) = theirs.times.get() {
                mine.times.get_or_init(Box::default).take_over(times);
            }
        }
    }

    fn reset(&self) {
        // What is held now is no statistic.
        self.counters().into_iter().filter(|counter| !std::ptr::eq(*counter, &self.buffer_bytes)).for_each(clear);
        for command in &self.commands {
            command.counters().into_iter().for_each(clear);
            if let Some(times) = command.times.get() {
                times.reset();
            }
        }
        self.input_peak.reset();
        self.output_peak.reset();
    }
}

fn clear(counter: &AtomicU64) {
    counter.store(0, Relaxed);
}

/// The capacity of a client's buffers.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Buffers {
    /// Of what it has sent.
    pub input: usize,
    /// Of what waits for it.
    pub output: usize,
}

impl Buffers {
    fn bytes(self) -> u64 {
        (self.input + self.output) as u64
    }
}

/// One command's numbers, added up.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct CommandSum {
    /// Times it ran.
    pub calls: u64,
    /// Nanoseconds it took in all.
    pub nanoseconds: u64,
    /// Times it was refused before it ran.
    pub rejected: u64,
    /// Times it answered with an error.
    pub failed: u64,
}

/// All workers' numbers, added up; the names are those of [`WorkerStats`].
#[derive(Debug, Default, Clone)]
pub(crate) struct Sums {
    pub commands: u64,
    pub nanoseconds: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub reads: u64,
    pub writes: u64,
    pub buffer_bytes: u64,
    pub input_peak: u64,
    pub output_peak: u64,
    pub buffers_grown: u64,
    pub buffers_shrunk: u64,
    pub turns: u64,
    pub full_turns: u64,
    pub turn_commands: u64,
    pub wakes: u64,
    pub busy_wakes: u64,
    /// Those with a thread of their own, in the order they started.
    pub threads: Vec<ThreadSum>,
}

/// A worker that has a thread of its own.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct ThreadSum {
    /// The system's number of it.
    pub number: u32,
    /// Connections it carries.
    pub clients: u64,
    /// Commands it ran.
    pub commands: u64,
    /// Times it read.
    pub reads: u64,
    /// Times it sent.
    pub writes: u64,
}

/// What the sweep of keys whose time is over came to.
#[derive(Default)]
pub(crate) struct Sweeps {
    /// Microseconds it took.
    pub us: AtomicU64,
    /// Rounds that ended because they took long, before all was removed.
    pub capped: AtomicU64,
    /// Fields of hashes removed.
    pub fields: AtomicU64,
    /// Which share of the keys with a time a round found over, in millionths: the mean of the last rounds.
    pub stale_keys_ppm: AtomicU64,
    /// The same for hashes with fields that expire.
    pub stale_hashes_ppm: AtomicU64,
}

/// Weighs a round's share against the mean so far, as Redis does: a twentieth.
const STALE_WEIGHT: u64 = 20;

/// Adds a round to a mean of shares.
pub(crate) fn mean_share(mean_ppm: &AtomicU64, part: u64, whole: u64) {
    let share = (part * 1_000_000).checked_div(whole).unwrap_or(0);
    mean_ppm.store((mean_ppm.load(Relaxed) * (STALE_WEIGHT - 1) + share) / STALE_WEIGHT, Relaxed);
}

/// For how long memory was above `maxmemory`, as chores see it between two rounds.
#[derive(Default)]
pub(crate) struct Exceeded {
    /// Since when, in milliseconds of the monotonic clock; 0 for not now.
    since: AtomicU64,
    /// In milliseconds, without the time it is now.
    past_ms: AtomicU64,
}

impl Exceeded {
    /// Notes whether it is now.
    pub(crate) fn note(&self, is_exceeded: bool, now: u64) {
        if is_exceeded {
            let _ = self.since.compare_exchange(0, now, Relaxed, Relaxed);
        } else if let since @ 1.. = self.since.swap(0, Relaxed) {
            self.past_ms.fetch_add(now.saturating_sub(since), Relaxed);
        }
    }

    /// The milliseconds in all, and for how many it is now.
    pub(crate) fn total_and_current_ms(&self, now: u64) -> (u64, u64) {
        let current = match self.since.load(Relaxed) {
            0 => 0,
            since => now.saturating_sub(since),
        };
        (self.past_ms.load(Relaxed) + current, current)
    }
}

/// All workers' numbers, and those that come too seldom to be counted by each.
pub struct Stats {
    /// Tells it from those of other servers in this process.
    number: u64,
    /// How many there are.
    commands: usize,
    /// `latency-tracking`.
    pub is_tracking: AtomicBool,
    workers: Mutex<Vec<Arc<WorkerStats>>>,
    gates: Mutex<Vec<Weak<Gate>>>,
    /// Error replies by their first word.
    pub(crate) errors: Mutex<BTreeMap<String, u64>>,
    /// All error replies.
    pub(crate) error_replies: AtomicU64,
    /// Connections refused because there were too many.
    pub(crate) rejected_connections: AtomicU64,
    /// Passwords that were wrong.
    pub(crate) denied_logins: AtomicU64,
    /// Clients cut because their request was longer than `client-query-buffer-limit`.
    pub(crate) cut_queries: AtomicU64,
    /// Clients cut because more waited for them than `client-output-buffer-limit` allows.
    pub(crate) cut_readers: AtomicU64,
    /// Clients that wait for keys until some time at most.
    pub(crate) timed_waits: AtomicU64,
    /// The second it is on the monotonic clock, as chores saw it last: what is noted with each reply must not cost a look at the clock.
    pub(crate) second: AtomicU64,
    /// Keys whose time is over.
    pub(crate) sweeps: Sweeps,
    /// Memory above `maxmemory`.
    pub(crate) exceeded: Exceeded,
}

impl Stats {
    /// Of so many commands.
    pub(crate) fn new(commands: usize) -> Stats {
        Stats {
            number: NUMBERS.fetch_add(1, Relaxed),
            commands,
            is_tracking: AtomicBool::default(),
            // The first are of nobody: they take over the numbers of workers that are gone.
            workers: Mutex::new(vec![Arc::new(WorkerStats::new(commands))]),
            gates: Mutex::default(),
            errors: Mutex::default(),
            error_replies: AtomicU64::default(),
            rejected_connections: AtomicU64::default(),
            denied_logins: AtomicU64::default(),
            cut_queries: AtomicU64::default(),
            cut_readers: AtomicU64::default(),
            timed_waits: AtomicU64::default(),
            second: AtomicU64::default(),
            sweeps: Sweeps::default(),
            exceeded: Exceeded::default(),
        }
    }

    /// Numbers for one more worker. Those whose worker is gone are let go: a program may make and drop clients within it for ever.
    pub fn worker(&self) -> Arc<WorkerStats> {
        let worker = Arc::new(WorkerStats::new(self.commands));
        let mut workers = self.workers.lock();
        let past = Arc::clone(&workers[0]);
        workers.retain(|worker| {
            let is_gone = Arc::strong_count(worker) == 1;
            if is_gone {
                past.take_over(worker);
            }
            !is_gone
        });
        workers.push(Arc::clone(&worker));
        worker
    }

    /// Has the replies counted that wait at a gate, for as long as there is one.
    pub fn watch(&self, gate: &Arc<Gate>) {
        let mut gates = self.gates.lock();
        gates.retain(|gate| gate.strong_count() > 0);
        gates.push(Arc::downgrade(gate));
    }

    /// How many replies wait at gates, and since when the first of them has, on the monotonic clock.
    pub fn replies_waiting(&self) -> (usize, Option<u64>) {
        let gates: Vec<Arc<Gate>> = self.gates.lock().iter().filter_map(Weak::upgrade).collect();
        let waiting = gates.iter().map(|gate| gate.waiting());
        waiting.fold((0, None), |(count, first), (more, since)| (count + more, first.into_iter().chain(since).min()))
    }

    /// Those of this thread, for callers who are no worker of ours and run commands on whichever thread they are. A thread keeps them for as
    /// long as it and the server live.
    pub(crate) fn here(&self) -> Arc<WorkerStats> {
        HERE.with_borrow_mut(|here| {
            if let Some((_, worker)) = here.iter().find(|(number, _)| *number == self.number) {
                return Arc::clone(worker);
            }
            // Those of servers that are gone.
            here.retain(|(_, worker)| Arc::strong_count(worker) > 1);
            let worker = self.worker();
            here.push((self.number, Arc::clone(&worker)));
            worker
        })
    }

    /// Runs with each worker's numbers.
    pub(crate) fn each(&self, run: impl FnMut(&Arc<WorkerStats>)) {
        self.workers.lock().iter().for_each(run);
    }

    /// A command's numbers over all workers.
    pub(crate) fn command(&self, number: usize) -> CommandSum {
        let mut sum = CommandSum::default();
        self.each(|worker| {
            let command = &worker.commands[number];
            sum.calls += command.calls.load(Relaxed);
            sum.nanoseconds += command.nanoseconds.load(Relaxed);
            sum.rejected += command.rejected.load(Relaxed);
            sum.failed += command.failed.load(Relaxed);
        });
        sum
    }

    /// A command's times over all workers; None if none were kept.
    pub(crate) fn times(&self, number: usize) -> Option<Histogram> {
        let mut sum = Histogram::default();
        self.each(|worker| {
            if let Some(times) = worker.commands[number].times.get() {
                sum.merge(times);
            }
        });
        (sum.count() > 0).then_some(sum)
    }

    /// All numbers.
    pub(crate) fn sums(&self) -> Sums {
        let second = self.second.load(Relaxed);
        let mut sums = Sums::default();
        self.each(|worker| {
            let mut commands = 0;
            for command in &worker.commands {
                commands += command.calls.load(Relaxed);
                sums.nanoseconds += command.nanoseconds.load(Relaxed);
            }
            sums.commands += commands;
            for (sum, counter) in [
                (&mut sums.bytes_in, &worker.bytes_in),
                (&mut sums.bytes_out, &worker.bytes_out),
                (&mut sums.reads, &worker.reads),
                (&mut sums.writes, &worker.writes),
                (&mut sums.buffer_bytes, &worker.buffer_bytes),
                (&mut sums.buffers_grown, &worker.buffers_grown),
                (&mut sums.buffers_shrunk, &worker.buffers_shrunk),
                (&mut sums.turns, &worker.turns),
                (&mut sums.full_turns, &worker.full_turns),
                (&mut sums.turn_commands, &worker.turn_commands),
                (&mut sums.wakes, &worker.wakes),
                (&mut sums.busy_wakes, &worker.busy_wakes),
            ] {
                *sum = sum.wrapping_add(counter.load(Relaxed));
            }
            sums.input_peak = sums.input_peak.max(worker.input_peak.max(second));
            sums.output_peak = sums.output_peak.max(worker.output_peak.max(second));
            if let Some(number) = worker.thread() {
                let (clients, reads, writes) = (&worker.clients, &worker.reads, &worker.writes);
                let [clients, reads, writes] = [clients, reads, writes].map(|counter| counter.load(Relaxed));
                sums.threads.push(ThreadSum { number, clients, commands, reads, writes });
            }
        });
        sums
    }

    /// Notes an error reply.
    pub(crate) fn error(&self, text: &str) {
        self.error_replies.fetch_add(1, Relaxed);
        let word = text.split(' ').next().unwrap_or_default();
        let mut errors = self.errors.lock();
        // Invariant: bounded, as in Redis, lest a script makes up error words without end.
        if errors.len() < 128 || errors.contains_key(word) {
            *errors.entry(word.to_owned()).or_default() += 1;
        }
    }

    /// Begins again at zero (`CONFIG RESETSTAT`).
    pub(crate) fn reset(&self) {
        self.each(|worker| worker.reset());
        self.errors.lock().clear();
        [
            &self.error_replies,
            &self.rejected_connections,
            &self.denied_logins,
            &self.cut_queries,
            &self.cut_readers,
            &self.sweeps.us,
            &self.sweeps.capped,
            &self.sweeps.fields,
            &self.sweeps.stale_keys_ppm,
            &self.sweeps.stale_hashes_ppm,
            &self.exceeded.past_ms,
        ]
        .into_iter()
        .for_each(clear);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_that_are_gone_leave_their_numbers_and_nothing_else() {
        let stats = Stats::new(1);
        for _ in 0..100 {
            let worker = stats.worker();
            worker.commands[0].called(1000, true, true);
            worker.moved(3, 0);
        }
        let last = stats.worker();
        let (sums, command) = (stats.sums(), stats.command(0));
        assert_eq!((sums.bytes_in, sums.reads, sums.commands), (300, 100, 100));
        assert_eq!((command.calls, command.failed, stats.times(0).map(|times| times.count())), (100, 100, Some(100)));
        let mut count = 0;
        stats.each(|_| count += 1);
        assert_eq!(count, 2, "the past, and the last one");
        drop(last);
    }

    #[test]
    fn a_share_is_a_mean_of_rounds() {
        let mean = AtomicU64::new(0);
        mean_share(&mean, 1, 1);
        assert_eq!(mean.load(Relaxed), 50_000);
        (0..500).for_each(|_| mean_share(&mean, 0, 0));
        assert!(mean.load(Relaxed) < 20);
    }

    #[test]
    fn time_above_the_limit_is_added_up() {
        let exceeded = Exceeded::default();
        exceeded.note(false, 5);
        exceeded.note(true, 10);
        exceeded.note(true, 30);
        assert_eq!(exceeded.total_and_current_ms(40), (30, 30));
        exceeded.note(false, 50);
        exceeded.note(false, 60);
        assert_eq!(exceeded.total_and_current_ms(70), (40, 0));
        exceeded.note(true, 100);
        assert_eq!(exceeded.total_and_current_ms(105), (45, 5));
    }
}
