//! Tests of the libraries by scripts. That they are equal to Redis' is compared in `tests/it/lua/libraries.rs`; here is what must hold beyond it.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use crate::lua::{Alarm, Host, Kind, Options, Verdict, Vm};

const LIMIT: usize = 16 << 20;

/// Lets a script go on for so many pauses.
struct Patient {
    pauses_left: usize,
}

impl Host for Patient {
    fn call(&mut self, _: &[&[u8]], _: u8, reply: &mut Vec<u8>) {
        reply.extend(b"+OK\r\n");
    }

    fn pause(&mut self) -> Verdict {
        match self.pauses_left.checked_sub(1) {
            Some(left) => {
                self.pauses_left = left;
                Verdict::GoOn
            }
            None => Verdict::Stop("stopped by a test"),
        }
    }

    fn log(&mut self, _: u8, _: &[u8]) {}

    fn may_call(&mut self, _: &[&[u8]]) -> Option<bool> {
        None
    }
}

fn vm() -> Vm {
    Vm::new(&Options { kind: Kind::Scripts, limit: LIMIT, version: "7.4.0".to_owned() })
}

fn run(vm: &mut Vm, host: &mut Patient, script: &str) -> String {
    let mut reply = Vec::new();
    let chunk = vm.compile("SHA", script.as_bytes()).expect("it compiles");
    vm.run(&chunk, &[], &[], 2, host, &mut reply);
    vm.forget(chunk);
    String::from_utf8_lossy(&reply).into_owned()
}

fn eval(script: &str) -> String {
    run(&mut vm(), &mut Patient { pauses_left: usize::MAX }, script)
}

/// What each script returns, as a string.
#[track_caller]
fn check(table: &[(&str, &str)]) {
    for (script, expected) in table {
        let wrapped = format!("local ok, value = pcall(function() {script} end) return tostring(value)");
        assert_eq!(eval(&wrapped), format!("${}\r\n{expected}\r\n", expected.len()), "{script}");
    }
}

