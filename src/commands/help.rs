//! `… HELP`: a container's subcommands with their syntax, from the table.

use crate::commands::Outcome;
use crate::commands::session::Session;
use crate::resp::Reply;

/// Writes the lines of a container's `HELP`. It was found by its name, which is a row's.
pub(crate) fn subcommands(session: &Session, container: &str, reply: &mut Reply) -> Outcome {
    let (_, command) = session.instance.table.find(container.as_bytes()).expect("its subcommand was found through it");
    let name = command.name.to_uppercase();
    let mut lines = vec![format!("{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:")];
    for sub in command.subcommands {
        lines.push(format!("{} {}", sub.name.to_uppercase(), sub.syntax).trim_end().to_owned());
        lines.push(format!("    {}", sub.summary));
    }
    reply.array(lines.len());
    lines.iter().for_each(|line| reply.simple(line));
    Ok(())
}
