//! `/workspaces/{ws}/ctx`: shared context as resources, with versions as entity tags.

use std::collections::BTreeMap;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use redis::cmd;
use serde::de::IgnoredAny;
use serde_json::json;

use crate::commands::route::{Answer, Ask, Line, Refusal, answer};

/// A value and its version.
type Versioned = Option<(Vec<u8>, u64)>;

pub(crate) async fn keys(ask: Ask) -> Answer {
    let versions = versions(&mut ask.line().await?, ask.part("workspace")).await?;
    Ok(answer::json(json!(versions).to_string()))
}

pub(crate) async fn get(ask: Ask) -> Answer {
    let Some((value, version)) = read(&mut ask.line().await?, &ask).await? else { return Err(missing(&ask)) };
    if tags(ask.text("If-None-Match")).is_some_and(|tags| tags.fits(version)) {
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

pub(crate) async fn put(mut ask: Ask) -> Answer {
    let value = ask.body().await?;
    let mut line = ask.line().await?;
    let expected = expected(&mut line, &ask).await?;
    let mut set = cmd("FLUX.CTX.SET");
    set.arg(ask.part("workspace")).arg(ask.part("key")).arg(&value[..]);
    if let Some(version) = expected {
        set.arg("IFVERSION").arg(version);
    }
    if let Some(ttl_ms) = ask.number::<u64>("ttl") {
        set.arg("TTL").arg(ttl_ms);
    }
    let version: u64 = set.query_async(&mut line).await?;
    Ok(([(header::ETAG, tag(version))], answer::json(json!({ "version": version }).to_string())).into_response())
}

pub(crate) async fn delete(ask: Ask) -> Answer {
    let mut line = ask.line().await?;
    let expected = expected(&mut line, &ask).await?;
    let mut delete = cmd("FLUX.CTX.DEL");
    delete.arg(ask.part("workspace")).arg(ask.part("key"));
    if let Some(version) = expected {
        delete.arg("IFVERSION").arg(version);
    }
    match delete.query_async(&mut line).await? {
        0 => Err(missing(&ask)),
        _ => Ok(StatusCode::NO_CONTENT.into_response()),
    }
}

/// The keys of a workspace's context and their versions.
pub(crate) async fn versions(line: &mut Line, workspace: &str) -> Result<BTreeMap<String, u64>, Refusal> {
    let pairs: Vec<(String, u64)> = cmd("FLUX.CTX.KEYS").arg(workspace).arg("WITHVERSIONS").query_async(line).await?;
    Ok(pairs.into_iter().collect())
}

async fn read(line: &mut Line, ask: &Ask) -> Result<Versioned, Refusal> {
    Ok(cmd("FLUX.CTX.GET").arg(ask.part("workspace")).arg(ask.part("key")).arg("WITHVERSION").query_async(line).await?)
}

/// The version that a change depends on, if it depends on any; 0 where there must be no value.
async fn expected(line: &mut Line, ask: &Ask) -> Result<Option<u64>, Refusal> {
    match (tags(ask.text("If-Match")), tags(ask.text("If-None-Match"))) {
        (None, None) => Ok(None),
        (None, Some(Tags::Any)) => Ok(Some(0)),
        (Some(Tags::These(versions)), None) if versions.len() == 1 => Ok(Some(versions[0])),
        (Some(Tags::Any), None) => match read(line, ask).await? {
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
fn tags(text: Option<&str>) -> Option<Tags> {
    let version = |tag: &str| tag.trim().trim_start_matches("W/").trim_matches('"').parse().unwrap_or(u64::MAX >> 1);
    text.map(|text| if text == "*" { Tags::Any } else { Tags::These(text.split(',').map(version).collect()) })
}

fn tag(version: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{version}\"")).expect("a number in quotes fits a header")
}

fn missing(ask: &Ask) -> Refusal {
    Refusal::new("NOKEY", format!("there is no `{}` in the context of `{}`", ask.part("key"), ask.part("workspace")))
}
