//! Who may ask: the password, where one is set; and no web page of strangers, since a browser would carry its requests to
//! this machine for it.
//!
//! - A page is known by its `Origin`: one on this machine, one served by this host, or one that `http-origins` lists. Where a browser says
//!   that a page of another site asks, and not which, it is none of these.
//! - A page whose name was made to point here (DNS rebinding) looks as if it were served by this host. Its name gives it away:
//!   without a password, `Host` must be a name of this machine, an address, or the host of a listed origin. That goes for all routes, those
//!   that need no password among them.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::extract::{Extension, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::answer::Refusal;
use super::{Busy, Caller, Door};
use crate::clock;
use crate::commands::admit::check_reach;
use crate::commands::connection::note_wrong_password;
use crate::commands::identity::Way;
use crate::commands::route::Access;
use crate::commands::sockets::Permit;
use crate::config::Name;

/// How long a browser may remember what it may send, in seconds.
const PREFLIGHT_AGE: HeaderValue = HeaderValue::from_static("600");

/// Who may ask for a kind of routes.
#[derive(Clone)]
pub(crate) struct Rule {
    pub door: Arc<Door>,
    pub access: Access,
}

/// Lets a request through, or says why not.
pub(crate) async fn check(
    State(rule): State<Rule>,
    Extension(caller): Extension<Caller>,
    request: Request,
    next: Next,
) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let needs_password = match check_page(&rule, caller, &request) {
        Ok(is_known) => needs_password(rule.access, is_known),
        // Without saying that the page may read it.
        Err(refusal) => {
            rule.door.counts.refused();
            return refusal.into_response();
        }
    };
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| given_password(value.as_bytes()));
    let permit = request.extensions().get::<Arc<Permit>>().cloned();
    let mut response = if request.method() == Method::OPTIONS {
        preflight(request.headers())
    } else if touches_keys(rule.access) && rule.door.instance.is_ending.load(Relaxed) {
        Refusal::ending().into_response()
    } else if rule.access == Access::Guarded && rule.door.instance.loading.is_on() {
        Refusal::loading().into_response()
    } else if needs_password && !has_password(&rule.door, caller, permit.as_deref(), given).await {
        rule.door.counts.refused();
        without_password(&rule, &request)
    } else {
        if needs_password && let Some(permit) = &permit {
            *permit.stranger.lock() = None;
        }
        let busy = touches_keys(rule.access).then(|| Busy::begin(&rule.door));
        // Whoever waits for those who are busy waits for this one, unless the end began while a password was looked at.
        if busy.is_some() && rule.door.instance.is_ending.load(Relaxed) {
            Refusal::ending().into_response()
        } else {
            next.run(request).await
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(origin) = origin.filter(|_| rule.access != Access::Public) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("etag, mcp-session-id"));
        headers.append(header::VARY, HeaderValue::from_static("origin"));
    }
    response
}

/// Refuses callers that protected mode keeps out, and pages of strangers. Tells whether the host that was asked is known to be us.
fn check_page(rule: &Rule, caller: Caller, request: &Request) -> Result<bool, Refusal> {
    let door = &rule.door;
    if check_reach(caller.origin(Way::Http).reach, &door.instance).is_err() {
        return Err(Refusal::new("DENIED", "protected mode: no password is set, so only this machine may ask; set requirepass"));
    }
    let listed = door.instance.config.text(Name::HttpOrigins);
    let headers = request.headers();
    let host = host_of(request);
    let mut origins = headers.get_all(header::ORIGIN).iter().map(|value| value.to_str().unwrap_or_default().to_ascii_lowercase());
    match (origins.next(), origins.next()) {
        _ if rule.access == Access::Public => {}
        (None, _) if is_of_unnamed_page(headers) => {
            return Err(Refusal::new("DENIED", "pages of other sites may not ask without saying which they are"));
        }
        (Some(origin), more) if more.is_some() || !is_welcome(&origin, host.as_ref(), &listed) => {
            return Err(Refusal::new("DENIED", format!("pages of {origin} may not ask: add it to the setting http-origins")));
        }
        _ => {}
    }
    // A client that names no host at all is no browser's page.
    let names_none = !headers.contains_key(header::HOST) && request.uri().authority().is_none();
    let is_known = names_none || host.is_some_and(|host| is_ours(&host, &listed));
    if !is_known && door.instance.password().is_none() {
        return Err(unknown_host(request));
    }
    Ok(is_known)
}

/// Whether a request needs the password, where one is set. What is open needs it too under a name that may be made to point here.
fn needs_password(access: Access, is_known: bool) -> bool {
    match access {
        Access::Guarded => true,
        Access::AsksItself => false,
        Access::Public | Access::Open => !is_known,
    }
}

