//! Events of workspaces: published on the workspace's channel and kept in its log.
//!
//! To be filled in: [`publish`] also adds the event to the stream `names::log(ws)` (about 1000 entries, expiring ten minutes
//! after the last), [`record`] adds what an old peer published. `publish` is called within [`Together`], so its caller must
//! have named the key of the log among the keys: [`keys`].

use crate::commands::inner::Together;
use crate::commands::session::Session;
use crate::peers::names;
use crate::peers::room::Room;
use crate::peers::wire::{self, Event};

/// The keys that publishing an event in a workspace needs.
pub fn keys(workspace: &str) -> [String; 1] {
    [names::log(workspace)]
}

/// Publishes an event of the room's own or of a command, under the locks of [`keys`] and of what changed, so that
/// events are told in the order of the changes.
pub fn publish(room: &Room, _together: &mut Together<'_>, event: &Event) {
    let text = wire::text(event);
    room.publish(&names::events(&event.workspace), text.as_bytes());
}

/// Keeps an event that an old peer has published itself. On the room's thread.
pub fn record(_room: &Room, _session: &mut Session, _workspace: &str, _event: &[u8]) {}
