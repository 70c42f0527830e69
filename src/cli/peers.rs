//! `flux peers`, `status`, `describe`, `capabilities`, `workspaces`, `clean`, `call`, `watch`: peers seen and used from a terminal.
//!
//! All of them ask a running server over RESP. People get tables; `--json` gives scripts what the server answered.

mod show;

use std::io::Read;
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use redis::PushInfo;
use redis::streams::{StreamRangeReply, StreamReadReply};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::cli::failure::{AllFailed, HandlerFailed, told};
use crate::cli::out::print;
use crate::cli::reach::{self, Target, in_time, is_away, milliseconds};
use crate::id;
use crate::peers::names;
use crate::peers::wire;

/// What can be asked, with its help: one row each.
const COMMANDS: &[Row] = &[
    Row {
        name: "peers",
        about: "Lists the peers that are there",
        help: "Lists every live peer: its name, id, capabilities and workspaces.

Examples:
  flux peers
  flux peers --workspace project-alpha
  flux peers --capability summarize --json",
        add: |command| command.arg(option("workspace", "WS", "Only those in this workspace")).arg(option("capability", "CAP", "Only those that can do this")),
        run: peers,
    },
    Row {
        name: "status",
        about: "Shows how many peers, workspaces and calls there are",
        help: "Shows how many peers, workspaces, capabilities and calls the server has.

Example:
  flux status",
        add: |command| command,
        run: status,
    },
    Row {
        name: "capabilities",
        about: "Lists what can be called",
        help: "Lists every capability that some live peer has.

Example:
  flux capabilities",
        add: |command| command,
        run: capabilities,
    },
    Row {
        name: "describe",
        about: "Shows what a capability does, what it takes, and who has it",
        help: "Shows a capability: its description, the JSON Schema of its payload, and the peers that have it.

Example:
  flux describe summarize",
        add: |command| command.arg(positional("capability", "CAP", "The capability")),
        run: describe,
    },
    Row {
        name: "workspaces",
        about: "Lists the workspaces",
        help: "Lists every workspace with its peers and the number of keys in its shared context.

Example:
  flux workspaces",
        add: |command| command,
        run: workspaces,
    },
    Row {
        name: "clean",
        about: "Removes what peers that are gone have left behind",
        help: "Removes ids and keys of peers that are gone. The server does so by itself; this does it now, and says how much there was.

Example:
  flux clean",
        add: |command| command,
        run: clean,
    },
    Row {
        name: "call",
        about: "Calls a capability and prints its result",
        help: "Calls a capability of whichever peer has it and prints the result: a text as it is, anything else as JSON. Where the peer sends
pieces of it before, each is printed on a line of its own as it comes (with --json as {\"seq\": …, \"chunk\": …}).

Examples:
  flux call summarize '{\"text\": \"…\"}'
  flux call summarize - < payload.json                 the payload from standard input
  flux call index '{}' --timeout 5m --priority 10
  flux call ping null --gather 0                       every peer that has it, an answer from each

Exits with 3 when the peer's handler failed (with --gather, when no peer answered and some handler failed), and with 1 when the call came
to nothing for another reason; says why.",
        add: |command| {
            command
                .arg(positional("capability", "CAP", "The capability"))
                .arg(positional("payload", "JSON", "The payload; - reads it from standard input").required(false).default_value("null"))
                .arg(option("timeout", "TIME", "How long to wait: 500ms, 30s, 5m").default_value("30s"))
                .arg(option("to", "PEER", "Only this peer, by its id"))
                .arg(option("priority", "N", "-100 to 100; higher goes first").value_parser(value_parser!(i64).range(-100..=100)).allow_negative_numbers(true))
                .arg(option("retries", "N", "How often another peer may try when one dies").value_parser(value_parser!(u32)))
                .arg(option("sticky", "KEY", "Calls with the same key go to the same peer"))
                .arg(option("gather", "N", "Asks all peers that have it and waits for N answers (0: all)").value_parser(value_parser!(u32)))
        },
        run: call,
    },
    Row {
        name: "watch",
        about: "Shows what happens in a workspace, live",
        help: "Shows who is in a workspace, then every event in it as it happens, until interrupted. When the server is started anew it goes on
where it was.

Examples:
  flux watch project-alpha
  flux watch project-alpha --json | jq .type",
        add: |command| command.arg(positional("workspace", "WS", "The workspace")),
        run: watch,
    },
];

/// One thing that can be asked.
struct Row {
    name: &'static str,
    about: &'static str,
    help: &'static str,
    add: fn(Command) -> Command,
    run: fn(&Ask<'_>) -> anyhow::Result<()>,
}

/// A command line on its way to a server.
struct Ask<'a> {
    matches: &'a ArgMatches,
    target: Target,
    json: bool,
}

/// The commands, for the command line's table.
pub(crate) fn commands() -> impl Iterator<Item = Command> {
    COMMANDS.iter().map(|row| {
        let json = Arg::new("json").long("json").action(ArgAction::SetTrue).help("Prints JSON for scripts");
        let command = (row.add)(Command::new(row.name).about(row.about).long_about(row.help)).arg(json).arg(reach::option());
        // A call's own time limit is the one that matters.
        if row.name == "call" { command } else { command.arg(reach::patience()) }
    })
}

/// Does what one of [`commands`] asks; None if it is none of them.
pub(crate) fn run(name: &str, matches: &ArgMatches) -> Option<anyhow::Result<ExitCode>> {
    let row = COMMANDS.iter().find(|row| row.name == name)?;
    let asked = Target::named(matches).and_then(|target| (row.run)(&Ask { matches, target, json: matches.get_flag("json") }));
    Some(asked.map(|()| ExitCode::SUCCESS))
}

fn option(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

fn positional(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).value_name(value).required(true).help(help)
}

fn text<'a>(matches: &'a ArgMatches, name: &str) -> Option<&'a str> {
    matches.get_one::<String>(name).map(String::as_str)
}

