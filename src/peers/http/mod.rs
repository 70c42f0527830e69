//! What can be asked of peers over HTTP: the rows. Handlers run commands as the caller, but for calls, which the room makes itself.

mod call;
mod context;
mod directory;
mod events;
mod shapes;

use crate::commands::route::{Body, Gives, Kind, Param, Route, Shape};
use crate::peers::calls::TIMEOUT_MS_MAX;
use crate::peers::settings::PAYLOAD_LIMIT;
use crate::peers::{names, order};

use shapes::{CAPABILITY, CONTEXT, DESCRIPTION, PEER, STATUS, VERSION, WORKSPACE, WORKSPACE_COUNTS};

/// Bytes of an id or a key that is only compared: far fewer than the head of a request may have.
const COMPARED_BYTES_MAX: usize = 4 << 10;

const PART: Kind = Kind::Name { bytes_max: names::KEY_BYTES_MAX, without: names::NOT_IN_A_PART, has_slashes: false };
const KEY: Kind = Kind::Name { bytes_max: names::KEY_BYTES_MAX, without: "", has_slashes: true };
const COMPARED: Kind = Kind::Text { bytes_max: COMPARED_BYTES_MAX };
const EVENT_ID: Kind = Kind::Form {
    pattern: "^[0-9]{1,19}(-[0-9]{1,19})?$",
    words: "the id of an event, such as 1732172400000-0",
    fits: events::is_id,
};

const CAPABILITY_IN_PATH: Param = Param::path("capability", PART, "What is called for.");
const WORKSPACE_IN_PATH: Param = Param::path("workspace", PART, "A workspace; it need not have been there before.");
const KEY_IN_PATH: Param = Param::path("key", KEY, "A key of the context; it may have slashes.");
const IF_MATCH: Param =
    Param::header("If-Match", COMPARED, "A version as entity tag, or `*`: only if the value has it, or there is one.");
const IF_NONE_MATCH: Param = Param::header("If-None-Match", COMPARED, "`*`: only if there is no value.");

/// The header of an answer that tells a version.
const ETAG: &[(&str, &str)] = &[("ETag", "The value's version, in quotes.")];

/// What goes wrong where something is changed.
const NOT_CHANGED: &[&str] = &["NOKEY", "CONFLICT", "MISCONF", "OOM"];

