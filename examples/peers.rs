//! Two agents in one program: one writes a summary token by token, the other asks for it and keeps it in a shared document.
//!
//! `cargo run --example peers` needs nothing else. With a URL it uses a running server, and others can watch:
//! `flux watch notes` in one terminal, `cargo run --example peers -- redis://127.0.0.1:6379` in another.

#![allow(clippy::disallowed_methods, reason = "a program that has flux within it starts its own tasks")]

use std::time::Duration;

use flux::peers::{Capability, Error, Job, Peer, PeerBuilder};
use serde_json::json;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Says what is wrong where there is no server, while it still tries.
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let flux = flux::Flux::in_memory();
    let url = std::env::args().nth(1);
    let peer = |name: &str| -> Result<PeerBuilder, Error> {
        let peer = match &url {
            Some(url) => Peer::connect(url)?,
            None => flux.peer(),
        };
        Ok(peer.name(name))
    };

    let summarize = Capability::new("summarize", |topic: String, job: Job| async move {
        let words = ["Boats", "need", "water,", "wind", "and", "time."];
        for word in words {
            tokio::time::sleep(Duration::from_millis(20)).await;
            job.chunk(word).await?;
        }
        Ok::<_, Error>(format!("On {topic}: {}", words.join(" ")))
    });
    let summarize = summarize.description("Summarizes what is known of a topic.").schema(json!({ "type": "string" }));
    let writer = peer("writer")?.expose(summarize).start().await?;
    writer.join("notes").await?;

    let editor = peer("editor")?.start().await?;
    let here = editor.join("notes").await?;
    let names: Vec<&str> = here.iter().map(|peer| peer.name.as_str()).collect();
    println!("in the workspace: {}", names.join(", "));

    let (chunks, mut tokens) = tokio::sync::mpsc::unbounded_channel::<serde_json::Value>();
    let printed = tokio::spawn(async move {
        while let Some(token) = tokens.recv().await {
            print!("{} ", token.as_str().unwrap_or_default());
        }
        println!();
    });
    let summary: String = editor.call("summarize", "boats").chunks_to(chunks).read().await?;
    printed.await?;

    let mut events = writer.events();
    let version = editor.context("notes").set("boats", json!({ "summary": summary, "by": editor.name() })).await?;
    let seen = events.recv().await?;
    println!("the writer saw {} of `{}`, version {version}", seen.kind, seen.key.unwrap_or_default());

    editor.stop().await;
    writer.stop().await;
    Ok(())
}
