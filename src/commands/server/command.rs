//! `COMMAND`: what the command table says, in the shapes clients expect.

use crate::commands::marks;
use crate::commands::server::{syntax, tips};
use crate::commands::session::{Session, leaf};
use crate::commands::table::{self, Arity, Group, Keys, Run, Table, flag};
use crate::commands::{Command, Outcome};
use crate::engine::error::{self, Error};
use crate::engine::glob;
use crate::resp::{Args, Reply};

/// Categories of commands, as `ACL CAT` names them.
pub(crate) const CATEGORIES: [&str; 21] = [
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
];

/// Words of `COMMAND INFO` for flags, in the order Redis gives them. Whether a command reads or writes comes before.
const FLAG_WORDS: &[(u32, &str)] = &[
    (flag::DENY_OOM, "denyoom"),
    (flag::ADMIN, "admin"),
    (flag::PUBSUB, "pubsub"),
    (flag::NO_SCRIPT, "noscript"),
    (flag::BLOCKING, "blocking"),
    (flag::LOADING, "loading"),
    (flag::STALE, "stale"),
    (flag::SKIP_MONITOR, "skip_monitor"),
    (flag::SKIP_SLOWLOG, "skip_slowlog"),
    (flag::FAST, "fast"),
    (flag::NO_AUTH, "no_auth"),
    (flag::NO_MANDATORY_KEYS, "no_mandatory_keys"),
    (flag::NO_MULTI, "no_multi"),
    (flag::MOVABLE_KEYS, "movablekeys"),
    (flag::ALLOW_BUSY, "allow_busy"),
];

/// A row with its full name.
struct Named<'t> {
    table: &'t Table,
    name: &'t str,
    row: &'static Command,
}

/// All rows and subcommands with their numbers.
fn numbered(table: &Table) -> impl Iterator<Item = (usize, &'static Command)> {
    table.rows().flat_map(|row| std::iter::once(row).chain(row.subcommands)).enumerate()
}

/// The numbers of the rows and subcommands that are wanted, by row and full name.
pub(crate) fn names(table: &Table, is_wanted: impl Fn(&'static Command, &str) -> bool) -> Vec<usize> {
    numbered(table).filter(|(number, row)| is_wanted(row, table.full_name(*number))).map(|(number, _)| number).collect()
}

/// The row of a name such as `get` or `config|get`.
fn find<'t>(table: &'t Table, name: &[u8]) -> Option<Named<'t>> {
    let name = String::from_utf8_lossy(name).to_lowercase();
    let parent = name.split('|').next().unwrap_or_default();
    let (first, command) = table.find(parent.as_bytes())?;
    let last = usize::from(first) + command.subcommands.len();
    let number = (usize::from(first)..=last).find(|number| table.full_name(*number) == name)?;
    let row = match number - usize::from(first) {
        0 => command,
        sub => &command.subcommands[sub - 1],
    };
    Some(Named { table, name: table.full_name(number), row })
}

fn whole_table(table: &Table) -> Vec<Named<'_>> {
    table.rows().map(|row| Named { table, name: row.name, row }).collect()
}

/// `COMMAND`
pub(crate) fn all(session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    let rows = whole_table(&session.instance.table);
    reply.array(rows.len());
    rows.iter().for_each(|row| write_info(row, reply));
    Ok(())
}

/// `COMMAND COUNT`
pub(crate) fn count(session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    reply.count(session.instance.table.rows().count());
    Ok(())
}

/// `COMMAND INFO`
pub(crate) fn info(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    if args.len() == 2 {
        return all(session, args, reply);
    }
    reply.array(args.len() - 2);
    for name in args.from(2).iter() {
        match find(&session.instance.table, name) {
            Some(row) => write_info(&row, reply),
            None => reply.null(),
        }
    }
    Ok(())
}

/// `COMMAND LIST`
pub(crate) fn list(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let table = &session.instance.table;
    let found = match args.len() {
        2 => names(table, |_, _| true),
        5 if args.is(2, "filterby") => {
            let wanted = args.at(4);
            if args.is(3, "module") {
                Vec::new()
            } else if args.is(3, "aclcat") {
                let wanted = String::from_utf8_lossy(wanted).to_lowercase();
                names(table, |row, _| categories(row).contains(&wanted.as_str()))
            } else if args.is(3, "pattern") {
                names(table, |_, name| glob::matches(wanted, name.as_bytes(), true))
            } else {
                return Err(error::SYNTAX);
            }
        }
        _ => return Err(error::SYNTAX),
    };
    reply.array(found.len());
    found.iter().for_each(|number| reply.bulk(table.full_name(*number).as_bytes()));
    Ok(())
}

