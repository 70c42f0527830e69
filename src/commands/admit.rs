//! Whether someone may do what they ask for: at the door, and at each command. All that is refused because of who asks or of how the server
//! fares is refused here, whichever door it came through. What hangs on the session alone (a transaction, subscriptions, a pause) is the
//! session's.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::clock;
use crate::commands::identity::{Identity, Only, Origin, Reach, Who};
use crate::commands::instance::Instance;
use crate::commands::marks::{self, Mark};
use crate::commands::session::{Session, Transaction, full_name};
use crate::commands::stats::WorkerStats;
use crate::commands::table::{Command, Group, Keys, Limit, Table, flag};
use crate::config::Name;
use crate::engine::error::{self, Error};
use crate::resp::Args;

/// What a client is told that protected mode keeps out. Redis begins with the same words.
const PROTECTED: Error = Error::text(
    "DENIED Redis is running in protected mode because protected mode is enabled and no password is set for the \
     default user. Set one with CONFIG SET requirepass from the server's own machine, or turn protected mode \
     off with CONFIG SET protected-mode no.",
);
const NO_AUTH: Error = Error::text("NOAUTH Authentication required.");
const NO_KEY: Error = Error::text("NOPERM this user has no permissions to access one of the keys used as arguments");
const OTHER_DATABASE: Error = Error::text("NOPERM this user has no permissions to reach another database");

/// A command that is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// Its row, or its container's.
    pub command: &'static Command,
    /// Its own row.
    pub leaf: &'static Command,
    /// The number of that in the table.
    pub number: u16,
    /// What it is given, the name first.
    pub args: Args<'a>,
}

/// How things are when it is asked for.
pub(crate) struct State<'a> {
    /// The server.
    pub instance: &'a Instance,
    /// The transaction that `EXEC` would run.
    pub txn: Option<&'a Transaction>,
    /// Whether memory is short, and eviction did not help.
    pub is_short: bool,
}

impl Asked<'_> {
    /// Whether it may change what lasts, or tells others of something: refused where the journal refuses, and held back by a pause of writes.
    #[inline]
    pub(crate) fn may_write(&self, txn: Option<&Transaction>) -> bool {
        self.leaf.is_write()
            || self.leaf.flags & flag::CHANGES_KEYS != 0
            || self.command.name == "publish"
            || self.command.name == "exec" && txn.is_some_and(Transaction::may_write)
    }

    /// Whether it may need memory.
    #[inline]
    pub(crate) fn grows(&self, txn: Option<&Transaction>) -> bool {
        self.leaf.flags & flag::DENY_OOM != 0
            || self.command.name == "exec" && txn.is_some_and(|txn| txn.has_flag(flag::DENY_OOM))
    }
}

/// A session for someone who is known, whom nothing keeps out: a part of this program, or who has shown at the door who they are.
pub(crate) fn begin(instance: &Arc<Instance>, stats: Arc<WorkerStats>, identity: Identity) -> Session {
    let Identity { who, from, only } = identity;
    let client = instance.clients.connect(from, clock::now_ms());
    if instance.is_ending.load(Relaxed) {
        // Too late to be told with the others.
        client.mailbox.leave(|mail| mail.close = Some(true));
    }
    let mut session = Session::new(Arc::clone(instance), client, stats, Who::Stranger);
    session.is_now(who);
    session.identity.only = only;
    session
}

/// A session for a client that has just come, as a user where there is no password; or why it may not come in.
pub(crate) fn enter(instance: &Arc<Instance>, stats: Arc<WorkerStats>, origin: Origin) -> Result<Session, Error> {
    if let Err(error) = check_reach(origin.reach, instance) {
        instance.stats.rejected_connections.fetch_add(1, Relaxed);
        return Err(error);
    }
    let who = if instance.password().is_none() { Who::DEFAULT } else { Who::Stranger };
    let session = begin(instance, stats, Identity { who, from: Arc::new(origin), only: None });
    if !session.identity.is_known() {
        let mailbox = Arc::clone(&session.client.mailbox);
        let go = move || mailbox.leave(|mail| mail.close = Some(false));
        *session.client.stranger.lock() = Some(instance.sockets.stranger(clock::monotonic_ms(), go));
    }
    Ok(session)
}

