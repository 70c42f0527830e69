//! Jobs of peers that speak only the old protocol: those they put on the list of a new peer become calls, and so do those of an
//! old peer that dies. Jobs between old peers go their way untouched; they are only remembered until their result.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::Ordering::Relaxed;

use crate::clock;
use crate::commands::session::Session;
use crate::engine::blob::Blob;
use crate::peers::calls::{self, Answer, Caller, Failure, Order};
use crate::peers::checking::{Asker, Origin};
use crate::peers::directory::{Id, Peer};
use crate::peers::room::{Room, Todo};
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
    bytes: usize,
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
        Some(tracked)
    }

    /// Takes what a peer has not answered.
    fn take_of(&mut self, owner: &str) -> Vec<wire::Job> {
        let ids: Vec<String> = self.jobs.iter().filter(|(_, job)| *job.owner == *owner).map(|(id, _)| id.clone()).collect();
        ids.iter().filter_map(|id| self.remove(id)).map(|tracked| tracked.job).collect()
    }

    /// Forgets what nobody waits for any more.
    fn forget_from(&mut self, source: &str) {
        let ids: Vec<String> = self.jobs.iter().filter(|(_, job)| job.job.source == source).map(|(id, _)| id.clone()).collect();
        ids.iter().for_each(|id| drop(self.remove(id)));
    }
}

/// Something was pushed onto a peer's list.
pub fn pushed(room: &Room, id: &str, elements: &[Blob]) {
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
pub fn drain(room: &Room, session: &mut Session, id: &Id) {
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
pub fn result(room: &Room, session: &mut Session, source: &Id, bytes: &[u8]) {
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

/// A peer is gone, and these jobs were on its list: its calls and jobs go to others, or end.
pub fn gone(room: &Room, session: &mut Session, peer: &Peer, jobs: Vec<Vec<u8>>) {
    let jobs: Vec<wire::Job> = jobs.iter().filter_map(|job| serde_json::from_slice(job).ok()).collect();
    let (own, queued): (Vec<_>, Vec<_>) = jobs.into_iter().partition(|job| *job.source == *room.id);
    let own: HashSet<String> = own.into_iter().map(|job| job.id).collect();
    let listed: HashSet<&str> = queued.iter().map(|job| &*job.id).collect();
    let (actions, running) = {
        let mut state = room.state.lock();
        let state = &mut *state;
        let actions = state.calls.gone(&mut state.directory, &peer.id, &own, clock::now_ms());
        let mut running = state.jobs.take_of(&peer.id);
        running.retain(|job| !listed.contains(&*job.id));
        state.jobs.forget_from(&peer.id);
        room.tracked.store(state.jobs.jobs.len() as u64, Relaxed);
        (actions, running)
    };
    calling::act(room, session, actions);
    running.into_iter().for_each(|job| adopt(room, session, job, true));
    queued.into_iter().for_each(|job| adopt(room, session, job, false));
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
pub fn refuse(room: &Room, job: &wire::Job, mut failure: Failure) {
    if failure.code == "NOPEER" {
        failure = calls::nobody_alive(&job.function);
    }
    room.publish(&names::results(&job.source), wire::result(&job.id, &Err(failure), false).as_bytes());
}
