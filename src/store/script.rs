//! A script that runs where the keys are.

use redis::aio::ConnectionLike;
use redis::{ErrorKind, FromRedisValue, RedisResult, ServerErrorKind, ToRedisArgs};
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
        self.run_over(&mut store.clone(), keys, args).await
    }

    /// The same; the answer comes once what it changed is on disk, whatever `appendfsync` says, where the keyspace can say so (`WAITAOF`, since
    /// Redis 7.2).
    pub async fn run_kept<T: FromRedisValue>(
        &self,
        store: &Store,
        keys: &[impl ToRedisArgs],
        args: impl ToRedisArgs,
    ) -> RedisResult<T> {
        // What is waited for are the changes of one connection.
        let mut line = store.line().await?;
        let ran = self.run_over(&mut line, keys, args).await?;
        let kept = redis::cmd("WAITAOF").arg(1).arg(0).arg(0).exec_async(&mut line).await;
        match kept {
            // It keeps nothing, or does not know the command.
            Err(error) if matches!(error.kind(), ErrorKind::Server(ServerErrorKind::ResponseError)) => Ok(ran),
            kept => kept.map(|()| ran),
        }
    }

    async fn run_over<T: FromRedisValue>(
        &self,
        over: &mut impl ConnectionLike,
        keys: &[impl ToRedisArgs],
        args: impl ToRedisArgs,
    ) -> RedisResult<T> {
        let command = |name: &str, script: &str| {
            let mut command = redis::cmd(name);
            command.arg(script).arg(keys.len()).arg(keys).arg(&args);
            command
        };
        match command("EVALSHA", &self.hash).query_async(over).await {
            Err(error) if error.code() == Some("NOSCRIPT") => command("EVAL", &self.text).query_async(over).await,
            ran => ran,
        }
    }
}