/// `COMMAND DOCS`
pub(crate) fn docs(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let table = &session.instance.table;
    let found = |name| find(table, name);
    let rows: Vec<Named> = if args.len() == 2 { whole_table(table) } else { args.from(2).iter().filter_map(found).collect() };
    reply.map(rows.len());
    rows.iter().for_each(|row| write_docs(row, reply));
    Ok(())
}

fn write_info(named: &Named, reply: &mut Reply) {
    let row = named.row;
    reply.array(10);
    reply.bulk(named.name.as_bytes());
    reply.int(match row.arity {
        Arity::Exactly(count) => count as i64 + 1,
        Arity::AtLeast(count) => -(count as i64 + 1),
    });
    write_words(&flag_words(row), reply);
    let (first, last, step) = key_range(row.keys);
    reply.int(first);
    reply.int(last);
    reply.int(step);
    let categories: Vec<String> = categories(row).iter().map(|category| format!("@{category}")).collect();
    write_words(&categories.iter().map(String::as_str).collect::<Vec<_>>(), reply);
    let tips = tips::of(named.name);
    reply.set(tips.len());
    tips.iter().for_each(|tip| reply.bulk(tip.as_bytes()));
    write_key_specs(named, reply);
    // An empty set where there are none, as Redis.
    match row.subcommands.len() {
        0 => reply.set(0),
        count => reply.array(count),
    }
    for sub in subcommands(named) {
        write_info(&sub, reply);
    }
}

fn subcommands<'t>(named: &Named<'t>) -> Vec<Named<'t>> {
    named.row.subcommands.iter().filter_map(|sub| find(named.table, format!("{}|{}", named.name, sub.name).as_bytes())).collect()
}

fn write_words(words: &[&str], reply: &mut Reply) {
    reply.set(words.len());
    words.iter().for_each(|word| reply.simple(word));
}

/// What `COMMAND INFO` says of a command, in words.
pub(crate) fn flag_words(row: &Command) -> Vec<&'static str> {
    let mut words = Vec::new();
    words.extend(is_writing(row).then_some("write"));
    words.extend(is_reading(row).then_some("readonly"));
    words.extend(FLAG_WORDS.iter().filter(|(bit, _)| row.flags & bit != 0).map(|(_, word)| *word));
    words
}

fn is_writing(row: &Command) -> bool {
    row.is_write() && row.flags & flag::READ_ONLY == 0
}

fn is_reading(row: &Command) -> bool {
    matches!(row.run, Run::Read(_)) || row.flags & flag::READ_ONLY != 0
}

/// First and last key and the step between keys, as `COMMAND` has shown them since before keys could be anywhere.
fn key_range(keys: Keys) -> (i64, i64, i64) {
    match keys {
        Keys::None | Keys::Any | Keys::CountedPairs { .. } => (0, 0, 0),
        Keys::Counted { first: 0, .. } | Keys::Found { first: 0, .. } => (0, 0, 0),
        Keys::Range { first, last, step } => (first as i64, last as i64, step as i64),
        Keys::Counted { first, .. } | Keys::Found { first, .. } => (first as i64, first as i64, 1),
    }
}

/// The categories a command is in.
pub(crate) fn categories(row: &Command) -> Vec<&'static str> {
    let of_group = match row.group {
        // What a container does is only told of its subcommands.
        _ if matches!(row.run, Run::Container) => "",
        Group::Bitmap => "bitmap",
        Group::Connection => "connection",
        Group::Generic => "keyspace",
        Group::Geo => "geo",
        Group::Hash => "hash",
        Group::Hyperloglog => "hyperloglog",
        Group::List => "list",
        Group::Pubsub => "pubsub",
        Group::Scripting => "scripting",
        Group::Server if matches!(row.keys, Keys::Any) => "keyspace",
        Group::Server | Group::Cluster | Group::Flux => "",
        Group::Set => "set",
        Group::SortedSet => "sortedset",
        Group::Stream => "stream",
        Group::String => "string",
        Group::Transactions => "transaction",
    };
    let is = |category: &str| match category {
        "read" => is_reading(row) && !matches!(row.run, Run::Script(_)),
        "write" => is_writing(row),
        "admin" => row.flags & (flag::ADMIN | flag::ADMIN_CATEGORY) != 0,
        "dangerous" => row.flags & (flag::ADMIN | flag::DANGEROUS) != 0,
        "fast" => row.flags & flag::FAST != 0,
        "slow" => row.flags & flag::FAST == 0,
        "blocking" => row.flags & flag::BLOCKING != 0,
        category => category == of_group,
    };
    CATEGORIES.into_iter().filter(|category| is(category)).collect()
}

