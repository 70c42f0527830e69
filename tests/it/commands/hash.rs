//! Hashes: fields and their values, sums in them, and fields that expire.

use flux::commands::{self, Run};
use flux::engine::{Engine, Scope};
use flux::resp::request::split_words;
use flux::resp::{OwnedArgs, Protocol, Reply};

use crate::script::{check, show};

#[test]
fn fields_are_set_and_read() {
    check(
        "
        HSET h a 1 b two => 2
        HSET h a 3 c x => 1
        HSET h a => ERR wrong number of arguments for 'hset' command
        HSET h a 1 b => ERR wrong number of arguments for 'hset' command
        HMSET h d 4 => OK
        HMSET h d => ERR wrong number of arguments for 'hmset' command
        HSETNX h d 5 => 0
        HSETNX h e 5 => 1
        HGET h a => 3
        HGET h nothing => (nil)
        HGET nothing a => (nil)
        HMGET h a nothing b => [3, (nil), two]
        HMGET nothing a b => [(nil), (nil)]
        HGETALL h => [a, 3, b, two, c, x, d, 4, e, 5]
        HKEYS h => [a, b, c, d, e]
        HVALS h => [3, two, x, 4, 5]
        HLEN h => 5
        HEXISTS h a => 1
        HEXISTS h x => 0
        HSTRLEN h b => 3
        HSTRLEN h x => 0
        HDEL h a x b => 2
        HDEL h c d e => 3
        EXISTS h => 0
        HGETALL h => []
    ",
    );
}

#[test]
fn another_kind_of_value_is_refused() {
    check(
        "
        SET text x
        HSET text a 1 => WRONGTYPE Operation against a key holding the wrong kind of value
        HGET text a => WRONGTYPE Operation against a key holding the wrong kind of value
        HEXPIRE text notanumber FIELDS 1 a => WRONGTYPE Operation against a key holding the wrong kind of value
        HRANDFIELD text 1 => WRONGTYPE Operation against a key holding the wrong kind of value
    ",
    );
}

#[test]
fn integers_in_fields_are_added_to() {
    check(
        "
        HINCRBY h n 5 => 5
        HINCRBY h n -7 => -2
        HINCRBY h n 1.5 => ERR value is not an integer or out of range
        HSET h n 9223372036854775807 t text s ' 1' z 01
        HINCRBY h n 1 => ERR increment or decrement would overflow
        HINCRBY h t 1 => ERR hash value is not an integer
        HINCRBY h s 1 => ERR hash value is not an integer
        HINCRBY h z 1 => ERR hash value is not an integer
        HGET h n => 9223372036854775807
    ",
    );
}

#[test]
fn numbers_in_fields_are_added_to() {
    check(
        "
        HINCRBYFLOAT h f 0.1 => 0.1
        HINCRBYFLOAT h f 0.2 => 0.3
        HINCRBYFLOAT h f 5.0e3 => 5000.29999999999999982
        HINCRBYFLOAT h f inf => ERR value is NaN or Infinity
        HINCRBYFLOAT h f x => ERR value is not a valid float
        HSET h t text i inf
        HINCRBYFLOAT h t 1 => ERR hash value is not a float
        HINCRBYFLOAT h i 1 => ERR increment would produce NaN or Infinity
        HSET h f 1.5
        HINCRBYFLOAT h f -1.5e0 => 0
    ",
    );
}

#[test]
fn random_fields_are_different_or_as_many_as_asked() {
    check(
        "
        HSET h a 1
        HRANDFIELD h => a
        HRANDFIELD h 0 => []
        HRANDFIELD h 5 => [a]
        HRANDFIELD h 5 WITHVALUES => [a, 1]
        HRANDFIELD h -2 WITHVALUES => [a, 1, a, 1]
        HRANDFIELD h 5 WITHOUT => ERR syntax error
        HRANDFIELD h -9223372036854775808 => ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807
        HRANDFIELD h -9223372036854775000 WITHVALUES => ERR value is out of range
        HRANDFIELD h -9223372036854775807 => ERR value is out of range
        HRANDFIELD nothing => (nil)
        HRANDFIELD nothing 1 => []
    ",
    );
}

