//! Saving in the sense of Redis: checkpoints, backups, and the end of the server. Changes are journaled all the time, so
//! none of these is needed to keep them.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot::error::TryRecvError;

use crate::clock;
use crate::commands::Outcome;
use crate::commands::elsewhere::elsewhere;
use crate::commands::identity::Reach;
use crate::commands::instance::{Instance, UnderWay};
use crate::commands::session::Session;
use crate::engine::error::{self, Error};
use crate::engine::keys::Waiting;
use crate::engine::persist::{self, Persistence};
use crate::lifecycle::{Phase, Plan};
use crate::resp::{Args, Reply};

/// Between two looks at a checkpoint that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(1);

const IN_PROGRESS: Error = Error::text("ERR Background save already in progress");

/// `SAVE`
pub(crate) fn save(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let running = Running::begin(&session.instance, UnderWay::Save).ok_or(IN_PROGRESS)?;
    elsewhere(session, args, reply, "save", move |_, reply| {
        checkpoint(&running.0).map_err(|cause| Error::new(format!("ERR the checkpoint failed: {cause}")))?;
        reply.ok();
        Ok(())
    })
}

/// A save or a backup under way. When it is dropped, a save that was scheduled meanwhile begins.
struct Running(Arc<Instance>);

impl Running {
    /// None if there is one already.
    fn begin(instance: &Arc<Instance>, what: UnderWay) -> Option<Running> {
        let mut under_way = instance.saves.under_way.lock();
        (*under_way == UnderWay::Nothing).then(|| Running::now(instance, &mut under_way, what))
    }

    fn now(instance: &Arc<Instance>, under_way: &mut UnderWay, what: UnderWay) -> Running {
        *under_way = what;
        instance.saves.began_at.store(clock::monotonic_ms(), Relaxed);
        Running(Arc::clone(instance))
    }

