//! What answers look like, as JSON Schema.

use crate::commands::route::Named;

/// A peer, as others see it.
pub(crate) const PEER: Named = Named {
    name: "Peer",
    schema: r##"{"type": "object", "required": ["id", "name", "capabilities", "workspaces", "startedAt"], "properties": {
        "id": {"type": "string", "description": "Names it for as long as it lives."},
        "name": {"type": "string", "description": "For people."},
        "capabilities": {"type": "array", "items": {"$ref": "#/components/schemas/OwnCapability"}},
        "workspaces": {"type": "array", "items": {"type": "string"}},
        "startedAt": {"type": "integer", "minimum": 0, "description": "In milliseconds since the epoch."}
    }}"##,
    uses: &[&OWN_CAPABILITY],
};

/// What one peer can be called for.
const OWN_CAPABILITY: Named = Named {
    name: "OwnCapability",
    schema: r#"{"type": "object", "required": ["name"], "properties": {
        "name": {"type": "string"},
        "description": {"type": "string"},
        "schema": {"type": ["object", "boolean"], "description": "JSON Schema of the payload."},
        "concurrency": {"type": "integer", "minimum": 0, "description": "How many calls of it the peer takes at once."},
        "retry": {"type": "integer", "minimum": 0, "description": "How often a call that failed is tried again."}
    }}"#,
    uses: &[],
};

/// What peers can be called for.
pub(crate) const CAPABILITY: Named = Named {
    name: "Capability",
    schema: r#"{"type": "object", "required": ["name", "description", "schema", "peers"], "properties": {
        "name": {"type": "string"},
        "description": {"type": ["string", "null"], "description": "That of the first peer that gives one."},
        "schema": {"type": ["object", "boolean", "null"], "description": "JSON Schema of the payload, of the first peer that gives one."},
        "peers": {"type": "array", "items": {"type": "object", "required": ["id", "name"], "properties": {
            "id": {"type": "string"}, "name": {"type": "string"}
        }}}
    }}"#,
    uses: &[],
};

/// The same with how busy it is.
pub(crate) const DESCRIPTION: Named = Named {
    name: "Description",
    schema: r#"{"type": "object", "required": ["name", "description", "schema", "peers", "calls", "failed"], "properties": {
        "name": {"type": "string"},
        "description": {"type": ["string", "null"]},
        "schema": {"type": ["object", "boolean", "null"], "description": "JSON Schema of the payload."},
        "calls": {"type": "integer", "minimum": 0, "description": "Calls made of it."},
        "failed": {"type": "integer", "minimum": 0, "description": "Those of them that failed."},
        "peers": {"type": "array", "items": {"type": "object", "required": ["id", "name", "running", "queued"], "properties": {
            "id": {"type": "string"}, "name": {"type": "string"},
            "running": {"type": "integer", "minimum": 0, "description": "Calls it has, of all capabilities."},
            "queued": {"type": "integer", "minimum": 0, "description": "Calls that wait for it."}
        }}}
    }}"#,
    uses: &[],
};

/// A workspace in a list.
pub(crate) const WORKSPACE_COUNTS: Named = Named {
    name: "WorkspaceCounts",
    schema: r#"{"type": "object", "required": ["name", "peers", "contextKeys"], "properties": {
        "name": {"type": "string"},
        "peers": {"type": "integer", "minimum": 0},
        "contextKeys": {"type": "integer", "minimum": 0}
    }}"#,
    uses: &[],
};

/// A workspace.
pub(crate) const WORKSPACE: Named = Named {
    name: "Workspace",
    schema: r##"{"type": "object", "required": ["name", "peers", "context"], "properties": {
        "name": {"type": "string"},
        "peers": {"type": "array", "items": {"$ref": "#/components/schemas/Peer"}},
        "context": {"$ref": "#/components/schemas/Context"}
    }}"##,
    uses: &[&PEER, &CONTEXT],
};

/// The keys of a context.
pub(crate) const CONTEXT: Named = Named {
    name: "Context",
    schema: r#"{"type": "object", "additionalProperties": {"type": "integer", "minimum": 1, "description": "The value's version."}}"#,
    uses: &[],
};

/// What a change of a value gives.
pub(crate) const VERSION: Named = Named {
    name: "Version",
    schema: r#"{"type": "object", "required": ["version"], "properties": {"version": {"type": "integer", "minimum": 1}}}"#,
    uses: &[],
};

/// `GET /status`.
pub(crate) const STATUS: Named = Named {
    name: "Status",
    schema: r#"{"type": "object",
        "required": ["peers", "oldPeers", "workspaces", "capabilities", "callsQueued", "callsRunning", "calls", "failed", "rerouted", "lifecycle"],
        "properties": {
            "peers": {"type": "integer", "minimum": 0, "description": "Peers that are there."},
            "oldPeers": {"type": "integer", "minimum": 0, "description": "Those of them that speak only the old protocol."},
            "workspaces": {"type": "integer", "minimum": 0, "description": "Workspaces with peers or a context."},
            "capabilities": {"type": "integer", "minimum": 0, "description": "What peers can be called for."},
            "callsQueued": {"type": "integer", "minimum": 0, "description": "Calls that wait for a peer."},
            "callsRunning": {"type": "integer", "minimum": 0, "description": "Calls that a peer has."},
            "calls": {"type": "integer", "minimum": 0, "description": "Calls made since the start."},
            "failed": {"type": "integer", "minimum": 0, "description": "Those that ended with a failure."},
            "rerouted": {"type": "integer", "minimum": 0, "description": "Times a call went to another peer, since the one that had it was gone."},
            "lifecycle": {"type": "array", "description": "Every thread, task and child process.", "items": {"type": "object",
                "required": ["name", "kind", "state", "phase", "on_death", "restarts", "pid", "last_error"],
                "properties": {
                    "name": {"type": "string", "description": "Its name."},
                    "kind": {"enum": ["thread", "task", "child"], "description": "What it is."},
                    "state": {"enum": ["running", "pausing", "stopping", "failed", "left_behind"], "description": "How it is doing."},
                    "phase": {"type": "string", "description": "When it is stopped."},
                    "on_death": {"enum": ["end_process", "restart", "done"], "description": "What its death leads to."},
                    "restarts": {"type": "integer", "minimum": 0, "description": "How often it was started again."},
                    "pid": {"type": ["integer", "null"], "description": "The system's number of a child process."},
                    "last_error": {"type": ["string", "null"], "description": "Why it died last."}
                }}}
        }}"#,
    uses: &[],
};
