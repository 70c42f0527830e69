// The parser and the encoder: pieces of any size, bounds, and what is not RESP.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Parser, Push, encode } from "../src/resp.js";

const bytes = (text) => new TextEncoder().encode(text);

function parse(chunks) {
  const parser = new Parser();
  const replies = [];
  for (const chunk of chunks) parser.push(typeof chunk === "string" ? bytes(chunk) : chunk, (reply) => replies.push(reply));
  return replies;
}

const SESSION = [
  ["+OK\r\n", "OK"],
  [":-12\r\n", -12],
  [",1.5\r\n", 1.5],
  [",inf\r\n", Infinity],
  ["(12345678901234567890\r\n", "12345678901234567890"],
  ["#t\r\n", true],
  ["_\r\n", null],
  ["$-1\r\n", null],
  ["*-1\r\n", null],
  ["$0\r\n\r\n", ""],
  ["$6\r\na\r\nb\r\n\r\n", "a\r\nb\r\n"],
  [`$${bytes("grüße 🙂, a longer text than a short one").length}\r\ngrüße 🙂, a longer text than a short one\r\n`, "grüße 🙂, a longer text than a short one"],
  ["=7\r\ntxt:abc\r\n", "abc"],
  ["*0\r\n", []],
  ["*3\r\n:1\r\n*2\r\n$1\r\na\r\n_\r\n~1\r\n+x\r\n", [1, ["a", null], ["x"]]],
  ["|1\r\n+ttl\r\n:5\r\n+after an attribute\r\n", "after an attribute"],
  ["*2\r\n|1\r\n+a\r\n+b\r\n:1\r\n:2\r\n", [1, 2]],
];

test("a session gives the same replies wherever it is cut", () => {
  const all = bytes(SESSION.map(([text]) => text).join(""));
  const expected = SESSION.map(([, value]) => value);
  assert.deepEqual(parse([all]), expected);
  assert.deepEqual(parse(Array.from(all, (byte) => Uint8Array.of(byte))), expected);
  for (let cut = 1; cut < all.length; cut++) assert.deepEqual(parse([all.subarray(0, cut), all.subarray(cut)]), expected);
});

test("maps are objects without a prototype", () => {
  const [map] = parse(["%2\r\n+id\r\n:7\r\n$9\r\n__proto__\r\n*0\r\n"]);
  assert.equal(map.id, 7);
  assert.deepEqual(Object.keys(map), ["id", "__proto__"]);
});

test("pushes are told from replies", () => {
  const [push, reply] = parse([">3\r\n+message\r\n+c\r\n+x\r\n*1\r\n+x\r\n"]);
  assert.ok(push instanceof Push);
  assert.deepEqual(push.items, ["message", "c", "x"]);
  assert.deepEqual(reply, ["x"]);
});

test("an error has its code apart from its text", () => {
  const replies = parse(['-NOPEER no peer handles "x"\r\n', "!14\r\nCONFLICT is 12\r\n", "-something odd\r\n"]);
  assert.deepEqual(replies.map(({ code, message }) => [code, message]), [
    ["NOPEER", 'no peer handles "x"'],
    ["CONFLICT", "is 12"],
    ["ERR", "something odd"],
  ]);
  assert.equal(replies[1].version, 12);
});

test("what is not RESP is refused", () => {
  const nested = "*1\r\n".repeat(17);
  for (const text of ["HTTP/1.1 400\r\n", "$x\r\n", "$-2\r\n", "$99999999999\r\n", ":1x\r\n", "*1.5\r\n", nested, "+" + "x".repeat(70_000)]) {
    assert.throws(() => parse([text]), { code: "PROTOCOL" }, text.slice(0, 20));
  }
});

test("nothing is reserved for bytes that have not arrived", () => {
  const before = process.memoryUsage().arrayBuffers;
  assert.deepEqual(parse(["*4000000000000\r\n$200000000\r\nabc"]), []);
  assert.ok(process.memoryUsage().arrayBuffers - before < 1_000_000);
});

test("a long string that comes in many pieces is not copied for each", () => {
  const piece = new Uint8Array(16 * 1024).fill(97);
  const started = performance.now();
  const [text] = parse([`$${piece.length * 2000}\r\n`, ...Array(2000).fill(piece), "\r\n"]);
  assert.equal(text.length, piece.length * 2000);
  assert.ok(performance.now() - started < 5_000);
});

test("a command's lengths are those of its UTF-8", () => {
  for (const word of ["", "plain", "grüße", "日本", "🙂🙂", "alone \ud83d", "\udc00 first", "\ud83d\ud83d\ude42"]) {
    assert.equal(encode([word, 12]), `*2\r\n$${Buffer.byteLength(word)}\r\n${word}\r\n$2\r\n12\r\n`);
  }
});
