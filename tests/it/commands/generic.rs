//! Keys whatever they hold: presence, expiry, renaming, copying, walking, sorting.

use std::collections::HashSet;

use flux::Flux;
use redis::Commands;

use crate::script::check;

#[test]
fn keys_are_counted_removed_and_named_by_kind() {
    check(
        "
        MSET a 1 b 2
        RPUSH list x
        EXISTS a a b nothing => 3
        TOUCH a nothing => 1
        TYPE list => list
        TYPE nothing => none
        DEL a nothing => 1
        UNLINK b list => 2
        RANDOMKEY => (nil)
        SET only 1
        RANDOMKEY => only
    ",
    );
}

#[test]
fn keys_expire_under_conditions() {
    check(
        "
        SET k v
        TTL k => -1
        TTL nothing => -2
        PEXPIRETIME k => -1
        EXPIRE nothing 10 => 0
        EXPIRE k 100 XX => 0
        EXPIRE k 100 GT => 0
        EXPIRE k 100 LT => 1
        EXPIRE k 200 NX => 0
        EXPIRE k 200 LT => 0
        EXPIRE k 200 GT => 1
        EXPIRE k 50 XX LT => 1
        TTL k => 50
        PERSIST k => 1
        PERSIST k => 0
        EXPIREAT k 33177117420 => 1
        EXPIRETIME k => 33177117420
        PEXPIREAT k 33177117420500 => 1
        EXPIRETIME k => 33177117421
        EXPIRE k 1 NX XX => ERR NX and XX, GT or LT options at the same time are not compatible
        EXPIRE k 1 GT LT => ERR GT and LT options at the same time are not compatible
        EXPIRE k 1 ab => ERR Unsupported option ab
        EXPIRE k x => ERR value is not an integer or out of range
        EXPIRE k 9223372036854775807 => ERR invalid expire time in 'expire' command
        PEXPIRE k 9223372036854775807 => ERR invalid expire time in 'pexpire' command
        EXPIREAT k 9223372036854775807 => ERR invalid expire time in 'expireat' command
        EXPIRE k -1 => 1
        EXISTS k => 0
    ",
    );
}

#[test]
fn keys_are_renamed() {
    check(
        "
        SET a 1 EX 100
        RPUSH b x
        RENAME a b => OK
        GET b => 1
        TTL b => 100
        EXISTS a => 0
        RENAME nothing b => ERR no such key
        RENAME b b => OK
        RENAMENX b b => 0
        SET c 2
        RENAMENX b c => 0
        RENAMENX b d => 1
        GET d => 1
    ",
    );
}

#[test]
fn keys_are_moved_and_copied() {
    check(
        "
        SET a 1 EX 100
        COPY a b => 1
        TTL b => 100
        SET c 3
        COPY a c => 0
        COPY a c REPLACE => 1
        GET c => 1
        COPY a a => ERR source and destination objects are the same
        COPY a a DB 1 => 1
        COPY a b DB 99 => ERR DB index is out of range
        COPY a b DB => ERR syntax error
        COPY nothing b => 0
        MOVE a 0 => ERR source and destination objects are the same
        MOVE a 1 => 0
        MOVE b 1 => 1
        MOVE a 16 => ERR DB index is out of range
        MOVE a x => ERR value is not an integer or out of range
        EXISTS b => 0
        SELECT 1
        TTL b => 100
        GET a => 1
    ",
    );
}

#[test]
fn copies_are_deep_for_every_kind() {
    check(
        "
        RPUSH list a b
        SADD set a
        HSET hash f v
        ZADD zset 1 a
        XADD stream 1-1 f v
        COPY list list2 => 1
        COPY set set2 => 1
        COPY hash hash2 => 1
        COPY zset zset2 => 1
        COPY stream stream2 => 1
        RPUSH list c
        SADD set b
        HSET hash g v
        ZADD zset 2 b
        XADD stream 2-1 f v
        LRANGE list2 0 -1 => [a, b]
        SMEMBERS set2 => [a]
        HGETALL hash2 => [f, v]
        ZRANGE zset2 0 -1 WITHSCORES => [a, 1]
        XLEN stream2 => 1
    ",
    );
}

#[test]
fn keys_are_walked_over() {
    check(
        r#"
        SCAN 0 => [0, []]
        SET key:1 x
        SCAN 0 => [0, [key:1]]
        SADD set x
        SCAN 0 MATCH key:* COUNT 1000 => [0, [key:1]]
        SCAN 0 TYPE set => [0, [set]]
        SCAN 0 TYPE nothing => [0, []]
        SCAN "" COUNT 1000 TYPE STRING => [0, [key:1]]
        KEYS key:? => [key:1]
        KEYS [^s]* => [key:1]
        SCAN x => ERR invalid cursor
        SCAN 18446744073709551616 => ERR invalid cursor
        SCAN 18446744073709551615 => [0, []]
        SCAN 0 COUNT 0 => ERR syntax error
        SCAN 0 COUNT x => ERR value is not an integer or out of range
        SCAN 0 COUNT => ERR syntax error
        SCAN 0 NOVALUES => ERR NOVALUES option can only be used in HSCAN
        SCAN 0 NOSCORES => ERR NOSCORES option can only be used in ZSCAN
    "#,
    );
}

