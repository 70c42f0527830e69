//! `MONITOR`: shows a client every command that any client sends, without its secrets; those of operators not at all.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::commands::clients::state;
use crate::commands::identity::Way;
use crate::commands::session::Session;
use crate::commands::{Command, Outcome, table};
use crate::engine::error::Error;
use crate::resp::{Args, Reply};

/// Shows a command to all monitors.
#[cold]
pub(crate) fn show(session: &Session, command: &Command, args: Args<'_>) {
    tell(session, &line(session, &from(session), command, args));
}

/// Shows a command that a script runs.
#[cold]
pub(crate) fn show_of_script(session: &Session, command: &Command, args: Args<'_>) {
    tell(session, &line(session, "lua", command, args));
}

fn tell(session: &Session, line: &str) {
    for monitor in session.instance.monitors.lock().iter() {
        monitor.mailbox.send(line.as_bytes());
    }
}

fn from(session: &Session) -> String {
    if session.client.from.way == Way::Unix {
        format!("unix:{}", session.client.from.address)
    } else {
        session.client.from.address.clone()
    }
}

fn line(session: &Session, from: &str, command: &Command, args: Args<'_>) -> String {
    let micros = session.now_ns / 1000;
    let mut line = format!("+{}.{:06} [{} {from}]", micros / 1_000_000, micros % 1_000_000, session.db);
    for arg in table::shown(&session.instance, command, args) {
        line.push(' ');
        quote(&mut line, arg);
    }
    line.push_str("\r\n");
    line
}

/// Appends bytes in double quotes with escapes, as `redis-cli` prints them.
pub(crate) fn quote(to: &mut String, bytes: &[u8]) {
    to.push('"');
    for &byte in bytes {
        match byte {
            b'\\' => to.push_str("\\\\"),
            b'"' => to.push_str("\\\""),
            b'\n' => to.push_str("\\n"),
            b'\r' => to.push_str("\\r"),
            b'\t' => to.push_str("\\t"),
            7 => to.push_str("\\a"),
            8 => to.push_str("\\b"),
            b' '..=b'~' => to.push(char::from(byte)),
            _ => write!(to, "\\x{byte:02x}").expect("writing to a string cannot fail"),
        }
    }
    to.push('"');
}

/// `MONITOR`
pub(crate) fn monitor(session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    if session.waiting == crate::engine::keys::Waiting::Never {
        return Err(Error::new("ERR MONITOR isn't allowed for DENY BLOCKING client"));
    }
    if !session.client.has_state(state::MONITOR) {
        session.client.set_state(state::MONITOR, true);
        session.instance.monitors.lock().push(Arc::clone(&session.client));
        session.instance.monitor_count.fetch_add(1, Relaxed);
    }
    reply.ok();
    Ok(())
}
