//! Why a command was refused, in the exact words Redis uses: clients compare them.

use std::borrow::Cow;

/// An error reply without its leading `-` and its line end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(pub Cow<'static, str>);

impl Error {
    /// An error with a text made for the occasion.
    pub(crate) fn new(text: impl Into<Cow<'static, str>>) -> Error {
        Error(text.into())
    }

    /// An error that always says the same.
    pub(crate) const fn text(text: &'static str) -> Error {
        Error(Cow::Borrowed(text))
    }
}

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub(crate) const $name: Error = Error(Cow::Borrowed($text));)*
    };
}

errors! {
    /// The key holds another kind of value.
    WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value";
    /// Options that do not go together, or unknown ones.
    SYNTAX = "ERR syntax error";
    /// Not an integer in 64 bits.
    NOT_INTEGER = "ERR value is not an integer or out of range";
    /// Not a number.
    NOT_FLOAT = "ERR value is not a valid float";
    /// `min-replicas-to-write` asks for replicas, and there are none.
    NO_REPLICAS = "NOREPLICAS Not enough good replicas to write.";
    /// No such key, where one is needed.
    NO_SUCH_KEY = "ERR no such key";
    /// An index outside a list.
    INDEX_RANGE = "ERR index out of range";
    /// No such database.
    DB_RANGE = "ERR DB index is out of range";
    /// A value outside what is allowed.
    OUT_OF_RANGE = "ERR value is out of range";
    /// A count that must be above zero.
    NOT_POSITIVE = "ERR value is out of range, must be positive";
    /// A number would leave 64 bits.
    OVERFLOW = "ERR increment or decrement would overflow";
    /// The keyspace is not there yet.
    LOADING = "LOADING Redis is loading the dataset in memory";
    /// `maxmemory` is reached and nothing may be evicted.
    OUT_OF_MEMORY = "OOM command not allowed when used memory > 'maxmemory'.";
    /// A value stored on disk could not be read back.
    DISK_READ = "ERR the value could not be read back from disk; run `flux check`";
    /// `CLIENT UNBLOCK … ERROR`.
    UNBLOCKED = "UNBLOCKED client unblocked via CLIENT UNBLOCK";
    /// A value that is needed rests on disk. No client gets to see this: it waits until the value has been read.
    ON_DISK = "ERR the value is on disk";
    /// A string that is no HyperLogLog.
    NOT_HYPERLOGLOG = "WRONGTYPE Key is not a valid HyperLogLog string value.";
    /// A HyperLogLog whose registers do not add up.
    HYPERLOGLOG_CORRUPTED = "INVALIDOBJ Corrupted HLL object detected";
    /// `PFDEBUG DECODE` of one that is dense.
    HYPERLOGLOG_DENSE = "ERR HLL encoding is not sparse";
    /// `PFDEBUG` of nothing.
    NO_SPECIFIED_KEY = "ERR The specified key does not exist";
    /// A cursor that is no number.
    INVALID_CURSOR = "ERR invalid cursor";
    /// `EXPIRE` with `NX` and another condition.
    EXPIRE_NX = "ERR NX and XX, GT or LT options at the same time are not compatible";
    /// `EXPIRE` with `GT` and `LT`.
    EXPIRE_GT_LT = "ERR GT and LT options at the same time are not compatible";
    /// `MOVE` and `COPY` of a key to where it is.
    SAME_OBJECT = "ERR source and destination objects are the same";
    /// Not an integer in 32 bits, where one is needed.
    NOT_INT32 = "ERR value is out of range, value must between -2147483648 and 2147483647";
    /// `OBJECT FREQ` while access times are kept.
    NOT_LFU = "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.";
    /// `OBJECT IDLETIME` while access frequencies are kept.
    NOT_LRU = "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.";
    /// `SORT` by what are no numbers.
    SORT_NOT_NUMBERS = "ERR One or more scores can't be converted into double";
    /// An offset below zero.
    OFFSET_RANGE = "ERR offset is out of range";
    /// A string would be longer than strings may be.
    STRING_TOO_LONG = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
    /// `DECRBY` by the smallest number there is.
    DECREMENT_OVERFLOW = "ERR decrement would overflow";
    /// `INCRBYFLOAT` past the largest number there is.
    INCREMENT_NAN = "ERR increment would produce NaN or Infinity";
    /// `LCS` of other things than strings.
    LCS_NOT_STRINGS = "ERR The specified keys must contain string values";
    /// `LCS` with options that say the same.
    LCS_LEN_AND_IDX = "ERR If you want both the length and indexes, please just use IDX.";
    /// `LCS` of strings whose table would be too large.
    LCS_TOO_LONG = "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len";
    /// A digest to compare with that has another length.
    DIGEST_LENGTH = "ERR must be exactly 16 hexadecimal characters";
    /// `DELEX` under a condition of what is no string.
    DELEX_NOT_STRING = "ERR Key should be of string type if conditions are specified";
    /// `DELEX` under no condition there is.
    DELEX_CONDITION = "ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE";
    /// `MSETEX` of no keys.
    MSETEX_NUMKEYS = "ERR invalid numkeys value";
    /// `MSETEX` of fewer keys than it counts.
    MSETEX_PAIRS = "ERR wrong number of key-value pairs";
    /// A bit's position is not a number, or lies outside what a string can hold.
    BIT_OFFSET = "ERR bit offset is not an integer or out of range";
    /// A bit that is neither 0 nor 1.
    BIT_VALUE = "ERR bit is not an integer or out of range";
    /// A bit to look for that is neither 0 nor 1.
    BIT_WANTED = "ERR The bit argument must be 1 or 0.";
    /// `BITOP DIFF` of one key.
    BITOP_DIFF = "ERR BITOP DIFF must be called with at least two source keys.";
    /// `BITOP DIFF1` of one key.
    BITOP_DIFF1 = "ERR BITOP DIFF1 must be called with at least two source keys.";
    /// `BITOP ANDOR` of one key.
    BITOP_ANDOR = "ERR BITOP ANDOR must be called with at least two source keys.";
    /// `BITOP NOT` of several keys.
    BITOP_NOT = "ERR BITOP NOT must be called with a single source key.";
    /// A bit field's type that is none.
    BITFIELD_TYPE =
        "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.";
    /// An unknown way to overflow.
    BITFIELD_OVERFLOW = "ERR Invalid OVERFLOW type specified";
    /// A value of a hash that should be an integer.
    HASH_NOT_INTEGER = "ERR hash value is not an integer";
    /// A value of a hash that should be a number.
    HASH_NOT_FLOAT = "ERR hash value is not a float";
    /// `HINCRBYFLOAT` by infinity.
    NAN_OR_INFINITY = "ERR value is NaN or Infinity";
    /// A cursor that is no number.
    CURSOR = "ERR invalid cursor";
    /// `NOSCORES` where there are none anyway.
    NO_SCORES_OF_ZSETS_ONLY = "ERR NOSCORES option can only be used in ZSCAN";
    /// `NOVALUES` where there are none anyway.
    NO_VALUES_OF_HASHES_ONLY = "ERR NOVALUES option can only be used in HSCAN";
    /// A count from either end, or a rank, with no opposite.
    LONG_RANGE = "ERR value is out of range, must be between -9223372036854775807 and 9223372036854775807";
    /// `LPOS` of the match before the first.
    LPOS_RANK = "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list";
    /// `LPOS` of so many matches.
    LPOS_COUNT = "ERR COUNT can't be negative";
    /// `LPOS` among so many elements.
    LPOS_MAXLEN = "ERR MAXLEN can't be negative";
    /// A count of random elements with no opposite.
    COUNT_RANGE = "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807";
    /// A count of keys below one.
    NUMKEYS_NOT_POSITIVE = "ERR numkeys should be greater than 0";
    /// A count of keys above the number of arguments.
    NUMKEYS_TOO_LARGE = "ERR Number of keys can't be greater than number of args";
    /// A limit below zero.
    LIMIT_NEGATIVE = "ERR LIMIT can't be negative";
    /// Fields whose expiry is to be set or read, not announced.
    FIELDS_MISSING = "ERR Mandatory argument FIELDS is missing or not at the right position";
    /// A count of fields below one.
    NUMFIELDS_NOT_POSITIVE = "ERR Number of fields must be a positive integer";
    /// The same, as commands that set an expiry say it.
    NUMFIELDS_TOO_SMALL = "ERR Parameter `numFields` should be greater than 0";
    /// A count of fields that is not theirs.
    NUMFIELDS_MISMATCH = "ERR The `numfields` parameter must match the number of arguments";
    /// `HSETEX` of no fields.
    HSETEX_NUMFIELDS = "ERR invalid number of fields";
    /// `HSETEX` with two conditions on its fields.
    HSETEX_CONDITIONS = "ERR Only one of FXX or FNX arguments can be specified";
    /// `HSETEX` with two expiries.
    HSETEX_EXPIRIES = "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified";
    /// An expiry of fields before the epoch.
    EXPIRE_TIME_NEGATIVE = "ERR invalid expire time, must be >= 0";
    /// `BITFIELD_RO` that would write.
    BITFIELD_RO = "ERR BITFIELD_RO only supports the GET subcommand";
    /// A time to wait that is no number.
    TIMEOUT_NOT_FLOAT = "ERR timeout is not a float or out of range";
    /// A time to wait that lies further ahead than time goes.
    TIMEOUT_RANGE = "ERR timeout is out of range";
    /// A time to wait that is over.
    TIMEOUT_NEGATIVE = "ERR timeout is negative";
    /// `ZADD` with `NX` and `XX`.
    ZADD_NX_XX = "ERR XX and NX options at the same time are not compatible";
    /// `ZADD` with two of `GT`, `LT` and `NX`.
    ZADD_GT_LT_NX = "ERR GT, LT, and/or NX options at the same time are not compatible";
    /// `ZADD INCR` of several members.
    ZADD_INCR = "ERR INCR option supports a single increment-element pair";
    /// A sum of infinite scores.
    SCORE_NAN = "ERR resulting score is not a number (NaN)";
    /// A bound of scores that is no number.
    BOUND_NOT_FLOAT = "ERR min or max is not a float";
    /// A bound of names that is none.
    BOUND_NOT_STRING = "ERR min or max not valid string range item";
    /// `ZRANGE … LIMIT` by ranks.
    LIMIT_OF_RANKS = "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX";
    /// `ZRANGE … BYLEX WITHSCORES`.
    SCORES_OF_NAMES = "ERR syntax error, WITHSCORES not supported in combination with BYLEX";
    /// A count that is no number above zero.
    COUNT_NOT_POSITIVE = "ERR count should be greater than 0";
    /// `ZUNION … WEIGHTS` of other things than numbers.
    WEIGHT_NOT_FLOAT = "ERR weight value is not a float";
    /// A geo search's radius that is no number.
    RADIUS_NOT_FLOAT = "ERR need numeric radius";
    /// A geo search's radius below zero.
    RADIUS_NEGATIVE = "ERR radius cannot be negative";
    /// A geo search's width that is no number.
    WIDTH_NOT_FLOAT = "ERR need numeric width";
    /// A geo search's height that is no number.
    HEIGHT_NOT_FLOAT = "ERR need numeric height";
    /// A geo search's box with a side below zero.
    BOX_NEGATIVE = "ERR height or width cannot be negative";
    /// A unit of length that is none.
    UNIT = "ERR unsupported unit provided. please use M, KM, FT, MI";
    /// A geo search around a member that is not there.
    NO_GEO_MEMBER = "ERR could not decode requested zset member";
    /// A geo search's count of zero or less.
    GEO_COUNT = "ERR COUNT must be > 0";
    /// A geo search for any members, but not for how many.
    GEO_ANY = "ERR the ANY argument requires COUNT argument";
}

