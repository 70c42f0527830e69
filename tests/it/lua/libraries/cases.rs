//! Random snippets for the libraries of scripts. Each returns one string that shows all there is to see.

use crate::random::Random;

/// Functions that snippets begin with: `show` a value with its kind, tables in the order of `pairs`, and `try` a call.
pub const PRELUDE: &str = r#"
local function show(v, depth)
  if type(v) == 'number' then return string.format('%.17g', v) end
  if type(v) == 'string' then
    local out = {}
    for i = 1, #v do local b = v:byte(i) out[i] = (b >= 97 and b <= 122) and string.char(b) or ('\\' .. b) end
    return '"' .. table.concat(out) .. '"'
  end
  if type(v) == 'function' then return 'function' end
  if type(v) ~= 'table' then return tostring(v) end
  if depth > 30 then return '...' end
  local out = {}
  for key, item in pairs(v) do
    -- Their order is that of their addresses.
    if type(key) == 'table' then return '{with tables as keys}' end
    out[#out + 1] = show(key, depth + 1) .. '=' .. show(item, depth + 1)
  end
  return '{' .. table.concat(out, ',') .. '}'
end
local function all(...)
  local out = {}
  for i = 1, select('#', ...) do out[i] = show((select(i, ...)), 0) end
  return table.concat(out, ' ')
end
local function try(f, ...) return all(pcall(f, ...)) end
"#;

pub fn json_to_write(random: &mut Random) -> String {
    let mut options = String::new();
    for _ in 0..random.below(3) {
        options += match random.below(9) {
            0 => "c.encode_sparse_array(true) ",
            1 => "c.encode_sparse_array(true, 3, 2) ",
            2 => "c.encode_sparse_array(false, 0) ",
            3 => "c.encode_max_depth(2) ",
            4 => "c.encode_number_precision(3) ",
            5 => "c.encode_number_precision(14) ",
            6 => "c.encode_invalid_numbers(true) ",
            7 => "c.encode_invalid_numbers('null') ",
            _ => "c.encode_keep_buffer(false) ",
        };
    }
    match random.below(8) {
        0 => json_setting(random),
        1 => format!("return try(cjson.encode{})", ["", ", 1, 2", ", nil", ", show", ", cjson"][random.below(5)]),
        _ => format!("local c = cjson.new() {options} return try(c.encode, {})", value(random, 0)),
    }
}

fn json_setting(random: &mut Random) -> String {
    const NAMES: &[&str] = &[
        "encode_sparse_array",
        "encode_max_depth",
        "decode_max_depth",
        "encode_number_precision",
        "encode_keep_buffer",
        "encode_invalid_numbers",
        "decode_invalid_numbers",
        "nothing",
    ];
    const VALUES: &[&str] = &[
        "1", "0", "-1", "14", "15", "true", "false", "'on'", "'off'", "'null'", "'x'", "nil", "{}", "1.5", "'7'", "2^31",
        "2^32 + 5",
    ];
    let name = NAMES[random.below(NAMES.len())];
    let values: Vec<&str> = (0..random.below(5)).map(|_| VALUES[random.below(VALUES.len())]).collect();
    let values = if values.is_empty() { String::new() } else { format!(", {}", values.join(", ")) };
    format!("local c = cjson.new() return try(c.{name}{values}) .. ' ' .. try(c.{name}) .. c._NAME .. c._VERSION")
}

pub fn json_to_read(random: &mut Random) -> String {
    let mut text = Vec::new();
    json(random, 0, &mut text);
    breaks(random, &mut text);
    let options = match random.below(6) {
        0 => "c.decode_invalid_numbers(false)",
        1 => "c.decode_max_depth(2)",
        _ => "",
    };
    let again =
        if random.below(2) == 0 { "return try(c.decode, t)" } else { "return try(function() return c.encode(c.decode(t)) end)" };
    format!("local c = cjson.new() {options} local t = {} {again}", literal(&text))
}

pub fn message_pack(random: &mut Random) -> String {
    let values: Vec<String> = (0..random.below(4)).map(|_| value(random, 0)).collect();
    let values = values.join(", ");
    match random.below(6) {
        0 => format!("return try(cmsgpack.pack{}{values})", if values.is_empty() { "" } else { ", " }),
        1 => format!("return all(cmsgpack.unpack(cmsgpack.pack(1, {})))", value(random, 0)),
        2 => {
            let (limit, offset) = (small(random), small(random));
            format!("return try(cmsgpack.unpack_limit, cmsgpack.pack(1, 'a', {}), {limit}, {offset})", value(random, 0))
        }
        3 => format!("return try(cmsgpack.unpack_one, cmsgpack.pack('abc', {}), {})", value(random, 0), small(random)),
        _ => {
            let mut text = Vec::new();
            packed(random, 0, &mut text);
            breaks(random, &mut text);
            format!("return try(cmsgpack.unpack, {})", literal(&text))
        }
    }
}

pub fn structs(random: &mut Random) -> String {
    let mut format = String::new();
    for _ in 0..1 + random.below(6) {
        const OPTIONS: &[&str] = &[
            "b",
            "B",
            "h",
            "H",
            "l",
            "L",
            "T",
            "i",
            "I",
            "f",
            "d",
            "s",
            "x",
            " ",
            ">",
            "<",
            "!",
            "c",
            "c0",
            "i1",
            "I2",
            "i3",
            "i4",
            "I8",
            "c3",
            "!4",
            "!2",
            "!8",
            "!3",
            "i16",
            "I33",
            "c99999999999",
            "i0",
            "!0",
            "q",
            "?",
            "c2147483647",
            "z",
            "Bc0",
        ];
        format += OPTIONS[random.below(OPTIONS.len())];
    }
    match random.below(3) {
        0 => {
            let values: Vec<String> = (0..random.below(7))
                .map(|_| if random.below(3) == 0 { literal(&bytes(random, 6)) } else { number(random) })
                .collect();
            let comma = if values.is_empty() { "" } else { ", " };
            format!("return try(struct.pack, '{format}'{comma}{})", values.join(", "))
        }
        1 => {
            let data = literal(&bytes(random, 40));
            let position = if random.below(3) == 0 { format!(", {}", small(random)) } else { String::new() };
            format!("return try(struct.unpack, '{format}', {data}{position})")
        }
        _ => format!("return try(struct.size, '{format}')"),
    }
}

pub fn bits(random: &mut Random) -> String {
    const NAMES: &[&str] =
        &["tobit", "bnot", "band", "bor", "bxor", "lshift", "rshift", "arshift", "rol", "ror", "bswap", "tohex", "nothing"];
    let name = NAMES[random.below(NAMES.len())];
    let mut words = String::new();
    for _ in 0..random.below(4) {
        words += &match random.below(8) {
            0 => format!(", '{}'", random.below(100)),
            1 => [", nil", ", {}", ", 'x'", ", '0x10'"][random.below(4)].to_owned(),
            2 => format!(", {}", random.below(40)),
            _ => format!(", {}", number(random)),
        };
    }
    format!("return try(bit.{name}{words})")
}

pub fn patterns(random: &mut Random) -> String {
    let (subject, pattern) = (literal(&subject(random)), literal(&pattern(random)));
    match random.below(7) {
        0 | 1 => {
            let more = [String::new(), format!(", {}", small(random)), format!(", {}, true", small(random))];
            format!("return try(string.find, {subject}, {pattern}{})", more[random.below(3)])
        }
        2 => format!("return try(string.match, {subject}, {pattern}, {})", small(random)),
        3 => format!(
            "return try(function() local out = {{}} for a, b in string.gmatch({subject}, {pattern}) do \
             out[#out + 1] = all(a, b) end return table.concat(out, ';') end)"
        ),
        4 => {
            let template: Vec<u8> = (0..random.below(6)).map(|_| b"a%%%0123x\0"[random.below(10)]).collect();
            format!("return try(string.gsub, {subject}, {pattern}, {}, {})", literal(&template), small(random))
        }
        5 => {
            let body = [
                "return all(...)",
                "return nil",
                "return false",
                "return 12",
                "return {}",
                "return (string.gsub('ab', 'b', ...))",
            ];
            format!("return try(string.gsub, {subject}, {pattern}, function(...) {} end)", body[random.below(body.len())])
        }
        _ => match random.below(3) {
            0 => format!("return try(string.gsub, {subject}, {pattern}, {{a = 'x', b = 1, ab = false}})"),
            1 => format!("return try(string.rep, {subject}, {})", small(random)),
            _ => {
                let pattern = ["a", "%w+", "[ab]", "(a)(b?)", ".", "()", "%s*"][random.below(7)];
                format!("return try(string.gsub, string.rep({subject}, 300), '{pattern}', 'long%0')")
            }
        },
    }
}

/// A value of Lua, as it is written there.
fn value(random: &mut Random, depth: usize) -> String {
    match random.below(if depth > 3 { 7 } else { 11 }) {
        0 => ["nil", "true", "false", "cjson.null"][random.below(4)].to_owned(),
        1..=3 => number(random),
        4..=6 => literal(&bytes(random, 8)),
        7 => {
            let items: Vec<String> = (0..random.below(20)).map(|_| value(random, depth + 2)).collect();
            format!("{{{}}}", items.join(", "))
        }
        8 => {
            let items: Vec<String> =
                (0..random.below(4)).map(|_| format!("[{}] = {}", 1 + random.below(30), value(random, depth + 1))).collect();
            format!("{{{}}}", items.join(", "))
        }
        9 if random.below(10) == 0 => {
            ["show", "setmetatable({}, {__index = {1, 2}})", "string", "coroutine.create(show)", "{[true] = 1}", "{[{}] = 1}"]
                [random.below(6)]
            .to_owned()
        }
        _ => {
            let fields: Vec<String> = (0..random.below(12))
                .map(|_| {
                    let number = number(random);
                    let key = if random.below(6) > 0 || number == "0/0" { literal(&short_bytes(random)) } else { number };
                    format!("[{key}] = {}", value(random, depth + 1))
                })
                .collect();
            format!("{{{}}}", fields.join(", "))
        }
    }
}

fn number(random: &mut Random) -> String {
    const ODD: &[&str] = &[
        "0",
        "-0",
        "0/0",
        "-(0/0)",
        "1/0",
        "-1/0",
        "127",
        "128",
        "255",
        "256",
        "-32",
        "-33",
        "-128",
        "-129",
        "32767",
        "32768",
        "65535",
        "65536",
        "-32768",
        "-32769",
        "2^31",
        "-2^31",
        "2^31 - 1",
        "2^32",
        "2^32 - 1",
        "2^53",
        "2^53 + 2",
        "2^63",
        "-2^63",
        "2^64",
        "1e14",
        "1e15",
        "99999999999999.5",
        "1e100",
        "1.7976931348623157e308",
        "5e-324",
        "0.1",
        "1/3",
        "-1e-5",
        "0.0001",
        "1e-7",
        "3.5",
        "2^-30",
        "1000000000000.25",
        "1000000000000.75",
        "16777217",
        "-0.5",
        "1.5",
        "2.5",
    ];
    match random.below(5) {
        0 | 1 => ODD[random.below(ODD.len())].to_owned(),
        2 => format!("{}", random.below(1000)),
        3 => format!("-{}", random.below(1 << 40)),
        _ => format!("{}.{}e{}", random.below(1000), random.below(1 << 30), random.below(40) as i64 - 20),
    }
}

fn small(random: &mut Random) -> i64 {
    [0, 1, 2, 3, 5, 8, 100, -1, -2, -100][random.below(10)]
}

/// Of those that are longer, Lua as it comes does not hash all bytes, and Redis' copy does: there their order in a table is another one.
fn short_bytes(random: &mut Random) -> Vec<u8> {
    let mut key = bytes(random, 4);
    key.truncate(31);
    key
}

fn bytes(random: &mut Random, most: usize) -> Vec<u8> {
    let kind = random.below(3);
    let count = random.below(most + 1) * if random.below(20) == 0 { 60 } else { 1 };
    (0..count).map(|_| if kind == 0 { random.byte() } else { b"abc/\"\\\n\x7f "[random.below(9)] }).collect()
}

/// A string as it is written in Lua.
fn literal(bytes: &[u8]) -> String {
    let letters: String = bytes
        .iter()
        .map(|byte| if byte.is_ascii_lowercase() { char::from(*byte).to_string() } else { format!("\\{byte:03}") })
        .collect();
    format!("'{letters}'")
}

fn json(random: &mut Random, depth: usize, out: &mut Vec<u8>) {
    let space = |random: &mut Random, out: &mut Vec<u8>| {
        if random.below(6) == 0 {
            out.push(b" \t\n\r"[random.below(4)]);
        }
    };
    space(random, out);
    match random.below(if depth > 3 { 6 } else { 8 }) {
        0 => out.extend(
            [&b"null"[..], b"true", b"false", b"nul", b"Infinity", b"-inf", b"NaN", b"nan(1)", b"+1", b"-nan"][random.below(10)],
        ),
        1 | 2 => out.extend(json_number(random).as_bytes()),
        3..=5 => json_string(random, out),
        6 => {
            out.push(b'[');
            for index in 0..random.below(6) {
                if index > 0 {
                    out.push(b',');
                }
                json(random, depth + 1, out);
            }
            out.push(b']');
        }
        _ => {
            out.push(b'{');
            for index in 0..random.below(9) {
                if index > 0 {
                    out.push(b',');
                }
                json_string(random, out);
                space(random, out);
                out.push(b':');
                json(random, depth + 1, out);
            }
            out.push(b'}');
        }
    }
    space(random, out);
}

fn json_number(random: &mut Random) -> String {
    const ODD: &[&str] = &[
        "0",
        "-0",
        "00",
        "01",
        "1.",
        ".5",
        "-.5",
        "1e5",
        "1E+5",
        "1e",
        "1e+",
        "-",
        "0x10",
        "0x1p-3",
        "0x",
        "0x.8",
        "1e400",
        "1e-400",
        "123456789012345678901234567890",
        "0.1",
        "9007199254740993",
        "1.7976931348623159e308",
        "2.4703282292062327e-324",
        "-1e-5",
        "1..2",
    ];
    if random.below(3) == 0 {
        ODD[random.below(ODD.len())].to_owned()
    } else {
        format!("{}.{}", random.below(1 << 20), random.below(1 << 40))
    }
}

fn json_string(random: &mut Random, out: &mut Vec<u8>) {
    const PARTS: &[&str] = &[
        "a",
        "b",
        "key",
        "ü",
        "\\n",
        "\\\"",
        "\\\\",
        "\\/",
        "\\b\\f\\r\\t",
        "\\u0041",
        "\\u00e9",
        "\\u20AC",
        "\\ud83d\\ude00",
        "\\u0000",
        "\\ud83d",
        "\\ude00",
        "\\ud83dx",
        "\\ud83d\\u0041",
        "\\u12",
        "\\x",
        "\\",
        "\u{1}",
        " ",
    ];
    out.push(b'"');
    for _ in 0..random.below(5) {
        // Those behind the ninth are broken more often than not.
        let most = if random.below(8) == 0 { PARTS.len() } else { 13 };
        out.extend(PARTS[random.below(most)].as_bytes());
    }
    out.push(b'"');
}

fn packed(random: &mut Random, depth: usize, out: &mut Vec<u8>) {
    let length = random.below(5);
    match random.below(if depth > 4 { 8 } else { 13 }) {
        0 => out.push(random.byte()),
        1 => out.push([0xc0, 0xc2, 0xc3, 0xc1, 0xc4][random.below(5)]),
        2..=4 => {
            out.push([0xca, 0xcb, 0xcc, 0xcd, 0xce, 0xcf, 0xd0, 0xd1, 0xd2, 0xd3][random.below(10)]);
            (0..1 << random.below(4)).for_each(|_| out.push(random.byte()));
        }
        5..=7 => {
            match random.below(4) {
                0 => out.push(0xa0 | length as u8),
                1 => out.extend([0xd9, length as u8]),
                2 => out.extend([0xda, 0, length as u8]),
                _ => out.extend([0xdb, 0, 0, 0, length as u8]),
            }
            (0..length).for_each(|_| out.push(random.byte()));
        }
        8 | 9 => {
            match random.below(3) {
                0 => out.push(0x90 | length as u8),
                1 => out.extend([0xdc, 0, length as u8]),
                _ => out.extend([0xdd, 0, 0, 0, length as u8]),
            }
            (0..length).for_each(|_| packed(random, depth + 1, out));
        }
        _ => {
            match random.below(3) {
                0 => out.push(0x80 | length as u8),
                1 => out.extend([0xde, 0, length as u8]),
                _ => out.extend([0xdf, 0, 0, 0, length as u8]),
            }
            for _ in 0..length {
                packed(random, depth + 2, out);
                packed(random, depth + 1, out);
            }
        }
    }
}

/// Cuts a text off, or changes a byte of it, now and then.
fn breaks(random: &mut Random, text: &mut Vec<u8>) {
    let at = random.below(text.len());
    match random.below(8) {
        0 => text.truncate(at),
        1 if !text.is_empty() => text[at] = random.byte(),
        2 => text.insert(at, b"{}[]:,\"\\0-e\0"[random.below(12)]),
        _ => {}
    }
}

fn subject(random: &mut Random) -> Vec<u8> {
    (0..random.below(12)).map(|_| b"aaabbc01 (),.\n\0[]%-\xff"[random.below(20)]).collect()
}

fn pattern(random: &mut Random) -> Vec<u8> {
    const PARTS: &[&str] = &[
        "a", "b", "c", "ab", ".", "%a", "%d", "%s", "%w", "%p", "%u", "%x", "%c", "%l", "%z", "%A", "%D", "%S", "%W", "%.", "%%",
        "[ab]", "[^a]", "[a-c]", "[%a0-9]", "[]]", "[^]]", "[a-]", "[%-a]", "(", ")", "()", "(a)", "(.-)", "(%w+)", "%1", "%2",
        "%0", "%b()", "%bab", "%f[%w]", "%f[^a]", "^", "$", "[", "%", "%f", "%b", "%b(", "-", "\0", "[a", "[%", "[^", "[]",
    ];
    let mut pattern = Vec::new();
    if random.below(6) == 0 {
        pattern.push(b'^');
    }
    for _ in 0..random.below(6) {
        // Those behind these are broken more often than not.
        let most = if random.below(6) == 0 { PARTS.len() } else { 36 };
        pattern.extend(PARTS[random.below(most)].as_bytes());
        if random.below(2) == 0 {
            pattern.push(b"*+-?"[random.below(4)]);
        }
    }
    if random.below(8) == 0 {
        pattern.push(b'$');
    }
    pattern
}
