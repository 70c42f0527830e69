//! `CLIENT TRACKING` and its like: a client says which of the keys it read it wants to be told of. What that means is in `engine::tracking`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::commands::Outcome;
use crate::commands::args::{Rest, parse_int};
use crate::commands::session::Session;
use crate::commands::tracking::{Choice, Tracks};
use crate::engine::blob::Blob;
use crate::engine::error::{self, Error};
use crate::engine::tracking::Tracker;
use crate::resp::{Args, Reply};

/// `CLIENT TRACKING`
pub(crate) fn tracking(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (mut redirect, mut prefixes) = (None, Vec::new());
    let (mut is_broadcast, mut is_in, mut is_out, mut skips_own) = (false, false, false, false);
    let mut rest = Rest::of(args, 3);
    loop {
        if let Some(id) = rest.value("redirect") {
            if redirect.is_some() {
                return Err(Error::new("ERR A client can only redirect to a single other client"));
            }
            let id = parse_int(id)?;
            let target = u64::try_from(id).ok().and_then(|id| session.instance.clients.get(id));
            let target = target.ok_or(Error::new("ERR The client ID you want redirect to does not exist"))?;
            redirect = Some((target.id, Arc::clone(&target.mailbox)));
        } else if let Some(prefix) = rest.value("prefix") {
            prefixes.push(Blob::from(prefix));
        } else if rest.word("bcast") {
            is_broadcast = true;
        } else if rest.word("optin") {
            is_in = true;
        } else if rest.word("optout") {
            is_out = true;
        } else if rest.word("noloop") {
            skips_own = true;
        } else {
            break rest.end()?;
        }
    }
    if args.is(2, "off") {
        session.stop_tracking();
        reply.ok();
        return Ok(());
    }
    if !args.is(2, "on") {
        return Err(error::SYNTAX);
    }
    if !is_broadcast && !prefixes.is_empty() {
        return Err(Error::new("ERR PREFIX option requires BCAST mode to be enabled"));
    }
    let before = session.tracks.as_ref();
    if before.is_some_and(|before| before.tracker.is_broadcast != is_broadcast) {
        return Err(Error::new(
            "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with a different mode.",
        ));
    }
    if is_broadcast && (is_in || is_out) {
        return Err(Error::new("ERR OPTIN and OPTOUT are not compatible with BCAST"));
    }
    if is_in && is_out {
        return Err(Error::new("ERR You can't specify both OPTIN mode and OPTOUT mode"));
    }
    let switched = |before: &Tracks| is_in && before.choice == Choice::Unnamed || is_out && before.choice == Choice::Named;
    if before.is_some_and(|before| switched(before)) {
        return Err(Error::new(
            "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with a different mode.",
        ));
    }
    let mut all = before.map(|before| before.tracker.prefixes.clone()).unwrap_or_default();
    check_prefixes(&all, &prefixes)?;
    let listens_to_all = is_broadcast && prefixes.is_empty();
    all.extend(prefixes);
    if listens_to_all {
        all.insert(Blob::from(&b""[..]));
    }
    let is_chosen = before.is_some_and(|before| before.is_chosen);
    let (id, mailbox) = (session.client.id, Arc::clone(&session.client.mailbox));
    let tracker = Tracker { id, mailbox, redirect, skips_own, is_broadcast, prefixes: all, is_broken: AtomicBool::new(false) };
    let tracker = Arc::new(tracker);
    session.instance.engine.tracking().start(Arc::clone(&tracker));
    *session.client.tracker.lock() = Some(Arc::clone(&tracker));
    let choice = if is_in {
        Choice::Named
    } else if is_out {
        Choice::Unnamed
    } else {
        Choice::All
    };
    session.tracks = Some(Box::new(Tracks { tracker, choice, is_chosen }));
    reply.ok();
    Ok(())
}