    /// Begins a save, or schedules it for when a backup is over, which is None.
    fn begin_or_schedule(instance: &Arc<Instance>) -> Result<Option<Running>, Error> {
        let under_way = &mut *instance.saves.under_way.lock();
        match *under_way {
            UnderWay::Nothing => Ok(Some(Running::now(instance, under_way, UnderWay::Save))),
            UnderWay::Backup { ref mut save_follows } => {
                *save_follows = true;
                Ok(None)
            }
            UnderWay::Save => Err(IN_PROGRESS),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let next = {
            let mut under_way = self.0.saves.under_way.lock();
            let ended = std::mem::take(&mut *under_way);
            let save_follows = ended == (UnderWay::Backup { save_follows: true });
            save_follows.then(|| Running::now(&self.0, &mut under_way, UnderWay::Save))
        };
        // Where no thread is to be had, it ends here at once, so nothing is locked.
        next.into_iter().for_each(begin_checkpoint);
    }
}

/// `BGSAVE`
pub(crate) fn bgsave(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let is_scheduled = match args.len() {
        1 => false,
        2 if args.is(1, "schedule") => true,
        _ => return Err(error::SYNTAX),
    };
    let is_in_transaction = session.waiting == Waiting::Never;
    let running = if is_scheduled || is_in_transaction {
        Running::begin_or_schedule(&session.instance)?
    } else {
        Some(Running::begin(&session.instance, UnderWay::Save).ok_or(IN_PROGRESS)?)
    };
    let is_later = is_in_transaction || running.is_none();
    running.into_iter().for_each(begin_checkpoint);
    reply.simple(if is_later { "Background saving scheduled" } else { "Background saving started" });
    Ok(())
}

/// `BGREWRITEAOF`
pub(crate) fn bgrewriteaof(session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    if let Some(persistence) = session.instance.persistence() {
        // Nobody waits for it; `INFO` tells how it ended.
        drop(persistence.checkpoint());
    }
    let when = if session.waiting == Waiting::Never { "scheduled" } else { "started" };
    reply.simple(&format!("Background append only file rewriting {when}"));
    Ok(())
}

/// `LASTSAVE`
pub(crate) fn lastsave(session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    reply.int(session.instance.saves.at.load(Relaxed) as i64);
    Ok(())
}

/// Starts a checkpoint and leaves it to a thread of its own.
fn begin_checkpoint(running: Running) {
    let instance = Arc::clone(&running.0);
    // How it ended is noted for INFO.
    let run = move |_: &_| drop(checkpoint(&running.0));
    if instance.lifecycle().work(Plan::new("save", Phase::Finish), run).is_err() {
        instance.saves.has_failed.store(true, Relaxed);
    }
}

/// Makes a checkpoint, waits for it and notes how it went. Without persistence there is nothing to do.
fn checkpoint(instance: &Instance) -> Result<(), String> {
    let began = clock::monotonic_ms();
    let changes = instance.changes();
    let outcome = match instance.persistence() {
        None => Ok(()),
        Some(persistence) => {
            let mut ended = persistence.checkpoint();
            loop {
                match ended.try_recv() {
                    Ok(outcome) => break outcome,
                    Err(TryRecvError::Closed) => break Err("the server ends".into()),
                    Err(TryRecvError::Empty) => thread::sleep(LOOK_EVERY),
                }
            }
        }
    };
    let saves = &instance.saves;
    saves.has_failed.store(outcome.is_err(), Relaxed);
    if outcome.is_ok() {
        saves.changes.store(changes, Relaxed);
        saves.at.store(clock::now_ms() / 1000, Relaxed);
        saves.count.fetch_add(1, Relaxed);
        saves.took_s_plus_one.store((clock::monotonic_ms() - began) / 1000 + 1, Relaxed);
    }
    outcome
}

/// `SHUTDOWN`
pub(crate) fn shutdown(session: &mut Session, args: Args<'_>, _: &mut Reply) -> Outcome {
    let is = |word: &str| (1..args.len()).any(|at| args.is(at, word));
    let known = ["save", "nosave", "now", "force", "abort"];
    let are_known = (1..args.len()).all(|at| known.iter().any(|word| args.is(at, word)));
    if !are_known || is("save") && is("nosave") || is("abort") && args.len() > 2 {
        return Err(error::SYNTAX);
    }
    if is("abort") {
        return Err(Error::new("ERR No shutdown in progress."));
    }
    if !is("nosave") && !is("force") {
        refuse_loss(&session.instance)?;
    }
    session.instance.skips_last_checkpoint.store(is("nosave"), Relaxed);
    if session.instance.engine.solo().is_shut() {
        session.instance.scripts.running.end_now();
    }
    session.closes = true;
    session.instance.end();
    Ok(())
}

/// Refuses to end while the journal cannot be written: some of what was acknowledged may be in memory only.
fn refuse_loss(instance: &Instance) -> Result<(), Error> {
    let Some(cause) = instance.persistence().and_then(Persistence::commit_error) else { return Ok(()) };
    tracing::error!(
        "SHUTDOWN is refused, since changes that were acknowledged may be in memory only: {cause}; make room, or copy the data to another \
         server, or end without them: SHUTDOWN NOSAVE"
    );
    Err(Error::text("ERR Errors trying to SHUTDOWN. Check logs."))
}

/// `FLUX BACKUP`
pub(crate) fn backup(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let path = std::str::from_utf8(args.at(2)).map(Path::new).map_err(|_| Error::new("ERR the path is not UTF-8"))?;
    if !path.is_absolute() {
        return Err(Error::new("ERR the path must be absolute, since client and server may work in different folders"));
    }
    let persistence = session.instance.persistence().cloned();
    let persistence = persistence.ok_or(Error::new("ERR there is no data folder; start the server with --data DIR"))?;
    let running = Running::begin(&session.instance, UnderWay::Backup { save_follows: false })
        .ok_or(Error::new("ERR a save is in progress; try again when it is over"))?;
    let path = path.to_owned();
    let is_trusted = session.identity.from.reach == Reach::Within;
    elsewhere(session, args, reply, "backup", move |_, reply| {
        let _running = running;
        let failed = |cause: String| Error::new(format!("ERR failed to back up: {cause}"));
        let place = Place::open(&path).map_err(|cause| failed(unopened(&path, &cause)))?;
        let may_be_made = is_trusted && !place.exists();
        if !place.is_offered() && !may_be_made {
            return Err(failed(format!(
                "`{}` must be an empty file, and no link: make it, so that the server knows that you may write there",
                path.display()
            )));
        }
        persistence.backup(&place.path).map_err(|cause| failed(place.told(&cause, &path, &persistence)))?;
        reply.ok();
        Ok(())
    })
}

/// Why the folder of a path cannot be opened.
fn unopened(path: &Path, cause: &io::Error) -> String {
    if cause.kind() == io::ErrorKind::PermissionDenied {
        return denied(path);
    }
    format!("open the folder of `{}`: {cause}", path.display())
}

fn denied(path: &Path) -> String {
    format!(
        "write `{}`: permission denied: the server writes it, so the server's user must be able to write there",
        path.display()
    )
}

/// Where a client wants a file. A client of Redis is not a user of the machine, and the server may write where that client's user may
/// not: so it only takes the place of an empty file that is there already, which whoever asks made. The folder is opened once, lest
/// another one is put in its place meanwhile.
struct Place {
    path: PathBuf,
    /// What `path` goes through, while it is open.
    _folder: File,
}

impl Place {
    fn open(path: &Path) -> io::Result<Place> {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let opened = File::open(folder)?;
        let through = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
        // A system that does not have it gets the path as it is.
        let folder = if through.exists() { &through } else { folder };
        Ok(Place { path: folder.join(name), _folder: opened })
    }

