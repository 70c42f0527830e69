//! The latency monitor: things that took at least `latency-monitor-threshold` milliseconds, by the name of what they were.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;

/// Samples kept of each event, as in Redis.
const SAMPLES_MAX: usize = 160;

/// One second in which an event was slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sample {
    /// Which second, since the epoch.
    pub at: u64,
    /// The longest time in it, in milliseconds.
    pub ms: u64,
}

/// What is known of one event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EventHistory {
    /// The last samples, oldest first.
    pub samples: VecDeque<Sample>,
    /// The longest time ever, in milliseconds.
    pub max_ms: u64,
}

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct LatencyMonitor(Mutex<BTreeMap<&'static str, EventHistory>>);

impl LatencyMonitor {
    /// Notes that an event took this long. `at` is in seconds. Whether that is long enough to note is the caller's to know.
    pub(crate) fn add(&self, event: &'static str, at: u64, ms: u64) {
        let mut events = self.0.lock();
        let history = events.entry(event).or_default();
        history.max_ms = history.max_ms.max(ms);
        match history.samples.back_mut() {
            Some(last) if last.at == at => last.ms = last.ms.max(ms),
            _ => {
                if history.samples.len() == SAMPLES_MAX {
                    history.samples.pop_front();
                }
                history.samples.push_back(Sample { at, ms });
            }
        }
    }

    /// What is known of all events, by name.
    pub(crate) fn events(&self) -> BTreeMap<&'static str, EventHistory> {
        self.0.lock().clone()
    }

    /// What is known of one event; its name is compared exactly.
    pub(crate) fn event(&self, name: &str) -> Option<EventHistory> {
        self.0.lock().get(name).cloned()
    }

    /// Forgets these events, or all if none is named; tells how many it knew.
    pub(crate) fn reset(&self, names: &[&str]) -> usize {
        let mut events = self.0.lock();
        let before = events.len();
        events.retain(|name, _| !names.is_empty() && !names.contains(name));
        before - events.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sample_a_second_and_the_longest_of_it() {
        let monitor = LatencyMonitor::default();
        monitor.add("command", 1, 10);
        monitor.add("command", 1, 30);
        monitor.add("command", 2, 20);
        let history = monitor.event("command").expect("it was added");
        assert_eq!(history.samples, [Sample { at: 1, ms: 30 }, Sample { at: 2, ms: 20 }]);
        assert_eq!(history.max_ms, 30);
        (3..1000).for_each(|at| monitor.add("command", at, 1));
        assert_eq!(monitor.event("command").expect("it was added").samples.len(), SAMPLES_MAX);
        assert_eq!(monitor.reset(&["other"]), 0);
        assert_eq!(monitor.reset(&[]), 1);
    }
}
