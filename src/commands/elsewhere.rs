//! Commands whose work takes long, or waits for a disk: a thread of their own does it, and the client waits for the answer while its
//! worker serves others. See `engine::block`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::commands::Outcome;
use crate::commands::instance::Instance;
use crate::commands::session::Session;
use crate::engine::block::Block;
use crate::engine::error::Error;
use crate::engine::keys::Waiting;
use crate::lifecycle::{Phase, Plan};
use crate::panics::Whole;
use crate::resp::{Args, Reply};

/// Has the rest of a command done on a thread of its own, which writes the answer. Whoever calls this sees to it that clients cannot start
/// as many as they like. The work goes on when its client is gone.
pub(crate) fn elsewhere(
    session: &mut Session,
    args: Args<'_>,
    reply: &Reply,
    name: &str,
    work: impl FnOnce(&Arc<Instance>, &mut Reply) -> Outcome + Send + 'static,
) -> Outcome {
    if session.waiting == Waiting::Over {
        return Err(Error::new("UNBLOCKED the wait was ended; the work goes on"));
    }
    if session.waiting == Waiting::Never {
        return Err(Error::new("ERR Command not allowed inside a transaction"));
    }
    let waiter = session.waiter(args, reply);
    let (instance, answered) = (Arc::clone(&session.instance), Arc::clone(&waiter));
    let run = move |_: &_| {
        let mut reply = Reply::new(answered.protocol);
        let work = || {
            let _whole = Whole::begin();
            work(&instance, &mut reply)
        };
        // Nobody waits for ever for a thread that is gone.
        let outcome = catch_unwind(AssertUnwindSafe(work))
            .unwrap_or(Err(Error::new("ERR failed by a fault of the server; its log tells where")));
        if let Err(error) = outcome {
            reply.truncate(0);
            reply.error(&error.0);
        }
        if answered.end() {
            answered.mailbox.serve(reply.take(), 0);
        }
    };
    let lifecycle = session.instance.lifecycle();
    lifecycle
        .work(Plan::new(name, Phase::Finish), run)
        .map_err(|cause| Error::new(format!("ERR no thread could be started: {cause}")))?;
    session.block = Some(Block { waiter, timeout_ms: None, tries_again: false, is_under_way: true });
    Ok(())
}
