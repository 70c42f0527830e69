//! Whether keys are there: `DEL`, `EXISTS`, `TOUCH`, `TYPE`.

use crate::commands::Outcome;
use crate::engine::keys::{Read, Write};
use crate::engine::notify::Class;
use crate::resp::{Args, Reply};

pub(crate) fn del(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let mut removed = 0;
    for key in args.from(1).iter() {
        if keys.remove(key) {
            keys.notify(Class::Generic, "del", key);
            removed += 1;
        }
    }
    reply.count(removed);
    Ok(())
}

pub(crate) fn exists(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    // A key named twice counts as two, and clients rely on it.
    reply.count(args.from(1).iter().filter(|key| keys.look(key).is_some()).count());
    Ok(())
}

pub(crate) fn touch(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    reply.count(args.from(1).iter().filter(|key| keys.exists(key)).count());
    Ok(())
}

pub(crate) fn kind(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    reply.simple(keys.look(args.at(1)).map_or("none", |entry| entry.value().kind().name()));
    Ok(())
}
