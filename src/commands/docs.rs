//! docs/commands.md and schemas/commands.json, made from the command table.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::commands::server::command;
use crate::commands::table::{Arity, Command, Group, Keys, Table};

const HEAD: &str = "# Commands

This page is made from the command table; `FLUX_BLESS=1 cargo test docs` writes it anew. The same facts for programs are in
[schemas/commands.json](../schemas/commands.json), and a running server gives them with `COMMAND INFO` and `COMMAND DOCS`.

Commands behave as in Redis 7.4: same replies, same error texts. *Since* is the version of Redis a command came with.
";

/// The page for people.
pub fn markdown(table: &Table) -> String {
    let mut page = HEAD.to_owned();
    for group in Group::ALL {
        let commands: Vec<_> = table.rows().filter(|row| row.group == *group).collect();
        if commands.is_empty() {
            continue;
        }
        let _ = write!(page, "\n## {}\n\n| command | | since | cost |\n|---|---|---|---|\n", title(*group));
        for command in commands {
            row(&mut page, command.name, command);
            for sub in command.subcommands {
                row(&mut page, &format!("{} {}", command.name, sub.name), sub);
            }
        }
    }
    page
}

fn title(group: Group) -> String {
    let name = group.name().replace('-', " ");
    name[..1].to_uppercase() + &name[1..]
}

fn row(page: &mut String, name: &str, command: &Command) {
    let syntax = if command.subcommands.is_empty() { command.syntax } else { "…" };
    let call = format!("{} {syntax}", name.to_uppercase());
    let escaped = |text: &str| text.trim_end().replace('|', "\\|");
    let _ = writeln!(
        page,
        "| `{}` | {} | {} | {} |",
        escaped(&call),
        escaped(command.summary),
        command.since,
        escaped(command.complexity)
    );
}

/// The facts for programs.
pub fn json(table: &Table) -> String {
    let commands: Vec<Value> = table.rows().map(|row| value(row.name, row)).collect();
    format!("{:#}\n", json!({ "commands": commands }))
}

fn value(name: &str, command: &Command) -> Value {
    let (least, most) = match command.arity {
        Arity::Exactly(count) => (count, Some(count)),
        Arity::AtLeast(count) => (count, None),
    };
    let subcommands: Vec<Value> = command.subcommands.iter().map(|sub| value(&format!("{name} {}", sub.name), sub)).collect();
    json!({
        "name": name,
        "group": command.group.name(),
        "summary": command.summary,
        "syntax": command.syntax,
        "since": command.since,
        "complexity": command.complexity,
        "arguments_min": least,
        "arguments_max": most,
        "flags": command::flag_words(command),
        "categories": command::categories(command),
        "keys": keys(command.keys),
        "subcommands": subcommands,
    })
}

/// Where the keys are among the arguments; the command's name is argument 0.
fn keys(keys: Keys) -> Value {
    match keys {
        Keys::None => json!("none"),
        Keys::Any => json!("any"),
        Keys::Range { first, last, step } => json!({ "first": first, "last": last, "step": step }),
        Keys::Counted { at, first: 0 } => json!({ "count_at": at }),
        Keys::Counted { at, first } => json!({ "also_at": first, "count_at": at }),
        Keys::CountedPairs { at } => json!({ "count_at": at, "step": 2 }),
        Keys::Found { .. } => json!("found by COMMAND GETKEYS"),
    }
}
