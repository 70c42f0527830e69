//! Channels: who listens, and sending to all who do. Patterns and sharded channels as in Redis.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::RwLock;

use crate::engine::blob::Blob;
use crate::engine::crowd::{Crowd, give_room_back};
use crate::engine::glob;
use crate::engine::mailbox::Mailbox;
use crate::resp::{Protocol, Reply};

/// What a subscription names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Topic {
    /// A channel (`SUBSCRIBE`).
    Channel,
    /// All channels that match (`PSUBSCRIBE`).
    Pattern,
    /// A sharded channel (`SSUBSCRIBE`).
    Shard,
}

type Listeners = RwLock<HashMap<Blob, Crowd<Mailbox>, foldhash::fast::RandomState>>;

/// Who listens to what.
#[derive(Default)]
pub struct PubSub {
    channels: Listeners,
    patterns: Listeners,
    shards: Listeners,
    /// Kept so that publishing need not lock when nobody listens.
    subscriptions: AtomicUsize,
}

impl PubSub {
    fn listeners(&self, topic: Topic) -> &Listeners {
        match topic {
            Topic::Channel => &self.channels,
            Topic::Pattern => &self.patterns,
            Topic::Shard => &self.shards,
        }
    }

    /// Adds a listener, which must not listen to this already.
    pub fn subscribe(&self, topic: Topic, name: &[u8], mailbox: &Arc<Mailbox>) {
        self.listeners(topic).write().entry(Blob::from(name)).or_default().join(mailbox);
        self.subscriptions.fetch_add(1, Relaxed);
    }

    /// Removes a listener.
    pub(crate) fn unsubscribe(&self, topic: Topic, name: &[u8], mailbox: &Arc<Mailbox>) {
        let mut listeners = self.listeners(topic).write();
        let Some(mailboxes) = listeners.get_mut(name) else { return };
        self.subscriptions.fetch_sub(usize::from(mailboxes.leave(mailbox)), Relaxed);
        if mailboxes.is_empty() {
            listeners.remove(name);
            give_room_back(&mut listeners);
        }
    }

    /// Sends a message to all who listen to a channel; tells how many got it.
    pub fn publish(&self, channel: &[u8], message: &[u8]) -> usize {
        if self.subscriptions.load(Relaxed) == 0 {
            return 0;
        }
        let mut count = 0;
        if let Some(mailboxes) = self.channels.read().get(channel) {
            count += deliver(mailboxes, |push| parts(push, &[b"message", channel, message]));
        }
        for (pattern, mailboxes) in self.patterns.read().iter() {
            if glob::matches(pattern, channel, false) {
                count += deliver(mailboxes, |push| parts(push, &[b"pmessage", pattern, channel, message]));
            }
        }
        count
    }

    /// Whether a message to a channel would go to more than so many.
    pub(crate) fn reaches(&self, channel: &[u8], count: usize) -> bool {
        if self.subscriptions.load(Relaxed) <= count {
            return false;
        }
        let patterns = self.patterns.read();
        let matching = patterns.iter().filter(|(pattern, _)| glob::matches(pattern, channel, false));
        self.count(Topic::Channel, channel) + matching.map(|(_, mailboxes)| mailboxes.len()).sum::<usize>() > count
    }

    /// Sends a message to all who listen to a sharded channel; tells how many got it.
    pub(crate) fn publish_shard(&self, channel: &[u8], message: &[u8]) -> usize {
        match self.shards.read().get(channel) {
            Some(mailboxes) => deliver(mailboxes, |push| parts(push, &[b"smessage", channel, message])),
            None => 0,
        }
    }

    /// Names someone listens to, those that match a pattern if one is given.
    pub(crate) fn names(&self, topic: Topic, pattern: Option<&[u8]>) -> Vec<Blob> {
        let listeners = self.listeners(topic).read();
        listeners.keys().filter(|name| pattern.is_none_or(|pattern| glob::matches(pattern, name, false))).cloned().collect()
    }

    /// How many listen to a name.
    pub(crate) fn count(&self, topic: Topic, name: &[u8]) -> usize {
        self.listeners(topic).read().get(name).map_or(0, Crowd::len)
    }

    /// How many names someone listens to.
    pub(crate) fn name_count(&self, topic: Topic) -> usize {
        self.listeners(topic).read().len()
    }
}

fn parts(push: &mut Reply, parts: &[&[u8]]) {
    push.push(parts.len());
    parts.iter().for_each(|part| push.bulk(part));
}

/// Writes a push once for each protocol in use and leaves it with everyone.
fn deliver(mailboxes: &Crowd<Mailbox>, write: impl Fn(&mut Reply)) -> usize {
    let mut written: [Option<Reply>; 2] = [None, None];
    mailboxes.each(|mailbox| {
        let protocol = mailbox.protocol();
        let push = written[usize::from(protocol == Protocol::Resp3)].get_or_insert_with(|| {
            let mut push = Reply::new(protocol);
            write(&mut push);
            push
        });
        mailbox.send(&push.bytes());
    });
    mailboxes.len()
}
