//! Events of workspaces: published on the workspace's channel and kept in its log, from which late readers are served.

use crate::commands::inner::Together;
use crate::commands::session::Session;
use crate::peers::kept::{self, Bound};
use crate::peers::names;
use crate::peers::room::Room;
use crate::peers::wire::{self, Event};

/// Events a log keeps, at least: a reader who was away may have missed so many.
const EVENTS: usize = 1000;
/// How long a log lasts after its last event.
const LASTS_MS: i64 = 10 * 60 * 1000;
/// How long it lasts once nobody is in the workspace. Readers of events rely on a minute.
const LEFT_LASTS_MS: i64 = 90 * 1000;
/// Bytes of an old peer's workspace name; that of a new one is checked when it joins.
const WORKSPACE_BYTES_MAX: usize = 256;

/// The keys that publishing an event in a workspace needs.
pub(crate) fn keys(workspace: &str) -> [String; 1] {
    [names::log(workspace)]
}

/// Publishes an event of the room's own or of a command, under the locks of [`keys`] and of what changed, so that
/// events are told and kept in the order of the changes.
pub(crate) fn publish(room: &Room, together: &mut Together<'_>, event: &Event) {
    let text = wire::text(event);
    keep(together, &names::log(&event.workspace), text.as_bytes());
    room.publish_later(&names::events(&event.workspace), text.as_bytes());
}

/// A peer left a workspace. Where nobody is there any more, its log does not last long, so that what many short-lived workspaces leave
/// behind goes soon.
pub(crate) fn left(room: &Room, session: &mut Session, workspace: &str) {
    if room.state.lock().directory.is_inhabited(workspace) {
        return;
    }
    let log = names::log(workspace);
    if let Err(error) = session.together(&[log.as_bytes()], |together| kept::shorten(together, &log, LEFT_LASTS_MS)) {
        tracing::warn!("peers: {log} stays longer than it need: {error}");
    }
}

/// Keeps an event that an old peer has published itself. On the room's thread.
pub(crate) fn record(room: &Room, session: &mut Session, workspace: &str, event: &[u8]) {
    let is_event = serde_json::from_slice::<Event>(event).is_ok();
    if !is_event || workspace.len() > WORKSPACE_BYTES_MAX || room.settings.sized("event", event).is_err() {
        return;
    }
    let log = names::log(workspace);
    session.together(&[log.as_bytes()], |together| keep(together, &log, event));
}

fn keep(together: &mut Together<'_>, log: &str, event: &[u8]) {
    let kept = kept::add(together, log, "*", Bound::About(EVENTS), &[("event", event)]);
    let kept = kept.and_then(|_| kept::lease(together, log, LASTS_MS));
    if let Err(error) = kept {
        // The event is told all the same; who reads the log later sees that something is missing.
        tracing::warn!("peers: an event is missing in {log}: {error}");
    }
}
