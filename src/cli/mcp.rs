//! `flux mcp`: capabilities of peers as tools for a program that speaks MCP over standard input and output.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use rmcp::ServiceExt;

use crate::cli::reach;
use crate::http::mcp::{Open, Refusal, Server, config};

/// Serves the host on standard input and output until it ends. What is logged goes to standard error.
pub fn serve(url: &str) -> anyhow::Result<ExitCode> {
    let client = reach::client_that_hears(url)?;
    let open: Open = Arc::new(move |hear| {
        let client = client.clone();
        Box::pin(async move {
            let opened = client.get_multiplexed_async_connection_with_config(&config(hear)).await;
            opened.map_err(|error| Refusal::new("UNREACHABLE", format!("the flux server cannot be reached: {error}")))
        })
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("failed to start")?;
    runtime.block_on(async {
        let service = Server::new(open).serve(rmcp::transport::stdio()).await.context("failed to begin with the host")?;
        service.waiting().await.context("failed to serve the host")?;
        anyhow::Ok(())
    })?;
    // Standard input is read by a thread that cannot be ended.
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}
