//! A client's session: takes one command after another, checks it, runs it under the locks of its keys, and tells
//! everyone concerned. Knows nothing of sockets: what must wait is returned as a [`Flow`].

mod away;
mod waiting;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use smallvec::SmallVec;

use crate::clock;
use crate::commands::admit::{Asked, State, admit};
use crate::commands::clients::{Client, state};
use crate::commands::identity::{Identity, Who};
use crate::commands::instance::Instance;
use crate::commands::room::{self, Slots};
use crate::commands::script::{self, own_stack};
use crate::commands::shards::Shards;
use crate::commands::stats::{Buffers, WorkerStats};
use crate::commands::table::{self, Command, Keys, Outcome, Run, flag};
use crate::commands::tracking::Tracks;
use crate::commands::{absent, args, marks, monitor, slowlog, transactions};
use crate::config::Name;
use crate::engine::blob::Blob;
use crate::engine::block::{Block, Place};
use crate::engine::durability::{Awaited, LineShare, Stage};
use crate::engine::error::{self, Error};
use crate::engine::evict::Evicted;
use crate::engine::keys::{Read, Waiting, Write, Wrote};
use crate::engine::load::{Missing, Pin};
use crate::engine::notify::{self, Event};
use crate::engine::pubsub::Topic;
use crate::engine::tracking::Invalid;
use crate::engine::turn::Turn;
use crate::engine::{Engine, Scope, evict};
use crate::resp::request::FOREIGN;
use crate::resp::{Args, OwnedArgs, Protocol, Reply, is_foreign};
use crate::seldom::Seldom;
use waiting::queue;

pub(crate) use away::Shelf;
pub(crate) use waiting::{Wait, wait_is_over};

/// Fast commands that may pass before the clock is read again. Each is then counted with the mean of so many.
const FAST_COMMANDS_PER_TICK: usize = 16;

/// What the connection does after a command.
pub(crate) enum Flow {
    /// Goes on with the next one.
    Next,
    /// Closes, once the reply is sent.
    Close,
    /// Runs no further command until this wait is over: see `engine::block`.
    Wait(Wait),
}

/// What a client sees of its own replies (`CLIENT REPLY`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Replies {
    /// All of them.
    #[default]
    On,
    /// None.
    Off,
    /// Not that of the next command.
    SkipNext,
    /// Not this one.
    Skip,
}

