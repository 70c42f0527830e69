//! What is tried: a server's thread on one side, the task of a client, or the keeper of a gate, on the other.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Release},
};
use std::task::{Context, Poll};

use loom::future::{AtomicWaker, block_on};
use loom::sync::Mutex;
use loom::thread;
use tokio::sync::watch;

use crate::engine::durability::{Awaited, Durability, Stage};
use crate::engine::gate::{Gate, Visit};
use crate::engine::mailbox::{Ended, Mailbox, Outlet};

/// So many times may a thread lose its core where it need not. Each fault that was put in on purpose is found with two; three take minutes.
const PREEMPTIONS_MAX: usize = 2;

fn in_every_order(run: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(PREEMPTIONS_MAX);
    model.check(run);
}

/// What has gone to the client, and how much an outlet can send at once.
#[derive(Default)]
struct Wire {
    out: Mutex<Vec<u8>>,
    room: usize,
}

impl Wire {
    fn new(room: usize) -> Arc<Wire> {
        Arc::new(Wire { out: Mutex::default(), room })
    }

    fn out(&self) -> String {
        String::from_utf8_lossy(&self.out.lock().unwrap()).into_owned()
    }
}

impl Outlet for Wire {
    fn begin(&self) -> bool {
        true
    }

    fn send(&self, bytes: &[u8]) -> usize {
        let len = bytes.len().min(self.room);
        self.out.lock().unwrap().extend_from_slice(&bytes[..len]);
        len
    }
}

/// A client that waits and sends two commands more meanwhile: one is answered at once, with `3`, the other, with `4`, once its change is on
/// disk. Its steps are those of `connection::Connection::poll` and of what follows from each event, in their order, and must stay so: a
/// change there is made here too.
#[derive(Default)]
struct Client {
    reply: Vec<u8>,
    sent: usize,
    shown: usize,
    /// Where the replies end that wait for the disk.
    held: Option<usize>,
    is_answered: bool,
    has_read: bool,
    commands: &'static [u8],
}

/// What the client's task learns from elsewhere than its mailbox.
#[derive(Default)]
struct Elsewhere {
    has_sent_more: AtomicBool,
    is_durable: AtomicBool,
    waker: AtomicWaker,
}

impl Elsewhere {
    fn tell(&self, what: &AtomicBool) {
        what.store(true, Release);
        self.waker.wake();
    }
}

impl Client {
    /// Whether something was done.
    fn step(&mut self, mailbox: &Mailbox, wire: &Wire, elsewhere: &Elsewhere, cx: &mut Context<'_>) -> bool {
        mailbox.register(cx.waker());
        elsewhere.waker.register_by_ref(cx.waker());
        if elsewhere.is_durable.load(Acquire)
            && let Some(end) = self.held.take()
        {
            self.shown = end;
            return true;
        }
        let may_send = self.shown == self.sent || mailbox.is_free();
        if let Some(end) = &mut self.held {
            let rest = mailbox.take_rest();
            self.shown += rest.len();
            *end += rest.len();
            self.reply.splice(self.sent..self.sent, rest);
        }
        if self.held.is_none()
            && let Some(mail) = mailbox.take()
        {
            self.shown += mail.rest.len();
            self.reply.splice(self.sent..self.sent, mail.rest);
            self.reply.extend(mail.bytes);
            if let Some(Ended::Answer { bytes, .. }) = mail.ended {
                assert!(!std::mem::replace(&mut self.is_answered, true), "it waited once");
                self.reply.extend(bytes);
            }
            self.shown = self.reply.len();
            return true;
        }
        if may_send && self.sent < self.shown {
            wire.out.lock().unwrap().extend_from_slice(&self.reply[self.sent..self.shown]);
            self.sent = self.shown;
            return true;
        }
        self.held.is_none() && self.read(mailbox, elsewhere)
    }

    /// Reads where nothing can be sent, and runs a command if none waits.
    fn read(&mut self, mailbox: &Mailbox, elsewhere: &Elsewhere) -> bool {
        if !self.has_read {
            self.has_read = elsewhere.has_sent_more.load(Acquire);
            if self.has_read {
                mailbox.take_back();
            }
            return self.has_read;
        }
        let Some((command, later)) = self.commands.split_first().filter(|_| self.is_answered) else { return false };
        self.commands = later;
        self.reply.push(*command);
        if *command == b'4' {
            self.held = Some(self.reply.len());
        } else {
            self.shown = self.reply.len();
        }
        true
    }
}

/// An answer through an outlet that has so much room, and those to what the client sends meanwhile.
fn answer(room: usize, commands: &'static [u8]) {
    in_every_order(move || {
        let (mailbox, wire, elsewhere) = (Arc::new(Mailbox::default()), Wire::new(room), Arc::<Elsewhere>::default());
        mailbox.lend(Arc::clone(&wire) as Arc<dyn Outlet>);
        let (client_s, others) = (Arc::clone(&mailbox), Arc::clone(&elsewhere));
        let server = thread::spawn(move || {
            client_s.serve(b"12".to_vec(), 0);
            if commands.contains(&b'4') {
                others.tell(&others.is_durable);
            }
        });
        let others = Arc::clone(&elsewhere);
        let network = thread::spawn(move || others.tell(&others.has_sent_more));
        let mut client = Client { commands, ..Client::default() };
        let expected = [b"12", commands].concat();
        block_on(poll_fn(|cx| {
            while client.step(&mailbox, &wire, &elsewhere, cx) {}
            let has_all = wire.out.lock().unwrap().len() == expected.len();
            if has_all { Poll::Ready(()) } else { Poll::Pending }
        }));
        server.join().unwrap();
        network.join().unwrap();
        assert_eq!(wire.out(), String::from_utf8_lossy(&expected));
    });
}

