// What programs hand over by mistake: an error of that call, and nothing else comes of it.

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { test } from "node:test";

import { Flux } from "../src/flux.js";
import { peer, serve, until } from "./server.mjs";

const circular = {};
circular.self = circular;
/** What JSON would change or lose without a word. */
const LOSSY = [new Map([[1, 2]]), new Set([1]), new Uint8Array(2), Buffer.from("x"), new ArrayBuffer(2), () => 1, Symbol("x"), NaN, -Infinity, /x/, new Error("x"), 10n, circular];

/** What a row gives for a value that is right there. */
const FINE = Symbol("fine");

test("a value of the wrong type is a TypeError at the call", async (t) => {
  const server = await serve(t);
  const ada = await peer(server, "ada", { workspaces: ["w"], exposed: { echo: (payload) => payload } });
  const wrong = [undefined, null, 5, {}, [], new Uint8Array(1), Symbol("w"), () => "w"];
  const names = (call) => wrong.map((name) => [call, name]);
  const calls = [
    ...names((w) => ada.join(w)),
    ...names((w) => ada.leave(w)),
    ...names((w) => w === undefined ? FINE : ada.peers(w)),
    ...names((c) => ada.discover(c)),
    ...names((c) => ada.describe(c)),
    ...names((c) => ada.send(c, 1)),
    ...names((c) => ada.chunks(c, 1)),
    ...names((c) => ada.expose(c, () => 1)),
    ...names((w) => ada.stream(w, "k", [])),
    ...names((k) => ada.stream("w", k, [])),
    ...names((i) => Array.isArray(i) || i instanceof Uint8Array ? FINE : ada.stream("w", "k", i)),
    ...names((id) => ada.onStream(id, "k", () => {})),
    ...names((k) => ada.onStream("p", k, () => {})),
    ...names((h) => typeof h === "function" ? FINE : ada.onStream("p", "k", h)),
    ...names((f) => f === undefined || typeof f === "function" ? FINE : ada.onStream("p", "k", () => {}, { onEnd: f })),
    ...names((e) => ada.on(e, () => {})),
    ...names((e) => ada.off(e, () => {})),
    ...names((l) => typeof l === "function" ? FINE : ada.on("connected", l)),
    ...names((h) => typeof h === "function" ? FINE : ada.expose("c", h)),
    ...names((d) => d === undefined ? FINE : ada.expose("c", { handler: () => 1, description: d })),
    ...names((n) => n === undefined || n === 5 ? FINE : ada.expose("c", { handler: () => 1, concurrency: n })),
    ...names((n) => n === undefined || n === 5 ? FINE : ada.expose("c", { handler: () => 1, retry: n })),
    ...names((w) => ada.ctx.set(w, "k", 1)),
    ...names((k) => ada.ctx.set("w", k, 1)),
    ...names((n) => n === undefined || n === 5 ? FINE : ada.ctx.set("w", "k", 1, { ifVersion: n })),
    ...names((n) => n === undefined || n === 5 ? FINE : ada.ctx.set("w", "k", 1, { ttl: n })),
    ...names((w) => ada.ctx.get(w, "k")),
    ...names((k) => ada.ctx.getWithVersion("w", k)),
    ...names((w) => ada.ctx.update(w, "k", () => 1)),
    ...names((c) => typeof c === "function" ? FINE : ada.ctx.update("w", "k", c)),
    ...names((k) => ada.ctx.del("w", k)),
    ...names((w) => ada.ctx.keys(w)),
    ...names((w) => ada.ctx.history(w, "k")),
    ...names((n) => n === undefined || n === 5 ? FINE : ada.ctx.history("w", "k", { count: n })),
    ...["timeout", "retries", "priority", "gather"].flatMap((name) => names((n) => n === undefined || n === 5 ? FINE : ada.send("echo", 1, { [name]: n }))),
    ...["to", "sticky", "route", "onChunk", "signal"].flatMap((name) =>
      names((n) => n === undefined || (name === "onChunk" && typeof n === "function") ? FINE : ada.send("echo", 1, { [name]: n })),
    ),
    ...["a", null, true, Symbol("x")].map((options) => [(o) => ada.send("echo", 1, o), options]),
    ...["url", "name", "id", "secret", "username", "password"].flatMap((name) => names((v) => v === undefined ? FINE : new Flux({ [name]: v }))),
    ...["jobTimeout", "connectTimeout", "stopTimeout", "concurrency", "ttl"].flatMap((name) => names((v) => v === undefined || v === 5 ? FINE : new Flux({ [name]: v }))),
  ];
  for (const [call, value] of calls) {
    const made = (async () => call(value))();
    if ((await made.catch(() => null)) === FINE) continue;
    await assert.rejects(made, (error) => error instanceof TypeError && error.code === "INVALID", `${call} ${String(value?.constructor?.name)}`);
  }
  assert.deepEqual((await ada.peers())[0].workspaces, ["w"]);
  assert.equal(await ada.send("echo", 7), 7);
});

