//! Calls, from either side: `FLUX.CALL`, `FLUX.NEXT`, `FLUX.REPLY` and their like, and what the state machine wants done.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};

use tokio::sync::oneshot::Sender;

use crate::clock;
use crate::commands::Outcome;
use crate::commands::args::Rest;
use crate::commands::session::Session;
use crate::engine::block::{Block, Waiter};
use crate::engine::error::Error;
use crate::engine::keys::Waiting;
use crate::peers::calls::{
    self, Action, Answer, Caller, Failure, Fetched, Job, Ongoing, Order, Parts, PartsTaken, Refused, ends,
};
use crate::peers::checking::{Asker, Found, Origin};
use crate::peers::directory::{Id, Kind};
use crate::peers::presence::{self, NOT_A_PEER, Presence};
use crate::peers::room::{Room, Todo};
use crate::peers::{checking, names, order, wire};
use crate::resp::{Args, OwnedArgs, Reply};

/// Calls that `FLUX.NEXT` takes at once.
const COUNT_MAX: i64 = 1000;
/// Peers that are looked for by their keys at most, when nobody in the directory has a capability: keys and directory say the same, so
/// there are hardly any.
const FOUND_MAX: &[u8] = b"64";

fn refusal(failure: Failure) -> Error {
    Error::new(failure.to_string())
}

/// `FLUX.CALL cap payload …`
pub(crate) fn call(room: &Room, session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    if session.waiting == Waiting::Over {
        left(room, session);
        return Err(Error::new("CANCELLED the wait for the call was ended with CLIENT UNBLOCK"));
    }
    let mut order = Order::new(names::capability(args.at(1))?, room.settings.sized("payload", args.at(2))?);
    let is_async = order::read(&mut order, Rest::of(args, 3))?;
    order.from = presence::peer_of(session).cloned();
    let origin = order.from.clone().map_or(Origin::Client(session.client.id), Origin::Peer);
    if is_async {
        let (peer, kind) = presence::attached_with(room, session, |_, peer| peer.kind.clone())?;
        let Kind::New { secret, .. } = kind else { return Err(NOT_A_PEER) };
        let waiter = waiter(session, args, reply);
        let asker = || Asker::Id(Arc::clone(&waiter));
        match make(room, session, order, Caller::Peer(peer, secret), origin, asker).map_err(refusal)? {
            Some(id) => reply.bulk(id.as_bytes()),
            None => session.block = Some(Block::new(waiter, None)),
        }
        return Ok(());
    }
    let waiter = waiter(session, args, reply);
    let call = Arc::new(OnceLock::new());
    let asker = || Asker::Outcome(Arc::clone(&waiter), Arc::clone(&call));
    if let Some(id) = make(room, session, order, Caller::Waiter(Arc::clone(&waiter)), origin, asker).map_err(refusal)? {
        let _ = call.set(id);
    }
    session.slot::<Presence>().call = Some(call);
    session.block = Some(Block::new(waiter, None));
    Ok(())
}

/// One that waits for a call. Its command is what is run when the wait ends early: see above.
fn waiter(session: &Session, args: Args<'_>, reply: &Reply) -> Arc<Waiter> {
    let again = OwnedArgs::new([args.at(0), b"", b""]);
    Arc::new(Waiter::new(again, 0, reply.protocol(), Arc::clone(&session.client.mailbox)))
}

/// Makes a call, or None: its payload must be checked first, which takes too long to be done here. Then the asker hears of it.
pub(crate) fn make(
    room: &Room,
    session: &mut Session,
    order: Order,
    caller: Caller,
    origin: Origin,
    asker: impl FnOnce() -> Asker,
) -> Result<Option<Id>, Failure> {
    match checking::at_once(room, &order)? {
        Found::Fit => make_checked(room, session, order, caller).map(Some),
        Found::TooLong => room.checks.add(room, &origin, order, caller, asker).map(|()| None),
    }
}