/// The rows.
pub(crate) const ROUTES: &[Route] = &[
    Route::post("/call/{capability}", |ask| Box::pin(call::call(ask)))
        .help("Calls a capability: JSON in and out, or pieces as events.")
        .params(&[
            CAPABILITY_IN_PATH,
            Param::query(
                "timeout",
                Kind::Number { min: 1, max: TIMEOUT_MS_MAX as i64 },
                "Milliseconds until `TIMEOUT`, 30000 by default.",
            ),
            Param::query(
                "retries",
                Kind::Number { min: 0, max: order::RETRIES_MAX },
                "How often the call goes to another peer when the one that runs it dies; 1 by default.",
            ),
            Param::query(
                "priority",
                Kind::Number { min: -order::PRIORITY_MAX, max: order::PRIORITY_MAX },
                "Higher ones are taken first; 0 by default.",
            ),
            Param::query("to", COMPARED, "The id of the one peer that may answer."),
            Param::query(
                "route",
                Kind::Word(&["least-loaded", "round-robin", "sticky"]),
                "How a peer is chosen; `least-loaded` by default, `sticky` with `sticky`.",
            ),
            Param::query(
                "sticky",
                Kind::Text { bytes_max: order::STICKY_BYTES_MAX },
                "A key: calls with the same key go to the same peer, as long as it lives.",
            ),
            Param::query(
                "gather",
                Kind::Number { min: 0, max: order::GATHER_MAX },
                "All peers with the capability answer, an array; done after so many answers, 0 for all.",
            ),
        ])
        .body(Body {
            media: "application/json",
            shape: Shape::Any,
            help: "The payload, as the capability's schema has it; nothing is `null`.",
            is_required: false,
            limit: &PAYLOAD_LIMIT,
        })
        .gives(&[
            Gives::json(Shape::Any, "What the handler returned; an array of outcomes with `gather`."),
            Gives::body(
                "text/event-stream",
                Shape::Text,
                "With `Accept: text/event-stream`: a `chunk` for each piece, then one `result` or `error`.",
            ),
        ])
        .errors(&["INVALID", "NOPEER", "FAILED", "GONE", "BUSY", "CANCELLED", "TIMEOUT"]),
    Route::get("/peers", |ask| Box::pin(directory::peers(ask)))
        .help("The live peers; `?workspace=` and `?capability=` choose among them.")
        .params(&[
            Param::query("workspace", PART, "Only those in this workspace."),
            Param::query("capability", PART, "Only those that can be called for this."),
        ])
        .gives(&[Gives::json(Shape::List(&PEER), "The peers, in the order they came.")]),
    Route::get("/capabilities", |ask| Box::pin(directory::capabilities(ask)))
        .help("What peers can be called for.")
        .gives(&[Gives::json(Shape::List(&CAPABILITY), "The capabilities by name.")]),
    Route::get("/capabilities/{capability}", |ask| Box::pin(directory::capability(ask)))
        .help("One of them, and the peers that have it.")
        .params(&[CAPABILITY_IN_PATH])
        .gives(&[Gives::json(Shape::The(&DESCRIPTION), "The capability.")])
        .errors(&["NOPEER"]),
    Route::get("/workspaces", |ask| Box::pin(directory::workspaces(ask)))
        .help("The workspaces, with numbers of peers and keys.")
        .gives(&[Gives::json(Shape::List(&WORKSPACE_COUNTS), "The workspaces by name.")]),
    Route::get("/workspaces/{workspace}", |ask| Box::pin(directory::workspace(ask)))
        .help("Its peers, and the keys of its context with their versions.")
        .params(&[WORKSPACE_IN_PATH])
        .gives(&[Gives::json(Shape::The(&WORKSPACE), "The workspace.")]),
    Route::get("/workspaces/{workspace}/events", |ask| Box::pin(events::follow(ask)))
        .help("Its events as they come; `Last-Event-ID` goes on after one.")
        .params(&[
            WORKSPACE_IN_PATH,
            Param::header("Last-Event-ID", EVENT_ID, "The last event that was seen; 0 for all that is kept."),
            Param::query("last-event-id", EVENT_ID, "The same, for those that cannot send the header, which wins."),
        ])
        .gives(&[Gives::body(
            "text/event-stream",
            Shape::Text,
            "Each event with its id; `gap` where some are missing. It does not end by itself.",
        )]),
    Route::get("/workspaces/{workspace}/ctx", |ask| Box::pin(context::keys(ask)))
        .help("The keys of its context, with their versions.")
        .params(&[WORKSPACE_IN_PATH])
        .gives(&[Gives::json(Shape::The(&CONTEXT), "The keys and their versions.")]),
    Route::get("/workspaces/{workspace}/ctx/{key}", |ask| Box::pin(context::get(ask)))
        .help("A value of its context; the entity tag is its version.")
        .params(&[
            WORKSPACE_IN_PATH,
            KEY_IN_PATH,
            Param::header("If-None-Match", COMPARED, "Versions that are known already, as entity tags."),
        ])
        .gives(&[
            Gives::json(Shape::Any, "The value, if it is JSON.").headers(ETAG),
            Gives::body("text/plain", Shape::Text, "The value, if it is other text.").headers(ETAG),
            Gives::body("application/octet-stream", Shape::Any, "The value, if it is neither.").headers(ETAG),
            Gives::nothing(304, "The version is known already.").headers(ETAG),
        ])
        .errors(&["NOKEY"]),
    Route::put("/workspaces/{workspace}/ctx/{key}", |ask| Box::pin(context::put(ask)))
        .help("Sets it, if `If-Match` or `If-None-Match` allow it; `?ttl=` in ms.")
        .params(&[
            WORKSPACE_IN_PATH,
            KEY_IN_PATH,
            Param::query("ttl", Kind::Number { min: 1, max: i64::MAX }, "Milliseconds until it is gone; it stays without."),
            IF_MATCH,
            IF_NONE_MATCH,
        ])
        .body(Body {
            media: "application/octet-stream",
            shape: Shape::Any,
            help: "The value, which is stored as it is sent.",
            is_required: false,
            limit: &PAYLOAD_LIMIT,
        })
        .gives(&[Gives::json(Shape::The(&VERSION), "Its new version.").headers(ETAG)])
        .errors(NOT_CHANGED),
    Route::delete("/workspaces/{workspace}/ctx/{key}", |ask| Box::pin(context::delete(ask)))
        .help("Removes it, if `If-Match` allows it.")
        .params(&[WORKSPACE_IN_PATH, KEY_IN_PATH, IF_MATCH, IF_NONE_MATCH])
        .gives(&[Gives::nothing(204, "It is gone.")])
        .errors(NOT_CHANGED),
    Route::get("/status", |ask| Box::pin(directory::status(ask)))
        .help("Counts of peers, workspaces, capabilities and calls.")
        .gives(&[Gives::json(Shape::The(&STATUS), "The counts.")]),
];
