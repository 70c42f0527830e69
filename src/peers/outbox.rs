//! Messages that are noted while locks are held, and sent when they are not: fan-out to thousands of listeners takes milliseconds, in
//! which nobody else should have to wait for the keys that changed. Nor should the clients of the thread that noted them: what has many
//! listeners is left to the room's thread.

use std::cell::Cell;
use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::mem;

use parking_lot::Mutex;

/// Listeners of a message that is sent by whoever noted it: it takes them a fraction of a millisecond.
pub const LISTENERS_MAX: usize = 256;
/// Bytes that may wait in a queue for the room's thread. Whoever notes more sends: it is slowed down, and the memory is not filled.
const LEFT_BYTES_MAX: usize = 1 << 20;
/// Channels share so many queues: who sends to many listeners on one channel hardly holds up those on another.
const QUEUES: usize = 16;

thread_local! {
    /// The queues in which this thread noted something it has not seen to yet, a bit for each.
    static NOTED: Cell<u32> = const { Cell::new(0) };
}

/// Messages to be sent, for each channel in the order they were noted.
#[derive(Default)]
pub(crate) struct Outbox {
    queues: [Queue; QUEUES],
    hasher: foldhash::fast::RandomState,
}

#[derive(Default)]
struct Queue {
    noted: Mutex<Noted>,
    /// Held by the one who sends, so that nobody overtakes.
    sends: Mutex<()>,
}

/// What is not sent yet. It is short: each thread that notes something stays until it is sent, or has few bytes left to the room's thread.
#[derive(Default)]
struct Noted {
    messages: VecDeque<Message>,
    bytes: usize,
    /// Whether the room's thread sends all of it.
    is_left: bool,
}

struct Message {
    channel: String,
    bytes: Vec<u8>,
}

impl Outbox {
    /// Notes a message. Whoever holds locks under which messages to this channel are noted determines their order.
    pub(crate) fn note(&self, channel: &str, message: &[u8]) {
        let at = self.hasher.hash_one(channel) as usize % QUEUES;
        NOTED.set(NOTED.get() | 1 << at);
        self.queues[at].noted.lock().push(Message { channel: channel.to_owned(), bytes: message.to_vec() });
    }

    /// Sees to it that all that this thread noted has been sent, by itself or by others, but for what is for `many` and comes after that: the
    /// answer names the queues of which the room's thread is to [`send_next`](Self::send_next). To be called with no lock held; costs
    /// nothing where it noted nothing.
    pub(crate) fn send(&self, is_for_many: impl Fn(&str) -> bool, send: impl Fn(&str, &[u8])) -> impl Iterator<Item = usize> {
        let noted = NOTED.take();
        (0..QUEUES).filter(move |at| noted & 1 << at != 0 && self.queues[*at].send(&is_for_many, &send))
    }

    /// Sends the next message of a queue that was left to the room's thread; false if there are no more.
    pub(crate) fn send_next(&self, at: usize, send: impl Fn(&str, &[u8])) -> bool {
        let queue = &self.queues[at];
        let _sends = queue.sends.lock();
        let Some(message) = queue.noted.lock().pop_left() else { return false };
        send(&message.channel, &message.bytes);
        true
    }
}

impl Noted {
    fn push(&mut self, message: Message) {
        self.bytes += message.size();
        self.messages.push_back(message);
    }

    fn pop(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.bytes -= message.size();
        Some(message)
    }

    /// The same; where there is none, nothing is left to the thread any more.
    fn pop_left(&mut self) -> Option<Message> {
        let message = self.pop();
        self.is_left = message.is_some();
        message
    }

    /// Whether the room's thread sees to what is there.
    fn is_seen_to(&self) -> bool {
        self.is_left && self.bytes <= LEFT_BYTES_MAX
    }
}

impl Message {
    fn size(&self) -> usize {
        size_of::<Message>() + self.channel.len() + self.bytes.len()
    }
}

