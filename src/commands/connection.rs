//! Commands of Redis' `connection` group.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::clock;
use crate::commands::args::{Rest, int, parse_int};
use crate::commands::caching::{caching, getredir, tracking, trackinginfo};
use crate::commands::clients::{Client, state};
use crate::commands::identity::{Way, Who};
use crate::commands::instance::Instance;
use crate::commands::session::{Replies, Session};
use crate::commands::table::Group::Connection as GROUP;
use crate::commands::table::{Positions, Table, flag};
use crate::commands::tracking::Tracks;
use crate::commands::{Command, Outcome, args, help, pubsub, room, transactions};
use crate::config::Name;
use crate::engine::block::Block;
use crate::engine::error::{self, Error};
use crate::engine::keys::Waiting;
use crate::engine::mailbox::Ended;
use crate::resp::{Args, Protocol, Reply};
use crate::seldom::Seldom;

const ANYTIME: u32 = flag::NO_SCRIPT | flag::LOADING | flag::STALE;

/// The group's rows.
pub(crate) const COMMANDS: &[Command] = &[
    Command::session(GROUP, "auth", auth)
        .args_min(1)
        .flags(ANYTIME | flag::FAST | flag::NO_AUTH | flag::ALLOW_BUSY)
        .since("1.0.0", "O(N) where N is the number of passwords defined for the user")
        .doc("[username] password", "Gives the server's password.")
        .secrets(|_, args| (1..args.len()).collect()),
    Command::container(GROUP, "client", CLIENT)
        .since("2.4.0", "Depends on subcommand.")
        .doc("", "Asks about connections, and changes them."),
    Command::session(GROUP, "echo", echo)
        .args(1)
        .fast()
        .flags(flag::LOADING | flag::STALE)
        .since("1.0.0", "O(1)")
        .doc("message", "Returns its argument."),
    Command::session(GROUP, "hello", hello)
        .flags(ANYTIME | flag::FAST | flag::NO_AUTH | flag::ALLOW_BUSY)
        .since("6.0.0", "O(1)")
        .doc("[protover [AUTH username password] [SETNAME clientname]]", "Chooses the protocol, and tells about the server.")
        .secrets(given_to_hello),
    Command::session(GROUP, "ping", ping).fast().since("1.0.0", "O(1)").doc("[message]", "Answers PONG, or its argument."),
    Command::session(GROUP, "quit", quit)
        .flags(ANYTIME | flag::FAST | flag::NO_AUTH | flag::ALLOW_BUSY)
        .since("1.0.0", "O(1)")
        .doc("", "Closes the connection."),
    Command::session(GROUP, "reset", reset)
        .args(0)
        .flags(ANYTIME | flag::FAST | flag::NO_AUTH | flag::ALLOW_BUSY)
        .since("6.2.0", "O(1)")
        .doc("", "Makes the connection as it was when it was new."),
    Command::session(GROUP, "select", select)
        .args(1)
        .fast()
        .flags(flag::LOADING | flag::STALE)
        .since("1.0.0", "O(1)")
        .doc("index", "Works in another database from here on."),
];

