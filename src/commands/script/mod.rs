//! Scripts in Lua, each of which runs as one, as a transaction does.
//!
//! A script holds all shards while it runs, and its effects are in one epoch, so the journal has all of them or nothing; one that fails
//! halfway keeps what it wrote, as in Redis. Scripts run one at a time. One that takes long lends its locks ([`run`], `engine::solo`) and leaves its
//! thread to others now and then ([`own_stack`]); whoever comes meanwhile is held back at first, and told `BUSY` after
//! `busy-reply-threshold` ([`running`]).
//!
//! Locks, in this order: the book, then the shards.

mod book;
mod flags;
mod functions;
pub(crate) mod own_stack;
pub(crate) mod rows;
mod run;
pub(crate) mod running;
mod scratch;
mod shelf;

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::commands::instance::Instance;
use crate::commands::script::flags::Flags;
use crate::commands::session::{Ran, Session, leaf_unchecked, touched};
use crate::commands::table::{Run, flag};
use crate::commands::{Command, Outcome, monitor};
use crate::engine::Scope;
use crate::engine::aside::Aside;
use crate::engine::error::{self, Error};
use crate::engine::keys::{Read, Waiting};
use crate::lua::Ending;
use crate::resp::{Args, Reply};
use book::{Book, Numbers, Sha};
use own_stack::{Rest, Runner};
use run::{Act, Rules};
use running::Running;

/// All there is of scripts in an instance.
#[derive(Default)]
pub(crate) struct Scripts {
    /// Which one runs.
    pub running: Arc<Running>,
    runner: Arc<Runner>,
    book: Mutex<Book>,
    numbers: Mutex<Numbers>,
}

impl Scripts {
    /// What `INFO` tells of them, as it was after the last command that had to do with them.
    pub(crate) fn numbers(&self) -> Numbers {
        *self.numbers.lock()
    }
}

/// Whether a command runs also while a script takes too long.
pub(crate) fn lets_pass(leaf: &Command, args: Args<'_>) -> bool {
    leaf.flags & flag::ALLOW_BUSY != 0 && (leaf.name != "shutdown" || args.len() == 2 && args.is(1, "nosave"))
}

/// Whether a command runs a script that may change keys: one that does not promise that it doesn't.
pub(crate) fn may_write(instance: &Instance, leaf: &Command, args: Args<'_>) -> bool {
    let Some(said) = args.get(1) else { return false };
    // Somebody else has it while a script runs; what is not known then may write.
    let book = || instance.scripts.book.try_lock();
    let flags = match leaf.name {
        "eval" => flags::of(said).ok(),
        "evalsha" => book().and_then(|book| book.find(said).ok()).map(|(_, flags)| flags),
        "fcall" => book().and_then(|book| book.functions.flags(said)).map(Flags::said),
        _ => return false,
    };
    !flags.is_some_and(Flags::no_writes)
}

/// What commands about scripts have while they hold the shards.
pub struct Desk<'a> {
    /// None for a transaction without scripts.
    open: Option<Open<'a>>,
    aside: Aside,
}

struct Open<'a> {
    instance: &'a Arc<Instance>,
    book: MutexGuard<'a, Book>,
    rest: &'a dyn Rest,
}

impl<'a> Desk<'a> {
    /// Takes the book, where there are scripts to be run on a stack of their own. None while another script takes long.
    pub(crate) fn of(instance: &'a Arc<Instance>, rest: Option<&'a dyn Rest>) -> Option<Desk<'a>> {
        let open = match rest {
            None => None,
            Some(rest) => Some(Open { instance, book: take_book(instance)?, rest }),
        };
        Some(Desk { open, aside: Aside::default() })
    }

    fn open(&mut self) -> &mut Open<'a> {
        self.open.as_mut().expect("who runs commands about scripts has taken the book")
    }

    /// Lets the shards go, and tells what is left to be done then.
    pub(crate) fn leave(mut self, mut view: Read<'_>) -> Ran {
        let has_lent = self.aside.is_used();
        if has_lent {
            self.aside.file(&mut view);
        }
        let wrote = view.wrote();
        let touched = if has_lent { self.aside.touched(&mut view) } else { touched(&mut view) };
        let (events, invalid) = (view.take_events(), view.take_invalid());
        let ran = Ran { outcome: Ok(()), events, touched, invalid, wrote };
        drop(view);
        if let Some(Open { instance, book, .. }) = self.open {
            *instance.scripts.numbers.lock() = book.numbers();
            drop(book);
            if has_lent {
                instance.scripts.running.let_all_go();
            }
        }
        ran
    }
}

