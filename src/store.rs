//! The store handle: typed Redis commands on a keyspace in this process, without a socket.
//!
//! [`Store`] is a connection of the `redis` crate, so its typed commands work on it (`store.set("key", 1)`), and code
//! written against it also runs on a Redis server's connection.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use redis::{Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, RedisResult, Value};

use crate::clock;
use crate::commands::clients::Origin;
use crate::commands::instance::Instance;
use crate::commands::session::{Flow, Session, Wait, not_kept};
use crate::config::{self, Name};
use crate::engine::durability::Awaited;
use crate::engine::mailbox::Ended;
use crate::resp::{Args, Limits, OwnedArgs, Parser, Protocol, Reply};

/// A client within this process. Each is a session of its own, with its own database and transaction.
///
/// Calls run on the calling thread. One that waits (`BLPOP`, or any write with `appendfsync always`) blocks that thread.
///
/// Messages of channels wait until the next call. Where they come to more than `client-output-buffer-limit` allows for `pubsub` when the
/// session is made, it is closed, as a slow client's connection is, and each further call says so.
pub struct Store {
    session: Session,
    reply: Reply,
    /// Messages that may wait, in bytes; 0 for any number.
    messages_bytes_max: u64,
}

/// Wakes a thread that waits for mail.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Store {
    /// A new session on a running instance.
    pub fn new(instance: &Arc<Instance>) -> Store {
        let client = instance.clients.connect(Origin::within(), clock::now_ms());
        let session = Session::new(Arc::clone(instance), client, instance.stats.worker(), true);
        let limit = config::output_limit(&instance.config.text(Name::ClientOutputBufferLimit), "pubsub");
        session.client.mailbox.set_bytes_max(limit.hard_bytes as usize);
        Store { session, reply: Reply::new(Protocol::Resp2), messages_bytes_max: limit.hard_bytes }
    }

    /// Runs a command, its name first, and hands over the bytes of its reply in RESP2 (after `HELLO 3`: RESP3).
    /// Messages of channels this session listens to come before it.
    pub fn call(&mut self, args: &[&[u8]]) -> Vec<u8> {
        let owned = OwnedArgs::new(args.iter().copied());
        self.execute(owned.args());
        self.take_reply()
    }

    fn execute(&mut self, args: Args<'_>) {
        // By others: more messages waited than may, or someone killed it.
        if !self.session.is_closed && self.session.client.mailbox.is_cut() {
            self.session.close();
            // What came before the cut is not whole.
            self.session.client.mailbox.take();
        }
        if self.session.is_closed {
            let bytes = self.messages_bytes_max;
            return self.reply.error(&format!(
                "ERR this session is closed: it was killed, or more than {bytes} bytes of messages waited for it \
                 (client-output-buffer-limit); make another, and call it more often"
            ));
        }
        self.session.tick();
        self.session.client.active_at.store(clock::monotonic_ms(), Relaxed);
        let mut flow = self.session.execute(args, &mut self.reply);
        while let Flow::Wait(wait) = flow {
            let ended = self.wait(&wait);
            self.session.waited(&wait);
            flow = match ended {
                Ended::Answer { bytes, epoch, .. } => {
                    if !wait.is_muted {
                        self.reply.raw(&bytes);
                    }
                    self.session.answered(&wait.waiter, &bytes);
                    if wait.tries_again {
                        self.session.fetching_failed(&wait);
                    }
                    self.session.wrote_epoch = self.session.wrote_epoch.max(epoch);
                    Flow::Next
                }
                Ended::Again => self.session.execute_again(&wait, &mut self.reply),
                Ended::Unblocked { with_error } => {
                    self.session.give_up(&wait, with_error, &mut self.reply);
                    Flow::Next
                }
            };
        }
        self.session.settle();
        self.wait_in_line();
        self.wait_for_journal();
    }

    /// Waits until a wait is ended, or its time is over.
    fn wait(&mut self, wait: &Wait) -> Ended {
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut until = wait.until;
        loop {
            self.session.client.mailbox.register(&waker);
            if let Some(mail) = self.session.client.mailbox.take() {
                self.reply.raw(&mail.bytes);
                if let Some(ended) = mail.ended {
                    return ended;
                }
                // The server ends, or the client was killed: nobody may answer any more.
                if mail.close.is_some() && wait.waiter.end() {
                    return Ended::Unblocked { with_error: true };
                }
            }
            let now = clock::monotonic_ms();
            match until {
                Some(time) if time <= now => {
                    if wait.waiter.end() {
                        return if wait.tries_again { Ended::Again } else { Ended::Unblocked { with_error: false } };
                    }
                    // Ended at the last moment: word of it is on its way.
                    until = None;
                }
                Some(time) => thread::park_timeout(Duration::from_millis(time - now)),
                None => thread::park(),
            }
        }
    }

    /// Waits its turn where the journal grows too fast, as a client far away does.
    fn wait_in_line(&mut self) {
        let bytes = self.session.take_wrote_bytes();
        let Some(durability) = self.session.instance.durability().filter(|_| bytes > 0) else { return };
        let Some(place) = durability.line_up(bytes) else { return };
        while let Some(pause) = durability.pause(place) {
            thread::sleep(pause);
        }
    }

    /// Waits until what was written has come as far as it must.
    fn wait_for_journal(&mut self) {
        let Some(Awaited { stage, epoch }) = self.session.awaited() else { return };
        let Some(durability) = self.session.instance.durability() else { return };
        let mut reached = durability.reached(stage);
        durability.hurry(stage);
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        {
            let wait = reached.wait_for(|reached| *reached >= epoch || durability.refusal().is_some());
            let mut wait = std::pin::pin!(wait);
            while wait.as_mut().poll(&mut context).is_pending() {
                thread::park();
            }
        }
        if *reached.borrow() < epoch
            && let Some(cause) = durability.refusal()
        {
            self.reply.truncate(0);
            self.reply.error(&not_kept(&cause));
        }
    }

    fn take_reply(&mut self) -> Vec<u8> {
        let mut bytes = self.session.client.mailbox.take().map(|mail| mail.bytes).unwrap_or_default();
        bytes.append(&mut self.reply.take());
        bytes
    }

    /// Runs packed commands and reads their replies, `skip` of which are left out.
    fn run_packed(&mut self, packed: &[u8], skip: usize) -> RedisResult<Vec<Value>> {
        let mut parser = Parser::default();
        let limits = Limits { bulk_bytes_max: u64::from(u32::MAX), is_authenticated: true };
        let mut values = Vec::new();
        let bad = |_| RedisError::from((ErrorKind::Client, "the packed command is not in the protocol"));
        let mut number = 0;
        while let Some(args) = parser.next(packed, limits).map_err(bad)? {
            self.execute(args);
            let bytes = self.reply.take();
            if number >= skip {
                values.push(redis::parse_redis_value(&bytes)?);
            }
            number += 1;
        }
        Ok(values)
    }
}