#[test]
fn json_goes_both_ways() {
    check(&[
        ("return cjson.encode({1, 2.5, 'a/b', true, cjson.null})", r#"[1,2.5,"a\/b",true,null]"#),
        ("return cjson.encode({})", "{}"),
        ("return cjson.encode({[3] = 'x'})", r#"[null,null,"x"]"#),
        ("return cjson.encode({[1] = 1, [30] = 1})", "user_script:1: Cannot serialise table: excessively sparse array"),
        ("return cjson.encode({a = {b = {}}})", r#"{"a":{"b":{}}}"#),
        ("return cjson.encode(12345678901234567)", "1.2345678901235e+16"),
        ("return cjson.encode(cjson.decode('[1.10, \"\\\\u00e9\\\\ud83d\\\\ude00\", {}]'))", "[1.1,\"é😀\",{}]"),
        ("return cjson.decode('{\"a\": [1, 2, {\"b\": \"c\"}]}').a[3].b", "c"),
        ("return cjson.decode('[1, 2')", "user_script:1: Expected comma or array end but found T_END at character 6"),
        ("return cjson.decode('{1:2}')", "user_script:1: Expected object key string but found T_NUMBER at character 2"),
        (
            "return cjson.decode('\"\\\\ud83d\"')",
            "user_script:1: Expected value but found invalid unicode escape code at character 2",
        ),
        ("return tostring(cjson.decode('null') == cjson.null)", "true"),
        ("return cjson.encode(0/0)", "user_script:1: Cannot serialise number: must not be NaN or Inf"),
    ]);
}

#[test]
fn message_pack_goes_both_ways() {
    let hex = |value: &str| {
        format!("return (cmsgpack.pack({value}):gsub('.', function(c) return string.format('%02x', c:byte()) end))")
    };
    let of = [
        ("{}", "90"),
        ("1, -1, 'a', true, nil", "01ffa161c3c0"),
        ("{a = 1}", "81a16101"),
        ("300, -200, 70000, 2^40", "cd012cd1ff38ce00011170cf0000010000000000"),
    ];
    for (value, expected) in of {
        check(&[(&hex(value), expected)]);
    }
    check(&[
        (&hex("1.5, 1.1, 1/0"), "ca3fc00000cb3ff199999999999aca7f800000"),
        ("local t = {} t.t = t return #cmsgpack.pack(t)", "49"),
        ("return table.concat({cmsgpack.unpack(cmsgpack.pack(1, 'b', 2.5))}, ' ')", "1 b 2.5"),
        ("return table.concat({cmsgpack.unpack_limit(cmsgpack.pack(1, 2, 3), 2)}, ' ')", "2 1 2"),
        ("return table.concat({cmsgpack.unpack_one(cmsgpack.pack(1), 0)}, ' ')", "-1 1"),
        ("return cmsgpack.unpack('\\217\\5abc')", "user_script:1: Missing bytes in input."),
        ("return cmsgpack.unpack('\\193')", "user_script:1: Bad data format in input."),
    ]);
}

#[test]
fn structs_go_both_ways() {
    check(&[
        ("return table.concat({struct.unpack('>hBs', struct.pack('>hBs', -2, 255, 'abc'))}, ' ')", "-2 255 abc 8"),
        ("return #struct.pack('!8bd', 1, 2)", "16"),
        ("return struct.unpack('Bc0', '\\3abcd')", "abc"),
        ("return struct.size('!4bib')", "9"),
        ("return struct.unpack('i', 'abc')", "user_script:1: bad argument #2 to 'unpack' (data string too short)"),
        ("return struct.unpack('c0', 'abc')", "user_script:1: format 'c0' needs a previous size"),
        ("return struct.unpack('i', 'abcdefgh', -1)", "user_script:1: bad argument #2 to 'unpack' (data string too short)"),
        ("return struct.pack('i99', 1)", "user_script:1: integral size 99 is larger than limit of 32"),
        ("return struct.size('c99999999999')", "user_script:1: integral size overflow"),
    ]);
}

#[test]
fn bits_are_of_32() {
    check(&[
        ("return bit.tobit(2^32 - 1)", "-1"),
        ("return bit.bor(1, 2, 4)", "7"),
        ("return bit.tohex(-1, -4) .. bit.tohex(30, -2^31)", "FFFF0000001E"),
        ("return bit.arshift(-16, 2) .. ' ' .. bit.rshift(-16, 28) .. ' ' .. bit.rol(1, 33)", "-4 15 2"),
        ("return bit.band('x')", "user_script:1: bad argument #1 to 'band' (number expected, got string)"),
    ]);
}

#[test]
fn patterns_find_what_they_are_to_find() {
    check(&[
        ("return table.concat({('key:12'):match('^(%a+):(%d+)$')}, ' ')", "key 12"),
        ("return ('aaa'):gsub('a*', 'x')", "xx"),
        ("return (('abc'):gsub('%w', '%0%0', 2))", "aabbc"),
        ("return table.concat({('a(b(c)d)e'):find('%b()')}, ' ')", "2 8"),
        ("return (('THE (quick) fox'):find('%f[%a]%a+%f[%A]', 5))", "6"),
        ("return string.find('a', '%')", "user_script:1: malformed pattern (ends with '%')"),
        ("return tostring(string.gfind == string.gmatch)", "true"),
        ("return (string.gsub('abc', 'b', function() return string.gsub('xyz', 'y', '[%0]') end))", "ax[y]zc"),
    ]);
}

#[test]
fn what_is_nested_deep_is_an_error_and_no_end() {
    let deep = "local c = cjson.new() c.decode_max_depth(2^31 - 1) c.encode_max_depth(2^31 - 1)";
    check(&[
        (
            &format!("{deep} return c.decode(('['):rep(100000))"),
            "user_script:1: Found too many nested data structures (7999) at character 7999",
        ),
        (
            &format!("{deep} local t = {{}} for i = 1, 100000 do t = {{t}} end return c.encode(t)"),
            "user_script:1: Cannot serialise, excessive nesting (7998)",
        ),
        (
            "local t = {} for i = 1, 1001 do t = {t} end return cjson.encode(t)",
            "user_script:1: Cannot serialise, excessive nesting (1001)",
        ),
        ("return #cjson.encode(cjson.decode(('['):rep(1000) .. (']'):rep(1000)))", "2000"),
        ("return string.find(('a'):rep(200000), ('a?'):rep(200000))", "1"),
    ]);
    let unpacked = eval("return cmsgpack.unpack(('\\145'):rep(100000))");
    assert!(unpacked.contains("stack overflow (in function mp_decode_to_lua_array)"), "{unpacked}");
}

/// Each can be asked again and again, and none of it needs an instruction of Lua.
#[test]
fn what_takes_long_in_a_library_can_be_stopped() {
    for script in [
        "return ('a'):rep(400):find('.-.-.-.-b')",
        "return ('a'):rep(400):match(('a*'):rep(30) .. 'b')",
        "for x in ('a'):rep(400):gmatch('.-.-.-.-b') do end",
        "return ('a'):rep(400):gsub('.-.-.-.-b', 'x')",
        "return ('a'):rep(100000):find('[' .. ('b'):rep(100000) .. ']*c')",
        "return ('('):rep(1000000):find('%b()')",
        "local c = cjson.new() c.encode_sparse_array(false, 0) return c.encode({[2^31 - 1] = {}})",
    ] {
        let mut vm = Vm::new(&Options { kind: Kind::Scripts, limit: 1 << 30, version: "7.4.0".to_owned() });
        let alarm = vm.alarm();
        // More than the script has instructions.
        let mut host = Patient { pauses_left: 100 };
        let reply = ringing(&alarm, || run(&mut vm, &mut host, script));
        assert!(reply.starts_with("-ERR stopped by a test"), "{script}: {reply}");
    }
}

/// Does it while another thread rings all the time.
fn ringing<T>(alarm: &Alarm, work: impl FnOnce() -> T) -> T {
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(SeqCst) {
                alarm.ring();
                thread::yield_now();
            }
        });
        let done = work();
        is_over.store(true, SeqCst);
        done
    })
}