// Streams.
errors! {
    /// An id of a stream's entry that is none.
    STREAM_ID = "ERR Invalid stream ID specified as stream command argument";
    /// `(` before the highest id.
    STREAM_START = "ERR invalid start ID for the interval";
    /// `(` before the lowest id.
    STREAM_END = "ERR invalid end ID for the interval";
    /// XADD with the lowest id.
    XADD_ZERO = "ERR The ID specified in XADD must be greater than 0-0";
    /// XADD at or below the last id.
    XADD_SMALL = "ERR The ID specified in XADD is equal or smaller than the target stream top item";
    /// XADD to a stream whose last id is the highest.
    XADD_EXHAUSTED = "ERR The stream has exhausted the last possible ID, unable to add more items";
    /// XADD of more than a stream's entry may hold.
    XADD_LARGE = "ERR Elements are too large to be stored";
    /// Two ways to trim at once.
    TRIM_BOTH = "ERR syntax error, MAXLEN and MINID options at the same time are not compatible";
    /// A negative length to trim to.
    TRIM_MAXLEN = "ERR The MAXLEN argument must be >= 0.";
    /// A negative limit to trimming.
    TRIM_LIMIT = "ERR The LIMIT argument must be >= 0.";
    /// A limit to trimming without trimming.
    TRIM_LIMIT_ALONE = "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy";
    /// A limit to exact trimming.
    TRIM_LIMIT_EXACT = "ERR syntax error, LIMIT cannot be used without the special ~ option";
    /// XTRIM that does not say to what.
    TRIM_NOTHING = "ERR syntax error, XTRIM must be called with a trimming strategy";
    /// XSETID with a negative count.
    XSETID_ADDED = "ERR entries_added must be positive";
    /// XSETID below the highest deleted id it sets.
    XSETID_BELOW_GIVEN = "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id";
    /// XSETID below the highest deleted id there is.
    XSETID_BELOW_DELETED = "ERR The ID specified in XSETID is smaller than current max_deleted_entry_id";
    /// XSETID below the last entry.
    XSETID_BELOW_TOP = "ERR The ID specified in XSETID is smaller than the target stream top item";
    /// XSETID with fewer entries added than there are.
    XSETID_BELOW_LENGTH = "ERR The entries_added specified in XSETID is smaller than the target stream length";
    /// XREAD with an option of XREADGROUP.
    XREAD_GROUP = "ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.";
    /// XREAD with an option of XREADGROUP.
    XREAD_NOACK = "ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.";
    /// XREAD with an id of XREADGROUP.
    XREAD_NEW = "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.";
    /// XREADGROUP without a group.
    XREADGROUP_GROUP = "ERR Missing GROUP option for XREADGROUP";
    /// XREADGROUP with an id of XREAD.
    XREADGROUP_LAST = "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by specifying a proper ID, or use the > ID to get new messages. The $ ID would just return an empty result set.";
    /// XREADGROUP with an id of XREAD.
    XREADGROUP_TOP = "ERR The + ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by specifying a proper ID, or use the > ID to get new messages. The + ID would just return an empty result set.";
    /// XDELEX of no entries.
    NUMIDS_NOT_POSITIVE = "ERR Number of IDs must be a positive integer";
    /// XDELEX of fewer entries than it counts.
    NUMIDS_MISMATCH = "ERR The `numids` parameter must match the number of arguments";
    /// XGROUP on a key that is not there.
    XGROUP_KEY = "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to create an empty stream automatically.";
    /// XGROUP with a negative count.
    XGROUP_ENTRIES_READ = "ERR value for ENTRIESREAD must be positive or -1";
    /// XGROUP CREATE of a group that is there.
    BUSY_GROUP = "BUSYGROUP Consumer Group name already exists";
    /// XCLAIM with a time that is no number.
    XCLAIM_MIN_IDLE = "ERR Invalid min-idle-time argument for XCLAIM";
    /// XCLAIM with a time that is no number.
    XCLAIM_IDLE = "ERR Invalid IDLE option argument for XCLAIM";
    /// XCLAIM with a time that is no number.
    XCLAIM_TIME = "ERR Invalid TIME option argument for XCLAIM";
    /// XCLAIM with a count that is no number.
    XCLAIM_RETRY_COUNT = "ERR Invalid RETRYCOUNT option argument for XCLAIM";
    /// XAUTOCLAIM with a time that is no number.
    XAUTOCLAIM_MIN_IDLE = "ERR Invalid min-idle-time argument for XAUTOCLAIM";
    /// XAUTOCLAIM with a count below one.
    XAUTOCLAIM_COUNT = "ERR COUNT must be > 0";
}

/// An expiry that is not in the future, or further than time goes. `name` is the command, in lower case.
pub(crate) fn invalid_expire_time(name: &str) -> Error {
    Error::new(format!("ERR invalid expire time in '{name}' command"))
}
