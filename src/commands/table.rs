//! What a row of the command table says, and how rows are written and found.

use std::collections::HashMap;

use smallvec::SmallVec;

use crate::commands::instance::Instance;
use crate::commands::marks::{self, Mark};
use crate::commands::script::Desk;
use crate::commands::session::Session;
use crate::commands::shards::Shards;
use crate::config::Name;
use crate::engine::error::Error;
use crate::engine::keys::{Read, Write};
use crate::resp::{Args, Reply};

/// What a handler returns; its answer is in the [`Reply`]. What it wrote before an error is taken back.
pub(crate) type Outcome = Result<(), Error>;

/// How many arguments a command takes, its name not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arity {
    /// This many.
    Exactly(usize),
    /// This many or more.
    AtLeast(usize),
}

/// Where a command's keys are among its arguments; position 0 is the command's name (of a subcommand: its container's).
#[derive(Clone, Copy)]
pub enum Keys {
    /// It has none.
    None,
    /// From `first` to `last` in steps; a negative `last` counts from the end, -1 being the last argument.
    Range { first: usize, last: isize, step: usize },
    /// A count stands at `at`; the keys follow it. `first` is one more key before it, 0 for none (the destination of `ZUNIONSTORE`).
    Counted { at: usize, first: usize },
    /// A count stands at `at`; as many keys follow it, each with a value behind it.
    CountedPairs { at: usize },
    /// As this function finds them, which must answer for any arguments, also wrong ones. For `COMMAND`, `first` is where the first one usually is (0 if that varies).
    Found { find: fn(Args<'_>) -> Positions, first: usize },
    /// It may touch any key: all shards are locked.
    Any,
}

/// Positions of keys among the arguments.
pub(crate) type Positions = SmallVec<[usize; 8]>;

/// What carries a command out. What it may do is told by what it is given.
#[derive(Clone, Copy)]
pub enum Run {
    /// Reads keys.
    Read(fn(&mut Read<'_>, Args<'_>, &mut Reply) -> Outcome),
    /// Changes keys.
    Write(fn(&mut Write<'_>, Args<'_>, &mut Reply) -> Outcome),
    /// Has to do with the client or the server rather than with keys.
    Session(fn(&mut Session, Args<'_>, &mut Reply) -> Outcome),
    /// Has to do with the server, and looks at all shards.
    Server(fn(&mut Session, &mut Shards<'_, '_>, Args<'_>, &mut Reply) -> Outcome),
    /// Has to do with scripts, which have all shards.
    Script(for<'v> fn(&mut Session, &mut Desk<'_>, Read<'v>, Args<'_>, &mut Reply) -> (Outcome, Read<'v>)),
    /// Only its subcommands do anything.
    Container,
}

/// The groups Redis puts commands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    Bitmap,
    Cluster,
    Connection,
    Flux,
    Generic,
    Geo,
    Hash,
    Hyperloglog,
    List,
    Pubsub,
    Scripting,
    Server,
    Set,
    SortedSet,
    Stream,
    String,
    Transactions,
}

impl Group {
    /// All of them, in the order of the documentation.
    pub(crate) const ALL: &[Group] = &[
        Group::String,
        Group::Bitmap,
        Group::Generic,
        Group::List,
        Group::Hash,
        Group::Set,
        Group::SortedSet,
        Group::Stream,
        Group::Hyperloglog,
        Group::Geo,
        Group::Pubsub,
        Group::Transactions,
        Group::Scripting,
        Group::Connection,
        Group::Server,
        Group::Cluster,
        Group::Flux,
    ];

    /// As `COMMAND DOCS` calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Group::Bitmap => "bitmap",
            Group::Cluster => "cluster",
            Group::Connection => "connection",
            Group::Flux => "flux",
            Group::Generic => "generic",
            Group::Geo => "geo",
            Group::Hash => "hash",
            Group::Hyperloglog => "hyperloglog",
            Group::List => "list",
            Group::Pubsub => "pubsub",
            Group::Scripting => "scripting",
            Group::Server => "server",
            Group::Set => "set",
            Group::SortedSet => "sorted-set",
            Group::Stream => "stream",
            Group::String => "string",
            Group::Transactions => "transactions",
        }
    }
}

/// Bits of [`Command::flags`], each a word of `COMMAND INFO`.
pub mod flag {
    /// May need memory: refused when `maxmemory` is reached and nothing can be evicted (`denyoom`).
    pub(crate) const DENY_OOM: u32 = 1 << 0;
    /// Constant or logarithmic time (`fast`).
    pub(crate) const FAST: u32 = 1 << 1;
    /// May wait for keys (`blocking`).
    pub const BLOCKING: u32 = 1 << 2;
    /// For operators (`admin`).
    pub(crate) const ADMIN: u32 = 1 << 3;
    /// Not allowed in scripts (`noscript`).
    pub(crate) const NO_SCRIPT: u32 = 1 << 4;
    /// Has to do with publish and subscribe (`pubsub`).
    pub(crate) const PUBSUB: u32 = 1 << 5;
    /// Allowed while loading (`loading`).
    pub(crate) const LOADING: u32 = 1 << 6;
    /// Allowed before the password was given (`no_auth`).
    pub(crate) const NO_AUTH: u32 = 1 << 7;
    /// Not allowed in a transaction (`no_multi`).
    pub(crate) const NO_MULTI: u32 = 1 << 8;
    /// Allowed on a replica with old data (`stale`).
    pub(crate) const STALE: u32 = 1 << 9;
    /// Not shown by `MONITOR` (`skip_monitor`).
    pub(crate) const SKIP_MONITOR: u32 = 1 << 10;
    /// Not shown by `SLOWLOG` (`skip_slowlog`).
    pub(crate) const SKIP_SLOWLOG: u32 = 1 << 11;
    /// Keys depend on other arguments (`movablekeys`).
    pub(crate) const MOVABLE_KEYS: u32 = 1 << 12;
    /// Runs even while clients are paused or scripts are busy (`allow_busy`).
    pub(crate) const ALLOW_BUSY: u32 = 1 << 13;
    /// Dangerous in the sense of ACL categories (`@dangerous`).
    pub(crate) const DANGEROUS: u32 = 1 << 14;
    /// May have no keys among its arguments, though it has a place for them (`no_mandatory_keys`).
    pub(crate) const NO_MANDATORY_KEYS: u32 = 1 << 15;
    /// Takes so little time that the clock need not be read for each call, as commands that Redis calls fast. Not shown to clients.
    pub(crate) const QUICK: u32 = 1 << 16;
    /// Reads keys whose names it only learns while running, where it has a `BY` or `GET` pattern: all shards are locked then.
    pub(crate) const PATTERNS: u32 = 1 << 19;
    /// For operators in the sense of ACL categories (`@admin`), and yet shown by `MONITOR`.
    pub(crate) const ADMIN_CATEGORY: u32 = 1 << 20;
    /// Counts as a read for clients although it may keep what it computed (`readonly`).
    pub(crate) const READ_ONLY: u32 = 1 << 17;
    /// A session command that changes keys: refused and held back when writes are. Not shown to clients.
    pub(crate) const CHANGES_KEYS: u32 = 1 << 18;
    /// Makes its connection something for as long as that is there, and so is only for who has one of their own. Not shown to clients.
    pub(crate) const LASTS: u32 = 1 << 21;
}

/// A row of the command table.
#[derive(Clone, Copy)]
pub struct Command {
    /// Lower case; of a subcommand, without its container's name.
    pub name: &'static str,
    /// What carries it out.
    pub run: Run,
    /// How many arguments it takes. Counts from the container's name for a subcommand: `CONFIG GET x` has 2.
    pub arity: Arity,
    /// Where its keys are.
    pub keys: Keys,
    /// Bits of [`flag`].
    pub flags: u32,
    /// Its group.
    pub group: Group,
    /// The version of Redis it came with; `flux 0.1` for commands of our own.
    pub since: &'static str,
    /// Its cost, in the words of Redis' documentation: `O(1)`.
    pub complexity: &'static str,
    /// What it does, in a sentence of our own.
    pub summary: &'static str,
    /// Its arguments, as in Redis' documentation of the syntax: `key value [NX | XX]`.
    pub syntax: &'static str,
    /// What it contains.
    pub subcommands: &'static [Command],
    /// Which of its arguments nobody else may see, in `MONITOR`, the slow log or anywhere: passwords. Must answer for any arguments.
    pub secrets: fn(&Instance, Args<'_>) -> Positions,
    /// Who may use it at all, where not everyone may.
    pub limit: Option<Limit>,
}

/// A command that not everyone may use who may use others.
#[derive(Clone, Copy)]
pub struct Limit {
    /// The setting that says who may: nobody (`no`), everyone (`yes`), or who is on this machine (`local`).
    pub(crate) setting: Name,
    /// What all others are told.
    pub(crate) refusal: &'static str,
}

/// What stands in the place of an argument that must not be shown, as in Redis.
const REDACTED: &[u8] = b"(redacted)";
/// Commands of Redis that take passwords and are not here yet: also where they are only complained of, they are not repeated.
const SECRETIVE_STRANGERS: &[&str] = &["acl", "migrate"];

/// The arguments of a command as anyone may see them. Of a container, `command` is the subcommand.
pub(crate) fn shown<'a>(instance: &Instance, command: &Command, args: Args<'a>) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    let secrets = (command.secrets)(instance, args);
    args.iter().enumerate().map(move |(at, arg)| if secrets.contains(&at) { REDACTED } else { arg })
}

/// The same for one that is no command of ours, from its first argument on.
pub(crate) fn shown_of_stranger<'a>(args: Args<'a>) -> impl Iterator<Item = &'a [u8]> {
    let is_secretive = SECRETIVE_STRANGERS.iter().any(|name| args.is(0, name));
    args.from(1).iter().map(move |arg| if is_secretive { REDACTED } else { arg })
}

impl Command {
    const fn new(group: Group, name: &'static str, run: Run) -> Command {
        Command {
            name,
            run,
            arity: Arity::AtLeast(0),
            keys: Keys::None,
            flags: 0,
            group,
            since: "1.0.0",
            complexity: "O(1)",
            summary: "",
            syntax: "",
            subcommands: &[],
            secrets: |_, _| Positions::new(),
            limit: None,
        }
    }

