//! Where other threads leave bytes and signals for a client, whose own task picks them up: messages of channels, the
//! answer to a command that waited, an order to close.

use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed, Release},
};
use std::task::Waker;

use atomic_waker::AtomicWaker;
use parking_lot::Mutex;

use crate::resp::Protocol;

/// A client's mailbox.
#[derive(Default)]
pub struct Mailbox {
    mail: Mutex<Mail>,
    has_mail: AtomicBool,
    is_resp3: AtomicU8,
    listens: AtomicBool,
    is_gone: AtomicBool,
    bytes_max: AtomicUsize,
    /// Whether what is above `bytes_max` is counted instead of kept.
    counts_lost: AtomicBool,
    flight: AtomicU8,
    waker: AtomicWaker,
}

/// What [`Mailbox::serve`] does through an outlet: nothing; it sends; it sends, and the client's task waits for the end of it.
mod flight {
    pub(crate) const NONE: u8 = 0;
    pub(crate) const SENDS: u8 = 1;
    pub(crate) const AWAITED: u8 = 2;
}

/// A way to a waiting client that another thread can take, so that an answer need not wait until the client's own thread wakes.
pub trait Outlet: Send + Sync {
    /// Whether this thread should take it: one that has more to do answers more clients in less time by leaving mail. If so, notes that
    /// the client waits no more.
    fn begin(&self) -> bool;

    /// Sends what can be sent at once, and tells how many bytes that was.
    fn send(&self, bytes: &[u8]) -> usize;
}

/// How a wait was ended by someone else than the client's own task.
pub(crate) enum Ended {
    /// With the answer.
    Answer {
        /// What is still to be sent of it.
        bytes: Vec<u8>,
        /// The epoch of its last change.
        epoch: u64,
        /// How much went out by the client's outlet, which also noted that the wait is over.
        sent: Option<usize>,
    },
    /// The command is to be run again.
    Again,
    /// The command is to answer that nothing came, or, `with_error`, that it was unblocked.
    Unblocked {
        /// `CLIENT UNBLOCK … ERROR`.
        with_error: bool,
    },
}

/// What was left in a mailbox.
#[derive(Default)]
pub struct Mail {
    /// Replies and pushes, ready to be sent.
    pub(crate) bytes: Vec<u8>,
    /// How the wait was ended.
    pub(crate) ended: Option<Ended>,
    /// The rest of an answer of which the outlet could send only a part; it goes before all else.
    pub(crate) rest: Vec<u8>,
    /// The connection must be closed, after what was written is sent (true) or at once.
    pub close: Option<bool>,
    /// It must be closed since more waited than [`Mailbox::set_bytes_max`] allows.
    pub(crate) is_too_much: bool,
    /// Messages that came after `bytes` and for which there was no room. See [`Mailbox::count_lost`].
    pub(crate) lost: u64,
    /// See [`Mailbox::lend`].
    outlet: Option<Arc<dyn Outlet>>,
}

impl Mailbox {
    /// Messages that make more bytes than this wait mean the client is too slow: it is closed. 0 for no bound.
    pub(crate) fn set_bytes_max(&self, bytes: usize) {
        self.bytes_max.store(bytes, Relaxed);
    }

    /// Where more waits than may, the client is not closed: later messages are dropped and counted, until what waits was taken.
    pub(crate) fn count_lost(&self) {
        self.counts_lost.store(true, Relaxed);
    }

    /// The protocol messages to this client are written in.
    pub(crate) fn protocol(&self) -> Protocol {
        if self.is_resp3.load(Relaxed) == 1 { Protocol::Resp3 } else { Protocol::Resp2 }
    }

    /// Follows the client's `HELLO`.
    pub(crate) fn set_protocol(&self, protocol: Protocol) {
        self.is_resp3.store(u8::from(protocol == Protocol::Resp3), Relaxed);
    }

    /// Whether the client listens to channels.
    pub(crate) fn listens(&self) -> bool {
        self.listens.load(Relaxed)
    }

    /// See [`Self::listens`].
    pub(crate) fn set_listens(&self, listens: bool) {
        self.listens.store(listens, Relaxed);
    }