#[test]
fn a_small_hash_is_walked_at_once() {
    check(
        "
        HSET h a 1 b 2
        HSCAN h 0 => [0, [a, 1, b, 2]]
        HSCAN h 0 NOVALUES => [0, [a, b]]
        HSCAN h 0 NOSCORES => ERR NOSCORES option can only be used in ZSCAN
        HSCAN h 0 MATCH b* COUNT 1 => [0, [b, 2]]
        HSCAN h 0 COUNT x => ERR value is not an integer or out of range
        HSCAN h x => ERR invalid cursor
        HSCAN nothing 0 BAD => [0, []]
    ",
    );
}

#[test]
fn expiries_of_fields_are_asked_for_correctly() {
    check(
        "
        HSET h a 1 b 2
        HEXPIRE h 100 FIELDS 1 => ERR wrong number of arguments for 'hexpire' command
        HEXPIRE h x FIELDS 1 a => ERR value is not an integer or out of range
        HEXPIRE h -1 FIELDS 1 a => ERR invalid expire time, must be >= 0
        HEXPIRE h 70368744178 FIELDS 1 a => ERR invalid expire time in 'hexpire' command
        HPEXPIREAT h 70368744177664 FIELDS 1 a => ERR invalid expire time in 'hpexpireat' command
        HEXPIRE h 100 MAYBE FIELDS 1 a => ERR Mandatory argument FIELDS is missing or not at the right position
        HEXPIRE h 100 FIELDS 0 a => ERR Parameter `numFields` should be greater than 0
        HEXPIRE h 100 FIELDS 2 a => ERR The `numfields` parameter must match the number of arguments
        HTTL h FIELDS 0 a => ERR Number of fields must be a positive integer
        HTTL h FIELDS 1 a b => ERR The `numfields` parameter must match the number of arguments
        HTTL nothing FIELDS 2 a b => [-2, -2]
        HEXPIRE nothing 100 FIELDS 2 a b => [-2, -2]
        HPERSIST nothing FIELDS 1 a => [-2]
        HPEXPIREAT h 1 FIELDS 2 a x => [2, -2]
        HPEXPIREAT h 1 FIELDS 1 b => [2]
        EXISTS h => 0
    ",
    );
}

/// Runs lines of `time COMMAND args => reply` with a clock that shows these times.
#[track_caller]
fn check_at(script: &str) {
    let engine = Engine::new(false);
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (command, expected) = line.split_once("=>").unwrap_or((line, "*"));
        let (now, command) = command.trim().split_once(' ').expect("a line begins with a time");
        let shown = run(&engine, now.parse().expect("a line begins with a time"), command);
        assert!(expected.trim() == "*" || shown.replace('"', "") == expected.trim(), "{line}: {shown}");
    }
}

fn run(engine: &Engine, now: u64, command: &str) -> String {
    let words = split_words(command.as_bytes()).expect("quotes balance");
    let owned = OwnedArgs::new(words.iter().map(Vec::as_slice));
    let (args, mut reply) = (owned.args(), Reply::new(Protocol::Resp2));
    let outcome = match commands::Table::keyspace().find(args.at(0)).expect("a known command").1.run {
        Run::Read(run) => engine.read(0, now, Scope::Everything, |keys| run(keys, args, &mut reply)),
        Run::Write(run) => engine.write(0, now, Scope::Everything, |keys| run(keys, args, &mut reply)),
        _ => panic!("a command about keys"),
    };
    outcome.expect("no command here fails");
    show(&reply.bytes())
}

