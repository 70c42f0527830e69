//! The table of routes. The router, `GET /` and the list in docs/http.md are made from it.

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, get};

use super::answer::Refusal;
use super::{Door, guard, health, resp};

/// A path, how it may be asked, and what answers there.
pub struct Route {
    pub method: &'static str,
    pub path: &'static str,
    pub help: &'static str,
    /// Whether everybody may ask, without a password and from any page.
    pub is_open: bool,
    answer: fn() -> MethodRouter<Arc<Door>>,
}

pub const ROUTES: &[Route] = &[
    open("/", "What can be asked here.", || get(health::index)),
    open("/health", "200 while the process answers at all: restart it otherwise.", || get(health::health)),
    open("/ready", "200 while commands are served and changes reach the disk, else 503 and why: send clients elsewhere.", || {
        get(health::ready)
    }),
    open("/metrics", "Counts and times in the text format of Prometheus.", || get(health::metrics)),
    route("GET", "/resp", "RESP over WebSocket: binary frames carry a session as over TCP.", || get(resp::upgrade)),
];

const fn open(path: &'static str, help: &'static str, answer: fn() -> MethodRouter<Arc<Door>>) -> Route {
    Route { method: "GET", path, help, is_open: true, answer }
}

const fn route(method: &'static str, path: &'static str, help: &'static str, answer: fn() -> MethodRouter<Arc<Door>>) -> Route {
    Route { method, path, help, is_open: false, answer }
}

/// All routes behind their guard.
pub fn router(door: &Arc<Door>) -> Router {
    let add = |router: Router<Arc<Door>>, route: &Route| router.route(route.path, (route.answer)());
    let guarded = ROUTES.iter().filter(|route| !route.is_open).fold(Router::new(), add);
    let guarded = guarded.fallback(nothing).method_not_allowed_fallback(wrong_method);
    let guarded = guarded.layer(from_fn_with_state(Arc::clone(door), guard::check));
    let open = ROUTES.iter().filter(|route| route.is_open).fold(Router::new(), add);
    open.merge(guarded).with_state(Arc::clone(door))
}

async fn nothing() -> Refusal {
    Refusal::new("NOROUTE", "there is nothing here; GET / lists what there is")
}

async fn wrong_method() -> Refusal {
    Refusal::new("METHOD", "this cannot be asked in that way; GET / lists what there is")
}

/// All routes, a line each.
pub fn text() -> String {
    let line = |route: &Route| format!("{:<6} {:<32} {}\n", route.method, route.path, route.help);
    ROUTES.iter().map(line).collect()
}

/// All routes, as the table of docs/http.md.
pub fn markdown() -> String {
    let row = |route: &Route| format!("| `{} {}` | {} |\n", route.method, route.path, route.help);
    format!("| | |\n|---|---|\n{}", ROUTES.iter().map(row).collect::<String>())
}
