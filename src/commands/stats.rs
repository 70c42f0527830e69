//! What the commands cost: calls, time and failures of each. Every worker counts for itself and only `INFO` adds up, so
//! counting costs no contention.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

use crate::commands::table;
use crate::metrics::Histogram;

/// One command's numbers. Written by one worker, read by any.
#[derive(Default)]
pub struct CommandStats {
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
    pub fn called(&self, nanoseconds: u64, failed: bool, is_tracked: bool) {
        add(&self.calls, 1);
        add(&self.nanoseconds, nanoseconds);
        add(&self.failed, u64::from(failed));
        if is_tracked {
            self.times.get_or_init(Box::default).add(nanoseconds);
        }
    }

    /// Notes that a call, which had waited, ended with an error.
    pub fn failed_later(&self) {
        add(&self.failed, 1);
    }

    /// Notes a call that was refused.
    pub fn rejected(&self) {
        add(&self.rejected, 1);
    }
}

/// One worker's numbers.
pub struct WorkerStats {
    /// By the command's number in the table.
    pub commands: Box<[CommandStats]>,
    /// Bytes read from clients.
    pub bytes_in: AtomicU64,
    /// Bytes sent to clients.
    pub bytes_out: AtomicU64,
}

impl WorkerStats {
    /// Notes bytes that came and went.
    pub fn moved(&self, bytes_in: usize, bytes_out: usize) {
        add(&self.bytes_in, bytes_in as u64);
        add(&self.bytes_out, bytes_out as u64);
    }
}

/// One command's numbers, added up.
#[derive(Debug, Default, Clone, Copy)]
pub struct CommandSum {
    /// Times it ran.
    pub calls: u64,
    /// Nanoseconds it took in all.
    pub nanoseconds: u64,
    /// Times it was refused before it ran.
    pub rejected: u64,
    /// Times it answered with an error.
    pub failed: u64,
}

/// All workers' numbers.
#[derive(Default)]
pub struct Stats {
    /// `latency-tracking`.
    pub is_tracking: AtomicBool,
    workers: Mutex<Vec<Arc<WorkerStats>>>,
    /// Error replies by their first word.
    pub errors: Mutex<BTreeMap<String, u64>>,
    /// All error replies.
    pub error_replies: AtomicU64,
    /// Connections refused because there were too many.
    pub rejected_connections: AtomicU64,
}

impl Stats {
    /// Numbers for one more worker.
    pub fn worker(&self) -> Arc<WorkerStats> {
        let worker = Arc::new(WorkerStats {
            commands: (0..table::count()).map(|_| CommandStats::default()).collect(),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
        });
        self.workers.lock().push(Arc::clone(&worker));
        worker
    }

    /// Runs with each worker's numbers.
    pub fn each(&self, run: impl FnMut(&Arc<WorkerStats>)) {
        self.workers.lock().iter().for_each(run);
    }

    /// A command's numbers over all workers.
    pub fn command(&self, number: usize) -> CommandSum {
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
    pub fn times(&self, number: usize) -> Option<Histogram> {
        let mut sum = Histogram::default();
        self.each(|worker| {
            if let Some(times) = worker.commands[number].times.get() {
                sum.merge(times);
            }
        });
        (sum.count() > 0).then_some(sum)
    }

    /// Forgets the times of a command.
    pub fn reset_times(&self, number: usize) {
        self.each(|worker| {
            if let Some(times) = worker.commands[number].times.get() {
                times.reset();
            }
        });
    }

    /// Calls of all commands, bytes read, bytes written.
    pub fn totals(&self) -> (u64, u64, u64) {
        let mut totals = (0, 0, 0);
        self.each(|worker| {
            totals.0 += worker.commands.iter().map(|command| command.calls.load(Relaxed)).sum::<u64>();
            totals.1 += worker.bytes_in.load(Relaxed);
            totals.2 += worker.bytes_out.load(Relaxed);
        });
        totals
    }

    /// Notes an error reply.
    pub fn error(&self, text: &str) {
        self.error_replies.fetch_add(1, Relaxed);
        let word = text.split(' ').next().unwrap_or_default();
        let mut errors = self.errors.lock();
        // Invariant: bounded, as in Redis, lest a script makes up error words without end.
        if errors.len() < 128 || errors.contains_key(word) {
            *errors.entry(word.to_owned()).or_default() += 1;
        }
    }

    /// Begins again at zero (`CONFIG RESETSTAT`).
    pub fn reset(&self) {
        self.each(|worker| {
            for command in &worker.commands {
                for counter in [&command.calls, &command.nanoseconds, &command.rejected, &command.failed] {
                    counter.store(0, Relaxed);
                }
                if let Some(times) = command.times.get() {
                    times.reset();
                }
            }
            worker.bytes_in.store(0, Relaxed);
            worker.bytes_out.store(0, Relaxed);
        });
        self.errors.lock().clear();
        self.error_replies.store(0, Relaxed);
        self.rejected_connections.store(0, Relaxed);
    }
}
