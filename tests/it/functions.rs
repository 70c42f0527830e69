//! Functions as users see them: what libraries answer, that they last as keys do, and what becomes of those that take long.

use crate::process::{Connection, Process, Reply, until};
use crate::script::check;

const LIBRARY: &str = "#!lua name=lib\nredis.register_function('put', function(keys, args) return redis.call('SET', keys[1], args[1]) end)\n\
                       redis.register_function{function_name='get', description='reads', callback=function(keys) return redis.call('GET', \
                       keys[1]) end, flags={'no-writes'}}";

#[test]
fn a_function_is_called_by_its_name_until_its_library_is_gone() {
    check(
        r##"
        FCALL f 0 => ERR Function not found
        FUNCTION LOAD "#!lua name=one\nredis.register_function('f', function(keys, args) return {keys[1], args[1]} end)" => one
        FCALL f 1 key value => [key, value]
        FCALL f x => ERR Bad number of keys provided
        FCALL f 2 a => ERR Number of keys can't be greater than number of args
        FUNCTION LOAD "#!lua name=one\nredis.register_function('g', function() return 1 end)" => ERR Library 'one' already exists
        FUNCTION LOAD "#!lua name=two\nredis.register_function('f', function() return 1 end)" => ERR Function f already exists
        FUNCTION LOAD REPLACE "#!lua name=one\nredis.register_function('g', function() return redis.call('INCR', 'n') end)" => one
        FCALL f 0 => ERR Function not found
        FCALL_RO g 0 => ERR Can not execute a script with write flag using *_ro command.
        FCALL g 0 => 1
        MULTI => OK
        FCALL g 0 => QUEUED
        GET n => QUEUED
        EXEC => [2, 2]
        FLUSHALL => OK
        KEYS * => []
        DBSIZE => 0
        FCALL g 0 => 1
        FUNCTION DELETE one => OK
        FUNCTION DELETE one => ERR Library not found
        FCALL g 0 => ERR Function not found
        FUNCTION FLUSH LATER => ERR FUNCTION FLUSH only supports SYNC|ASYNC option
        EVAL "return redis.call('FCALL', 'g', 0)" 0 => ERR This Redis command is not allowed from script…
        "##,
    );
}

#[test]
fn libraries_are_answered_as_redis_answers_them() {
    let Some(redis) = Process::redis(&[]) else { return };
    let flux = Process::flux(&[]);
    let (mut redis, mut flux) = (redis.connect(), flux.connect());
    let register = |name: &str| format!("#!lua name={name}\nredis.register_function('{name}', function() return 1 end)");
    let (a, b) = (register("a"), register("b"));
    let lines: &[&[&str]] = &[
        &["FUNCTION", "LIST"],
        &["FUNCTION", "STATS"],
        &["FUNCTION", "LOAD", LIBRARY],
        &["FUNCTION", "STATS"],
        &["FCALL", "put", "1", "key", "value"],
        &["FCALL_RO", "get", "1", "key"],
        &["FCALL_RO", "put", "1", "key", "value"],
        &["FCALL", "put", "-1"],
        &["FCALL", "put", "5", "key"],
        &["FUNCTION", "LOAD", "return 1"],
        &["FUNCTION", "LOAD", "#!lua name=x"],
        &["FUNCTION", "LOAD", "#!lua name=\nreturn 1"],
        &["FUNCTION", "LOAD", "#!lua\nreturn 1"],
        &["FUNCTION", "LOAD", "#!lua name=x name=y\nreturn 1"],
        &["FUNCTION", "LOAD", "#!lua name=x more=y\nreturn 1"],
        &["FUNCTION", "LOAD", "#!js name=x\nreturn 1"],
        &["FUNCTION", "LOAD", "#!lua name=x-y\nreturn 1"],
        &["FUNCTION", "LOAD", "#!lua name=x\nreturn 1"],
        &["FUNCTION", "LOAD", "#!lua name=x\nreturn {"],
        &["FUNCTION", "LOAD", "#!lua name=x\nredis.register_function('put', function() end)"],
        &["FUNCTION", "LOAD", "MORE", &a],
        &["FUNCTION", "LOAD", "REPLACE"],
        &["FUNCTION", "LOAD", &a],
        &["FUNCTION", "LOAD", &a],
        &["FUNCTION", "LOAD", "REPLACE", &a],
        &["MULTI"],
        &["FUNCTION", "LOAD", &b],
        &["FCALL", "b", "0"],
        &["FUNCTION", "DELETE", "b"],
        &["FCALL", "b", "0"],
        &["EXEC"],
        &["FUNCTION", "LIST", "LIBRARYNAME"],
        &["FUNCTION", "LIST", "WITHCODE", "LIBRARYNAME", "A*"],
        &["FUNCTION", "LIST", "WITHCODE", "WITHCODE"],
        &["FUNCTION", "DELETE", "nothing"],
        &["FUNCTION", "KILL"],
        &["EVAL", "return redis.register_function", "0"],
        &["FUNCTION", "FLUSH", "SYNC"],
        &["FUNCTION", "STATS"],
        &["FCALL", "put", "0"],
    ];
    for line in lines {
        assert_eq!(flux.call(line).unwrap(), redis.call(line).unwrap(), "{line:?}");
    }
}