const CLIENT: &[Command] = &[
    sub("caching", caching).args(2).since("6.0.0", "O(1)").doc("<YES | NO>", "Says whether the next read is tracked."),
    sub("getname", getname).args(1).since("2.6.9", "O(1)").doc("", "Returns the connection's name."),
    sub("getredir", getredir).args(1).since("6.0.0", "O(1)").doc("", "Tells which client gets this one's invalidations."),
    sub("help", client_help).args(1).without(flag::NO_SCRIPT).since("5.0.0", "O(1)").doc("", "Lists the subcommands."),
    sub("id", id).args(1).since("5.0.0", "O(1)").doc("", "Returns the connection's id."),
    sub("info", info).args(1).since("6.2.0", "O(1)").doc("", "Describes this connection."),
    sub("kill", kill)
        .args_min(2)
        .flags(flag::ADMIN | flag::DANGEROUS)
        .since("2.4.0", "O(N) where N is the number of client connections")
        .doc(
            "<ip:port | [ID client-id] [TYPE type] [ADDR ip:port] [LADDR ip:port] [SKIPME yes/no] [MAXAGE seconds] ...>",
            "Closes connections.",
        ),
    sub("list", list)
        .args_min(1)
        .flags(flag::ADMIN | flag::DANGEROUS)
        .since("2.4.0", "O(N) where N is the number of client connections")
        .doc(
            "[TYPE <NORMAL | MASTER | REPLICA | PUBSUB>] [ID client-id [client-id ...]]",
            "Describes all connections, a line each.",
        ),
    sub("no-evict", no_evict)
        .args(2)
        .flags(flag::ADMIN | flag::DANGEROUS)
        .since("7.0.0", "O(1)")
        .doc("<ON | OFF>", "Keeps this connection when clients use too much memory."),
    sub("no-touch", no_touch)
        .args(2)
        .since("7.2.0", "O(1)")
        .doc("<ON | OFF>", "Lets this connection's reads leave access times alone."),
    sub("pause", pause)
        .args_min(2)
        .flags(flag::ADMIN | flag::DANGEROUS)
        .since("3.0.0", "O(1)")
        .doc("timeout [WRITE | ALL]", "Holds back all clients' commands for so many milliseconds."),
    sub("reply", reply_mode).args(2).since("3.2.0", "O(1)").doc("<ON | OFF | SKIP>", "Turns replies on and off."),
    sub("setinfo", setinfo)
        .args(3)
        .since("7.2.0", "O(1)")
        .doc("<LIB-NAME libname | LIB-VER libver>", "Names the client's library."),
    sub("setname", setname).args(2).since("2.6.9", "O(1)").doc("connection-name", "Names the connection."),
    sub("tracking", tracking).args_min(2).since("6.0.0", "O(1). Some options may introduce additional complexity.").doc(
        "<ON | OFF> [REDIRECT client-id] [PREFIX prefix [PREFIX prefix ...]] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]",
        "Turns invalidation messages on or off.",
    ),
    sub("trackinginfo", trackinginfo).args(1).since("6.2.0", "O(1)").doc("", "Tells how this connection is tracked."),
    sub("unblock", unblock)
        .args_min(2)
        .flags(flag::ADMIN | flag::DANGEROUS)
        .since("5.0.0", "O(log N) where N is the number of client connections")
        .doc("client-id [TIMEOUT | ERROR]", "Ends a client's wait."),
    sub("unpause", unpause)
        .args(1)
        .flags(flag::ADMIN | flag::DANGEROUS)
        .since("6.2.0", "O(N) Where N is the number of paused clients")
        .doc("", "Ends a pause."),
];

const fn sub(name: &'static str, run: fn(&mut Session, Args<'_>, &mut Reply) -> Outcome) -> Command {
    Command::session(GROUP, name, run).flags(ANYTIME)
}

fn echo(_: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    reply.bulk(args.at(1));
    Ok(())
}

fn ping(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    if args.len() > 2 {
        return Err(args::wrong_number("ping"));
    }
    if session.subscription_count() > 0 && reply.protocol() == Protocol::Resp2 {
        reply.array(2);
        reply.bulk(b"pong");
        reply.bulk(args.get(1).unwrap_or_default());
    } else {
        match args.get(1) {
            Some(message) => reply.bulk(message),
            None => reply.simple("PONG"),
        }
    }
    Ok(())
}

fn quit(session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    session.closes = true;
    reply.ok();
    Ok(())
}

fn reset(session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    transactions::end(session);
    session.stop_tracking();
    pubsub::unsubscribe_all(session);
    room::leave(session);
    if session.client.has_state(state::MONITOR) {
        session.client.set_state(state::MONITOR, false);
        session.instance.monitors.lock().retain(|other| !Arc::ptr_eq(other, &session.client));
        session.instance.monitor_count.fetch_sub(1, Relaxed);
    }
    session.client.set_state(state::NO_EVICT | state::NO_TOUCH, false);
    session.client.about.lock().name.clear();
    session.replies = Replies::On;
    session.db = 0;
    session.client.db.store(0, Relaxed);
    session.is_now(if session.instance.password().is_none() { session.identity.but_no_peer() } else { Who::Stranger });
    reply.set_protocol(Protocol::Resp2);
    session.client.mailbox.set_protocol(Protocol::Resp2);
    reply.simple("RESET");
    Ok(())
}