/// A client's state that lasts from one command to the next.
pub struct Session {
    /// What all clients share.
    pub instance: Arc<Instance>,
    /// This one, as others see it.
    pub(crate) client: Arc<Client>,
    /// The database in use.
    pub(crate) db: u8,
    /// Nanoseconds since the epoch, read now and then.
    pub(crate) now_ns: u64,
    /// Who the client is, how it came, and from where.
    pub(crate) identity: Identity,
    /// The transaction that was begun.
    pub(crate) txn: Option<Transaction>,
    /// Whether nothing of it is there for others any more.
    pub(crate) is_closed: bool,
    /// What the next `EXEC` depends on.
    pub(crate) watch: Watch,
    /// Names listened to, by [`Topic`].
    pub(crate) subscriptions: [BTreeSet<Blob>; 3],
    /// Whether it gets replies.
    pub(crate) replies: Replies,
    /// Whether it must be closed after this command.
    pub(crate) closes: bool,
    /// Set by a command that has to wait.
    pub(crate) block: Option<Block>,
    /// The epoch of the last change whose reply was not sent yet; 0 for none.
    pub(crate) wrote_epoch: u64,
    /// Bytes of its changes that it has not answered for in the line of writers.
    wrote_bytes: usize,
    /// How far it has come in the line of those whose replies are held back.
    pub(crate) line_share: LineShare,
    /// The epoch of the last change this client ever made.
    pub(crate) last_wrote_epoch: u64,
    /// Whether the replies so far wait for the disk whatever `appendfsync` says (`WAITAOF`).
    pub(crate) awaits_disk: bool,
    /// Values that rest on disk and that the command needs which was just run: it did nothing, and is to be run again.
    pub(crate) missing: Vec<Missing>,
    /// Those that were read for it at first.
    fetched: Vec<Place>,
    /// Keeps values in memory until that command has run.
    pin: Option<Pin>,
    /// What it is to the rooms above.
    pub(super) slots: Slots,
    pub(crate) waiting: Waiting,
    /// How it is told of changes to keys that it read, if it is.
    pub(crate) tracks: Option<Box<Tracks>>,
    pub(crate) stats: Arc<WorkerStats>,
    pub(crate) buffers: Buffers,
    last: Option<(u16, &'static Command)>,
    /// Fast commands since the last look at the clock, and whether they failed.
    untimed: SmallVec<[(u16, bool); FAST_COMMANDS_PER_TICK]>,
    /// Set by a command that found the keyspace shut, and did nothing: it is held back.
    pub(crate) is_shut_out: bool,
    /// Set by a script whose error is that of a command within, which was counted there.
    pub(crate) has_failed_inside: bool,
    /// Where the session comes back for which this one stands in.
    shelf: Option<Shelf>,
}

/// Commands queued by `MULTI`.
#[derive(Default)]
pub(crate) struct Transaction {
    /// In order.
    pub commands: Vec<(u16, &'static Command, OwnedArgs)>,
    /// What they take.
    pub bytes: usize,
    /// Whether one was refused, so that `EXEC` must be.
    pub is_refused: bool,
    /// How many of them ran and were counted when `EXEC` was tried before.
    pub counted: usize,
}

impl Transaction {
    fn queue(&mut self, number: u16, command: &'static Command, args: OwnedArgs) {
        self.bytes += args.memory_bytes() + size_of::<(u16, &'static Command, OwnedArgs)>();
        self.commands.push((number, command, args));
    }

    /// Whether one of its commands has this flag.
    pub(crate) fn has_flag(&self, flag: u32) -> bool {
        self.commands.iter().any(|(_, command, args)| leaf_unchecked(command, args.args()).flags & flag != 0)
    }

    /// Whether one of its commands has to do with scripts.
    pub(crate) fn has_script(&self) -> bool {
        self.commands.iter().any(|(_, command, args)| matches!(leaf_unchecked(command, args.args()).run, Run::Script(_)))
    }

    /// Whether one of its commands changes keys.
    pub(crate) fn may_write(&self) -> bool {
        self.commands
            .iter()
            .map(|(_, command, args)| leaf_unchecked(command, args.args()))
            .any(|leaf| leaf.is_write() || leaf.flags & flag::CHANGES_KEYS != 0)
    }
}

/// Keys `EXEC` depends on.
#[derive(Default)]
pub(crate) struct Watch {
    /// Set when one of them changed.
    pub flag: Arc<AtomicBool>,
    /// Which, by the number the client had for their database.
    pub places: HashSet<Place, foldhash::fast::RandomState>,
}

impl Session {
    /// A session for a client that has just come.
    pub fn new(instance: Arc<Instance>, client: Arc<Client>, stats: Arc<WorkerStats>, who: Who) -> Session {
        let identity = Identity { who, from: Arc::clone(&client.from), only: None };
        Session {
            instance,
            client,
            db: 0,
            now_ns: clock::now_ns(),
            identity,
            txn: None,
            is_closed: false,
            watch: Watch::default(),
            subscriptions: Default::default(),
            replies: Replies::On,
            closes: false,
            block: None,
            wrote_epoch: 0,
            wrote_bytes: 0,
            line_share: LineShare::default(),
            last_wrote_epoch: 0,
            awaits_disk: false,
            missing: Vec::new(),
            fetched: Vec::new(),
            pin: None,
            slots: Slots::default(),
            waiting: Waiting::Allowed,
            tracks: None,
            stats,
            buffers: Buffers::default(),
            last: None,
            untimed: SmallVec::new(),
            is_shut_out: false,
            has_failed_inside: false,
            shelf: None,
        }
    }

    /// Notes who the client is from now on.
    pub(crate) fn is_now(&mut self, who: Who) {
        if self.identity.who == who {
            return;
        }
        let peer = if let Who::Peer(id) = &who { Some(Arc::clone(id)) } else { None };
        self.client.about.lock().peer = peer;
        self.identity.who = who;
    }

    /// Notes that the client is no peer any more.
    pub(crate) fn is_no_peer(&mut self) {
        self.is_now(self.identity.but_no_peer());
    }

    /// The time, in milliseconds since the epoch, as of the last look at the clock.
    pub(crate) fn now(&self) -> u64 {
        self.now_ns / 1_000_000
    }

