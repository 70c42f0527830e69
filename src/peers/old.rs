//! Jobs of peers that speak only the old protocol: those they put on the list of a new peer become calls, and so do those of an
//! old peer that dies. Jobs between old peers go their way untouched; they are only remembered until their result.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::Ordering::Relaxed;

use crate::clock;
use crate::commands::inner::Together;
use crate::commands::session::Session;
use crate::engine::blob::Blob;
use crate::peers::calls::{self, Action, Answer, Caller, Failure, Order};
use crate::peers::checking::{Asker, Origin};
use crate::peers::directory::{Id, Peer};
use crate::peers::room::{Room, State, Todo};
use crate::peers::{calling, names, wire};

/// How long a call made of an old peer's job may take: such callers do not say how long they wait.
const TIMEOUT_MS: u64 = 3_600_000;
/// How often a job that was running at an old peer that died is given to another.
const RETRIES: u32 = 1;
/// Jobs between old peers that are remembered, in number and bytes; the oldest are forgotten first.
const JOBS_MAX: usize = 100_000;
const JOBS_BYTES_MAX: usize = 64 << 20;

/// Jobs that old peers gave to old peers and that have no result yet.
#[derive(Default)]
pub struct Jobs {
    jobs: HashMap<String, Tracked, foldhash::fast::RandomState>,
    order: VecDeque<String>,
    /// The ids of those a peer has to answer, and of those it waits for.
    of_owner: HashMap<String, HashSet<String>>,
    from: HashMap<String, HashSet<String>>,
    bytes: usize,
}

fn leave(index: &mut HashMap<String, HashSet<String>>, peer: &str, id: &str) {
    if let Some(ids) = index.get_mut(peer) {
        ids.remove(id);
        if ids.is_empty() {
            index.remove(peer);
        }
    }
}

struct Tracked {
    owner: Id,
    job: wire::Job,
    bytes: usize,
}

impl Jobs {
    fn add(&mut self, owner: &Id, job: wire::Job, bytes: usize) {
        self.remove(&job.id);
        self.bytes += bytes;
        self.order.push_back(job.id.clone());
        self.of_owner.entry(owner.to_string()).or_default().insert(job.id.clone());
        self.from.entry(job.source.clone()).or_default().insert(job.id.clone());
        self.jobs.insert(job.id.clone(), Tracked { owner: Id::clone(owner), job, bytes });
        while (self.jobs.len() > JOBS_MAX || self.bytes > JOBS_BYTES_MAX)
            && let Some(oldest) = self.order.pop_front()
        {
            self.remove(&oldest);
        }
        if self.order.len() > 2 * self.jobs.len() + 1000 {
            let jobs = &self.jobs;
            let mut seen = HashSet::new();
            self.order.retain(|id| jobs.contains_key(id) && seen.insert(id.clone()));
        }
    }

    fn remove(&mut self, id: &str) -> Option<Tracked> {
        let tracked = self.jobs.remove(id)?;
        self.bytes -= tracked.bytes;
        leave(&mut self.of_owner, &tracked.owner, id);
        leave(&mut self.from, &tracked.job.source, id);
        Some(tracked)
    }

    /// Takes what a peer has not answered.
    fn take_of(&mut self, owner: &str) -> Vec<wire::Job> {
        let ids = self.of_owner.remove(owner).unwrap_or_default();
        ids.iter().filter_map(|id| self.remove(id)).map(|tracked| tracked.job).collect()
    }

    /// Forgets what nobody waits for any more.
    fn forget_from(&mut self, source: &str) {
        let ids = self.from.remove(source).unwrap_or_default();
        ids.iter().for_each(|id| drop(self.remove(id)));
    }
}

/// Something was pushed onto a peer's list.
pub(crate) fn pushed(room: &Room, id: &str, elements: &[Blob]) {
    let mut state = room.state.lock();
    let owner = match state.directory.get(id) {
        Some(peer) if peer.is_old() => Id::clone(&peer.id),
        // A new peer does not look there, and nobody at all looks for a peer that is gone.
        Some(_) | None => {
            drop(state);
            return room.leave(Todo::Drain(id.into()));
        }
    };
    for element in elements {
        if let Ok(job) = serde_json::from_slice::<wire::Job>(element) {
            state.jobs.add(&owner, job, element.len());
        }
    }
    room.tracked.store(state.jobs.jobs.len() as u64, Relaxed);
}

/// Takes jobs off the list of a new peer, or of one that is gone, and makes calls of them. A list nobody owns that holds anything
/// else than jobs is none of our business.
pub(crate) fn drain(room: &Room, session: &mut Session, id: &Id) {
    let (queue, peer) = (names::queue(id), names::peer(id));
    let jobs = session.together(&[queue.as_bytes(), peer.as_bytes()], |together| {
        let is_old = room.state.lock().directory.get(id).map(Peer::is_old);
        let is_there = together.run(&[b"EXISTS", peer.as_bytes()]).unwrap_or(true);
        if is_old == Some(true) || is_old.is_none() && is_there {
            return Vec::new();
        }
        let texts: Vec<Vec<u8>> = together.run(&[b"LRANGE", queue.as_bytes(), b"0", b"-1"]).unwrap_or_default();
        let jobs: Vec<wire::Job> = texts.iter().rev().filter_map(|text| serde_json::from_slice(text).ok()).collect();
        if is_old.is_none() && jobs.len() < texts.len() {
            return Vec::new();
        }
        let _ = together.run::<i64>(&[b"DEL", queue.as_bytes()]);
        jobs
    });
    jobs.into_iter().for_each(|job| adopt(room, session, job, false));
}