fn select(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    session.db = database(args, 1)?;
    session.client.db.store(u64::from(session.db), Relaxed);
    reply.ok();
    Ok(())
}

/// Reads an argument as the number of a database.
pub(crate) fn database(args: Args<'_>, at: usize) -> Result<u8, Error> {
    let db = i32::try_from(int(args, at)?).map_err(|_| error::NOT_INT32)?;
    u8::try_from(db).ok().filter(|db| usize::from(*db) < crate::engine::shard::DATABASES).ok_or(error::DB_RANGE)
}

fn auth(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    match args.len() {
        2 if session.instance.password().is_none() => {
            return Err(Error::new(
                "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
            ));
        }
        2 | 3 => {}
        _ => return Err(error::SYNTAX),
    }
    let user = if args.len() == 3 { args.at(1) } else { b"default" };
    if log_in(session, user, args.at(args.len() - 1), args, reply)? {
        reply.ok();
    }
    Ok(())
}

/// Where `HELLO` has a user and a password, also among options that it does not know.
fn given_to_hello(_: &Instance, args: Args<'_>) -> Positions {
    let mut secrets = Positions::new();
    for at in (2..args.len()).filter(|at| args.is(*at, "auth")) {
        secrets.extend(at + 1..(at + 3).min(args.len()));
    }
    secrets
}

/// Looks at a password; false if the command has to wait before that is done, and is run again then.
fn log_in(session: &mut Session, user: &[u8], password: &[u8], args: Args<'_>, reply: &Reply) -> Result<bool, Error> {
    let (from, now) = (session.client.from.ip, clock::monotonic_ms());
    let has_guessed = session.client.has_state(state::GUESSED);
    let expected = session.instance.password();
    if expected.is_some() && session.waiting == Waiting::Allowed {
        let wait_ms = session.instance.guesses.try_one(from, has_guessed, now);
        if wait_ms > 0 {
            session.block = Some(Block::new(session.waiter(args, reply), Some(wait_ms)));
            return Ok(false);
        }
    }
    if user != b"default" || expected.as_ref().is_some_and(|expected| !expected.is(password)) {
        session.instance.stats.denied_logins.fetch_add(1, Relaxed);
        session.client.set_state(state::GUESSED, true);
        note_wrong_password(&session.client.from.address);
        return Err(Error::new("WRONGPASS invalid username-password pair or user is disabled."));
    }
    if expected.is_some() {
        session.instance.guesses.was_right(from, has_guessed, now);
        *session.client.stranger.lock() = None;
    }
    session.is_now(session.identity.logged_in());
    Ok(true)
}

/// Says that someone gave a wrong password, now and then.
pub(crate) fn note_wrong_password(address: &str) {
    static SEEN: Seldom = Seldom::new();
    if let Some(unsaid) = SEEN.say(clock::monotonic_ms()) {
        tracing::warn!("{address} gave a wrong password ({unsaid} more were given since the last line like this)");
    }
}