    /// Looks at the clock; to be called when a batch of commands begins.
    pub(crate) fn tick(&mut self) {
        self.now_ns = clock::now_ns();
    }

    /// Counts the fast commands that are not counted yet; to be called when a batch of commands ends.
    #[inline]
    pub(crate) fn settle(&mut self) {
        if self.untimed.is_empty() {
            return;
        }
        let before = self.now_ns;
        self.tick();
        let each_ns = self.now_ns.saturating_sub(before) / self.untimed.len() as u64;
        let mut untimed = std::mem::take(&mut self.untimed);
        for (number, failed) in untimed.drain(..) {
            self.count(number, each_ns, failed);
        }
        // Its room serves again.
        self.untimed = untimed;
    }

    /// Carries out one command and writes its reply.
    pub(crate) fn execute(&mut self, args: Args<'_>, reply: &mut Reply) -> Flow {
        let instance = Arc::clone(&self.instance);
        self.execute_in(&mut Turn::new(&instance.engine), args, reply)
    }

    /// The same, as a part of a turn.
    pub(crate) fn execute_in(&mut self, turn: &mut Turn<'_>, args: Args<'_>, reply: &mut Reply) -> Flow {
        let mark = reply.mark();
        let mut flow = match self.check(turn, args, reply) {
            Ok(Some((number, command))) => self.run(turn, number, command, args, reply),
            Ok(None) => Flow::Next,
            Err(Refusal::Error(error)) => {
                turn.release();
                self.let_go_of_values();
                self.refuse(args, error, reply);
                Flow::Next
            }
            Err(Refusal::Paused(left_ms)) => {
                turn.release();
                return self.pause(left_ms, args, reply);
            }
            Err(Refusal::ShutOut(left_ms)) => {
                turn.release();
                return self.wait_for_script(left_ms, args, reply);
            }
        };
        match self.replies {
            Replies::On => {}
            Replies::SkipNext => self.replies = Replies::Skip,
            // What is told of subscriptions is no reply but a push.
            Replies::Off | Replies::Skip => {
                if !is_push(args) {
                    reply.truncate(mark);
                }
                if let Flow::Wait(wait) = &mut flow {
                    wait.is_muted = true;
                }
                if self.replies == Replies::Skip {
                    self.replies = Replies::On;
                }
            }
        }
        self.forget_choice(args);
        if self.closes { Flow::Close } else { flow }
    }

    /// Finds the command and checks all that can be known before it runs. None if it was queued.
    #[inline]
    fn check(
        &mut self,
        turn: &mut Turn<'_>,
        args: Args<'_>,
        reply: &mut Reply,
    ) -> Result<Option<(u16, &'static Command)>, Refusal> {
        let (number, command) = self.look_up(args)?;
        let leaf = leaf(command, args)?;
        let number = table::number_of(number, command, leaf);
        if !command.subcommands.is_empty() {
            self.client.last_command.store(u64::from(number) + 1, Relaxed);
        }
        if !leaf.takes(args.len() - 1) {
            return Err(self.rejected(number, args::wrong_number(&full_name(command, leaf))));
        }
        let asked = Asked { command, leaf, number, args };
        if self.instance.engine.solo().is_shut() && self.identity.is_known() && !script::lets_pass(leaf, args) {
            let left_ms = self.instance.scripts.running.patience_ms(&self.instance.config);
            return Err(if left_ms > 0 {
                Refusal::ShutOut(left_ms)
            } else {
                self.rejected(number, self.instance.scripts.running.busy())
            });
        }
        let is_short = self.identity.is_known() && asked.grows(self.txn.as_ref()) && evict::is_due(&self.instance.engine) && {
            turn.release();
            self.make_room()
        };
        let state = State { instance: &self.instance, txn: self.txn.as_ref(), is_short };
        admit(&self.identity, &asked, &state).map_err(|error| self.rejected(number, error))?;
        if reply.protocol() == Protocol::Resp2 && self.subscription_count() > 0 && !allowed_while_subscribed(command.name) {
            let text = format!(
                "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
                full_name(command, leaf)
            );
            return Err(self.rejected(number, Error::new(text)));
        }
        if self.waiting == Waiting::Allowed
            && command.flags & flag::ALLOW_BUSY == 0
            // Redis holds this back as well, so that a pause which is far too long can only be ended by killing the server.
            && leaf.name != "unpause"
            && let Some(left_ms) = self.instance.pause.holds(|| {
                asked.may_write(self.txn.as_ref()) || script::may_write(&self.instance, leaf, args)
            })
        {
            return Err(Refusal::Paused(left_ms));
        }
        let is_shown = self.instance.monitor_count.load(Relaxed) > 0 && !self.has_fetched();
        if is_shown && leaf.flags & (flag::SKIP_MONITOR | flag::ADMIN) == 0 {
            turn.release();
            monitor::show(self, leaf, args);
        }
        if let Some(txn) = &mut self.txn
            && !transactions::runs_at_once(command.name)
        {
            if leaf.flags & flag::NO_MULTI != 0 {
                return Err(self.rejected(number, Error::new("ERR Command not allowed inside a transaction")));
            }
            txn.queue(number, command, args.to_owned());
            self.client.queued.store(txn.commands.len() as u64 + 1, Relaxed);
            self.client.queued_bytes.store(txn.bytes as u64, Relaxed);
            if txn.bytes as u64 > self.instance.config.count(Name::ClientQueryBufferLimit) {
                transactions::overflow(self);
                return Ok(None);
            }
            reply.simple("QUEUED");
            return Ok(None);
        }
        Ok(Some((number, command)))
    }

