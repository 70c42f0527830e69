//! A session that waits: how a command begins to, who is told, and what is left to do when the wait is over, one way or another. What
//! ends a wait stands in `engine::block`.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::clock;
use crate::commands::clients::{Client, state};
use crate::commands::instance::Instance;
use crate::commands::session::{Flow, Replies, Session};
use crate::commands::{slowlog, transactions};
use crate::engine::block::{Block, Waiter};
use crate::engine::error;
use crate::engine::keys::{KeyWait, Read, Waiting};
use crate::engine::load::{Missing, Pin};
use crate::engine::turn::Turn;
use crate::resp::{Args, Protocol, Reply};

/// What a connection waits for before it goes on.
pub(crate) struct Wait {
    /// What is to be ended.
    pub waiter: Arc<Waiter>,
    /// When it ends by itself, on the monotonic clock; None for never.
    pub until: Option<u64>,
    /// See [`Block::tries_again`].
    pub tries_again: bool,
    /// See [`Block::is_under_way`].
    pub is_under_way: bool,
    /// Whether the client wants no answer (`CLIENT REPLY`).
    pub is_muted: bool,
    /// Whether the session itself is away, and comes back with the answer.
    pub is_away: bool,
}

impl Session {
    /// Begins to wait, as a command asked.
    pub(super) fn wait(&mut self, block: Block) -> Flow {
        self.instance.engine.waiting().fetch_add(1, Relaxed);
        self.client.set_state(state::BLOCKED, true);
        let Block { waiter, timeout_ms, tries_again, is_under_way } = block;
        // One that stands in for another answers nothing by itself.
        if !tries_again && !self.is_stand_in() {
            *self.client.waiter.lock() = Some(Arc::clone(&waiter));
            if timeout_ms.is_some() {
                self.client.set_state(state::TIMED, true);
                self.instance.stats.timed_waits.fetch_add(1, Relaxed);
            }
        }
        let until = timeout_ms.map(|ms| clock::monotonic_ms().saturating_add(ms));
        Flow::Wait(Wait { waiter, until, tries_again, is_under_way, is_muted: false, is_away: self.is_stand_in() })
    }

    /// Holds a command back until a pause is over.
    pub(super) fn pause(&mut self, left_ms: u64, args: Args<'_>, reply: &Reply) -> Flow {
        let waiter = self.waiter(args, reply);
        self.instance.pause.join(&waiter);
        self.wait(Block { waiter, timeout_ms: Some(left_ms), tries_again: true, is_under_way: false })
    }

    /// Holds a command back until a script has ended, or has taken so long that the command is refused.
    #[cold]
    pub(super) fn wait_for_script(&mut self, left_ms: u64, args: Args<'_>, reply: &Reply) -> Flow {
        let waiter = self.waiter(args, reply);
        self.instance.scripts.running.join(&self.instance.engine, &waiter);
        self.wait(Block { waiter, timeout_ms: Some(left_ms), tries_again: true, is_under_way: true })
    }

    /// Has what a command lacks read from disk, and runs it again then. Where that was in vain once, because values were dropped again
    /// before all were there, those it needs stay until it has run.
    #[cold]
    pub(super) fn fetch(&mut self, args: Args<'_>, reply: &Reply) -> Flow {
        let waiter = self.waiter(args, reply);
        let missing = self.take_missing();
        self.instance.engine.loads().fetch(missing, &waiter);
        self.wait(Block { waiter, timeout_ms: None, tries_again: true, is_under_way: true })
    }

    /// What a command lacks, which is to be read now.
    pub(crate) fn take_missing(&mut self) -> Vec<Missing> {
        let missing = std::mem::take(&mut self.missing);
        let places = missing.iter().map(Missing::place).collect();
        if !self.has_fetched() {
            self.fetched = places;
        } else {
            let pin = self.pin.get_or_insert_with(|| Pin::new(self.instance.engine.loads()));
            pin.keep(std::mem::take(&mut self.fetched));
            pin.keep(places);
        }
        missing
    }

    /// Whether this is another try of the command before, for which values were read.
    #[inline]
    pub(super) fn has_fetched(&self) -> bool {
        !self.fetched.is_empty() || self.pin.is_some()
    }

    /// The command that had values read is over, one way or another.
    #[inline]
    pub(crate) fn let_go_of_values(&mut self) {
        (self.fetched, self.pin) = (Vec::new(), None);
    }

