//! MCP: capabilities of peers as tools of any host that speaks the Model Context Protocol, at `/mcp` (streamable HTTP) and
//! through `flux mcp` (standard input and output). Both ask the keyspace with `FLUX.*` commands: here a session in this
//! process, there a connection to a server. Hosts are told of changes of the tools, and of the pieces of a result.

mod pages;
mod shared;
mod tools;

use std::borrow::Cow;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use blake3::Hash;
use parking_lot::Mutex;
use redis::{PushInfo, Value as RedisValue, cmd};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation, ListToolsResult,
    PaginatedRequestParams, ProgressNotificationParam, ProgressToken, ServerCapabilities, ServerConfig, SubscriptionFilter,
};
use rmcp::service::{NotificationContext, Peer, RequestContext, SubscriptionContext};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::Value;
use tokio::sync::{Notify, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::clock;
use crate::id;
use crate::lifecycle;
use crate::peers::{names, wire};
use crate::store::{Hear, Link};
use crate::version::VERSION;
use pages::{Found, Kept};
use shared::Shared;
use tools::Entry;

pub(crate) use super::answer::Refusal;

/// How long a call may take. Hosts have limits of their own, and cancel.
const CALL_TIMEOUT_MS: u64 = 600_000;
/// Changes of the tools are heard of at once. This is how often they are looked at all the same, and whether the host is still there.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How long a change waits for others: peers often come and go together.
const TOGETHER: Duration = Duration::from_millis(20);
/// How long until a server that is away is looked for again.
const AWAY: Duration = Duration::from_millis(500);
/// Pieces of a result that may wait for their host; what comes beyond is not told of, since the next piece says as much.
const PIECES_MAX: usize = 256;

const INSTRUCTIONS: &str = "Each tool is a capability of some process or agent that is connected to flux now. Tools come and go with \
                            them; the list is told anew when it changes.";

/// Opens a connection for commands and messages.
pub(crate) type Open = Arc<dyn Fn(Hear) -> Opening + Send + Sync>;
/// A connection on its way, or why there is none.
pub(crate) type Opening = Pin<Box<dyn Future<Output = Result<Link, Refusal>> + Send>>;

/// Serves hosts. All clones look at the tools together.
#[derive(Clone)]
pub(crate) struct Server {
    open: Open,
    looks: Arc<Shared<Arc<Found>>>,
    /// When the last look began, and the digest of what it found.
    last: Arc<Mutex<Option<(Instant, Hash)>>>,
    kept: Kept,
}

impl Server {
    /// Asks over such connections.
    pub(crate) fn new(open: Open) -> Server {
        Server { open, looks: Arc::default(), last: Arc::default(), kept: Kept::default() }
    }

    /// Looks at the tools over this connection, or has what another one found that began to look later than this is called.
    async fn look(&self, line: &mut Link) -> Result<Arc<Found>, Refusal> {
        let look = async || {
            let begun = clock::instant();
            let capabilities: Vec<String> = cmd("FLUX.CAPABILITIES").query_async(line).await?;
            // They may be megabytes, and this thread serves others.
            let read = spawn_blocking(move || Found::of(&capabilities)).await;
            let found = Arc::new(read.map_err(|_| Refusal::ending())?);
            *self.last.lock() = Some((begun, found.digest));
            Ok(found)
        };
        self.looks.ask(look).await
    }

    /// The digest of what was found by whoever looked last, if that is not long ago.
    fn seen(&self) -> Option<Hash> {
        self.last.lock().filter(|(begun, _)| clock::since(*begun) < LOOK_EVERY).map(|(_, digest)| digest)
    }

    /// A tool by its name. Hardly ever are all of them looked at for that: most have the name of their capability.
    async fn entry(&self, tool: &str) -> Result<Option<Entry>, ErrorData> {
        let mut line = (self.open)(Arc::new(|_| {})).await.map_err(|refusal| ErrorData::internal_error(refusal.error, None))?;
        let named: Result<String, _> = cmd("FLUX.DESCRIBE").arg(tool).query_async(&mut line).await;
        if let Some(entry) = named.ok().and_then(|text| tools::tools(&[text]).into_iter().find(|entry| entry.tool.name == tool)) {
            return Ok(Some(entry));
        }
        Ok(self.found().await?.tools.iter().find(|entry| entry.tool.name == tool).cloned())
    }

    async fn found(&self) -> Result<Arc<Found>, ErrorData> {
        let found = async {
            let mut line = (self.open)(Arc::new(|_| {})).await?;
            self.look(&mut line).await
        };
        found.await.map_err(|refusal: Refusal| ErrorData::internal_error(refusal.error, None))
    }

    /// Calls a capability, and tells the pieces of its result to a host that wants them. Dropping this cancels the call, since it has
    /// a connection of its own.
    async fn call(&self, capability: &str, payload: &Value, host: Option<Audience<'_>>) -> Result<String, Refusal> {
        let mut call = cmd("FLUX.CALL");
        call.arg(capability).arg(payload.to_string()).arg("TIMEOUT").arg(CALL_TIMEOUT_MS);
        let Some(host) = host else {
            let mut line = (self.open)(Arc::new(|_| {})).await?;
            return Ok(call.query_async(&mut line).await?);
        };
        let (sender, mut pieces) = mpsc::channel(PIECES_MAX);
        let mut line = (self.open)(Arc::new(move |push| drop(sender.try_send(push)))).await?;
        let id = id::call();
        line.subscribe(names::results(&id)).await?;
        call.arg("ID").arg(&id).arg("CHUNKS");
        let mut outcome = pin!(call.query_async(&mut line));
        loop {
            tokio::select! {
                biased;
                Some(piece) = pieces.recv() => host.tell(&piece).await,
                outcome = &mut outcome => return Ok(outcome?),
            }
        }
    }

    /// Tells a host of changes until it is gone.
    async fn tell(self, host: Peer<RoleServer>) {
        let mut look = Look::at(self).await;
        // Told at once, since what it has listed may be older than this look.
        let mut has_changed = true;
        while !host.is_transport_closed() {
            if has_changed && host.notify_tool_list_changed().await.is_err() {
                return;
            }
            has_changed = look.again().await;
        }
    }
}

/// A host that wants to be told how a call goes on.
struct Audience<'a> {
    host: &'a Peer<RoleServer>,
    token: ProgressToken,
}