/// Whether what answers may touch the keyspace.
fn touches_keys(access: Access) -> bool {
    match access {
        Access::Guarded | Access::AsksItself => true,
        Access::Public | Access::Open => false,
    }
}

fn without_password(rule: &Rule, request: &Request) -> Response {
    if rule.access != Access::Guarded {
        return unknown_host(request).into_response();
    }
    let refusal = Refusal::new("NOAUTH", "a password is needed: send it as `Authorization: Bearer …` or Basic");
    ([(header::WWW_AUTHENTICATE, "Basic realm=\"flux\"")], refusal).into_response()
}

fn unknown_host(request: &Request) -> Refusal {
    let host =
        request.headers().get(header::HOST).map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned()).unwrap_or_default();
    Refusal::new(
        "DENIED",
        format!("the host `{host}` is not known: ask by address, give a password, or add it to the setting http-origins"),
    )
}

/// Whether a browser says that it asks for a page of another site, and not which. It does so for images, scripts and the like; a link that
/// someone followed is no page's request.
fn is_of_unnamed_page(headers: &HeaderMap) -> bool {
    let says =
        |name: &str, word: &str| headers.get(name).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(word.as_bytes()));
    says("sec-fetch-site", "cross-site") && !says("sec-fetch-mode", "navigate")
}

/// A host, and its port where one is named.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    host: Host,
    port: Option<u16>,
}

#[derive(Debug, PartialEq, Eq)]
enum Host {
    /// In lower case, without a dot at its end.
    Name(String),
    Address(IpAddr),
}

impl Place {
    /// None for what no browser sends: with a user, a port that is none, or nothing at all.
    fn parse(text: &str) -> Option<Place> {
        let authority: Authority = text.parse().ok()?;
        let (host, port) = (authority.host(), authority.port_u16());
        let whole = port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        // The parser passes over what it does not take for host or port.
        if whole != authority.as_str() {
            return None;
        }
        let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(address) => Host::Address(IpAddr::V6(address.parse().ok()?)),
            None => Host::parse(host.strip_suffix('.').unwrap_or(host))?,
        };
        Some(Place { host, port })
    }

    fn is_this_machine(&self) -> bool {
        match &self.host {
            Host::Name(name) => name == "localhost" || name.ends_with(".localhost"),
            Host::Address(address) => address.is_loopback(),
        }
    }
}

impl Host {
    fn parse(name: &str) -> Option<Host> {
        if let Ok(address) = name.parse() {
            return Some(Host::Address(IpAddr::V4(address)));
        }
        let is_name = name.split('.').all(|label| {
            !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        });
        is_name.then(|| Host::Name(name.to_ascii_lowercase()))
    }
}

/// The host a request is for, where it says so once and clearly.
fn host_of(request: &Request) -> Option<Place> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next().map(|host| host.to_str().ok().and_then(Place::parse));
    let target = request.uri().authority().map(|target| Place::parse(target.as_str()));
    match (host, target) {
        _ if hosts.next().is_some() => None,
        (Some(host), None) | (None, Some(host)) => host,
        (Some(host), Some(target)) => host.filter(|host| Some(host) == target.as_ref()),
        (None, None) => None,
    }
}

/// Whether a page of this origin, in lower case, may ask at this host.
fn is_welcome(origin: &str, host: Option<&Place>, listed: &str) -> bool {
    if listed.split_whitespace().any(|other| other == origin) {
        return true;
    }
    let (page, usual_port) = match origin.split_once("://") {
        Some(("http", page)) => (page, 80),
        Some(("https", page)) => (page, 443),
        // Extensions and the like must be listed: their names are chosen by whoever made them.
        _ => return false,
    };
    let Some(page) = Place::parse(page) else { return false };
    let is_served_here =
        |host: &Place| host.host == page.host && host.port.unwrap_or(usual_port) == page.port.unwrap_or(usual_port);
    page.is_this_machine() || host.is_some_and(is_served_here)
}

/// Whether a request to this host means us.
fn is_ours(host: &Place, listed: &str) -> bool {
    let mut listed = listed.split_whitespace().filter_map(|origin| Place::parse(origin.split_once("://")?.1));
    matches!(host.host, Host::Address(_)) || host.is_this_machine() || listed.any(|listed| listed.host == host.host)
}

