//! Who may ask: the password, where one is set; and no web page of strangers, since a browser would carry its requests to
//! this machine for it.
//!
//! - A page is known by its `Origin`: one on this machine, one served by this host, or one that `http-origins` lists.
//! - A page whose name was made to point here (DNS rebinding) looks as if it were served by this host. Its name gives it away:
//!   without a password, `Host` must be a name of this machine, an address, or the host of a listed origin.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::answer::Refusal;
use super::{Busy, Caller, Door};
use crate::commands::connection::is_same;
use crate::config::Name;
use crate::connection::is_protected;

/// How long a browser may remember what it may send, in seconds.
const PREFLIGHT_AGE: HeaderValue = HeaderValue::from_static("600");

/// Lets a request through, or says why not.
pub async fn check(
    State(door): State<Arc<Door>>,
    Extension(caller): Extension<Caller>,
    request: Request,
    next: Next,
) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    if let Err(refusal) = check_page(&door, caller, request.headers()) {
        return refusal.into_response();
    }
    let mut response = if request.method() == Method::OPTIONS {
        preflight(request.headers())
    } else if door.instance.is_ending.load(Relaxed) {
        Refusal::ending().into_response()
    } else if request.uri().path() != "/resp" && !has_password(&door, request.headers()) {
        let refusal = Refusal::new("NOAUTH", "a password is needed: send it as `Authorization: Bearer …` or Basic");
        ([(header::WWW_AUTHENTICATE, "Basic realm=\"flux\"")], refusal).into_response()
    } else {
        let _busy = Busy::begin(&door);
        next.run(request).await
    };
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("etag, mcp-session-id"));
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
    response
}

/// Refuses callers that protected mode keeps out, and pages of strangers.
fn check_page(door: &Door, caller: Caller, headers: &HeaderMap) -> Result<(), Refusal> {
    if is_protected(&door.instance, caller.address.ip().is_loopback()) {
        return Err(Refusal::new("DENIED", "protected mode: no password is set, so only this machine may ask; set requirepass"));
    }
    let listed = door.instance.config.text(Name::HttpOrigins);
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default().to_ascii_lowercase());
    let host = text(header::HOST).unwrap_or_default();
    if let Some(origin) = text(header::ORIGIN)
        && !is_welcome(&origin, &host, &listed)
    {
        return Err(Refusal::new("DENIED", format!("pages of {origin} may not ask: add it to the setting http-origins")));
    }
    if door.instance.password().is_none() && !is_ours(&host, &listed) {
        let text =
            format!("the host `{host}` is not known: ask by address, set a password, or add it to the setting http-origins");
        return Err(Refusal::new("DENIED", text));
    }
    Ok(())
}

/// Whether a page of this origin may ask.
fn is_welcome(origin: &str, host: &str, listed: &str) -> bool {
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    let is_local = authority.is_some_and(|authority| is_this_machine(name_of(authority)));
    is_local || authority == Some(host) || listed.split_whitespace().any(|other| other == origin)
}

/// Whether a request to this host means us.
fn is_ours(host: &str, listed: &str) -> bool {
    let name = name_of(host);
    let mut listed = listed.split_whitespace().filter_map(|origin| origin.split_once("://"));
    name.parse::<IpAddr>().is_ok() || is_this_machine(name) || listed.any(|(_, authority)| name_of(authority) == name)
}

fn is_this_machine(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost") || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

/// The host without its port: `::1` of `[::1]:3000`.
fn name_of(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

/// Whether a request carries the password, or none is needed.
fn has_password(door: &Door, headers: &HeaderMap) -> bool {
    let Some(expected) = door.instance.password() else { return true };
    let given = headers.get(header::AUTHORIZATION).and_then(|value| given_password(value.as_bytes()));
    given.is_some_and(|given| is_same(expected.as_bytes(), &given))
}

/// The password in an `Authorization` header; the user of a Basic one may be anyone.
fn given_password(value: &[u8]) -> Option<Vec<u8>> {
    let at = value.iter().position(|byte| *byte == b' ')?;
    let (scheme, given) = (&value[..at], value[at..].trim_ascii());
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return Some(given.to_vec());
    }
    let pair = BASE64_STANDARD.decode(given).ok().filter(|_| scheme.eq_ignore_ascii_case(b"basic"))?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some(pair[colon + 1..].to_vec())
}

/// Tells a browser that a page it asks for may send what it wants to.
fn preflight(headers: &HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let answer = response.headers_mut();
    answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, PUT, DELETE"));
    answer.insert(header::ACCESS_CONTROL_MAX_AGE, PREFLIGHT_AGE);
    if let Some(wanted) = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_this_machine_of_this_host_and_those_listed_are_welcome() {
        let listed = "https://app.example.com null";
        for (origin, host, expected) in [
            ("http://localhost:5173", "127.0.0.1:3000", true),
            ("http://app.localhost", "127.0.0.1:3000", true),
            ("http://127.0.0.1:8000", "localhost:3000", true),
            ("http://[::1]:8000", "localhost:3000", true),
            ("http://flux.example:3000", "flux.example:3000", true),
            ("https://app.example.com", "127.0.0.1:3000", true),
            ("null", "127.0.0.1:3000", true),
            ("http://app.example.com", "127.0.0.1:3000", false),
            ("https://evil.example", "127.0.0.1:3000", false),
            ("http://localhost.evil.example", "127.0.0.1:3000", false),
            ("http://flux.example:3001", "flux.example:3000", false),
            ("http://192.168.0.7", "127.0.0.1:3000", false),
            ("", "", false),
        ] {
            assert_eq!(is_welcome(origin, host, listed), expected, "{origin} {host}");
        }
        assert!(!is_welcome("null", "127.0.0.1:3000", ""));
    }

    #[test]
    fn hosts_are_known_by_address_by_names_of_this_machine_and_by_the_list() {
        for (host, expected) in [
            ("localhost:3000", true),
            ("127.0.0.1:3000", true),
            ("[::1]:3000", true),
            ("192.168.0.7", true),
            ("flux.internal:3000", true),
            ("evil.example:3000", false),
            ("localhost.evil.example", false),
            ("", false),
        ] {
            assert_eq!(is_ours(host, "https://flux.internal"), expected, "{host}");
        }
    }

    #[test]
    fn passwords_come_as_bearer_or_basic() {
        assert_eq!(given_password(b"Bearer s3:cret").as_deref(), Some(&b"s3:cret"[..]));
        assert_eq!(given_password(b"basic dXNlcjpzMzpjcmV0").as_deref(), Some(&b"s3:cret"[..]));
        for other in [&b"Bearer"[..], b"Digest abc", b"Basic ***", b"Basic dXNlcg==", b""] {
            assert_eq!(given_password(other), None, "{other:?}");
        }
    }
}
