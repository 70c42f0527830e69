//! What there is: peers, capabilities, workspaces, counts. Read through a session, as anyone could with `FLUX.*` commands.

use redis::{Cmd, cmd};
use serde_json::json;
use serde_json::value::RawValue;

use super::context;
use crate::commands::route::{Answer, Ask, Line, Refusal, answer};

pub(crate) async fn peers(ask: Ask) -> Answer {
    let mut list = cmd("FLUX.PEERS");
    for name in ["workspace", "capability"] {
        if let Some(value) = ask.text(name) {
            list.arg(name).arg(value);
        }
    }
    Ok(answer::list(&texts(&mut ask.line().await?, &list).await?))
}

pub(crate) async fn capabilities(ask: Ask) -> Answer {
    Ok(answer::list(&texts(&mut ask.line().await?, &cmd("FLUX.CAPABILITIES")).await?))
}

pub(crate) async fn capability(ask: Ask) -> Answer {
    let mut line = ask.line().await?;
    let described: String = cmd("FLUX.DESCRIBE").arg(ask.part("capability")).query_async(&mut line).await?;
    Ok(answer::json(described))
}

pub(crate) async fn workspaces(ask: Ask) -> Answer {
    Ok(answer::list(&texts(&mut ask.line().await?, &cmd("FLUX.WORKSPACES")).await?))
}

pub(crate) async fn workspace(ask: Ask) -> Answer {
    let (mut line, name) = (ask.line().await?, ask.part("workspace"));
    let peers = texts(&mut line, cmd("FLUX.PEERS").arg("WORKSPACE").arg(name)).await?;
    let peers: Vec<Box<RawValue>> = peers.into_iter().filter_map(|peer| RawValue::from_string(peer).ok()).collect();
    let context = context::versions(&mut line, name).await?;
    Ok(answer::json(json!({ "name": name, "peers": peers, "context": context }).to_string()))
}

pub(crate) async fn status(ask: Ask) -> Answer {
    let mut line = ask.line().await?;
    let counts: String = cmd("FLUX.STATUS").query_async(&mut line).await?;
    Ok(answer::json(with(&counts, "lifecycle", &json!(ask.instance.lifecycle().report()))))
}

/// An object with one more member.
fn with(object: &str, name: &str, value: &serde_json::Value) -> String {
    let members = object.strip_suffix('}').expect("it is an object, and not an empty one");
    format!("{members},{}:{value}}}", json!(name))
}

async fn texts(line: &mut Line, ask: &Cmd) -> Result<Vec<String>, Refusal> {
    Ok(ask.query_async(line).await?)
}