    #[inline]
    fn look_up(&mut self, args: Args<'_>) -> Result<(u16, &'static Command), Refusal> {
        let name = args.at(0);
        if let Some((number, command)) = self.last
            && name.eq_ignore_ascii_case(command.name.as_bytes())
        {
            return Ok((number, command));
        }
        let Some(found) = self.instance.table.find(name) else {
            if is_foreign(name) {
                self.closes = true;
                self.note_foreigner();
                return Err(Refusal::Error(Error::new(FOREIGN)));
            }
            return Err(Refusal::Error(unknown(args)));
        };
        self.last = Some(found);
        self.client.last_command.store(u64::from(found.0) + 1, Relaxed);
        Ok(found)
    }

    /// Notes that this client, which is closed now, speaks HTTP or TLS.
    #[cold]
    pub(crate) fn note_foreigner(&self) {
        static SEEN: Seldom = Seldom::new();
        if let Some(unsaid) = SEEN.say(clock::monotonic_ms()) {
            tracing::warn!(
                "possible SECURITY ATTACK: {} sent HTTP or TLS to the port for clients of Redis, as a browser does when a web page makes it \
                 (cross-protocol scripting); closed it ({unsaid} more were closed since the last line like this)",
                self.client.from.address
            );
        }
    }

    /// Evicts keys until `maxmemory` is kept, or nothing is left that may go; tells whether memory is still short.
    #[inline]
    pub(crate) fn make_room(&mut self) -> bool {
        let Some(evicted) = evict::make_room(&self.instance.engine) else { return false };
        let is_short = evicted.is_short;
        self.evicted(evicted);
        is_short
    }

    /// Tells of keys that had to go.
    fn evicted(&mut self, evicted: Evicted) {
        publish_events(&self.instance.engine, &evicted.events);
        self.instance.engine.tracking().tell(&evicted.invalid, None);
        self.instance.engine.serve(evicted.touched);
        // Where the reply waits for the journal, whoever waits pokes: later, so that more is in the commit.
        if let Some(durability) = self.instance.durability().filter(|durability| durability.awaited().is_none()) {
            durability.poke();
        }
    }

    fn rejected(&self, number: u16, error: Error) -> Refusal {
        self.reject(number);
        Refusal::Error(error)
    }

    /// Counts a command that may not run.
    pub(crate) fn reject(&self, number: u16) {
        self.stats.commands[usize::from(number)].rejected();
    }

    fn refuse(&mut self, args: Args<'_>, mut error: Error, reply: &mut Reply) {
        if args.is(0, "exec") {
            transactions::end(self);
            let cause = error.0.strip_prefix("ERR ").unwrap_or(&error.0);
            error = Error::new(format!("EXECABORT Transaction discarded because of: {cause}"));
        } else if let Some(txn) = &mut self.txn {
            txn.is_refused = true;
        }
        self.instance.stats.error(&error.0);
        reply.error(&error.0);
    }

