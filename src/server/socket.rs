//! A TCP connection that its own task reads and writes, and that another thread may send an answer on while the task waits: see
//! `engine::mailbox`. A call from one peer to another, carried by two workers, is so spared two wakes of a thread.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::clock;
use crate::commands::clients::Client;
use crate::commands::instance::Instance;
use crate::commands::session::{Session, wait_is_over};
use crate::engine::mailbox::Outlet;

thread_local! {
    /// Whether this worker has answered nobody through an outlet since it woke.
    static IS_FRESH: Cell<bool> = const { Cell::new(false) };
}

/// A worker wakes. The first answer it has for another worker's client goes by the outlet; where more follow there is much to do, and
/// clients that are answered together call together again: with 64 callers that makes a quarter more calls.
pub(crate) fn worker_wakes() {
    IS_FRESH.set(true);
}

/// Both directions, for the connection's own task.
pub(crate) struct Socket {
    read: OwnedReadHalf,
    out: Arc<Out>,
}

/// The way out.
struct Out {
    write: OwnedWriteHalf,
    instance: Arc<Instance>,
    /// Not held: the client's mailbox holds this while it is lent.
    client: Weak<Client>,
}

/// Makes a stream a session's socket, with its outlet.
pub(crate) fn split(stream: TcpStream, session: &Session) -> (Socket, Arc<dyn Outlet>) {
    let (read, write) = stream.into_split();
    let out = Arc::new(Out { write, instance: Arc::clone(&session.instance), client: Arc::downgrade(&session.client) });
    (Socket { read, out: Arc::clone(&out) }, out)
}

impl Outlet for Out {
    fn begin(&self) -> bool {
        // What must be on disk before it is shown goes through the gate of the client's own worker.
        let begins = IS_FRESH.replace(false) && self.instance.engine.unshown_epoch() == 0;
        let Some(client) = self.client.upgrade().filter(|_| begins) else { return false };
        client.active_at.store(clock::monotonic_ms(), Relaxed);
        wait_is_over(&self.instance, &client);
        true
    }

    fn send(&self, bytes: &[u8]) -> usize {
        // Where it fails, the connection's task tries the same and sees why.
        self.write.try_write(bytes).unwrap_or(0)
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.read).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.out.write.as_ref().poll_write_ready(cx))?;
            match self.out.write.try_write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                done => return Poll::Ready(done),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
