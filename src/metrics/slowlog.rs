//! The slow log: the last commands that took longer than `slowlog-log-slower-than`.

use std::collections::VecDeque;

use parking_lot::Mutex;

/// Arguments of a command that are kept, and bytes of each, as in Redis.
const ARGS_MAX: usize = 32;
const ARG_BYTES_MAX: usize = 128;

/// A slow command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SlowEntry {
    /// Counts up from 0 since the start.
    pub id: u64,
    /// When it ran, in seconds since the epoch.
    pub at: u64,
    /// How long it ran, in microseconds.
    pub us: u64,
    /// Its arguments, shortened.
    pub args: Vec<Vec<u8>>,
    /// The client's address.
    pub client: String,
    /// The client's name.
    pub client_name: Vec<u8>,
}

/// All slow commands, also those that are not in the log any more.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlowTotals {
    /// How many there were.
    pub count: u64,
    /// How long they took together, in microseconds.
    pub us: u64,
    /// How long the slowest one took, in microseconds.
    pub us_max: u64,
}

/// The log; see the file's head.
#[derive(Debug, Default)]
pub(crate) struct Slowlog(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    next_id: u64,
    totals: SlowTotals,
    /// Newest first.
    entries: VecDeque<SlowEntry>,
}

impl Slowlog {
    /// Adds a command and drops what is over the limit. `at` is in seconds.
    pub(crate) fn add<'a>(
        &self,
        entries_max: usize,
        at: u64,
        us: u64,
        args: impl ExactSizeIterator<Item = &'a [u8]>,
        client: String,
        client_name: Vec<u8>,
    ) {
        let args = shortened(args);
        let mut state = self.0.lock();
        let id = state.next_id;
        state.next_id += 1;
        state.totals.count += 1;
        state.totals.us += us;
        state.totals.us_max = state.totals.us_max.max(us);
        state.entries.push_front(SlowEntry { id, at, us, args, client, client_name });
        state.entries.truncate(entries_max);
    }

    /// The newest entries.
    pub(crate) fn newest(&self, count: usize) -> Vec<SlowEntry> {
        self.0.lock().entries.iter().take(count).cloned().collect()
    }

    /// What all slow commands came to since this was last reset.
    pub(crate) fn totals(&self) -> SlowTotals {
        self.0.lock().totals
    }

    /// Begins the totals anew; the entries stay.
    pub(crate) fn reset_totals(&self) {
        self.0.lock().totals = SlowTotals::default();
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.lock().entries.len()
    }

    /// Forgets all; ids go on counting.
    pub(crate) fn reset(&self) {
        self.0.lock().entries.clear();
    }
}

fn shortened<'a>(args: impl ExactSizeIterator<Item = &'a [u8]>) -> Vec<Vec<u8>> {
    let total = args.len();
    let kept = if total > ARGS_MAX { ARGS_MAX - 1 } else { total };
    let mut short: Vec<Vec<u8>> = args.take(kept).map(short_arg).collect();
    if kept < total {
        short.push(format!("... ({} more arguments)", total - kept).into_bytes());
    }
    short
}

fn short_arg(arg: &[u8]) -> Vec<u8> {
    match arg.split_at_checked(ARG_BYTES_MAX) {
        Some((start, rest)) if !rest.is_empty() => {
            let mut short = start.to_vec();
            short.extend_from_slice(format!("... ({} more bytes)", rest.len()).as_bytes());
            short
        }
        _ => arg.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_commands_are_shortened_as_redis_does() {
        let log = Slowlog::default();
        let long = [b'A'; 129];
        let args: Vec<&[u8]> = std::iter::once(&long[..]).chain(std::iter::repeat_n(&b"x"[..], 32)).collect();
        log.add(10, 1, 2, args.iter().copied(), String::new(), Vec::new());
        let entry = &log.newest(1)[0];
        assert_eq!(entry.args.len(), 32);
        assert!(entry.args[0].ends_with(b"A... (1 more bytes)"));
        assert_eq!(entry.args[31], b"... (2 more arguments)");
    }

    #[test]
    fn the_oldest_go_first_and_ids_go_on() {
        let log = Slowlog::default();
        (0..5).for_each(|_| log.add(2, 0, 0, [&b"GET"[..]].into_iter(), String::new(), Vec::new()));
        assert_eq!(log.newest(9).iter().map(|entry| entry.id).collect::<Vec<_>>(), [4, 3]);
        log.reset();
        log.add(2, 0, 0, [&b"GET"[..]].into_iter(), String::new(), Vec::new());
        assert_eq!(log.newest(9)[0].id, 5);
    }
}