    /// Runs a command that was admitted, and counts it.
    #[inline]
    fn run(&mut self, turn: &mut Turn<'_>, number: u16, command: &'static Command, args: Args<'_>, reply: &mut Reply) -> Flow {
        let is_fast = command.flags & (flag::FAST | flag::QUICK) != 0 && !self.instance.notes_fast_commands.load(Relaxed);
        if !is_fast {
            turn.release();
            self.settle();
            self.tick();
        }
        let before = self.now_ns;
        let mark = reply.mark();
        let outcome = self.perform(turn, command, args, reply);
        if std::mem::take(&mut self.is_shut_out) {
            turn.release();
            reply.truncate(mark);
            return self.wait_for_script(self.instance.scripts.running.patience_ms(&self.instance.config), args, reply);
        }
        if self.instance.engine.loads().has_dropped() {
            if !self.missing.is_empty() {
                turn.release();
                reply.truncate(mark);
                return self.fetch(args, reply);
            }
            self.let_go_of_values();
        }
        let failed = std::mem::take(&mut self.has_failed_inside) || outcome.is_err();
        if let Err(error) = outcome {
            reply.truncate(mark);
            self.instance.stats.error(&error.0);
            reply.error(&error.0);
        }
        if self.is_stand_in() {
            // Whoever has the session counts it when it is over.
        } else if is_fast {
            self.untimed.push((number, failed));
            if self.untimed.len() == FAST_COMMANDS_PER_TICK {
                self.settle();
            }
        } else {
            self.tick();
            // One that is to be run again is counted then.
            if self.block.as_ref().is_none_or(|block| !block.tries_again) {
                self.count(number, self.now_ns.saturating_sub(before), failed);
            }
        }
        let took = self.now_ns.saturating_sub(before);
        if !self.is_stand_in() && (took > 1_000_000 || self.instance.notes_fast_commands.load(Relaxed)) {
            slowlog::note(self, command, args, took);
        }
        match self.block.take() {
            Some(block) => self.wait(block),
            None => Flow::Next,
        }
    }

    /// Runs a command under the locks it needs.
    #[inline]
    fn perform(&mut self, turn: &mut Turn<'_>, command: &'static Command, args: Args<'_>, reply: &mut Reply) -> Outcome {
        let command = leaf_unchecked(command, args);
        if let Run::Session(run) = command.run {
            turn.release();
            return run(self, args, reply);
        }
        if let Run::Server(run) = command.run {
            turn.release();
            return run(self, &mut Shards::Free, args, reply);
        }
        if let Run::Script(_) = command.run {
            turn.release();
            return own_stack::carry(self, args, reply, script::alone);
        }
        let mut ran = with_scope(command, args, |scope| {
            let view = if self.waiting == Waiting::Over {
                // It answers that nothing came, without looking.
                Some(turn.view_beside(self.db, self.now(), scope))
            } else {
                turn.view(self.db, self.now(), scope)
            };
            let Some(mut view) = view else {
                self.is_shut_out = true;
                return Ran {
                    outcome: Err(self.instance.scripts.running.busy()),
                    events: Vec::new(),
                    touched: Vec::new(),
                    invalid: Vec::new(),
                    wrote: Wrote::default(),
                };
            };
            view.waiting = self.waiting;
            view.leaves_access = self.leaves_access(command);
            let outcome;
            if lacks(&mut view, command, scope) {
                outcome = Err(error::ON_DISK);
            } else {
                (outcome, view) = call(view, command, args, reply);
                self.remember_reads(&mut view, command, args);
            }
            if let (Some(block), Ok(())) = (view.block.take(), &outcome) {
                self.block = Some(queue(&mut view, block, args, &self.client, reply.protocol()));
            }
            // Also where it found a way to answer without: `MGET` passes over what it cannot read.
            if !view.missing.is_empty() {
                self.missing = view.take_missing();
            }
            let ran = Ran {
                outcome,
                events: std::mem::take(&mut view.events),
                touched: touched(&mut view),
                invalid: view.take_invalid(),
                wrote: view.wrote(),
            };
            // What follows takes other locks.
            if ran.outcome.is_ok() && ran.events.is_empty() && ran.touched.is_empty() && ran.invalid.is_empty() {
                turn.keep(view.held);
            }
            ran
        });
        self.after(&mut ran);
        ran.outcome
    }

