//! Bitmaps: single bits, counting and finding them, combining strings, integers within strings.

use crate::script::check;

#[test]
fn bits_are_set_and_read() {
    check(
        r#"
        SETBIT k 7 1 => 0
        SETBIT k 7 0 => 1
        SETBIT k 1 1 => 0
        GET k => "@"
        SETBIT k 9 1 => 0
        GET k => "@@"
        GETBIT k 9 => 1
        GETBIT k 10000 => 0
        GETBIT nothing 0 => 0
        SETBIT k 0 2 => ERR bit is not an integer or out of range
        SETBIT k -1 1 => ERR bit offset is not an integer or out of range
        SETBIT k x 1 => ERR bit offset is not an integer or out of range
        SETBIT k 4294967296 1 => ERR bit offset is not an integer or out of range
        GETBIT k 4294967296 => ERR bit offset is not an integer or out of range
        SET n 123
        SETBIT n 0 0 => 0
        GET n => 123
    "#,
    );
}

#[test]
fn bits_are_counted() {
    check(
        "
        SET k foobar
        BITCOUNT k => 26
        BITCOUNT k 0 0 => 4
        BITCOUNT k 1 1 => 6
        BITCOUNT k 0 -5 => 10
        BITCOUNT k 5 30 BIT => 17
        BITCOUNT k 0 0 BYTE => 4
        BITCOUNT k -1 -2 => 0
        BITCOUNT k 100 200 => 0
        BITCOUNT nothing => 0
        BITCOUNT k 0 => ERR syntax error
        BITCOUNT k 0 1 WORD => ERR syntax error
        BITCOUNT k 0 1 BIT x => ERR syntax error
        BITCOUNT nothing x 1 => ERR value is not an integer or out of range
    ",
    );
}

#[test]
fn bits_are_found() {
    check(
        r#"
        SET k "\xff\xf0\x00"
        BITPOS k 0 => 12
        BITPOS k 1 2 => -1
        BITPOS k 0 0 0 => -1
        BITPOS k 0 9 12 BIT => 12
        BITPOS k 1 -1 -1 => -1
        SET ones "\xff\xff"
        BITPOS ones 0 => 16
        BITPOS ones 0 1 => 16
        BITPOS ones 0 0 -1 => -1
        BITPOS ones 0 5 => -1
        BITPOS nothing 0 => 0
        BITPOS nothing 1 => -1
        SET empty ""
        BITPOS empty 0 => -1
        BITPOS k 2 => ERR The bit argument must be 1 or 0.
        BITPOS k 0 0 1 BIT x => ERR syntax error
    "#,
    );
}

#[test]
fn strings_are_combined() {
    check(
        r#"
        MSET a "\xff\x0f" b "\x0f"
        BITOP AND r a b => 2
        GET r => "\x0f\x00"
        BITOP OR r a b nothing => 2
        GET r => "\xff\x0f"
        BITOP XOR r a b => 2
        GET r => "\xf0\x0f"
        BITOP NOT r b => 1
        GET r => "\xf0"
        BITOP AND r nothing => 0
        EXISTS r => 0
        BITOP NOT r a b => ERR BITOP NOT must be called with a single source key.
        BITOP NAND r a b => ERR syntax error
        RPUSH list x
        BITOP AND r a list => WRONGTYPE Operation against a key holding the wrong kind of value
    "#,
    );
}

#[test]
fn integers_live_within_strings() {
    check(
        r#"
        BITFIELD k SET u8 0 255 GET u8 0 GET i8 0 => [0, 255, -1]
        BITFIELD k INCRBY u8 0 10 => [9]
        BITFIELD k OVERFLOW SAT INCRBY u8 0 250 => [255]
        BITFIELD k OVERFLOW FAIL INCRBY u8 0 1 OVERFLOW WRAP INCRBY u8 0 1 => [(nil), 0]
        BITFIELD k SET i5 #2 -1 GET u5 #2 => [0, 31]
        BITFIELD wide SET i64 3 -9223372036854775808 GET i64 3 => [0, -9223372036854775808]
        BITFIELD nothing GET u8 0 => [0]
        EXISTS nothing => 0
        BITFIELD k => []
        BITFIELD k GET u64 0 => ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.
        BITFIELD k GET u8 -1 => ERR bit offset is not an integer or out of range
        BITFIELD k GET u8 #4611686018427387904 => ERR bit offset is not an integer or out of range
        BITFIELD k OVERFLOW NEVER GET u8 0 => ERR Invalid OVERFLOW type specified
        BITFIELD k SET u8 0 => ERR syntax error
        BITFIELD k SET u8 0 x => ERR value is not an integer or out of range
        BITFIELD_RO k GET u8 0 => *
        BITFIELD_RO k SET u8 0 1 => ERR BITFIELD_RO only supports the GET subcommand
        BITFIELD fresh OVERFLOW FAIL SET u8 8 256 => [(nil)]
        STRLEN fresh => 2
    "#,
    );
}

#[test]
fn setting_a_bit_to_what_it_is_changes_nothing() {
    check(
        "
        SETBIT k 7 1
        a: WATCH k
        SETBIT k 7 1 => 1
        BITFIELD k SET u8 0 1 => [1]
        a: MULTI
        a: EXEC => []
    ",
    );
}

#[test]
fn strings_are_combined_by_what_one_of_them_has_and_others_have_not() {
    check(
        r#"
        SET a "\xf0\xff"
        SET b "\xcc"
        SET c "\xaa\x0f\x01"
        BITOP DIFF d a b c => 3
        GET d => "\x10\xf0\x00"
        BITOP DIFF1 d a b c => 3
        GET d => "\x0e\x00\x01"
        BITOP ANDOR d a b c => 3
        GET d => "\xe0\x0f\x00"
        BITOP ONE d a b c => 3
        GET d => "\x16\xf0\x01"
        BITOP ONE d a => 2
        GET d => "\xf0\xff"
        BITOP ONE a a a => 2
        GET a => "\x00\x00"
        BITOP DIFF d a => ERR BITOP DIFF must be called with at least two source keys.
        BITOP DIFF1 d a => ERR BITOP DIFF1 must be called with at least two source keys.
        BITOP ANDOR d a => ERR BITOP ANDOR must be called with at least two source keys.
        BITOP DIFF d nothing a => 2
        BITOP DIFF d nothing nothing => 0
        EXISTS d => 0
        BITCOUNT a 0 => ERR syntax error
    "#,
    );
}