#[test]
fn fields_expire_when_told() {
    check_at(
        "
        0 HSET h a 1 b 2 c 3
        0 HPEXPIRE h 100 FIELDS 1 a => [1]
        0 HEXPIRE h 1 FIELDS 1 b => [1]
        50 HPTTL h FIELDS 4 a b c x => [50, 950, -1, -2]
        50 HTTL h FIELDS 2 a b => [1, 1]
        50 HPEXPIRETIME h FIELDS 2 a b => [100, 1000]
        50 HEXPIRETIME h FIELDS 2 a b => [1, 1]
        99 HGET h a => 1
        100 HGET h a => (nil)
        100 HLEN h => 2
        100 HGETALL h => [b, 2, c, 3]
        100 HPTTL h FIELDS 1 a => [-2]
        100 HSETNX h a new => 1
        100 HPTTL h FIELDS 1 a => [-1]
        1000 HDEL h b => 0
        1000 HKEYS h => [c, a]
    ",
    );
}

#[test]
fn a_hash_goes_with_its_last_field() {
    check_at(
        "
        0 HSET h a 1
        0 HPEXPIRE h 10 FIELDS 1 a
        10 HGETALL h => []
        10 HRANDFIELD h => (nil)
        10 HRANDFIELD h 3 => []
        10 HSCAN h 0 => [0, []]
        10 HPERSIST h FIELDS 1 a => [-2]
        10 EXISTS h => 0
        10 HSET h a 2 => 1
        10 HPTTL h FIELDS 1 a => [-1]
        10 HPEXPIRE h 10 FIELDS 1 a
        20 HINCRBY h a 5 => 5
    ",
    );
}

#[test]
fn an_expiry_is_set_under_a_condition() {
    check_at(
        "
        0 HSET h a 1 b 2
        0 HPEXPIRE h 100 XX FIELDS 1 a => [0]
        0 HPEXPIRE h 100 GT FIELDS 1 a => [0]
        0 HPEXPIRE h 100 NX FIELDS 1 a => [1]
        0 HPEXPIRE h 200 NX FIELDS 2 a b => [0, 1]
        0 HPEXPIRE h 150 GT FIELDS 2 a b => [1, 0]
        0 HPEXPIRE h 160 LT FIELDS 2 a b => [0, 1]
        0 HPEXPIRE h 170 xx FIELDS 2 a b => [1, 1]
        0 HPEXPIREAT h 0 GT FIELDS 1 a => [0]
        0 HPEXPIREAT h 0 FIELDS 1 a => [2]
        0 HKEYS h => [b]
    ",
    );
}

#[test]
fn setting_a_field_lets_it_last_and_adding_to_it_does_not() {
    check_at(
        "
        0 HSET h a 1 b 1 c 1
        0 HPEXPIRE h 100 FIELDS 3 a b c => [1, 1, 1]
        0 HSET h a 2
        0 HINCRBY h b 1 => 2
        0 HINCRBYFLOAT h c 0.5 => 1.5
        0 HPTTL h FIELDS 3 a b c => [-1, 100, 100]
        0 HPERSIST h FIELDS 4 a b c x => [-1, 1, 1, -2]
        0 HPTTL h FIELDS 3 a b c => [-1, -1, -1]
        200 HGETALL h => [a, 2, b, 2, c, 1.5]
    ",
    );
}

#[test]
fn fields_are_read_and_removed_at_once() {
    check(
        "
        HSET h a 1 b 2 c 3
        HGETDEL h FIELDS 3 a nothing a => [1, (nil), (nil)]
        HKEYS h => [b, c]
        HGETDEL h FIELDS 1 nothing => [(nil)]
        HGETDEL h FIELDS 2 b c => [2, 3]
        EXISTS h => 0
        HGETDEL h FIELDS 2 b c => [(nil), (nil)]
        HSET h a 1
        HGETDEL h FIELDS 1 => ERR wrong number of arguments for 'hgetdel' command
        HGETDEL h FIELDS 0 a => ERR Number of fields must be a positive integer
        HGETDEL h FIELDS x a => ERR Number of fields must be a positive integer
        HGETDEL h FIELDS 2 a => ERR The `numfields` parameter must match the number of arguments
        HGETDEL h FIELDS 1 a b => ERR The `numfields` parameter must match the number of arguments
        HGETDEL h NAMES 1 a => ERR Mandatory argument FIELDS is missing or not at the right position
        HGET h a => 1
        SET text x
        HGETDEL text NAMES 1 a => WRONGTYPE Operation against a key holding the wrong kind of value
    ",
    );
}

