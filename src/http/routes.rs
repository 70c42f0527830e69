//! The table of routes. The router, `GET /` and the list in docs/http.md are made from it.

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, any, delete, get, post, put};

use super::answer::Refusal;
use super::{Door, call, context, directory, events, guard, health, resp, sdk, streamable};

/// A path, how it may be asked, and what answers there.
pub struct Route {
    pub method: &'static str,
    pub path: &'static str,
    pub help: &'static str,
    pub access: Access,
    answer: fn() -> MethodRouter<Arc<Door>>,
}

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody without a password, and pages of any origin: it is the same on every server.
    Public,
    /// Everybody without a password, also while the server ends.
    Open,
    /// Who has the password, if there is one.
    Guarded,
}

pub const ROUTES: &[Route] = &[
    open("/", "What can be asked here.", || get(health::index)),
    open("/health", "200 while the process answers at all: restart it otherwise.", || get(health::health)),
    open("/ready", "200 while commands are served and changes reach the disk, else 503 and why: send clients elsewhere.", || {
        get(health::ready)
    }),
    open("/metrics", "Counts and times in the text format of Prometheus.", || get(health::metrics)),
    open("/sdk/", "The client libraries for JavaScript and Python.", || get(sdk::index)),
    open("/sdk/{file}", "One of them, as npm and pip install it.", || get(sdk::package)),
    public("/sdk/js/{module}", "A module of the JavaScript one, for pages to import: `/sdk/js/flux.js`.", || get(sdk::module)),
    route("POST", "/call/{capability}", "Calls a capability: JSON in and out, or pieces as events.", || post(call::call)),
    route("GET", "/peers", "The live peers; `?workspace=` and `?capability=` choose among them.", || get(directory::peers)),
    route("GET", "/capabilities", "What peers can be called for.", || get(directory::capabilities)),
    route("GET", "/capabilities/{capability}", "One of them, and the peers that have it.", || get(directory::capability)),
    route("GET", "/workspaces", "The workspaces, with numbers of peers and keys.", || get(directory::workspaces)),
    route("GET", "/workspaces/{workspace}", "Its peers, and the keys of its context with their versions.", || {
        get(directory::workspace)
    }),
    route("GET", "/workspaces/{workspace}/events", "Its events as they come; `Last-Event-ID` goes on after one.", || {
        get(events::follow)
    }),
    route("GET", "/workspaces/{workspace}/ctx", "The keys of its context, with their versions.", || get(context::keys)),
    route("GET", "/workspaces/{workspace}/ctx/{key}", "A value of its context; the entity tag is its version.", || {
        get(context::get)
    }),
    route(
        "PUT",
        "/workspaces/{workspace}/ctx/{key}",
        "Sets it, if `If-Match` or `If-None-Match` allow it; `?ttl=` in ms.",
        || put(context::put),
    ),
    route("DELETE", "/workspaces/{workspace}/ctx/{key}", "Removes it, if `If-Match` allows it.", || delete(context::delete)),
    route("GET", "/status", "Counts of peers, workspaces, capabilities and calls.", || get(directory::status)),
    route("POST", "/mcp", "MCP over streamable HTTP: capabilities with a schema are tools.", || any(streamable::serve)),
    route("GET", "/resp", "RESP over WebSocket: binary frames carry a session as over TCP.", || get(resp::upgrade)),
];

const fn open(path: &'static str, help: &'static str, answer: fn() -> MethodRouter<Arc<Door>>) -> Route {
    Route { method: "GET", path, help, access: Access::Open, answer }
}

const fn public(path: &'static str, help: &'static str, answer: fn() -> MethodRouter<Arc<Door>>) -> Route {
    Route { method: "GET", path, help, access: Access::Public, answer }
}

const fn route(method: &'static str, path: &'static str, help: &'static str, answer: fn() -> MethodRouter<Arc<Door>>) -> Route {
    Route { method, path, help, access: Access::Guarded, answer }
}

/// All routes behind their guard.
pub fn router(door: &Arc<Door>) -> Router {
    // A key of a context may have slashes.
    let path = |route: &Route| route.path.replace("{key}", "{*key}");
    let add = |router: Router<Arc<Door>>, route: &Route| router.route(&path(route), (route.answer)());
    let routes = |access| ROUTES.iter().filter(move |route| route.access == access).fold(Router::new(), add);
    let rule = |access| from_fn_with_state(guard::Rule { door: Arc::clone(door), access }, guard::check);
    let guarded = routes(Access::Guarded).fallback(nothing).method_not_allowed_fallback(wrong_method);
    let open = [Access::Public, Access::Open].map(|access| routes(access).layer(rule(access)));
    open.into_iter().fold(guarded.layer(rule(Access::Guarded)), Router::merge).with_state(Arc::clone(door))
}

async fn nothing() -> Refusal {
    Refusal::new("NOROUTE", "there is nothing here; GET / lists what there is")
}

async fn wrong_method() -> Refusal {
    Refusal::new("METHOD", "this cannot be asked in that way; GET / lists what there is")
}

/// All routes, a line each.
pub fn text() -> String {
    let line = |route: &Route| format!("{:<6} {:<34} {}\n", route.method, route.path, route.help);
    ROUTES.iter().map(line).collect()
}

/// All routes, as the table of docs/http.md.
pub fn markdown() -> String {
    let row = |route: &Route| format!("| `{} {}` | {} |\n", route.method, route.path, route.help);
    format!("| | |\n|---|---|\n{}", ROUTES.iter().map(row).collect::<String>())
}
