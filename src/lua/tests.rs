//! What scripts may and may not do, by a host that answers commands of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::{Alarm, Ending, Function, Host, Kind, Options, Verdict, Vm};

const LIMIT: usize = 16 << 20;

/// A host that answers commands of its own.
struct Tester {
    alarm: Alarm,
    verdict: Verdict,
    pauses: usize,
    /// So many times it rings itself where it is asked, and lets the script go on.
    rings_again: usize,
    logged: Vec<(u8, Vec<u8>)>,
}

impl Host for Tester {
    fn call(&mut self, args: &[&[u8]], protocol: u8, reply: &mut Vec<u8>) {
        match args[0] {
            b"ring" => {
                self.alarm.ring();
                reply.extend(b"+OK\r\n");
            }
            b"panic" => panic!("on purpose"),
            b"protocol" => reply.extend(format!(":{protocol}\r\n").as_bytes()),
            b"reply" => reply.extend(args[1]),
            b"words" => {
                reply.extend(format!("*{}\r\n", args.len() - 1).as_bytes());
                for word in &args[1..] {
                    reply.extend(format!("${}\r\n", word.len()).as_bytes());
                    reply.extend(*word);
                    reply.extend(b"\r\n");
                }
            }
            _ => reply.extend(b"-ERR Unknown Redis command called from script\r\n"),
        }
    }

    fn pause(&mut self) -> Verdict {
        self.pauses += 1;
        if self.rings_again > 0 {
            self.rings_again -= 1;
            self.alarm.ring();
            return Verdict::GoOn;
        }
        self.verdict
    }

    fn log(&mut self, level: u8, text: &[u8]) {
        self.logged.push((level, text.to_vec()));
    }

    fn may_call(&mut self, args: &[&[u8]]) -> Option<bool> {
        (args[0] != b"nope").then_some(args[0] != b"forbidden")
    }
}

/// A `Vm` and its host.
struct Stage {
    vm: Vm,
    host: Tester,
    ending: Ending,
}

impl Stage {
    fn new(kind: Kind) -> Stage {
        let vm = Vm::new(&Options { kind, limit: LIMIT, version: "7.4.0".to_owned() });
        let host = Tester { alarm: vm.alarm(), verdict: Verdict::GoOn, pauses: 0, rings_again: 0, logged: Vec::new() };
        Stage { vm, host, ending: Ending::default() }
    }

    fn scripts() -> Stage {
        Stage::new(Kind::Scripts)
    }

    /// Its reply in RESP3.
    fn run(&mut self, script: &str) -> String {
        let mut reply = Vec::new();
        match self.vm.compile("SHA", script.as_bytes()) {
            Ok(chunk) => {
                self.ending = self.vm.run(&chunk, &[b"k"], &[b"a", b"b"], 3, &mut self.host, &mut reply);
                self.vm.forget(chunk);
            }
            Err(why) => reply = why,
        }
        String::from_utf8_lossy(&reply).into_owned()
    }

    fn call(&mut self, function: &Function) -> String {
        let mut reply = Vec::new();
        self.ending = self.vm.run(&function.chunk, &[b"k"], &[b"a"], 2, &mut self.host, &mut reply);
        String::from_utf8_lossy(&reply).into_owned()
    }

    fn load(&mut self, source: &str) -> Result<Vec<Function>, String> {
        let loaded = self.vm.load_library(source.as_bytes(), &mut self.host);
        loaded.map(|library| library.functions).map_err(|why| String::from_utf8_lossy(&why).into_owned())
    }
}

/// What each script replies in a fresh `Vm`.
fn check(table: &[(&str, &str)]) {
    for (script, expected) in table {
        assert_eq!(Stage::scripts().run(script), *expected, "{script}");
    }
}

#[test]
fn words_of_commands_are_strings_and_numbers() {
    check(&[
        (
            "return redis.call('words', 'a', '', 12, 1.5, -3, 1e17)",
            "*6\r\n$1\r\na\r\n$0\r\n\r\n$2\r\n12\r\n$3\r\n1.5\r\n$2\r\n-3\r\n$18\r\n100000000000000000\r\n",
        ),
        (
            "return redis.call('words', {})",
            "-ERR Lua redis lib command arguments must be strings or integers script: SHA, on @user_script:1.\r\n",
        ),
        (
            "return redis.call()",
            "-ERR Please specify at least one argument for this redis lib call script: SHA, on @user_script:1.\r\n",
        ),
    ]);
}

