//! MCP: capabilities of peers as tools of any host that speaks the Model Context Protocol, at `/mcp` (streamable HTTP) and
//! through `flux mcp` (standard input and output). Both ask the keyspace with `FLUX.*` commands: here a session in this
//! process, there a connection to a server.

mod tools;

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cmd;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation, ListToolsResult,
    PaginatedRequestParams, ServerCapabilities, ServerConfig, SubscriptionFilter,
};
use rmcp::service::{NotificationContext, Peer, RequestContext, SubscriptionContext};
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde_json::Value;

use crate::version::VERSION;
use tools::Entry;

pub use super::answer::Refusal;

/// How long a call may take. Hosts have limits of their own, and cancel.
const CALL_TIMEOUT_MS: u64 = 600_000;
/// How often the tools are looked at, to tell hosts of changes.
const LOOK_EVERY: Duration = Duration::from_millis(500);

const INSTRUCTIONS: &str = "Each tool is a capability of some process or agent that is connected to flux now. Tools come and go with \
                            them; the list is told anew when it changes.";

/// Opens a connection for commands.
pub type Open = Arc<dyn Fn() -> Opening + Send + Sync>;
/// A connection on its way, or why there is none.
pub type Opening = Pin<Box<dyn Future<Output = Result<MultiplexedConnection, Refusal>> + Send>>;

/// Serves one host.
#[derive(Clone)]
pub struct Server {
    open: Open,
}

impl Server {
    /// Asks over such connections.
    pub fn new(open: Open) -> Server {
        Server { open }
    }

    async fn capabilities(&self) -> Result<Vec<String>, Refusal> {
        let mut line = (self.open)().await?;
        Ok(cmd("FLUX.CAPABILITIES").query_async(&mut line).await?)
    }

    async fn entries(&self) -> Result<Vec<Entry>, ErrorData> {
        let capabilities = self.capabilities().await;
        Ok(tools::tools(&capabilities.map_err(|refusal| ErrorData::internal_error(refusal.error, None))?))
    }

    async fn call(&self, capability: &str, payload: &Value) -> Result<String, Refusal> {
        // A connection of its own: dropping it cancels the call.
        let mut line = (self.open)().await?;
        let mut call = cmd("FLUX.CALL");
        call.arg(capability).arg(payload.to_string()).arg("TIMEOUT").arg(CALL_TIMEOUT_MS);
        Ok(call.query_async(&mut line).await?)
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

/// A look at the tools, now and then.
struct Look {
    server: Server,
    line: Option<MultiplexedConnection>,
    known: Vec<String>,
}

impl Look {
    async fn at(server: Server) -> Look {
        let mut look = Look { server, line: None, known: Vec::new() };
        look.known = look.tools().await.unwrap_or_default();
        look
    }

    /// Whether the tools are others than before, after a while.
    async fn again(&mut self) -> bool {
        tokio::time::sleep(LOOK_EVERY).await;
        match self.tools().await {
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

    async fn tools(&mut self) -> Result<Vec<String>, Refusal> {
        let line = match &mut self.line {
            Some(line) => line,
            none => none.insert((self.server.open)().await?),
        };
        let capabilities: Vec<String> = cmd("FLUX.CAPABILITIES").query_async(line).await?;
        Ok(tools::tools(&capabilities).iter().map(|entry| serde_json::to_string(&entry.tool).unwrap_or_default()).collect())
    }
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().enable_tool_list_changed().build();
        ServerConfig::new(capabilities).with_server_info(Implementation::new("flux", VERSION)).with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let tools = self.entries().await?.into_iter().map(|entry| entry.tool).collect();
        Ok(ListToolsResult::with_all_items(tools))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let entries = self.entries().await?;
        let Some(entry) = entries.into_iter().find(|entry| entry.tool.name == request.name) else {
            let text = format!("there is no tool `{}`: no live peer has such a capability", request.name);
            return Err(ErrorData::invalid_params(text, None));
        };
        let payload = entry.payload(request.arguments.unwrap_or_default());
        let outcome = tokio::select! {
            outcome = self.call(&entry.capability, &payload) => outcome,
            () = context.ct.cancelled() => Err(Refusal::new("CANCELLED", "the call was cancelled")),
        };
        Ok(outcome.map_or_else(|refusal| CallToolResult::error(vec![ContentBlock::text(refusal.error)]), result).into())
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        tokio::spawn(self.clone().tell(context.peer));
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