#[test]
fn reading_fields_changes_when_they_expire() {
    check_at(
        "
        0 HSET h a 1 b 2 c 3
        0 HGETEX h FIELDS 2 a nothing => [1, (nil)]
        0 HPTTL h FIELDS 1 a => [-1]
        0 HGETEX h EX 1 FIELDS 2 a nothing => [1, (nil)]
        0 HGETEX h PXAT 500 FIELDS 1 b => [2]
        0 HPTTL h FIELDS 3 a b c => [1000, 500, -1]
        100 HGETEX h FIELDS 1 a => [1]
        100 HPTTL h FIELDS 1 a => [900]
        100 HGETEX h PERSIST FIELDS 2 a c => [1, 3]
        100 HPTTL h FIELDS 2 a c => [-1, -1]
        500 HGETEX h PERSIST FIELDS 1 b => [(nil)]
        500 HGETEX h PXAT 500 FIELDS 3 a a c => [1, (nil), 3]
        500 EXISTS h => 0
        500 HGETEX h EX 1 FIELDS 1 a => [(nil)]
        500 EXISTS h => 0
    ",
    );
    check(
        "
        HSET h a 1
        HGETEX h FIELDS 0 a => ERR Number of fields must be a positive integer
        HGETEX h FIELDS 1 a PERSIST => ERR The `numfields` parameter must match the number of arguments
        HGETEX h EX 10 FIELDS => ERR wrong number of arguments for 'hgetex' command
        HGETEX h EX FIELDS 1 a => ERR value is not an integer or out of range
        HGETEX h EX -1 FIELDS 1 a => ERR invalid expire time, must be >= 0
        HGETEX h PXAT 70368744177664 FIELDS 1 a => ERR invalid expire time in 'hgetex' command
        HGETEX h PX 9223372036854775807 FIELDS 1 a => ERR invalid expire time in 'hgetex' command
        HGETEX h EX 1 PX 1 FIELDS 1 a => ERR Mandatory argument FIELDS is missing or not at the right position
        HGETEX h KEEPTTL FIELDS 1 a => ERR Mandatory argument FIELDS is missing or not at the right position
        HTTL h FIELDS 1 a => [-1]
        SET text x
        HGETEX text EX x FIELDS 1 a => WRONGTYPE Operation against a key holding the wrong kind of value
    ",
    );
}