    /// Runs with these keys of the session's database locked, and does what follows a command.
    pub(crate) fn locked<R>(&mut self, scope: Scope<'_>, run: impl FnOnce(&mut Write<'_>) -> R) -> R {
        let engine = Arc::clone(&self.instance.engine);
        // It was admitted before the keyspace was shut, or looks at no values, as WATCH.
        let mut keys = Write(engine.view_beside(self.db, self.now(), scope));
        let result = run(&mut keys);
        self.missing.extend(keys.take_missing());
        let mut ran = Ran {
            outcome: Ok(()),
            events: keys.take_events(),
            touched: touched(&mut keys),
            invalid: keys.take_invalid(),
            wrote: keys.wrote(),
        };
        drop(keys);
        self.after(&mut ran);
        result
    }

    /// Whether a command of this client leaves the access times of keys alone. `TOUCH` never does.
    #[inline]
    pub(crate) fn leaves_access(&self, command: &Command) -> bool {
        self.client.has_state(state::NO_TOUCH) && command.name != "touch"
    }

    /// What follows a command once its locks are released: its events, those who waited for its keys, the journal.
    #[inline]
    pub(crate) fn after(&mut self, ran: &mut Ran) {
        if !ran.events.is_empty() {
            publish_events(&self.instance.engine, &ran.events);
        }
        self.instance.engine.tracking().tell(&ran.invalid, Some(self.client.id));
        if !ran.touched.is_empty() {
            self.instance.engine.serve(std::mem::take(&mut ran.touched));
        }
        self.wrote(ran.wrote);
    }

    /// Notes a change of this client, if there was one. A write that changed nothing must not wake the committer, which would look through
    /// all shards in vain.
    #[inline]
    pub(crate) fn wrote(&mut self, Wrote { epoch, bytes }: Wrote) {
        if epoch == 0 {
            return;
        }
        self.wrote_bytes += bytes;
        self.wrote_epoch = epoch;
        self.last_wrote_epoch = epoch;
        // Where the reply waits for the journal, whoever waits pokes: later, so that more is in the commit.
        if let Some(durability) = self.instance.durability().filter(|durability| durability.awaited().is_none()) {
            durability.poke();
        }
    }

    /// Whether the replies so far tell of a change of this client.
    pub(crate) fn has_written(&self) -> bool {
        self.wrote_epoch != 0
    }

    /// Bytes that went to the journal since this was asked before.
    pub(crate) fn take_wrote_bytes(&mut self) -> usize {
        std::mem::take(&mut self.wrote_bytes)
    }

    /// What the replies so far must wait for, if they must.
    pub(crate) fn awaited(&mut self) -> Option<Awaited> {
        let awaits_disk = std::mem::take(&mut self.awaits_disk);
        let wrote = std::mem::take(&mut self.wrote_epoch);
        let wrote = if awaits_disk { self.last_wrote_epoch } else { wrote };
        // Also what others changed is shown only once it is on disk: a client acts on what it reads.
        let unshown = self.instance.engine.unshown_epoch();
        let epoch = wrote.max(unshown);
        if epoch == 0 {
            return None;
        }
        let durability = self.instance.durability()?;
        // Where the disk takes nothing, reads go on, with what was changed before it refused: a restart may take that back.
        if wrote == 0 && durability.refusal().is_some() {
            return None;
        }
        let stage = if awaits_disk || unshown > 0 { Stage::Durable } else { durability.awaited()? };
        Some(Awaited { stage, epoch })
    }

    /// How many names it listens to, of all kinds.
    pub(crate) fn subscription_count(&self) -> usize {
        self.subscriptions.iter().map(BTreeSet::len).sum()
    }

    /// Counts a call.
    pub(crate) fn count(&self, number: u16, took_ns: u64, failed: bool) {
        let is_tracked = self.instance.stats.is_tracking.load(Relaxed);
        self.stats.commands[usize::from(number)].called(took_ns, failed, is_tracked);
    }

    /// Counts bytes that came and went.
    pub(crate) fn moved(&self, bytes_in: usize, bytes_out: usize) {
        self.stats.moved(bytes_in, bytes_out);
    }

