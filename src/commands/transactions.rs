//! Commands of Redis' `transactions` group.
//!
//! `EXEC` locks the shards of all keys its commands name, first, and runs them under those locks: nobody sees half of a
//! transaction, and its effects are in one epoch, so the journal holds all of it or nothing. Where one of its commands looks at all
//! shards, such as `INFO`, it locks all of them. No command within may lock a shard by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use smallvec::SmallVec;

use crate::commands::clients::state;
use crate::commands::script::Desk;
use crate::commands::script::own_stack::{self, Rest};
use crate::commands::session::{Session, Transaction, call, leaf_unchecked};
use crate::commands::shards::Shards;
use crate::commands::slowlog;
use crate::commands::table::Group::Transactions as GROUP;
use crate::commands::table::{Keys, Run, flag};
use crate::commands::{Command, Outcome};
use crate::engine::Scope;
use crate::engine::blob::Blob;
use crate::engine::error::Error;
use crate::engine::keys::{Read, Waiting, Write};
use crate::engine::shard::DATABASES;
use crate::resp::{Args, Reply};

const ALWAYS: u32 = flag::NO_SCRIPT | flag::LOADING | flag::STALE | flag::FAST | flag::ALLOW_BUSY;

/// The group's rows.
pub(crate) const COMMANDS: &[Command] = &[
    Command::session(GROUP, "multi", multi)
        .args(0)
        .flags(ALWAYS)
        .since("1.2.0", "O(1)")
        .doc("", "Begins a transaction: what follows is queued until EXEC."),
    Command::session(GROUP, "exec", exec)
        .args(0)
        .flags(flag::NO_SCRIPT | flag::LOADING | flag::STALE | flag::SKIP_SLOWLOG)
        .since("1.2.0", "Depends on commands in the transaction")
        .doc("", "Runs the queued commands as one, seen by others wholly or not at all."),
    Command::session(GROUP, "discard", discard)
        .args(0)
        .flags(ALWAYS)
        .since("2.0.0", "O(N), when N is the number of queued commands")
        .doc("", "Forgets the queued commands and ends the transaction."),
    Command::session(GROUP, "watch", watch)
        .args_min(1)
        .keys(Keys::Range { first: 1, last: -1, step: 1 })
        .flags(ALWAYS)
        .since("2.2.0", "O(1) for every key.")
        .doc("key [key ...]", "Makes the next EXEC fail if one of these keys changes before it."),
    Command::session(GROUP, "unwatch", unwatch_all)
        .args(0)
        .flags(ALWAYS)
        .since("2.2.0", "O(1)")
        .doc("", "Forgets the keys given to WATCH."),
];

/// Whether a command is carried out within `MULTI` rather than queued.
pub(crate) fn runs_at_once(name: &str) -> bool {
    matches!(name, "exec" | "discard" | "multi" | "watch" | "quit" | "reset")
}

fn multi(session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    if session.txn.is_some() {
        return Err(Error::new("ERR MULTI calls can not be nested"));
    }
    session.txn = Some(Transaction::default());
    session.client.queued.store(1, Relaxed);
    reply.ok();
    Ok(())
}

fn discard(session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    if session.txn.is_none() {
        return Err(Error::new("ERR DISCARD without MULTI"));
    }
    end(session);
    reply.ok();
    Ok(())
}

fn watch(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    if session.txn.is_some() {
        return Err(Error::new("ERR WATCH inside MULTI is not allowed"));
    }
    for key in args.from(1).iter() {
        let place = (session.db, Blob::from(key));
        if !session.watch.places.insert(place) {
            continue;
        }
        let flag = Arc::clone(&session.watch.flag);
        session.locked(Scope::Keys(&[key]), |keys| {
            // A key whose time is over counts as gone from here on: its removal later is no change.
            keys.peek(key);
            keys.watch(key, &flag);
        });
    }
    session.instance.clients.watches(&session.client, session.watch.places.len() as u64);
    reply.ok();
    Ok(())
}

fn unwatch_all(session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    // Queued, it has nothing left to do: EXEC has looked at the watched keys, holds their shards, and forgets them at its end.
    if !matches!(session.waiting, Waiting::Never) {
        unwatch(session);
    }
    reply.ok();
    Ok(())
}