#[test]
fn replies_nest_and_need_not_be_well_formed() {
    check(&[
        ("return redis.call('reply', '*2\\r\\n*1\\r\\n:1\\r\\n$1\\r\\nx\\r\\n')", "*2\r\n*1\r\n:1\r\n$1\r\nx\r\n"),
        ("return redis.call('reply', '')", "_\r\n"),
        ("return redis.call('reply', '$100\\r\\nx')", "$1\r\nx\r\n"),
        ("return redis.call('reply', '$99999999999999999999999\\r\\nx') ~= nil", ":1\r\n"),
        ("return redis.call('reply', '*-1\\r\\n')", "_\r\n"),
        ("return redis.call('reply', '?')", "_\r\n"),
    ]);
}

#[test]
fn errors_of_commands_are_counted_once() {
    let mut stage = Stage::scripts();
    stage.run("return redis.call('nope')");
    assert_eq!(stage.ending, Ending { is_error: true, is_counted: true });
    stage.run("return redis.pcall('nope')");
    assert_eq!(stage.ending, Ending { is_error: true, is_counted: true });
    stage.run("return redis.error_reply('x')");
    assert_eq!(stage.ending, Ending { is_error: true, is_counted: false });
    stage.run("error('x')");
    assert_eq!(stage.ending, Ending { is_error: true, is_counted: false });
    stage.run("redis.pcall('nope') return {redis.pcall('nope')}");
    assert_eq!(stage.ending, Ending::default());
}

#[test]
fn a_script_leaves_nothing_behind_for_the_next() {
    let mut stage = Stage::scripts();
    for script in [
        "x = 1",
        "string.rep = nil",
        "rawset(_G, 'x', 1)",
        "rawset(string, 'rep', nil)",
        "table.insert(string, 'x')",
        "table.insert(_G, 'x')",
        "getmetatable('').__index = function() return 'evil' end",
        "rawset(getmetatable(''), '__index', {})",
        "getmetatable('').__index.upper = nil",
        "setmetatable(_G, nil)",
        "setmetatable(string, {__index = {x = 1}})",
        "getmetatable(_G).__index = nil",
        "for k, v in pairs(_G) do if type(v) == 'table' then v.x = 1 end end",
        "for k, v in pairs(_G) do if type(v) == 'table' then rawset(v, 'x', 1) end end",
        "table.foreach(_G, function(k, v) if type(v) == 'table' then v.x = 1 end end)",
        "table.sort(_G, function(a, b) a.x = 1 end) KEYS = 1",
    ] {
        let reply = stage.run(script);
        assert!(reply.starts_with("-ERR ") && reply.contains("Attempt to modify a readonly table"), "{script}: {reply}");
    }
    assert_eq!(
        stage.run("return {('x'):upper(), string.rep('x', 2), #string, #_G}"),
        "*4\r\n$1\r\nX\r\n$2\r\nxx\r\n:0\r\n:0\r\n"
    );
    assert_eq!(
        stage.run("return x"),
        "-ERR user_script:1: Script attempted to access nonexistent global variable 'x' script: SHA, on @user_script:1.\r\n"
    );
    stage.run("collectgarbage('stop') collectgarbage('setpause', 0) collectgarbage('setstepmul', 1)");
    assert_eq!(stage.run("return {collectgarbage('setpause'), collectgarbage('setstepmul')}"), "*2\r\n:200\r\n:200\r\n");
    stage.run("math.randomseed(5)");
    assert_eq!(stage.run("return tostring(math.random())"), Stage::scripts().run("return tostring(math.random())"));
}

#[test]
fn what_could_reach_the_machine_is_not_there() {
    let names = "dofile loadfile print require module package io os debug jit ffi newproxy getfenv setfenv";
    for name in names.split(' ') {
        let reply = Stage::scripts().run(&format!("return {name}"));
        assert!(reply.contains("nonexistent global variable"), "{name}: {reply}");
    }
}