    /// Why no backup came to be, in terms of what the client knows: the path it gave, and not the one that was used.
    fn told(&self, cause: &persist::Error, given: &Path, persistence: &Persistence) -> String {
        if cause.is_denied() {
            return denied(given);
        }
        if let Some(trouble) = persistence.commit_error() {
            return format!(
                "a backup is made of what is in the data folder, and the latest changes cannot be written there: {trouble}; that must be \
                 mended first (on a full disk: make room)"
            );
        }
        let (used, real) = (self.path.parent().unwrap_or(&self.path), given.parent().unwrap_or(given));
        cause.to_string().replace(&*used.to_string_lossy(), &real.to_string_lossy())
    }

    fn exists(&self) -> bool {
        self.path.symlink_metadata().is_ok()
    }

    /// Whether an empty file is there for us, that is no link of any kind.
    fn is_offered(&self) -> bool {
        self.path.symlink_metadata().is_ok_and(|about| about.is_file() && about.len() == 0 && about.nlink() == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::identity::Who;
    use crate::engine::Engine;
    use crate::resp::{OwnedArgs, Protocol};

    fn instance() -> Arc<Instance> {
        Instance::new(Arc::new(Engine::new(false)), Arc::default(), 0)
    }

    fn answer(instance: &Arc<Instance>, words: &[&[u8]]) -> String {
        let mut session = Session::new(Arc::clone(instance), Arc::default(), instance.stats.worker(), Who::Program);
        let mut reply = Reply::new(Protocol::Resp2);
        session.execute(OwnedArgs::new(words.iter().copied()).args(), &mut reply);
        String::from_utf8_lossy(&reply.take()).into_owned()
    }

    fn threads(instance: &Instance) -> usize {
        instance.lifecycle().report().iter().filter(|row| row.name == "save").count()
    }

    #[test]
    fn a_save_that_is_scheduled_however_often_is_one_and_begins_when_the_backup_is_over() {
        let instance = instance();
        let backup = Running::begin(&instance, UnderWay::Backup { save_follows: false }).expect("nothing is under way");
        for _ in 0..10_000 {
            assert_eq!(answer(&instance, &[b"BGSAVE", b"SCHEDULE"]), "+Background saving scheduled\r\n");
        }
        assert_eq!(answer(&instance, &[b"BGSAVE"]), "-ERR Background save already in progress\r\n");
        assert_eq!((threads(&instance), instance.saves.count.load(Relaxed)), (0, 0));
        drop(backup);
        instance.lifecycle().stop(Phase::Finish);
        assert_eq!(instance.saves.count.load(Relaxed), 1);
        assert_eq!(*instance.saves.under_way.lock(), UnderWay::Nothing);
    }

    #[test]
    fn while_a_save_is_under_way_none_is_scheduled_as_in_redis() {
        let instance = instance();
        let save = Running::begin(&instance, UnderWay::Save).expect("nothing is under way");
        for words in [&[&b"BGSAVE"[..], b"SCHEDULE"][..], &[b"BGSAVE"], &[b"SAVE"]] {
            assert_eq!(answer(&instance, words), "-ERR Background save already in progress\r\n");
        }
        drop(save);
        assert_eq!((threads(&instance), *instance.saves.under_way.lock()), (0, UnderWay::Nothing));
        assert_eq!(answer(&instance, &[b"BGSAVE", b"SCHEDULE"]), "+Background saving started\r\n");
    }

    #[test]
    fn a_save_that_was_scheduled_and_finds_the_server_at_its_end_is_given_up() {
        let instance = instance();
        let backup = Running::begin(&instance, UnderWay::Backup { save_follows: false }).expect("nothing is under way");
        answer(&instance, &[b"BGSAVE", b"SCHEDULE"]);
        instance.lifecycle().stop(Phase::Finish);
        drop(backup);
        assert_eq!(*instance.saves.under_way.lock(), UnderWay::Nothing);
    }
}
