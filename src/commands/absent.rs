//! Commands that Redis 7 has and flux does not: whoever sends one did not mistype it, and is told what is missing. They are in no table,
//! so that `COMMAND` and the documentation name only what is there.

use crate::engine::error::Error;
use crate::resp::Args;

/// What is missing, and the commands it takes away: `name` or `container|subcommand`, in lower case.
pub(crate) const ABSENT: &[(&str, &[&str])] = &[
    ("the debugging of scripts is", &["script|debug"]),
    ("the use of serialized values is", &["dump", "restore", "restore-asking", "migrate", "function|dump", "function|restore"]),
    (
        "the management of users (ACL) is",
        &["acl|setuser", "acl|deluser", "acl|load", "acl|save", "acl|log", "acl|dryrun", "acl|genpass"],
    ),
    ("replication is", &["psync", "sync", "replconf", "failover"]),
    ("the loading of modules is", &["module|load", "module|loadex", "module|unload"]),
];

/// The error for a command that only Redis has; None where Redis has none of this name either.
pub(crate) fn refusal(args: Args<'_>) -> Option<Error> {
    let is_meant = |name: &&str| match name.split_once('|') {
        Some((container, subcommand)) => args.is(0, container) && args.is(1, subcommand),
        None => args.is(0, name),
    };
    let (what, _) = ABSENT.iter().find(|(_, names)| names.iter().any(is_meant))?;
    Some(Error::new(format!("ERR {what} not available in this version of flux")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::Table;
    use crate::commands::session::leaf;
    use crate::resp::OwnedArgs;

    #[test]
    fn no_command_that_is_there_is_said_to_be_absent() {
        for name in ABSENT.iter().flat_map(|(_, names)| names.iter()) {
            let args = OwnedArgs::new(name.split('|').map(str::as_bytes));
            let found = Table::keyspace().find(args.args().at(0));
            assert!(found.is_none_or(|(_, command)| leaf(command, args.args()).is_err()), "{name} is there");
        }
    }
}
