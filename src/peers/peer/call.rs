//! Calls a peer makes: sent without waiting, ended by a message, by the server's answer after a reconnect, or by their deadline.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use redis::Cmd;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::peers::calls::TIMEOUT_MS_MAX;
use crate::peers::peer::{Error, Shared};
use crate::peers::wire;

/// As long as the server lets a caller wait.
const TIMEOUT_MAX: Duration = Duration::from_millis(TIMEOUT_MS_MAX);
/// How much longer than the deadline a caller waits, for the server's own word that it is over.
const GRACE: Duration = Duration::from_secs(1);

tokio::task_local! {
    /// The deadline of the call whose handler runs: calls that it makes end with it.
    pub(super) static WITHIN: Instant;
}

/// A call that was sent and has not ended.
pub(super) struct Pending {
    /// What is sent, but for what may differ when the call is given once more.
    command: Cmd,
    deadline: Instant,
    /// Which try it is, how often it may be given to another peer yet, and the pieces that came.
    attempt: u32,
    retries: u32,
    seen: u64,
    ended: oneshot::Sender<Result<Value, Error>>,
    chunks: Option<mpsc::UnboundedSender<Value>>,
    /// Whether the server may know of it.
    pub(super) is_sent: bool,
}

impl Pending {
    /// The command that gives it to the server.
    fn given(&self) -> Cmd {
        let mut command = self.command.clone();
        let left = self.deadline.saturating_duration_since(Instant::now()).as_millis().max(1) as u64;
        command.arg("TIMEOUT").arg(left).arg("RETRIES").arg(self.retries);
        command
    }

    /// The same, where the server was restarted and has forgotten it.
    fn given_again(&self) -> Cmd {
        let mut command = self.given();
        command.arg("ATTEMPT").arg(self.attempt).arg("SEEN").arg(self.seen);
        command
    }
}

/// A call to be made: await it, or say more first.
#[must_use = "a call is made when it is awaited"]
pub struct Call {
    shared: Arc<Shared>,
    capability: String,
    payload: Result<String, serde_json::Error>,
    timeout: Duration,
    options: Vec<(&'static str, String)>,
    retries: u32,
    chunks: Option<mpsc::UnboundedSender<Value>>,
}

/// One of many answers to [`Call::gather`].
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// Who answered.
    pub peer_id: String,
    /// What it is called.
    pub peer_name: String,
    /// Whether it went well.
    pub ok: bool,
    /// The answer, if it did.
    #[serde(default)]
    pub data: Value,
    /// Why not, if it did not.
    #[serde(default)]
    pub error: Option<String>,
}

impl Call {
    pub(super) fn new(shared: Arc<Shared>, capability: &str, payload: Result<String, serde_json::Error>) -> Call {
        let timeout = shared.timeout;
        Call { shared, capability: capability.to_owned(), payload, timeout, options: Vec::new(), retries: 1, chunks: None }
    }

    fn option(mut self, name: &'static str, value: impl ToString) -> Call {
        self.options.push((name, value.to_string()));
        self
    }

    /// How long it may take; the callee is told.
    pub fn timeout(mut self, timeout: Duration) -> Call {
        self.timeout = timeout;
        self
    }

    /// To this peer and no other.
    pub fn to(self, peer: &str) -> Call {
        self.option("TO", peer)
    }

    /// From -100 to 100; higher goes first.
    pub fn priority(self, priority: i8) -> Call {
        self.option("PRIORITY", priority)
    }

    /// How many more peers may try when one dies with it.
    pub fn retries(mut self, times: u32) -> Call {
        self.retries = times;
        self
    }

    /// Calls with the same key go to the same peer, as long as it is there.
    pub fn sticky(mut self, key: &str) -> Call {
        self.options.push(("ROUTE", "STICKY".to_owned()));
        self.options.push(("", key.to_owned()));
        self
    }

    /// To one peer after the other.
    pub fn round_robin(self) -> Call {
        self.option("ROUTE", "ROUND-ROBIN")
    }

    /// Sends the pieces of the answer here as they come.
    pub fn chunks_to(mut self, chunks: mpsc::UnboundedSender<Value>) -> Call {
        self.chunks = Some(chunks);
        self
    }

    /// To all peers that have the capability; ends after `count` answers, or after all of them if that is 0.
    pub async fn gather(self, count: usize) -> Result<Vec<Answer>, Error> {
        Ok(serde_json::from_value(self.option("GATHER", count).make().await?)?)
    }

    /// Reads the answer as a type.
    pub async fn read<T: DeserializeOwned>(self) -> Result<T, Error> {
        Ok(serde_json::from_value(self.make().await?)?)
    }

