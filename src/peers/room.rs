//! The room: its state behind one lock, its thread, and what it observes of keys and channels under `flux:`.
//!
//! The thread does what has no command to do it: it ends calls whose time is over, cleans up after peers that died, and
//! keeps what old peers publish. It starts with the first work for it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use crate::clock;
use crate::commands::instance::Instance;
use crate::commands::offers::Offers;
use crate::commands::room::{self, Open};
use crate::commands::session::Session;
use crate::commands::stats::WorkerStats;
use crate::engine::notify::{Class, Event, Look, Observer};
use crate::id;
use crate::lifecycle::{Phase, Plan};
use crate::peers::calls::{Action, Calls};
use crate::peers::checking::Checks;
use crate::peers::directory::{Directory, Id, SLICE};
use crate::peers::handle::Handle;
use crate::peers::names::{self, Place};
use crate::peers::old::Jobs;
use crate::peers::outbox::{self, Outbox};
use crate::peers::presence::Presence;
use crate::peers::settings::Settings;
use crate::peers::{calling, commands, context, http, log, metrics, old, presence, settings, streams};

/// How long the thread sleeps at most: peers whose time is over are found so late.
const ROUND_MS: u64 = 500;
/// Messages of old peers that may wait for the thread, in bytes; more are not kept in logs.
const WAITING_BYTES_MAX: usize = 64 << 20;

/// What the room knows.
#[derive(Default)]
pub struct State {
    /// Who is there.
    pub directory: Directory,
    /// Calls under way.
    pub calls: Calls,
    /// Jobs that old peers gave to old peers.
    pub jobs: Jobs,
    todo: VecDeque<Todo>,
    waiting_bytes: usize,
    /// When the thread wakes by itself, on the monotonic clock.
    wakes_at: u64,
    /// When peers whose time is over were last looked for.
    looked_at: u64,
}

/// Work for the thread.
pub(crate) enum Todo {
    /// A peer's key is gone.
    Gone(Id),
    /// There may be jobs on a new peer's list.
    Drain(Id),
    /// An old peer published a result on this peer's channel.
    Result(Id, Vec<u8>),
    /// An old peer published an event in a workspace.
    Event(Id, Vec<u8>),
    /// What calls led to where no session was at hand.
    Act(Vec<Action>),
    /// Messages of this queue of the outbox are to be sent.
    Tell(usize),
    /// More peers are to be asked for this call.
    Ask(Id),
    /// Nobody needs the answers of these parts of a gathering any more.
    Drop(Vec<Id>),
    /// What a peer that could not be written leaves behind.
    Orphans(old::Orphans),
    /// These values of contexts were removed by a command that removes all keys.
    Flushed(Vec<context::Name>),
}

impl Todo {
    fn bytes(&self) -> usize {
        match self {
            Todo::Result(_, bytes) | Todo::Event(_, bytes) => bytes.len() + 64,
            // As many as there are, or were, peers, calls and keys, which have bounds of their own.
            Todo::Gone(_)
            | Todo::Drain(_)
            | Todo::Act(_)
            | Todo::Tell(_)
            | Todo::Ask(_)
            | Todo::Drop(_)
            | Todo::Orphans(_)
            | Todo::Flushed(_) => 0,
        }
    }
}

/// The room.
pub struct Room {
    /// Its own id: old peers send it results under this name.
    pub id: Id,
    /// What it knows. Nothing may touch the keyspace while this is locked.
    pub state: Mutex<State>,
    /// Counts for `FLUX.STATUS`.
    pub counts: Counts,
    /// Jobs of old peers that are tracked, so that publishing need not lock while there are none.
    pub tracked: AtomicU64,
    instance: Weak<Instance>,
    stats: Arc<WorkerStats>,
    outbox: Outbox,
    bell: Condvar,
    is_ending: AtomicBool,
    is_started: OnceLock<()>,
    /// Payloads that wait to be checked.
    pub checks: Checks,
    /// What can be chosen of it.
    pub settings: Settings,
    this: Weak<Room>,
}

/// What happened since the room was opened.
#[derive(Default)]
pub struct Counts {
    /// Calls made.
    pub(crate) calls: AtomicU64,
    /// Calls that ended with a failure.
    pub(crate) failed: AtomicU64,
}

/// As `node` lists it.
pub(crate) const ROOM: room::Room = room::Room {
    name: "peers",
    commands: commands::COMMANDS,
    observes: names::PREFIXES,
    metrics: metrics::METRICS,
    routes: http::ROUTES,
    settings: settings::SETTINGS,
    make: |instance| Room::new(instance),
};

