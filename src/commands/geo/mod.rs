//! Commands of Redis' `geo` group. A geo index is a sorted set whose scores are places, see `engine::types::geohash`.

mod place;
mod search;

use smallvec::SmallVec;

use crate::commands::args::Rest;
use crate::commands::geo::place::{metres, place, place_of, show_distance, show_place};
use crate::commands::table::Group::Geo as GROUP;
use crate::commands::table::{Keys, Positions};
use crate::commands::zset::add::{self, Options};
use crate::commands::{Command, Outcome};
use crate::engine::error;
use crate::engine::keys::{Read, Write};
use crate::engine::types::zset::Zset;
use crate::resp::{Args, Reply};

const RADIUS_SYNTAX: &str = "key longitude latitude radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC] [STORE key | STOREDIST key]";
const RADIUS_RO_SYNTAX: &str =
    "key longitude latitude radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC]";
const MEMBER_SYNTAX: &str = "key member radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC] [STORE key | STOREDIST key]";
const MEMBER_RO_SYNTAX: &str =
    "key member radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC]";
const SEARCH_SYNTAX: &str = "key <FROMMEMBER member | FROMLONLAT longitude latitude> <BYRADIUS radius <M | KM | FT | MI> | BYBOX width height <M | KM | FT | MI>> [ASC | DESC] [COUNT count [ANY]] [WITHCOORD] [WITHDIST] [WITHHASH]";
const SEARCH_STORE_SYNTAX: &str = "destination source <FROMMEMBER member | FROMLONLAT longitude latitude> <BYRADIUS radius <M | KM | FT | MI> | BYBOX width height <M | KM | FT | MI>> [ASC | DESC] [COUNT count [ANY]] [STOREDIST]";
const SEARCH_COST: &str = "O(N+log(M)), N members in the cells around the area, M in all";

/// The group's rows.
pub(crate) const COMMANDS: &[Command] = &[
    Command::write(GROUP, "geoadd", geoadd).args_min(4).key().grows().since("3.2.0", "O(M*log(N)), M members to add").doc(
        "key [NX | XX] [CH] longitude latitude member [longitude latitude member ...]",
        "Gives members places, adding those that are missing.",
    ),
    Command::read(GROUP, "geopos", geopos)
        .args_min(1)
        .key()
        .since("3.2.0", "O(M), M members asked for")
        .doc("key [member [member ...]]", "Returns members' longitudes and latitudes."),
    Command::read(GROUP, "geodist", geodist)
        .args_min(3)
        .key()
        .since("3.2.0", "O(1)")
        .doc("key member1 member2 [M | KM | FT | MI]", "Returns the distance between two members."),
    Command::read(GROUP, "geohash", geohash)
        .args_min(1)
        .key()
        .since("3.2.0", "O(M), M members asked for")
        .doc("key [member [member ...]]", "Returns members' places as geohashes."),
    Command::read(GROUP, "geosearch", search::geosearch)
        .args_min(6)
        .key()
        .since("6.2.0", SEARCH_COST)
        .doc(SEARCH_SYNTAX, "Returns the members in a circle or a box."),
    Command::write(GROUP, "geosearchstore", search::geosearchstore)
        .args_min(7)
        .keys(Keys::Range { first: 1, last: 2, step: 1 })
        .grows()
        .since("6.2.0", SEARCH_COST)
        .doc(SEARCH_STORE_SYNTAX, "Stores the members in a circle or a box at another key."),
    Command::write(GROUP, "georadius", search::georadius)
        .args_min(5)
        .keys(Keys::Found { find: radius_keys, first: 1 })
        .grows()
        .since("3.2.0", SEARCH_COST)
        .doc(RADIUS_SYNTAX, "Returns or stores the members in a circle."),
    Command::read(GROUP, "georadius_ro", search::georadius_ro)
        .args_min(5)
        .key()
        .since("3.2.10", SEARCH_COST)
        .doc(RADIUS_RO_SYNTAX, "Returns the members in a circle."),
    Command::write(GROUP, "georadiusbymember", search::georadiusbymember)
        .args_min(4)
        .keys(Keys::Found { find: radius_keys, first: 1 })
        .grows()
        .since("3.2.0", SEARCH_COST)
        .doc(MEMBER_SYNTAX, "Returns or stores the members in a circle around one."),
    Command::read(GROUP, "georadiusbymember_ro", search::georadiusbymember_ro)
        .args_min(4)
        .key()
        .since("3.2.10", SEARCH_COST)
        .doc(MEMBER_RO_SYNTAX, "Returns the members in a circle around one."),
];

/// The key that is searched and, where there is one, the last that results are to be stored at.
fn radius_keys(args: Args<'_>) -> Positions {
    let (mut positions, mut stored, mut at) = (Positions::new(), None, 5);
    if args.len() > 1 {
        positions.push(1);
    }
    while at + 1 < args.len() {
        if args.is(at, "store") || args.is(at, "storedist") {
            at += 1;
            stored = Some(at);
        }
        at += 1;
    }
    positions.extend(stored);
    positions
}

fn geoadd(keys: &mut Write<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let (mut options, mut rest) = (Options::default(), Rest::of(args, 2));
    loop {
        let option = match () {
            () if rest.word("nx") => &mut options.only_new,
            () if rest.word("xx") => &mut options.only_old,
            () if rest.word("ch") => &mut options.counts_changed,
            () => break,
        };
        *option = true;
    }
    let count = rest.left();
    if count == 0 || !count.is_multiple_of(3) || options.only_new && options.only_old {
        return Err(error::SYNTAX);
    }
    let mut pairs = SmallVec::<[(f64, &[u8]); 4]>::new();
    while let (Some(longitude), Some(latitude), Some(member)) = (rest.take(), rest.take(), rest.take()) {
        pairs.push((place(longitude, latitude)?.score(), member));
    }
    add::add(keys, args.at(1), options, &pairs, reply)
}

fn geopos(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let zset = keys.get::<Zset>(args.at(1))?;
    let members = args.from(2);
    reply.array(members.len());
    for member in members.iter() {
        match zset.and_then(|zset| place_of(zset, member)) {
            Some(place) => show_place(reply, place),
            None => reply.null_array(),
        }
    }
    Ok(())
}

fn geohash(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let zset = keys.get::<Zset>(args.at(1))?;
    let members = args.from(2);
    reply.array(members.len());
    for member in members.iter() {
        match zset.and_then(|zset| place_of(zset, member)) {
            Some(place) => reply.bulk(&place.geohash()),
            None => reply.null(),
        }
    }
    Ok(())
}

fn geodist(keys: &mut Read<'_>, args: Args<'_>, reply: &mut Reply) -> Outcome {
    let metres = match args.len() {
        4 => 1.0,
        5 => metres(args.at(4))?,
        _ => return Err(error::SYNTAX),
    };
    let zset = keys.get::<Zset>(args.at(1))?;
    let place = |at: usize| zset.and_then(|zset| place_of(zset, args.at(at)));
    match place(2).zip(place(3)) {
        Some((one, other)) => show_distance(reply, one.distance(other) / metres),
        None => reply.null(),
    }
    Ok(())
}