/// The holes of stock Lua 5.1.5 that Redis closed in its own copy.
#[test]
fn holes_of_stock_lua_are_closed() {
    let names = |count: usize| (0..count).map(|at| format!("a{at},")).collect::<String>();
    for (script, expected) in [
        // CVE-2025-46817
        (
            "return unpack({1,2,3}, 0, 2^31-1)",
            "-ERR user_script:1: too many results to unpack script: SHA, on @user_script:1.\r\n",
        ),
        (
            "return unpack({1,2,3}, -2^31, 2^31-1)",
            "-ERR user_script:1: too many results to unpack script: SHA, on @user_script:1.\r\n",
        ),
        // CVE-2025-46818
        (
            "local m = getmetatable('') m.__len = function() return 7 end",
            "-ERR user_script:1: Attempt to modify a readonly table script: SHA, on @user_script:1.\r\n",
        ),
        // CVE-2025-49844
        (
            "local name = string.rep('n', 100) return type(load(function() collectgarbage() return nil end, name .. 'x'))",
            "$8\r\nfunction\r\n",
        ),
        ("return select('#', loadstring('\\27Lua' .. string.rep('\\0', 100)))", ":2\r\n"),
        ("local n = 0 return select('#', load(function() n = n + 1 return n == 1 and '\\27Lua' or nil end))", ":2\r\n"),
    ] {
        assert_eq!(Stage::scripts().run(script), expected, "{script}");
    }
    // CVE-2014-5461, and as many locals as there may not be.
    assert_eq!(Stage::scripts().run(&format!("local function f({}...) return ... end return f()", names(100))), "_\r\n");
    assert!(Stage::scripts().run(&format!("local {} b = 1", names(300))).contains("200 local variables"), "so many locals");
}

#[test]
fn recursion_of_any_kind_ends_in_an_error() {
    for script in [
        "local function f() return 1 + f() end f()",
        "local function f() string.gsub('a', 'a', f) end f()",
        "local function f() table.sort({1, 2}, f) end f()",
        "local function f() coroutine.wrap(f)() end f()",
        "local function f() load(f)() end f()",
        "local function f() pcall(f) error('x') end f()",
        "local function f() xpcall(error, f) error('x') end f()",
        "local t = {} setmetatable(t, {__index = function(t, k) return t[k] end}) return t.x",
        "local t = setmetatable({}, {}) getmetatable(t).__index = t return t.x",
        "return loadstring(string.rep('(', 10000) .. string.rep(')', 10000))()",
        "local t = {} for i = 1, 100000 do t = {t} end return t",
        "local function f() tostring(setmetatable({}, {__tostring = f})) end f()",
    ] {
        let mut stage = Stage::scripts();
        let reply = stage.run(script);
        assert!(reply.contains("-ERR "), "{script}: {reply}");
        assert_eq!(stage.run("return 1"), ":1\r\n", "after {script}");
    }
}

#[test]
fn a_table_that_holds_itself_is_written_up_to_the_limit() {
    let reply = Stage::scripts().run("local a = {} a[1] = a return a");
    assert!(reply.starts_with("*1\r\n*1\r\n") && reply.ends_with("-ERR reached lua stack limit\r\n"));
    let reply = Stage::scripts().run("local a = {} for i = 1, 100 do a[i] = a end return a");
    assert!(reply.starts_with("-ERR the reply is larger than what a script may use"), "{}", &reply[..100]);
}

#[test]
fn memory_is_bounded_and_the_state_goes_on() {
    for script in [
        "local s = 'x' while true do s = s .. s end",
        "local t = {} for i = 1, 1e9 do t[i] = {} end",
        "local t = {} for i = 1, 1e9 do t[i] = coroutine.create(function() end) end",
        "local t = {} for i = 1, 1e9 do t[i] = 'key' .. i end",
        "local f = 'return 1' while true do f = f .. ' ' .. f loadstring(f) end",
    ] {
        let mut stage = Stage::scripts();
        let before = stage.vm.memory();
        let reply = stage.run(script);
        assert_eq!(
            reply, "-ERR not enough memory: a script may use 16777216 bytes (script-memory-limit) script: SHA\r\n",
            "{script}"
        );
        assert!(stage.vm.memory() < before + LIMIT / 4 || stage.vm.is_spoiled(), "{script}");
        assert_eq!(stage.run("return {1, ARGV[1]}"), "*2\r\n:1\r\n$1\r\na\r\n", "after {script}");
    }
}

