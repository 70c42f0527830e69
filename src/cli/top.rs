//! `flux top`: what a server does, live: a screen for people, or a JSON object on each line for programs.

use std::collections::HashMap;
use std::io::{IsTerminal, Read, stdin, stdout};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use parking_lot::Mutex;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use serde::Serialize;
use serde_json::Value;

use crate::cli::out::print;
use crate::cli::pieces::on_interrupt;
use crate::cli::reach::{self, Server, Target, is_away};
use crate::clock;
use crate::lifecycle::{Lifecycle, Phase, Plan};

const HELP: &str =
    "Shows what a server does, anew every second: commands, clients, memory, hit rate, journal and checkpoints, peers, and the
commands that take longest; what it asks itself does not count. q or Ctrl-C ends it. Where the output is no terminal, or with --json, each
second is a line of JSON.

Examples:
  flux top
  flux top --json | jq .ops_per_second
  flux top --interval 10 --count 6 --json              a minute, in six lines";

/// What is asked at each look.
const INFO: &str = "INFO";
const STATUS: &str = "FLUX.STATUS";
/// Commands that are shown.
const COMMANDS_SHOWN: usize = 10;
/// Goes to a screen of its own and hides the cursor, and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// To the first line; and what clears the rest of a line, and of the screen.
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_REST: &str = "\x1b[J";

/// The command, for the command line's table.
pub(crate) fn command() -> Command {
    let number = |name: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name("N").value_parser(value_parser!(u32).range(1..)).help(help)
    };
    Command::new("top")
        .about("Shows what a server does, live")
        .long_about(HELP)
        .arg(Arg::new("json").long("json").action(ArgAction::SetTrue).help("Prints a JSON object on each line"))
        .arg(number("interval", "Seconds between two looks").default_value("1"))
        .arg(number("count", "How many looks; without it, until interrupted"))
        .arg(reach::option())
        .arg(reach::patience())
}

/// Looks until it is interrupted, or has looked as often as was asked for.
pub(crate) fn run(matches: &ArgMatches) -> anyhow::Result<ExitCode> {
    let target = Target::named(matches)?;
    let interval = Duration::from_secs(matches.get_one::<u32>("interval").copied().unwrap_or(1).into());
    let mut left = matches.get_one::<u32>("count").copied();
    let mut server = target.connect()?;
    let mut before = Sample::take(&mut server).map_err(|error| target.failed(error))?;
    let screen = (!matches.get_flag("json") && stdout().is_terminal()).then(Screen::enter).transpose()?;
    while left != Some(0) {
        thread::sleep(interval);
        let now = match Sample::take(&mut server) {
            Ok(now) => now,
            Err(error) if is_away(&error) => {
                match &screen {
                    Some(screen) => screen.0.show("the server is away; this goes on when it is back\n")?,
                    None => eprintln!("flux: the server is away; this goes on when it is back"),
                }
                server = target.reconnect()?;
                before = Sample::take(&mut server).map_err(|error| target.failed(error))?;
                continue;
            }
            Err(error) => return Err(target.failed(error)),
        };
        let view = View::between(&before, &now);
        match &screen {
            Some(screen) => screen.0.show(&view.text())?,
            None => print(&format!("{}\n", serde_json::to_string(&view).context("failed to write JSON")?))?,
        }
        before = now;
        left = left.map(|left| left - 1);
    }
    Ok(ExitCode::SUCCESS)
}

/// A screen of our own, until it is dropped or the user ends it. Its last picture stays then.
struct Screen(Arc<Frame>);

struct Frame {
    /// None once the screen is left.
    picture: Mutex<Option<String>>,
    keyboard: Keyboard,
}

