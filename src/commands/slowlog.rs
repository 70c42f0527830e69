//! Notes commands that took long: for `SLOWLOG`, and as events for `LATENCY`.

use crate::commands::session::Session;
use crate::commands::table::{Command, flag};
use crate::config::{self, Name};
use crate::resp::Args;

/// What stands in the place of an argument that must not be shown.
const REDACTED: &[u8] = b"(redacted)";

/// Notes a command if it took long enough for either.
#[cold]
pub fn note(session: &Session, command: &Command, args: Args<'_>, took_ns: u64) {
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
    let shown: Vec<&[u8]> = args.iter().enumerate().map(|(at, arg)| if is_secret(args, at) { REDACTED } else { arg }).collect();
    let name = session.client.about.lock().name.clone().into_bytes();
    session.instance.slowlog.add(entries_max, at, us, shown.into_iter(), session.client.address.clone(), name);
}

/// Whether an argument is a password, or may be one.
fn is_secret(args: Args<'_>, at: usize) -> bool {
    if args.is(0, "auth") {
        return at > 0;
    }
    if args.is(0, "acl") && args.is(1, "setuser") {
        return at > 1;
    }
    if args.is(0, "hello") {
        return (2..at).any(|auth| args.is(auth, "auth") && at <= auth + 2);
    }
    if args.is(0, "config") && args.is(1, "set") && at > 2 && at % 2 == 1 {
        let name = String::from_utf8_lossy(args.at(at - 1));
        return config::find(&name).is_some_and(config::Setting::is_secret);
    }
    args.is(0, "migrate")
        && (5..at).any(|auth| args.is(auth, "auth") && at == auth + 1 || args.is(auth, "auth2") && at <= auth + 2)
}
