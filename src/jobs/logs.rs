//! What jobs write: a stream for each try, with a bound on its bytes. What comes beyond it is counted and not kept.

use redis::{AsyncCommands, RedisResult, cmd};

use crate::jobs::book::Book;
use crate::jobs::names::JobId;

/// Bytes that are kept of one try.
pub(crate) const LOG_BYTES_MAX: usize = 1 << 20;

/// What each piece costs beside its bytes, and counts as.
const PIECE_BYTES: usize = 64;

/// A piece of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Its place: the id of a stream's entry.
    pub id: String,
    /// `out`, `err`, or `flux` for what we say ourselves.
    pub from: String,
    /// What was written, cut anywhere.
    pub bytes: Vec<u8>,
}

/// Keeps what one try writes.
pub(crate) struct Writer {
    book: Book,
    key: String,
    kept: usize,
    dropped: usize,
}

impl Writer {
    /// Of a try.
    pub(crate) fn new(book: Book, id: JobId, attempt: u32) -> Writer {
        let key = book.log_of(&id, attempt);
        Writer { book, key, kept: 0, dropped: 0 }
    }

    /// Keeps a piece, as far as there is room.
    pub(crate) async fn write(&mut self, from: &str, mut bytes: Vec<u8>) {
        let room = LOG_BYTES_MAX.saturating_sub(self.kept + PIECE_BYTES);
        self.dropped += bytes.len().saturating_sub(room);
        bytes.truncate(room);
        if !bytes.is_empty() {
            self.kept += bytes.len() + PIECE_BYTES;
            self.append(from, &bytes).await;
        }
    }

    /// Says what is missing. Nothing is written after it.
    pub(crate) async fn flush(&mut self) {
        if self.dropped > 0 {
            let text = format!("\n… {} more bytes were written and are not kept\n", self.dropped);
            self.append("flux", text.as_bytes()).await;
        }
    }

    /// A log that cannot be kept is no failure of the job's.
    async fn append(&mut self, from: &str, bytes: &[u8]) {
        let mut append = cmd("XADD");
        append.arg(&self.key).arg("*").arg("from").arg(from).arg("bytes").arg(bytes);
        if let Err(error) = append.exec_async(&mut self.book.store()).await {
            tracing::warn!("jobs: what a job wrote cannot be kept: {error}");
        }
    }
}

impl Book {
    /// What one try wrote, in order.
    pub(crate) async fn log(&self, id: &JobId, attempt: u32) -> RedisResult<Vec<Piece>> {
        let entries: Vec<(String, Vec<(String, Vec<u8>)>)> = self.store().xrange_all(self.log_of(id, attempt)).await?;
        let piece = |(id, fields): (String, Vec<(String, Vec<u8>)>)| {
            let mut piece = Piece { id, from: String::new(), bytes: Vec::new() };
            for (name, value) in fields {
                match name.as_str() {
                    "from" => piece.from = String::from_utf8_lossy(&value).into_owned(),
                    "bytes" => piece.bytes = value,
                    _ => {}
                }
            }
            piece
        };
        Ok(entries.into_iter().map(piece).collect())
    }
}