impl Audience<'_> {
    /// Tells a piece of a result: its number is how far it has come, its text the message.
    async fn tell(&self, push: &PushInfo) {
        let [_, RedisValue::BulkString(message)] = &push.data[..] else { return };
        let Ok(wire::Result { chunk: Some(chunk), seq: Some(seq), .. }) = serde_json::from_slice(message) else { return };
        let text = serde_json::from_str::<String>(chunk.get()).unwrap_or_else(|_| chunk.get().to_owned());
        let progress = ProgressNotificationParam::new(self.token.clone(), seq as f64).with_message(text);
        // A host that is gone has ended the call as well.
        let _ = self.host.notify_progress(progress).await;
    }
}

/// A look at the tools, whenever they may have changed.
struct Look {
    server: Server,
    line: Option<Link>,
    /// Rung when peers' capabilities change, and when the connection ends.
    news: Arc<Notify>,
    /// The digest of the tools.
    known: Hash,
}

impl Look {
    async fn at(server: Server) -> Look {
        let mut look = Look { server, line: None, news: Arc::default(), known: Found::of(&[]).digest };
        look.known = look.tools().await.unwrap_or(look.known);
        look
    }

    /// Whether the tools are others than before, once there is news, or after a while.
    async fn again(&mut self) -> bool {
        let mut seen = None;
        if self.line.is_none() {
            sleep(AWAY).await;
        } else if timeout(LOOK_EVERY, self.news.notified()).await.is_ok() {
            sleep(TOGETHER).await;
        } else {
            seen = self.server.seen();
        }
        let looked = match seen {
            Some(digest) => Ok(digest),
            None => self.tools().await,
        };
        match looked {
            Ok(found) => {
                let has_changed = found != self.known;
                self.known = found;
                has_changed
            }
            // A server that is away has the tools it had, for all that is known.
            Err(_) => {
                self.line = None;
                false
            }
        }
    }

    async fn tools(&mut self) -> Result<Hash, Refusal> {
        let line = match &mut self.line {
            Some(line) => line,
            none => {
                let news = Arc::clone(&self.news);
                let mut line = (self.server.open)(Arc::new(move |_| news.notify_one())).await?;
                line.subscribe(names::CAPABILITIES).await?;
                none.insert(line)
            }
        };
        Ok(self.server.look(line).await?.digest)
    }
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().enable_tool_list_changed().build();
        ServerConfig::new(capabilities).with_server_info(Implementation::new("flux", VERSION)).with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        request: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let cursor = request.and_then(|request| request.cursor);
        let found = match self.kept.get().filter(|_| cursor.is_some()) {
            Some(kept) => kept,
            None => self.found().await?,
        };
        let (tools, next_cursor) = found.page(cursor.as_deref());
        if next_cursor.is_some() {
            self.kept.keep(&found);
        }
        Ok(ListToolsResult { next_cursor, ..ListToolsResult::with_all_items(tools) })
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let Some(entry) = self.entry(&request.name).await? else {
            let text = format!("there is no tool `{}`: no live peer has such a capability", request.name);
            return Err(ErrorData::invalid_params(text, None));
        };
        let payload = entry.payload(request.arguments.unwrap_or_default());
        let token = context.meta.get_progress_token();
        let audience = token.map(|token| Audience { host: &context.peer, token });
        let outcome = tokio::select! {
            outcome = self.call(&entry.capability, &payload, audience) => outcome,
            () = context.ct.cancelled() => Err(Refusal::new("CANCELLED", "the call was cancelled")),
        };
        Ok(outcome.map_or_else(|refusal| CallToolResult::error(vec![ContentBlock::text(refusal.error)]), result).into())
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        lifecycle::of_connection(self.clone().tell(context.peer));
    }

    fn accepted_subscription_filter(&self, _: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(SubscriptionFilter::builder().tools_list_changed().build())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let mut look = Look::at(self.clone()).await;
        let mut has_changed = true;
        loop {
            if has_changed && context.sink().notify_tool_list_changed().await.is_err() {
                return Ok(());
            }
            has_changed = tokio::select! {
                () = context.cancelled() => return Ok(()),
                has_changed = look.again() => has_changed,
            };
        }
    }
}

/// A result as text for models; one that is an object also as it is.
fn result(json: String) -> CallToolResult {
    let value = serde_json::from_str(&json).unwrap_or(Value::Null);
    let text = match &value {
        Value::String(text) => Cow::Borrowed(text.as_str()),
        _ => Cow::Owned(json),
    };
    let mut result = CallToolResult::success(vec![ContentBlock::text(text)]);
    result.structured_content = Some(value).filter(Value::is_object);
    result
}
