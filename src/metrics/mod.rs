//! What the server counts and times: one [`Lane`] for each thread that runs commands, so that counting costs no
//! contention, and beside them what happens seldom: errors by their code, slow commands, latency events.
//!
//! `INFO`, `SLOWLOG`, `LATENCY` and HTTP's `/metrics` read from here. Who counts takes the time as an argument.

mod histogram;
mod latency;
mod rate;
mod slowlog;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;

pub use histogram::Histogram;
pub use latency::{EventHistory, LatencyMonitor, Sample};
pub use rate::Rate;
pub use slowlog::{SlowEntry, Slowlog};

/// Error codes counted apart; more come from replies made up by clients, and are counted together, as in Redis 7.2.
const ERROR_CODES_MAX: usize = 128;

/// A number that one thread raises and all may read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it. Two threads at once may lose counts, never more: see [`Lane`].
    #[inline]
    pub fn add(&self, more: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(more), Relaxed);
    }

    /// Adds to it from any thread.
    #[inline]
    pub fn add_shared(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    /// What it has come to.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    fn reset(&self) {
        self.0.store(0, Relaxed);
    }
}

/// What one thread counts about one command.
#[derive(Debug, Default)]
pub struct CommandCounts {
    /// Times it ran.
    pub calls: Counter,
    /// Nanoseconds it ran.
    pub ns: Counter,
    /// Times it was refused before it ran: wrong arguments, no permission, no memory.
    pub rejected: Counter,
    /// Times it ran and answered with an error.
    pub failed: Counter,
    times: OnceLock<Box<Histogram>>,
}

/// The same, added up over all threads.
#[derive(Debug, Default, Clone)]
pub struct CommandSum {
    /// Times it ran.
    pub calls: u64,
    /// Nanoseconds it ran.
    pub ns: u64,
    /// Times it was refused before it ran.
    pub rejected: u64,
    /// Times it ran and answered with an error.
    pub failed: u64,
}

/// The counts of one thread. Only that thread adds to them.
#[derive(Debug)]
#[repr(align(128))]
pub struct Lane {
    commands: Box<[CommandCounts]>,
    /// Commands run, also those that are part of a transaction.
    pub processed: Counter,
    /// Bytes read from clients.
    pub read_bytes: Counter,
    /// Bytes written to clients.
    pub written_bytes: Counter,
    /// Times a client's socket was read.
    pub reads: Counter,
    /// Times a client's socket was written.
    pub writes: Counter,
}

impl Lane {
    /// What is counted about the command of this number.
    #[inline]
    pub fn command(&self, number: usize) -> &CommandCounts {
        &self.commands[number]
    }

    /// Counts a run of a command. `is_tracked`: whether its time goes into the command's histogram (`latency-tracking`).
    #[inline]
    pub fn ran(&self, number: usize, ns: u64, is_failed: bool, is_tracked: bool) {
        let command = &self.commands[number];
        self.processed.add(1);
        command.calls.add(1);
        command.ns.add(ns);
        if is_failed {
            command.failed.add(1);
        }
        if is_tracked {
            command.times.get_or_init(Box::default).add(ns);
        }
    }
}

/// All of a server's counts.
#[derive(Debug)]
pub struct Metrics {
    lanes: Box<[Arc<Lane>]>,
    /// Connections accepted since the start.
    pub connections: Counter,
    /// Connections refused because of `maxclients`.
    pub rejected_connections: Counter,
    /// Errors answered.
    pub errors: Counter,
    /// Clients cut because their output buffer was over its limit.
    pub output_limit_cuts: Counter,
    /// Clients cut because their query buffer was over its limit.
    pub query_limit_cuts: Counter,
    /// Clients cut to keep their buffers under `maxmemory-clients`.
    pub evicted_clients: Counter,
    /// Failed tries to authenticate.
    pub denied_auths: Counter,
    error_codes: Mutex<BTreeMap<String, u64>>,
    /// Commands that took long.
    pub slowlog: Slowlog,
    /// Things that took long, by name.
    pub latency: LatencyMonitor,
    /// Commands each second, over the last moments.
    pub commands_rate: Rate,
    /// Bytes read each second.
    pub read_rate: Rate,
    /// Bytes written each second.
    pub written_rate: Rate,
}

impl Metrics {
    /// For this many threads and commands, all at zero.
    pub fn new(threads: usize, commands: usize) -> Metrics {
        Metrics {
            lanes: (0..threads.max(1)).map(|_| Arc::new(lane(commands))).collect(),
            connections: Counter::default(),
            rejected_connections: Counter::default(),
            errors: Counter::default(),
            output_limit_cuts: Counter::default(),
            query_limit_cuts: Counter::default(),
            evicted_clients: Counter::default(),
            denied_auths: Counter::default(),
            error_codes: Mutex::default(),
            slowlog: Slowlog::default(),
            latency: LatencyMonitor::default(),
            commands_rate: Rate::default(),
            read_rate: Rate::default(),
            written_rate: Rate::default(),
        }
    }

