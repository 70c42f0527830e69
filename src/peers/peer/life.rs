//! Keeps a peer there: connects, registers, listens, says that it lives, and does it all again when the connection fails.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use redis::{PushInfo, PushKind, Value};
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::time::Instant;

use crate::lifecycle;
use crate::peers::peer::pushes::{Pushes, PushesTaken, pushes};
use crate::peers::peer::{Error, STOP_GRACE, Shared, serve};
use crate::peers::wire::{self, Event};
use crate::store::{Hear, Link, Store};

/// How often it says that it lives; a third of the time after which it counts as dead.
const HEARTBEAT: Duration = Duration::from_secs(3);
/// The first pause before it connects again; each is twice as long as the one before.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Peers come back to a restarted server one by one: for so long a call waits for one that can take it.
const GATHERING: Duration = Duration::from_secs(10);
/// After how long without a server it is said what is wrong.
const SILENT: Duration = Duration::from_secs(2);

/// Where the events of a workspace are published.
pub(super) fn events_channel(workspace: &str) -> String {
    format!("flux:ws:{workspace}:events")
}

/// The connections of a registered peer.
struct Links {
    commands: Link,
    /// Of the registration with which it began.
    number: u64,
    work: Option<Link>,
    pushes: PushesTaken,
}

/// Lives until it is stopped. `ready` hears of the first registration, or why it was refused.
pub(super) async fn live(shared: Arc<Shared>, ready: oneshot::Sender<Result<(), Error>>) {
    let mut ready = Some(ready);
    let mut pause = PAUSE_MIN;
    let (began, mut has_said_why) = (Instant::now(), false);
    let free = Arc::new(Semaphore::new(shared.concurrency));
    let mut stops = shared.stops.subscribe();
    while !*stops.borrow() {
        let arrived = match left(&shared, began).filter(|_| ready.is_some()) {
            Some(left) => tokio::time::timeout(left, arrive(&shared)).await.unwrap_or(Err(Error::Timeout(left))),
            None => arrive(&shared).await,
        };
        match arrived {
            Ok(links) => {
                pause = PAUSE_MIN;
                shared.link.send_replace(Some((links.commands.clone(), links.number)));
                if let Some(ready) = ready.take() {
                    // One that does not wait any more has dropped the peer, which stops it.
                    let _ = ready.send(Ok(()));
                }
                let (commands, number) = (links.commands.clone(), links.number);
                stay(&shared, links, &free).await;
                if *stops.borrow() {
                    leave(&shared, commands, number, &free).await;
                }
                shared.link.send_replace(None);
            }
            Err(error @ Error::Refused { .. }) if ready.is_some() => {
                let _ = ready.take().map(|ready| ready.send(Err(error)));
                return;
            }
            Err(error) => {
                tracing::debug!("peer {}: failed to {error}; trying again", shared.name);
                let waited = began.elapsed();
                if ready.is_some() && shared.connect_timeout.is_some_and(|timeout| waited >= timeout) {
                    let error = Error::NoServer { waited, why: error.to_string() };
                    let _ = ready.take().map(|ready| ready.send(Err(error)));
                    return;
                }
                if ready.is_some() && !has_said_why && waited >= SILENT {
                    has_said_why = true;
                    tracing::warn!("peer {}: failed to {error}; still trying", shared.name);
                }
            }
        }
        // Somewhat at random, so that the peers of a server that comes back do not all knock at once.
        let mut jittered = pause.mul_f64(0.5 + crate::id::random_below(1000) as f64 / 1000.0);
        if let Some(left) = left(&shared, began).filter(|_| ready.is_some()) {
            jittered = jittered.min(left);
        }
        tokio::select! {
            () = tokio::time::sleep(jittered) => {}
            () = stopped(&mut stops) => {}
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// What is left of the time in which the first connection must be made.
fn left(shared: &Shared, began: Instant) -> Option<Duration> {
    shared.connect_timeout.map(|timeout| timeout.saturating_sub(began.elapsed()))
}

/// Waits until the peer is stopped.
async fn stopped(stops: &mut watch::Receiver<bool>) {
    // An error means that the peer is gone, which stops it as well.
    let _ = stops.wait_for(|stops| *stops).await;
}

/// Connects and registers; what is behind this peer's calls is asked for again.
async fn arrive(shared: &Arc<Shared>) -> Result<Links, Error> {
    let (sender, pushes) = pushes();
    let mut commands = connect(&shared.store, Some(sender)).await?;
    let number = register(shared, &mut commands, None).await?;
    commands.subscribe(format!("flux:res:{}", shared.id)).await?;
    commands.subscribe(format!("flux:cancel:{}", shared.id)).await?;
    let workspaces = shared.workspaces.lock().clone();
    for workspace in workspaces {
        commands.subscribe(events_channel(&workspace)).await?;
    }
    let mut work = None;
    if !shared.capabilities.is_empty() {
        let mut connection = connect(&shared.store, None).await?;
        let running = shared.running.lock().keys().cloned().collect();
        register(shared, &mut connection, Some(running)).await?;
        work = Some(connection);
    }
    for id in shared.sent_calls() {
        match redis::cmd("FLUX.RESULT").arg(&id).query_async::<Option<String>>(&mut commands).await.map_err(Error::from) {
            Ok(Some(told)) => shared.told(&told),
            Ok(None) => {}
            Err(Error::Refused { code, .. }) if code == "NOCALL" => give_again(shared, &id, &commands),
            Err(Error::Refused { .. }) => shared.end_call(&id, Err(Error::Lost)),
            Err(error) => return Err(error),
        }
    }
    Ok(Links { commands, number, work, pushes })
}

/// Gives a call to a server that was restarted: perhaps a peer runs it still. Where none can take it yet, peers may be about to come back.
fn give_again(shared: &Arc<Shared>, id: &str, commands: &Link) {
    let (shared, id, mut commands) = (Arc::clone(shared), id.to_owned(), commands.clone());
    lifecycle::of_connection(async move {
        let until = Instant::now() + GATHERING;
        while let Some(command) = shared.given_again(&id) {
            match command.exec_async(&mut commands).await.map_err(Error::from) {
                Err(Error::Refused { code, .. }) if code == "NOPEER" && Instant::now() < until => {
                    tokio::time::sleep(PAUSE_MIN).await
                }
                Err(error @ Error::Refused { .. }) => return shared.end_call(&id, Err(error)),
                // The next connection asks what became of it.
                Ok(()) | Err(_) => return,
            }
        }
    });
}

/// A new connection; messages and its end are told to `pushes`.
async fn connect(store: &Store, pushes: Option<Pushes>) -> Result<Link, Error> {
    let hear: Hear = match pushes {
        Some(pushes) => Arc::new(move |push| pushes.send(push)),
        None => Arc::new(|_| {}),
    };
    store.link(hear).await.map_err(Error::Connection)
}

/// Registers over a connection. `running`: the calls this peer still has, said where it takes work; what is said there of the peer is the
/// oldest news, since the server may read it after what the other connection told. The number that it bears.
async fn register(shared: &Shared, connection: &mut Link, running: Option<Vec<String>>) -> Result<u64, Error> {
    let mut command = redis::cmd("FLUX.REGISTER");
    command.arg(shared.record().to_string()).arg("SECRET").arg(&shared.secret);
    let number = if running.is_some() { 0 } else { shared.told.fetch_add(1, Relaxed) + 1 };
    shared.after(&mut command, number);
    if let Some(running) = running {
        command.arg("RUNNING").arg(running.len()).arg(running);
    }
    command.exec_async(connection).await?;
    Ok(number)
}

/// Stays until the connection fails or the peer is stopped.
async fn stay(shared: &Arc<Shared>, mut links: Links, free: &Arc<Semaphore>) {
    let mut stops = shared.stops.subscribe();
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    let work = async {
        match links.work {
            Some(work) => serve::serve(shared, work, free).await,
            None => std::future::pending().await,
        }
    };
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            push = links.pushes.next() => match push {
                Some(push) if push.kind == PushKind::Disconnection => return,
                Some(push) => listen(shared, &push),
                None => return,
            },
            _ = heartbeat.tick() => {
                // Also refused when the server forgot the peer: then it registers anew.
                if redis::cmd("FLUX.HEARTBEAT").exec_async(&mut links.commands).await.is_err() {
                    return;
                }
            }
            _ = &mut work => return,
            () = stopped(&mut stops) => return,
        }
    }
}

/// Finishes what runs, for a while, and says goodbye.
async fn leave(shared: &Shared, mut commands: Link, number: u64, free: &Semaphore) {
    let _ = tokio::time::timeout(STOP_GRACE, free.acquire_many(shared.concurrency as u32)).await;
    // One that cannot be told sees the connection end.
    let _ = shared.after(&mut redis::cmd("FLUX.LEAVE"), number).exec_async(&mut commands).await;
}

/// Takes a message.
fn listen(shared: &Shared, push: &PushInfo) {
    let [Value::BulkString(channel), Value::BulkString(message)] = &push.data[..] else { return };
    if push.kind != PushKind::Message {
        return;
    }
    let (Ok(channel), Ok(message)) = (std::str::from_utf8(channel), std::str::from_utf8(message)) else { return };
    if channel.starts_with("flux:res:") {
        shared.told(message);
    } else if channel.starts_with("flux:cancel:") {
        if let Some(task) = shared.running.lock().get(wire::cancelled_call(message)) {
            task.abort();
        }
    } else if let Ok(event) = serde_json::from_str::<Event>(message)
        && event.peer_id != shared.id
    {
        // Nobody listens, perhaps.
        let _ = shared.events.send(event);
    }
}
