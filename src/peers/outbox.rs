//! Messages that are noted while locks are held, and sent when they are not: fan-out to thousands of listeners takes milliseconds, in
//! which nobody else should have to wait for the keys that changed.

use std::cell::Cell;
use std::collections::VecDeque;
use std::hash::BuildHasher;

use parking_lot::Mutex;

/// Channels share so many queues: who sends to many listeners on one channel hardly holds up those on another.
const QUEUES: usize = 16;

thread_local! {
    /// The queues in which this thread noted something it has not seen to yet, a bit for each.
    static NOTED: Cell<u32> = const { Cell::new(0) };
}

/// Messages to be sent, for each channel in the order they were noted.
#[derive(Default)]
pub struct Outbox {
    queues: [Queue; QUEUES],
    hasher: foldhash::fast::RandomState,
}

#[derive(Default)]
struct Queue {
    /// Not sent yet. It is short: each thread that notes something stays until it is sent.
    noted: Mutex<VecDeque<(String, Vec<u8>)>>,
    /// Held by the one who sends, so that nobody overtakes.
    sends: Mutex<()>,
}

impl Outbox {
    /// Notes a message. Whoever holds locks under which messages to this channel are noted determines their order.
    pub fn note(&self, channel: &str, message: &[u8]) {
        let at = self.hasher.hash_one(channel) as usize % QUEUES;
        NOTED.set(NOTED.get() | 1 << at);
        self.queues[at].noted.lock().push_back((channel.to_owned(), message.to_vec()));
    }

    /// Sees to it that all that this thread noted has been sent, by itself or by others. To be called with no lock held; costs nothing
    /// where it noted nothing.
    pub fn send(&self, send: impl Fn(&str, &[u8])) {
        let noted = NOTED.take();
        for (_, queue) in self.queues.iter().enumerate().filter(|(at, _)| noted & 1 << at != 0) {
            queue.send(&send);
        }
    }
}

impl Queue {
    fn send(&self, send: impl Fn(&str, &[u8])) {
        // What is noted and not sent is what others sent in between, or are sending now: that is waited for.
        let _sends = self.sends.lock();
        let next = || self.noted.lock().pop_front();
        let count = self.noted.lock().len();
        for _ in 0..count {
            let Some((channel, message)) = next() else { return };
            send(&channel, &message);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

    use super::*;

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
                        outbox.send(|_, message| sent.lock().push(u64::from_be_bytes(message.try_into().unwrap())));
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
                    outbox.send(|_, message| {
                        sent.fetch_or(u64::from(message[0]), SeqCst);
                    });
                    assert!(sent.load(SeqCst) & u64::from(bit) != 0);
                });
            }
        });
    }
}