    /// The counts of one thread.
    pub fn lane(&self, thread: usize) -> Arc<Lane> {
        self.lanes[thread].clone()
    }

    /// Counts an error reply by its code: the text up to the first space, without the `-`.
    pub fn count_error(&self, text: &str) {
        self.errors.add_shared(1);
        let code = text.split(' ').next().unwrap_or_default();
        let mut codes = self.error_codes.lock();
        if let Some(count) = codes.get_mut(code) {
            *count += 1;
        } else {
            let code = if codes.len() < ERROR_CODES_MAX { code } else { "OTHER" };
            *codes.entry(code.to_owned()).or_default() += 1;
        }
    }

    /// How often each error code was answered.
    pub fn error_codes(&self) -> BTreeMap<String, u64> {
        self.error_codes.lock().clone()
    }

    /// A command's counts over all threads.
    pub fn command(&self, number: usize) -> CommandSum {
        let mut sum = CommandSum::default();
        for command in self.lanes.iter().map(|lane| &lane.commands[number]) {
            sum.calls += command.calls.get();
            sum.ns += command.ns.get();
            sum.rejected += command.rejected.get();
            sum.failed += command.failed.get();
        }
        sum
    }

    /// A command's times over all threads; None if it never ran while they were kept.
    pub fn times(&self, number: usize) -> Option<Histogram> {
        let mut sum: Option<Histogram> = None;
        for times in self.lanes.iter().filter_map(|lane| lane.commands[number].times.get()) {
            sum.get_or_insert_default().merge(times);
        }
        sum.filter(|times| times.count() != 0)
    }

    /// Forgets a command's times.
    pub fn reset_times(&self, number: usize) {
        self.lanes.iter().filter_map(|lane| lane.commands[number].times.get()).for_each(|times| times.reset());
    }

    /// A number of the lanes, added up.
    pub fn sum(&self, of: impl Fn(&Lane) -> &Counter) -> u64 {
        self.lanes.iter().map(|lane| of(lane).get()).sum()
    }

    /// Takes the samples that rates are made of; to be called ten times a second or so. `now` is in milliseconds.
    pub fn tick(&self, now: u64) {
        self.commands_rate.sample(now, self.sum(|lane| &lane.processed));
        self.read_rate.sample(now, self.sum(|lane| &lane.read_bytes));
        self.written_rate.sample(now, self.sum(|lane| &lane.written_bytes));
    }

    /// Sets all counts to zero, as `CONFIG RESETSTAT` does. The slow log and the latency events stay.
    pub fn reset(&self) {
        for lane in &self.lanes {
            for command in &lane.commands {
                [&command.calls, &command.ns, &command.rejected, &command.failed].into_iter().for_each(Counter::reset);
                if let Some(times) = command.times.get() {
                    times.reset();
                }
            }
            [&lane.processed, &lane.read_bytes, &lane.written_bytes, &lane.reads, &lane.writes]
                .into_iter()
                .for_each(Counter::reset);
        }
        [
            &self.connections,
            &self.rejected_connections,
            &self.errors,
            &self.output_limit_cuts,
            &self.query_limit_cuts,
            &self.evicted_clients,
            &self.denied_auths,
        ]
        .into_iter()
        .for_each(Counter::reset);
        self.error_codes.lock().clear();
        [&self.commands_rate, &self.read_rate, &self.written_rate].into_iter().for_each(Rate::reset);
    }
}

fn lane(commands: usize) -> Lane {
    Lane {
        commands: (0..commands).map(|_| CommandCounts::default()).collect(),
        processed: Counter::default(),
        read_bytes: Counter::default(),
        written_bytes: Counter::default(),
        reads: Counter::default(),
        writes: Counter::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_all_threads_add_up() {
        let metrics = Metrics::new(2, 3);
        metrics.lane(0).ran(1, 2_000, false, true);
        metrics.lane(1).ran(1, 4_000, true, true);
        let sum = metrics.command(1);
        assert_eq!((sum.calls, sum.ns, sum.failed), (2, 6_000, 1));
        assert_eq!(metrics.times(1).map(|times| times.count()), Some(2));
        assert!(metrics.times(0).is_none());
        metrics.reset();
        assert_eq!(metrics.command(1).calls, 0);
        assert_eq!(metrics.sum(|lane| &lane.processed), 0);
    }

    #[test]
    fn error_codes_are_bounded() {
        let metrics = Metrics::new(1, 1);
        (0..1000).for_each(|number| metrics.count_error(&format!("E{number} text")));
        assert_eq!(metrics.errors.get(), 1000);
        assert_eq!(metrics.error_codes().values().sum::<u64>(), 1000);
        assert_eq!(metrics.error_codes().len(), ERROR_CODES_MAX + 1);
    }
}