/// Others have it for as long as a script runs; where that lends its locks, it is waited for elsewhere.
fn take_book(instance: &Instance) -> Option<MutexGuard<'_, Book>> {
    const LOOK: Duration = Duration::from_millis(1);
    loop {
        if let Some(book) = instance.scripts.book.try_lock_for(LOOK) {
            return Some(book);
        }
        if instance.engine.solo().is_shut() {
            return None;
        }
    }
}

/// Runs a command about scripts that is not part of a transaction.
pub(crate) fn alone(session: &mut Session, rest: &dyn Rest, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let instance = Arc::clone(&session.instance);
    let (_, command) = instance.table.find(args.at(0)).expect("it was found when it was admitted");
    let leaf = leaf_unchecked(command, args);
    let Run::Script(run) = leaf.run else { unreachable!("only commands about scripts come here") };
    let is_shut_out = |session: &mut Session| {
        session.is_shut_out = true;
        Err(session.instance.scripts.running.busy())
    };
    let Some(mut desk) = Desk::of(&instance, Some(rest)) else { return is_shut_out(session) };
    let Some(mut view) = instance.engine.try_view(session.db, session.now(), Scope::Everything) else {
        return is_shut_out(session);
    };
    let keys: Vec<&[u8]> = leaf.key_positions(args).into_iter().filter_map(|at| args.get(at)).collect();
    if instance.engine.loads().has_dropped() && view.lacks(keys.into_iter()) {
        session.missing = view.take_missing();
        return Err(error::ON_DISK);
    }
    let (outcome, view) = run(session, &mut desk, view, args, reply);
    let mut ran = desk.leave(view);
    session.after(&mut ran);
    outcome
}

/// How a script is called.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Source,
    Sha,
}

/// `EVAL`, `EVALSHA`, `EVAL_RO`, `EVALSHA_RO`
pub(super) fn eval<'v>(
    session: &mut Session,
    desk: &mut Desk<'_>,
    view: Read<'v>,
    args: Args<'_>,
    reply: &mut Reply,
    by: By,
    is_ro: bool,
) -> (Outcome, Read<'v>) {
    show_call(session, args);
    let call = match prepare(session, desk, args, by, is_ro) {
        Ok(call) => call,
        Err(error) => return (Err(error), view),
    };
    let protocol = run::protocol(reply);
    let instance = Arc::clone(&session.instance);
    let reached = |alarm| instance.scripts.running.set_alarm(alarm);
    let mut answer = Vec::new();
    let (ran, view) = perform(session, desk, view, call.rules, None, |book, act| {
        book.run(&call.sha, &call.keys, &call.argv, protocol, &instance.config, &reached, act, &mut answer)
    });
    (answered(session, ran, &answer, reply), view)
}

/// Runs a script, or a function that is called so, with what it may reach of the world.
fn perform<'v, R>(
    session: &mut Session,
    desk: &mut Desk<'_>,
    view: Read<'v>,
    rules: Rules,
    call: Option<Args<'_>>,
    work: impl FnOnce(&mut Book, &mut Act<'_, 'v>) -> R,
) -> (R, Read<'v>) {
    let (db, leaves_access, waiting) = (session.db, view.leaves_access, view.waiting);
    let (is_final, engine) = (view.is_final, view.engine());
    let session_waiting = mem::replace(&mut session.waiting, Waiting::Never);
    let instance = Arc::clone(&session.instance);
    let running = &instance.scripts.running;
    let Desk { open, aside } = desk;
    let open = open.as_mut().expect("who runs commands about scripts has taken the book");
    running.begin(call.is_some());
    let scratch = mem::take(&mut open.book.scratch);
    let mut act = Act { session, view: Some(run::holding(view)), engine, rest: open.rest, aside, running, rules, scratch, call };
    let result = work(&mut open.book, &mut act);
    running.end();
    open.book.scratch = mem::take(&mut act.scratch).kept();
    let mut view = act.view.take().expect("it is put back after each command");
    session.waiting = session_waiting;
    session.db = db;
    session.block = None;
    view.select(db);
    (view.leaves_access, view.waiting, view.is_final) = (leaves_access, waiting, is_final);
    (result, view)
}

