//! Streams of text in a workspace: written by one peer in pieces, read by others from the oldest piece that is kept.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use redis::{FromRedisValue, Value};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::peers::peer::{Error, Shared};
use crate::peers::wire::Event;

/// Writes a stream.
pub struct StreamWriter {
    shared: Arc<Shared>,
    workspace: String,
    key: String,
}

impl StreamWriter {
    pub(super) fn new(shared: Arc<Shared>, workspace: &str, key: &str) -> StreamWriter {
        StreamWriter { shared, workspace: workspace.to_owned(), key: key.to_owned() }
    }

    /// Adds a piece; answers its number, the first being 1.
    pub async fn push(&mut self, piece: &str) -> Result<u64, Error> {
        self.shared.ask(redis::cmd("FLUX.STREAM.PUSH").arg(&self.workspace).arg(&self.key).arg(piece)).await
    }

    /// Says that no more will come.
    pub async fn end(self) -> Result<(), Error> {
        self.shared.ask(redis::cmd("FLUX.STREAM.END").arg(&self.workspace).arg(&self.key)).await
    }

    /// Says that it breaks off, and why: readers do not take what came for the whole.
    pub async fn fail(self, why: &str) -> Result<(), Error> {
        self.shared.ask(redis::cmd("FLUX.STREAM.END").arg(&self.workspace).arg(&self.key).arg("ERROR").arg(why)).await
    }
}

/// A piece of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Its number, the first being 1.
    pub seq: u64,
    /// How many before it are no longer kept and were not read.
    pub missed: u64,
    /// What it says.
    pub text: String,
}

/// Reads a stream, in order and without gaps that are not told.
pub struct StreamReader {
    shared: Arc<Shared>,
    events: broadcast::Receiver<Event>,
    workspace: String,
    peer: String,
    key: String,
    ready: VecDeque<Chunk>,
    last_seq: u64,
    is_ended: bool,
    /// Why it broke off, until that was told.
    error: Option<String>,
    has_told_error: bool,
    /// Whether the server may keep more than was read.
    is_behind: bool,
}

impl StreamReader {
    pub(super) fn new(shared: Arc<Shared>, workspace: &str, peer: &str, key: &str) -> StreamReader {
        // Listening begins before the first look, so that nothing slips in between.
        let events = shared.events.subscribe();
        StreamReader {
            shared,
            events,
            workspace: workspace.to_owned(),
            peer: peer.to_owned(),
            key: key.to_owned(),
            ready: VecDeque::new(),
            last_seq: 0,
            is_ended: false,
            error: None,
            has_told_error: false,
            is_behind: true,
        }
    }

    /// The next piece; None once the stream has ended, or its writer is gone. Where it broke off: once an error, why, then None.
    pub async fn next(&mut self) -> Result<Option<Chunk>, Error> {
        loop {
            if let Some(chunk) = self.ready.pop_front() {
                return Ok(Some(chunk));
            }
            if self.is_behind {
                self.catch_up().await?;
                continue;
            }
            if let Some(message) = self.error.take() {
                self.has_told_error = true;
                return Err(Error::Refused { code: "FAILED".to_owned(), message });
            }
            if self.is_ended {
                return Ok(None);
            }
            match self.events.recv().await {
                Ok(event) => self.take(event),
                Err(RecvError::Lagged(_)) => self.is_behind = true,
                Err(RecvError::Closed) => return Err(Error::Stopped),
            }
        }
    }

    fn take(&mut self, event: Event) {
        if event.workspace != self.workspace || event.peer_id != self.peer {
            return;
        }
        let is_ours = event.key.as_deref() == Some(&self.key);
        match event.kind.as_str() {
            "stream:data" if is_ours => match (event.seq, event.data.and_then(|data| serde_json::from_str(data.get()).ok())) {
                (Some(seq), Some(text)) if seq == self.last_seq + 1 => {
                    self.last_seq = seq;
                    self.ready.push_back(Chunk { seq, missed: 0, text });
                }
                (Some(seq), _) if seq <= self.last_seq => {}
                _ => self.is_behind = true,
            },
            "stream:end" if is_ours => (self.is_ended, self.is_behind) = (true, true),
            "peer:left" => (self.is_ended, self.is_behind) = (true, true),
            _ => {}
        }
    }

    /// Reads what the server keeps beyond what was read.
    async fn catch_up(&mut self) -> Result<(), Error> {
        let mut command = redis::cmd("FLUX.STREAM.READ");
        command.arg(&self.workspace).arg(&self.peer).arg(&self.key).arg("FROM").arg(self.last_seq + 1);
        let mut kept: HashMap<String, Value> = self.shared.ask(&command).await?;
        let ended = kept.remove("ended").map(bool::from_redis_value).transpose().map_err(redis::RedisError::from)?;
        let error = kept.remove("error").map(String::from_redis_value).transpose().map_err(redis::RedisError::from)?;
        let chunks = kept.remove("chunks").map(Vec::<(u64, String)>::from_redis_value).transpose();
        for (seq, text) in chunks.map_err(redis::RedisError::from)?.unwrap_or_default() {
            let missed = seq.saturating_sub(self.last_seq + 1);
            self.ready.push_back(Chunk { seq, missed, text });
            self.last_seq = seq;
        }
        self.error = error.filter(|_| !self.has_told_error);
        self.is_ended |= ended.unwrap_or(false);
        self.is_behind = false;
        Ok(())
    }
}