    /// A waiter of this client for a command that waits for no keys.
    pub(crate) fn waiter(&self, args: Args<'_>, reply: &Reply) -> Arc<Waiter> {
        Arc::new(Waiter::new(args.to_owned(), self.db, reply.protocol(), Arc::clone(&self.client.mailbox)))
    }

    /// The wait is over, one way or another: takes the command out of wherever it is kept.
    pub(crate) fn waited(&mut self, wait: &Wait) {
        wait_is_over(&self.instance, &self.client);
        self.forget(wait);
        self.tick();
    }

    /// The same, where whoever answered has already noted that it is over.
    pub(crate) fn forget(&self, wait: &Wait) {
        self.instance.engine.leave(&wait.waiter);
        if wait.tries_again {
            self.instance.pause.leave(&wait.waiter);
            self.instance.scripts.running.leave(&wait.waiter);
        }
    }

    /// Counts the answer a waiting command got; the call itself was counted when it began to wait. Whoever had the session has counted both.
    pub(crate) fn answered(&self, wait: &Wait, bytes: &[u8]) {
        if wait.is_away {
            return;
        }
        let waiter = &wait.waiter;
        if self.instance.notes_fast_commands.load(Relaxed)
            && let Some((_, command)) = self.instance.table.find(waiter.args.args().at(0))
        {
            slowlog::note(self, command, waiter.args.args(), 0);
        }
        let Some(text) = bytes.strip_prefix(b"-") else { return };
        let text = String::from_utf8_lossy(text);
        self.instance.stats.error(text.trim_end());
        if let Some((number, _)) = self.instance.table.find(waiter.args.args().at(0)) {
            self.stats.commands[usize::from(number)].failed_later();
        }
    }

    /// Answers a command whose wait is over and to which nothing came: what it says then, or `with_error` that it was unblocked.
    pub(crate) fn give_up(&mut self, wait: &Wait, with_error: bool, reply: &mut Reply) {
        let mark = reply.mark();
        self.say_nothing_came(&wait.waiter, with_error, reply);
        if wait.is_muted {
            reply.truncate(mark);
        }
    }

    /// Runs a command again whose wait is over.
    pub(crate) fn execute_again(&mut self, wait: &Wait, reply: &mut Reply) -> Flow {
        if wait.is_muted && self.replies == Replies::On {
            self.replies = Replies::Skip;
        }
        self.execute(wait.waiter.args.args(), reply)
    }

    /// A command that was to be run again was answered instead: what it needs cannot be read. What was kept for it is let go.
    pub(crate) fn fetching_failed(&mut self, wait: &Wait) {
        self.let_go_of_values();
        if wait.waiter.args.args().is(0, "exec") {
            transactions::end(self);
        }
    }

    fn say_nothing_came(&mut self, waiter: &Waiter, with_error: bool, reply: &mut Reply) {
        if with_error {
            self.instance.stats.error(error::UNBLOCKED.0.as_ref());
            return reply.error(&error::UNBLOCKED.0);
        }
        let args = waiter.args.args();
        let (_, command) = self.instance.table.find(args.at(0)).expect("it was found when it began to wait");
        let engine = Arc::clone(&self.instance.engine);
        self.waiting = Waiting::Over;
        let outcome = self.perform(&mut Turn::new(&engine), command, args, reply);
        self.waiting = Waiting::Allowed;
        if let Err(error) = outcome {
            self.instance.stats.error(&error.0);
            reply.error(&error.0);
        }
    }
}

/// Notes that a client waits no more.
pub(crate) fn wait_is_over(instance: &Instance, client: &Client) {
    *client.waiter.lock() = None;
    instance.engine.waiting().fetch_sub(1, Relaxed);
    if client.has_state(state::TIMED) {
        instance.stats.timed_waits.fetch_sub(1, Relaxed);
    }
    client.set_state(state::BLOCKED | state::TIMED, false);
}

/// Puts a command that has to wait into the queues of its keys.
#[cold]
pub(super) fn queue(view: &mut Read<'_>, wait: KeyWait, args: Args<'_>, client: &Client, protocol: Protocol) -> Block {
    let again = wait.args.unwrap_or_else(|| args.to_owned());
    let mailbox = Arc::clone(&client.mailbox);
    let waiter = Waiter::at_keys(again, view.db(), protocol, mailbox, wait.keys, wait.want, wait.at_key);
    let waiter = Arc::new(waiter.reading_above(wait.above));
    view.queue(&waiter);
    Block::new(waiter, wait.timeout_ms)
}