fn show_call(session: &mut Session, args: Args<'_>) {
    if session.instance.monitor_count.load(Relaxed) > 0 {
        let (_, command) = session.instance.table.find(args.at(0)).expect("it was found when it was admitted");
        monitor::show(session, command, args);
    }
}

/// Passes on what a script answered, byte by byte: errors may hold any. That of a command within was counted there.
fn answered(session: &mut Session, ran: Result<Ending, Error>, answer: &[u8], reply: &mut Reply) -> Outcome {
    let ending = ran?;
    if ending.is_error && !ending.is_counted {
        let text = String::from_utf8_lossy(answer.strip_prefix(b"-").unwrap_or(answer));
        session.instance.stats.error(text.trim_end());
    }
    session.has_failed_inside = ending.is_error;
    reply.raw(answer);
    Ok(())
}

/// A script that is to be run.
struct Call<'a> {
    sha: Sha,
    keys: Vec<&'a [u8]>,
    argv: Vec<&'a [u8]>,
    rules: Rules,
}

fn prepare<'a>(session: &mut Session, desk: &mut Desk<'_>, args: Args<'a>, by: By, is_ro: bool) -> Result<Call<'a>, Error> {
    if by == By::Sha && !book::is_sha(args.at(1)) {
        return Err(book::NO_SCRIPT);
    }
    let (keys, argv) = run::split(args)?;
    let instance = Arc::clone(&session.instance);
    let running = &instance.scripts.running;
    running.watched(instance.lifecycle())?;
    let reached = |alarm| running.set_alarm(alarm);
    let book = &mut desk.open().book;
    let (sha, flags) = match by {
        By::Source => {
            let sha = book.learn(args.at(1), false, &instance.config, &reached)?;
            book.find(&sha)?
        }
        By::Sha => book.find(args.at(1))?,
    };
    let rules = Rules::of(session, flags, is_ro)?;
    Ok(Call { sha, keys, argv, rules })
}

/// `SCRIPT LOAD`
pub(super) fn load<'v>(
    session: &mut Session,
    desk: &mut Desk<'_>,
    view: Read<'v>,
    args: Args<'_>,
    reply: &mut Reply,
) -> (Outcome, Read<'v>) {
    let instance = Arc::clone(&session.instance);
    let learned = desk.open().book.learn(args.at(2), true, &instance.config, &|alarm| instance.scripts.running.set_alarm(alarm));
    (learned.map(|sha| reply.bulk(&sha)), view)
}

/// `SCRIPT EXISTS`
pub(super) fn exists<'v>(
    _: &mut Session,
    desk: &mut Desk<'_>,
    view: Read<'v>,
    args: Args<'_>,
    reply: &mut Reply,
) -> (Outcome, Read<'v>) {
    reply.array(args.len() - 2);
    args.from(2).iter().for_each(|sha| reply.int(i64::from(desk.open().book.knows(sha))));
    (Ok(()), view)
}

/// `SCRIPT FLUSH`
pub(super) fn flush<'v>(
    _: &mut Session,
    desk: &mut Desk<'_>,
    view: Read<'v>,
    args: Args<'_>,
    reply: &mut Reply,
) -> (Outcome, Read<'v>) {
    if args.len() > 2 && !is_how(args) {
        return (Err(Error::text("ERR SCRIPT FLUSH only support SYNC|ASYNC option")), view);
    }
    desk.open().book.flush();
    reply.ok();
    (Ok(()), view)
}

/// `SCRIPT KILL`
pub(super) fn kill(session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    session.instance.scripts.running.kill(false)?;
    reply.ok();
    Ok(())
}

fn is_how(args: Args<'_>) -> bool {
    args.len() == 3 && (args.is(2, "async") || args.is(2, "sync"))
}