#[test]
fn a_killed_server_has_all_libraries_that_were_acknowledged() {
    let mut server = Process::flux(&["--appendfsync", "always"]);
    let mut client = server.connect();
    ask(&mut client, &["FUNCTION", "LOAD", LIBRARY]);
    ask(&mut client, &["FUNCTION", "LOAD", "#!lua name=gone\nredis.register_function('gone', function() return 1 end)"]);
    ask(&mut client, &["FUNCTION", "DELETE", "gone"]);
    ask(&mut client, &["FCALL", "put", "1", "key", "value"]);
    // From the journal, then from the tables.
    for round in 0..2 {
        server.kill();
        server.restart();
        let mut client = server.connect();
        assert_eq!(ask(&mut client, &["FCALL", "get", "1", "key"]), Reply::Bulk('$', b"value".to_vec()), "round {round}");
        assert_eq!(ask(&mut client, &["FCALL", "gone", "0"]), Reply::Line("-ERR Function not found".into()));
        ask(&mut client, &["SWAPDB", "0", "1"]);
        ask(&mut client, &["SWAPDB", "0", "1"]);
        ask(&mut client, &["SAVE"]);
    }
    ask(&mut server.connect(), &["FUNCTION", "FLUSH"]);
    ask(&mut server.connect(), &["SAVE"]);
    server.kill();
    server.restart();
    assert_eq!(ask(&mut server.connect(), &["FCALL", "get", "1", "key"]), Reply::Line("-ERR Function not found".into()));
}

#[test]
fn a_function_that_takes_too_long_is_told_of_and_can_be_killed() {
    let server = Process::flux(&["--threads", "1", "--busy-reply-threshold", "50"]);
    let (mut client, mut other) = (server.connect(), server.connect());
    let code = "#!lua name=long\nredis.register_function('reads', function() while true do end end)\n\
                redis.register_function('writes', function() redis.call('SET', 'half', 1) while true do end end)";
    ask(&mut client, &["FUNCTION", "LOAD", code]);
    client.send(&["FCALL", "reads", "0", "word"]).unwrap();
    until("BUSY", || shown(&mut other, &["GET", "key"]).contains("You can only call FUNCTION KILL or SHUTDOWN NOSAVE."));
    assert!(shown(&mut other, &["SCRIPT", "KILL"]).contains("You can only call FUNCTION KILL"));
    let stats = shown(&mut other, &["FUNCTION", "STATS"]);
    assert!(stats.starts_with("running_scriptMany"), "{stats}");
    assert!(shown(&mut other, &["FUNCTION", "KILL"]).contains("OK"));
    assert!(format!("{:?}", client.read().unwrap()).contains("killed by user with FUNCTION KILL"));
    client.send(&["FCALL", "writes", "0"]).unwrap();
    until("UNKILLABLE", || shown(&mut other, &["FUNCTION", "KILL"]).contains("UNKILLABLE"));
}

