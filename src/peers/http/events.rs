//! `/workspaces/{ws}/events`: a workspace's events as they come, out of its log, so that a reader who was cut off goes on
//! where it was. A slow reader is not waited for: what the log has dropped meanwhile is told as a gap.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use axum::body::Bytes;
use redis::streams::{StreamId, StreamRangeReply, StreamReadReply};
use redis::{RedisResult, Value, cmd};
use serde_json::json;

use crate::clock;
use crate::commands::route::{Answer, Ask, Line, sse};
use crate::peers::names;

/// Digits of each number of an id: with these it fits 64 bits.
const ID_DIGITS_MAX: usize = 19;
/// Events that are read at once.
const BATCH: usize = 64;
/// What is before all entries of a log.
const BEGINNING: &str = "0-0";

/// A log is kept for ten minutes after its last event, so it cannot come and go within this time.
const FRESH: Duration = Duration::from_secs(60);

/// A reader of a log.
struct Reader {
    line: Line,
    log: String,
    /// The entry it was told last.
    last: String,
    /// Whether that entry was in the log; false where there was no log.
    is_joined: bool,
    /// When nothing after it was known to be missing. None for a reader that comes back.
    known_at: Option<Instant>,
    /// Whether it must still be told that it is connected.
    is_new: bool,
}

pub(crate) async fn follow(ask: Ask) -> Answer {
    let told = ask.text("Last-Event-ID").or(ask.text("last-event-id"));
    let log = names::log(ask.part("workspace"));
    let mut line = ask.line().await?;
    let last = match told {
        Some(id) => id.to_owned(),
        None => newest(&mut line, &log).await?,
    };
    let is_joined = !last.starts_with("0-") && last != "0";
    let known_at = (told.is_none() || !is_joined).then(clock::instant);
    let reader = Reader { line, log, last, is_joined, known_at, is_new: true };
    Ok(sse::respond(reader, |mut reader| async move {
        // The session ends with the server; the reader comes back by itself.
        let bytes = reader.next().await.ok()?;
        Some((bytes, reader))
    }))
}

/// Whether this is the id of an entry: one or two numbers.
pub(crate) fn is_id(text: &str) -> bool {
    let is_number = |text: &str| (1..=ID_DIGITS_MAX).contains(&text.len()) && text.bytes().all(|digit| digit.is_ascii_digit());
    let (time, number) = text.split_once('-').unwrap_or((text, "0"));
    is_number(time) && is_number(number)
}

async fn newest(line: &mut Line, log: &str) -> RedisResult<String> {
    let found: StreamRangeReply = cmd("XREVRANGE").arg(log).arg("+").arg("-").arg("COUNT").arg(1).query_async(line).await?;
    Ok(found.ids.into_iter().next().map_or_else(|| BEGINNING.to_owned(), |entry| entry.id))
}

impl Reader {
    /// What is to be sent next: events that came, a gap, or a sign of life.
    async fn next(&mut self) -> RedisResult<Bytes> {
        if std::mem::take(&mut self.is_new) {
            return Ok(Bytes::from_static(b": connected\nretry: 1000\n\n"));
        }
        loop {
            let (is_whole, entries) = self.read().await?;
            let mut bytes = Vec::new();
            if !is_whole {
                let text = json!({ "after": self.last }).to_string();
                bytes.extend_from_slice(&sse::event(Some("gap"), None, &text));
            }
            for entry in &entries {
                let text: String = entry.get("event").unwrap_or_default();
                bytes.extend_from_slice(&sse::event(None, Some(&entry.id), &text));
            }
            if let Some(entry) = entries.last() {
                self.last.clone_from(&entry.id);
            }
            self.known_at = Some(clock::instant());
            if !bytes.is_empty() {
                return Ok(bytes.into());
            }
            if !self.wait().await? {
                return Ok(Bytes::from_static(sse::BEAT));
            }
        }
    }

    /// Reads on, and tells whether nothing is missing in between.
    async fn read(&mut self) -> RedisResult<(bool, Vec<StreamId>)> {
        let mut range = cmd("XRANGE");
        range.arg(&self.log).arg(&self.last).arg("+").arg("COUNT").arg(BATCH + 1);
        let mut entries = range.query_async::<StreamRangeReply>(&mut self.line).await?.ids;
        let is_there = entries.first().is_some_and(|first| first.id == self.last);
        if is_there {
            entries.remove(0);
        }
        let is_fresh = self.known_at.is_some_and(|time| clock::since(time) < FRESH);
        let is_whole = is_there
            || is_fresh && if self.is_joined { entries.is_empty() } else { entries.is_empty() || self.is_uncut().await? };
        // A log that is gone leaves nothing to join to: it is begun anew.
        self.is_joined = is_there || !entries.is_empty();
        Ok((is_whole, entries))
    }

    /// Whether the log still has its first entry.
    async fn is_uncut(&mut self) -> RedisResult<bool> {
        let log: HashMap<String, Value> = cmd("XINFO").arg("STREAM").arg(&self.log).query_async(&mut self.line).await?;
        Ok(log.get("entries-added").is_some_and(|added| log.get("length") == Some(added)))
    }

    /// Waits for more; false when it took as long as a heartbeat may.
    async fn wait(&mut self) -> RedisResult<bool> {
        let mut read = cmd("XREAD");
        read.arg("COUNT").arg(1).arg("BLOCK").arg(sse::HEARTBEAT.as_millis() as u64);
        read.arg("STREAMS").arg(&self.log).arg(&self.last);
        Ok(read.query_async::<Option<StreamReadReply>>(&mut self.line).await?.is_some())
    }
}