#[test]
fn fields_are_set_together_and_expire_together() {
    check_at(
        "
        0 HSETEX h FIELDS 2 a 1 b 2 => 1
        0 HPTTL h FIELDS 2 a b => [-1, -1]
        0 HSETEX h PX 100 FIELDS 2 a 3 c 4 => 1
        0 HPTTL h FIELDS 3 a b c => [100, -1, 100]
        10 HSETEX h KEEPTTL FIELDS 2 a 5 b 6 => 1
        10 HPTTL h FIELDS 2 a b => [90, -1]
        10 HSETEX h FIELDS 1 a 7 => 1
        10 HPTTL h FIELDS 1 a => [-1]
        10 HSETEX h FNX FIELDS 2 new 1 a 2 => 0
        10 HSETEX h FXX FIELDS 2 new 1 a 2 => 0
        10 HEXISTS h new => 0
        10 HSETEX h FXX EX 1 FIELDS 2 a 8 b 9 => 1
        10 HSETEX h EX 1 FNX FIELDS 2 d 1 d 2 => 1
        10 HGETALL h => [a, 8, b, 9, c, 4, d, 2]
        100 HSETEX h FXX FIELDS 1 c 1 => 0
        100 HSETEX h FNX FIELDS 1 c 1 => 1
        100 HSETEX h PXAT 100 FIELDS 4 a 1 b 1 c 1 d 1 => 1
        100 EXISTS h => 0
        100 HSETEX h PXAT 1 FIELDS 1 a 1 => 1
        100 EXISTS h => 0
        100 HSETEX h XX FIELDS 1 a 1 => 0
        100 HSETEX h FXX FIELDS 1 a 1 => 0
        100 EXISTS h => 0
        100 HSETEX h NX PX 50 FIELDS 1 a 1 => 1
        100 HSETEX h NX FIELDS 1 b 1 => 0
        100 HSETEX h XX FNX FIELDS 1 a 2 => 0
        150 HSETEX h XX FIELDS 1 b 1 => 0
        150 HSETEX h NX FIELDS 1 b 1 => 1
        150 HGETALL h => [b, 1]
    ",
    );
}

#[test]
fn fields_that_expire_together_are_asked_for_correctly() {
    check(
        "
        HSETEX h FIELDS 1 a => ERR wrong number of arguments for 'hsetex' command
        HSETEX h FIELDS 1 a 1 b 2 => ERR wrong number of arguments for 'hsetex' command
        HSETEX h FIELDS 2 a 1 => ERR wrong number of arguments for 'hsetex' command
        HSETEX h FIELDS 1 a 1 EX 100 => ERR wrong number of arguments for 'hsetex' command
        HSETEX h FIELDS 9223372036854775807 a 1 => ERR invalid number of fields
        HSETEX h FIELDS 0 a 1 => ERR invalid number of fields
        HSETEX h FIELDS x a 1 => ERR invalid number of fields
        HSETEX h FNX FXX FIELDS 1 a 1 => ERR Only one of FXX or FNX arguments can be specified
        HSETEX h KEEPTTL EX 10 FIELDS 1 a 1 => ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified
        HSETEX h NX XX FIELDS 1 a 1 => ERR syntax error
        HSETEX h PERSIST FIELDS 1 a 1 => ERR unknown argument: PERSIST
        HSETEX h EX -5 FIELDS 1 a 1 => ERR invalid expire time, must be >= 0
        HSETEX h EX x FIELDS 1 a 1 => ERR value is not an integer or out of range
        EXISTS h => 0
        SET text x
        HSETEX text FIELDS 1 a 1 => WRONGTYPE Operation against a key holding the wrong kind of value
        HSETEX text FNX FIELDS 1 a 1 => WRONGTYPE Operation against a key holding the wrong kind of value
    ",
    );
}

#[test]
fn what_is_done_to_fields_that_expire_is_told() {
    let told = ["hset", "hexpire", "hpersist", "hdel", "hdel", "del", "hset", "hdel", "del"];
    let told = told.map(|event| format!("[pmessage, __keyevent@0__:*, __keyevent@0__:{event}, h]")).join(" ");
    check(&format!(
        "
        CONFIG SET notify-keyspace-events Ehg
        l: PSUBSCRIBE __keyevent@0__:*
        HSETEX h EX 100 FIELDS 2 a 1 b 2 => 1
        HSETEX h FNX FIELDS 1 a 1 => 0
        HGETEX h PERSIST FIELDS 1 a => [1]
        HGETEX h FIELDS 1 a => [1]
        HGETEX h PXAT 1 FIELDS 1 a => [1]
        HGETDEL h FIELDS 1 nothing => [(nil)]
        HGETDEL h FIELDS 1 b => [2]
        HSETEX h PXAT 1 FIELDS 1 b 2 => 1
        l: PING => {told} [pong, ]
    "
    ));
}
