//! `/workspaces/{ws}/ctx`: shared context as resources, with versions as entity tags.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use redis::cmd;
use serde::de::IgnoredAny;
use serde_json::json;

use super::answer::Refusal;
use super::ask::{self, Options};
use super::{Caller, Door, line};
use crate::store::Line;

/// A value and its version.
type Versioned = Option<(Vec<u8>, u64)>;

pub async fn keys(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    Path(workspace): Path<String>,
) -> Result<Response, Refusal> {
    let mut line = line::open(&door, caller).await?;
    Ok(axum::Json(versions(&mut line, &workspace).await?).into_response())
}

pub async fn get(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    Path((workspace, key)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let mut line = line::open(&door, caller).await?;
    let Some((value, version)) = read(&mut line, &workspace, &key).await? else { return Err(missing(&workspace, &key)) };
    if tags(&headers, header::IF_NONE_MATCH).is_some_and(|tags| tags.fits(version)) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag(version))]).into_response());
    }
    let kind = if serde_json::from_slice::<IgnoredAny>(&value).is_ok() {
        "application/json"
    } else if std::str::from_utf8(&value).is_ok() {
        "text/plain; charset=utf-8"
    } else {
        "application/octet-stream"
    };
    let headers = [(header::ETAG, tag(version)), (header::CONTENT_TYPE, HeaderValue::from_static(kind))];
    Ok((headers, [(header::CACHE_CONTROL, "no-cache")], value).into_response())
}

pub async fn put(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    Path((workspace, key)): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    let options = Options::of(&uri, &headers, &["ttl"])?;
    let ttl_ms: Option<u64> = options.number("ttl", 1, i64::MAX as u64)?;
    let value = ask::body(&door, request.into_body()).await?;
    let mut line = line::open(&door, caller).await?;
    let expected = expected(&mut line, &workspace, &key, &headers).await?;
    let mut set = cmd("FLUX.CTX.SET");
    set.arg(&workspace).arg(&key).arg(&value[..]);
    if let Some(version) = expected {
        set.arg("IFVERSION").arg(version);
    }
    if let Some(ttl_ms) = ttl_ms {
        set.arg("TTL").arg(ttl_ms);
    }
    let version: u64 = set.query_async(&mut line).await?;
    Ok(([(header::ETAG, tag(version))], axum::Json(json!({ "version": version }))).into_response())
}

pub async fn delete(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    Path((workspace, key)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let mut line = line::open(&door, caller).await?;
    let expected = expected(&mut line, &workspace, &key, &headers).await?;
    let mut delete = cmd("FLUX.CTX.DEL");
    delete.arg(&workspace).arg(&key);
    if let Some(version) = expected {
        delete.arg("IFVERSION").arg(version);
    }
    match delete.query_async(&mut line).await? {
        0 => Err(missing(&workspace, &key)),
        _ => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}

/// The keys of a workspace's context and their versions.
pub async fn versions(line: &mut Line, workspace: &str) -> Result<BTreeMap<String, u64>, Refusal> {
    let pairs: Vec<(String, u64)> = cmd("FLUX.CTX.KEYS").arg(workspace).arg("WITHVERSIONS").query_async(line).await?;
    Ok(pairs.into_iter().collect())
}

async fn read(line: &mut Line, workspace: &str, key: &str) -> Result<Versioned, Refusal> {
    Ok(cmd("FLUX.CTX.GET").arg(workspace).arg(key).arg("WITHVERSION").query_async(line).await?)
}

/// The version that a change depends on, if it depends on any; 0 where there must be no value.
async fn expected(line: &mut Line, workspace: &str, key: &str, headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    match (tags(headers, header::IF_MATCH), tags(headers, header::IF_NONE_MATCH)) {
        (None, None) => Ok(None),
        (None, Some(Tags::Any)) => Ok(Some(0)),
        (Some(Tags::These(versions)), None) if versions.len() == 1 => Ok(Some(versions[0])),
        (Some(Tags::Any), None) => match read(line, workspace, key).await? {
            Some((_, version)) => Ok(Some(version)),
            None => Err(Refusal::new("CONFLICT", "there is no value")),
        },
        _ => Err(Refusal::bad_request("a change may depend on `If-Match: \"version\"`, `If-Match: *` or `If-None-Match: *`")),
    }
}

/// What an `If-Match` or `If-None-Match` names.
enum Tags {
    Any,
    These(Vec<u64>),
}

impl Tags {
    fn fits(&self, version: u64) -> bool {
        match self {
            Tags::Any => true,
            Tags::These(versions) => versions.contains(&version),
        }
    }
}

/// Tags that are none of ours fit nothing: their version is one that no value has.
fn tags(headers: &HeaderMap, name: HeaderName) -> Option<Tags> {
    let text = headers.get(name)?.to_str().unwrap_or_default().trim();
    let version = |tag: &str| tag.trim().trim_start_matches("W/").trim_matches('"').parse().unwrap_or(u64::MAX >> 1);
    Some(if text == "*" { Tags::Any } else { Tags::These(text.split(',').map(version).collect()) })
}

fn tag(version: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{version}\"")).expect("a number in quotes fits a header")
}

fn missing(workspace: &str, key: &str) -> Refusal {
    Refusal::new("NOKEY", format!("there is no `{key}` in the context of `{workspace}`"))
}