impl Clone for Store {
    fn clone(&self) -> Store {
        Store::new(&self.session.instance)
    }
}

impl redis::ConnectionLike for Store {
    fn req_packed_command(&mut self, packed: &[u8]) -> RedisResult<Value> {
        self.run_packed(packed, 0)?.pop().ok_or_else(|| RedisError::from((ErrorKind::Client, "no command was given")))
    }

    fn req_packed_commands(&mut self, packed: &[u8], offset: usize, count: usize) -> RedisResult<Vec<Value>> {
        let mut values = self.run_packed(packed, offset)?;
        values.truncate(count);
        Ok(values)
    }

    fn get_db(&self) -> i64 {
        i64::from(self.session.db)
    }

    fn check_connection(&mut self) -> bool {
        true
    }

    fn is_open(&self) -> bool {
        true
    }
}

impl redis::aio::ConnectionLike for Store {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(async move { redis::ConnectionLike::req_packed_command(self, &command.get_packed_command()) })
    }

    fn req_packed_commands<'a>(&'a mut self, pipeline: &'a Pipeline, offset: usize, count: usize) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async move { redis::ConnectionLike::req_packed_commands(self, &pipeline.get_packed_pipeline(), offset, count) })
    }

    fn get_db(&self) -> i64 {
        i64::from(self.session.db)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::engine::value::{Kind, Value};
    use crate::engine::{Engine, dict};

    /// Whoever could not be given what a transaction needs has ended it, and goes on.
    #[test]
    fn a_transaction_whose_values_cannot_be_read_is_over() {
        let instance = Instance::new(Arc::new(Engine::new(false)), Arc::default(), 0);
        let mut store = Store::new(&instance);
        store.call(&[b"SET", b"key", b"value"]);
        instance.engine.loads().note_dropped();
        instance.engine.with_shard_of(b"key", |shard| {
            let at = shard.databases[0].keys.find(dict::hash(b"key") as u32, b"key").expect("it was put there");
            shard.databases[0].keys.at_mut(at).value = Value::OnDisk(Kind::String);
        });
        let engine = Arc::clone(&instance.engine);
        // Reads nothing.
        #[expect(clippy::disallowed_methods, reason = "it is the test's own")]
        let reader = thread::spawn(move || engine.loads().run(&engine, &()));
        for command in [&[&b"WATCH"[..], b"watched"][..], &[b"MULTI"], &[b"SET", b"other", b"1"], &[b"GET", b"key"]] {
            assert!(store.call(command).starts_with(b"+"));
        }
        let failed = store.call(&[b"EXEC"]);
        assert!(failed.starts_with(b"-"), "{}", String::from_utf8_lossy(&failed));
        assert_eq!(store.call(&[b"EXEC"]), b"-ERR EXEC without MULTI\r\n");
        assert_eq!(store.call(&[b"EXISTS", b"other"]), b":0\r\n");
        assert_eq!(instance.clients.watching(), 0);
        instance.engine.loads().stop();
        reader.join().expect("it does not panic");
    }

    #[test]
    fn a_session_that_does_not_take_its_messages_is_closed_and_says_why() {
        let instance = Instance::new(Arc::new(Engine::new(false)), Arc::new(Config::default()), clock::now_ms());
        let mut other = Store::new(&instance);
        other.call(&[b"CONFIG", b"SET", b"client-output-buffer-limit", b"pubsub 1000 0 0"]);
        let mut listener = Store::new(&instance);
        listener.call(&[b"SUBSCRIBE", b"c"]);
        other.call(&[b"PUBLISH", b"c", &[b'm'; 900]]);
        assert!(listener.call(&[b"PING"]).starts_with(b"*3\r\n$7\r\nmessage"), "one of them may wait");
        for _ in 0..100 {
            other.call(&[b"PUBLISH", b"c", &[b'm'; 900]]);
        }
        for _ in 0..2 {
            let said = String::from_utf8(listener.call(&[b"PING"])).unwrap();
            assert!(said.starts_with("-ERR this session is closed: ") && said.contains("more than 1000 bytes"), "{said}");
        }
        assert_eq!(other.call(&[b"PUBLISH", b"c", b"m"]), b":0\r\n", "it listens no more");
    }
}