/// Whether a request carries the password, or none is needed. Who guesses waits first.
async fn has_password(door: &Door, caller: Caller, permit: Option<&Permit>, given: Option<Vec<u8>>) -> bool {
    let Some(expected) = door.instance.password() else { return true };
    let Some(given) = given else { return false };
    let from = Some(caller.address.ip());
    let has_guessed = permit.is_some_and(|permit| permit.has_guessed.load(Relaxed));
    let wait_ms = door.instance.guesses.try_one(from, has_guessed, clock::monotonic_ms());
    if wait_ms > 0 {
        tokio::time::sleep(Duration::from_millis(wait_ms)).await;
    }
    let is_right = expected.is(&given);
    if is_right {
        door.instance.guesses.was_right(from, has_guessed, clock::monotonic_ms());
    } else {
        permit.inspect(|permit| permit.has_guessed.store(true, Relaxed));
        note_wrong_password(&caller.address.to_string());
    }
    is_right
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
        let listed = "https://app.example.com null chrome-extension://abcdef";
        for (origin, host, expected) in [
            ("http://localhost:5173", "127.0.0.1:3000", true),
            ("http://app.localhost", "127.0.0.1:3000", true),
            ("http://localhost.:5173", "127.0.0.1:3000", true),
            ("http://127.0.0.1:8000", "localhost:3000", true),
            ("http://[::1]:8000", "localhost:3000", true),
            ("https://localhost", "localhost:3000", true),
            ("http://flux.example:3000", "flux.example:3000", true),
            ("http://flux.example:3000", "FLUX.Example.:3000", true),
            ("http://flux.example", "flux.example", true),
            ("http://flux.example", "flux.example:80", true),
            ("https://flux.example", "flux.example", true),
            ("https://app.example.com", "127.0.0.1:3000", true),
            ("chrome-extension://abcdef", "127.0.0.1:3000", true),
            ("null", "127.0.0.1:3000", true),
            ("http://app.example.com", "127.0.0.1:3000", false),
            ("https://evil.example", "127.0.0.1:3000", false),
            ("http://localhost.evil.example", "127.0.0.1:3000", false),
            ("http://localhost:3000@evil.com", "127.0.0.1:3000", false),
            ("http://localhost@evil.com", "127.0.0.1:3000", false),
            ("http://user@localhost", "127.0.0.1:3000", false),
            ("http://localhost:80.evil.example", "127.0.0.1:3000", false),
            ("http://localhost:99999", "127.0.0.1:3000", false),
            ("http://localhost/", "127.0.0.1:3000", false),
            ("http://localhost#evil", "127.0.0.1:3000", false),
            ("http://localhost\\evil", "127.0.0.1:3000", false),
            ("http://[::1].evil.example", "127.0.0.1:3000", false),
            ("http://[::1%25eth0]", "127.0.0.1:3000", false),
            ("http://127.0.0.1.evil.example", "127.0.0.1:3000", false),
            ("chrome-extension://localhost", "127.0.0.1:3000", false),
            ("moz-extension://127.0.0.1", "127.0.0.1:3000", false),
            ("file://localhost", "127.0.0.1:3000", false),
            ("ws://localhost", "127.0.0.1:3000", false),
            ("http://flux.example:3001", "flux.example:3000", false),
            ("http://flux.example", "flux.example:3000", false),
            ("http://192.168.0.7", "127.0.0.1:3000", false),
            ("http://", "127.0.0.1:3000", false),
            ("http://", "", false),
            ("", "", false),
        ] {
            assert_eq!(is_welcome(origin, Place::parse(host).as_ref(), listed), expected, "{origin} {host}");
        }
        assert!(!is_welcome("null", Place::parse("127.0.0.1:3000").as_ref(), ""));
    }

    #[test]
    fn hosts_are_known_by_address_by_names_of_this_machine_and_by_the_list() {
        for (host, expected) in [
            ("localhost:3000", true),
            ("LocalHost", true),
            ("localhost.:3000", true),
            ("a.localhost:3000", true),
            ("127.0.0.1:3000", true),
            ("[::1]:3000", true),
            ("[2001:db8::1]", true),
            ("192.168.0.7", true),
            ("flux.internal:3000", true),
            ("evil.example:3000", false),
            ("localhost.evil.example", false),
            ("localhost:80.evil.example", false),
            ("localhost:80:80", false),
            ("localhost:", false),
            ("localhost:+80", false),
            ("localhost:70000", false),
            ("localhost..", false),
            (".localhost", false),
            ("user@localhost", false),
            ("127.0.0.1@evil.example", false),
            ("127.0.0.1.evil.example", false),
            ("[::1", false),
            ("[::1]evil.example", false),
            ("[localhost]", false),
            ("::1", false),
            ("localhost/evil", false),
            ("localhost evil.example", false),
            ("localhost,evil.example", false),
            ("", false),
        ] {
            let is_known = Place::parse(host).is_some_and(|host| is_ours(&host, "https://flux.internal null"));
            assert_eq!(is_known, expected, "{host}");
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
