//! Commands of Redis' `pubsub` group.

use crate::commands::session::Session;
use crate::commands::table::Group::Pubsub as GROUP;
use crate::commands::table::{Keys, flag};
use crate::commands::{Command, Outcome};
use crate::engine::blob::Blob;
use crate::engine::error::Error;
use crate::engine::keys::Waiting;
use crate::engine::pubsub::Topic;
use crate::resp::{Args, Reply};

const LISTEN: u32 = flag::PUBSUB | flag::NO_SCRIPT | flag::LOADING | flag::STALE;
const SEND: u32 = flag::PUBSUB | flag::LOADING | flag::STALE | flag::FAST;
const ASK: u32 = flag::PUBSUB | flag::LOADING | flag::STALE;

/// The group's rows.
pub(crate) const COMMANDS: &[Command] = &[
    Command::session(GROUP, "subscribe", |session, args, reply| subscribe(session, Topic::Channel, args, reply))
        .args_min(1)
        .flags(LISTEN)
        .since("2.0.0", "O(N) where N is the number of channels to subscribe to.")
        .doc("channel [channel ...]", "Listens to channels."),
    Command::session(GROUP, "psubscribe", |session, args, reply| subscribe(session, Topic::Pattern, args, reply))
        .args_min(1)
        .flags(LISTEN)
        .since("2.0.0", "O(N) where N is the number of patterns to subscribe to.")
        .doc("pattern [pattern ...]", "Listens to all channels that match patterns."),
    Command::session(GROUP, "ssubscribe", |session, args, reply| subscribe(session, Topic::Shard, args, reply))
        .args_min(1)
        .keys(Keys::Range { first: 1, last: -1, step: 1 })
        .flags(LISTEN)
        .since("7.0.0", "O(N) where N is the number of shard channels to subscribe to.")
        .doc("shardchannel [shardchannel ...]", "Listens to sharded channels."),
    Command::session(GROUP, "unsubscribe", |session, args, reply| unsubscribe(session, Topic::Channel, args, reply))
        .flags(LISTEN)
        .since("2.0.0", "O(N) where N is the number of channels to unsubscribe.")
        .doc("[channel [channel ...]]", "Stops listening to channels, or to all of them."),
    Command::session(GROUP, "punsubscribe", |session, args, reply| unsubscribe(session, Topic::Pattern, args, reply))
        .flags(LISTEN)
        .since("2.0.0", "O(N) where N is the number of patterns to unsubscribe.")
        .doc("[pattern [pattern ...]]", "Stops listening to patterns, or to all of them."),
    Command::session(GROUP, "sunsubscribe", |session, args, reply| unsubscribe(session, Topic::Shard, args, reply))
        .keys(Keys::Range { first: 1, last: -1, step: 1 })
        .flags(LISTEN)
        .since("7.0.0", "O(N) where N is the number of shard channels to unsubscribe.")
        .doc("[shardchannel [shardchannel ...]]", "Stops listening to sharded channels, or to all of them."),
    Command::session(GROUP, "publish", publish)
        .args(2)
        .flags(SEND)
        .since("2.0.0", "O(N+M) where N is the number of clients subscribed to the receiving channel and M is the total number of subscribed patterns (by any client).")
        .doc("channel message", "Sends a message to all who listen to a channel."),
    Command::session(GROUP, "spublish", spublish)
        .args(2)
        .keys(Keys::Range { first: 1, last: 1, step: 1 })
        .flags(SEND)
        .since("7.0.0", "O(N) where N is the number of clients subscribed to the receiving shard channel.")
        .doc("shardchannel message", "Sends a message to all who listen to a sharded channel."),
    Command::container(GROUP, "pubsub", &[
        Command::session(GROUP, "channels", |session, args, reply| names(session, Topic::Channel, args, reply))
            .args_min(1)
            .flags(ASK)
            .since("2.8.0", "O(N) where N is the number of active channels, and assuming constant time pattern matching (relatively short channels and patterns)")
            .doc("[pattern]", "Names the channels someone listens to."),
        Command::session(GROUP, "numsub", |session, args, reply| counts(session, Topic::Channel, args, reply))
            .args_min(1)
            .flags(ASK)
            .since("2.8.0", "O(N) for the NUMSUB subcommand, where N is the number of requested channels")
            .doc("[channel [channel ...]]", "Tells how many listen to each channel."),
        Command::session(GROUP, "numpat", numpat)
            .args(1)
            .flags(ASK)
            .since("2.8.0", "O(1)")
            .doc("", "Tells how many patterns someone listens to."),
        Command::session(GROUP, "shardchannels", |session, args, reply| names(session, Topic::Shard, args, reply))
            .args_min(1)
            .flags(ASK)
            .since("7.0.0", "O(N) where N is the number of active shard channels, and assuming constant time pattern matching (relatively short shard channels).")
            .doc("[pattern]", "Names the sharded channels someone listens to."),
        Command::session(GROUP, "shardnumsub", |session, args, reply| counts(session, Topic::Shard, args, reply))
            .args_min(1)
            .flags(ASK)
            .since("7.0.0", "O(N) for the SHARDNUMSUB subcommand, where N is the number of requested shard channels")
            .doc("[shardchannel [shardchannel ...]]", "Tells how many listen to each sharded channel."),
        Command::session(GROUP, "help", help)
            .args(1)
            .flags(flag::LOADING | flag::STALE)
            .since("6.2.0", "O(1)")
            .doc("", "Lists the subcommands."),
    ])
    .since("2.8.0", "Depends on subcommand.")
    .doc("", "Asks about channels and who listens to them."),
];

