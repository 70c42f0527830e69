//! HyperLogLogs: counting, merging, and the bytes Redis keeps them in.

use crate::script::check;

#[test]
fn elements_are_counted_once() {
    check(
        "
        PFADD h a b c => 1
        PFADD h a b c => 0
        PFCOUNT h => 3
        PFADD h d => 1
        PFCOUNT h => 4
        PFADD empty => 1
        PFADD empty => 0
        PFCOUNT empty => 0
        PFCOUNT nothing => 0
        PFADD other x y a => 1
        PFCOUNT h other nothing => 6
        PFMERGE all h other nothing => OK
        PFCOUNT all => 6
        PFMERGE none => OK
        PFCOUNT none => 0
        PFSELFTEST => OK
    ",
    );
}

#[test]
fn bytes_are_those_of_redis() {
    check(
        r#"
        PFADD h hello => 1
        PFDEBUG ENCODING h => sparse
        PFDEBUG DECODE h => "Z:9216 v:1,1 Z:7167"
        GETRANGE h 15 15 => "\x80"
        PFCOUNT h => 1
        GETRANGE h 8 15 => "\x01\x00\x00\x00\x00\x00\x00\x00"
        PFADD h hello => 0
        GETRANGE h 15 15 => "\x00"
        PFDEBUG TODENSE h => 1
        PFDEBUG TODENSE h => 0
        PFDEBUG ENCODING h => dense
        STRLEN h => 12304
        PFADD h world => 1
        PFCOUNT h => 2
        PFDEBUG DECODE h => ERR HLL encoding is not sparse
        PFDEBUG DECODE nothing => ERR The specified key does not exist
        PFDEBUG LOOK h => ERR Unknown PFDEBUG subcommand 'LOOK'
    "#,
    );
}

#[test]
fn what_is_none_is_refused() {
    check(
        r#"
        SET text x
        PFADD text a => WRONGTYPE Key is not a valid HyperLogLog string value.
        PFCOUNT text => WRONGTYPE Key is not a valid HyperLogLog string value.
        PFMERGE to text => WRONGTYPE Key is not a valid HyperLogLog string value.
        RPUSH list x
        PFADD list a => WRONGTYPE Operation against a key holding the wrong kind of value
        PFADD h a b c
        APPEND h tail
        PFCOUNT h => INVALIDOBJ Corrupted HLL object detected
        PFMERGE to h => INVALIDOBJ Corrupted HLL object detected
        PFADD g a
        SETRANGE g 0 0123
        PFCOUNT g => WRONGTYPE Key is not a valid HyperLogLog string value.
    "#,
    );
}
