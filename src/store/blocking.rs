//! The rim: a session in this process for callers that are no tasks, such as programs that embed flux, and tests. Only their own thread waits.

use std::sync::Arc;

use redis::{ErrorKind, RedisError, RedisResult, Value};

use crate::commands::identity::Identity;
use crate::commands::instance::Instance;
use crate::config::{self, Name};
use crate::resp::{Args, Limits, OwnedArgs, Parser, Protocol};
use crate::store::parked::wait_for;
use crate::store::within::{Timer, Within};

/// A client within this process whose calls run on the calling thread. Each is a session of its own, with its own database and transaction.
///
/// A call that waits (`BLPOP`, or any write with `appendfsync always`) blocks that thread; tasks use a [`Store`](super::Store). It is a
/// connection of the `redis` crate, so its typed commands work on it.
///
/// Messages of channels wait until the next call. Where they come to more than `client-output-buffer-limit` allows for `pubsub` when the
/// session is made, it is closed, as a slow client's connection is, and each further call says so.
pub struct Blocking {
    within: Within,
    /// Messages that may wait, in bytes; 0 for any number.
    messages_bytes_max: u64,
}

impl Blocking {
    /// A new session on a running instance.
    pub fn new(instance: &Arc<Instance>) -> Blocking {
        let within = Within::new(instance, &Identity::program(), Protocol::Resp2, Timer::Parked);
        let limit = config::output_limit(&instance.config.text(Name::ClientOutputBufferLimit), "pubsub");
        within.session.client.mailbox.set_bytes_max(limit.hard_bytes as usize);
        Blocking { within, messages_bytes_max: limit.hard_bytes }
    }

    /// Runs a command, its name first, and hands over the bytes of its reply in RESP2 (after `HELLO 3`: RESP3).
    /// Messages of channels this session listens to come before it.
    pub fn call(&mut self, args: &[&[u8]]) -> Vec<u8> {
        let owned = OwnedArgs::new(args.iter().copied());
        self.execute(owned.args());
        let mut bytes = std::mem::take(&mut self.within.mail);
        if let Some(mail) = self.within.session.client.mailbox.take() {
            bytes.extend_from_slice(&mail.bytes);
            self.within.note(mail.close);
        }
        bytes.append(&mut self.within.reply.take());
        bytes
    }

    fn execute(&mut self, args: Args<'_>) {
        // By others: more messages waited than may, someone killed it, or the server ends.
        if self.within.is_closed() {
            self.within.session.close();
            // What came before the cut is not whole.
            self.within.session.client.mailbox.take();
            let bytes = self.messages_bytes_max;
            return self.within.reply.error(&format!(
                "ERR this session is closed: it was killed, the server ends, or more than {bytes} bytes of messages waited for it \
                 (client-output-buffer-limit); make another, and call it more often"
            ));
        }
        wait_for(self.within.run([args]));
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
            let bytes = self.within.reply.take();
            if number >= skip {
                values.push(redis::parse_redis_value(&bytes)?);
            }
            number += 1;
        }
        Ok(values)
    }
}

impl Clone for Blocking {
    fn clone(&self) -> Blocking {
        Blocking::new(&self.within.session.instance)
    }
}

impl redis::ConnectionLike for Blocking {
    fn req_packed_command(&mut self, packed: &[u8]) -> RedisResult<Value> {
        self.run_packed(packed, 0)?.pop().ok_or_else(|| RedisError::from((ErrorKind::Client, "no command was given")))
    }

    fn req_packed_commands(&mut self, packed: &[u8], offset: usize, count: usize) -> RedisResult<Vec<Value>> {
        let mut values = self.run_packed(packed, offset)?;
        values.truncate(count);
        Ok(values)
    }

    fn get_db(&self) -> i64 {
        i64::from(self.within.session.db)
    }

    fn check_connection(&mut self) -> bool {
        !self.within.is_closed()
    }

    fn is_open(&self) -> bool {
        !self.within.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::clock;
    use crate::config::Config;
    use crate::engine::value::{Kind, Value};
    use crate::engine::{Engine, dict};

    /// Whoever could not be given what a transaction needs has ended it, and goes on.
    #[test]
    fn a_transaction_whose_values_cannot_be_read_is_over() {
        let instance = Instance::new(Arc::new(Engine::new(false)), Arc::default(), 0);
        let mut store = Blocking::new(&instance);
        store.call(&[b"SET", b"key", b"value"]);
        instance.engine.loads().note_dropped();
        instance.engine.with_shard_of(b"key", |shard| {
            let at = shard.databases[0].keys.find(dict::hash(b"key") as u32, b"key").expect("it was put there");
            shard.databases[0].keys.at_mut(at).value = Value::OnDisk(Kind::String);
        });
        let engine = Arc::clone(&instance.engine);
        // Reads nothing.
        #[expect(clippy::disallowed_methods, reason = "it is the test's own")]
        let reader = thread::spawn(move || engine.loads().run(&*engine, &()));
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
        let mut other = Blocking::new(&instance);
        other.call(&[b"CONFIG", b"SET", b"client-output-buffer-limit", b"pubsub 1000 0 0"]);
        let mut listener = Blocking::new(&instance);
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