    /// What the client may send.
    pub(crate) fn limits(&self) -> crate::resp::Limits {
        crate::resp::Limits {
            bulk_bytes_max: self.instance.config.count(Name::ProtoMaxBulkLen),
            is_authenticated: self.identity.is_known(),
        }
    }
}

/// The client is gone: undoes all that others could still see of it.
impl Drop for Session {
    fn drop(&mut self) {
        self.close();
    }
}

impl Session {
    /// Leaves nothing of it behind: what it watches, listens to and waits for. A session that is dropped does so itself.
    pub(crate) fn close(&mut self) {
        if std::mem::replace(&mut self.is_closed, true) {
            return;
        }
        transactions::unwatch(self);
        self.stop_tracking();
        room::leave(self);
        for (topic, names) in
            [Topic::Channel, Topic::Pattern, Topic::Shard].into_iter().zip(std::mem::take(&mut self.subscriptions))
        {
            for name in names {
                self.instance.engine.pubsub().unsubscribe(topic, &name, &self.client.mailbox);
            }
        }
        if self.client.has_state(state::MONITOR) {
            self.instance.monitors.lock().retain(|other| !Arc::ptr_eq(other, &self.client));
            self.instance.monitor_count.fetch_sub(1, Relaxed);
        }
        self.instance.clients.disconnect(&self.client);
    }
}

/// The error in the place of replies that may not go out: the disk has refused for a while to take what they tell of.
pub(crate) fn not_kept(cause: &str) -> String {
    format!(
        "MISCONF Errors writing to the journal: {cause}; what was asked last was done but is not on disk, and may not be kept"
    )
}

/// Why a command does not run now.
enum Refusal {
    Error(Error),
    /// By a pause that lasts for so many more milliseconds.
    Paused(u64),
    /// By a script that takes long, and is waited for so many more milliseconds.
    ShutOut(u64),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal::Error(error)
    }
}

/// What a command left to be done once its locks are released.
pub(crate) struct Ran {
    pub(crate) outcome: Outcome,
    pub(crate) events: Vec<Event>,
    pub(crate) touched: Vec<Place>,
    pub(crate) invalid: Vec<Invalid>,
    pub(crate) wrote: Wrote,
}

/// Whether a command on several keys must wait for values of theirs. One on a single key finds that out itself before it changes it.
#[inline]
pub(crate) fn lacks(view: &mut Read<'_>, command: &Command, scope: Scope<'_>) -> bool {
    let Scope::Keys(keys @ [_, _, ..]) = scope else { return false };
    view.engine().loads().has_dropped()
        && !view.is_over()
        && marks::reads_values(command.name)
        && view.lacks(keys.iter().copied())
}

/// Calls a command's function with a view, and gives the view back.
#[inline]
pub(crate) fn call<'a>(mut view: Read<'a>, command: &Command, args: Args<'_>, reply: &mut Reply) -> (Outcome, Read<'a>) {
    match command.run {
        Run::Read(run) => (run(&mut view, args, reply), view),
        Run::Write(run) => {
            let mut view = Write(view);
            (run(&mut view, args, reply), view.0)
        }
        Run::Session(_) | Run::Server(_) | Run::Script(_) | Run::Container => {
            unreachable!("only commands on keys are called with a view")
        }
    }
}

/// The keys that were touched at which someone waits. Asked of the shards that are held: who joins a queue there is seen.
pub(crate) fn touched(view: &mut Read<'_>) -> Vec<Place> {
    view.take_touched()
}

/// Runs with the scope of a command's keys.
#[inline]
pub(crate) fn with_scope<R>(command: &Command, args: Args<'_>, run: impl FnOnce(Scope<'_>) -> R) -> R {
    match command.keys {
        Keys::Range { first: 1, last: 1, .. } => run(Scope::Keys(&[args.at(1)])),
        Keys::None => run(Scope::Nothing),
        _ if command.may_touch_any_key(args) => run(Scope::Everything),
        _ => {
            let keys: SmallVec<[&[u8]; 8]> = command.key_positions(args).into_iter().filter_map(|at| args.get(at)).collect();
            run(Scope::Keys(&keys))
        }
    }
}