impl Ask<'_> {
    fn text(&self, name: &str) -> Option<&str> {
        text(self.matches, name)
    }

    /// Prints JSON texts as one array, or has a table made of them.
    fn list(&self, command: &redis::Cmd, table: fn(&[Value]) -> String) -> anyhow::Result<()> {
        let texts: Vec<String> = self.target.ask(command)?;
        let rows: Vec<Value> = texts.iter().map(|text| serde_json::from_str(text)).collect::<Result<_, _>>().context(STRANGE)?;
        if self.json {
            return print(&format!("{}\n", Value::Array(rows)));
        }
        print(&table(&rows))
    }

    /// Prints one JSON text, or has lines made of it.
    fn one(&self, command: &redis::Cmd, lines: fn(&Value) -> String) -> anyhow::Result<()> {
        let text: String = self.target.ask(command)?;
        let value: Value = serde_json::from_str(&text).context(STRANGE)?;
        if self.json {
            return print(&format!("{value}\n"));
        }
        print(&lines(&value))
    }
}

const STRANGE: &str = "failed to read the server's answer; is it a flux of another version?";

fn peers(ask: &Ask<'_>) -> anyhow::Result<()> {
    let mut command = redis::cmd("FLUX.PEERS");
    for name in ["workspace", "capability"] {
        if let Some(value) = ask.text(name) {
            command.arg(name.to_uppercase()).arg(value);
        }
    }
    ask.list(&command, show::peers)
}

fn status(ask: &Ask<'_>) -> anyhow::Result<()> {
    ask.one(&redis::cmd("FLUX.STATUS"), show::fields)
}

fn capabilities(ask: &Ask<'_>) -> anyhow::Result<()> {
    ask.list(&redis::cmd("FLUX.CAPABILITIES"), show::capabilities)
}

fn describe(ask: &Ask<'_>) -> anyhow::Result<()> {
    let mut command = redis::cmd("FLUX.DESCRIBE");
    command.arg(ask.text("capability"));
    ask.one(&command, show::capability)
}