#[test]
fn a_script_may_catch_that_memory_is_short() {
    let caught = "local ok, why = pcall(function() local s = 'x' while true do s = s .. s end end) return why";
    assert_eq!(Stage::scripts().run(caught), "$17\r\nnot enough memory\r\n");
    for reader in ["n = n + 1 return string.rep('x', 1e6) .. n", "return string.rep(' ', 1e6)"] {
        let script = format!("local n = 0 local f, why = load(function() {reader} end) return why");
        assert_eq!(Stage::scripts().run(&script), "$17\r\nnot enough memory\r\n", "{reader}");
    }
}

#[test]
fn the_limit_is_counted_from_what_is_there() {
    let mut stage = Stage::scripts();
    let large = format!("local s = '{}' return #s", "x".repeat(LIMIT / 3));
    let mut chunks = Vec::new();
    for at in 0..6 {
        let compiled = stage.vm.compile("SHA", format!("{large} -- {at}").replace("'xxx", &format!("'{at}xx")).as_bytes());
        chunks.push(compiled.unwrap());
    }
    assert!(stage.vm.memory() > LIMIT);
    assert_eq!(stage.run("return #string.rep('y', 1e6)"), ":1000000\r\n");
    chunks.into_iter().for_each(|chunk| stage.vm.forget(chunk));
    let refused = stage.vm.compile("SHA", format!("return '{}'", "z".repeat(LIMIT)).as_bytes()).unwrap_err();
    assert!(String::from_utf8_lossy(&refused).contains("not enough memory"), "{}", String::from_utf8_lossy(&refused));
    assert_eq!(stage.run("return 1"), ":1\r\n");
}

/// Where memory ends at any allocation, or one is refused and those after it are not, the script gets an error, and the state goes on.
#[test]
fn memory_may_end_at_any_allocation() {
    let snippets = include_str!("../../tests/it/lua/snippets.txt").lines();
    for script in HUNGRY.iter().copied().chain(snippets) {
        let script = script.replace('\u{21b5}', "\n");
        let mut stage = Stage::scripts();
        let Ok(chunk) = stage.vm.compile("SHA", script.as_bytes()) else { continue };
        stage.vm.fail(0..0);
        let mut at = 0;
        loop {
            for which in [at..u64::MAX, at..at + 1] {
                let mut reply = Vec::new();
                stage.vm.fail(which);
                stage.vm.run(&chunk, &[b"k"], &[b"a", b"b"], 3, &mut stage.host, &mut reply);
                assert!(!reply.is_empty(), "{script}");
            }
            let asked = stage.vm.fail(0..0);
            let mut reply = Vec::new();
            stage.vm.run(&chunk, &[b"k"], &[b"a", b"b"], 3, &mut stage.host, &mut reply);
            if at > asked {
                break;
            }
            // Loops do the same again and again.
            at += 1 + at / 200;
        }
        stage.vm.forget(chunk);
        assert_eq!(stage.run("return 1"), ":1\r\n", "after {script}");
    }
}

/// Where coroutines are nested too deeply, Lua tells so where nothing protects it from an error.
#[test]
fn memory_may_end_where_coroutines_are_nested_too_deeply() {
    let script = "local resume = coroutine.resume local all = {}
        for i = 1, 260 do all[i] = coroutine.create(function() return resume(all[i + 1]) end) end
        return resume(all[1])";
    let run = |which| {
        let mut stage = Stage::scripts();
        let chunk = stage.vm.compile("SHA", script.as_bytes()).unwrap();
        stage.vm.fail(which);
        let mut reply = Vec::new();
        stage.vm.run(&chunk, &[], &[], 2, &mut stage.host, &mut reply);
        assert!(!reply.is_empty());
        stage.vm.fail(0..0)
    };
    let all = run(0..0);
    for at in all.saturating_sub(500)..all {
        run(at..u64::MAX);
        run(at..at + 1);
    }
}

