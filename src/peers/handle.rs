//! The room for others within the process: the HTTP door and programs that embed flux.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::peers::calls::{self, Failure, Order, Outcome, Part, PartsTaken};
use crate::peers::directory::Id;
use crate::peers::room::Room;

/// The room, to be handed around.
#[derive(Clone)]
pub struct Handle(pub Arc<Room>);

/// A call under way. Dropping it cancels the call.
pub struct Ongoing {
    id: Id,
    room: Arc<Room>,
    parts: PartsTaken,
    is_ended: bool,
}

impl Handle {
    /// Makes a call, once its payload was checked. Fails where nobody can take it.
    pub async fn call(&self, order: Order) -> Result<Ongoing, Failure> {
        let (sender, parts) = calls::parts();
        let (made, making) = oneshot::channel();
        self.0.call_in_process(order, sender, parts, made);
        making.await.unwrap_or_else(|_| Err(ends()))
    }

    /// The live peers, as JSON texts: those in a workspace, those with a capability, or all.
    pub fn peers(&self, workspace: Option<&str>, capability: Option<&str>) -> Vec<Id> {
        self.0.list(workspace, capability)
    }
}

/// Why nothing comes any more.
pub fn ends() -> Failure {
    Failure::new("GONE", "the server ends")
}

impl Ongoing {
    /// A call that was made.
    pub fn new(id: Id, room: Arc<Room>, parts: PartsTaken) -> Ongoing {
        Ongoing { id, room, parts, is_ended: false }
    }

    /// The call's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The next part; None after the end.
    pub async fn next(&mut self) -> Option<Part> {
        if self.is_ended {
            return None;
        }
        let part = self.parts.next().await;
        // A room that is gone has ended every call.
        let part = part.unwrap_or_else(|| Part::End(Err(ends())));
        self.is_ended = matches!(part, Part::End(_));
        Some(part)
    }

    /// Waits for the end and leaves pieces out.
    pub async fn outcome(mut self) -> Outcome {
        loop {
            match self.next().await {
                Some(Part::End(outcome)) => return outcome,
                Some(Part::Chunk(..)) => {}
                None => return Err(Failure::new("GONE", "the call has ended")),
            }
        }
    }
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        if !self.is_ended {
            self.room.cancel_in_process(&self.id);
        }
    }
}