/// The room of an instance for others within the process, if it has one.
pub(crate) fn handle(instance: &Instance) -> Option<Handle> {
    instance.room::<Room>().and_then(Room::this).map(Handle)
}

impl Room {
    fn new(instance: &Arc<Instance>) -> Arc<Room> {
        Arc::new_cyclic(|this| Room {
            id: format!("flux-{}", &id::secret()[..16]).into(),
            state: Mutex::default(),
            counts: Counts::default(),
            tracked: AtomicU64::new(0),
            instance: Arc::downgrade(instance),
            stats: instance.stats.worker(),
            outbox: Outbox::default(),
            bell: Condvar::new(),
            is_ending: AtomicBool::new(false),
            is_started: OnceLock::new(),
            checks: Checks::default(),
            settings: Settings::of(&instance.config),
            this: this.clone(),
        })
    }

    /// A session of the room's own; None once the server is gone.
    pub(crate) fn session(&self) -> Option<Session> {
        Some(Session::inner(&self.instance.upgrade()?, &self.stats))
    }

    /// What all clients share; None once the server is gone.
    pub(crate) fn instance(&self) -> Option<Arc<Instance>> {
        self.instance.upgrade()
    }

    /// To be kept; None while it is dropped.
    pub(crate) fn this(&self) -> Option<Arc<Room>> {
        self.this.upgrade()
    }

    /// Sends a message without observing it.
    pub(crate) fn publish(&self, channel: &str, message: &[u8]) {
        if let Some(instance) = self.instance.upgrade() {
            instance.engine.pubsub().publish(channel.as_bytes(), message);
        }
    }

    /// Sends a message once the locks that are held are released: those who listen may be many, and what is published together comes in
    /// the order of the changes, since it was noted under the locks of what changed.
    pub(crate) fn publish_later(&self, channel: &str, message: &[u8]) {
        self.outbox.note(channel, message);
    }

    /// Sends what was to be sent once no locks are held, which is now. When it returns, all that this thread noted has been sent, or is left
    /// to the room's thread where many listen.
    pub(crate) fn tell(&self) {
        let is_for_many = |channel: &str| {
            let instance = self.instance.upgrade();
            instance.is_some_and(|instance| instance.engine.pubsub().reaches(channel.as_bytes(), outbox::LISTENERS_MAX))
        };
        let left = self.outbox.send(is_for_many, |channel, message| self.publish(channel, message));
        left.for_each(|queue| self.leave(Todo::Tell(queue)));
    }

    /// Leaves work for the thread.
    pub(crate) fn leave(&self, todo: Todo) {
        let mut state = self.state.lock();
        let bytes = todo.bytes();
        if state.waiting_bytes + bytes > WAITING_BYTES_MAX {
            tracing::warn!("peers: messages of old peers come faster than they can be kept; some are missing in logs");
            return;
        }
        state.waiting_bytes += bytes;
        state.todo.push_back(todo);
        drop(state);
        self.wake();
    }

    /// Sees to it that the thread wakes when this time (on the monotonic clock) has come.
    pub(crate) fn wake_by(&self, state: &State, time: u64) {
        if state.wakes_at == 0 || time < state.wakes_at {
            self.wake();
        }
    }

    fn wake(&self) {
        self.is_started.get_or_init(|| self.start_thread());
        self.bell.notify_one();
    }

    fn start_thread(&self) {
        let (Some(this), Some(instance)) = (self.this(), self.instance()) else { return };
        let plan = Plan::new("peers", Phase::Rooms).wakes(&this, Room::end_thread);
        let started = instance.lifecycle().start(plan, move |_| this.carry());
        if let Err(error) = started
            && !instance.lifecycle().is_ending()
        {
            tracing::error!("peers: the thread could not be started: {error}; crashed peers are not announced");
        }
    }

    fn end_thread(&self) {
        self.is_ending.store(true, Relaxed);
        // Taken, so that the bell cannot ring between the thread's look at the flag and its sleep.
        drop(self.state.lock());
        self.bell.notify_one();
    }

    fn carry(&self) {
        while let Some(todo) = self.wait() {
            let Some(mut session) = self.session() else { return };
            for todo in todo {
                self.perform(todo, &mut session);
                self.tell();
            }
            self.end_overdue(&mut session);
            self.tell();
        }
    }