fn hello(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let protocol = match args.get(1) {
        None => reply.protocol(),
        Some(_) => match int(args, 1).map_err(|_| Error::new("ERR Protocol version is not an integer or out of range"))? {
            2 => Protocol::Resp2,
            3 => Protocol::Resp3,
            _ => return Err(Error::new("NOPROTO unsupported protocol version")),
        },
    };
    let mut name = None;
    let mut rest = Rest::of(args, 2);
    loop {
        if let Some([user, password]) = rest.values("auth") {
            if !log_in(session, user, password, args, reply)? {
                return Ok(());
            }
        } else if let Some(given) = rest.value("setname") {
            name = Some(checked_name(given)?);
        } else if let Some(option) = rest.peek() {
            let option = String::from_utf8_lossy(option);
            return Err(Error::new(format!("ERR Syntax error in HELLO option '{option}'")));
        } else {
            break;
        }
    }
    if !session.identity.is_known() {
        return Err(Error::new(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
        ));
    }
    if let Some(name) = name {
        session.client.about.lock().name = name;
    }
    reply.set_protocol(protocol);
    session.client.mailbox.set_protocol(protocol);
    reply.map(7);
    for (field, value) in [("server", "redis"), ("version", &session.instance.config.text(Name::ClaimedVersion))] {
        reply.bulk(field.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"proto");
    reply.int(if protocol == Protocol::Resp3 { 3 } else { 2 });
    reply.bulk(b"id");
    reply.int(session.client.id as i64);
    for (field, value) in [("mode", "standalone"), ("role", "master")] {
        reply.bulk(field.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"modules");
    reply.array(0);
    Ok(())
}

fn client_help(session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    help::subcommands(session, "client", reply)
}

fn id(session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    reply.int(session.client.id as i64);
    Ok(())
}

fn getname(session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    let about = session.client.about.lock();
    if about.name.is_empty() {
        reply.null()
    } else {
        reply.bulk(about.name.as_bytes())
    }
    Ok(())
}

fn checked_name(name: &[u8]) -> Result<String, Error> {
    checked(name).ok_or(Error::new("ERR Client names cannot contain spaces, newlines or special characters."))
}

fn checked(text: &[u8]) -> Option<String> {
    text.iter().all(|byte| (b'!'..=b'~').contains(byte)).then(|| String::from_utf8_lossy(text).into_owned())
}

fn setname(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    session.client.about.lock().name = checked_name(args.at(2))?;
    reply.ok();
    Ok(())
}

fn setinfo(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let attribute = String::from_utf8_lossy(args.at(2)).to_lowercase();
    let value = checked(args.at(3))
        .ok_or_else(|| Error::new(format!("ERR {attribute} cannot contain spaces, newlines or special characters.")))?;
    let mut about = session.client.about.lock();
    match attribute.as_str() {
        "lib-name" => about.library = value,
        "lib-ver" => about.library_version = value,
        _ => return Err(Error::new(format!("ERR Unrecognized option '{}'", String::from_utf8_lossy(args.at(2))))),
    }
    reply.ok();
    Ok(())
}

fn on_off(args: Args<'_>, at: usize) -> Result<bool, Error> {
    if args.is(at, "on") {
        Ok(true)
    } else if args.is(at, "off") {
        Ok(false)
    } else {
        Err(error::SYNTAX)
    }
}

fn no_evict(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    session.client.set_state(state::NO_EVICT, on_off(args, 2)?);
    reply.ok();
    Ok(())
}

fn no_touch(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    session.client.set_state(state::NO_TOUCH, on_off(args, 2)?);
    reply.ok();
    Ok(())
}

fn reply_mode(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    if args.is(2, "on") {
        session.replies = Replies::On;
        reply.ok();
    } else if args.is(2, "off") {
        session.replies = Replies::Off;
    } else if args.is(2, "skip") {
        if session.replies != Replies::Off {
            session.replies = Replies::SkipNext;
        }
    } else {
        return Err(error::SYNTAX);
    }
    Ok(())
}

fn pause(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    if args.len() > 4 {
        return Err(args::wrong_subcommand(args));
    }
    let only_writes = match args.get(3) {
        None => false,
        Some(_) if args.is(3, "write") => true,
        Some(_) if args.is(3, "all") => false,
        Some(_) => return Err(Error::new("ERR CLIENT PAUSE mode must be WRITE or ALL")),
    };
    let timeout = int(args, 2).map_err(|_| Error::new("ERR timeout is not an integer or out of range"))?;
    let timeout = u64::try_from(timeout).map_err(|_| error::TIMEOUT_NEGATIVE)?;
    // As in Redis since 7.2: before, such a pause was over before it began.
    if timeout > (i64::MAX as u64).saturating_sub(session.now()) {
        return Err(error::TIMEOUT_RANGE);
    }
    session.instance.pause.start(timeout, only_writes);
    // A removal is a write, and writes are held back; the chores allow it again when the pause is over.
    session.instance.engine.set_may_expire(false);
    reply.ok();
    Ok(())
}

fn unpause(session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    session.instance.pause.end();
    session.instance.engine.set_may_expire(true);
    reply.ok();
    Ok(())
}

fn unblock(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    if args.len() > 4 {
        return Err(args::wrong_subcommand(args));
    }
    let with_error = match args.get(3) {
        None => false,
        Some(_) if args.is(3, "timeout") => false,
        Some(_) if args.is(3, "error") => true,
        Some(_) => return Err(Error::new("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")),
    };
    let target = u64::try_from(int(args, 2)?).ok().and_then(|id| session.instance.clients.get(id));
    let waits = target.and_then(|client| client.waiter.lock().clone());
    // Where it was answered at this moment, there is nothing to unblock.
    let waiter = waits.filter(|waiter| waiter.end());
    if let Some(waiter) = &waiter {
        waiter.mailbox.end(Ended::Unblocked { with_error });
    }
    reply.int(i64::from(waiter.is_some()));
    Ok(())
}

/// The kinds of clients `TYPE` chooses from.
fn kind(client: &Client) -> &'static str {
    if client.subscriptions.load(Relaxed) > 0 { "pubsub" } else { "normal" }
}

fn checked_kind(kind: &[u8]) -> Result<String, Error> {
    let word = String::from_utf8_lossy(kind).to_lowercase();
    match word.as_str() {
        "normal" | "pubsub" | "master" | "replica" => Ok(word),
        "slave" => Ok("replica".into()),
        _ => Err(Error::new(format!("ERR Unknown client type '{}'", String::from_utf8_lossy(kind)))),
    }
}

fn kill(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    if args.len() == 3 {
        let found = session.instance.clients.all().into_iter().find(|client| client.from.address.as_bytes() == args.at(2));
        let client = found.ok_or(Error::new("ERR No such client"))?;
        close(session, &client);
        reply.ok();
        return Ok(());
    }
    let wanted = Wanted::read(session, args)?;
    let now = session.now();
    let mut count = 0;
    for client in session.instance.clients.all() {
        if wanted.is(&client, session, now) {
            close(session, &client);
            count += 1;
        }
    }
    reply.int(count);
    Ok(())
}

/// Which clients `CLIENT KILL` closes.
struct Wanted {
    ids: Option<BTreeSet<u64>>,
    kind: Option<String>,
    address: Option<Vec<u8>>,
    local_address: Option<Vec<u8>>,
    age_min_s: Option<u64>,
    user: Option<Vec<u8>>,
    spares_self: bool,
}

impl Wanted {
    fn read(_: &Session, args: Args<'_>) -> Result<Wanted, Error> {
        let mut wanted =
            Wanted { ids: None, kind: None, address: None, local_address: None, age_min_s: None, user: None, spares_self: true };
        let mut rest = Rest::of(args, 2);
        loop {
            if let Some(id) = rest.value("id") {
                let id = parse_int(id).ok().filter(|id| *id > 0).ok_or(Error::new("ERR client-id should be greater than 0"))?;
                wanted.ids.get_or_insert_default().insert(id as u64);
            } else if let Some(kind) = rest.value("type") {
                wanted.kind = Some(checked_kind(kind)?);
            } else if let Some(address) = rest.value("addr") {
                wanted.address = Some(address.to_vec());
            } else if let Some(address) = rest.value("laddr") {
                wanted.local_address = Some(address.to_vec());
            } else if let Some(user) = rest.value("user") {
                if user != b"default" {
                    return Err(Error::new(format!("ERR No such user '{}'", String::from_utf8_lossy(user))));
                }
                wanted.user = Some(user.to_vec());
            } else if let Some(age) = rest.value("maxage") {
                let age = parse_int(age).map_err(|_| Error::new("ERR maxage is not an integer or out of range"))?;
                wanted.age_min_s = Some(
                    u64::try_from(age).ok().filter(|age| *age > 0).ok_or(Error::new("ERR maxage should be greater than 0"))?,
                );
            } else if rest.left() > 1 && rest.word("skipme") {
                wanted.spares_self = rest.one_of(&[("yes", true), ("no", false)]).ok_or(error::SYNTAX)?;
            } else {
                rest.end()?;
                return Ok(wanted);
            }
        }
    }

    fn is(&self, client: &Arc<Client>, session: &Session, now: u64) -> bool {
        let is_self = Arc::ptr_eq(client, &session.client);
        !(is_self && self.spares_self)
            && self.ids.as_ref().is_none_or(|ids| ids.contains(&client.id))
            && self.kind.as_ref().is_none_or(|wanted| wanted == kind(client))
            && self.address.as_ref().is_none_or(|address| client.from.address.as_bytes() == address)
            && self.local_address.as_ref().is_none_or(|address| client.from.local_address.as_bytes() == address)
            && self.age_min_s.is_none_or(|age| now.saturating_sub(client.connected_at) / 1000 >= age)
    }
}

fn close(session: &mut Session, client: &Arc<Client>) {
    client.set_state(state::CLOSING, true);
    if Arc::ptr_eq(client, &session.client) {
        session.closes = true;
    } else {
        client.mailbox.leave(|mail| mail.close = Some(false));
    }
}

fn info(session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    let line = line(&session.instance.table, &session.client, reply.protocol(), session.now());
    reply.verbatim("txt", &line);
    Ok(())
}

fn list(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let mut clients = session.instance.clients.all();
    if args.is(2, "type") && args.len() == 4 {
        let wanted = checked_kind(args.at(3))?;
        clients.retain(|client| kind(client) == wanted);
    } else if args.is(2, "id") && args.len() > 3 {
        let mut ids = BTreeSet::new();
        for at in 3..args.len() {
            ids.insert(int(args, at).map_err(|_| Error::new("ERR Invalid client ID"))?);
        }
        clients.retain(|client| ids.contains(&(client.id as i64)));
    } else if args.len() > 2 {
        return Err(error::SYNTAX);
    }
    let mut lines = String::new();
    for client in clients {
        lines.push_str(&line(&session.instance.table, &client, client.mailbox.protocol(), session.now()));
    }
    reply.verbatim("txt", &lines);
    Ok(())
}

/// A client as `CLIENT LIST` shows it: fields in the order tools expect.
fn line(table: &Table, client: &Client, protocol: Protocol, now: u64) -> String {
    let about = client.about.lock().clone();
    let subscriptions = client.subscriptions.load(Relaxed);
    let part = |shift: u32| subscriptions >> shift & 0xf_ffff;
    let queued = client.queued.load(Relaxed);
    let bits = client.state.load(Relaxed);
    let mut flags = String::new();
    for (bit, letter) in [
        (state::MONITOR, 'O'),
        (state::BLOCKED, 'b'),
        (state::DIRTY, 'd'),
        (state::CLOSING, 'c'),
        (state::NO_EVICT, 'e'),
        (state::NO_TOUCH, 'T'),
    ] {
        if bits & bit != 0 {
            flags.push(letter);
        }
    }
    let tracked = client.tracker.lock().as_ref().map(|tracker| Tracks::shown(tracker));
    let redirect = tracked.as_ref().map_or(-1, |(_, redirect)| *redirect);
    if let Some((letters, _)) = tracked {
        flags.push_str(&letters);
    }
    if client.from.way == Way::Unix {
        flags.push('U');
    }
    if subscriptions > 0 {
        flags.push('P');
    }
    if queued > 0 {
        flags.push('x');
    }
    if flags.is_empty() {
        flags.push('N');
    }
    let output = client.output_bytes.load(Relaxed) + client.mailbox.pending_bytes() as u64;
    let query = client.query_bytes.load(Relaxed);
    let queued_bytes = client.queued_bytes.load(Relaxed);
    let command = table.name_of(client.last_command.load(Relaxed));
    let mut line = String::new();
    writeln!(
        line,
        "id={} addr={} laddr={} fd=8 name={} age={} idle={} flags={flags} db={} sub={} psub={} ssub={} multi={} qbuf={query} qbuf-free=0 \
         argv-mem={query} multi-mem={queued_bytes} rbs=16384 rbp=16384 obl={output} oll=0 omem={output} tot-mem={} events=r cmd={command} user=default redir={redirect} resp={} \
         lib-name={} lib-ver={} watch={} via={} peer={}",
        client.id,
        client.from.address,
        client.from.local_address,
        about.name,
        now.saturating_sub(client.connected_at) / 1000,
        clock::monotonic_ms().saturating_sub(client.active_at.load(Relaxed)) / 1000,
        client.db.load(Relaxed),
        part(0),
        part(20),
        part(40),
        queued as i64 - 1,
        query + output + queued_bytes + 2048,
        if protocol == Protocol::Resp3 { 3 } else { 2 },
        about.library,
        about.library_version,
        client.watched.load(Relaxed),
        client.from.way.name(),
        about.peer.as_deref().unwrap_or_default(),
    )
    .expect("writing to a string cannot fail");
    line
}
