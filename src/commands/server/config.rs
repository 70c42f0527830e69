//! `CONFIG`: settings read and changed while the server runs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::commands::elsewhere::elsewhere;
use crate::commands::instance::Instance;
use crate::commands::session::Session;
use crate::commands::shards::Shards;
use crate::commands::table::Positions;
use crate::commands::{Outcome, sockets};
use crate::config::Refused;
use crate::engine::error::{self, Error};
use crate::engine::glob;
use crate::engine::keys::Waiting;
use crate::engine::shard::Shard;
use crate::resp::{Args, Reply};

/// `CONFIG GET`
pub(crate) fn get(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let config = &session.instance.config;
    let mut found: BTreeMap<&str, Arc<str>> = BTreeMap::new();
    for pattern in args.from(2).iter() {
        let is_pattern = pattern.iter().any(|byte| b"*?[".contains(byte));
        for setting in config.settings().iter().filter(|setting| !(setting.is_hidden && is_pattern)) {
            for name in setting.names().filter(|name| glob::matches(pattern, name.as_bytes(), true)) {
                found.entry(name).or_insert_with(|| config.show(setting).0);
            }
        }
    }
    reply.map(found.len());
    for (name, value) in found {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    Ok(())
}

/// `CONFIG SET`
pub(crate) fn set(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    if args.len() % 2 == 1 {
        return Err(error::SYNTAX);
    }
    let text = |at| String::from_utf8_lossy(args.at(at)).into_owned();
    let changes: Vec<(String, String)> = (2..args.len()).step_by(2).map(|at| (text(at), text(at + 1))).collect();
    let changes: Vec<(&str, &str)> = changes.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    make_room(session, &changes)?;
    session.instance.config.set(&changes).map_err(|refused| refusal(&refused))?;
    // A lower limit is kept at once. Within a transaction shards are held, and the next command that needs memory sees to it.
    let is_limit = changes.iter().any(|(name, _)| name.eq_ignore_ascii_case("maxmemory"));
    if is_limit && session.waiting == Waiting::Allowed {
        session.make_room();
    }
    reply.ok();
    Ok(())
}

/// Sees to it that the system allows as many connections as a new `maxclients` does.
fn make_room(session: &Session, changes: &[(&str, &str)]) -> Result<(), Error> {
    let wanted =
        changes.iter().find(|(name, _)| name.eq_ignore_ascii_case("maxclients")).and_then(|(_, value)| value.parse().ok());
    let Some(wanted) = wanted.filter(|wanted| *wanted <= u64::from(u32::MAX)) else { return Ok(()) };
    let room = sockets::make_room(wanted, session.instance.workers.load(Relaxed));
    if room < wanted {
        let reason = format!("The operating system is not able to handle the specified number of clients, try with {room}");
        return Err(Error::new(format!("ERR CONFIG SET failed (possibly related to argument 'maxclients') - {reason}")));
    }
    Ok(())
}

/// Values of settings that are secrets; where a name is none, it may be one that was mistyped.
pub(crate) fn secrets(instance: &Instance, args: Args<'_>) -> Positions {
    let is_plain = |at: usize| {
        let name = String::from_utf8_lossy(args.at(at));
        instance.config.settings().find(&name).is_some_and(|setting| !setting.is_secret())
    };
    (2..args.len()).step_by(2).filter(|at| !is_plain(*at)).map(|at| at + 1).collect()
}

fn refusal(refused: &Refused) -> Error {
    Error::new(match refused {
        Refused::Unknown(name) => format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'"),
        Refused::Setting { name, reason } => {
            format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}")
        }
    })
}

/// `CONFIG REWRITE`
pub(crate) fn rewrite(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    if session.instance.config.file().is_none() {
        return Err(Error::new("ERR The server is running without a config file"));
    }
    let rewriting = Rewriting::begin(&session.instance)?;
    elsewhere(session, args, reply, "rewrite", move |instance, reply| {
        let _rewriting = rewriting;
        if let Some(Err(cause)) = instance.config.rewrite() {
            return Err(Error::new(format!("ERR Rewriting config file: {cause}")));
        }
        reply.ok();
        Ok(())
    })
}

/// The file is being written: by one thread at a time, so that clients cannot start many.
struct Rewriting(Arc<Instance>);

impl Rewriting {
    fn begin(instance: &Arc<Instance>) -> Result<Rewriting, Error> {
        if instance.is_rewriting.swap(true, Relaxed) {
            return Err(Error::new("ERR the config file is being written; try again when that is over"));
        }
        Ok(Rewriting(Arc::clone(instance)))
    }
}

impl Drop for Rewriting {
    fn drop(&mut self) {
        self.0.is_rewriting.store(false, Relaxed);
    }
}

/// `CONFIG RESETSTAT`
pub(crate) fn resetstat(session: &mut Session, shards: &mut Shards<'_, '_>, _: Args<'_>, reply: &mut Reply) -> Outcome {
    session.instance.reset_statistics();
    shards.each(&session.instance.engine, Shard::reset_counts);
    reply.ok();
    Ok(())
}