impl Screen {
    fn enter() -> anyhow::Result<Screen> {
        let frame = Arc::new(Frame { picture: Mutex::new(Some(String::new())), keyboard: Keyboard::take() });
        print(ENTER)?;
        let interrupted = Arc::clone(&frame);
        on_interrupt(move || interrupted.end());
        if frame.keyboard.is_ours() {
            let pressed = Arc::clone(&frame);
            // It ends with the process: reading a terminal cannot be broken off. Where it cannot be started, an interrupt does as well.
            let _ = Lifecycle::default().work(Plan::new("keyboard", Phase::Finish), move |_| pressed.end_at_q());
        }
        Ok(Screen(frame))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl Frame {
    /// Shows a text, cut to what fits.
    fn show(&self, text: &str) -> anyhow::Result<()> {
        let mut picture = self.picture.lock();
        let Some(picture) = picture.as_mut() else { return Ok(()) };
        text.clone_into(picture);
        let size = rustix::termios::tcgetwinsize(stdout()).ok().filter(|size| size.ws_row > 0 && size.ws_col > 0);
        let (rows, columns) = size.map_or((24, 80), |size| (usize::from(size.ws_row), usize::from(size.ws_col)));
        let lines = text.lines().take(rows - 1);
        let lines = lines.map(|line| format!("{}{CLEAR_LINE}\r\n", line.chars().take(columns).collect::<String>()));
        print(&format!("{HOME}{}{CLEAR_REST}", lines.collect::<String>()))
    }

    /// Ends the process when the user presses q, or has no terminal any more.
    fn end_at_q(&self) {
        let mut key = [0];
        while stdin().read(&mut key).is_ok_and(|read| read == 1) && !matches!(key, [b'q' | b'Q']) {}
        self.end();
    }

    fn end(&self) {
        self.leave();
        std::process::exit(0);
    }

    fn leave(&self) {
        if let Some(picture) = self.picture.lock().take() {
            self.keyboard.give_back();
            let _ = print(&format!("{LEAVE}{picture}"));
        }
    }
}

/// The terminal's keyboard, whose keys come at once and unseen as long as it is ours; as it was before, if it is a terminal's.
struct Keyboard(Option<Termios>);

impl Keyboard {
    fn take() -> Keyboard {
        let Ok(before) = tcgetattr(stdin()) else { return Keyboard(None) };
        let mut ours = before.clone();
        ours.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        Keyboard(tcsetattr(stdin(), OptionalActions::Now, &ours).is_ok().then_some(before))
    }

    fn is_ours(&self) -> bool {
        self.0.is_some()
    }

    fn give_back(&self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(stdin(), OptionalActions::Now, before);
        }
    }
}

/// What a server said at a moment.
struct Sample {
    at: Instant,
    info: HashMap<String, String>,
    /// Null where the server has no peers, as Redis has none.
    peers: Value,
}

impl Sample {
    fn take(server: &mut Server) -> redis::RedisResult<Sample> {
        let info: String = server.ask(redis::cmd(INFO).arg("everything"))?;
        let peers = match server.ask::<String>(&redis::cmd(STATUS)) {
            Ok(text) => serde_json::from_str(&text).unwrap_or_default(),
            Err(error) if is_away(&error) => return Err(error),
            Err(_) => Value::Null,
        };
        let fields = info.lines().filter_map(|line| line.split_once(':'));
        let info = fields.map(|(name, value)| (name.to_owned(), value.trim_end().to_owned())).collect();
        Ok(Sample { at: clock::instant(), info, peers })
    }

    fn text(&self, name: &str) -> &str {
        self.info.get(name).map_or("", String::as_str)
    }

    fn number(&self, name: &str) -> u64 {
        self.text(name).parse().unwrap_or(0)
    }

    /// Numbers within a field's value: `calls=1,usec=2`.
    fn part(&self, field: &str, name: &str) -> f64 {
        let parts = self.text(field).split(',').filter_map(|part| part.split_once('='));
        parts.filter(|(found, _)| *found == name).find_map(|(_, value)| value.parse().ok()).unwrap_or(0.0)
    }

