//! Commands that the server itself runs for a session, in database 0: one, or several as one under the locks of all their
//! keys, as in a transaction. They are not counted, not shown to monitors, and not told to the observer, who made them.

use std::sync::Arc;

use redis::{FromRedisValue, Value};

use crate::clock;
use crate::commands::identity::Who;
use crate::commands::session::{self, Ran, Session, call, leaf_unchecked, touched};
use crate::commands::table::{Run, Table};
use crate::engine::Scope;
use crate::engine::error::Error;
use crate::engine::keys::Read;
use crate::engine::notify::{Class, Event};
use crate::resp::{OwnedArgs, Protocol, Reply};

/// Several commands that run as one. See [`Session::together`].
pub(crate) struct Together<'a> {
    table: &'a Table,
    view: Option<Read<'a>>,
    reply: Reply,
}

impl Together<'_> {
    /// Runs a command on keys that were named, and reads its answer. What it did stays if a later one fails.
    pub(crate) fn run<T: FromRedisValue>(&mut self, args: &[&[u8]]) -> Result<T, Error> {
        self.reply.truncate(0);
        let owned = OwnedArgs::new(args.iter().copied());
        let (_, command) = self.table.find(args[0]).ok_or_else(|| unfit(args))?;
        let leaf = leaf_unchecked(command, owned.args());
        if !leaf.takes(args.len() - 1) || matches!(leaf.run, Run::Session(_) | Run::Server(_) | Run::Script(_) | Run::Container) {
            return Err(unfit(args));
        }
        let view = self.view.take().expect("it is put back below");
        let (outcome, view) = call(view, leaf, owned.args(), &mut self.reply);
        self.view = Some(view);
        outcome?;
        read(&self.reply.bytes())
    }

    /// The time, in milliseconds since the epoch. It stands still while these commands run.
    pub(crate) fn now(&self) -> u64 {
        self.view.as_ref().map_or(0, |view| view.now())
    }
}

/// Reads an answer.
fn read<T: FromRedisValue>(bytes: &[u8]) -> Result<T, Error> {
    let value = short(bytes).or_else(|| redis::parse_redis_value(bytes).ok()).unwrap_or(Value::Nil);
    redis::from_redis_value(value).map_err(|error| Error::new(format!("ERR an inner command answered something else: {error}")))
}

/// Reads an answer of one number or one string, as most are: the parser for all kinds takes longer than many a command.
pub(crate) fn short(bytes: &[u8]) -> Option<Value> {
    let (kind, rest) = bytes.split_first()?;
    let end = memchr::memchr(b'\r', rest)?;
    let line = std::str::from_utf8(&rest[..end]).ok()?;
    match kind {
        b':' => Some(Value::Int(line.parse().ok()?)),
        b'+' if line == "OK" => Some(Value::Okay),
        b'$' if line == "-1" => Some(Value::Nil),
        b'_' => Some(Value::Nil),
        b'$' => {
            let string = rest.get(end + 2..)?;
            Some(Value::BulkString(string.get(..line.parse().ok()?)?.to_vec()))
        }
        _ => None,
    }
}

fn unfit(args: &[&[u8]]) -> Error {
    Error::new(format!("ERR `{}` is no command for inner use", String::from_utf8_lossy(args[0])))
}

impl Session {
    /// A session of the server's own. It is not in the list of clients, and never waits for the disk.
    pub(crate) fn inner(
        instance: &Arc<crate::commands::instance::Instance>,
        stats: &Arc<crate::commands::stats::WorkerStats>,
    ) -> Session {
        Session::new(Arc::clone(instance), Arc::default(), Arc::clone(stats), Who::Program)
    }

    /// Runs one command on keys of database 0 and reads its answer.
    pub(crate) fn run_in_zero<T: FromRedisValue>(&mut self, args: &[&[u8]]) -> Result<T, Error> {
        let (_, command) = self.instance.table.find(args[0]).ok_or_else(|| unfit(args))?;
        let owned = OwnedArgs::new(args.iter().copied());
        let leaf = leaf_unchecked(command, owned.args());
        if leaf.may_touch_any_key(owned.args()) {
            return self.under(Scope::Everything, |together| together.run(args));
        }
        let mut keys: Vec<&[u8]> = Vec::new();
        keys.extend(leaf.key_positions(owned.args()).into_iter().filter_map(|at| args.get(at).copied()));
        self.together(&keys, |together| together.run(args))
    }

    /// Runs a command that reads one key of database 0 for a room's own sake. Nobody asked for the key, so it counts neither as found nor as
    /// missed.
    pub(crate) fn look_in_zero<T: FromRedisValue>(&mut self, command: &str, key: &[u8]) -> Result<T, Error> {
        self.together(&[key], |together| {
            let reads = together.view.as_mut().map(|view| view.reads_beside(key));
            let answer = together.run(&[command.as_bytes(), key]);
            if let (Some(view), Some(reads)) = (&mut together.view, reads) {
                view.put_reads_back(key, reads);
            }
            answer
        })
    }

    /// Runs commands as one, under the locks of these keys of database 0: nobody sees half of it, and it is on disk whole or not
    /// at all. Nothing else may lock shards meanwhile.
    pub(crate) fn together<R>(&mut self, keys: &[&[u8]], run: impl FnOnce(&mut Together<'_>) -> R) -> R {
        self.under(Scope::Keys(keys), run)
    }

    fn under<R>(&mut self, scope: Scope<'_>, run: impl FnOnce(&mut Together<'_>) -> R) -> R {
        let (engine, table) = (Arc::clone(&self.instance.engine), Arc::clone(&self.instance.table));
        self.now_ns = clock::now_ns();
        let view = engine.view(0, self.now(), scope);
        let mut together = Together { table: &table, view: Some(view), reply: Reply::new(Protocol::Resp2) };
        let result = run(&mut together);
        let mut view = together.view.take().expect("it is put back after each command");
        let events = std::mem::take(&mut view.events);
        let mut ran = Ran {
            outcome: Ok(()),
            events: Vec::new(),
            touched: touched(&mut view),
            invalid: view.take_invalid(),
            wrote: view.wrote(),
        };
        drop(view);
        self.after(&mut ran);
        self.after_inner(&events);
        result
    }

    /// Tells the observer only of what these commands came upon: keys that are gone because their time was over.
    fn after_inner(&self, events: &[Event]) {
        if events.is_empty() {
            return;
        }
        let engine = &self.instance.engine;
        let is_found = |event: &&Event| matches!(event.class, Class::Expired | Class::Evicted);
        engine.notifications().tell(events.iter().filter(is_found));
        session::notify_subscribers(engine, events);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_answers_are_read_as_the_parser_for_all_kinds_reads_them() {
        for answer in [":0\r\n", ":-5\r\n", "+OK\r\n", "$-1\r\n", "$0\r\n\r\n", "$4\r\na\r\nb\r\n", "_\r\n"] {
            assert_eq!(short(answer.as_bytes()), redis::parse_redis_value(answer.as_bytes()).ok(), "{answer:?}");
        }
        for answer in ["*1\r\n:1\r\n", "+QUEUED\r\n", ""] {
            assert_eq!(short(answer.as_bytes()), None, "{answer:?}");
        }
    }
}