    /// Waits for work, or for a deadline. None once the room ends.
    fn wait(&self) -> Option<VecDeque<Todo>> {
        let mut state = self.state.lock();
        let now = clock::monotonic_ms();
        if state.todo.is_empty() && !self.is_ending.load(Relaxed) {
            let until = state.calls.next_deadline().unwrap_or(u64::MAX).min(now + ROUND_MS);
            state.wakes_at = until;
            self.bell.wait_for(&mut state, Duration::from_millis(until.saturating_sub(now)));
        }
        // While it works it needs no bell.
        state.wakes_at = 1;
        state.waiting_bytes = 0;
        let todo = std::mem::take(&mut state.todo);
        (!self.is_ending.load(Relaxed) && self.instance.strong_count() > 0).then_some(todo)
    }

    fn perform(&self, todo: Todo, session: &mut Session) {
        match todo {
            Todo::Gone(id) => presence::gone(self, session, &id),
            Todo::Drain(id) => old::drain(self, session, &id),
            Todo::Result(source, bytes) => old::result(self, session, &source, &bytes),
            Todo::Event(workspace, bytes) => {
                log::record(self, session, &workspace, &bytes);
                if let Ok(event) = serde_json::from_slice(&bytes) {
                    presence::heard(self, &workspace, &event);
                    streams::record(self, session, &event);
                }
            }
            Todo::Act(actions) => calling::act(self, session, actions),
            Todo::Tell(queue) => {
                if self.outbox.send_next(queue, |channel, message| self.publish(channel, message)) {
                    self.leave(Todo::Tell(queue));
                }
            }
            Todo::Ask(id) => {
                let actions = {
                    let state = &mut *self.state.lock();
                    state.calls.ask(&state.directory, &id, clock::monotonic_ms())
                };
                calling::act(self, session, actions);
            }
            Todo::Drop(mut parts) => {
                let now = parts.split_off(parts.len().saturating_sub(SLICE));
                let actions = self.state.lock().calls.drop_parts(&now);
                calling::act(self, session, actions);
                if !parts.is_empty() {
                    self.leave(Todo::Drop(parts));
                }
            }
            Todo::Orphans(orphans) => old::find_others(self, session, orphans),
            Todo::Flushed(names) => context::flushed(self, session, names),
        }
    }

    /// Ends calls whose time is over, and looks after peers now and then.
    fn end_overdue(&self, session: &mut Session) {
        let now = clock::monotonic_ms();
        let mut state = self.state.lock();
        let actions = {
            let state = &mut *state;
            state.calls.end_overdue(&mut state.directory, now)
        };
        let looks = state.looked_at + ROUND_MS <= now;
        if looks {
            state.looked_at = now;
        }
        drop(state);
        calling::act(self, session, actions);
        if looks {
            presence::look_around(self, session, now);
        }
    }
}

impl Open for Room {
    fn offer(self: Arc<Self>, offers: &mut Offers) {
        offers.calls.set(Arc::new(Handle(self)));
    }

    /// Finds out who is there.
    fn start(&self) {
        let Some(mut session) = self.session() else { return };
        presence::load(self, &mut session);
        context::load(self, &mut session);
        self.tell();
    }

    fn left(&self, session: &mut Session) {
        if session.slot_if_any::<Presence>().is_none_or(|presence| presence.peer.is_none() && presence.call.is_none()) {
            return;
        }
        calling::left(self, session);
        presence::disconnected(self, session);
        self.tell();
    }
}

impl Observer for Room {
    fn changed(&self, event: &Event) {
        if event.db != 0 {
            return;
        }
        match names::place(&event.key) {
            Place::Peer(id) | Place::PeerWorkspaces(id) => {
                if let Some(mut session) = self.session() {
                    match event.class {
                        Class::Expired => presence::expired(self, &mut session, id),
                        _ => presence::sync(self, &mut session, id),
                    }
                }
            }
            Place::Queue(id) if event.name.ends_with("push") => old::pushed(self, id, &event.elements),
            Place::Context { workspace, key } => {
                if let Some(mut session) = self.session() {
                    context::changed(self, &mut session, workspace, key);
                }
            }
            Place::Queue(_) | Place::Results(_) | Place::Events(_) | Place::Other => {}
        }
        self.tell();
    }

    fn published(&self, channel: &[u8], message: &[u8]) {
        match names::place(channel) {
            Place::Results(id) if *id == *self.id || self.tracked.load(Relaxed) > 0 => {
                self.leave(Todo::Result(id.into(), message.to_vec()))
            }
            Place::Events(workspace) => self.leave(Todo::Event(workspace.into(), message.to_vec())),
            _ => {}
        }
    }

    fn flushing(&self, keys: &mut dyn Look) {
        let names = if keys.db() == 0 { context::names(keys) } else { Vec::new() };
        if !names.is_empty() {
            self.leave(Todo::Flushed(names));
        }
        self.state.lock().directory.doubt();
    }

    fn swapped(&self) {
        self.state.lock().directory.doubt();
    }
}
