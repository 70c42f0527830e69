//! A script that runs where the keys are.

use redis::{FromRedisValue, RedisResult, ToRedisArgs};
use sha1::{Digest, Sha1};

use crate::store::Store;

/// A Lua script. All keys it touches must be named, and be of one hash tag: then it also runs on a cluster.
#[derive(Debug, Clone)]
pub struct Script {
    text: String,
    hash: String,
}

impl Script {
    /// From its text.
    pub fn new(text: impl Into<String>) -> Script {
        let text = text.into();
        let hash = Sha1::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        Script { text, hash }
    }

    /// Runs it: by its hash, and with its text where the server does not know it yet.
    pub async fn run<T: FromRedisValue>(
        &self,
        store: &Store,
        keys: &[impl ToRedisArgs],
        args: impl ToRedisArgs,
    ) -> RedisResult<T> {
        let command = |name: &str, script: &str| {
            let mut command = redis::cmd(name);
            command.arg(script).arg(keys.len()).arg(keys).arg(&args);
            command
        };
        let mut store = store.clone();
        match command("EVALSHA", &self.hash).query_async(&mut store).await {
            Err(error) if error.code() == Some("NOSCRIPT") => command("EVAL", &self.text).query_async(&mut store).await,
            ran => ran,
        }
    }
}
