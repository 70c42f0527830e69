//! docs/compatibility.md, made from the command table: what is there of Redis and of what came after it, what differs, and what is not there.

use std::fmt::Write;

use crate::commands::absent;
use crate::commands::table::Table;

const HEAD: &str = "# Compatibility

This page is made from the command table; `FLUX_BLESS=1 cargo test docs` writes it anew. flux claims to be Redis 7.4, unless `claimed-version`
says otherwise, and commands do what they do there. All of them are in [commands.md](commands.md); how the server differs is in
[server.md](server.md#where-it-differs-from-redis).
";

/// What commands do otherwise than elsewhere: the commands, and how.
const DIFFERENCES: &[(&str, &str)] = &[
    ("bitcount", "A start without an end is a syntax error, as in Redis; Valkey takes it."),
    ("blpop brpop blmpop bzpopmin bzpopmax bzmpop", "Who waits at several keys gets what came first, as in Redis before 7.2."),
    ("hgetdel hgetex", "Errors have the words of Redis 8, where Valkey has others."),
    (
        "hsetex",
        "Takes the conditions of Redis 8 (`FNX`, `FXX`) and those of Valkey (`NX`, `XX`). Errors have the words of Redis.",
    ),
    ("hrandfield srandmember zrandmember", "A reply of repeated elements has 64 MiB at most; Redis has no bound."),
    ("msetex", "Errors have the words of Redis 8.4, where Valkey has others."),
    ("xadd xtrim", "`KEEPREF`, `DELREF` and `ACKED` of Redis 8.2 are not there: `XDELEX` and `XACKDEL` are."),
    ("xreadgroup", "`CLAIM` of Redis 8.4 is not there: `XAUTOCLAIM` is."),
    ("zscan", "Takes `NOSCORES`, as Valkey; Redis 8.0 does not."),
];

/// What older commands take since then: the command, since when, and what.
const EXTENDED: &[(&str, &str, &str)] = &[
    ("BITOP", "Redis 8.2.0", "Also takes `DIFF`, `DIFF1`, `ANDOR` and `ONE`."),
    ("SET", "Redis 8.4.0", "Also takes `IFEQ`, `IFNE`, `IFDEQ` and `IFDNE`; Valkey has the first of them."),
];

/// The page for people.
pub fn markdown(table: &Table) -> String {
    let mut page = HEAD.to_owned();
    supported(&mut page, table);
    differing(&mut page, table);
    missing(&mut page);
    page
}

fn supported(page: &mut String, table: &Table) {
    let all = || table.rows().flat_map(|row| std::iter::once(row).chain(row.subcommands));
    let is_newer = |since: &str| since.starts_with("8.") || since.starts_with("valkey");
    let is_ours = |since: &str| since.starts_with("flux");
    let redis = all().filter(|command| !is_newer(command.since) && !is_ours(command.since)).count();
    let _ = write!(page, "\n## Supported\n\n{redis} commands and subcommands of Redis up to 7.4, and of what came later:\n\n");
    page.push_str("| command | since | |\n|---|---|---|\n");
    for command in all().filter(|command| is_newer(command.since)) {
        let _ = writeln!(page, "| `{}` | {} | {} |", command.name.to_uppercase(), since(command.since), command.summary);
    }
    for (command, version, options) in EXTENDED {
        let _ = writeln!(page, "| `{command}` | {version} | {options} |");
    }
}

fn since(version: &str) -> String {
    match version.strip_prefix("valkey ") {
        Some(version) => format!("Valkey {version}"),
        None => format!("Redis {version}"),
    }
}

fn differing(page: &mut String, table: &Table) {
    page.push_str("\n## Differs\n\n| command | how |\n|---|---|\n");
    for (names, how) in DIFFERENCES {
        let names = names.split(' ').inspect(|name| assert!(table.find(name.as_bytes()).is_some(), "{name} is a command"));
        let names: Vec<String> = names.map(|name| format!("`{}`", name.to_uppercase())).collect();
        let _ = writeln!(page, "| {} | {how} |", names.join(", "));
    }
}

fn missing(page: &mut String) {
    page.push_str("\n## Not there\n\nWho sends one of these is told so.\n\n| command | why |\n|---|---|\n");
    for (what, names) in absent::ABSENT {
        let names: Vec<String> = names.iter().map(|name| format!("`{}`", name.replace('|', " ").to_uppercase())).collect();
        let _ = writeln!(page, "| {} | {what} not available in this version |", names.join(", "));
    }
}
