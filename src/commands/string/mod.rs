//! Commands of Redis' `string` group: the rows here, what they do in the files of this folder.

mod compare;
mod lcs;
mod numbers;
mod ranges;
mod values;

use crate::commands::Command;
use crate::commands::table::Group::String as GROUP;
use crate::commands::table::Keys;

const PAIRS: Keys = Keys::Range { first: 1, last: -1, step: 2 };
const ALL: Keys = Keys::Range { first: 1, last: -1, step: 1 };
const TWO: Keys = Keys::Range { first: 1, last: 2, step: 1 };

/// The group's rows.
pub(crate) const COMMANDS: &[Command] = &[
    Command::read(GROUP, "get", values::get)
        .args(1)
        .key()
        .fast()
        .since("1.0.0", "O(1)")
        .doc("key", "Returns the string at a key."),
    Command::write(GROUP, "set", values::set).args_min(2).key().grows().since("1.0.0", "O(1)").doc(
        "key value [NX | XX | IFEQ value | IFNE value | IFDEQ digest | IFDNE digest] [GET] [EX seconds | PX milliseconds | EXAT \
         unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]",
        "Sets a key to a string, whatever it held; conditions, an expiry and the value before on request.",
    ),
    Command::write(GROUP, "getset", values::getset)
        .args(2)
        .key()
        .grows()
        .fast()
        .since("1.0.0", "O(1)")
        .doc("key value", "Sets a key to a string and returns the string it held before."),
    Command::read(GROUP, "digest", compare::digest)
        .args(1)
        .key()
        .fast()
        .since("8.4.0", "O(N), N bytes of the string")
        .doc("key", "Returns the digest of a string, XXH3 in 16 hexadecimal digits, which conditions can name in its place."),
    Command::write(GROUP, "delex", compare::delex)
        .args_min(1)
        .key()
        .fast()
        .since("8.4.0", "O(1), by digest O(N), N bytes of the string")
        .doc(
            "key [IFEQ value | IFNE value | IFDEQ digest | IFDNE digest]",
            "Removes a key; under a condition, only where it holds a string that is, or is not, as given.",
        ),
    Command::write(GROUP, "delifeq", compare::delifeq)
        .args(2)
        .key()
        .fast()
        .since("valkey 9.0.0", "O(1)")
        .doc("key value", "Removes a key where it holds this string."),
    Command::write(GROUP, "getdel", values::getdel)
        .args(1)
        .key()
        .fast()
        .since("6.2.0", "O(1)")
        .doc("key", "Returns the string at a key and removes the key."),
    Command::write(GROUP, "getex", values::getex).args_min(1).key().fast().since("6.2.0", "O(1)").doc(
        "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST]",
        "Returns the string at a key and changes when the key expires.",
    ),
    Command::write(GROUP, "setex", values::setex)
        .args(3)
        .key()
        .grows()
        .since("2.0.0", "O(1)")
        .doc("key seconds value", "Sets a key to a string that expires after some seconds."),
    Command::write(GROUP, "psetex", values::psetex)
        .args(3)
        .key()
        .grows()
        .since("2.6.0", "O(1)")
        .doc("key milliseconds value", "Sets a key to a string that expires after some milliseconds."),
    Command::write(GROUP, "setnx", values::setnx)
        .args(2)
        .key()
        .grows()
        .fast()
        .since("1.0.0", "O(1)")
        .doc("key value", "Sets a key to a string only if there is no such key."),
    Command::write(GROUP, "mset", values::mset)
        .args_min(2)
        .keys(PAIRS)
        .grows()
        .since("1.0.1", "O(N), N keys to set")
        .doc("key value [key value ...]", "Sets several keys to strings, all at the same moment."),
    Command::write(GROUP, "msetex", values::msetex)
        .args_min(3)
        .keys(Keys::CountedPairs { at: 1 })
        .grows()
        .since("8.4.0", "O(N), N keys to set")
        .doc(
            "numkeys key value [key value ...] [NX | XX] [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT \
             unix-time-milliseconds | KEEPTTL]",
            "Sets several keys to strings that expire together; on request only if all of them, or none, are there.",
        ),
    Command::write(GROUP, "msetnx", values::msetnx)
        .args_min(2)
        .keys(PAIRS)
        .grows()
        .since("1.0.1", "O(N), N keys to set")
        .doc("key value [key value ...]", "Sets several keys to strings only if none of them is there."),
    Command::read(GROUP, "mget", values::mget)
        .args_min(1)
        .keys(ALL)
        .fast()
        .since("1.0.0", "O(N), N keys to read")
        .doc("key [key ...]", "Returns the strings at several keys, null for those that hold none."),
    Command::write(GROUP, "append", ranges::append)
        .args(2)
        .key()
        .grows()
        .fast()
        .since("2.0.0", "O(1), amortized over many appends")
        .doc("key value", "Adds bytes to the end of a string, which is made where it is missing."),
    Command::read(GROUP, "strlen", ranges::strlen)
        .args(1)
        .key()
        .fast()
        .since("2.2.0", "O(1)")
        .doc("key", "Returns how many bytes a string has."),
    Command::read(GROUP, "getrange", ranges::getrange)
        .args(3)
        .key()
        .since("2.4.0", "O(N), N bytes returned")
        .doc("key start end", "Returns the bytes of a string from one position to another; negative ones count from the end."),
    Command::read(GROUP, "substr", ranges::getrange)
        .args(3)
        .key()
        .since("1.0.0", "O(N), N bytes returned")
        .doc("key start end", "The old name of GETRANGE."),
    Command::write(GROUP, "setrange", ranges::setrange)
        .args(3)
        .key()
        .grows()
        .since("2.2.0", "O(M), M bytes written")
        .doc("key offset value", "Writes bytes into a string at an offset, filling up with zero bytes before it."),
    Command::write(GROUP, "incr", numbers::incr)
        .args(1)
        .key()
        .grows()
        .fast()
        .since("1.0.0", "O(1)")
        .doc("key", "Adds one to the number at a key."),
    Command::write(GROUP, "decr", numbers::decr)
        .args(1)
        .key()
        .grows()
        .fast()
        .since("1.0.0", "O(1)")
        .doc("key", "Subtracts one from the number at a key."),
    Command::write(GROUP, "incrby", numbers::incrby)
        .args(2)
        .key()
        .grows()
        .fast()
        .since("1.0.0", "O(1)")
        .doc("key increment", "Adds to the number at a key."),
    Command::write(GROUP, "decrby", numbers::decrby)
        .args(2)
        .key()
        .grows()
        .fast()
        .since("1.0.0", "O(1)")
        .doc("key decrement", "Subtracts from the number at a key."),
    Command::write(GROUP, "incrbyfloat", numbers::incrbyfloat)
        .args(2)
        .key()
        .grows()
        .fast()
        .since("2.6.0", "O(1)")
        .doc("key increment", "Adds a fraction to the number at a key."),
    Command::read(GROUP, "lcs", lcs::lcs).args_min(2).keys(TWO).since("7.0.0", "O(N*M), N and M the lengths of the strings").doc(
        "key1 key2 [LEN] [IDX] [MINMATCHLEN min-match-len] [WITHMATCHLEN]",
        "Finds the longest sequence of bytes that two strings have in common, gaps allowed.",
    ),
];