    async fn make(self) -> Result<Value, Error> {
        let id = crate::id::uuid();
        let (ended, end) = oneshot::channel();
        if self.timeout > TIMEOUT_MAX {
            let message = format!("the timeout must be at most a day, not {:?}", self.timeout);
            return Err(Error::Refused { code: "INVALID".to_owned(), message });
        }
        let now = Instant::now();
        let left = WITHIN
            .try_with(|deadline| deadline.saturating_duration_since(now))
            .map_or(self.timeout, |left| left.min(self.timeout));
        let deadline = now + left;
        let mut command = redis::cmd("FLUX.CALL");
        command.arg(&self.capability).arg(self.payload?);
        for (name, value) in &self.options {
            if !name.is_empty() {
                command.arg(*name);
            }
            command.arg(value);
        }
        command.arg("ID").arg(&id).arg("ASYNC");
        let pending =
            Pending { command, deadline, attempt: 1, retries: self.retries, seen: 0, ended, chunks: self.chunks, is_sent: false };
        let given = pending.given();
        self.shared.calls.lock().insert(id.clone(), pending);
        let mut guard = Guard { shared: Arc::clone(&self.shared), id: id.clone(), is_over: false };
        let sent_and_answered = async {
            let mut connection = self.shared.connection().await?;
            if let Some(pending) = self.shared.calls.lock().get_mut(&id) {
                pending.is_sent = true;
            }
            match given.exec_async(&mut connection).await.map_err(Error::from) {
                // Whether it arrived is known after the reconnect.
                Ok(()) | Err(Error::Connection(_)) => {}
                Err(refused) => return Err(refused),
            }
            end.await.map_err(|_| Error::Stopped)?
        };
        let result = match tokio::time::timeout(left + GRACE, sent_and_answered).await {
            Ok(result) => result,
            Err(_) => return Err(Error::Timeout(self.timeout)),
        };
        guard.is_over = true;
        result
    }
}

impl IntoFuture for Call {
    type Output = Result<Value, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.make())
    }
}

/// Forgets a call that ended; one that its caller dropped, or that took too long, is cancelled.
struct Guard {
    shared: Arc<Shared>,
    id: String,
    is_over: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let pending = self.shared.calls.lock().remove(&self.id);
        let may_run = pending.is_some_and(|pending| pending.is_sent);
        if self.is_over || !may_run {
            return;
        }
        if let (Some((mut connection, _)), Ok(runtime)) =
            (self.shared.link.borrow().clone(), tokio::runtime::Handle::try_current())
        {
            let mut cancel = redis::cmd("FLUX.CANCEL");
            cancel.arg(&self.id);
            runtime.spawn(async move {
                // One that cannot be cancelled any more ends by its deadline.
                let _ = cancel.exec_async(&mut connection).await;
            });
        }
    }
}

impl Shared {
    /// Takes what the server says of a call. What is not understood, or of a call that ended, is passed over.
    pub(super) fn told(&self, text: &str) {
        let Ok(told) = serde_json::from_str::<wire::Result>(text) else { return };
        let read = |raw: Option<Box<RawValue>>| raw.map_or(Ok(Value::Null), |raw| serde_json::from_str(raw.get()));
        if let Some(attempt) = told.attempt {
            if let Some(pending) = self.calls.lock().get_mut(&told.job) {
                (pending.attempt, pending.retries) = (attempt, told.retries.unwrap_or(0));
            }
            return;
        }
        let Some(is_ok) = told.ok else {
            if let (Ok(piece), Some(pending)) = (read(told.chunk), self.calls.lock().get_mut(&told.job)) {
                pending.seen = told.seq.unwrap_or(pending.seen + 1);
                // A caller that does not look at pieces any more still waits for the end.
                let _ = pending.chunks.as_ref().map(|chunks| chunks.send(piece));
            }
            return;
        };
        let message = told.error.unwrap_or_default();
        // A progress note of the old protocol, not an end.
        if !is_ok && message.starts_with("retry ") {
            return;
        }
        let code = told.code.unwrap_or_else(|| "FAILED".to_owned());
        let result = if is_ok { read(told.data).map_err(Error::from) } else { Err(Error::Refused { code, message }) };
        self.end_call(&told.job, result);
    }

    pub(super) fn end_call(&self, id: &str, result: Result<Value, Error>) {
        let pending = self.calls.lock().remove(id);
        if let Some(pending) = pending {
            // A caller that is gone needs no answer.
            let _ = pending.ended.send(result);
        }
    }

    /// What gives a call once more to a server that was restarted.
    pub(super) fn given_again(&self, id: &str) -> Option<Cmd> {
        self.calls.lock().get(id).map(Pending::given_again)
    }

    /// The calls the server may know of.
    pub(super) fn sent_calls(&self) -> Vec<String> {
        self.calls.lock().iter().filter(|(_, pending)| pending.is_sent).map(|(id, _)| id.clone()).collect()
    }
}
