//! What clients ask about replication and users, where there is one server with one user.

use crate::commands::Outcome;
use crate::commands::server::command;
use crate::commands::session::Session;
use crate::engine::error::Error;
use crate::resp::{Args, Reply};

/// `REPLICAOF`, `SLAVEOF`
pub(crate) fn replicaof(_: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    if !(args.is(1, "no") && args.is(2, "one")) {
        return Err(Error::new("ERR replication is not available in this version of flux"));
    }
    reply.ok();
    Ok(())
}

/// `ROLE`
pub(crate) fn role(_: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    reply.array(3);
    reply.bulk(b"master");
    reply.int(0);
    reply.array(0);
    Ok(())
}

/// `ACL WHOAMI`
pub(crate) fn acl_whoami(_: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    reply.bulk(b"default");
    Ok(())
}

/// `ACL USERS`
pub(crate) fn acl_users(_: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    reply.array(1);
    reply.bulk(b"default");
    Ok(())
}

/// `ACL LIST`
pub(crate) fn acl_list(session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    let password = if session.instance.password().is_some() { "(hidden)" } else { "nopass" };
    reply.array(1);
    reply.bulk(format!("user default on {password} sanitize-payload ~* &* +@all").as_bytes());
    Ok(())
}

/// `ACL CAT`
pub(crate) fn acl_cat(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let wanted = match args.len() {
        2 => {
            reply.array(command::CATEGORIES.len());
            command::CATEGORIES.iter().for_each(|category| reply.bulk(category.as_bytes()));
            return Ok(());
        }
        3 => String::from_utf8_lossy(args.at(2)).to_lowercase(),
        _ => return Err(crate::commands::args::wrong_subcommand(args)),
    };
    if !command::CATEGORIES.contains(&wanted.as_str()) {
        return Err(Error::new(format!("ERR Unknown category '{}'", String::from_utf8_lossy(args.at(2)))));
    }
    let names = command::names(&session.instance.table, |row, _| command::categories(row).contains(&wanted.as_str()));
    reply.array(names.len());
    names.iter().for_each(|number| reply.bulk(session.instance.table.full_name(*number).as_bytes()));
    Ok(())
}