/// The subcommand that is meant, or the command itself.
pub(crate) fn leaf(command: &'static Command, args: Args<'_>) -> Result<&'static Command, Error> {
    if command.subcommands.is_empty() {
        return Ok(command);
    }
    let Some(name) = args.get(1) else {
        return if matches!(command.run, Run::Container) { Err(args::wrong_number(command.name)) } else { Ok(command) };
    };
    match command.subcommands.iter().find(|sub| name.eq_ignore_ascii_case(sub.name.as_bytes())) {
        Some(sub) => Ok(sub),
        None => {
            if let Some(refusal) = absent::refusal(args) {
                return Err(refusal);
            }
            let name = String::from_utf8_lossy(&name[..name.len().min(128)]).into_owned();
            Err(Error::new(format!("ERR unknown subcommand '{name}'. Try {} HELP.", command.name.to_uppercase())))
        }
    }
}

/// The same, for arguments that were admitted.
#[inline]
pub(crate) fn leaf_unchecked(command: &'static Command, args: Args<'_>) -> &'static Command {
    if command.subcommands.is_empty() { command } else { leaf(command, args).unwrap_or(command) }
}

/// `config|get` for a subcommand, else the name.
pub(crate) fn full_name(command: &Command, leaf: &Command) -> String {
    if std::ptr::eq(command, leaf) { command.name.to_owned() } else { format!("{}|{}", command.name, leaf.name) }
}

fn unknown(args: Args<'_>) -> Error {
    if let Some(refusal) = absent::refusal(args) {
        return refusal;
    }
    let name = String::from_utf8_lossy(&args.at(0)[..args.at(0).len().min(128)]).into_owned();
    let mut with = String::new();
    for arg in table::shown_of_stranger(args) {
        if with.len() >= 128 {
            break;
        }
        let room = 128 - with.len();
        with.push_str(&format!("'{}' ", String::from_utf8_lossy(&arg[..arg.len().min(room)])));
    }
    Error::new(format!("ERR unknown command '{name}', with args beginning with: {with}"))
}

/// Whether what a command answers are pushes, which a client gets even where it wants no replies.
fn is_push(args: Args<'_>) -> bool {
    args.get(0).is_some_and(|name| name.to_ascii_lowercase().ends_with(b"subscribe"))
}

fn allowed_while_subscribed(name: &str) -> bool {
    matches!(
        name,
        "subscribe" | "unsubscribe" | "psubscribe" | "punsubscribe" | "ssubscribe" | "sunsubscribe" | "ping" | "quit" | "reset"
    )
}

/// Tells the observer and publishes keyspace notifications.
pub(crate) fn publish_events(engine: &Engine, events: &[Event]) {
    engine.notifications().tell(events.iter());
    notify_subscribers(engine, events);
}

/// Publishes keyspace notifications.
pub(crate) fn notify_subscribers(engine: &Engine, events: &[Event]) {
    let flags = engine.notifications().flags();
    for event in events.iter().filter(|event| engine.notifications().wants(event.class)) {
        if flags & notify::KEYSPACE != 0 {
            let mut channel = format!("__keyspace@{}__:", event.db).into_bytes();
            channel.extend_from_slice(&event.key);
            engine.pubsub().publish(&channel, event.name.as_bytes());
        }
        if flags & notify::KEYEVENT != 0 {
            engine.pubsub().publish(format!("__keyevent@{}__:{}", event.db, event.name).as_bytes(), &event.key);
        }
    }
}

impl Session {
    /// Notes the keys that a command of this client read, where it is to be told of their changes. To be called under their locks.
    #[inline]
    pub(crate) fn remember_reads(&self, view: &mut Read<'_>, leaf: &Command, args: Args<'_>) {
        if let Some(tracks) = &self.tracks
            && (matches!(leaf.run, Run::Read(_)) || leaf.flags & flag::READ_ONLY != 0)
            && tracks.remembers()
        {
            for at in leaf.key_positions(args) {
                if let Some(key) = args.get(at) {
                    view.track(key, self.client.id);
                }
            }
        }
    }

    /// `CLIENT CACHING` counts for one command, or for one transaction.
    #[inline]
    pub(crate) fn forget_choice(&mut self, args: Args<'_>) {
        if let Some(tracks) = &mut self.tracks
            && self.txn.is_none()
            && !args.is(0, "client")
        {
            tracks.is_chosen = false;
        }
    }

    /// Tells the client no more.
    pub(crate) fn stop_tracking(&mut self) {
        if self.tracks.take().is_some() {
            self.instance.engine.tracking().stop(self.client.id);
            *self.client.tracker.lock() = None;
        }
    }
}
