//! Rooms: what is built above the keyspace and registers with it once. Nothing down here knows one by its name; `node` lists those
//! there are.

use std::any::Any;
use std::sync::Arc;

use crate::commands::Command;
use crate::commands::instance::Instance;
use crate::commands::offers::Offers;
use crate::commands::route::Route;
use crate::commands::session::Session;
use crate::config::Section;
use crate::engine::error::Error;
use crate::engine::notify::{Observer, Prefixes};
use crate::lifecycle::Phase;
use crate::metrics::Row;

/// A room, as it is listed.
pub struct Room {
    /// Its name.
    pub name: &'static str,
    /// Its commands. They find the room with [`Instance::room`] and what the session is to it with [`Session::slot`].
    pub commands: &'static [Command],
    /// The keys and channels it observes, by what their names begin with. Values of such keys stay in memory, since the room's commands use
    /// them under others' locks.
    pub observes: Prefixes,
    /// Its numbers: `/metrics` tells them, and a section of `INFO` that has the room's name.
    pub metrics: &'static [Metric],
    /// What can be asked of it over HTTP. Their handlers find the room as commands do.
    pub routes: &'static [Route],
    /// Its settings, as all others: on the command line, in the environment, in the file, for `CONFIG`. The config of an instance is made with them.
    pub settings: &'static [Section],
    /// Makes it for an instance. It may be observed and asked from then on, and does nothing by itself before [`Open::start`].
    pub make: fn(&Arc<Instance>) -> Arc<dyn Open>,
}

/// A number of a room, as `/metrics` and `INFO` tell it. The room may not be open when it is read; then it is 0.
pub type Metric = Row<Instance>;

/// A room of a running instance.
pub trait Open: Observer + Any {
    /// Hands over what it offers other rooms. All rooms are made; none has started.
    fn offer(self: Arc<Self>, offers: &mut Offers) {
        let _ = offers;
    }

    /// Takes up its work. All rooms are made, observers are told of what happens, and no clients have come.
    fn start(&self) {}

    /// A session for which it may have a slot ends or begins anew.
    fn left(&self, session: &mut Session) {
        let _ = session;
    }

    /// Ends its work: no clients are left, and what the rooms had started in [`Phase::Rooms`] has ended.
    fn end(&self) {}
}

/// The rooms of an instance while they are open: they are closed when this is dropped, the last one first.
#[must_use = "the rooms are closed when it is dropped"]
pub struct OpenRooms(pub(super) Arc<Instance>);

impl Drop for OpenRooms {
    fn drop(&mut self) {
        self.0.lifecycle().stop(Phase::Rooms);
        self.0.rooms().rev().for_each(Open::end);
    }
}

/// What a session is to each room, by type.
#[derive(Default)]
pub(crate) struct Slots(Vec<Box<dyn Any + Send + Sync>>);

impl Session {
    /// Whether it is something to a room, which has to be undone when it leaves.
    pub(crate) fn is_known_to_rooms(&self) -> bool {
        !self.slots.0.is_empty()
    }

    /// What it is to a room, which has a type of its own for that; it begins as nothing.
    pub fn slot<T: Any + Default + Send + Sync>(&mut self) -> &mut T {
        let slots = &mut self.slots.0;
        let at = slots.iter().position(|slot| slot.is::<T>()).unwrap_or_else(|| {
            slots.push(Box::new(T::default()));
            slots.len() - 1
        });
        slots[at].downcast_mut().expect("it was looked for by its type")
    }

    /// The same, if it ever was anything to it.
    pub(crate) fn slot_if_any<T: Any>(&self) -> Option<&T> {
        self.slots.0.iter().find_map(|slot| slot.downcast_ref())
    }
}

/// The session ends, or begins anew: it is nothing to any room any more.
pub(crate) fn leave(session: &mut Session) {
    if session.slots.0.is_empty() {
        return;
    }
    let instance = Arc::clone(&session.instance);
    instance.rooms().for_each(|room| room.left(session));
    session.slots = Slots::default();
}

/// The answer where a room is not there.
pub fn not_here(name: &str) -> Error {
    Error::new(format!("ERR {name} are not served here"))
}