/// Scripts that allocate in many ways.
const HUNGRY: &[&str] = &[
    "local co = coroutine.create(function(...) return select('#', ...) end) local t = {} for i = 1, 300 do t[i] = i end return {coroutine.resume(co, unpack(t))}",
    "local t = {} for i = 1, 300 do t[i] = i end local co = coroutine.wrap(function(...) while true do coroutine.yield(unpack(t)) end end) co() return {co(unpack(t))}",
    "local function f() return coroutine.wrap(f)() end return pcall(f)",
    "local function f() string.gsub('a', 'a', f) end return pcall(f)",
    "local function f() return 1 + f() end return pcall(f)",
    "local function f() pcall(f) error('x') end f()",
    "local function f(n) if n == 0 then error({}) end local ok, e = pcall(f, n - 1) error(e) end f(50)",
    "local t = {} for i = 1, 200 do t['k' .. i] = {i} end return cjson.encode(t)",
    "local t = {} for i = 1, 200 do t['k' .. i] = {i} end return cmsgpack.pack(t)",
    "local t = {} for i = 1, 100 do t['k' .. i] = i end local s = cjson.encode(t) return cjson.decode(s).k7",
    "local t = {} for i = 1, 100 do t['k' .. i] = i end local s = cmsgpack.pack(t) return cmsgpack.unpack(s).k7",
    "return cjson.decode(string.rep('[', 500) .. string.rep(']', 500))",
    "return cjson.new().encode({1})",
    "return struct.pack(string.rep('s', 100), unpack((function() local t = {} for i = 1, 100 do t[i] = 'text' .. i end return t end)()))",
    "return {struct.unpack(string.rep('b', 200), string.rep('x', 200))}",
    "return (string.gsub(string.rep('abc', 500), '(a)(b)', '%2%1'))",
    "return (string.gsub(string.rep('abc', 100), 'b', function(b) return b .. b end))",
    "return (string.gsub(string.rep('abc', 100), '%w', {a = 'xyz', b = 2}))",
    "local n = 0 for a, b in string.gmatch(string.rep('a=b,', 100), '(%w)=(%w)') do n = n + 1 end return n",
    "return string.find(string.rep('a', 300) .. 'b', string.rep('a-', 20) .. 'b')",
    "return loadstring('local t = {} for i = 1, 10 do t[i] = function() return i end end return #t')()",
    "local n = 0 return load(function() n = n + 1 return n < 50 and 'local a' .. n .. ' = ' .. n .. ' ' or nil end)()",
    "local t = {} for i = 1, 100 do t[i] = tostring(i) end table.sort(t) return table.concat(t, ',')",
    "return redis.call('reply', '*2\\r\\n%1\\r\\n$1\\r\\na\\r\\n:1\\r\\n~1\\r\\n,1.5\\r\\n')",
    "return {redis.call('reply', '=5\\r\\ntxt:a\\r\\n'), redis.call('reply', '(123\\r\\n'), redis.call('words', 1, 2.5, 'x')}",
    "local t = {} for i = 1, 100 do t[i] = redis.pcall('nope', i) end return #t",
    "redis.log(3, string.rep('x', 1000)) return redis.sha1hex('x')",
    "return redis.error_reply('x y')",
    "return {redis.acl_check_cmd('a', 1, 2), redis.status_reply('x')}",
    "error(setmetatable({}, {__tostring = function() return 'x' end}))",
    "error({err = 'MINE x'})",
    "error()",
    "return xpcall(function() error('x') end, function(e) return e .. string.rep('y', 100) end)",
    "local t = setmetatable({}, {__index = function(t, k) return k .. 'x' end, __call = function() return 1 end, __lt = function() return true end}) return t.a .. t() .. tostring(t < t)",
    "for i = 1, 100 do pcall(string.rep, 'x', i * 100) end collectgarbage() return collectgarbage('count') > 0",
    "local t = {} for i = 1, 50 do t = {t, map = {a = t}} end return t",
    "return {map = {a = 1, [2] = {set = {x = true}}}, double = 1}",
    "return {double = 1.5}",
    "return {{verbatim_string = {format = 'txt', string = 'x'}}, {big_number = '12'}}",
    "return string.format('%s %q %d %5.2f', 'x', 'a\\n', 3, 1.5)",
    "local co = coroutine.wrap(function() error('x') end) return pcall(co)",
    "local co = coroutine.wrap(function() local t = {} for i = 1, 100 do t[i] = {} end error(t) end) return pcall(co)",
    "local function up() local t = {} return function() t[#t + 1] = {} return #t end end local f = up() for i = 1, 50 do f() end return f()",
];