    fn keys(&self) -> u64 {
        (0..16).map(|db| self.part(&format!("db{db}"), "keys") as u64).sum()
    }
}

/// What happened between two samples. Rates are of that time, the rest is of its end.
#[derive(Serialize)]
struct View {
    time_ms: u64,
    version: String,
    uptime_s: u64,
    ops_per_second: f64,
    errors_per_second: f64,
    input_bytes_per_second: f64,
    output_bytes_per_second: f64,
    clients: u64,
    blocked_clients: u64,
    clients_max: u64,
    /// Of the keys that were looked for, those that were there; None if none was looked for.
    hit_rate: Option<f64>,
    keys: u64,
    expired_per_second: f64,
    evicted_per_second: f64,
    memory_bytes: u64,
    memory_max_bytes: u64,
    resident_bytes: u64,
    journal_bytes: u64,
    commits_per_second: f64,
    journal_status: String,
    checkpoint_in_progress: bool,
    checkpoint_last_time_s: u64,
    checkpoint_last_ms: u64,
    checkpoint_status: String,
    commands: Vec<Timed>,
    peers: Value,
}

/// A command that ran, those whose calls took longest first.
#[derive(Serialize)]
struct Timed {
    name: String,
    calls_per_second: f64,
    usec_per_call: f64,
    /// Since the server was started.
    p99_usec: f64,
}

impl View {
    fn between(before: &Sample, now: &Sample) -> View {
        let seconds = now.at.duration_since(before.at).as_secs_f64().max(0.001);
        // A counter that is smaller than before was set back (CONFIG RESETSTAT).
        let grown = |name: &str| now.number(name).saturating_sub(before.number(name)) as f64;
        let rate = |name: &str| tenths(grown(name) / seconds);
        // What we asked ourselves in between. A server without peers does not know FLUX.STATUS, which is an error.
        let (asked, refused) = if now.peers.is_null() { (1.0, 1.0) } else { (2.0, 0.0) };
        let of_others = |name: &str, ours: f64| tenths((grown(name) - ours).max(0.0) / seconds);
        let (hits, misses) = (grown("keyspace_hits"), grown("keyspace_misses"));
        View {
            time_ms: clock::now_ms(),
            version: [now.text("flux_version"), now.text("redis_version")]
                .into_iter()
                .find(|text| !text.is_empty())
                .unwrap_or("?")
                .into(),
            uptime_s: now.number("uptime_in_seconds"),
            ops_per_second: of_others("total_commands_processed", asked),
            errors_per_second: of_others("total_error_replies", refused),
            input_bytes_per_second: rate("total_net_input_bytes"),
            output_bytes_per_second: rate("total_net_output_bytes"),
            clients: now.number("connected_clients"),
            blocked_clients: now.number("blocked_clients"),
            clients_max: now.number("maxclients"),
            hit_rate: (hits + misses > 0.0).then(|| hits / (hits + misses)),
            keys: now.keys(),
            expired_per_second: rate("expired_keys"),
            evicted_per_second: rate("evicted_keys"),
            memory_bytes: now.number("used_memory"),
            memory_max_bytes: now.number("maxmemory"),
            resident_bytes: now.number("used_memory_rss"),
            journal_bytes: now.number("journal_bytes"),
            commits_per_second: rate("journal_commits"),
            journal_status: now.text("aof_last_write_status").into(),
            checkpoint_in_progress: now.number("checkpoint_in_progress") != 0,
            checkpoint_last_time_s: now.number("checkpoint_last_time"),
            checkpoint_last_ms: now.number("checkpoint_last_msec"),
            checkpoint_status: now.text("checkpoint_last_status").into(),
            commands: timed(before, now, seconds),
            peers: now.peers.clone(),
        }
    }