/// A result was published on a peer's channel.
pub(crate) fn result(room: &Room, session: &mut Session, source: &Id, bytes: &[u8]) {
    let Ok(result) = serde_json::from_slice::<wire::Result>(bytes) else { return };
    // A note that its peer tries again.
    let is_note = result.error.as_deref().is_some_and(|error| error.starts_with("retry "));
    let Some(is_ok) = result.ok.filter(|_| !is_note) else { return };
    let mut state = room.state.lock();
    if **source != *room.id {
        if state.jobs.jobs.get(&result.job).is_some_and(|tracked| *tracked.job.source == **source) {
            state.jobs.remove(&result.job);
            room.tracked.store(state.jobs.jobs.len() as u64, Relaxed);
        }
        return;
    }
    let answer = if is_ok {
        Answer::Done(result.data.map_or_else(|| b"null"[..].into(), |data| data.get().as_bytes().into()))
    } else {
        Answer::Failed(result.error.unwrap_or_default())
    };
    let actions = state.calls.answer(None, &result.job, answer);
    drop(state);
    // One that nobody waits for any more came too late.
    calling::act(room, session, actions.unwrap_or_default());
}

/// The jobs on a peer's list, oldest first. Under the lock of the list.
pub(crate) fn listed(together: &mut Together<'_>, id: &str) -> Vec<wire::Job> {
    let texts: Vec<Vec<u8>> = together.run(&[b"LRANGE", names::queue(id).as_bytes(), b"0", b"-1"]).unwrap_or_default();
    texts.iter().rev().filter_map(|text| serde_json::from_slice(text).ok()).collect()
}

/// What is to be done for others, since a peer is gone.
pub(crate) struct Orphans {
    actions: Vec<Action>,
    running: Vec<wire::Job>,
    queued: Vec<wire::Job>,
}

/// A peer is gone, and these jobs were on its list. `is_for_good`: it does not come back for what it called.
pub(crate) fn gone(room: &Room, state: &mut State, peer: &Id, jobs: Vec<wire::Job>, is_for_good: bool) -> Orphans {
    let (own, queued): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| *job.source == *room.id);
    let own: HashSet<String> = own.into_iter().map(|job| job.id).collect();
    let listed: HashSet<&str> = queued.iter().map(|job| &*job.id).collect();
    let mut actions = state.calls.gone(&mut state.directory, peer, &own, clock::monotonic_ms());
    if is_for_good {
        actions.extend(state.calls.forget_caller(peer));
    }
    let mut running = state.jobs.take_of(peer);
    running.retain(|job| !listed.contains(&*job.id));
    state.jobs.forget_from(peer);
    room.tracked.store(state.jobs.jobs.len() as u64, Relaxed);
    Orphans { actions, running, queued }
}

/// Gives the calls and jobs of a peer that is gone to others, or ends them. No lock may be held.
pub(crate) fn find_others(room: &Room, session: &mut Session, orphans: Orphans) {
    calling::act(room, session, orphans.actions);
    orphans.running.into_iter().for_each(|job| adopt(room, session, job, true));
    orphans.queued.into_iter().for_each(|job| adopt(room, session, job, false));
}

/// Makes a call of an old peer's job. Where nobody can take it, the one who gave it is told.
fn adopt(room: &Room, session: &mut Session, job: wire::Job, was_running: bool) {
    if *job.source == *room.id {
        return;
    }
    let payload = job.payload.as_ref().map_or("null", |payload| payload.get());
    let tried = job.attempt.unwrap_or(0);
    let order = Order {
        timeout_ms: TIMEOUT_MS,
        retries: if was_running { 0 } else { RETRIES },
        from: Some(job.source.as_str().into()),
        attempt: tried + 1 + u32::from(was_running),
        ..Order::new(&job.function, payload.as_bytes())
    };
    let caller = Caller::Old(job.source.as_str().into(), job.id.as_str().into());
    if was_running && tried >= RETRIES {
        return refuse(room, &job, Failure::new("GONE", "its peer left while it ran the call"));
    }
    let origin = Origin::Peer(job.source.as_str().into());
    let made = calling::make(room, session, order, caller, origin, || Asker::Old(job.clone()));
    if let Err(failure) = made {
        refuse(room, &job, failure);
    }
}

/// Tells an old peer that its job is not done.
pub(crate) fn refuse(room: &Room, job: &wire::Job, mut failure: Failure) {
    if failure.code == "NOPEER" {
        failure = calls::nobody_alive(&job.function);
    }
    room.publish(&names::results(&job.source), wire::result(&job.id, &Err(failure), false).as_bytes());
}