/// Makes a call whose payload was checked, and sees to what follows from it.
pub(crate) fn make_checked(room: &Room, session: &mut Session, order: Order, caller: Caller) -> Result<Id, Failure> {
    let mut made = try_make(room, order.clone(), caller.clone());
    if matches!(&made, Err(failure) if failure.code == "NOPEER")
        && order.to.is_none()
        && finds_some(room, session, &order.capability)
    {
        made = try_make(room, order.clone(), caller);
        if matches!(&made, Err(failure) if failure.code == "NOPEER") {
            made = Err(calls::nobody_alive(&order.capability));
        }
    }
    // Looking for peers may have found changes that are to be told, also where the call comes to nothing.
    room.tell();
    room.counts.calls.fetch_add(1, Relaxed);
    match made {
        Ok((id, actions)) => {
            act(room, session, actions);
            Ok(id)
        }
        Err(failure) => {
            room.counts.failed.fetch_add(1, Relaxed);
            Err(failure)
        }
    }
}

fn try_make(room: &Room, order: Order, caller: Caller) -> Result<(Id, Vec<Action>), Failure> {
    let now = clock::monotonic_ms();
    let deadline = now.saturating_add(order.timeout_ms);
    let mut state = room.state.lock();
    let state = &mut *state;
    let made = state.calls.make(&mut state.directory, order, caller, now)?;
    room.wake_by(state, deadline);
    Ok(made)
}

/// Looks for peers with a capability in the keyspace; true if its set names any.
fn finds_some(room: &Room, session: &mut Session, capability: &str) -> bool {
    let key = names::function(capability);
    let ids: Vec<String> = session.run_in_zero(&[b"SRANDMEMBER", key.as_bytes(), FOUND_MAX]).unwrap_or_default();
    ids.iter().for_each(|id| presence::sync(room, session, id));
    !ids.is_empty()
}

/// `FLUX.RESULT id`
pub(crate) fn result(room: &Room, session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let id = names::id("call id", args.at(1))?;
    let (_, fetched) = presence::attached_with(room, session, |calls, peer| calls.fetch(id, &peer.id))?;
    match fetched {
        Fetched::NoCall => {
            return Err(Error::new(format!(
                "NOCALL no such call \"{id}\": it ended and was fetched, its time is over, or the server was restarted"
            )));
        }
        Fetched::Running => reply.null(),
        Fetched::Ended(outcome) => reply.bulk(wire::result(id, &outcome, true).as_bytes()),
    }
    Ok(())
}

/// `FLUX.CANCEL id`
pub(crate) fn cancel(room: &Room, session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let id = names::id("call id", args.at(1))?;
    let (_, actions) = presence::attached_with(room, session, |calls, peer| calls.cancel(id, Some(&peer.id)))?;
    reply.int(i64::from(actions.is_some()));
    act(room, session, actions.unwrap_or_default());
    Ok(())
}

/// `FLUX.NEXT [COUNT n] [TIMEOUT ms]`
pub(crate) fn next(room: &Room, session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    if session.waiting == Waiting::Over {
        reply.null_array();
        return Ok(());
    }
    let (mut count, mut timeout_ms, mut rest) = (1, 0, Rest::of(args, 1));
    loop {
        if let Some(jobs) = rest.value("count") {
            count = order::number("COUNT", jobs, 1..=COUNT_MAX)? as usize;
        } else if let Some(ms) = rest.value("timeout") {
            timeout_ms = order::number("TIMEOUT", ms, 0..=calls::TIMEOUT_MS_MAX as i64)? as u64;
        } else {
            break rest.end_named()?;
        }
    }
    let client = session.client.id;
    let again = OwnedArgs::new([args.at(0)]);
    let waiter = Arc::new(Waiter::new(again, 0, reply.protocol(), Arc::clone(&session.client.mailbox)));
    // In one section, so that the peer is there when it begins to wait, and whoever removes it later finds the wait.
    let (_, jobs) = presence::attached_with(room, session, |calls, peer| {
        let jobs = calls.take(&peer.id, count, client);
        if jobs.is_empty() {
            calls.wait(&peer.id, Arc::clone(&waiter), count, client);
        }
        jobs
    })?;
    if !jobs.is_empty() {
        write_jobs(&jobs, clock::monotonic_ms(), reply);
        return Ok(());
    }
    session.block = Some(Block::new(waiter, Some(timeout_ms).filter(|ms| *ms > 0)));
    Ok(())
}

