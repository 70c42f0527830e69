//! `XDELEX` and `XACKDEL`: entries are removed with regard to the groups that have yet to read or to acknowledge them.

use crate::commands::Outcome;
use crate::commands::args::Rest;
use crate::commands::stream::parse;
use crate::engine::error::{self, Error};
use crate::engine::keys::Write;
use crate::engine::notify::Class;
use crate::engine::types::stream::id::Id;
use crate::engine::types::stream::{Removal, Removed, Stream};
use crate::engine::types::string::canonical_int;
use crate::resp::{Args, Reply};

const REMOVALS: [(&str, Removal); 3] =
    [("keepref", Removal::KeepsReferences), ("delref", Removal::DropsReferences), ("acked", Removal::OnlyAcknowledged)];

pub(crate) fn xdelex(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (removal, ids) = asked(args, 2)?;
    let Some(mut edit) = keys.edit::<Stream>(args.at(1))? else { return answer(keys, args.at(1), &none(&ids), reply) };
    let removed: Vec<Removed> = ids.iter().map(|id| edit.value.remove(*id, removal, &mut edit.log)).collect();
    drop(edit);
    answer(keys, args.at(1), &removed, reply)
}

pub(crate) fn xackdel(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (removal, ids) = asked(args, 3)?;
    let Some(mut edit) = keys.edit::<Stream>(args.at(1))? else { return answer(keys, args.at(1), &none(&ids), reply) };
    let mut removed = Vec::with_capacity(ids.len());
    for id in ids {
        let mut group = edit.value.open_group(args.at(2));
        let was_pending = group.as_mut().is_some_and(|group| group.acknowledge(id, &mut edit.log));
        removed.push(if was_pending { edit.value.remove(id, removal, &mut edit.log) } else { Removed::NoEntry });
    }
    drop(edit);
    answer(keys, args.at(1), &removed, reply)
}

/// Reads what becomes of references, and `IDS numids id [id ...]`, in either order.
fn asked(args: Args<'_>, from: usize) -> Result<(Removal, Vec<Id>), Error> {
    let (mut removal, mut ids, mut rest) = (None, None, Rest::of(args, from));
    while rest.left() > 0 {
        if removal.is_none()
            && let Some(given) = rest.one_of(&REMOVALS)
        {
            removal = Some(given);
        } else if ids.is_none()
            && let Some(count) = rest.value("ids")
        {
            let count = canonical_int(count).and_then(|count| usize::try_from(count).ok()).filter(|&count| count > 0);
            let given = rest.take_many(count.ok_or(error::NUMIDS_NOT_POSITIVE)?).ok_or(error::NUMIDS_MISMATCH)?;
            ids = Some(parse::ids(given, 0)?);
        } else {
            return Err(error::SYNTAX);
        }
    }
    Ok((removal.unwrap_or(Removal::KeepsReferences), ids.ok_or(error::SYNTAX)?))
}

fn none(ids: &[Id]) -> Vec<Removed> {
    vec![Removed::NoEntry; ids.len()]
}

fn answer(keys: &mut Write<'_>, key: &[u8], removed: &[Removed], reply: &mut Reply) -> Outcome {
    if removed.contains(&Removed::Yes) {
        keys.notify(Class::Stream, "xdel", key);
    }
    reply.array(removed.len());
    removed.iter().for_each(|removed| reply.int(*removed as i64));
    Ok(())
}
