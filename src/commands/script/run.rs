//! A run of a script: the commands it calls, under the locks that it holds, and how it lends these where it takes long.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::commands::admit::{Asked, State, admit, refusal_of_writes};
use crate::commands::script::flags::Flags;
use crate::commands::script::own_stack::Rest;
use crate::commands::script::running::Running;
use crate::commands::script::scratch::Scratch;
use crate::commands::session::{Session, call, leaf};
use crate::commands::shards::Shards;
use crate::commands::table::{self, Command, Outcome, Run, flag};
use crate::commands::{args, monitor};
use crate::config::Name;
use crate::engine::Engine;
use crate::engine::aside::Aside;
use crate::engine::error::{self, Error};
use crate::engine::evict;
use crate::engine::keys::{Read, Waiting, Write};
use crate::lua::{Host, Verdict};
use crate::resp::{Args, OwnedArgs, Protocol, Reply};

/// A script holds its locks for so long, then it lends them now and then.
const LENDS_AFTER_MS: u64 = 4;

const WRONG_NUMBER: Error = Error::text("ERR Wrong number of args calling Redis command from script");

/// Commands that change no keys as such, and which Redis keeps out of scripts that only read (`may_replicate`).
const REACHES_OTHERS: &[&str] = &["pfcount", "publish", "spublish"];

const KILLED: &str = "Script killed by user with SCRIPT KILL.";
const FUNCTION_KILLED: &str = "Script killed by user with FUNCTION KILL.";
const ENDS: &str = "Script ended, since the server ends.";

/// What a script is held to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rules {
    /// It may change no keys.
    only_reads: bool,
    /// Memory is short, and it may need no more of it.
    is_short: bool,
}

impl Rules {
    /// For a script with these flags, or why it may not run now. `is_ro`: whether whoever calls it wants it to change nothing.
    pub(crate) fn of(session: &mut Session, flags: Flags, is_ro: bool) -> Result<Rules, Error> {
        let instance = Arc::clone(&session.instance);
        // Nothing is evicted here, where all shards are held: whoever admitted the command did what could be done.
        let is_short = evict::is_due(&instance.engine);
        let only_reads = is_ro || flags.no_writes();
        if flags.are_said && !flags.no_writes() {
            if is_ro {
                return Err(Error::text("ERR Can not execute a script with write flag using *_ro command."));
            }
            if instance.config.count(Name::MinReplicasToWrite) > 0 {
                return Err(error::NO_REPLICAS);
            }
            refusal_of_writes(&instance).map_or(Ok(()), Err)?;
            if is_short && !flags.allow_oom() {
                return Err(error::OUT_OF_MEMORY);
            }
        }
        Ok(Rules { only_reads, is_short: is_short && !flags.allow_oom() && !flags.are_said })
    }
}

/// A script that runs.
pub(crate) struct Act<'r, 'e> {
    pub session: &'r mut Session,
    /// There but while it is lent.
    pub view: Option<Read<'e>>,
    pub engine: &'e Engine,
    pub rest: &'r dyn Rest,
    pub aside: &'r mut Aside,
    pub running: &'r Running,
    pub rules: Rules,
    pub scratch: Scratch,
    /// How a function was called; None for a script.
    pub call: Option<Args<'r>>,
}

impl Host for Act<'_, '_> {
    fn call(&mut self, args: &[&[u8]], protocol: u8, reply: &mut Vec<u8>) {
        let Scratch { mut words, reply: mut out } = mem::take(&mut self.scratch);
        words.set(args.iter().copied());
        out.truncate(0);
        out.set_protocol(if protocol == 3 { Protocol::Resp3 } else { Protocol::Resp2 });
        if let Err(error) = self.try_call(words.args(), &mut out) {
            out.truncate(0);
            self.session.instance.stats.error(&error.0);
            out.error(&error.0);
        }
        reply.extend_from_slice(&out.bytes());
        self.scratch = Scratch { words, reply: out };
    }

    fn pause(&mut self) -> Verdict {
        if let Some(stop) = self.is_to_stop() {
            return Verdict::Stop(stop);
        }
        if self.running.age_ms() < LENDS_AFTER_MS {
            return Verdict::GoOn;
        }
        self.lend();
        self.is_to_stop().map_or(Verdict::GoOn, Verdict::Stop)
    }

    fn log(&mut self, level: u8, text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        match level {
            0 => tracing::debug!("script: {text}"),
            1 | 2 => tracing::info!("script: {text}"),
            _ => tracing::warn!("script: {text}"),
        }
    }

    fn may_call(&mut self, args: &[&[u8]]) -> Option<bool> {
        let owned = OwnedArgs::new(args.iter().copied());
        let args = owned.args();
        let (number, command) = self.session.instance.table.find(args.at(0))?;
        if is_alone(command, args) {
            return Some(true);
        }
        let leaf = leaf(command, args).ok()?;
        let asked = Asked { command, leaf, number: table::number_of(number, command, leaf), args };
        Some(self.admit(&asked, false).is_ok())
    }
}

