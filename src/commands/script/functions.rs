//! Functions: `FUNCTION` and `FCALL`. A library lasts as a key does, in a database of its own (`engine::shard::LIBRARIES`); what it runs in is made
//! of its code ([`shelf`](super::shelf)).

use std::mem;
use std::sync::Arc;

use crate::commands::Outcome;
use crate::commands::args;
use crate::commands::script::flags::Flags;
use crate::commands::script::run::{Act, Rules};
use crate::commands::script::shelf::{self, Shelf};
use crate::commands::script::{Desk, Open, answered, is_how, perform, run, show_call};
use crate::commands::session::Session;
use crate::engine::error::Error;
use crate::engine::glob;
use crate::engine::keys::{Expiry, Read, Write};
use crate::engine::types::string::Str;
use crate::lua::{FLAGS, Function, Host, Verdict};
use crate::resp::{Args, Reply};

/// A library's code may run for so long while it is loaded, as in Redis.
const LOAD_MS_MAX: u64 = 500;

/// What a library may do while it is loaded: it calls no commands, and ends in time.
struct Loading<'a, 'r, 'e> {
    act: &'a mut Act<'r, 'e>,
    ms_max: u64,
}

impl Host for Loading<'_, '_, '_> {
    fn call(&mut self, _: &[&[u8]], _: u8, reply: &mut Vec<u8>) {
        reply.extend_from_slice(b"-ERR redis.call can only be called inside a script invocation\r\n");
    }

    fn pause(&mut self) -> Verdict {
        if self.act.running.age_ms() >= self.ms_max { Verdict::Stop("FUNCTION LOAD timeout") } else { self.act.pause() }
    }

    fn log(&mut self, level: u8, text: &[u8]) {
        self.act.log(level, text);
    }

    fn may_call(&mut self, args: &[&[u8]]) -> Option<bool> {
        self.act.may_call(args)
    }
}

/// Runs with the libraries, which are read from the keyspace where that has not been done.
fn with_shelf<'v, R>(
    session: &mut Session,
    desk: &mut Desk<'_>,
    mut view: Read<'v>,
    rules: Rules,
    args: Args<'_>,
    work: impl FnOnce(&mut Shelf, &mut Act<'_, 'v>) -> R,
) -> (R, Read<'v>) {
    let mut shelf = mem::take(&mut desk.open().book.functions);
    if !shelf.is_read() {
        shelf.read(view.libraries());
    }
    let limit = session.instance.config.count(crate::config::Name::ScriptMemoryLimit) as usize;
    let result = perform(session, desk, view, rules, Some(args), |_, act| {
        if shelf.open(limit) {
            act.running.set_alarm(shelf.alarm());
            // They were loaded in time before.
            shelf.read_again(&mut Loading { act, ms_max: u64::MAX });
            act.running.begin_again();
        }
        act.running.set_alarm(shelf.alarm());
        let result = work(&mut shelf, act);
        if act.running.is_killed() || act.running.must_end() {
            shelf.close();
        }
        result
    });
    view = result.1;
    let Open { book, .. } = desk.open();
    book.functions = shelf;
    book.hears_functions();
    (result.0, view)
}

/// `FCALL`, `FCALL_RO`
pub(crate) fn fcall<'v>(
    session: &mut Session,
    desk: &mut Desk<'_>,
    view: Read<'v>,
    args: Args<'_>,
    reply: &mut Reply,
    is_ro: bool,
) -> (Outcome, Read<'v>) {
    show_call(session, args);
    let prepared = Arc::clone(&session.instance).scripts.running.watched(session.instance.lifecycle());
    if let Err(error) = prepared {
        return (Err(error), view);
    }
    let protocol = run::protocol(reply);
    let mut answer = Vec::new();
    let (ran, view) = with_shelf(session, desk, view, Rules::default(), args, |shelf, act| {
        let bits = shelf.flags(args.at(1)).ok_or(Error::text("ERR Function not found"))?;
        let (keys, argv) = split(args)?;
        act.rules = Rules::of(act.session, Flags::said(bits), is_ro)?;
        Ok(shelf.run(args.at(1), &keys, &argv, protocol, act, &mut answer))
    });
    (answered(session, ran, &answer, reply), view)
}

fn split(args: Args<'_>) -> Result<(Vec<&[u8]>, Vec<&[u8]>), Error> {
    args::int(args, 2).map_err(|_| Error::text("ERR Bad number of keys provided"))?;
    run::split(args)
}

/// `FUNCTION LOAD`
pub(crate) fn load<'v>(
    session: &mut Session,
    desk: &mut Desk<'_>,
    view: Read<'v>,
    args: Args<'_>,
    reply: &mut Reply,
) -> (Outcome, Read<'v>) {
    let mut is_replace = false;
    for option in args.from(2).iter().take(args.len() - 3) {
        if !option.eq_ignore_ascii_case(b"replace") {
            return (Err(Error::new(format!("ERR Unknown option given: {}", String::from_utf8_lossy(option)))), view);
        }
        is_replace = true;
    }
    let code = args.at(args.len() - 1);
    let watched = Arc::clone(&session.instance).scripts.running.watched(session.instance.lifecycle());
    let (name, body) = match watched.and_then(|()| shelf::told(code)) {
        Ok(told) => told,
        Err(error) => return (Err(error), view),
    };
    let (loaded, view) = with_shelf(session, desk, view, Rules::default(), args, |shelf, act| {
        shelf.load(name, code, body, is_replace, &mut Loading { act, ms_max: LOAD_MS_MAX })
    });
    let view = match loaded {
        Ok(()) => changed(view, |keys| keys.put(name, Str::raw(code), Expiry::Never)),
        Err(error) => return (Err(error), view),
    };
    reply.bulk(name);
    (Ok(()), view)
}

