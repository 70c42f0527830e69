//! The facts of the command table, compared with those of a real redis-server.

use std::collections::{BTreeMap, BTreeSet};

use crate::process::{Connection, Process, Reply};

/// What a server says of a command.
#[derive(Debug, Default, PartialEq, Eq)]
struct Facts {
    arity: String,
    flags: BTreeSet<String>,
    /// The first key, the last, and the step between.
    keys: Vec<String>,
    categories: BTreeSet<String>,
    since: String,
    group: String,
}

/// Facts that differ from those of Redis 7.0, on purpose: the command, the fact, and why.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    ("asking", "categories", OTHER_CATEGORY),
    ("bgrewriteaof", "flags", NO_REPLICATION),
    ("bgsave", "flags", NO_REPLICATION),
    ("client|pause", "since", "later documentation corrects it"),
    ("command", "categories", OTHER_CATEGORY),
    ("command|*", "categories", OTHER_CATEGORY),
    ("function|delete", "flags", OF_SCRIPTS),
    ("function|delete", "categories", OF_SCRIPTS),
    ("function|flush", "flags", OF_SCRIPTS),
    ("function|flush", "categories", OF_SCRIPTS),
    ("function|load", "flags", OF_SCRIPTS),
    ("function|load", "categories", OF_SCRIPTS),
    ("lastsave", "flags", ADMIN),
    ("pubsub|help", "categories", OTHER_CATEGORY),
    ("readonly", "categories", OTHER_CATEGORY),
    ("readwrite", "categories", OTHER_CATEGORY),
    ("replicaof", "flags", NO_REPLICATION),
    ("role", "flags", ADMIN),
    ("save", "flags", NO_REPLICATION),
    ("slaveof", "flags", NO_REPLICATION),
    ("sort", "categories", OTHER_CATEGORY),
    ("sort_ro", "categories", OTHER_CATEGORY),
    ("wait", "flags", "blocking since Redis 7.2"),
    ("wait", "categories", "blocking since Redis 7.2"),
    ("zrank", "arity", "WITHSCORE came with Redis 7.2"),
    ("zrevrank", "arity", "WITHSCORE came with Redis 7.2"),
];

const OTHER_CATEGORY: &str = "a row's category is its group's";
const OF_SCRIPTS: &str = "a row says that it writes where its function takes the keys to write";
const NO_REPLICATION: &str = "no_async_loading is about replicas";
const ADMIN: &str = "a row that is in the category @admin has the flag, too";

#[test]
fn rows_of_newer_commands_say_what_newer_servers_say() {
    let ours = facts(&mut Process::flux(&[]).connect());
    let newer = |our: &Facts| ["8.", "valkey"].iter().any(|version| our.since.starts_with(version));
    let (mut wrong, mut count) = (Vec::new(), 0);
    for program in ["redis-server", "valkey-server"] {
        let Some(server) = Process::newer(program) else { return };
        let theirs = facts(&mut server.connect());
        for (name, our) in ours.iter().filter(|(_, our)| newer(our)) {
            let Some(their) = theirs.get(name) else { continue };
            count += 1;
            // Since when is each server's own.
            let facts = our.each().into_iter().zip(their.each()).filter(|((fact, _), _)| *fact != "since");
            let differing = facts.filter(|((_, our), (_, their))| our != their);
            wrong.extend(differing.map(|((fact, our), (_, their))| format!("{name}: {fact} is {our}, in {program} {their}")));
        }
    }
    assert!(wrong.is_empty(), "{} facts are wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count >= 8, "{count}");
}

#[test]
fn rows_say_what_redis_says() {
    let Some(redis) = Process::redis(&[]) else { return };
    let theirs = facts(&mut redis.connect());
    let ours = facts(&mut Process::flux(&[]).connect());
    let mut wrong = Vec::new();
    for (name, our) in &ours {
        let Some(their) = theirs.get(name) else {
            let is_newer = ["7.2", "7.4", "8.", "valkey", "flux"].iter().any(|version| our.since.starts_with(version));
            if !is_newer {
                wrong.push(format!("{name}: Redis 7.0 does not have it, so it cannot be there since {}", our.since));
            }
            continue;
        };
        for ((fact, our), (_, their)) in our.each().into_iter().zip(their.each()) {
            if our != their && !is_meant(name, fact) {
                wrong.push(format!("{name}: {fact} is {our}, in Redis {their}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} facts are wrong:\n{}", wrong.len(), wrong.join("\n"));
    let missing: Vec<_> = theirs.keys().filter(|name| !ours.contains_key(*name)).cloned().collect();
    println!("{} commands and subcommands; of Redis' {} these are missing: {}", ours.len(), theirs.len(), missing.join(" "));
}

#[test]
fn every_row_says_what_it_does() {
    for row in flux::node::table().rows().flat_map(|row| std::iter::once(row).chain(row.subcommands)) {
        assert!(row.summary.ends_with('.'), "{} has no summary in a sentence", row.name);
        assert!(!row.since.is_empty(), "{} does not say since when it is there", row.name);
    }
}

/// Whether a fact differs on purpose.
fn is_meant(name: &str, fact: &str) -> bool {
    DIFFERENCES.iter().any(|(differs, what, _)| {
        let is_named = match differs.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => *differs == name,
        };
        is_named && *what == fact
    })
}

impl Facts {
    fn each(&self) -> Vec<(&'static str, String)> {
        let words = |words: &BTreeSet<String>| words.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        vec![
            ("arity", self.arity.clone()),
            ("flags", words(&self.flags)),
            ("keys", self.keys.join(" ")),
            ("categories", words(&self.categories)),
            ("since", self.since.clone()),
            ("group", self.group.clone()),
        ]
    }
}

/// All commands and subcommands of a server.
fn facts(server: &mut Connection) -> BTreeMap<String, Facts> {
    let mut facts = BTreeMap::new();
    for command in many(server.call(&["COMMAND"]).expect("the server answers")) {
        add_info(&mut facts, many(command));
    }
    add_docs(&mut facts, many(server.call(&["COMMAND", "DOCS"]).expect("the server answers")));
    facts
}

fn add_info(facts: &mut BTreeMap<String, Facts>, row: Vec<Reply>) {
    let name = text(&row[0]);
    let fact = facts.entry(name).or_default();
    fact.arity = text(&row[1]);
    fact.flags = words(&row[2]);
    fact.keys = row[3..6].iter().map(text).collect();
    fact.categories = words(&row[6]);
    for sub in many(row[9].clone()) {
        add_info(facts, many(sub));
    }
}

fn add_docs(facts: &mut BTreeMap<String, Facts>, docs: Vec<Reply>) {
    for pair in docs.chunks(2) {
        let name = text(&pair[0]);
        for field in many(pair[1].clone()).chunks(2) {
            let fact = facts.entry(name.clone()).or_default();
            match text(&field[0]).as_str() {
                "since" => fact.since = text(&field[1]),
                "group" => fact.group = text(&field[1]),
                "subcommands" => add_docs(facts, many(field[1].clone())),
                _ => {}
            }
        }
    }
}

fn many(reply: Reply) -> Vec<Reply> {
    match reply {
        Reply::Many(_, items) => items,
        other => panic!("{other:?} is no array"),
    }
}

fn words(reply: &Reply) -> BTreeSet<String> {
    many(reply.clone()).iter().map(text).collect()
}

fn text(reply: &Reply) -> String {
    match reply {
        Reply::Line(line) => line[1..].to_owned(),
        Reply::Bulk(_, bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Reply::Many(..) => panic!("{reply:?} is no text"),
    }
}
