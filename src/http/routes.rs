//! The routes of the house itself, and the router of these and all that rooms have.

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, RawPathParams, Request};
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodFilter, MethodRouter, on};

use super::{Caller, Door, counts, docs, guard, health, line, resp, sdk, streamable};
use crate::commands::instance::Instance;
use crate::commands::route::param::Values;
use crate::commands::route::refusal::{CODES, Refusal};
use crate::commands::route::{Access, Answer, Ask, Body, Gives, Kind, OpenLine, Param, Place, Route, Shape};
use crate::peers::settings::PAYLOAD_LIMIT;

/// Names that are only compared, of far fewer bytes than the head of a request may have.
const COMPARED: Kind = Kind::Text { bytes_max: 4 << 10 };
const SESSION: Param = Param::header(streamable::SESSION, COMPARED, "The session, as the answer to `initialize` named it.");
const HTML: Gives = Gives::body("text/html", Shape::Text, "A page for people.");
const FILE_HEADERS: &[(&str, &str)] = &[("ETag", "Names what is in it.")];
const KNOWN: Gives = Gives::nothing(304, "It is known already.").headers(FILE_HEADERS);
const NOT_TAKEN: Gives =
    Gives::body("text/plain", Shape::Text, "`Accept` does not have the kinds that MCP says a host must take.").status(406);
const IF_NONE_MATCH: Param = Param::header("If-None-Match", COMPARED, "What is known already, as entity tags.");

