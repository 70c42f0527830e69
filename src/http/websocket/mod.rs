//! The server's end of a WebSocket (RFC 6455) as a stream of bytes: what binary frames carry is read and written as if it
//! came over TCP. Where frames begin and end means nothing.
//!
//! Frames are unmasked where they lie while they arrive, so a frame may be as long as it likes and takes no memory for
//! what it announces.

mod frame;
mod reader;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use frame::{close, opcode};
use reader::Reader;

/// What RFC 6455 adds to a client's key before it is hashed.
const KEY_SUFFIX: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The longest header of a frame that a server sends: it has no mask.
const HEADER_BYTES_MAX: usize = 10;
/// The answer to a client's `Sec-WebSocket-Key`; None if that is no key.
pub(crate) fn accept(key: &[u8]) -> Option<String> {
    BASE64_STANDARD.decode(key).ok().filter(|nonce| nonce.len() == 16)?;
    Some(BASE64_STANDARD.encode(Sha1::new().chain_update(key).chain_update(KEY_SUFFIX).finalize()))
}

/// A WebSocket, from its first frame on.
pub(crate) struct WebSocket<S> {
    stream: S,
    reader: Reader,
    /// The header of the frame under way, or a whole control frame.
    head: Vec<u8>,
    /// Bytes of `head` that are sent.
    head_sent: usize,
    /// Bytes of the frame under way that are still to come after its header.
    payload_left: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// On a stream whose handshake is done.
    pub(crate) fn new(stream: S) -> WebSocket<S> {
        let head = Vec::with_capacity(HEADER_BYTES_MAX);
        WebSocket { stream, reader: Reader::default(), head, head_sent: 0, payload_left: 0 }
    }

    /// Says goodbye, with the reason it has, unless the connection was cut within a frame.
    pub(crate) async fn close(mut self) -> io::Result<()> {
        if self.payload_left == 0 {
            let code = self.reader.failed.or(self.reader.closed).unwrap_or(close::NORMAL);
            self.put_control(opcode::CLOSE, &code.to_be_bytes());
            self.stream.write_all(&self.head[self.head_sent..]).await?;
        }
        self.stream.shutdown().await
    }

    /// Lines up a control frame; only between frames.
    fn put_control(&mut self, opcode: u8, payload: &[u8]) {
        if self.head_sent == self.head.len() {
            self.head.clear();
            self.head_sent = 0;
        }
        self.head.extend([0x80 | opcode, payload.len() as u8]);
        self.head.extend_from_slice(payload);
    }

    /// Answers a ping where the last frame is sent whole; a client that does not read gets the answer to its last ping only.
    fn answer_ping(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.payload_left == 0
            && self.head_sent == self.head.len()
            && let Some(payload) = self.reader.ping.take()
        {
            self.put_control(opcode::PONG, &payload);
        }
        while self.payload_left == 0 && self.head_sent < self.head.len() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.head[self.head_sent..])? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(count) => self.head_sent += count,
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    fn begin_frame(&mut self, payload_bytes: usize) {
        self.head.clear();
        self.head_sent = 0;
        self.head.push(0x80 | opcode::BINARY);
        match payload_bytes {
            0..126 => self.head.push(payload_bytes as u8),
            126..0x1_0000 => {
                self.head.push(126);
                self.head.extend((payload_bytes as u16).to_be_bytes());
            }
            _ => {
                self.head.push(127);
                self.head.extend((payload_bytes as u64).to_be_bytes());
            }
        }
        self.payload_left = payload_bytes;
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let start = buf.filled().len();
        loop {
            this.answer_ping(cx)?;
            if this.reader.closed.is_some() {
                return Poll::Ready(Ok(()));
            }
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
            let arrived = &mut buf.filled_mut()[start..];
            if arrived.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let kept = this.reader.take(arrived).map_err(|violation| io::Error::new(io::ErrorKind::InvalidData, violation))?;
            buf.set_filled(start + kept);
            if kept > 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// Whoever writes must offer the bytes that were not taken again, first: their frame is begun.
impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        this.answer_ping(cx)?;
        if this.payload_left == 0 {
            if this.head_sent < this.head.len() {
                return Poll::Pending;
            }
            this.begin_frame(buf.len());
        }
        loop {
            let head_left = this.head.len() - this.head_sent;
            let payload = &buf[..buf.len().min(this.payload_left)];
            let parts = [IoSlice::new(&this.head[this.head_sent..]), IoSlice::new(payload)];
            let sent = ready!(Pin::new(&mut this.stream).poll_write_vectored(cx, &parts))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            this.head_sent += sent.min(head_left);
            let taken = sent.saturating_sub(head_left);
            this.payload_left -= taken;
            if taken > 0 {
                return Poll::Ready(Ok(taken));
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handshake_answers_as_the_standard_shows() {
        assert_eq!(accept(b"dGhlIHNhbXBsZSBub25jZQ==").as_deref(), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert_eq!(accept(b"c2hvcnQ="), None);
        assert_eq!(accept(b"***"), None);
    }
}