test("what JSON would lose without a word is refused, wherever it is handed over", async (t) => {
  const server = await serve(t);
  let result;
  const ada = await peer(server, "ada", { workspaces: ["w"], exposed: { echo: (payload) => payload, gives: () => result, sends: (payload, { chunk }) => chunk(result) } });
  const version = await ada.ctx.set("w", "k", "before");
  for (const value of LOSSY.flatMap((value) => [value, [{ deep: value }]])) {
    await assert.rejects(async () => ada.send("echo", value), TypeError);
    assert.throws(() => ada.chunks("echo", value), TypeError);
    await assert.rejects(ada.ctx.set("w", "k", value), TypeError);
    await assert.rejects(ada.stream("w", "s", [value]), TypeError);
    result = value;
    for (const capability of ["gives", "sends"]) await assert.rejects(ada.send(capability), { code: "FAILED" });
  }
  assert.equal((await ada.ctx.getWithVersion("w", "k")).version, version);
  await assert.rejects(ada.send("echo", Promise.resolve("forgot to await")), { message: 'the payload must be JSON, not a Promise' });
  const date = new Date(0);
  assert.deepEqual(await ada.send("echo", { date, none: undefined, nested: [new (class Point { x = 1 })(), Object.create(null), new Number(1)] }), { date: date.toJSON(), nested: [{ x: 1 }, {}, 1] });
  // The rules of JSON itself, as the documentation says them.
  assert.deepEqual(await ada.send("echo", [undefined, { a: undefined }, new (class { #hidden = 1; shown = 2 })()]), [null, {}, { shown: 2 }]);
});

test("numbers that make no sense are refused with the reason", async (t) => {
  const server = await serve(t);
  const ada = await peer(server, "ada", { exposed: { echo: (payload) => payload } });
  for (const timeout of [1e12, Infinity, NaN]) {
    await assert.rejects(ada.send("echo", 1, timeout), { code: "INVALID", message: `timeout must be at most a day, 86400000 ms, not ${timeout}` });
    await assert.rejects(ada.send("echo", 1, { timeout }), { code: "INVALID" });
    assert.throws(() => new Flux({ jobTimeout: timeout }), { code: "INVALID", message: /jobTimeout/ });
  }
  assert.equal(await ada.send("echo", 1, 86_400_000), 1);
  await assert.rejects(ada.send("echo", 1, -1), { code: "TIMEOUT" });
  for (const options of [{ retries: -1 }, { retries: 1.5 }, { retries: 1e9 }, { priority: 101 }, { priority: NaN }, { gather: -1 }, { gather: 1e12 }]) {
    await assert.rejects(ada.send("echo", 1, options), { code: "INVALID", message: new RegExp(Object.keys(options)[0]) });
  }
  for (const options of [{ concurrency: 0 }, { concurrency: 1.5 }, { concurrency: Infinity }, { ttl: 1e9 }, { stopTimeout: NaN }]) {
    assert.throws(() => new Flux(options), { code: "INVALID", message: new RegExp(Object.keys(options)[0]) });
  }
  await assert.rejects(ada.ctx.set("w", "k", 1, { ttl: Infinity }), { code: "INVALID", message: /ttl/ });
});

test("events that there are not are refused", () => {
  const flux = new Flux();
  assert.throws(() => flux.on("nonsense", () => {}), { code: "INVALID", message: /no event "nonsense", only peer:joined, / });
  assert.throws(() => flux.off("peer:join", () => {}), { code: "INVALID" });
});

test("a capability that the server refuses fails that call alone", async (t) => {
  const server = await serve(t);
  const [worker, caller] = [await peer(server, "worker"), await peer(server, "caller")];
  await worker.expose("first", () => 1);
  const schema = { type: "nonsense" };
  const wrong = [["a b\n", () => 1], ["", () => 1], ["x".repeat(1000), () => 1], ["s", { handler: () => 1, schema }], ["n", { handler: () => 1, concurrency: -1 }], ["n", { handler: () => 1, concurrency: 1.5 }]];
  // All at once, with good ones between them.
  const good = [];
  const refused = wrong.map(([name, handler], at) => (good.push(worker.expose(`good${at}`, () => at)), assert.rejects(async () => worker.expose(name, handler))));
  await Promise.all([...good, ...refused]);
  for (const [at] of wrong.entries()) assert.equal(await caller.send(`good${at}`), at);
  // One that was there before stays as it was.
  await assert.rejects(worker.expose("first", { handler: () => 2, schema }), /schema/);
  assert.equal(await caller.send("first"), 1);
  await worker.expose("first", () => 3);
  assert.equal(await caller.send("first"), 3);
  const names = (await caller.peers()).find(({ name }) => name === "worker").capabilities.map(({ name }) => name).sort();
  assert.deepEqual(names, ["first", ...wrong.map((_, at) => `good${at}`)].sort());
  await until(async () => (await caller.discover("first")).length === 1);
});

test("a capability that the server refuses is a warning where nobody waits for the answer", async (t) => {
  const server = await serve(t);
  const worker = await peer(server, "worker");
  const said = [];
  const { warn } = console;
  t.after(() => (console.warn = warn));
  console.warn = (text) => said.push(text);
  worker.expose("bad\n", () => 1);
  await worker.expose("good", () => 2);
  // An unhandled rejection would fail this test by now.
  assert.equal(await worker.send("good"), 2);
  assert.equal(said.length, 1);
  assert.match(said[0], /^flux: "bad\\n" is not offered: ./);
  // What is wrong without asking the server is a mistake of the program.
  assert.throws(() => worker.expose("worse", 5), TypeError);
});
