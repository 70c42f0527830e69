//! Takes the calls that come for a peer and runs them, as many at once as it allows.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::lifecycle;
use crate::peers::peer::call::WITHIN;
use crate::peers::peer::{Error, Job, Shared};
use crate::store::Link;

/// How long an answer waits where the connection failed, before it is given again.
const AGAIN: Duration = Duration::from_millis(50);

/// A call as `FLUX.NEXT` has it: id, capability, payload, caller if that is a peer, milliseconds left, attempt.
type Taken = (String, String, String, Option<String>, u64, u32);

/// Takes and runs calls until the connection fails.
pub(super) async fn serve(shared: &Arc<Shared>, mut connection: Link, free: &Arc<Semaphore>) -> Error {
    loop {
        let Ok(first) = Arc::clone(free).acquire_owned().await else { return Error::Stopped };
        let count = 1 + free.available_permits();
        let jobs = redis::cmd("FLUX.NEXT").arg("COUNT").arg(count).query_async::<Vec<Taken>>(&mut connection).await;
        let jobs = match jobs {
            Ok(jobs) => jobs,
            Err(error) => return error.into(),
        };
        drop(first);
        for job in jobs {
            let Ok(permit) = Arc::clone(free).acquire_owned().await else { return Error::Stopped };
            let shared = Arc::clone(shared);
            lifecycle::of_connection(async move {
                run(&shared, job).await;
                drop(permit);
            });
        }
    }
}

async fn run(shared: &Arc<Shared>, (id, capability, payload, from, left_ms, attempt): Taken) {
    let deadline = Instant::now() + Duration::from_millis(left_ms);
    let outcome = match shared.capabilities.get(&capability) {
        None => Err(format!("this peer does not have \"{capability}\"")),
        Some(found) => {
            let job =
                Job { id: id.clone(), capability, from: from.unwrap_or_default(), attempt, deadline, shared: Arc::clone(shared) };
            // A task of its own: it can be aborted, and its panic is an error like others.
            let task = lifecycle::of_connection(WITHIN.scope(deadline, (found.handler)(payload, job)));
            shared.running.lock().insert(id.clone(), task.abort_handle());
            let abort = task.abort_handle();
            let ended = tokio::time::timeout_at(deadline, task).await;
            abort.abort();
            match ended {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(error)) if error.is_panic() => Err("the handler panicked".to_owned()),
                // Cancelled or too late: nobody waits for an answer.
                Ok(Err(_)) | Err(_) => {
                    shared.running.lock().remove(&id);
                    return;
                }
            }
        }
    };
    // Until the server has the answer the call is ours: it is named where the peer registers anew.
    let _ = tokio::time::timeout_at(deadline, answer(shared, &id, outcome)).await;
    shared.running.lock().remove(&id);
}

/// Tells the outcome of a call, also over a later connection. An answer that is not taken is that of a call that was given to another
/// peer, or ended; or it is too large, which the caller is told.
async fn answer(shared: &Shared, id: &str, outcome: Result<String, String>) {
    let (kind, text) = outcome.map_or_else(|message| ("ERROR", message), |answer| ("OK", answer));
    match reply(shared, id, kind, &text).await {
        Err(Error::Refused { code, message }) if code != "NOCALL" => {
            let _ = reply(shared, id, "ERROR", &format!("the result was not taken: {message}")).await;
        }
        _ => {}
    }
}

async fn reply(shared: &Shared, id: &str, kind: &str, text: &str) -> Result<(), Error> {
    let mut command = redis::cmd("FLUX.REPLY");
    command.arg(id).arg(kind).arg(text);
    loop {
        match shared.ask(&command).await {
            // The connection is lost; whoever keeps it up is about to notice.
            Err(Error::Connection(_)) => tokio::time::sleep(AGAIN).await,
            told => return told,
        }
    }
}
