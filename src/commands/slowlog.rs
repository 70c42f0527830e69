//! Notes commands that took long: for `SLOWLOG`, and as events for `LATENCY`.

use crate::commands::session::{Session, leaf_unchecked};
use crate::commands::table::{self, Command, flag};
use crate::config::Name;
use crate::resp::Args;

/// Notes a command if it took long enough for either.
#[cold]
pub(crate) fn note(session: &Session, command: &'static Command, args: Args<'_>, took_ns: u64) {
    let command = leaf_unchecked(command, args);
    let config = &session.instance.config;
    let us = took_ns / 1000;
    let at = session.now() / 1000;
    let latency_ms = config.count(Name::LatencyMonitorThreshold);
    if latency_ms > 0 && us / 1000 >= latency_ms {
        let event = if command.flags & flag::FAST != 0 { "fast-command" } else { "command" };
        session.instance.latency.add(event, at, us / 1000);
    }
    let threshold_us = config.number(Name::SlowlogLogSlowerThan);
    if threshold_us < 0 || us < threshold_us as u64 || command.flags & flag::SKIP_SLOWLOG != 0 {
        return;
    }
    let entries_max = config.count(Name::SlowlogMaxLen) as usize;
    let shown: Vec<&[u8]> = table::shown(&session.instance, command, args).collect();
    let name = session.client.about.lock().name.clone().into_bytes();
    session.instance.slowlog.add(entries_max, at, us, shown.into_iter(), session.client.from.address.clone(), name);
}