    /// A command that reads keys.
    pub(crate) const fn read(
        group: Group,
        name: &'static str,
        run: fn(&mut Read<'_>, Args<'_>, &mut Reply) -> Outcome,
    ) -> Command {
        Command::new(group, name, Run::Read(run))
    }

    /// A command that changes keys.
    pub(crate) const fn write(
        group: Group,
        name: &'static str,
        run: fn(&mut Write<'_>, Args<'_>, &mut Reply) -> Outcome,
    ) -> Command {
        Command::new(group, name, Run::Write(run))
    }

    /// A command about the client or the server.
    pub const fn session(group: Group, name: &'static str, run: fn(&mut Session, Args<'_>, &mut Reply) -> Outcome) -> Command {
        Command::new(group, name, Run::Session(run))
    }

    /// A command about the server that looks at all shards.
    pub(crate) const fn server(
        group: Group,
        name: &'static str,
        run: fn(&mut Session, &mut Shards<'_, '_>, Args<'_>, &mut Reply) -> Outcome,
    ) -> Command {
        Command::new(group, name, Run::Server(run))
    }

    /// A command about scripts.
    pub(crate) const fn script(
        group: Group,
        name: &'static str,
        run: for<'v> fn(&mut Session, &mut Desk<'_>, Read<'v>, Args<'_>, &mut Reply) -> (Outcome, Read<'v>),
    ) -> Command {
        Command::new(group, name, Run::Script(run))
    }

    /// A command that only has subcommands.
    pub(crate) const fn container(group: Group, name: &'static str, subcommands: &'static [Command]) -> Command {
        let mut command = Command::new(group, name, Run::Container);
        command.subcommands = subcommands;
        command.arity = Arity::AtLeast(1);
        command
    }

    /// Also has subcommands.
    pub(crate) const fn with(mut self, subcommands: &'static [Command]) -> Command {
        self.subcommands = subcommands;
        self
    }

    /// Takes exactly this many arguments.
    pub const fn args(mut self, count: usize) -> Command {
        self.arity = Arity::Exactly(count);
        self
    }

    /// Takes this many arguments or more.
    pub(crate) const fn args_min(mut self, count: usize) -> Command {
        self.arity = Arity::AtLeast(count);
        self
    }

    /// Its first argument is its only key.
    pub(crate) const fn key(self) -> Command {
        self.keys(Keys::Range { first: 1, last: 1, step: 1 })
    }

    /// Its keys are there.
    pub(crate) const fn keys(mut self, keys: Keys) -> Command {
        if matches!(keys, Keys::Counted { .. } | Keys::CountedPairs { .. } | Keys::Found { .. }) {
            self.flags |= flag::MOVABLE_KEYS;
        }
        self.keys = keys;
        self
    }

    /// Sets bits of [`flag`].
    pub(crate) const fn flags(mut self, flags: u32) -> Command {
        self.flags |= flags;
        self
    }

    /// Takes back bits of [`flag`].
    pub(crate) const fn without(mut self, flags: u32) -> Command {
        self.flags &= !flags;
        self
    }

    /// These of its arguments are passwords.
    pub(crate) const fn secrets(mut self, find: fn(&Instance, Args<'_>) -> Positions) -> Command {
        self.secrets = find;
        self
    }

    /// Only those may use it whom a setting lets; others are told that.
    pub(crate) const fn limited(mut self, setting: Name, refusal: &'static str) -> Command {
        self.limit = Some(Limit { setting, refusal });
        self
    }

    /// Constant or logarithmic time.
    pub(crate) const fn fast(self) -> Command {
        self.flags(flag::FAST)
    }

    /// May need memory.
    pub(crate) const fn grows(self) -> Command {
        self.flags(flag::DENY_OOM)
    }

    /// Since which version of Redis, at which cost.
    pub(crate) const fn since(mut self, since: &'static str, complexity: &'static str) -> Command {
        self.since = since;
        self.complexity = complexity;
        if matches!(complexity.as_bytes(), b"O(1)")
            && !matches!(self.run, Run::Session(_) | Run::Server(_) | Run::Script(_) | Run::Container)
        {
            self.flags |= flag::QUICK;
        }
        self
    }

    /// Its syntax after the name, and what it does.
    pub(crate) const fn doc(mut self, syntax: &'static str, summary: &'static str) -> Command {
        self.syntax = syntax;
        self.summary = summary;
        self
    }

    /// Whether this many arguments (the name not counted) fit.
    #[inline]
    pub(crate) fn takes(&self, count: usize) -> bool {
        match self.arity {
            Arity::Exactly(exactly) => count == exactly,
            Arity::AtLeast(least) => count >= least,
        }
    }

    /// Whether all shards must be locked for it.
    pub(crate) fn may_touch_any_key(&self, args: Args<'_>) -> bool {
        let has_pattern = || (2..args.len()).any(|at| args.is(at, "by") || args.is(at, "get"));
        matches!(self.keys, Keys::Any)
            || matches!(self.run, Run::Server(_) | Run::Script(_))
            || self.flags & flag::PATTERNS != 0 && has_pattern()
    }

    /// Whether it changes keys.
    pub fn is_write(&self) -> bool {
        matches!(self.run, Run::Write(_))
    }

    /// Where its keys are among these arguments, the name at 0. Out-of-range positions are left out.
    pub(crate) fn key_positions(&self, args: Args<'_>) -> Positions {
        let len = args.len();
        match self.keys {
            Keys::None | Keys::Any => Positions::new(),
            Keys::Range { first, last, step } => {
                let last = if last < 0 { len as isize + last } else { last };
                let end = (last + 1).clamp(0, len as isize) as usize;
                (first..end).step_by(step).collect()
            }
            Keys::Counted { at, first } => {
                let end = (at + 1).saturating_add(count_at(args, at).unwrap_or(0)).min(len);
                let mut positions = Positions::new();
                if first != 0 && first < len {
                    positions.push(first);
                }
                positions.extend(at + 1..end.max(at + 1));
                positions
            }
            Keys::CountedPairs { at } => (at + 1..len).step_by(2).take(count_at(args, at).unwrap_or(0)).collect(),
            Keys::Found { find, .. } => find(args),
        }
    }
}

/// The count of keys that stands at a position, if there is one.
pub(crate) fn count_at(args: Args<'_>, at: usize) -> Option<usize> {
    args.get(at).and_then(|text| std::str::from_utf8(text).ok()?.parse().ok())
}

/// The rows that are answered, and how they are found.
pub struct Table {
    rows: Vec<&'static Command>,
    by_name: HashMap<&'static [u8], (u16, &'static Command), foldhash::fast::FixedState>,
    /// Full names by number.
    names: Vec<String>,
    /// What each does with its keys, by number.
    marks: Vec<&'static [Mark]>,
}

impl Table {
    /// Of the commands of these groups. Those of the first ones have the same numbers in every table that begins with them.
    pub(crate) fn of(groups: impl IntoIterator<Item = &'static [Command]>) -> Table {
        let rows: Vec<&Command> = groups.into_iter().flatten().collect();
        let mut table = Table { rows: Vec::new(), by_name: HashMap::default(), names: Vec::new(), marks: Vec::new() };
        for row in &rows {
            let before = table.by_name.insert(row.name.as_bytes(), (table.names.len() as u16, row));
            assert!(before.is_none(), "two rows are called {}", row.name);
            table.names.push(row.name.to_owned());
            table.names.extend(row.subcommands.iter().map(|sub| format!("{}|{}", row.name, sub.name)));
        }
        table.marks = table.names.iter().map(|name| marks::of(name)).collect();
        Table { rows, ..table }
    }