const STOPPED: &str = "-ERR Script killed by user with SCRIPT KILL... script: SHA, on @user_script:1.\r\n";

#[test]
fn a_script_ends_when_its_host_says_so_whatever_it_does() {
    for script in [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "while true do pcall(error) end",
        "xpcall(function() while true do end end, function() while true do end end)",
        "while true do xpcall(error, function() end) end",
        "xpcall(error, function() while true do end end)",
        "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
        "while true do pcall(coroutine.wrap(function() pcall(error) end)) end",
        "coroutine.wrap(function() while true do pcall(function() end) end end)()",
        "local co = coroutine.create(function() while true do coroutine.yield() end end) while true do coroutine.resume(co) end",
        "string.gsub(string.rep('x', 1e6), 'x', function() while true do end end)",
        "table.sort({1, 2, 3}, function() while true do end end)",
        "load(function() while true do end end)",
        "while true do load(function() error('x') end) end",
        "tostring(setmetatable({}, {__tostring = function() while true do end end}))",
        "pcall(error, setmetatable({}, {__tostring = function() while true do end end})) while true do end",
        "for i = 1, 1e9 do local x = string.rep('x', 1e6) end",
        "table.insert({}, -2147483647, 1)",
        "local t = {} for i = 1, 30000 do t[i] = i % 1000 end while true do table.sort(t) end",
        "local function f() return f() end f()",
        "while true do collectgarbage() end",
        "while true do loadstring(string.rep(' ', 1000000)) end",
    ] {
        let mut stage = Stage::scripts();
        stage.host.verdict = Verdict::Stop("Script killed by user with SCRIPT KILL...");
        let reply = ringing(&mut stage, script);
        assert!(reply.starts_with("-ERR Script killed by user with SCRIPT KILL..."), "{script}: {reply}");
        assert_eq!(stage.host.pauses, 1, "{script}");
        // A ring that came after the end.
        stage.host.verdict = Verdict::GoOn;
        assert_eq!(stage.run("return 1"), ":1\r\n", "after {script}");
    }
}

/// Behind the ring there are a few instructions of Lua, the last of which takes seconds: the host is asked within that, again and again.
#[test]
fn what_takes_long_within_one_step_is_interrupted() {
    for script in [
        "local a, b = string.rep('x', 1e6) .. 'a', string.rep('x', 1e6) .. 'b' local t = {} for i = 1, 1000 do t[i] = i % 2 == 0 and a or b end ring() table.sort(t)",
        "local t = {} for i = 1, 300000 do t[i] = i end ring() table.sort(t, rawequal)",
        "local t = {} for i = 1, 300000 do t[i] = i end ring() table.foreachi(t, math.randomseed)",
        "local t = {} for i = 1, 300000 do t[i] = t end ring() return t",
        "local m = {} local t = {map = m} for i = 1, 200000 do m[i] = t end ring() return t",
        "local s = string.rep(' ', 4e6) ring() loadstring(s)",
    ] {
        let mut stage = Stage::scripts();
        stage.host.rings_again = 40;
        stage.host.verdict = Verdict::Stop("Script killed by user with SCRIPT KILL...");
        let script = format!("local function ring() redis.call('ring') end {script}");
        let reply = stage.run(&script);
        assert!(reply.starts_with("-ERR Script killed by user"), "{script}: {}", &reply[..reply.len().min(100)]);
        assert_eq!(stage.host.pauses, 41, "{script}");
    }
}

#[test]
fn a_script_that_is_to_end_says_so_also_where_it_has_no_memory_left() {
    let mut stage = Stage::scripts();
    stage.host.verdict = Verdict::Stop("Script killed by user with SCRIPT KILL...");
    let chunk = stage.vm.compile("SHA", b"redis.call('ring') return 1").unwrap();
    stage.vm.fail(0..0);
    let mut reply = Vec::new();
    stage.vm.run(&chunk, &[], &[], 2, &mut stage.host, &mut reply);
    let all = stage.vm.fail(0..0);
    let mut replies = std::collections::BTreeSet::new();
    for at in 0..all {
        let mut reply = Vec::new();
        stage.vm.fail(at..u64::MAX);
        stage.vm.run(&chunk, &[], &[], 2, &mut stage.host, &mut reply);
        replies.insert(String::from_utf8_lossy(&reply).into_owned());
    }
    assert!(replies.iter().any(|reply| reply == "-ERR Script killed by user with SCRIPT KILL... script: SHA\r\n"), "{replies:?}");
}

