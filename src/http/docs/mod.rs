//! `GET /`, `/docs` and `/openapi.json`: what can be asked here, for programs and for people. The pages are made of the rows, hold nothing of
//! others, need no internet, and no other page may show them within itself.

use std::fmt::Write;
use std::sync::OnceLock;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{Door, openapi, routes};
use crate::commands::route::refusal::{self, Refusal};
use crate::commands::route::{Access, Answer, Ask, Gives, Kind, Param, Place, Route, answer};
use crate::version::VERSION;

/// What a page may do: load its own script and style, and ask this server.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// Files of the page: names, media types, contents.
const FILES: &[(&str, &str, &str)] = &[
    ("docs.js", "text/javascript; charset=utf-8", include_str!("docs.js")),
    ("docs.css", "text/css; charset=utf-8", include_str!("docs.css")),
];

/// What takes a millisecond to make and never changes: made when it is first asked for, since anybody may ask, and often.
#[derive(Default)]
pub(crate) struct Pages {
    page: OnceLock<Bytes>,
    openapi: OnceLock<Bytes>,
}

pub(crate) async fn index(ask: Ask) -> Answer {
    let routes = routes::all(&ask.instance);
    let mut response = if wants_html(ask.headers()) {
        sent(html("flux", &list(&routes)).into())
    } else {
        answer::json(listed(&routes).to_string())
    };
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

pub(crate) async fn page(ask: Ask) -> Answer {
    let made = Door::of(&ask).pages.page.get_or_init(|| html("flux: HTTP", &described(&routes::all(&ask.instance))).into());
    Ok(sent(made.clone()))
}

pub(crate) async fn file(ask: Ask) -> Answer {
    let name = ask.part("file");
    let Some((_, kind, text)) = FILES.iter().find(|(file, ..)| *file == name) else {
        return Err(Refusal::new("NOROUTE", format!("there is no `{name}` here")));
    };
    Ok(([(header::CONTENT_TYPE, *kind), (header::CACHE_CONTROL, "no-cache")], *text).into_response())
}

pub(crate) async fn for_programs(ask: Ask) -> Answer {
    let made = Door::of(&ask).pages.openapi.get_or_init(|| openapi::document(&routes::all(&ask.instance)).to_string().into());
    Ok(answer::json(made.clone()))
}

/// Whether a client names HTML among what it takes, as browsers do and programs do not.
fn wants_html(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| kind.split(';').next().is_some_and(|kind| kind.trim() == "text/html"))
}

fn listed(routes: &[&Route]) -> Value {
    let route = |route: &&Route| json!({ "method": route.method.as_str(), "path": route.path, "help": route.help });
    let routes: Vec<Value> = routes.iter().map(route).collect();
    json!({ "name": "flux", "version": VERSION, "docs": "/docs", "openapi": "/openapi.json", "routes": routes })
}

/// A page. Its title and its body are HTML.
fn html(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{title}</title>\n<link rel=\"stylesheet\" href=\"/docs/docs.css\">\n<script src=\"/docs/docs.js\" defer></script>\n{body}</html>\n"
    )
}

fn sent(page: Bytes) -> Response {
    let headers: [(HeaderName, &str); 6] = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        // For browsers that do not know `frame-ancestors`.
        (header::X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, Body::from(page)).into_response()
}

fn list(routes: &[&Route]) -> String {
    let row =
        |route: &&Route| format!("<tr><td><code>{} {}</code><td>{}\n", route.method, escaped(route.path), formatted(route.help));
    format!(
        "<h1>flux {VERSION}</h1>\n<p>All of it, to be tried: <a href=\"/docs\">/docs</a>. For programs: <a href=\"/openapi.json\">/openapi.json</a>.\n\
         <table>\n{}</table>\n",
        routes.iter().map(row).collect::<String>()
    )
}

fn described(routes: &[&Route]) -> String {
    let mut page = format!(
        "<h1>flux {VERSION}: HTTP</h1>\n<p>What can be asked of this server, and a form to try each. For programs: \
         <a href=\"/openapi.json\">/openapi.json</a>.\n<p><label>Password, if one is set: <input id=\"password\" type=\"password\" \
         autocomplete=\"off\"></label>\n"
    );
    routes.iter().for_each(|route| describe(&mut page, route));
    page
}

