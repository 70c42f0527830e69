//! `flux mcp`: capabilities of peers as tools for a program that speaks MCP over standard input and output.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use rmcp::ServiceExt;

use crate::cli::failure::chain;
use crate::cli::reach::{self, Target};
use crate::http::mcp::{Open, Refusal, Server};

/// Serves the host on standard input and output until it ends. What is logged goes to standard error.
pub(crate) fn serve(target: Target) -> anyhow::Result<ExitCode> {
    let open: Open = Arc::new(move |hear| {
        let target = target.clone();
        Box::pin(async move {
            let unreached = |error| Refusal::new("UNREACHABLE", format!("the flux server cannot be reached: {}", chain(&error)));
            target.link(hear).await.map_err(unreached)
        })
    });
    let runtime = reach::runtime()?;
    runtime.block_on(async {
        let service = Server::new(open).serve(rmcp::transport::stdio()).await.context("failed to begin with the host")?;
        service.waiting().await.context("failed to serve the host")?;
        anyhow::Ok(())
    })?;
    // Standard input is read by a thread that cannot be ended.
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}