#[test]
fn no_library_takes_the_server_with_it() {
    let server = Process::flux(&["--threads", "1", "--script-memory-limit", "32mb"]);
    let mut client = server.connect();
    ask(&mut client, &["FUNCTION", "LOAD", LIBRARY]);
    for (code, why) in [
        ("while true do end", "FUNCTION LOAD timeout"),
        ("local text = 'xxxxxxxx' while true do text = text .. text end", "not enough memory"),
        ("local function f() return f() + 1 end f()", "stack overflow"),
        ("redis.call('SET', 'a', 1)", "Error registering functions"),
    ] {
        let told = shown(&mut client, &["FUNCTION", "LOAD", &format!("#!lua name=bad\n{code}")]);
        assert!(told.contains(why), "{code}: {told}");
    }
    let many = "#!lua name=many\nfor i = 1, 10000 do redis.register_function('f' .. i, function() return i end) end";
    ask(&mut client, &["FUNCTION", "LOAD", many]);
    assert_eq!(ask(&mut client, &["FCALL", "f10000", "0"]), Reply::Line(":10000".into()));
    ask(&mut client, &["FCALL", "put", "1", "key", "value"]);
    assert_eq!(ask(&mut client, &["EVAL", "return 1", "0"]), Reply::Line(":1".into()));
}

/// The answer, which is no error unless the test says so.
fn ask(client: &mut Connection, words: &[&str]) -> Reply {
    client.call(words).unwrap()
}

fn shown(client: &mut Connection, words: &[&str]) -> String {
    match client.call(words).unwrap() {
        Reply::Line(line) => line,
        Reply::Many(_, items) => items
            .iter()
            .map(|item| match item {
                Reply::Bulk(_, bytes) => String::from_utf8_lossy(bytes).into_owned(),
                item => format!("{item:?}"),
            })
            .collect(),
        reply => format!("{reply:?}"),
    }
}

#[test]
fn libraries_are_checked_and_go_with_backups() {
    let mut server = Process::flux(&["--appendfsync", "always"]);
    ask(&mut server.connect(), &["FUNCTION", "LOAD", LIBRARY]);
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).into_os_string().into_string().unwrap();
    let flux = |args: &[&str]| {
        let ran = std::process::Command::new(env!("CARGO_BIN_EXE_flux")).args(args).output().unwrap();
        assert!(ran.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ran.stderr));
        String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned()
    };
    flux(&["backup", &path("copy"), "--url", &format!("redis://127.0.0.1:{}", server.port())]);
    server.kill();
    server.ended();
    assert!(flux(&["check", "--data", server.data().to_str().unwrap()]).contains("no problem found"));
    flux(&["restore", &path("copy"), "--data", &path("data")]);
    assert!(flux(&["check", "--data", &path("data")]).contains("no problem found (1 keys"));
    server = Process::flux_in(path("data").as_ref(), &[]);
    let mut client = server.connect();
    ask(&mut client, &["FCALL", "put", "1", "key", "value"]);
    assert_eq!(ask(&mut client, &["FCALL", "get", "1", "key"]), Reply::Bulk('$', b"value".to_vec()));
}

#[test]
fn scripts_and_functions_that_promise_to_write_nothing_run_while_writes_pause() {
    let server = Process::flux(&[]);
    let (mut pauses, mut client) = (server.connect(), server.connect());
    ask(&mut pauses, &["FUNCTION", "LOAD", LIBRARY]);
    ask(&mut pauses, &["SET", "key", "value"]);
    let source = "#!lua flags=no-writes\nreturn redis.call('GET', KEYS[1])";
    let Reply::Bulk(_, sha) = ask(&mut pauses, &["SCRIPT", "LOAD", source]) else { panic!("it is a digest") };
    ask(&mut pauses, &["CLIENT", "PAUSE", "1000000", "WRITE"]);
    let value = Reply::Bulk('$', b"value".to_vec());
    for call in [
        ["EVAL", source, "1", "key"],
        ["EVALSHA", std::str::from_utf8(&sha).unwrap(), "1", "key"],
        ["FCALL", "get", "1", "key"],
        ["EVAL_RO", "return redis.call('GET', KEYS[1])", "1", "key"],
    ] {
        assert_eq!(client.call(&call).unwrap(), value, "{call:?}");
    }
    client.send(&["FCALL", "put", "1", "key", "other"]).unwrap();
    assert_eq!(ask(&mut pauses, &["GET", "key"]), value, "one that may write waits");
    ask(&mut pauses, &["CLIENT", "UNPAUSE"]);
    assert_eq!(client.read().unwrap(), Reply::Line("+OK".into()));
}