fn write_jobs(jobs: &[Job], now: u64, reply: &mut Reply) {
    reply.array(jobs.len());
    for job in jobs {
        reply.array(6);
        reply.bulk(job.id.as_bytes());
        reply.bulk(job.capability.as_bytes());
        reply.bulk(&job.payload);
        match &job.from {
            Some(peer) => reply.bulk(peer.as_bytes()),
            None => reply.null(),
        }
        reply.int(job.deadline.saturating_sub(now) as i64);
        reply.int(i64::from(job.attempt));
    }
}

/// `FLUX.REPLY id OK data | ERROR message | CHUNK data`
pub(crate) fn reply(room: &Room, session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    presence::attached(room, session)?;
    let data = room.settings.sized("result", args.at(3))?;
    let answer = if args.is(2, "error") {
        Answer::Failed(String::from_utf8_lossy(data).into_owned())
    } else if args.is(2, "ok") {
        wire::json("result", data)?;
        Answer::Done(data.into())
    } else if args.is(2, "chunk") {
        wire::json("chunk", data)?;
        Answer::Chunk(data.into())
    } else {
        return Rest::of(args, 2).end_named();
    };
    let id = String::from_utf8_lossy(args.at(1));
    let (_, answered) = presence::attached_with(room, session, |calls, peer| calls.answer(Some(&peer.id), &id, answer))?;
    match answered {
        Ok(actions) => act(room, session, actions),
        Err(Refused::NoCall) => {
            return Err(Error::new(format!("NOCALL call \"{id}\" has ended, or was not given to this peer")));
        }
        Err(Refused::Busy) => {
            return Err(Error::new(format!("BUSY the caller of \"{id}\" reads slower than chunks come: try again later")));
        }
    }
    reply.ok();
    Ok(())
}

/// Does what calls led to. No lock may be held.
pub(crate) fn act(room: &Room, session: &mut Session, actions: Vec<Action>) {
    // What led to them is told before.
    room.tell();
    for action in actions {
        match action {
            Action::Give(waiter, jobs) => answer(&waiter, |reply| write_jobs(&jobs, clock::monotonic_ms(), reply)),
            Action::Refuse(waiter) => answer(&waiter, |reply| reply.error(&NOT_A_PEER.0)),
            Action::Dismiss(waiter) => answer(&waiter, Reply::null_array),
            Action::Send(peer, job) => send(room, session, &peer, &job),
            Action::Withdraw(peer, job) => {
                let (queue, text) = (names::queue(&peer), old_job(room, &job));
                let _ = session.run_in_zero::<i64>(&[b"LREM", queue.as_bytes(), b"1", text.as_bytes()]);
            }
            Action::Cancel(peer, id, why) => room.publish(&names::cancelled(&peer), wire::cancelled(&id, why).as_bytes()),
            Action::End(caller, id, outcome) => end(room, &caller, &id, outcome),
            Action::Tried(to, id, attempt, retries) => {
                room.publish(&names::results(&to), wire::tried(&id, attempt, retries).as_bytes());
            }
            Action::Ask(id) => room.leave(Todo::Ask(id)),
            Action::Drop(parts) => room.leave(Todo::Drop(parts)),
            Action::Chunk(to, id, data, seq) => {
                room.publish(&names::results(&to), wire::chunk(&id, &data, seq).as_bytes());
            }
        }
    }
}

/// Answers a command whose wait was ended.
pub(crate) fn answer(waiter: &Waiter, write: impl FnOnce(&mut Reply)) {
    let mut reply = Reply::new(waiter.protocol);
    write(&mut reply);
    waiter.mailbox.serve(reply.take(), 0);
}

fn end(room: &Room, caller: &Caller, id: &Id, outcome: calls::Outcome) {
    if outcome.is_err() {
        room.counts.failed.fetch_add(1, Relaxed);
    }
    match caller {
        // One whose wait is over wants no answer any more.
        Caller::Waiter(waiter) if waiter.end() => answer(waiter, |reply| match outcome {
            Ok(data) => reply.bulk(&data),
            Err(failure) => reply.error(&failure.to_string()),
        }),
        Caller::Waiter(_) | Caller::Gather(_) => {}
        Caller::Channel(parts) => parts.end(outcome),
        Caller::Peer(peer, _) => room.publish(&names::results(peer), wire::result(id, &outcome, true).as_bytes()),
        Caller::Old(peer, job) => room.publish(&names::results(peer), wire::result(job, &outcome, false).as_bytes()),
    }
}