#[test]
fn what_one_run_needed_of_buffers_is_given_back() {
    let mut stage = Stage::scripts();
    stage
        .run("redis.call('reply', '$8000000\\r\\n' .. string.rep('x', 8000000)) redis.log(3, string.rep('x', 1000000)) return 1");
    stage.host.logged.clear();
    stage.run("collectgarbage() return 1");
    assert!(stage.vm.buffered() < 256 << 10, "{}", stage.vm.buffered());
}

/// Runs it while another thread rings without end.
fn ringing(stage: &mut Stage, script: &str) -> String {
    let is_over = AtomicBool::new(false);
    let alarm = stage.vm.alarm();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(SeqCst) {
                alarm.ring();
                std::thread::yield_now();
            }
        });
        let reply = catch_unwind(AssertUnwindSafe(|| stage.run(script)));
        is_over.store(true, SeqCst);
        reply.unwrap()
    })
}

#[test]
fn a_ring_reaches_a_coroutine_that_was_made_before_it() {
    let mut stage = Stage::scripts();
    stage.host.verdict = Verdict::Stop("Script killed by user with SCRIPT KILL...");
    let script = "local co = coroutine.wrap(function() coroutine.yield() while true do end end) co() redis.call('ring') co()";
    assert_eq!(stage.run(script), STOPPED);
    let script = "local co = coroutine.wrap(function() redis.call('ring') while true do end end) co()";
    assert_eq!(stage.run(script), STOPPED);
    let script = "local co = coroutine.wrap(function() redis.call('ring') end) pcall(co) while true do end";
    assert_eq!(stage.run(script), STOPPED);
}

#[test]
fn a_script_that_may_go_on_is_asked_once_for_each_ring() {
    let mut stage = Stage::scripts();
    assert_eq!(
        stage.run("redis.call('ring') local n = 0 for i = 1, 1000 do n = n + 1 end redis.call('ring') return n"),
        ":1000\r\n"
    );
    assert_eq!(stage.host.pauses, 2);
    // One that nobody heard isn't for the next.
    stage.host.alarm.ring();
    stage.run("return 1");
    let asked = stage.host.pauses;
    stage.run("local x = 1 return x");
    assert_eq!(stage.host.pauses, asked);
}

#[test]
fn an_alarm_outlives_its_state() {
    let alarm = Stage::scripts().vm.alarm();
    alarm.ring();
}

#[test]
fn a_panic_of_the_host_goes_on_behind_the_script() {
    let mut stage = Stage::scripts();
    let panicked = catch_unwind(AssertUnwindSafe(|| stage.run("while true do pcall(redis.call, 'panic') end")));
    assert_eq!(panicked.unwrap_err().downcast_ref::<&str>(), Some(&"on purpose"));
    assert!(stage.vm.is_spoiled());
}

#[test]
fn what_is_logged_is_one_text() {
    let mut stage = Stage::scripts();
    stage.run("redis.log(redis.LOG_WARNING, 'a', 1.5, {}, 'b')");
    assert_eq!(stage.host.logged, [(3, b"a 1.5 b".to_vec())]);
}

#[test]
fn versions_are_those_it_is_told() {
    check(&[("return {redis.REDIS_VERSION, redis.REDIS_VERSION_NUM}", "*2\r\n$5\r\n7.4.0\r\n:459776\r\n")]);
}

#[test]
fn a_library_registers_functions_in_both_forms() {
    let mut stage = Stage::new(Kind::Functions);
    let functions = stage
        .load(
            "\nredis.register_function('one', function(keys, args) return {keys[1], args[1]} end)
            redis.register_function{function_name='two', callback=function() return redis.call('nope') end, description='Second', flags={'no-writes', 'allow-stale'}}",
        )
        .unwrap();
    assert_eq!(functions[0].name, b"one");
    assert_eq!((functions[1].flags, functions[1].description.as_deref()), (5, Some(&b"Second"[..])));
    assert_eq!(stage.call(&functions[0]), "*2\r\n$1\r\nk\r\n$1\r\na\r\n");
    assert_eq!(stage.call(&functions[1]), "-ERR Unknown Redis command called from script script: two, on @user_function:3.\r\n");
}