#[test]
fn what_grows_too_long_is_an_error_and_leaves_nothing() {
    let mut vm = vm();
    let mut host = Patient { pauses_left: usize::MAX };
    let before = vm.memory();
    for script in [
        "return ('x'):rep(2^30)",
        "return ('xy'):rep(2^31 - 1)",
        "return ('a'):rep(1000000):gsub('a', ('b'):rep(100))",
        "return cjson.encode(('\\1'):rep(5000000))",
        "local t = {} for i = 1, 100 do t[i] = ('x'):rep(300000 + i) end return cjson.encode(t)",
        "local s = ('x'):rep(1000000) return cmsgpack.pack(s, s, s, s, s, s, s, s, s, s, s, s, s, s, s, s)",
        "local s = ('x'):rep(5000000) return struct.pack('c0c0c0c0', s, s, s, s)",
    ] {
        for _ in 0..3 {
            let reply = run(&mut vm, &mut host, script);
            assert!(reply.contains("not enough memory"), "{script}: {:.200}", reply);
            assert_eq!(run(&mut vm, &mut host, "return cjson.encode(cjson.decode('[1]'))"), "$3\r\n[1]\r\n", "after {script}");
        }
    }
    run(&mut vm, &mut host, "cmsgpack.pack(1) struct.pack('b', 1) collectgarbage() collectgarbage()");
    assert!(vm.memory() < before + (300 << 10), "{} bytes are left of {before}", vm.memory());
}

#[test]
fn errors_in_the_middle_leave_nothing() {
    let mut vm = vm();
    let mut host = Patient { pauses_left: usize::MAX };
    let script = "
        local long = ('x'):rep(300000)
        for i = 1, 200 do
            pcall(cjson.encode, {long, setmetatable})
            pcall(cjson.encode, {long, redis.call})
            pcall(cjson.decode, '[\"' .. long .. '\\\\n' .. long .. '\", ?')
            pcall(cmsgpack.unpack, ('\\145'):rep(9000))
            pcall(struct.pack, 'si', long, 'x')
            pcall(string.gsub, long, 'x', function() error('x') end)
        end
        collectgarbage() collectgarbage()";
    run(&mut vm, &mut host, "return 1");
    let before = vm.memory();
    let reply = run(&mut vm, &mut host, script);
    assert_eq!(reply, "$-1\r\n");
    run(&mut vm, &mut host, "cjson.encode(1) struct.pack('b', 1) collectgarbage() collectgarbage()");
    assert!(vm.memory() < before + (300 << 10), "{} bytes are left of {before}", vm.memory());
}