    fn text(&self) -> String {
        let bytes = |count: u64| indicatif::BinaryBytes(count).to_string();
        let limit = |max: u64| if max == 0 { "no limit".to_owned() } else { format!("of {}", bytes(max)) };
        let hits = self.hit_rate.map_or("-".to_owned(), |rate| format!("{:.1}%", rate * 100.0));
        let checkpoint = match (self.checkpoint_in_progress, self.checkpoint_last_time_s) {
            (true, _) => "one is being made".to_owned(),
            (false, 0) => "none yet".to_owned(),
            (false, at) => format!("{} s ago, took {} ms", (self.time_ms / 1000).saturating_sub(at), self.checkpoint_last_ms),
        };
        let peers = ["peers", "capabilities", "workspaces", "calls"]
            .into_iter()
            .filter_map(|name| Some(format!("{} {name}", self.peers.get(name)?.as_u64()?)))
            .collect::<Vec<_>>()
            .join(", ");
        let mut text = format!(
            "flux {}, up {} s; q ends\n\n\
             commands    {:.0}/s, {:.0} errors/s\n\
             network     {}/s in, {}/s out\n\
             clients     {} of {}, {} blocked\n\
             memory      {} ({}), {} resident\n\
             keys        {}, hit rate {hits}, {:.0} expired/s, {:.0} evicted/s\n\
             journal     {}, {:.0} commits/s, last write {}\n\
             checkpoint  {checkpoint}, {}\n\
             peers       {}\n\n\
             {:<20} {:>10} {:>12} {:>12}\n",
            self.version,
            self.uptime_s,
            self.ops_per_second,
            self.errors_per_second,
            bytes(self.input_bytes_per_second as u64),
            bytes(self.output_bytes_per_second as u64),
            self.clients,
            self.clients_max,
            self.blocked_clients,
            bytes(self.memory_bytes),
            limit(self.memory_max_bytes),
            bytes(self.resident_bytes),
            self.keys,
            self.expired_per_second,
            self.evicted_per_second,
            bytes(self.journal_bytes),
            self.commits_per_second,
            self.journal_status,
            self.checkpoint_status,
            if peers.is_empty() { "-" } else { &peers },
            "SLOWEST COMMANDS",
            "CALLS/S",
            "USEC/CALL",
            "P99 USEC",
        );
        for timed in self.commands.iter().take(COMMANDS_SHOWN) {
            let Timed { name, calls_per_second, usec_per_call, p99_usec } = timed;
            text.push_str(&format!("{name:<20} {calls_per_second:>10.0} {usec_per_call:>12.1} {p99_usec:>12.1}\n"));
        }
        text
    }
}

/// The commands that ran between two samples.
fn timed(before: &Sample, now: &Sample, seconds: f64) -> Vec<Timed> {
    let row = |field: &String| {
        let name = field.strip_prefix("cmdstat_")?;
        let grown = |part: &str| (now.part(field, part) - before.part(field, part)).max(0.0);
        let is_asked_here = [INFO, STATUS].iter().any(|ours| name.eq_ignore_ascii_case(ours));
        let calls = (grown("calls") - f64::from(is_asked_here)).max(0.0);
        let p99_usec = now.part(&format!("latency_percentiles_usec_{name}"), "p99");
        let row = Timed {
            name: name.replace('|', " "),
            calls_per_second: tenths(calls / seconds),
            usec_per_call: tenths(grown("usec") / calls.max(1.0)),
            p99_usec,
        };
        (calls > 0.0).then_some(row)
    };
    let mut rows: Vec<Timed> = now.info.keys().filter_map(row).collect();
    rows.sort_by(|one, other| other.usec_per_call.total_cmp(&one.usec_per_call).then_with(|| one.name.cmp(&other.name)));
    rows
}

fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: Instant, info: &str) -> Sample {
        let fields = info.split_whitespace().filter_map(|line| line.split_once(':'));
        let info = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        Sample { at, info, peers: serde_json::json!({ "peers": 2 }) }
    }

    #[test]
    fn rates_are_of_the_time_between_and_the_slowest_command_comes_first() {
        let start = clock::instant();
        let before = sample(start, "total_commands_processed:100 keyspace_hits:10 cmdstat_get:calls=90,usec=90 evicted_keys:9");
        let now = sample(
            start + Duration::from_secs(2),
            "total_commands_processed:302 keyspace_hits:13 keyspace_misses:1 cmdstat_get:calls=190,usec=190 evicted_keys:1 \
             cmdstat_config|get:calls=2,usec=50 cmdstat_set:calls=0,usec=0 cmdstat_info:calls=1,usec=900 cmdstat_flux.status:calls=1,usec=5 latency_percentiles_usec_get:p50=1.0,p99=7.5 \
             db0:keys=3,expires=0 db9:keys=4,expires=1 uptime_in_seconds:7",
        );
        let view = View::between(&before, &now);
        assert_eq!((view.ops_per_second, view.hit_rate, view.keys), (100.0, Some(0.75), 7));
        assert_eq!(view.evicted_per_second, 0.0, "the counter was set back");
        let commands: Vec<_> = view.commands.iter().map(|timed| (&*timed.name, timed.usec_per_call)).collect();
        assert_eq!(commands, [("config get", 25.0), ("get", 1.0)]);
        let text = view.text();
        assert!(text.contains("hit rate 75.0%") && text.contains("peers       2 peers"), "{text}");
        assert!(text.lines().any(|line| line.split_whitespace().eq(["get", "50", "1.0", "7.5"])), "{text}");
    }
}