    /// All rows, subcommands within them, in the order of their numbers.
    pub fn rows(&self) -> impl Iterator<Item = &'static Command> {
        self.rows.iter().copied()
    }

    /// The command of this name in any case, and its number below [`Self::count`], for statistics. Numbers of subcommands follow that of
    /// their container.
    #[inline]
    pub fn find(&self, name: &[u8]) -> Option<(u16, &'static Command)> {
        let mut lower = [0u8; 32];
        let lower = lower.get_mut(..name.len())?;
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        self.by_name.get(&*lower).copied()
    }

    /// `config|get` for a subcommand's number, else the name.
    pub fn full_name(&self, number: usize) -> &str {
        &self.names[number]
    }

    /// What the command of this number does with its keys, in their order; the last is also of those that follow. Of no meaning where it has none.
    pub fn marks(&self, number: usize) -> &'static [Mark] {
        self.marks[number]
    }

    /// The name of the command with this number plus 1, as `CLIENT LIST` shows it; `NULL` for 0.
    pub(crate) fn name_of(&self, number_plus_one: u64) -> &str {
        let number = (number_plus_one as usize).checked_sub(1);
        number.and_then(|number| self.names.get(number)).map_or("NULL", String::as_str)
    }

    /// How many commands there are, subcommands among them.
    pub(crate) fn count(&self) -> usize {
        self.names.len()
    }
}

/// The number of a command, or of the subcommand of it that is meant.
#[inline]
pub(crate) fn number_of(number: u16, command: &Command, leaf: &Command) -> u16 {
    if command.subcommands.is_empty() {
        return number;
    }
    let sub = command.subcommands.iter().position(|sub| std::ptr::eq(sub, leaf));
    sub.map_or(number, |sub| number + 1 + sub as u16)
}
