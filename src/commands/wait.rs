//! `WAIT` and `WAITAOF`: commands of Redis' `generic` group that wait for copies rather than for keys.

use crate::commands::args::int;
use crate::commands::session::Session;
use crate::commands::table::Group::Generic as GROUP;
use crate::commands::table::flag;
use crate::commands::{Command, Outcome};
use crate::engine::block::Block;
use crate::engine::error::{self, Error};
use crate::engine::keys::Waiting;
use crate::resp::{Args, Reply};

/// The rows.
pub(crate) const COMMANDS: &[Command] = &[
    Command::session(GROUP, "wait", wait).args(2).flags(flag::BLOCKING).since("3.0.0", "O(1)").doc(
        "numreplicas timeout",
        "Waits until so many replicas have this client's changes; there are none yet, so the answer is 0.",
    ),
    Command::session(GROUP, "waitaof", waitaof)
        .args(3)
        .flags(flag::BLOCKING | flag::NO_SCRIPT)
        .since("7.2.0", "O(1)")
        .doc("numlocal numreplicas timeout", "Waits until this client's changes are on disk, here and on so many replicas."),
];

fn timeout(args: Args<'_>, at: usize) -> Result<u64, Error> {
    let timeout = int(args, at).map_err(|_| Error::new("ERR timeout is not an integer or out of range"))?;
    u64::try_from(timeout).map_err(|_| Error::new("ERR timeout is negative"))
}

/// Waits for replicas that do not exist, unless none are asked for or it must answer: in a transaction, or since its time is over.
fn lacks_replicas(session: &mut Session, replicas: i64, timeout_ms: u64, args: Args<'_>, reply: &Reply) -> bool {
    if replicas <= 0 || session.waiting != Waiting::Allowed {
        return false;
    }
    session.block = Some(Block::new(session.waiter(args, reply), Some(timeout_ms).filter(|ms| *ms > 0)));
    true
}

fn wait(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let replicas = int(args, 1)?;
    let timeout_ms = timeout(args, 2)?;
    if !lacks_replicas(session, replicas, timeout_ms, args, reply) {
        reply.int(0);
    }
    Ok(())
}

fn waitaof(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let local = int(args, 1)?;
    if !(0..=1).contains(&local) {
        return Err(Error::new("ERR value is out of range, value must between 0 and 1"));
    }
    let replicas = int(args, 2).ok().filter(|replicas| *replicas >= 0).ok_or(error::NOT_POSITIVE)?;
    let timeout_ms = timeout(args, 3)?;
    if local == 1 && session.instance.durability().is_none() {
        return Err(Error::new("ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled."));
    }
    if lacks_replicas(session, replicas, timeout_ms, args, reply) {
        return Ok(());
    }
    // The reply goes out once the changes are on disk, so by then it is true.
    session.awaits_disk = session.instance.durability().is_some();
    reply.array(2);
    reply.int(i64::from(session.awaits_disk));
    reply.int(0);
    Ok(())
}
