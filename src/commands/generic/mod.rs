//! Commands of Redis' `generic` group, about keys whatever they hold: the rows here, what they do in the files of this folder.

mod expire;
pub(crate) mod object;
mod presence;
mod rename;
mod scan;
mod sort;

use crate::commands::Command;
use crate::commands::table::Group::Generic as GROUP;
use crate::commands::table::{Keys, flag};

const ALL: Keys = Keys::Range { first: 1, last: -1, step: 1 };
const TWO: Keys = Keys::Range { first: 1, last: 2, step: 1 };
const SECOND: Keys = Keys::Range { first: 2, last: 2, step: 1 };

const EXPIRE_SYNTAX: &str = "key seconds [NX | XX | GT | LT]";
const PEXPIRE_SYNTAX: &str = "key milliseconds [NX | XX | GT | LT]";
const EXPIREAT_SYNTAX: &str = "key unix-time-seconds [NX | XX | GT | LT]";
const PEXPIREAT_SYNTAX: &str = "key unix-time-milliseconds [NX | XX | GT | LT]";

/// The group's rows.
pub(crate) const COMMANDS: &[Command] = &[
    Command::write(GROUP, "del", presence::del)
        .args_min(1)
        .keys(ALL)
        .since("1.0.0", "O(N), N elements in the values removed")
        .doc("key [key ...]", "Removes keys and returns how many there were."),
    Command::write(GROUP, "unlink", presence::del)
        .args_min(1)
        .keys(ALL)
        .fast()
        .since("4.0.0", "O(1) for each key")
        .doc("key [key ...]", "Removes keys as DEL does."),
    Command::read(GROUP, "exists", presence::exists)
        .args_min(1)
        .keys(ALL)
        .fast()
        .since("1.0.0", "O(N), N keys to look for")
        .doc("key [key ...]", "Counts the keys that are there; one named twice counts twice."),
    Command::read(GROUP, "touch", presence::touch)
        .args_min(1)
        .keys(ALL)
        .fast()
        .since("3.2.1", "O(N), N keys to touch")
        .doc("key [key ...]", "Counts the keys that are there and notes a use of each."),
    Command::read(GROUP, "type", presence::kind)
        .args(1)
        .key()
        .fast()
        .since("1.0.0", "O(1)")
        .doc("key", "Tells what kind of value a key holds."),
    Command::read(GROUP, "ttl", expire::ttl)
        .args(1)
        .key()
        .fast()
        .since("1.0.0", "O(1)")
        .doc("key", "Returns the seconds a key has left; -1 if it lasts, -2 if there is none."),
    Command::read(GROUP, "pttl", expire::pttl)
        .args(1)
        .key()
        .fast()
        .since("2.6.0", "O(1)")
        .doc("key", "Returns the milliseconds a key has left; -1 if it lasts, -2 if there is none."),
    Command::read(GROUP, "expiretime", expire::expiretime)
        .args(1)
        .key()
        .fast()
        .since("7.0.0", "O(1)")
        .doc("key", "Returns when a key expires, in seconds of Unix time."),
    Command::read(GROUP, "pexpiretime", expire::pexpiretime)
        .args(1)
        .key()
        .fast()
        .since("7.0.0", "O(1)")
        .doc("key", "Returns when a key expires, in milliseconds of Unix time."),
    Command::write(GROUP, "expire", expire::expire)
        .args_min(2)
        .key()
        .fast()
        .since("1.0.0", "O(1)")
        .doc(EXPIRE_SYNTAX, "Lets a key expire after some seconds."),
    Command::write(GROUP, "pexpire", expire::pexpire)
        .args_min(2)
        .key()
        .fast()
        .since("2.6.0", "O(1)")
        .doc(PEXPIRE_SYNTAX, "Lets a key expire after some milliseconds."),
    Command::write(GROUP, "expireat", expire::expireat)
        .args_min(2)
        .key()
        .fast()
        .since("1.2.0", "O(1)")
        .doc(EXPIREAT_SYNTAX, "Lets a key expire at a moment given in seconds of Unix time."),
    Command::write(GROUP, "pexpireat", expire::pexpireat)
        .args_min(2)
        .key()
        .fast()
        .since("2.6.0", "O(1)")
        .doc(PEXPIREAT_SYNTAX, "Lets a key expire at a moment given in milliseconds of Unix time."),
    Command::write(GROUP, "persist", expire::persist)
        .args(1)
        .key()
        .fast()
        .since("2.2.0", "O(1)")
        .doc("key", "Lets a key last that would have expired."),
    Command::read(GROUP, "keys", scan::keys)
        .args(1)
        .keys(Keys::Any)
        .flags(flag::DANGEROUS)
        .since("1.0.0", "O(N), N keys in the database")
        .doc("pattern", "Returns all keys whose names match a pattern."),
    Command::read(GROUP, "scan", scan::scan)
        .args_min(1)
        .keys(Keys::Any)
        .since("2.8.0", "O(1) for each call, O(N) for all N keys")
        .doc("cursor [MATCH pattern] [COUNT count] [TYPE type]", "Walks over the keys of the database, some with each call."),
    Command::read(GROUP, "randomkey", scan::randomkey)
        .keys(Keys::Any)
        .args(0)
        .since("1.0.0", "O(1)")
        .doc("", "Returns a key chosen by chance."),
    Command::write(GROUP, "rename", rename::rename)
        .args(2)
        .keys(TWO)
        .since("1.0.0", "O(N), N elements in the values renamed and replaced")
        .doc("key newkey", "Gives a key another name, whatever had that name before."),
    Command::write(GROUP, "renamenx", rename::renamenx)
        .args(2)
        .keys(TWO)
        .fast()
        .since("1.0.0", "O(N), N elements in the value")
        .doc("key newkey", "Gives a key another name only if no key has it."),
    Command::write(GROUP, "move", rename::move_to)
        .args(2)
        .key()
        .fast()
        .since("1.0.0", "O(N), N elements in the value")
        .doc("key db", "Moves a key to another database where it is not yet."),
    Command::write(GROUP, "copy", rename::copy)
        .args_min(2)
        .keys(TWO)
        .grows()
        .since("6.2.0", "O(N), N elements in the value")
        .doc("source destination [DB destination-db] [REPLACE]", "Copies what a key holds, and its expiry, to another key."),
    Command::write(GROUP, "sort", sort::sort)
        .args_min(1)
        .keys(Keys::Found { find: sort::positions, first: 1 })
        .grows()
        .flags(flag::PATTERNS | flag::DANGEROUS)
        .since("1.0.0", "O(N+M*log(M)), N elements, M of them returned")
        .doc(
            "key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC | DESC] [ALPHA] [STORE destination]",
            "Sorts the elements of a list, a set or a sorted set, and returns or stores the result.",
        ),
    Command::read(GROUP, "sort_ro", sort::sort_ro)
        .args_min(1)
        .keys(Keys::Found { find: sort::positions_ro, first: 1 })
        .flags(flag::PATTERNS | flag::DANGEROUS)
        .since("7.0.0", "O(N+M*log(M)), N elements, M of them returned")
        .doc(
            "key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC | DESC] [ALPHA]",
            "Sorts the elements of a list, a set or a sorted set, and returns the result.",
        ),
    Command::container(GROUP, "object", OBJECT).since("2.2.3", "Depends on the subcommand").doc("", "Tells how a value is kept."),
];

const OBJECT: &[Command] = &[
    Command::read(GROUP, "encoding", object::encoding)
        .args(2)
        .keys(SECOND)
        .since("2.2.3", "O(1)")
        .doc("key", "Names the way a value is kept in memory."),
    Command::read(GROUP, "freq", object::freq)
        .args(2)
        .keys(SECOND)
        .since("4.0.0", "O(1)")
        .doc("key", "Returns how often a key was used of late, on a logarithmic scale."),
    Command::read(GROUP, "idletime", object::idletime)
        .args(2)
        .keys(SECOND)
        .since("2.2.3", "O(1)")
        .doc("key", "Returns how many seconds a key was not used."),
    Command::read(GROUP, "refcount", object::refcount)
        .args(2)
        .keys(SECOND)
        .since("2.2.3", "O(1)")
        .doc("key", "Returns how often a value is referred to, which is once."),
    Command::session(GROUP, "help", object::help)
        .args(1)
        .flags(flag::LOADING | flag::STALE)
        .since("6.2.0", "O(1)")
        .doc("", "Tells about the subcommands."),
];