/// Fails where one of a client's prefixes begins with another one. Those it has do not.
fn check_prefixes(has: &BTreeSet<Blob>, given: &[Blob]) -> Result<(), Error> {
    let overlaps = |one: &Blob, other: &Blob| one.starts_with(other) || other.starts_with(one);
    let shown = |prefix: &Blob| String::from_utf8_lossy(prefix).into_owned();
    // Among names in order, those that begin with one follow it at once.
    for prefix in given {
        let after = has.range(prefix.clone()..).next();
        let before = has.range(..prefix.clone()).next_back();
        if let Some(other) = [before, after].into_iter().flatten().find(|other| overlaps(prefix, other)) {
            return Err(Error::new(format!(
                "ERR Prefix '{}' overlaps with an existing prefix '{}'. Prefixes for a single client must not overlap.",
                shown(prefix),
                shown(other)
            )));
        }
    }
    let mut sorted: Vec<(&Blob, usize)> = given.iter().zip(0..).collect();
    sorted.sort_unstable();
    let Some(pair) = sorted.windows(2).find(|pair| overlaps(pair[0].0, pair[1].0)) else { return Ok(()) };
    let (first, second) = if pair[0].1 < pair[1].1 { (pair[0].0, pair[1].0) } else { (pair[1].0, pair[0].0) };
    Err(Error::new(format!(
        "ERR Prefix '{}' overlaps with another provided prefix '{}'. Prefixes for a single client must not overlap.",
        shown(first),
        shown(second)
    )))
}

/// `CLIENT CACHING`
pub(crate) fn caching(session: &mut Session, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let Some(tracks) = &mut session.tracks else {
        return Err(Error::new(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
        ));
    };
    let (wanted, refusal) = if args.is(2, "yes") {
        (Choice::Named, "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.")
    } else if args.is(2, "no") {
        (Choice::Unnamed, "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.")
    } else {
        return Err(error::SYNTAX);
    };
    if tracks.choice != wanted {
        return Err(Error::new(refusal));
    }
    tracks.is_chosen = true;
    reply.ok();
    Ok(())
}

/// `CLIENT GETREDIR`
pub(crate) fn getredir(session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    reply.int(redirection(session));
    Ok(())
}

/// The number of whoever is told instead of this client, 0 for nobody, -1 where it is not told itself.
fn redirection(session: &Session) -> i64 {
    session.tracks.as_ref().map_or(-1, |tracks| Tracks::shown(&tracks.tracker).1)
}

/// `CLIENT TRACKINGINFO`
pub(crate) fn trackinginfo(session: &mut Session, _: Args<'_>, reply: &mut Reply) -> Outcome {
    let mut words = Vec::new();
    match &session.tracks {
        None => words.push("off"),
        Some(tracks) => {
            words.push("on");
            let chosen = [
                (tracks.tracker.is_broadcast, "bcast"),
                (tracks.choice == Choice::Named, "optin"),
                (tracks.choice == Choice::Named && tracks.is_chosen, "caching-yes"),
                (tracks.choice == Choice::Unnamed, "optout"),
                (tracks.choice == Choice::Unnamed && tracks.is_chosen, "caching-no"),
                (tracks.tracker.skips_own, "noloop"),
                (tracks.tracker.has_broken_redirect(), "broken_redirect"),
            ];
            words.extend(chosen.iter().filter(|(is_so, _)| *is_so).map(|(_, word)| *word));
        }
    }
    reply.map(3);
    reply.bulk(b"flags");
    reply.set(words.len());
    words.iter().for_each(|word| reply.bulk(word.as_bytes()));
    reply.bulk(b"redirect");
    reply.int(redirection(session));
    reply.bulk(b"prefixes");
    let prefixes = session.tracks.as_ref().map(|tracks| &tracks.tracker.prefixes);
    reply.array(prefixes.map_or(0, BTreeSet::len));
    prefixes.into_iter().flatten().for_each(|prefix| reply.bulk(prefix));
    Ok(())
}