/// The rows. Rooms have theirs in their own folders.
pub(crate) const ROUTES: &[Route] = &[
    Route::get("/", |ask| Box::pin(docs::index(ask)))
        .help("What can be asked here: JSON, or a page for browsers.")
        .access(Access::Open)
        .gives(&[
            Gives::json(
                Shape::Of(
                    r#"{"type": "object", "required": ["name", "version", "docs", "openapi", "routes"], "properties": {
                    "name": {"const": "flux"},
                    "version": {"type": "string"},
                    "docs": {"type": "string"},
                    "openapi": {"type": "string"},
                    "routes": {"type": "array", "items": {
                        "type": "object", "required": ["method", "path", "help"], "properties": {
                            "method": {"type": "string"}, "path": {"type": "string"}, "help": {"type": "string"}
                        }}}
                }}"#,
                ),
                "The routes.",
            ),
            HTML,
        ]),
    Route::get("/docs", |ask| Box::pin(docs::page(ask)))
        .help("The same with all there is to know of each, and a form to try it.")
        .access(Access::Open)
        .gives(&[HTML]),
    Route::get("/docs/{file}", |ask| Box::pin(docs::file(ask)))
        .help("What that page needs: its script and its style.")
        .access(Access::Open)
        .params(&[Param::path("file", COMPARED, "`docs.js` or `docs.css`.")])
        .gives(&[Gives::body("text/javascript", Shape::Text, "The script."), Gives::body("text/css", Shape::Text, "The style.")])
        .errors(&["NOROUTE"]),
    Route::get("/openapi.json", |ask| Box::pin(docs::for_programs(ask)))
        .help("The same for programs, as OpenAPI 3.1 has it.")
        .access(Access::Open)
        .gives(&[Gives::json(Shape::Of(r#"{"type": "object", "required": ["openapi", "info", "paths"]}"#), "The description.")]),
    Route::get("/health", |ask| Box::pin(health::health(ask)))
        .help("200 while the process answers at all: restart it otherwise.")
        .access(Access::Open)
        .gives(&[Gives::json(
            Shape::Of(
                r#"{"type": "object", "required": ["status", "version", "uptime_s"], "properties": {
                    "status": {"const": "ok"},
                    "version": {"type": "string"},
                    "uptime_s": {"type": "integer", "minimum": 0},
                    "checkpoint_error": {"type": "string", "description": "Why the last checkpoint failed, if it did."}
                }}"#,
            ),
            "It lives.",
        )]),
    Route::get("/ready", |ask| Box::pin(health::ready(ask)))
        .help("200 while commands are served and changes reach the disk, else 503 and why: send clients elsewhere.")
        .access(Access::Open)
        .gives(&[
            Gives::json(
                Shape::Of(r#"{"type": "object", "required": ["status"], "properties": {"status": {"const": "ready"}}}"#),
                "It is ready.",
            ),
            Gives::json(
                Shape::Of(
                    r#"{"type": "object", "required": ["status", "reason"], "properties": {
                        "status": {"const": "not ready"}, "reason": {"type": "string"}
                    }}"#,
                ),
                "It is not, and why.",
            )
            .status(503),
        ]),
    Route::get("/metrics", |ask| Box::pin(health::metrics(ask)))
        .help("Counts and times in the text format of Prometheus.")
        .access(Access::Open)
        .gives(&[Gives::body("text/plain", Shape::Text, "The numbers.")]),
    Route::get("/sdk/", |ask| Box::pin(sdk::index(ask)))
        .help("The client libraries for JavaScript and Python.")
        .access(Access::Open)
        .gives(&[HTML]),
    Route::get("/sdk/{file}", |ask| Box::pin(sdk::package(ask)))
        .help("One of them, as npm and pip install it.")
        .access(Access::Open)
        .params(&[Param::path("file", COMPARED, "Its name."), IF_NONE_MATCH])
        .gives(&[
            Gives::body("application/gzip", Shape::Any, "The JavaScript library.").headers(FILE_HEADERS),
            Gives::body("application/zip", Shape::Any, "The Python library.").headers(FILE_HEADERS),
            KNOWN,
        ])
        .errors(&["NOROUTE"]),
    Route::get("/sdk/js/{module}", |ask| Box::pin(sdk::module(ask)))
        .help("A module of the JavaScript one, for pages to import: `/sdk/js/flux.js`.")
        .access(Access::Public)
        .params(&[Param::path("module", COMPARED, "Its name."), IF_NONE_MATCH])
        .gives(&[
            Gives::body("text/javascript", Shape::Text, "The module.").headers(FILE_HEADERS),
            Gives::body("application/typescript", Shape::Text, "Its types.").headers(FILE_HEADERS),
            KNOWN,
        ])
        .errors(&["NOROUTE"]),
    Route::post("/mcp", |ask| Box::pin(streamable::serve(ask)))
        .help("MCP over streamable HTTP: capabilities with a schema are tools.")
        .params(&[SESSION])
        .body(Body {
            media: "application/json",
            shape: Shape::Of(r#"{"type": "object", "required": ["jsonrpc"], "properties": {"jsonrpc": {"const": "2.0"}}}"#),
            help: "A message of JSON-RPC, as MCP has them.",
            is_required: true,
            limit: &PAYLOAD_LIMIT,
        })
        .gives(&[
            Gives::json(Shape::Of(r#"{"type": "object"}"#), "The answer."),
            Gives::body("text/event-stream", Shape::Text, "The answer, and what is told before it."),
            Gives::nothing(202, "It needs no answer."),
            NOT_TAKEN,
            Gives::body("text/plain", Shape::Text, "What is sent is not `application/json`.").status(415),
        ])
        .errors(&["NOSESSION", "BUSY"]),
    Route::get("/mcp", |ask| Box::pin(streamable::serve(ask)))
        .help("What the server has to tell a host of MCP by itself.")
        .params(&[SESSION])
        .gives(&[
            Gives::body("text/event-stream", Shape::Text, "The messages as they come. It does not end by itself."),
            NOT_TAKEN,
        ])
        .errors(&["NOSESSION"]),
    Route::delete("/mcp", |ask| Box::pin(streamable::serve(ask)))
        .help("Ends a session of MCP.")
        .params(&[SESSION])
        .gives(&[Gives::nothing(204, "It has ended.")])
        .errors(&["NOSESSION"]),
    Route::get("/resp", |ask| Box::pin(resp::upgrade(ask)))
        .help("RESP over WebSocket: binary frames carry a session as over TCP.")
        .access(Access::AsksItself)
        .gives(&[Gives::nothing(101, "The connection is a WebSocket now.")])
        .errors(&["UPGRADE"]),
];

/// All routes of an instance: those of the house, then those of its rooms.
pub(crate) fn all(instance: &Instance) -> Vec<&'static Route> {
    ROUTES.iter().chain(instance.routes()).collect()
}

/// All routes behind their guard.
pub(crate) fn router(door: &Arc<Door>) -> Router {
    let all = all(&door.instance);
    let rule = |access| from_fn_with_state(guard::Rule { door: Arc::clone(door), access }, guard::check);
    let count = || from_fn_with_state(Arc::clone(door), counts::count);
    let routes = |access| {
        let add = |router: Router, route: &&'static Route| router.route(&route.pattern(), served(door, route));
        all.iter().filter(|route| route.access == access).fold(Router::new(), add).method_not_allowed_fallback(wrong_method)
    };
    let guarded = routes(Access::Guarded).fallback(nothing).layer(rule(Access::Guarded));
    let others = [Access::Public, Access::Open, Access::AsksItself].map(|access| routes(access).layer(rule(access)));
    others.into_iter().fold(guarded, Router::merge).layer(count())
}

/// A route as the router has it.
fn served(door: &Arc<Door>, route: &'static Route) -> MethodRouter {
    let method = MethodFilter::try_from(route.method.clone()).expect("rows have methods that axum knows");
    let door = Arc::clone(door);
    on(method, move |request| serve(Arc::clone(&door), route, request))
}

/// Reads what was said, and has it answered.
async fn serve(door: Arc<Door>, route: &'static Route, request: Request) -> Answer {
    let (mut parts, body) = request.into_parts();
    let path = RawPathParams::from_request_parts(&mut parts, &()).await;
    let path = path.map_err(|_| Refusal::bad_request("the path is not UTF-8"))?;
    let values = Values::read(route, &parts, path.iter())?;
    let instance = Arc::clone(&door.instance);
    let open = lines(&door, parts.extensions.get().copied());
    parts.extensions.insert(door);
    (route.answer)(Ask::new(instance, route, values, parts, body, open)).await
}

/// Sessions in which commands run as this caller's.
fn lines(door: &Arc<Door>, caller: Option<Caller>) -> OpenLine {
    let door = Arc::clone(door);
    Arc::new(move || {
        let door = Arc::clone(&door);
        Box::pin(async move { line::open(&door, caller.ok_or_else(Refusal::ending)?).await })
    })
}

async fn nothing() -> Refusal {
    Refusal::new("NOROUTE", "there is nothing here; GET / lists what there is")
}

async fn wrong_method() -> Refusal {
    Refusal::new("METHOD", "this cannot be asked in that way; GET / lists what there is")
}

/// Tables of docs/http.md: under which heading each stands (empty for the first one), and what is in it.
pub fn markdown(instance: &Instance) -> Vec<(&'static str, String)> {
    let routes = all(instance);
    let call = routes.iter().find(|route| route.path == "/call/{capability}");
    let options = call.map(|call| {
        let row = |param: &Param| format!("| `{}` | {} | {} |\n", param.name, param.kind.words(), param.help);
        let rows: String = call.params.iter().filter(|param| param.place == Place::Query).map(row).collect();
        ("## Calls", format!("| option | is | means |\n|---|---|---|\n{rows}"))
    });
    let row = |route: &&Route| format!("| `{} {}` | {} |\n", route.method, route.path, route.help);
    let list = format!("| | |\n|---|---|\n{}", routes.iter().map(row).collect::<String>());
    [("", list), ("## Errors", errors())].into_iter().chain(options).collect()
}

/// The codes by their statuses.
fn errors() -> String {
    let mut table = "| status | codes |\n|---|---|\n".to_owned();
    for rows in CODES.chunk_by(|one, next| one.status == next.status) {
        let codes: Vec<String> = rows.iter().map(|code| format!("`{}` {}", code.name, code.help)).collect();
        table.push_str(&format!("| {} | {} |\n", rows[0].status, codes.join("; ")));
    }
    table
}
