//! Messages from the server on their way to the task that takes them: only so many wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;
use redis::{PushInfo, Value};
use tokio::sync::mpsc;

/// Bytes of messages that may wait: as many as a server lets wait for a client that listens (`client-output-buffer-limit`).
const BYTES_MAX: usize = 32 << 20;

/// Where messages go.
pub(super) struct Pushes {
    /// None once more waited than may.
    sender: Mutex<Option<mpsc::UnboundedSender<PushInfo>>>,
    bytes: Arc<AtomicUsize>,
}

/// Where they are taken.
pub(super) struct PushesTaken {
    receiver: mpsc::UnboundedReceiver<PushInfo>,
    bytes: Arc<AtomicUsize>,
}

/// A way for messages.
pub(super) fn pushes() -> (Pushes, PushesTaken) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let bytes = Arc::<AtomicUsize>::default();
    (Pushes { sender: Mutex::new(Some(sender)), bytes: Arc::clone(&bytes) }, PushesTaken { receiver, bytes })
}

impl Pushes {
    /// Sends a message. Where too many wait the way ends, so that the peer connects anew and asks for what it missed.
    pub(super) fn send(&self, push: PushInfo) {
        let mut sender = self.sender.lock();
        let Some(open) = &*sender else { return };
        if self.bytes.fetch_add(size(&push), Relaxed) > BYTES_MAX {
            tracing::warn!("a peer takes its messages slower than they come: more than {BYTES_MAX} bytes wait; it connects anew");
            *sender = None;
            return;
        }
        // One that is gone takes nothing.
        let _ = open.send(push);
    }
}

impl PushesTaken {
    /// The next message; None where the connection, or the way, has ended.
    pub(super) async fn next(&mut self) -> Option<PushInfo> {
        let push = self.receiver.recv().await?;
        self.bytes.fetch_sub(size(&push), Relaxed);
        Some(push)
    }
}

/// Bytes a message takes, about.
fn size(push: &PushInfo) -> usize {
    let bytes = |value: &Value| match value {
        Value::BulkString(bytes) => bytes.len(),
        _ => 0,
    };
    size_of::<PushInfo>() + push.data.iter().map(|value| size_of::<Value>() + bytes(value)).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use redis::PushKind;

    use super::*;

    #[test]
    fn a_way_ends_where_too_many_messages_wait_and_what_was_sent_before_arrives() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let message = || PushInfo { kind: PushKind::Message, data: vec![Value::BulkString(vec![b'm'; BYTES_MAX / 4])] };
        let (pushes, mut taken) = pushes();
        for _ in 0..100 {
            pushes.send(message());
            assert!(runtime.block_on(taken.next()).is_some(), "any number of them, one after the other");
        }
        for _ in 0..100 {
            pushes.send(message());
        }
        drop(pushes);
        let count = std::iter::from_fn(|| runtime.block_on(taken.next())).count();
        assert_eq!(count, 4);
    }
}