fn describe(page: &mut String, route: &Route) {
    let (method, path) = (route.method.as_str(), escaped(route.path));
    let _ = writeln!(page, "<details>\n<summary><code>{method} {path}</code> {}</summary>", formatted(route.help));
    let _ = writeln!(page, "<p>{}", who(route.access));
    let _ = writeln!(page, "<form data-method=\"{method}\" data-path=\"{path}\">");
    if !route.params.is_empty() {
        page.push_str("<table>\n");
        route.params.iter().for_each(|param| field(page, param));
        page.push_str("</table>\n");
    }
    if let Some(body) = &route.body {
        let _ = writeln!(
            page,
            "<p><label>Body, <code>{}</code>: {}<br><textarea data-media=\"{0}\" rows=\"4\"></textarea></label>",
            escaped(body.media),
            formatted(body.help)
        );
    }
    page.push_str(
        "<p><button>Try it</button> <button type=\"button\" class=\"stop\" hidden>Stop</button>\n<pre hidden></pre>\n</form>\n",
    );
    page.push_str("<table>\n");
    route.gives.iter().for_each(|gives| given(page, gives));
    let mut codes: Vec<_> = route.codes().filter_map(refusal::named).collect();
    codes.sort_by_key(|code| code.status);
    for code in codes {
        let _ = writeln!(page, "<tr><td>{}<td><code>{}</code><td>{}", code.status, code.name, formatted(code.help));
    }
    page.push_str("</table>\n</details>\n");
}

fn who(access: Access) -> &'static str {
    match access {
        Access::Public => "No password is needed, and pages of any origin may import it.",
        Access::Open => "No password is needed.",
        Access::Guarded => "The password is needed, if one is set.",
        Access::AsksItself => "The password is asked for within, if one is set.",
    }
}

fn field(page: &mut String, param: &Param) {
    let (name, place) = (escaped(param.name), place(param.place));
    let input = match param.kind {
        Kind::Word(words) => {
            let options: String = words.iter().map(|word| format!("<option>{}</option>", escaped(word))).collect();
            format!("<select data-in=\"{place}\" name=\"{name}\"><option value=\"\"></option>{options}</select>")
        }
        Kind::Number { .. } | Kind::Text { .. } | Kind::Name { .. } | Kind::Form { .. } => {
            let required = if param.place == Place::Path { " required" } else { "" };
            format!("<input data-in=\"{place}\" name=\"{name}\"{required}>")
        }
    };
    let (help, words) = (formatted(param.help), escaped(&param.kind.words()));
    let _ = writeln!(page, "<tr><td><label><code>{name}</code> ({place})<br>{input}</label><td>{help} <small>{words}</small>");
}

fn place(place: Place) -> &'static str {
    match place {
        Place::Path => "path",
        Place::Query => "query",
        Place::Header => "header",
    }
}

fn given(page: &mut String, gives: &Gives) {
    let (status, media, help) = (gives.status, escaped(gives.media), formatted(gives.help));
    let _ = writeln!(page, "<tr><td>{status}<td><code>{media}</code><td>{help}");
    for (name, help) in gives.headers {
        let _ = writeln!(page, "<tr><td><td><code>{}</code><td>{}", escaped(name), formatted(help));
    }
}

/// Text as HTML has it, also within quotes.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}

/// The same, with what stands between backticks as code.
fn formatted(text: &str) -> String {
    let parts = text.split('`').enumerate();
    parts.map(|(at, part)| if at % 2 == 1 { format!("<code>{}</code>", escaped(part)) } else { escaped(part) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_no_html() {
        assert_eq!(escaped("<a b=\"c\" d='e'>&amp;"), "&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;amp;");
        assert_eq!(formatted("`<x>` is & is"), "<code>&lt;x&gt;</code> is &amp; is");
    }

    #[test]
    fn a_browser_gets_a_page_and_a_program_json() {
        let wants = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_str(accept).unwrap());
            wants_html(&headers)
        };
        assert!(wants("text/html,application/xhtml+xml,*/*;q=0.8") && wants("application/json, text/html;q=0.5"));
        assert!(!wants("*/*") && !wants("application/json") && !wants("text/htmlx"));
    }
}