/// Forgets the watched keys.
pub(crate) fn unwatch(session: &mut Session) {
    if session.watch.places.is_empty() {
        return;
    }
    let flag = std::mem::replace(&mut session.watch.flag, Arc::new(AtomicBool::new(false)));
    let engine = Arc::clone(&session.instance.engine);
    for (db, key) in std::mem::take(&mut session.watch.places) {
        let mut keys = engine.view_beside(db, session.now(), Scope::Keys(&[&key.clone()]));
        keys.unwatch(&(keys.stored_db(), key), &flag);
    }
    session.instance.clients.watches(&session.client, 0);
}

fn take(session: &mut Session) -> Option<Transaction> {
    tell_ended(session);
    session.txn.take()
}

/// Lets others see that nothing is queued any more.
fn tell_ended(session: &Session) {
    session.client.queued.store(0, Relaxed);
    session.client.queued_bytes.store(0, Relaxed);
}

/// Closes a client whose queue has outgrown `client-query-buffer-limit`: what is queued was not carried out, so it counts as an
/// unfinished request, as in Redis 8. Whoever cannot be closed, within the process, learns it from `EXEC`.
#[cold]
pub(crate) fn overflow(session: &mut Session) {
    tracing::warn!("closing client {}: what it queued after MULTI is longer than client-query-buffer-limit", session.client.id);
    session.txn = Some(Transaction { is_refused: true, ..Transaction::default() });
    session.client.queued_bytes.store(0, Relaxed);
    session.closes = true;
}

/// Ends the transaction, however it went.
pub(crate) fn end(session: &mut Session) -> Option<Transaction> {
    let txn = take(session);
    unwatch(session);
    txn
}

fn exec(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    if session.txn.as_ref().is_some_and(Transaction::has_script) {
        return own_stack::carry(session, args, reply, |session, rest, _, reply| exec_with(session, Some(rest), reply));
    }
    exec_with(session, None, reply)
}

/// With scripts among them, commands run on a stack of their own.
fn exec_with(session: &mut Session, rest: Option<&dyn Rest>, reply: &mut Reply) -> Outcome {
    let Some(mut txn) = session.txn.take() else { return Err(Error::new("ERR EXEC without MULTI")) };
    if txn.is_refused {
        tell_ended(session);
        unwatch(session);
        return Err(Error::new("EXECABORT Transaction discarded because of previous errors."));
    }
    session.waiting = Waiting::Never;
    let end = run_all(session, &mut txn, rest, reply);
    session.waiting = Waiting::Allowed;
    match end {
        End::Done => {}
        End::Stale => reply.null_array(),
        End::Lacks => {
            session.txn = Some(txn);
            return Ok(());
        }
        End::ShutOut => {
            session.txn = Some(txn);
            session.is_shut_out = true;
            return Ok(());
        }
    }
    tell_ended(session);
    unwatch(session);
    Ok(())
}

/// How a transaction ended.
enum End {
    /// It ran.
    Done,
    /// It did not: a watched key had changed.
    Stale,
    /// It needs values that rest on disk. It has done nothing, and is run again when they have been read.
    Lacks,
    /// A script has the keyspace to itself. It has done nothing, and waits for that.
    ShutOut,
}

/// Runs the queued commands under one set of locks, whatever they are: those that look at all shards do so through its view.
fn run_all(session: &mut Session, txn: &mut Transaction, rest: Option<&dyn Rest>, reply: &mut Reply) -> End {
    let instance = Arc::clone(&session.instance);
    let engine = &instance.engine;
    let Some(mut desk) = Desk::of(&instance, rest) else { return End::ShutOut };
    let mut keys: Vec<&[u8]> = Vec::new();
    let mut is_everything = false;
    for (_, command, args) in &txn.commands {
        let args = args.args();
        let leaf = leaf_unchecked(command, args);
        is_everything |= leaf.may_touch_any_key(args);
        keys.extend(leaf.key_positions(args).into_iter().filter_map(|at| args.get(at)));
    }
    let watched: Vec<Blob> = session.watch.places.iter().map(|(_, key)| key.clone()).collect();
    keys.extend(watched.iter().map(|key| &**key));
    let scope = if is_everything { Scope::Everything } else { Scope::Keys(&keys) };
    let Some(mut view) = engine.try_view(session.db, session.now(), scope) else { return End::ShutOut };
    let end = if is_stale(session, &mut view) {
        End::Stale
    } else if lacks_values(txn, &mut view) {
        session.missing = view.take_missing();
        End::Lacks
    } else {
        reply.array(txn.commands.len());
        let done;
        (view, done) = run_each(session, &mut desk, txn, view, reply);
        txn.counted = txn.counted.max(done);
        if done == txn.commands.len() { End::Done } else { End::Lacks }
    };
    let mut ran = desk.leave(view);
    session.after(&mut ran);
    end
}