    /// Whether the client is gone.
    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone.load(Relaxed)
    }

    /// Notes that the client is gone, for those who still hold its mailbox.
    pub(crate) fn set_gone(&self) {
        self.is_gone.store(true, Relaxed);
        self.mail.lock().bytes = Vec::new();
    }

    /// Leaves bytes to be sent.
    pub(crate) fn send(&self, bytes: &[u8]) {
        self.leave(|mail| {
            let max = self.bytes_max.load(Relaxed);
            if self.counts_lost.load(Relaxed) && (mail.lost > 0 || mail.bytes.len() + bytes.len() > max) {
                mail.lost += 1;
            } else if max != 0 && mail.bytes.len() + bytes.len() > max {
                mail.bytes = Vec::new();
                mail.close = Some(false);
                mail.is_too_much = true;
            } else if mail.close.is_none() {
                mail.bytes.extend_from_slice(bytes);
            }
        });
    }

    /// Leaves anything.
    pub fn leave(&self, change: impl FnOnce(&mut Mail)) {
        change(&mut self.mail.lock());
        self.has_mail.store(true, Release);
        self.waker.wake();
    }

    /// Lends the client's outlet for one answer. Invariant: it is here only while the client's task sleeps in a wait for an answer, all that
    /// was written for it before has been sent, and it has sent nothing that waits to be run. So whatever wakes the task, it takes it back.
    pub(crate) fn lend(&self, outlet: Arc<dyn Outlet>) {
        self.mail.lock().outlet = Some(outlet);
    }

    /// Takes the outlet back, if nobody answered.
    pub(crate) fn take_back(&self) {
        self.mail.lock().outlet = None;
    }

    /// Leaves word of how this client's wait was ended. To be called by whoever ended it.
    pub(crate) fn end(&self, ended: Ended) {
        self.leave(|mail| mail.ended = Some(ended));
    }

    /// Leaves the answer to the command this client waits with, or sends it at once where an outlet was lent. Then the client's task
    /// sleeps on, and finds out when something else wakes it. To be called with no lock held, by whoever ended the wait.
    pub(crate) fn serve(&self, bytes: Vec<u8>, epoch: u64) {
        let mut mail = self.mail.lock();
        // What was changed may have to be on disk first, and failures are counted by the client's task.
        let is_plain = epoch == 0 && mail.bytes.is_empty() && mail.close.is_none() && !bytes.starts_with(b"-");
        // The last answer may still be on its way.
        let is_plain = is_plain && self.flight.load(Acquire) == flight::NONE && mail.rest.is_empty();
        let Some(outlet) = mail.outlet.take().filter(|outlet| is_plain && outlet.begin()) else {
            drop(mail);
            return self.end(Ended::Answer { bytes, epoch, sent: None });
        };
        // The lock is not held while it sends: this thread may lose its core to the client it wakes, whose next command needs the mail.
        mail.ended = Some(Ended::Answer { bytes: Vec::new(), epoch, sent: Some(bytes.len()) });
        self.flight.store(flight::SENDS, Release);
        self.has_mail.store(true, Release);
        drop(mail);
        let sent = outlet.send(&bytes);
        if sent < bytes.len() {
            self.mail.lock().rest.extend_from_slice(&bytes[sent..]);
            self.has_mail.store(true, Release);
        }
        if self.flight.swap(flight::NONE, AcqRel) == flight::AWAITED || sent < bytes.len() {
            self.waker.wake();
        }
    }

    /// Whether nobody sends through the outlet. If someone does, the registered task is woken afterwards; to be called before
    /// [`Self::take`], which then finds the rest.
    pub(crate) fn is_free(&self) -> bool {
        match self.flight.load(Acquire) {
            flight::NONE => true,
            flight::SENDS => self.flight.compare_exchange(flight::SENDS, flight::AWAITED, AcqRel, Acquire) == Err(flight::NONE),
            _ => false,
        }
    }

    /// Takes what was left, if anything was.
    #[inline]
    pub(crate) fn take(&self) -> Option<Mail> {
        if !self.has_mail.load(Acquire) || !self.has_mail.swap(false, AcqRel) {
            return None;
        }
        Some(std::mem::take(&mut *self.mail.lock()))
    }

    /// Takes the rest of an answer that went out by the outlet in part, and leaves all else; to be called after [`Self::is_free`].
    pub(crate) fn take_rest(&self) -> Vec<u8> {
        if self.has_mail() { std::mem::take(&mut self.mail.lock().rest) } else { Vec::new() }
    }

    /// Whether the connection must be closed at once.
    pub(crate) fn is_cut(&self) -> bool {
        self.has_mail() && self.mail.lock().close == Some(false)
    }

    /// Whether the connection must be closed, at once or after what was written is sent.
    pub(crate) fn is_closing(&self) -> bool {
        self.has_mail() && self.mail.lock().close.is_some()
    }

    /// Whether anything is there to take.
    pub(crate) fn has_mail(&self) -> bool {
        self.has_mail.load(Acquire)
    }

    /// Bytes that wait to be taken.
    pub(crate) fn pending_bytes(&self) -> usize {
        if self.has_mail() { self.mail.lock().bytes.len() } else { 0 }
    }

    /// Wakes this task when something is left from now on.
    #[inline]
    pub fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::SeqCst;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::task::Wake;

    use super::*;

    /// Takes this many bytes, tells when it begins, and goes on when it is told to.
    struct Narrow {
        room: usize,
        begun: Sender<()>,
        go_on: Mutex<Receiver<()>>,
    }

    impl Outlet for Narrow {
        fn begin(&self) -> bool {
            true
        }

        fn send(&self, bytes: &[u8]) -> usize {
            self.begun.send(()).unwrap();
            self.go_on.lock().recv().unwrap();
            bytes.len().min(self.room)
        }
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    /// Serves `answer` through an outlet with this much room, and tells how often the client's task was woken and what was found while it
    /// was being sent.
    fn serve<T>(mailbox: &Mailbox, answer: &[u8], room: usize, meanwhile: impl FnOnce() -> T) -> (usize, T) {
        let (begun, has_begun) = channel();
        let (may_go_on, go_on) = channel();
        mailbox.lend(Arc::new(Narrow { room, begun, go_on: Mutex::new(go_on) }));
        let woken = Arc::new(Woken::default());
        mailbox.register(&Waker::from(Arc::clone(&woken)));
        let found = std::thread::scope(|scope| {
            scope.spawn(|| mailbox.serve(answer.to_vec(), 0));
            has_begun.recv().unwrap();
            let found = meanwhile();
            may_go_on.send(()).unwrap();
            found
        });
        (woken.0.load(SeqCst), found)
    }

    fn answer_of(ended: Option<Ended>) -> (Vec<u8>, u64, Option<usize>) {
        match ended {
            Some(Ended::Answer { bytes, epoch, sent }) => (bytes, epoch, sent),
            _ => panic!("there is no answer"),
        }
    }

    #[test]
    fn a_client_whose_answer_was_sent_sleeps_on_and_finds_out_later() {
        let mailbox = Mailbox::default();
        assert_eq!(serve(&mailbox, b"answer", 6, || ()).0, 0);
        assert!(mailbox.is_free());
        let mail = mailbox.take().unwrap();
        assert_eq!((answer_of(mail.ended).2, &*mail.rest), (Some(6), &b""[..]));
    }

    #[test]
    fn what_did_not_go_out_is_left_and_wakes_the_client() {
        let mailbox = Mailbox::default();
        assert_eq!(serve(&mailbox, b"answer", 2, || ()).0, 1);
        assert_eq!(mailbox.take().unwrap().rest, b"swer");
    }

    #[test]
    fn nobody_else_sends_while_an_answer_is_being_sent() {
        let mailbox = Mailbox::default();
        let found = serve(&mailbox, b"answer", 6, || [mailbox.is_free(), mailbox.is_free()]);
        assert_eq!((found, mailbox.is_free()), ((1, [false, false]), true));
    }

    #[test]
    fn what_is_no_plain_answer_is_left_for_the_client() {
        let refusing = || {
            let (begun, go_on) = (channel().0, Mutex::new(channel().1));
            Arc::new(Narrow { room: 0, begun, go_on })
        };
        for (answer, epoch, message) in [(&b"-ERR no"[..], 0, &b""[..]), (b"answer", 7, b""), (b"answer", 0, b"message")] {
            let mailbox = Mailbox::default();
            mailbox.lend(refusing());
            if !message.is_empty() {
                mailbox.send(message);
            }
            mailbox.serve(answer.to_vec(), epoch);
            let mail = mailbox.take().unwrap();
            let expected = (answer.to_vec(), epoch, None);
            assert_eq!((answer_of(mail.ended), &*mail.bytes), (expected, message));
        }
    }
}
