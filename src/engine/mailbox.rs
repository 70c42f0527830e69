//! Where other threads leave bytes and signals for a client, whose own task picks them up: messages of channels, the
//! answer to a command that waited, an order to close.

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
    bytes_max: AtomicUsize,
    waker: AtomicWaker,
}

/// What was left in a mailbox.
#[derive(Default)]
pub struct Mail {
    /// Replies and pushes, ready to be sent.
    pub bytes: Vec<u8>,
    /// The answer to the command this client waits with, and the epoch of its last change.
    pub served: Option<(Vec<u8>, u64)>,
    /// `CLIENT UNBLOCK`: true to answer with an error, false as if the time was over.
    pub unblock: Option<bool>,
    /// The connection must be closed, after what was written is sent (true) or at once.
    pub close: Option<bool>,
}

impl Mailbox {
    /// Messages that make more bytes than this wait mean the client is too slow: it is closed. 0 for no bound.
    pub fn set_bytes_max(&self, bytes: usize) {
        self.bytes_max.store(bytes, Relaxed);
    }

    /// The protocol messages to this client are written in.
    pub fn protocol(&self) -> Protocol {
        if self.is_resp3.load(Relaxed) == 1 { Protocol::Resp3 } else { Protocol::Resp2 }
    }

    /// Follows the client's `HELLO`.
    pub fn set_protocol(&self, protocol: Protocol) {
        self.is_resp3.store(u8::from(protocol == Protocol::Resp3), Relaxed);
    }

    /// Leaves bytes to be sent.
    pub fn send(&self, bytes: &[u8]) {
        self.leave(|mail| {
            let max = self.bytes_max.load(Relaxed);
            if max != 0 && mail.bytes.len() + bytes.len() > max {
                mail.bytes = Vec::new();
                mail.close = Some(false);
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

    /// Takes what was left, if anything was.
    #[inline]
    pub fn take(&self) -> Option<Mail> {
        if !self.has_mail.load(Acquire) || !self.has_mail.swap(false, AcqRel) {
            return None;
        }
        Some(std::mem::take(&mut *self.mail.lock()))
    }

    /// Whether anything is there to take.
    pub fn has_mail(&self) -> bool {
        self.has_mail.load(Acquire)
    }

    /// Bytes that wait to be taken.
    pub fn pending_bytes(&self) -> usize {
        if self.has_mail() { self.mail.lock().bytes.len() } else { 0 }
    }

    /// Wakes this task when something is left from now on.
    #[inline]
    pub fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }
}