fn words(topic: Topic) -> (&'static [u8], &'static [u8]) {
    match topic {
        Topic::Channel => (b"subscribe", b"unsubscribe"),
        Topic::Pattern => (b"psubscribe", b"punsubscribe"),
        Topic::Shard => (b"ssubscribe", b"sunsubscribe"),
    }
}

/// How many names a reply about this topic counts: channels and patterns together, sharded channels by themselves.
fn count(session: &Session, topic: Topic) -> i64 {
    let [channels, patterns, shards] = &session.subscriptions;
    if topic == Topic::Shard { shards.len() as i64 } else { (channels.len() + patterns.len()) as i64 }
}

fn tell_others(session: &Session) {
    let [channels, patterns, shards] = &session.subscriptions;
    let packed = channels.len() as u64 | (patterns.len() as u64) << 20 | (shards.len() as u64) << 40;
    session.instance.clients.listens(&session.client, packed);
}

fn subscribe(session: &mut Session, topic: Topic, args: Args<'_>, reply: &mut Reply) -> Outcome {
    // As Redis: what SUBSCRIBE and PSUBSCRIBE may do within a transaction, this may not.
    if session.waiting == Waiting::Never && topic == Topic::Shard {
        return Err(Error::new("ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client"));
    }
    for name in args.from(1).iter() {
        if session.subscriptions[topic as usize].insert(Blob::from(name)) {
            session.instance.engine.pubsub().subscribe(topic, name, &session.client.mailbox);
        }
        reply.push(3);
        reply.bulk(words(topic).0);
        reply.bulk(name);
        reply.int(count(session, topic));
    }
    tell_others(session);
    Ok(())
}

fn unsubscribe(session: &mut Session, topic: Topic, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let names: Vec<Blob> = if args.len() > 1 {
        args.from(1).iter().map(Blob::from).collect()
    } else {
        session.subscriptions[topic as usize].iter().cloned().collect()
    };
    for name in &names {
        if session.subscriptions[topic as usize].remove(name) {
            session.instance.engine.pubsub().unsubscribe(topic, name, &session.client.mailbox);
        }
        reply.push(3);
        reply.bulk(words(topic).1);
        reply.bulk(name);
        reply.int(count(session, topic));
    }
    if names.is_empty() {
        reply.push(3);
        reply.bulk(words(topic).1);
        reply.null();
        reply.int(count(session, topic));
    }
    tell_others(session);
    Ok(())
}

/// Stops listening to everything, silently (`RESET`).
pub(crate) fn unsubscribe_all(session: &mut Session) {
    for topic in [Topic::Channel, Topic::Pattern, Topic::Shard] {
        for name in std::mem::take(&mut session.subscriptions[topic as usize]) {
            session.instance.engine.pubsub().unsubscribe(topic, &name, &session.client.mailbox);
        }
    }
    tell_others(session);
}

fn publish(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let engine = &session.instance.engine;
    reply.count(engine.pubsub().publish(args.at(1), args.at(2)));
    engine.notifications().tell_published(args.at(1), args.at(2));
    Ok(())
}

fn spublish(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    reply.count(session.instance.engine.pubsub().publish_shard(args.at(1), args.at(2)));
    Ok(())
}

fn names(session: &mut Session, topic: Topic, args: Args<'_>, reply: &mut Reply) -> Outcome {
    if args.len() > 3 {
        return Err(crate::commands::args::wrong_subcommand(args));
    }
    let names = session.instance.engine.pubsub().names(topic, args.get(2));
    reply.array(names.len());
    names.iter().for_each(|name| reply.bulk(name));
    Ok(())
}

fn counts(session: &mut Session, topic: Topic, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let names = args.from(2);
    reply.map_of_array(names.len());
    for name in names.iter() {
        reply.bulk(name);
        reply.count(session.instance.engine.pubsub().count(topic, name));
    }
    Ok(())
}

fn numpat(session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    reply.count(session.instance.engine.pubsub().name_count(Topic::Pattern));
    Ok(())
}

fn help(session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    crate::commands::help::subcommands(session, "pubsub", reply)
}