impl Act<'_, '_> {
    fn try_call(&mut self, args: Args<'_>, reply: &mut Reply) -> Outcome {
        let unknown = || Error::text("ERR Unknown Redis command called from script");
        let (number, command) = self.session.instance.table.find(args.at(0)).ok_or_else(unknown)?;
        if is_alone(command, args) {
            return Err(WRONG_NUMBER);
        }
        let leaf = leaf(command, args).map_err(|_| unknown())?;
        let number = table::number_of(number, command, leaf);
        self.check(&Asked { command, leaf, number, args }).inspect_err(|_| self.session.reject(number))?;
        if self.session.instance.monitor_count.load(Relaxed) > 0 && leaf.flags & (flag::SKIP_MONITOR | flag::ADMIN) == 0 {
            monitor::show_of_script(self.session, leaf, args);
        }
        let before = self.session.now_ns;
        let outcome = self.perform(leaf, args, reply);
        self.session.tick();
        self.session.count(number, self.session.now_ns.saturating_sub(before), outcome.is_err());
        outcome
    }

    fn check(&mut self, asked: &Asked<'_>) -> Outcome {
        let leaf = asked.leaf;
        if !leaf.takes(asked.args.len() - 1) {
            return Err(WRONG_NUMBER);
        }
        // Since Redis 7.2 commands that wait for keys may be called, and answer at once.
        let waits_for_keys = leaf.flags & flag::BLOCKING != 0 && matches!(leaf.run, Run::Read(_) | Run::Write(_));
        let is_kept_out = leaf.flags & flag::NO_SCRIPT != 0 && !waits_for_keys;
        if is_kept_out || matches!(leaf.run, Run::Script(_) | Run::Container) {
            return Err(Error::text("ERR This Redis command is not allowed from script"));
        }
        let writes = leaf.is_write() && leaf.flags & flag::READ_ONLY == 0;
        if self.rules.only_reads && (writes || REACHES_OTHERS.contains(&leaf.name)) {
            return Err(Error::text("ERR Write commands are not allowed from read-only scripts."));
        }
        self.admit(asked, self.rules.is_short && !self.running.has_written())?;
        if writes && !self.running.writes() {
            return Err(Error::new(format!("ERR {}", self.killed())));
        }
        Ok(())
    }

    fn admit(&self, asked: &Asked<'_>, is_short: bool) -> Outcome {
        admit(&self.session.identity, asked, &State { instance: &self.session.instance, txn: None, is_short })
    }

    fn perform(&mut self, leaf: &'static Command, args: Args<'_>, reply: &mut Reply) -> Outcome {
        let mut view = self.view.take().expect("it is put back below");
        view.select(self.session.db);
        view.leaves_access = self.session.leaves_access(leaf);
        let (outcome, mut view) = match leaf.run {
            Run::Session(run) => (run(self.session, args, reply), view),
            Run::Server(run) => {
                let mut view = Write(view);
                (run(self.session, &mut Shards::Held(&mut view), args, reply), view.0)
            }
            _ => call(view, leaf, args, reply),
        };
        self.session.remember_reads(&mut view, leaf, args);
        self.view = Some(view);
        outcome
    }

    /// Lets others go on for a moment.
    fn lend(&mut self) {
        let view = self.view.take().expect("no command runs");
        let (db, now) = (view.db(), view.now());
        if let Some(args) = self.call {
            self.running.tell(args);
        }
        self.aside.lend(view);
        self.rest.rest();
        self.view = Some(holding(self.engine.take_again(db, now)));
    }

    fn killed(&self) -> &'static str {
        if self.call.is_some() { FUNCTION_KILLED } else { KILLED }
    }

    /// Why it must stop, if it must.
    fn is_to_stop(&mut self) -> Option<&'static str> {
        if self.running.is_killed() {
            return Some(self.killed());
        }
        let instance = &self.session.instance;
        let is_ending = instance.is_ending.load(Relaxed);
        if self.running.must_end() || is_ending && self.running.patience_ms(&instance.config) == 0 {
            self.aside.discard(self.view.as_mut().expect("no command runs"));
            return Some(ENDS);
        }
        None
    }
}

/// Whether it is the name of a container, and no subcommand with it.
fn is_alone(command: &Command, args: Args<'_>) -> bool {
    args.len() == 1 && matches!(command.run, Run::Container)
}

/// The protocol of a reply, by its number.
pub(crate) fn protocol(reply: &Reply) -> u8 {
    if reply.protocol() == Protocol::Resp3 { 3 } else { 2 }
}

/// A view as a script has it: its commands answer at once, and what rests on disk is read where it is met.
pub(crate) fn holding(mut view: Read<'_>) -> Read<'_> {
    view.waiting = Waiting::Never;
    view.is_final = true;
    view
}

/// The keys and the other arguments of `EVAL` and its like.
pub(crate) fn split(args: Args<'_>) -> Result<(Vec<&[u8]>, Vec<&[u8]>), Error> {
    let count = args::int(args, 2)?;
    if count < 0 {
        return Err(Error::text("ERR Number of keys can't be negative"));
    }
    if count as usize > args.len() - 3 {
        return Err(Error::text("ERR Number of keys can't be greater than number of args"));
    }
    let mut all: Vec<&[u8]> = args.from(3).iter().collect();
    let argv = all.split_off(count as usize);
    Ok((all, argv))
}