fn workspaces(ask: &Ask<'_>) -> anyhow::Result<()> {
    ask.list(&redis::cmd("FLUX.WORKSPACES"), show::workspaces)
}

fn clean(ask: &Ask<'_>) -> anyhow::Result<()> {
    let removed: u64 = ask.target.ask(&redis::cmd("FLUX.CLEAN"))?;
    print(&if ask.json { format!("{{\"removed\":{removed}}}\n") } else { format!("{removed} stale entries removed\n") })
}

fn call(ask: &Ask<'_>) -> anyhow::Result<()> {
    let payload = payload(ask.text("payload").expect("it has a default"))?;
    let timeout_ms = milliseconds(ask.text("timeout").expect("it has a default"))?;
    let mut command = redis::cmd("FLUX.CALL");
    command.arg(ask.text("capability")).arg(payload).arg("TIMEOUT").arg(timeout_ms);
    if let Some(peer) = ask.text("to") {
        command.arg("TO").arg(peer);
    }
    if let Some(key) = ask.text("sticky") {
        command.arg("ROUTE").arg("STICKY").arg(key);
    }
    if let Some(priority) = ask.matches.get_one::<i64>("priority") {
        command.arg("PRIORITY").arg(*priority);
    }
    for name in ["retries", "gather"] {
        if let Some(number) = ask.matches.get_one::<u32>(name) {
            command.arg(name.to_uppercase()).arg(*number);
        }
    }
    let runtime = reach::runtime()?;
    let result = runtime.block_on(outcome(ask, command, Duration::from_millis(timeout_ms)));
    // Looking up a name cannot be broken off.
    runtime.shutdown_background();
    let result = result?;
    print(&if ask.json { format!("{result}\n") } else { show::result(&result) })?;
    if ask.matches.contains_id("gather") { some_answer(ask, &result) } else { Ok(()) }
}

/// One of many answers, as far as it is looked at here.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(default)]
    peer_name: String,
    ok: bool,
    #[serde(default)]
    error: String,
    #[serde(default)]
    code: String,
}

/// Fails where all that was gathered is failures.
fn some_answer(ask: &Ask<'_>, gathered: &str) -> anyhow::Result<()> {
    let answers: Vec<Answer> = serde_json::from_str(gathered).context(STRANGE)?;
    let Some(first) = answers.first().filter(|_| answers.iter().all(|answer| !answer.ok)) else { return Ok(()) };
    Err(AllFailed {
        capability: ask.text("capability").expect("clap asks for it").to_owned(),
        count: answers.len(),
        peer: first.peer_name.clone(),
        message: first.error.clone(),
        is_of_handlers: answers.iter().any(|answer| answer.code == "FAILED"),
    }
    .into())
}

/// What a call comes to. Pieces of it, which come between replies, are printed meanwhile.
async fn outcome(ask: &Ask<'_>, mut command: redis::Cmd, timeout: Duration) -> anyhow::Result<String> {
    // Whoever gives a call a second is not to learn after ten that nobody answers.
    let target = ask.target.clone().within(timeout.max(CONNECT_MIN));
    let (sender, mut pieces) = mpsc::unbounded_channel();
    let hear = Arc::new(move |push| drop(sender.send(push)));
    let mut line = target.link(hear).await?;
    let id = id::call();
    in_time(target.patience(), line.subscribe(names::results(&id))).await.map_err(|error| target.failed(error))?;
    command.arg("ID").arg(&id).arg("CHUNKS");
    // The server ends the call in time, if it answers at all.
    let longest = timeout.saturating_add(target.patience());
    let mut outcome = pin!(in_time(longest, command.query_async::<String>(&mut line)));
    loop {
        tokio::select! {
            // What came before the result is printed before it.
            biased;
            Some(push) = pieces.recv() => print(&piece(&push, ask.json).unwrap_or_default())?,
            outcome = &mut outcome => return outcome.map_err(|error| not_called(ask, error, longest)),
        }
    }
}