impl Queue {
    /// Sends what is there; true where the rest of it is to be left to the room's thread, which does not know yet.
    fn send(&self, is_for_many: impl Fn(&str) -> bool, send: impl Fn(&str, &[u8])) -> bool {
        if self.noted.lock().is_seen_to() {
            return false;
        }
        // What is noted and not sent is what others sent in between, or are sending now: that is waited for.
        let _sends = self.sends.lock();
        let count = self.noted.lock().messages.len();
        for _ in 0..count {
            // Asked without the lock, for which those wait who hold keys. Nobody else takes the message meanwhile.
            let channel = self.noted.lock().messages.front().map(|message| message.channel.clone());
            let is_for_many = channel.is_some_and(|channel| is_for_many(&channel));
            let mut noted = self.noted.lock();
            if noted.is_seen_to() {
                return false;
            }
            if is_for_many && noted.bytes <= LEFT_BYTES_MAX {
                return !mem::replace(&mut noted.is_left, true);
            }
            let Some(message) = noted.pop() else { return false };
            drop(noted);
            send(&message.channel, &message.bytes);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    use super::*;

    fn number_of(message: &[u8]) -> u64 {
        u64::from_be_bytes(message.try_into().unwrap())
    }

    #[test]
    fn what_is_for_many_and_what_follows_it_is_left_to_the_thread_in_its_order() {
        let (outbox, sent) = (Outbox::default(), Mutex::new(Vec::new()));
        let send = |_: &str, message: &[u8]| sent.lock().push(number_of(message));
        let mut left = Vec::new();
        for number in 0..3_u64 {
            outbox.note("c", &number.to_be_bytes());
            left.extend(outbox.send(|_| number == 1, send));
        }
        assert_eq!((left.len(), &**sent.lock()), (1, &[0][..]), "the thread is told once");
        while outbox.send_next(left[0], send) {}
        outbox.note("c", &3_u64.to_be_bytes());
        assert_eq!(outbox.send(|_| false, send).count(), 0);
        assert_eq!(sent.into_inner(), [0, 1, 2, 3]);
    }

    #[test]
    fn who_notes_more_than_may_wait_for_the_thread_sends_it() {
        let (outbox, sent) = (Outbox::default(), AtomicU64::new(0));
        let send = |_: &str, _: &[u8]| {
            sent.fetch_add(1, SeqCst);
        };
        let large = vec![0; LEFT_BYTES_MAX / 2];
        let mut left = Vec::new();
        for _ in 0..10 {
            outbox.note("c", &large);
            left.extend(outbox.send(|_| true, send));
        }
        assert_eq!((left.len(), sent.load(SeqCst)), (1, 9), "what is left is within the bound");
        while outbox.send_next(left[0], send) {}
        assert_eq!(sent.load(SeqCst), 10);
    }

    #[test]
    fn messages_are_sent_in_the_order_they_were_noted_whoever_sends_them() {
        let (outbox, number, sent) = (Outbox::default(), Mutex::new(0_u64), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        {
                            let mut number = number.lock();
                            *number += 1;
                            outbox.note("c", &number.to_be_bytes());
                        }
                        assert_eq!(outbox.send(|_| false, |_, message| sent.lock().push(number_of(message))).count(), 0);
                    }
                });
            }
        });
        assert_eq!(sent.into_inner(), (1..=2000).collect::<Vec<_>>());
    }

    #[test]
    fn what_a_thread_noted_is_sent_when_it_goes_on() {
        let (outbox, sent) = (Outbox::default(), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let (outbox, sent) = (&outbox, &sent);
                scope.spawn(move || {
                    let bit = 1 << thread;
                    outbox.note("c", &[bit]);
                    let send = |_: &str, message: &[u8]| {
                        sent.fetch_or(u64::from(message[0]), SeqCst);
                    };
                    assert_eq!(outbox.send(|_| false, send).count(), 0);
                    assert!(sent.load(SeqCst) & u64::from(bit) != 0);
                });
            }
        });
    }
}
