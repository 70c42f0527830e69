//! `… HELP`: a container's subcommands with their syntax, from the table.

use crate::commands::Command;
use crate::resp::Reply;

/// Writes the lines of a container's `HELP`.
pub fn subcommands(command: &Command, reply: &mut Reply) {
    let name = command.name.to_uppercase();
    let mut lines = vec![format!("{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:")];
    for sub in command.subcommands {
        lines.push(format!("{} {}", sub.name.to_uppercase(), sub.syntax).trim_end().to_owned());
        lines.push(format!("    {}", sub.summary));
    }
    reply.array(lines.len());
    lines.iter().for_each(|line| reply.simple(line));
}
