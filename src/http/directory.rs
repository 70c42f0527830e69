//! What there is: peers, capabilities, workspaces, counts. Read through a session, as anyone could with `FLUX.*` commands.

use std::sync::Arc;

use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, Uri, header};
use axum::response::{IntoResponse, Response};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, cmd};
use serde_json::json;
use serde_json::value::RawValue;

use super::answer::Refusal;
use super::ask::Options;
use super::{Caller, Door, context, line};

pub async fn peers(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let options = Options::of(&uri, &headers, &["workspace", "capability"])?;
    let mut ask = cmd("FLUX.PEERS");
    for name in ["workspace", "capability"] {
        if let Some(value) = options.text(name) {
            ask.arg(name).arg(value);
        }
    }
    Ok(list(&texts(&mut line::open(&door, caller).await?, &ask).await?))
}

pub async fn capabilities(State(door): State<Arc<Door>>, Extension(caller): Extension<Caller>) -> Result<Response, Refusal> {
    Ok(list(&texts(&mut line::open(&door, caller).await?, &cmd("FLUX.CAPABILITIES")).await?))
}

pub async fn capability(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Response, Refusal> {
    let mut line = line::open(&door, caller).await?;
    Ok(one(cmd("FLUX.DESCRIBE").arg(name).query_async(&mut line).await?))
}

pub async fn workspaces(State(door): State<Arc<Door>>, Extension(caller): Extension<Caller>) -> Result<Response, Refusal> {
    Ok(list(&texts(&mut line::open(&door, caller).await?, &cmd("FLUX.WORKSPACES")).await?))
}

pub async fn workspace(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Response, Refusal> {
    let mut line = line::open(&door, caller).await?;
    let peers = texts(&mut line, cmd("FLUX.PEERS").arg("WORKSPACE").arg(&name)).await?;
    let peers: Vec<Box<RawValue>> = peers.into_iter().filter_map(|peer| RawValue::from_string(peer).ok()).collect();
    let context = context::versions(&mut line, &name).await?;
    Ok(axum::Json(json!({ "name": name, "peers": peers, "context": context })).into_response())
}

pub async fn status(State(door): State<Arc<Door>>, Extension(caller): Extension<Caller>) -> Result<Response, Refusal> {
    let mut line = line::open(&door, caller).await?;
    let counts: String = cmd("FLUX.STATUS").query_async(&mut line).await?;
    Ok(one(with(&counts, "lifecycle", &json!(door.instance.lifecycle().report()))))
}

/// An object with one more member.
fn with(object: &str, name: &str, value: &serde_json::Value) -> String {
    let members = object.strip_suffix('}').expect("it is an object, and not an empty one");
    format!("{members},{}:{value}}}", json!(name))
}

async fn texts(line: &mut MultiplexedConnection, ask: &Cmd) -> Result<Vec<String>, Refusal> {
    Ok(ask.query_async(line).await?)
}

fn one(text: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

/// JSON texts as an array.
fn list(texts: &[String]) -> Response {
    one(format!("[{}]", texts.join(",")))
}