/// Puts a job on an old peer's list, unless the peer is gone: then its calls are found another place anyway.
fn send(room: &Room, session: &mut Session, peer: &Id, job: &Job) {
    let (queue, text) = (names::queue(peer), old_job(room, job));
    let sent = session.together(&[queue.as_bytes()], |together| {
        if room.state.lock().directory.get(peer).is_none() {
            return Ok(0);
        }
        together.run::<i64>(&[b"LPUSH", queue.as_bytes(), text.as_bytes()])
    });
    match sent {
        Ok(_) => room.publish(&names::notify(peer), job.id.as_bytes()),
        Err(error) => tracing::warn!("peers: a job could not be put on the list of {peer}: {}", error.0),
    }
}

/// A job as an old peer reads it.
fn old_job(room: &Room, job: &Job) -> String {
    wire::text(&wire::Job {
        id: job.id.to_string(),
        function: job.capability.to_string(),
        payload: serde_json::from_slice(&job.payload).ok(),
        source: room.id.to_string(),
        attempt: (job.attempt > 1).then(|| job.attempt - 1),
    })
}

/// A session ends, or does something else, that may wait for a call.
pub(crate) fn left(room: &Room, session: &mut Session) {
    let Some(call) = session.slot::<Presence>().call.take() else { return };
    let actions = {
        let mut state = room.state.lock();
        // One that is not made yet will not be: its check finds that the wait is over.
        call.get().and_then(|id| state.calls.cancel(id, None))
    };
    act(room, session, actions.unwrap_or_default());
}

impl Room {
    /// A call of a caller within the process, which hears by `made` that it is made, or why not.
    pub(crate) fn call_in_process(&self, order: Order, to: Parts, parts: PartsTaken, made: Sender<Result<Ongoing, Failure>>) {
        let mut waits = Some((made, parts));
        let asker = || {
            let (made, parts) = waits.take().expect("it is asked for once");
            Asker::Within(made, parts)
        };
        let tried = self.try_call_in_process(order, to, asker).transpose();
        let (Some((made, parts)), Some(tried), Some(room)) = (waits, tried, self.this()) else { return };
        // Where nobody takes the call it is dropped, which cancels it.
        let _ = made.send(tried.map(|id| room.ongoing(id, parts)));
    }

    fn try_call_in_process(&self, order: Order, to: Parts, asker: impl FnOnce() -> Asker) -> Result<Option<Id>, Failure> {
        let mut session = self.session().ok_or_else(ends)?;
        let refused = |code| move |error: Error| Failure::new(code, error.0.split_once(' ').map_or("", |(_, text)| text));
        names::capability(order.capability.as_bytes()).map_err(refused("INVALID"))?;
        self.settings.sized("payload", &order.payload).map_err(refused("TOOBIG"))?;
        let origin = Origin::Within(Arc::clone(order.from.as_ref().unwrap_or(&order.capability)));
        make(self, &mut session, order, Caller::Channel(to), origin, asker)
    }

    /// A call that was made by a caller within the process.
    pub(crate) fn ongoing(self: Arc<Self>, id: Id, parts: PartsTaken) -> Ongoing {
        Ongoing::new(id, parts, move |id| self.cancel_in_process(id))
    }

    /// The caller is gone.
    pub(crate) fn cancel_in_process(&self, id: &str) {
        let actions = self.state.lock().calls.cancel(id, None);
        if let Some(actions) = actions {
            self.leave(Todo::Act(actions));
        }
    }

    /// The JSON of live peers, oldest first.
    pub(crate) fn list(&self, workspace: Option<&str>, capability: Option<&str>) -> Vec<Id> {
        let Some(mut session) = self.session() else { return Vec::new() };
        presence::list(self, &mut session, workspace, capability).unwrap_or_default()
    }
}