/// Whether values that are named rest on disk, of which the view then knows.
fn lacks_values(txn: &Transaction, view: &mut Read<'_>) -> bool {
    if !view.engine().loads().has_dropped() {
        return false;
    }
    for (_, command, args) in &txn.commands {
        let args = args.args();
        let positions = leaf_unchecked(command, args).key_positions(args);
        let keys: SmallVec<[&[u8]; 8]> = positions.into_iter().filter_map(|at| args.get(at)).collect();
        // In all databases: it may SELECT, SWAPDB, MOVE and COPY before.
        for db in 0..DATABASES as u8 {
            view.in_db(db, |view| view.lacks(keys.iter().copied()));
        }
    }
    !view.missing.is_empty()
}

/// Runs the queued commands with a view, and gives it back; tells how many have run before one that lacks values, so that all of them must
/// run again.
fn run_each<'a>(
    session: &mut Session,
    desk: &mut Desk<'_>,
    txn: &Transaction,
    mut view: Read<'a>,
    reply: &mut Reply,
) -> (Read<'a>, usize) {
    for (at, (number, command, args)) in txn.commands.iter().enumerate() {
        view.select(session.db);
        view.leaves_access = session.leaves_access(leaf_unchecked(command, args.args()));
        view = session.run_queued(desk, *number, command, args.args(), at >= txn.counted, view, reply);
        session.missing.extend(view.take_missing());
        if !session.missing.is_empty() {
            return (view, at);
        }
    }
    (view, txn.commands.len())
}

/// Whether a watched key has changed, or has ceased to be because its time is over.
fn is_stale(session: &mut Session, view: &mut Read<'_>) -> bool {
    for (db, key) in &session.watch.places {
        view.in_db(*db, |view| {
            view.peek(key);
        });
    }
    view.select(session.db);
    session.watch.flag.load(Relaxed) || session.client.has_state(state::DIRTY)
}

impl Session {
    /// Runs one queued command with the view that is lent for it, and counts it unless it ran before.
    #[expect(clippy::too_many_arguments, reason = "what a command is, and what it runs with")]
    fn run_queued<'a>(
        &mut self,
        desk: &mut Desk<'_>,
        number: u16,
        command: &'static Command,
        args: Args<'_>,
        is_counted: bool,
        view: Read<'a>,
        reply: &mut Reply,
    ) -> Read<'a> {
        let leaf = leaf_unchecked(command, args);
        let mark = reply.mark();
        let before = self.now_ns;
        let (outcome, mut view) = self.call_queued(desk, leaf, args, view, reply);
        if !view.missing.is_empty() || !self.missing.is_empty() {
            return view;
        }
        // What is no change of keys cannot be taken back, nor done twice.
        view.is_final |= matches!(leaf.run, Run::Session(_) | Run::Server(_) | Run::Script(_));
        self.remember_reads(&mut view, leaf, args);
        let failed = std::mem::take(&mut self.has_failed_inside) || outcome.is_err();
        if let Err(error) = outcome {
            reply.truncate(mark);
            if is_counted {
                self.instance.stats.error(&error.0);
            }
            reply.error(&error.0);
        }
        if !is_counted {
            return view;
        }
        self.tick();
        let took = self.now_ns.saturating_sub(before);
        self.count(number, took, failed);
        if took > 1_000_000 || self.instance.notes_fast_commands.load(Relaxed) {
            slowlog::note(self, command, args, took);
        }
        view
    }

    fn call_queued<'a>(
        &mut self,
        desk: &mut Desk<'_>,
        leaf: &Command,
        args: Args<'_>,
        view: Read<'a>,
        reply: &mut Reply,
    ) -> (Outcome, Read<'a>) {
        match leaf.run {
            Run::Script(run) => run(self, desk, view, args, reply),
            Run::Session(run) => (run(self, args, reply), view),
            Run::Server(run) => {
                let mut view = Write(view);
                (run(self, &mut Shards::Held(&mut view), args, reply), view.0)
            }
            _ => call(view, leaf, args, reply),
        }
    }
}