/// Changes what lasts of libraries.
fn changed<'v>(view: Read<'v>, change: impl FnOnce(&mut Write<'v>)) -> Read<'v> {
    let db = view.db();
    let mut view = Write(view);
    view.select_libraries();
    change(&mut view);
    view.select(db);
    view.0
}

/// The libraries as they are in the keyspace.
fn known<'d>(desk: &'d mut Desk<'_>, view: &mut Read<'_>) -> &'d mut Shelf {
    let shelf = &mut desk.open().book.functions;
    if !shelf.is_read() {
        shelf.read(view.libraries());
    }
    shelf
}

/// `FUNCTION DELETE`
pub(crate) fn delete<'v>(
    _: &mut Session,
    desk: &mut Desk<'_>,
    mut view: Read<'v>,
    args: Args<'_>,
    reply: &mut Reply,
) -> (Outcome, Read<'v>) {
    let name = args.at(2);
    if !known(desk, &mut view).remove(name) {
        return (Err(Error::text("ERR Library not found")), view);
    }
    let view = changed(view, |keys| {
        keys.remove(name);
    });
    reply.ok();
    (Ok(()), view)
}

/// `FUNCTION FLUSH`
pub(crate) fn flush<'v>(
    _: &mut Session,
    desk: &mut Desk<'_>,
    mut view: Read<'v>,
    args: Args<'_>,
    reply: &mut Reply,
) -> (Outcome, Read<'v>) {
    if args.len() > 3 {
        return (Err(args::wrong_subcommand(args)), view);
    }
    if args.len() > 2 && !is_how(args) {
        return (Err(Error::text("ERR FUNCTION FLUSH only supports SYNC|ASYNC option")), view);
    }
    let names = known(desk, &mut view).clear();
    let view = changed(view, |keys| {
        names.iter().for_each(|name| {
            keys.remove(name);
        });
    });
    reply.ok();
    (Ok(()), view)
}

/// `FUNCTION LIST`
pub(crate) fn list<'v>(
    session: &mut Session,
    desk: &mut Desk<'_>,
    view: Read<'v>,
    args: Args<'_>,
    reply: &mut Reply,
) -> (Outcome, Read<'v>) {
    let (mut rest, mut with_code, mut pattern) = (args::Rest::of(args, 2), false, None);
    loop {
        if !with_code && rest.word("withcode") {
            with_code = true;
        } else if pattern.is_none() && rest.word("libraryname") {
            pattern = rest.take();
            if pattern.is_none() {
                return (Err(Error::new("ERR library name argument was not given")), view);
            }
        } else {
            break;
        }
    }
    if let Some(argument) = rest.peek() {
        return (Err(Error::new(format!("ERR Unknown argument {}", String::from_utf8_lossy(argument)))), view);
    }
    // What libraries register is known once their code has run.
    let ((), view) = with_shelf(session, desk, view, Rules::default(), args, |shelf, _| {
        let shown = |name: &[u8]| pattern.is_none_or(|pattern| glob::matches(pattern, name, true));
        reply.array(shelf.libraries().filter(|(name, _)| shown(name)).count());
        for (name, library) in shelf.libraries().filter(|(name, _)| shown(name)) {
            reply.map(if with_code { 4 } else { 3 });
            reply.bulk(b"library_name");
            reply.bulk(name);
            reply.bulk(b"engine");
            reply.bulk(b"LUA");
            reply.bulk(b"functions");
            reply.array(library.functions().len());
            library.functions().iter().for_each(|function| show(function, reply));
            if with_code {
                reply.bulk(b"library_code");
                reply.bulk(library.code());
            }
        }
    });
    (Ok(()), view)
}

fn show(function: &Function, reply: &mut Reply) {
    reply.map(3);
    reply.bulk(b"name");
    reply.bulk(&function.name);
    reply.bulk(b"description");
    match &function.description {
        Some(description) => reply.bulk(description),
        None => reply.null(),
    }
    reply.bulk(b"flags");
    let flags: Vec<&str> = FLAGS.iter().filter(|(_, bit)| function.flags & bit != 0).map(|(name, _)| *name).collect();
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.simple(flag));
}

/// `FUNCTION KILL`
pub(crate) fn kill(session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    session.instance.scripts.running.kill(true)?;
    reply.ok();
    Ok(())
}

/// `FUNCTION STATS`. While no function has been asked for since the start, it counts none.
pub(crate) fn stats(session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    let scripts = &session.instance.scripts;
    let running = scripts.running.function()?;
    reply.map(2);
    reply.bulk(b"running_script");
    match running {
        None => reply.null(),
        Some(words) => {
            reply.map(3);
            reply.bulk(b"name");
            reply.bulk(words.get(1).map_or(b"", |name| name));
            reply.bulk(b"command");
            reply.array(words.len());
            words.iter().for_each(|word| reply.bulk(word));
            reply.bulk(b"duration_ms");
            reply.int(scripts.running.age_ms() as i64);
        }
    }
    let numbers = scripts.numbers();
    reply.bulk(b"engines");
    reply.map(1);
    reply.bulk(b"LUA");
    reply.map(2);
    reply.bulk(b"libraries_count");
    reply.int(numbers.libraries as i64);
    reply.bulk(b"functions_count");
    reply.int(numbers.functions as i64);
    Ok(())
}