#[test]
fn an_answer_that_goes_out_at_once_comes_first() {
    answer(2, b"34");
}

#[test]
fn an_answer_of_which_a_part_goes_out_comes_first() {
    answer(1, b"34");
}

#[test]
fn an_answer_that_cannot_go_out_comes_first() {
    answer(0, b"34");
}

/// Where nothing more comes from elsewhere, the end of sending alone wakes a task that wants to send.
#[test]
fn who_waits_for_the_end_of_sending_is_woken() {
    answer(2, b"3");
}

/// A task that takes its outlet back gets the answer once: by the outlet, or as mail that wakes it.
#[test]
fn an_outlet_may_be_taken_back_at_any_moment() {
    in_every_order(|| {
        let (mailbox, wire) = (Arc::new(Mailbox::default()), Wire::new(2));
        mailbox.lend(Arc::clone(&wire) as Arc<dyn Outlet>);
        let other = Arc::clone(&mailbox);
        let server = thread::spawn(move || other.serve(b"12".to_vec(), 0));
        mailbox.take_back();
        let (bytes, sent) = block_on(poll_fn(|cx| {
            mailbox.register(cx.waker());
            match mailbox.take().and_then(|mail| mail.ended) {
                Some(Ended::Answer { bytes, sent, .. }) => Poll::Ready((bytes, sent)),
                _ => Poll::Pending,
            }
        }));
        server.join().unwrap();
        let by_outlet = wire.out();
        assert_eq!(sent.is_some(), !by_outlet.is_empty());
        assert_eq!(by_outlet + &String::from_utf8_lossy(&bytes), "12");
    });
}

/// Two who leave mail: nothing is lost, and the task is woken for the last.
#[test]
fn mail_of_two_is_all_found() {
    in_every_order(|| {
        let mailbox = Arc::new(Mailbox::default());
        let senders = [b"1", b"2"].map(|bytes| {
            let mailbox = Arc::clone(&mailbox);
            thread::spawn(move || mailbox.send(bytes))
        });
        let mut found = 0;
        block_on(poll_fn(|cx| {
            mailbox.register(cx.waker());
            found += mailbox.take().map_or(0, |mail| mail.bytes.len());
            if found == 2 { Poll::Ready(()) } else { Poll::Pending }
        }));
        senders.into_iter().for_each(|sender| sender.join().unwrap());
    });
}

/// Commits as soon as it is told that someone waits, and never else.
struct Disk {
    written: watch::Sender<u64>,
    durable: watch::Sender<u64>,
}

impl Disk {
    fn at(&self, stage: Stage) -> &watch::Sender<u64> {
        match stage {
            Stage::Written => &self.written,
            Stage::Durable => &self.durable,
        }
    }
}

impl Durability for Disk {
    fn poke(&self) {}
    fn hurry(&self, stage: Stage) {
        self.at(stage).send_replace(1);
    }
    fn awaited(&self) -> Option<Stage> {
        Some(Stage::Durable)
    }
    fn is_crowded(&self) -> bool {
        false
    }
    fn crowded(&self) -> Option<watch::Receiver<bool>> {
        None
    }
    fn reached(&self, stage: Stage) -> watch::Receiver<u64> {
        self.at(stage).subscribe()
    }
    fn write_error(&self) -> Option<String> {
        None
    }
}

/// Whoever comes to a gate is told of to the committer, and let through, whatever its keeper does at that moment.
#[test]
fn who_comes_to_a_gate_is_let_through() {
    for stage in [Stage::Written, Stage::Durable] {
        comes_to_a_gate(Awaited { stage, epoch: 1 });
    }
}

fn comes_to_a_gate(awaited: Awaited) {
    in_every_order(move || {
        let (gate, is_over, told) = (Arc::new(Gate::default()), Arc::new(AtomicBool::new(false)), Arc::new(AtomicWaker::new()));
        let (kept, ends, tells) = (Arc::clone(&gate), Arc::clone(&is_over), Arc::clone(&told));
        let keeper = thread::spawn(move || {
            let mut keeping =
                Box::pin(kept.keep(Arc::new(Disk { written: watch::Sender::new(0), durable: watch::Sender::new(0) })));
            block_on(poll_fn(|cx| {
                tells.register_by_ref(cx.waker());
                if ends.load(Acquire) { Poll::Ready(()) } else { keeping.as_mut().poll(cx) }
            }));
        });
        let mut visit = Visit::default();
        assert_eq!(block_on(poll_fn(|cx| gate.poll(awaited, &mut visit, cx))), Ok(()));
        is_over.store(true, Release);
        told.wake();
        keeper.join().unwrap();
    });
}