#[test]
fn collections_are_sorted() {
    check(
        "
        RPUSH list 3 1 2
        SORT list => [1, 2, 3]
        SORT list DESC => [3, 2, 1]
        SORT list LIMIT 1 1 => [2]
        SORT list LIMIT -5 2 => [1, 2]
        SORT list LIMIT 5 2 => []
        SORT list BY nosort => [3, 1, 2]
        SORT list BY nosort DESC => [2, 1, 3]
        MSET w_1 30 w_2 20 w_3 10
        SORT list BY w_* => [3, 2, 1]
        SORT list BY w_* GET # GET w_* GET x_* => [3, 10, (nil), 2, 20, (nil), 1, 30, (nil)]
        HSET h_1 f c
        HSET h_2 f a
        SORT list BY h_*->f ALPHA => [3, 2, 1]
        SORT_RO list GET h_*->f => [c, a, (nil)]
        SORT list GET w_* STORE to => 3
        LRANGE to 0 -1 => [30, 20, 10]
        SORT nothing STORE to => 0
        EXISTS to => 0
        RPUSH words b a 10 9
        SORT words => ERR One or more scores can't be converted into double
        SORT words ALPHA => [10, 9, a, b]
        SORT_RO words STORE to => ERR syntax error
        SORT list LIMIT 1 => ERR syntax error
        SET text x
        SORT text => WRONGTYPE Operation against a key holding the wrong kind of value
        ZADD zset 2 a 1 b
        SORT zset BY nosort => [b, a]
        SORT zset BY nosort DESC LIMIT 0 1 => [a]
    ",
    );
}

#[test]
fn objects_tell_how_they_are_kept() {
    check(
        "
        SET k v
        OBJECT REFCOUNT k => 1
        SET n 7
        OBJECT REFCOUNT n => 2147483647
        OBJECT IDLETIME k => 0
        OBJECT FREQ k => ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.
        OBJECT ENCODING nothing => (nil)
        OBJECT NOTHING k => ERR unknown subcommand 'NOTHING'. Try OBJECT HELP.
        HSET hash f v
        OBJECT ENCODING hash => listpack
    ",
    );
}

#[test]
fn scan_returns_every_key_that_is_there_all_the_time() {
    let flux = Flux::in_memory();
    let mut store = flux.blocking();
    for number in 0..3000 {
        store.set::<_, _, ()>(format!("lasting:{number}"), number).unwrap();
    }
    let (mut cursor, mut seen, mut fresh) = (0u64, HashSet::new(), 0);
    loop {
        let (next, keys): (u64, Vec<String>) =
            redis::cmd("SCAN").arg(cursor).arg("MATCH").arg("lasting:*").arg("COUNT").arg(50).query(&mut store).unwrap();
        seen.extend(keys);
        if next == 0 {
            break;
        }
        cursor = next;
        // The tables first grow to a multiple, then shrink again.
        for number in 0..300 {
            match seen.len() {
                0..1500 => {
                    store.set::<_, _, ()>(format!("fresh:{fresh}"), number).unwrap();
                    fresh += 1;
                }
                _ if fresh > 0 => {
                    fresh -= 1;
                    store.del::<_, ()>(format!("fresh:{fresh}")).unwrap();
                }
                _ => {}
            }
        }
    }
    assert_eq!(seen.len(), 3000);
}

#[test]
fn expired_keys_are_neither_walked_over_nor_counted() {
    check(
        "
        SET k v PXAT 1
        KEYS * => []
        SCAN 0 => [0, []]
        RANDOMKEY => (nil)
        EXISTS k => 0
        SET k v PXAT 1
        RENAME k to => ERR no such key
        SET k v PXAT 1
        COPY k to => 0
        SET k 5 PXAT 1
        INCR k => 1
        TTL k => -1
        SET k v PXAT 1
        SET k v KEEPTTL
        TTL k => -1
    ",
    );
}

/// As far as Redis holds a time: any positive number of milliseconds of 63 bits.
#[test]
fn a_key_expires_when_it_was_told_to_however_far_that_is() {
    check(
        "
        SET a 1 PXAT 281474976710654 => OK
        PEXPIRETIME a => 281474976710654
        PEXPIREAT a 281474976710655 => 1
        PEXPIRETIME a => 281474976710655
        PEXPIREAT a 9223372036854775807 => 1
        PEXPIRETIME a => 9223372036854775807
        PEXPIREAT a 9223372036854775806 GT => 0
        PEXPIREAT a 9223372036854775806 LT => 1
        PEXPIRETIME a => 9223372036854775806
        SET a 2 KEEPTTL => OK
        PEXPIRETIME a => 9223372036854775806
        COPY a b DB 3 => 1
        RENAME a c => OK
        PEXPIRETIME a => -2
        PEXPIRETIME c => 9223372036854775806
        SWAPDB 0 3 => OK
        PEXPIRETIME b => 9223372036854775806
        GETEX b PXAT 300000000000000 => 2
        PEXPIRETIME b => 300000000000000
        MOVE b 3 => 1
        SELECT 3 => OK
        PEXPIRETIME b => 300000000000000
        PERSIST b => 1
        PEXPIRETIME b => -1
        SET b 1 PXAT 300000000000001 => OK
        PEXPIRE b 100000 => 1
        EXPIREAT b 9223372036854775 => 1
        PEXPIRETIME b => 9223372036854775000
        DEL b => 1
        SET b 1 => OK
        PEXPIRETIME b => -1
        SET b 1 PX 9223372036854775807 => ERR invalid expire time in 'set' command
        SETEX b 9223372036854775 1 => ERR invalid expire time in 'setex' command
        EXPIRE b 9223372036854775807 => ERR invalid expire time in 'expire' command
    ",
    );
}