/// Whether a client may come in at all. Protected mode keeps out who comes from another machine while there is no password; the start
/// refuses to listen that far then, but a password may be removed later.
pub(crate) fn check_reach(reach: Reach, instance: &Instance) -> Result<(), Error> {
    let is_kept_out = reach == Reach::Far && instance.password().is_none() && instance.config.is_on(Name::ProtectedMode);
    if is_kept_out { Err(PROTECTED) } else { Ok(()) }
}

/// Whether a command may run. For a known client, a command without a limit, and a server that is well: tests of a few flags.
#[inline]
pub(crate) fn admit(identity: &Identity, asked: &Asked<'_>, state: &State<'_>) -> Result<(), Error> {
    let Asked { command, leaf, .. } = *asked;
    let instance = state.instance;
    if !identity.is_known() && command.flags & flag::NO_AUTH == 0 {
        return Err(NO_AUTH);
    }
    if leaf.flags & flag::LOADING == 0 && instance.loading.is_on() {
        return Err(error::LOADING);
    }
    if let Some(Limit { setting, refusal }) = &leaf.limit
        && !identity.may(&instance.config, *setting)
    {
        return Err(Error::text(refusal));
    }
    if let Some(only) = &identity.only {
        check_keys(only, asked, &instance.table)?;
    }
    if state.is_short && asked.grows(state.txn) {
        return Err(error::OUT_OF_MEMORY);
    }
    if leaf.is_write() && instance.config.count(Name::MinReplicasToWrite) > 0 {
        return Err(error::NO_REPLICAS);
    }
    if asked.may_write(state.txn)
        && let Some(refusal) = refusal_of_writes(instance)
    {
        return Err(refusal);
    }
    Ok(())
}

/// Why nothing may be changed just now, where the journal refuses.
#[inline]
pub(crate) fn refusal_of_writes(instance: &Instance) -> Option<Error> {
    let cause = instance.durability().and_then(|durability| durability.write_error())?;
    Some(journal_refuses(&cause))
}

/// Whether a command keeps to the keys it may touch. O(n) for the keys it names.
fn check_keys(only: &[Only], asked: &Asked<'_>, table: &Table) -> Result<(), Error> {
    let Asked { command, leaf, args, number } = *asked;
    let is_of_connection = matches!(leaf.group, Group::Connection | Group::Transactions)
        && matches!(leaf.keys, Keys::None)
        && leaf.flags & flag::ADMIN == 0;
    let names_keys = !matches!(leaf.keys, Keys::None) && !leaf.may_touch_any_key(args);
    if !names_keys && !is_of_connection {
        let name = full_name(command, leaf);
        return Err(Error::new(format!("NOPERM this user has no permissions to run the '{name}' command")));
    }
    if leaves_database(leaf, args) {
        return Err(OTHER_DATABASE);
    }
    let each = marks::of_each(leaf, table.marks(number.into()), args);
    // Redis marks the keys of XREADGROUP as read, though it notes in the group what it gave.
    let writes_all = leaf.is_write() && leaf.flags & flag::READ_ONLY == 0 && !each.iter().any(|(_, mark)| mark.writes());
    let fits =
        |only: &Only, key: &[u8], mark: Mark| key.starts_with(&only.prefix) && (only.writes || !writes_all && !mark.writes());
    let may = |key: &[u8], mark: Mark| only.iter().any(|only| fits(only, key, mark));
    if each.into_iter().all(|(at, mark)| args.get(at).is_none_or(|key| may(key, mark))) { Ok(()) } else { Err(NO_KEY) }
}

/// Whether a command reaches keys of another database than the one that it is given in, whose names may be the same.
fn leaves_database(leaf: &Command, args: Args<'_>) -> bool {
    match leaf.name {
        "select" | "move" => true,
        "copy" => (3..args.len()).any(|at| args.is(at, "db")),
        _ => false,
    }
}

#[cold]
fn journal_refuses(cause: &str) -> Error {
    Error::new(format!(
        "MISCONF Errors writing to the journal: {cause}. Commands that change data are refused until writing works again."
    ))
}
