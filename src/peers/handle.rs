//! The room for others within the process: other rooms, the HTTP door, and programs that embed flux.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::commands::offers::{self, Calls, Later};
use crate::peers::calls::{self, Failure, Ongoing, Order, ends};
use crate::peers::directory::Id;
use crate::peers::room::Room;

/// The room, to be handed around.
#[derive(Clone)]
pub struct Handle(pub Arc<Room>);

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

impl Calls for Handle {
    fn call(&self, order: offers::calls::Order) -> Later<Ongoing> {
        let handle = self.clone();
        Box::pin(async move { handle.call(order.into()).await })
    }
}