/// A piece of a result as a line; None for messages of another kind.
fn piece(push: &PushInfo, json: bool) -> Option<String> {
    let [_, redis::Value::BulkString(message)] = &push.data[..] else { return None };
    let wire::Result { chunk: Some(chunk), seq, .. } = serde_json::from_slice(message).ok()? else { return None };
    Some(if json { format!("{{\"seq\":{},\"chunk\":{chunk}}}\n", seq.unwrap_or_default()) } else { show::result(chunk.get()) })
}

fn not_called(ask: &Ask<'_>, error: redis::RedisError, longest: Duration) -> anyhow::Error {
    if error.is_timeout() {
        return anyhow!(
            "the server did not answer within {longest:?}, though the call's time is over; is it stopped, or cut off?"
        );
    }
    match (error.code(), error.detail()) {
        (Some("FAILED"), Some(message)) => {
            let capability = ask.text("capability").expect("clap asks for it").to_owned();
            HandlerFailed { capability, message: message.to_owned() }.into()
        }
        _ => told(error),
    }
}

/// The payload as the command line gives it, checked here so that a mistake is told where it was made.
fn payload(given: &str) -> anyhow::Result<String> {
    let mut read = String::new();
    let text = if given == "-" {
        std::io::stdin().read_to_string(&mut read).context("failed to read the payload from standard input")?;
        read.trim()
    } else {
        given
    };
    serde_json::from_str::<Value>(text)
        .context("failed to read the payload: it must be JSON (a string needs its quotes: '\"hello\"')")?;
    Ok(text.to_owned())
}

/// Out of the workspace's log, so that nothing is missed while the server is away.
fn watch(ask: &Ask<'_>) -> anyhow::Result<()> {
    let workspace = ask.text("workspace").expect("clap asks for it");
    let log = names::log(workspace);
    let mut here = redis::cmd("FLUX.PEERS");
    here.arg("WORKSPACE").arg(workspace);
    let mut server = ask.target.connect()?;
    // The end of the log comes first, so that nobody who joins in between is missed.
    let mut newest = redis::cmd("XREVRANGE");
    newest.arg(&log).arg("+").arg("-").arg("COUNT").arg(1);
    let failed = |error| ask.target.failed(error);
    let newest: StreamRangeReply = server.ask(&newest).map_err(failed)?;
    let mut last = newest.ids.into_iter().next().map_or_else(|| BEGINNING.to_owned(), |entry| entry.id);
    if ask.json {
        let _: Vec<String> = server.ask(&here).map_err(failed)?;
    } else {
        ask.list(&here, show::peers)?;
        print(&format!("watching `{workspace}`; Ctrl-C ends\n"))?;
    }
    loop {
        let mut next = redis::cmd("XREAD");
        next.arg("BLOCK").arg(0).arg("STREAMS").arg(&log).arg(&last);
        // Nothing may happen for a long time.
        match server.wait::<Option<StreamReadReply>>(&next) {
            Ok(read) => {
                for entry in read.into_iter().flat_map(|read| read.keys).flat_map(|key| key.ids) {
                    let text: String = entry.get("event").unwrap_or_default();
                    print(&event(&text, ask.json))?;
                    last = entry.id;
                }
            }
            Err(error) if is_away(&error) => {
                eprintln!("flux: the server is away; watching goes on when it is back");
                server = ask.target.reconnect()?;
                eprintln!("flux: the server is back");
            }
            Err(error) => return Err(told(error)),
        }
    }
}

/// How long a server may take at least to take a call, however little time the call itself has.
const CONNECT_MIN: Duration = Duration::from_secs(1);
/// What is before all entries of a log.
const BEGINNING: &str = "0-0";

/// An event as a line; nothing for what is none.
fn event(text: &str, json: bool) -> String {
    if json {
        return format!("{text}\n");
    }
    serde_json::from_str::<Value>(text).map_or_else(|_| String::new(), |event| show::event(&event))
}