/// Where a key specification begins, and how its keys are found from there.
#[derive(Clone, Copy)]
enum Spec {
    /// The key at a position, and those after it up to `last` (counted from the first, or negative from the end).
    Range { index: usize, last: i64, step: usize },
    /// A count at a position, keys behind it, `step` apart.
    Counted { index: usize, step: i64 },
    /// Behind a word, which is looked for from a position on; up to the last argument, of which every `part`th is keys (0: one key).
    Word { word: &'static str, from: i64, part: i64 },
    /// In no way that can be told in a few words.
    Unknown,
}

/// Commands some of whose keys stand behind a word: their specifications after that of a key with a place of its own, if there is one.
const WORDS: &[(&str, &[Spec])] = &[
    ("georadius", &[behind("STORE", 6, 0), behind("STOREDIST", 6, 0)]),
    ("georadiusbymember", &[behind("STORE", 5, 0), behind("STOREDIST", 5, 0)]),
    ("xread", &[behind("STREAMS", 1, 2)]),
    ("xreadgroup", &[behind("STREAMS", 4, 2)]),
];

const fn behind(word: &'static str, from: i64, part: i64) -> Spec {
    Spec::Word { word, from, part }
}

fn specs(full_name: &str, keys: Keys, count: usize) -> Vec<Spec> {
    let one = |index| Spec::Range { index, last: 0, step: 1 };
    if let (Keys::Found { first, .. }, Some((_, words))) = (keys, WORDS.iter().find(|(name, _)| *name == full_name)) {
        return (first > 0).then(|| one(first)).into_iter().chain(words.iter().copied()).collect();
    }
    match keys {
        Keys::None | Keys::Any => Vec::new(),
        Keys::Range { first, last, step } if count == 1 => {
            vec![Spec::Range { index: first, last: if last < 0 { last as i64 } else { last as i64 - first as i64 }, step }]
        }
        Keys::Range { first, last, step } => {
            let rest = if last < 0 { last as i64 } else { last as i64 - first as i64 - 1 };
            vec![one(first), Spec::Range { index: first + 1, last: rest, step }]
        }
        Keys::Counted { at, first: 0 } => vec![Spec::Counted { index: at, step: 1 }],
        Keys::Counted { at, first } => vec![one(first), Spec::Counted { index: at, step: 1 }],
        Keys::CountedPairs { at } => vec![Spec::Counted { index: at, step: 2 }],
        Keys::Found { first: 0, .. } => (0..count).map(|_| Spec::Unknown).collect(),
        Keys::Found { first, .. } => std::iter::once(one(first)).chain((1..count).map(|_| Spec::Unknown)).collect(),
    }
}

fn write_key_specs(named: &Named, reply: &mut Reply) {
    let marks = marks::of(named.name);
    let specs = specs(named.name, named.row.keys, marks.len());
    reply.set(specs.len());
    for (at, spec) in specs.iter().enumerate() {
        reply.map(3);
        reply.bulk(b"flags");
        write_words(&marks[at.min(marks.len() - 1)].words().collect::<Vec<_>>(), reply);
        reply.bulk(b"begin_search");
        match spec {
            Spec::Range { index, .. } | Spec::Counted { index, .. } => write_part(reply, "index", &[("index", *index as i64)]),
            Spec::Word { word, from, .. } => {
                reply.map(2);
                put(reply, "type", "keyword");
                reply.bulk(b"spec");
                reply.map(2);
                put(reply, "keyword", word);
                reply.bulk(b"startfrom");
                reply.int(*from);
            }
            Spec::Unknown => write_part(reply, "unknown", &[]),
        }
        reply.bulk(b"find_keys");
        match spec {
            Spec::Range { last, step, .. } => {
                write_part(reply, "range", &[("lastkey", *last), ("keystep", *step as i64), ("limit", 0)]);
            }
            Spec::Word { part, .. } => {
                let last = if *part == 0 { 0 } else { -1 };
                write_part(reply, "range", &[("lastkey", last), ("keystep", 1), ("limit", *part)]);
            }
            Spec::Counted { step, .. } => write_part(reply, "keynum", &[("keynumidx", 0), ("firstkey", 1), ("keystep", *step)]),
            Spec::Unknown => write_part(reply, "unknown", &[]),
        }
    }
}

fn write_part(reply: &mut Reply, kind: &str, numbers: &[(&str, i64)]) {
    reply.map(2);
    put(reply, "type", kind);
    reply.bulk(b"spec");
    reply.map(numbers.len());
    for (name, number) in numbers {
        reply.bulk(name.as_bytes());
        reply.int(*number);
    }
}

fn put(reply: &mut Reply, field: &str, value: &str) {
    reply.bulk(field.as_bytes());
    reply.bulk(value.as_bytes());
}

fn write_docs(named: &Named, reply: &mut Reply) {
    let row = named.row;
    let arguments = syntax::arguments(if row.subcommands.is_empty() { row.syntax } else { "" });
    let optional = [!row.complexity.is_empty(), !arguments.is_empty(), !row.subcommands.is_empty()];
    reply.bulk(named.name.as_bytes());
    reply.map(3 + optional.iter().filter(|has| **has).count());
    put(reply, "summary", row.summary);
    put(reply, "since", row.since);
    put(reply, "group", row.group.name());
    if !row.complexity.is_empty() {
        put(reply, "complexity", row.complexity);
    }
    if !arguments.is_empty() {
        reply.bulk(b"arguments");
        reply.array(arguments.len());
        let mut key_spec = 0;
        arguments.iter().for_each(|argument| argument.write(reply, &mut key_spec));
    }
    if !row.subcommands.is_empty() {
        reply.bulk(b"subcommands");
        let subs = subcommands(named);
        reply.map(subs.len());
        subs.iter().for_each(|sub| write_docs(sub, reply));
    }
}

/// A command given as arguments, with the places of its keys.
fn keys_of<'t>(table: &'t Table, args: Args<'_>) -> Result<(&'static Command, &'t str, table::Positions), Error> {
    let invalid = || Error::new("ERR Invalid command specified");
    let (number, command) = table.find(args.at(0)).ok_or_else(invalid)?;
    let leaf = leaf(command, args).map_err(|_| invalid())?;
    if matches!(leaf.keys, Keys::None | Keys::Any) {
        return Err(Error::new("ERR The command has no key arguments"));
    }
    if !leaf.takes(args.len() - 1) {
        return Err(Error::new("ERR Invalid number of arguments specified for command"));
    }
    let positions = leaf.key_positions(args);
    let may_have_none = matches!(leaf.group, Group::Scripting);
    if positions.is_empty() && !may_have_none || has_too_few(leaf.keys, args) {
        return Err(Error::new("ERR Invalid arguments specified for command"));
    }
    Ok((leaf, table.full_name(table::number_of(number, command, leaf).into()), positions))
}

/// Whether fewer keys are there than their count says, or the count is none.
fn has_too_few(keys: Keys, args: Args<'_>) -> bool {
    let (at, step) = match keys {
        Keys::Counted { at, .. } => (at, 1),
        Keys::CountedPairs { at } => (at, 2),
        _ => return false,
    };
    table::count_at(args, at).is_none_or(|count| count > (args.len() - at - 1) / step)
}

/// `COMMAND GETKEYS`
pub(crate) fn getkeys(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let args = args.from(2);
    let (_, _, positions) = keys_of(&session.instance.table, args)?;
    reply.array(positions.len());
    positions.iter().for_each(|at| reply.bulk(args.at(*at)));
    Ok(())
}

/// `COMMAND GETKEYSANDFLAGS`
pub(crate) fn getkeysandflags(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let args = args.from(2);
    let (command, name, _) = keys_of(&session.instance.table, args)?;
    let keys = marks::of_each(command, marks::of(name), args);
    reply.array(keys.len());
    for (at, mark) in keys {
        reply.array(2);
        reply.bulk(args.at(at));
        write_words(&mark.words().collect::<Vec<_>>(), reply);
    }
    Ok(())
}