#[test]
fn a_library_finds_little_while_it_is_loaded() {
    let mut stage = Stage::new(Kind::Functions);
    for (source, expected) in [
        ("redis.call('ping')", "nonexistent global variable 'call'"),
        ("math.random()", "nonexistent global variable 'math'"),
        ("redis.redis.call()", "nonexistent global variable 'redis'"),
        ("x = 1", "Attempt to modify a readonly table"),
        ("redis.x = 1", "Attempt to modify a readonly table"),
        ("return x", "nonexistent global variable 'x'"),
        ("nope nope", "ERR Error compiling function: user_function:1:"),
        ("redis.register_function('f', 1)", "second argument to redis.register_function must be a function"),
        ("redis.register_function({}, function() end)", "first argument to redis.register_function must be a string"),
        (
            "redis.register_function('f-g', function() end)",
            "Function names can only contain letters, numbers, or underscores(_) and must be at least one character long",
        ),
        ("redis.register_function('', function() end)", "Function names can only contain"),
        (
            "redis.register_function('f', function() end) redis.register_function('f', function() end)",
            "Function already exists in the library",
        ),
        ("redis.register_function()", "wrong number of arguments to redis.register_function"),
        (
            "redis.register_function(1)",
            "calling redis.register_function with a single argument is only applicable to Lua table (representing named arguments).",
        ),
        ("redis.register_function{}", "redis.register_function must get a function name argument"),
        ("redis.register_function{function_name='f'}", "redis.register_function must get a callback argument"),
        ("redis.register_function{function_name={}}", "function_name argument given to redis.register_function must be a string"),
        ("redis.register_function{description={}}", "description argument given to redis.register_function must be a string"),
        ("redis.register_function{callback=1}", "callback argument given to redis.register_function must be a function"),
        (
            "redis.register_function{flags=1}",
            "flags argument to redis.register_function must be a table representing function flags",
        ),
        ("redis.register_function{flags={'nope'}}", "unknown flag given"),
        ("redis.register_function{nope=1}", "unknown argument given to redis.register_function"),
        ("redis.register_function{[{}]=1}", "named argument key given to redis.register_function is not a string"),
    ] {
        let why = stage.load(source).unwrap_err();
        assert!(why.starts_with("ERR Error ") && why.contains(expected), "{source}: {why}");
    }
    // And all of it once it runs.
    let functions =
        stage.load("redis.register_function('f', function() return type(math.random) .. type(redis.call) end)").unwrap();
    assert_eq!(stage.call(&functions[0]), "$16\r\nfunctionfunction\r\n");
}

#[test]
fn a_function_that_keeps_the_librarys_table_can_register_nothing() {
    let mut stage = Stage::new(Kind::Functions);
    let functions = stage
        .load(
            "local lib = redis
            lib.register_function('f', function() lib.math = math end)
            lib.register_function('g', function() lib.register_function('h', function() end) end)
            lib.register_function('h', function() return KEYS end)",
        )
        .unwrap();
    assert!(stage.call(&functions[0]).contains("Attempt to modify a readonly table"));
    assert!(stage.call(&functions[1]).contains("redis.register_function can only be called on FUNCTION LOAD command"));
    assert!(stage.call(&functions[2]).contains("nonexistent global variable 'KEYS'"));
}

#[test]
fn a_library_that_loads_for_too_long_is_stopped() {
    let mut stage = Stage::new(Kind::Functions);
    stage.host.verdict = Verdict::Stop("FUNCTION LOAD timeout");
    let alarm = stage.vm.alarm();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(SeqCst) {
                alarm.ring();
                std::thread::yield_now();
            }
        });
        let loaded = stage.load("redis.register_function('f', function() end) while true do end");
        is_over.store(true, SeqCst);
        assert_eq!(loaded.unwrap_err(), "ERR Error registering functions: ERR FUNCTION LOAD timeout");
    });
    stage.host.verdict = Verdict::GoOn;
    assert!(stage.load("redis.register_function('f', function() end)").is_ok());
}
