// Peers at a real server: workspaces, events, calls, context.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Flux } from "../src/flux.js";
import { lastingKeys, next, peer, promised, serve, until } from "./server.mjs";

test("peers see each other, come, and go", async (t) => {
  const server = await serve(t);
  const ada = await peer(server, "ada", { exposed: { add: ({ a, b }) => a + b }, workspaces: ["w"] });
  const joined = next(ada, "peer:joined");
  const bob = await peer(server, "bob");
  const present = await bob.join("w");
  assert.deepEqual(present.map(({ name }) => name).sort(), ["ada", "bob"]);
  assert.deepEqual(await joined, { type: "peer:joined", workspace: "w", peerId: bob.id, peerName: "bob" });
  assert.deepEqual((await bob.discover("add")).map(({ peerId, peerName }) => [peerId, peerName]), [[ada.id, "ada"]]);
  assert.equal((await bob.peers()).length, 2);

  const away = next(ada, "peer:left");
  await bob.leave("w");
  assert.equal((await away).peerName, "bob");
  assert.deepEqual((await ada.peers("w")).map(({ name }) => name), ["ada"]);
  assert.equal((await ada.peers()).length, 2);
  await bob.join("w");
  const gone = next(ada, "peer:left");
  await bob.stop();
  assert.equal((await gone).left, "stopped");
  assert.equal((await ada.peers()).length, 1);
});

test("what is asked while start is under way is done when there is a connection", async (t) => {
  const server = await serve(t);
  await peer(server, "worker", { exposed: { echo: (payload) => payload, count: function* (n) { for (let at = 1; at <= n; at++) yield at; } } });
  const asks = {
    send: async (flux) => assert.equal(await flux.send("echo", 1), 1),
    chunks: async (flux) => { const got = []; for await (const chunk of flux.chunks("count", 2)) got.push(chunk); assert.deepEqual(got, [1, 2]); },
    join: async (flux) => assert.deepEqual((await flux.join("w")).map(({ id }) => id), [flux.id]),
    leave: (flux) => flux.leave("w"),
    expose: async (flux) => (await flux.expose("mine", () => "me"), assert.equal(await flux.send("mine"), "me")),
    peers: async (flux) => assert.equal((await flux.peers()).length, 2),
    ctx: async (flux) => assert.equal(await flux.ctx.get("w", "k"), null),
    stream: async (flux) => assert.equal(await flux.stream("w", "s", ["a", "b"]), 2),
    onStream: async (flux) => flux.onStream("nobody", "s", () => {})(),
  };
  for (const [name, ask] of Object.entries(asks)) {
    const flux = new Flux({ url: server.url, name });
    const starting = flux.start();
    await Promise.all([ask(flux), starting]).finally(() => flux.stop());
  }
});

test("stop ends a start that has only begun, and leaves no peer behind", async (t) => {
  const server = await serve(t);
  const witness = await peer(server, "witness");
  const flux = new Flux({ url: server.url, name: "brief" });
  const starting = assert.rejects(flux.start(), { code: "STOPPED" });
  await flux.stop();
  await starting;
  await flux.stop();
  await until(async () => (await witness.peers()).length === 1);
  await flux.start();
  assert.equal((await witness.peers()).length, 2);
  await flux.stop();
});

test("nobody is told their own events", async (t) => {
  const server = await serve(t);
  const [ada, bob] = [await peer(server, "ada", { workspaces: ["w"] }), await peer(server, "bob", { workspaces: ["w"] })];
  const heard = [];
  for (const type of ["ctx:updated", "stream:data", "stream:end"]) ada.on(type, (event) => heard.push(event));
  await ada.ctx.set("w", "mine", 1);
  await ada.stream("w", "s", ["x"]);
  await bob.ctx.set("w", "yours", 2);
  await until(() => heard.length > 0);
  assert.deepEqual(heard.map(({ key, data }) => [key, data]), [["yours", 2]]);
});

test("a listener that was taken away hears nothing more", async (t) => {
  const server = await serve(t);
  const [ada, bob] = [await peer(server, "ada", { workspaces: ["w"] }), await peer(server, "bob", { workspaces: ["w"] })];
  const heard = [];
  const [first, second] = [(e) => heard.push(`first ${e.key}`), (e) => heard.push(`second ${e.key}`)];
  ada.on("ctx:updated", first);
  const off = ada.on("ctx:updated", second);
  await bob.ctx.set("w", "a", 1);
  await until(() => heard.length === 2);
  ada.off("ctx:updated", first);
  off();
  const last = next(ada, "ctx:updated");
  await bob.ctx.set("w", "b", 1);
  await last;
  assert.deepEqual(heard, ["first a", "second a"]);
});

test("a call brings any JSON there and back", async (t) => {
  const server = await serve(t);
  await peer(server, "worker", { exposed: { echo: (payload) => payload } });
  const caller = await peer(server, "caller");
  for (const value of [null, 0, -1.5, "", "text", "grüße 🙂\r\n\0", [], [1, [2]], {}, { a: { b: null } }, "x".repeat(300_000)]) {
    assert.deepEqual(await caller.send("echo", value), value);
  }
  assert.equal(await caller.send("echo"), null);
});

test("calls do not wait for each other", async (t) => {
  const server = await serve(t);
  const slow = promised();
  await peer(server, "worker", { exposed: { echo: (n) => n, slow: () => slow.promise } });
  const caller = await peer(server, "caller");
  const first = caller.send("slow");
  assert.deepEqual(await Promise.all(Array.from({ length: 500 }, (_, n) => caller.send("echo", n))), Array.from({ length: 500 }, (_, n) => n));
  slow.resolve("at last");
  assert.equal(await first, "at last");
});

test("what a handler throws reaches the caller with its message", async (t) => {
  const server = await serve(t);
  const exposed = {
    error: () => { throw new TypeError("not a number: x"); },
    text: async () => { throw "just text"; },
    nothing: () => { throw undefined; },
    odd: () => 10n,
  };
  await peer(server, "worker", { exposed });
  const caller = await peer(server, "caller");
  await assert.rejects(caller.send("error"), { code: "FAILED", message: "not a number: x", name: "FluxError" });
  await assert.rejects(caller.send("text"), { code: "FAILED", message: "just text" });
  await assert.rejects(caller.send("nothing"), { code: "FAILED", message: "undefined" });
  await assert.rejects(caller.send("odd"), { code: "FAILED", message: /BigInt/ });
});

test("a call that nobody can take fails at once, with the words of the old client", async (t) => {
  const server = await serve(t);
  const caller = await peer(server, "caller");
  await assert.rejects(caller.send("x"), { code: "NOPEER", message: 'no peer handles "x"' });
  await assert.rejects(caller.describe("x"), { code: "NOPEER", message: 'no peer handles "x"' });
  const worker = await peer(server, "worker", { exposed: { x: () => 1 } });
  assert.equal(await caller.send("x"), 1);
  await worker.stop();
  await assert.rejects(caller.send("x"), { code: "NOPEER", message: /^no (live )?peer handles "x"$/ });
});

test("a call that takes too long ends with the words of the old client, and the handler is told", async (t) => {
  const server = await serve(t);
  const [begun, aborted] = [promised(), promised()];
  const slow = (payload, { signal }) => new Promise(() => (begun.resolve(), signal.addEventListener("abort", () => aborted.resolve(signal.reason))));
  await peer(server, "worker", { exposed: { slow, ready: () => true } });
  const caller = await peer(server, "caller", { jobTimeout: 1_500 });
  // A worker that has not asked for work yet would never hear of a call whose time is over.
  await caller.send("ready", null, 20_000);
  await assert.rejects(caller.send("slow"), { code: "TIMEOUT", message: "timeout after 1500 ms" });
  await begun.promise;
  assert.equal((await aborted.promise).code, "TIMEOUT");
  await assert.rejects(caller.send("slow", {}, 40), { code: "TIMEOUT", message: "timeout after 40 ms" });
});

test("a call that its caller gives up is cancelled at the handler", async (t) => {
  const server = await serve(t);
  const [begun, aborted] = [promised(), promised()];
  const slow = (payload, { signal }) => new Promise(() => (begun.resolve(), signal.addEventListener("abort", () => aborted.resolve(signal.reason))));
  await peer(server, "worker", { exposed: { slow } });
  const caller = await peer(server, "caller");
  const aborter = new AbortController();
  const call = caller.send("slow", 1, { signal: aborter.signal });
  await begun.promise;
  const why = new Error("changed my mind");
  aborter.abort(why);
  await assert.rejects(call, { name: "AbortError", code: "CANCELLED", cause: why });
  assert.equal((await aborted.promise).code, "CANCELLED");
  await assert.rejects(caller.send("slow", 1, { signal: AbortSignal.abort() }), { code: "CANCELLED" });
});

test("a handler is told who asks, until when, and how often it was tried", async (t) => {
  const server = await serve(t);
  const exposed = { about: { handler: (payload, { from, deadline, attempt, fn, id }) => ({ from, left: deadline - Date.now(), attempt, fn, id }) } };
  let tries = 0;
  exposed.flaky = { retry: 2, handler: (payload, { attempt }) => { if (++tries < 3) throw new Error(`try ${tries}`); return attempt; } };
  await peer(server, "worker", { exposed });
  const caller = await peer(server, "caller");
  const about = await caller.send("about", 1, 20_000);
  assert.equal(about.from, caller.id);
  assert.ok(about.left > 5_000 && about.left <= 20_000, `${about.left}`);
  assert.deepEqual([about.attempt, about.fn], [1, "about"]);
  assert.equal(await caller.send("flaky"), 3);
  assert.equal(tries, 3);
});

test("chunks come before the result, in order", async (t) => {
  const server = await serve(t);
  const exposed = {
    async *tokens({ n }) { for (let i = 0; i < n; i++) yield `t${i}`; return n; },
    *numbers() { yield 1; yield 2; },
    async byHand(payload, { chunk }) { await chunk({ half: true }); return "whole"; },
    broken: { retry: 3, async *handler() { yield 1; throw new Error("broke after one"); } },
  };
  await peer(server, "worker", { exposed });
  const caller = await peer(server, "caller");
  const chunks = [];
  const onChunk = (chunk, { seq, missed }) => chunks.push([chunk, seq, missed]);
  assert.equal(await caller.send("tokens", { n: 100 }, { onChunk }), 100);
  assert.deepEqual(chunks, Array.from({ length: 100 }, (_, i) => [`t${i}`, i + 1, 0]));
  chunks.length = 0;
  assert.equal(await caller.send("numbers", null, { onChunk }), null);
  assert.equal(await caller.send("byHand", null, { onChunk }), "whole");
  // It is not tried again, though it might be: a part was seen.
  await assert.rejects(caller.send("broken", null, { onChunk }), { message: "broke after one" });
  assert.deepEqual(chunks.map(([chunk]) => chunk), [1, 2, { half: true }, 1]);
});

test("chunks can be looped over, and leaving the loop ends the generator", async (t) => {
  const server = await serve(t);
  const ended = promised();
  async function* forever() {
    try {
      for (let n = 0; ; n++) { yield n; await new Promise((resolve) => setTimeout(resolve, 2)); }
    } finally {
      ended.resolve();
    }
  }
  await peer(server, "worker", { exposed: { forever, async *three() { yield* [1, 2, 3]; return "end"; }, fail: () => { throw new Error("no"); } } });
  const caller = await peer(server, "caller");
  for await (const n of caller.chunks("forever")) if (n === 5) break;
  await ended.promise;
  const three = caller.chunks("three");
  const steps = [];
  for (let step; !(step = await three.next()).done || !steps.push(step.value); ) steps.push(step.value);
  assert.deepEqual(steps, [1, 2, 3, "end"]);
  await assert.rejects(caller.chunks("fail").next(), { message: "no" });
});

test("a call can go to one peer, to all, or always to the same for a key", async (t) => {
  const server = await serve(t);
  const who = async (name) => peer(server, name, { exposed: { who: () => name, sometimes: () => { if (name === "b") throw new Error("not b"); return name; } } });
  const workers = [await who("a"), await who("b"), await who("c")];
  const caller = await peer(server, "caller");
  assert.equal(await caller.send("who", null, { to: workers[1].id }), "b");
  const all = await caller.send("sometimes", null, { gather: true });
  assert.deepEqual(all.map(({ peerName, ok, data, error }) => [peerName, ok, data ?? error]).sort(), [["a", true, "a"], ["b", false, "not b"], ["c", true, "c"]]);
  assert.equal((await caller.send("who", null, { gather: 2 })).length, 2);
  const sticky = new Set();
  for (let n = 0; n < 10; n++) sticky.add(await caller.send("who", null, { sticky: "key" }));
  assert.equal(sticky.size, 1);
  const turns = new Set();
  for (let n = 0; n < 3; n++) turns.add(await caller.send("who", null, { route: "round-robin" }));
  assert.equal(turns.size, 3);
});

test("gathered answers come at the deadline without those that are missing", async (t) => {
  const server = await serve(t);
  const begun = promised();
  await peer(server, "quick", { exposed: { f: () => "here" } });
  await peer(server, "stuck", { exposed: { f: () => new Promise(begun.resolve) }, stopTimeout: 0 });
  const caller = await peer(server, "caller");
  const answers = await caller.send("f", null, { gather: true, timeout: 700 });
  assert.deepEqual(answers.map(({ peerName, ok }) => [peerName, ok]).sort(), [["quick", true], ["stuck", false]]);
});

test("a capability's limit holds, and urgent calls go first", async (t) => {
  const server = await serve(t);
  let running = 0, most = 0;
  const order = [];
  const gate = promised();
  const one = { concurrency: 1, handler: async (n) => { most = Math.max(most, ++running); order.push(n); if (n === 0) await gate.promise; running--; } };
  await peer(server, "worker", { exposed: { one } });
  const caller = await peer(server, "caller");
  const calls = [caller.send("one", 0)];
  await until(() => order.length === 1);
  for (const priority of [-1, 0, 5]) calls.push(caller.send("one", priority, { priority }));
  await until(async () => (await caller.describe("one")).peers[0].queued === 3);
  gate.resolve();
  await Promise.all(calls);
  assert.deepEqual([most, order], [1, [0, 5, 0, -1]]);
});

test("a payload that does not fit the schema never reaches the handler", async (t) => {
  const server = await serve(t);
  const schema = { type: "object", required: ["text"], properties: { text: { type: "string" } } };
  const summarize = { schema, description: "Makes it short", handler: ({ text }) => text.slice(0, 3) };
  await peer(server, "worker", { exposed: { summarize } });
  const caller = await peer(server, "caller");
  assert.equal(await caller.send("summarize", { text: "long" }), "lon");
  await assert.rejects(caller.send("summarize", { text: 5 }), { code: "INVALID", message: /text/ });
  const about = await caller.describe("summarize");
  assert.deepEqual([about.name, about.description, about.schema, about.peers.length], ["summarize", "Makes it short", schema, 1]);
});

test("a capability can be offered after start", async (t) => {
  const server = await serve(t);
  const worker = await peer(server, "worker");
  const caller = await peer(server, "caller");
  worker.expose("first", () => 1);
  await until(async () => (await caller.discover("first")).length === 1);
  assert.equal(await caller.send("first"), 1);
  worker.expose("second", () => 2);
  await until(async () => (await caller.discover("second")).length === 1);
  assert.equal(await caller.send("second"), 2);
});

test("stop lets a running handler finish", async (t) => {
  const server = await serve(t);
  const [begun, gate] = [promised(), promised()];
  const worker = await peer(server, "worker", { exposed: { slow: async () => (begun.resolve(), await gate.promise, "finished") } });
  const caller = await peer(server, "caller");
  const call = caller.send("slow", null, { retries: 0 });
  await begun.promise;
  const stopping = worker.stop();
  await until(async () => (await caller.discover("slow")).length === 0);
  gate.resolve();
  assert.equal(await call, "finished");
  await stopping;
});

test("context is read by everyone, and changes are told with their version", async (t) => {
  const server = await serve(t);
  const [ada, bob] = [await peer(server, "ada", { workspaces: ["w"] }), await peer(server, "bob", { workspaces: ["w"] })];
  const told = next(bob, "ctx:updated");
  const version = await ada.ctx.set("w", "doc", { text: "one" });
  assert.deepEqual(await bob.ctx.get("w", "doc"), { text: "one" });
  const { data, key, peerName, version: toldVersion } = await told;
  assert.deepEqual([data, key, peerName, toldVersion], [{ text: "one" }, "doc", "ada", version]);
  assert.deepEqual(await bob.ctx.getWithVersion("w", "doc"), { value: { text: "one" }, version });
  await ada.ctx.set("w", "plain", "just text");
  assert.equal(await bob.ctx.get("w", "plain"), "just text");
  assert.deepEqual((await bob.ctx.keys("w")).sort(), ["doc", "plain"]);
  assert.equal(await bob.ctx.get("w", "none"), null);
  assert.equal(await bob.ctx.getWithVersion("w", "none"), null);

  const deleted = next(bob, "ctx:updated", (event) => event.deleted);
  assert.equal(await ada.ctx.del("w", "doc"), true);
  assert.equal((await deleted).key, "doc");
  assert.equal(await ada.ctx.del("w", "doc"), false);
  assert.deepEqual(await bob.ctx.keys("w"), ["plain"]);
});

test("a peer may be in several workspaces, and each has its own events, context and streams", async (t) => {
  const server = await serve(t);
  const ada = await peer(server, "ada", { workspaces: ["w1", "w2"] });
  const [bob, cyd] = [await peer(server, "bob", { workspaces: ["w1"] }), await peer(server, "cyd", { workspaces: ["w2"] })];
  assert.deepEqual((await bob.peers()).find(({ name }) => name === "ada").workspaces.sort(), ["w1", "w2"]);
  const heard = { ada: [], bob: [] };
  for (const [name, flux] of Object.entries({ ada, bob })) {
    for (const type of ["peer:joined", "ctx:updated", "stream:data"]) flux.on(type, ({ workspace, peerName }) => heard[name].push(`${type} ${workspace} ${peerName}`));
  }
  await cyd.ctx.set("w2", "key", 2);
  await cyd.stream("w2", "s", ["x"]);
  await peer(server, "dan", { workspaces: ["w2", "w1"] });
  await until(() => heard.ada.length === 4 && heard.bob.length > 0);
  assert.deepEqual(heard.ada.sort(), ["ctx:updated w2 cyd", "peer:joined w1 dan", "peer:joined w2 dan", "stream:data w2 cyd"]);
  // The last of it: what was meant for others would have come before.
  assert.deepEqual(heard.bob, ["peer:joined w1 dan"]);
  await ada.ctx.set("w1", "key", 1);
  assert.deepEqual([await cyd.ctx.get("w2", "key"), await bob.ctx.get("w1", "key")], [2, 1]);
});

test("a write that was overtaken is refused, and update tries again", async (t) => {
  const server = await serve(t);
  const peers = await Promise.all(["a", "b", "c"].map((name) => peer(server, name, { workspaces: ["w"] })));
  const version = await peers[0].ctx.set("w", "n", 0, { ifVersion: 0 });
  await assert.rejects(peers[1].ctx.set("w", "n", 1, { ifVersion: 0 }), { code: "CONFLICT", version });
  await Promise.all(peers.flatMap(({ ctx }) => Array.from({ length: 10 }, () => ctx.update("w", "n", (n) => n + 1))));
  assert.equal(await peers[0].ctx.get("w", "n"), 30);
  const history = await peers[0].ctx.history("w", "n", { count: 3 });
  assert.deepEqual(history.map(({ value }) => value), [30, 29, 28]);
  assert.ok(peers.some(({ id }) => id === history[0].peerId));
  assert.ok(history[0].version > history[1].version);
});

test("a value with a time to live goes by itself, and everyone is told", async (t) => {
  const server = await serve(t);
  const [ada, bob] = [await peer(server, "ada", { workspaces: ["w"] }), await peer(server, "bob", { workspaces: ["w"] })];
  const deleted = next(bob, "ctx:updated", (event) => event.deleted);
  await ada.ctx.set("w", "short", 1, { ttl: 50 });
  assert.equal((await deleted).key, "short");
  assert.equal(await bob.ctx.get("w", "short"), null);
});

test("names that would break keys are refused", async (t) => {
  const server = await serve(t);
  const ada = await peer(server, "ada");
  await assert.rejects(ada.join("a:b"), /workspace/);
  await assert.rejects(ada.join(""), /workspace/);
  await assert.rejects(ada.ctx.set("w", "", 1));
  // What was refused does not come back with the next connection.
  await ada.join("w");
  assert.deepEqual((await ada.peers())[0].workspaces, ["w"]);
});

test("nothing but context is left when everyone has gone", async (t) => {
  const server = await serve(t);
  const ada = await peer(server, "ada", { exposed: { echo: (x) => x }, workspaces: ["w"] });
  const bob = await peer(server, "bob", { workspaces: ["w"] });
  await bob.send("echo", 1);
  await bob.ctx.set("w", "kept", 1);
  await bob.stream("w", "s", ["a", "b"]);
  await Promise.all([ada.stop(), bob.stop()]);
  const lasting = await lastingKeys(t, server);
  assert.deepEqual(lasting.filter((key) => !/^flux:(contexts|ws:w:(ctx|ctx:kept|history:kept))$/.test(key)), []);
  assert.ok(lasting.includes("flux:ws:w:ctx:kept"));
});

test("a handler that never ends gives its place free at the deadline", async (t) => {
  const server = await serve(t);
  let hung = 0;
  const exposed = { hang: () => (hung++, new Promise(() => {})), echo: (payload) => payload };
  await peer(server, "worker", { exposed, concurrency: 3 });
  const caller = await peer(server, "caller");
  const calls = Array.from({ length: 9 }, (_, n) => assert.rejects(caller.send("hang", n, 300 + n * 10), { code: "TIMEOUT" }));
  await Promise.all(calls);
  assert.ok(hung >= 3);
  assert.equal(await caller.send("echo", "still here"), "still here");
  const aborter = new AbortController();
  const given = Array.from({ length: 3 }, () => assert.rejects(caller.send("hang", 1, { signal: aborter.signal }), { code: "CANCELLED" }));
  const before = hung;
  await until(() => hung >= before + 3);
  aborter.abort();
  await Promise.all(given);
  assert.equal(await caller.send("echo", "and here"), "and here");
});

test("a result that is too large is an error at once", async (t) => {
  const server = await serve(t, ["--peer-payload-limit", "2kb"]);
  const exposed = { large: () => "x".repeat(3000), wordy: () => { throw new Error("y".repeat(3000)); }, *pieces() { yield "x".repeat(3000); } };
  await peer(server, "worker", { exposed });
  const caller = await peer(server, "caller");
  for (const name of Object.keys(exposed)) await assert.rejects(caller.send(name), { code: "FAILED", message: /peer-payload-limit/ }, name);
});

test("calls that a handler makes end with its own deadline", async (t) => {
  const server = await serve(t);
  let worker, ended, left;
  const over = new Promise((resolve) => (ended = resolve));
  const exposed = {
    deeper: async (depth, { deadline }) => {
      if (depth > 0) return worker.send("deeper", depth - 1, 60_000);
      left = deadline - Date.now();
      return new Promise(() => {});
    },
    chain: async () => worker.send("deeper", 20, 60_000).catch((error) => (ended(error), Promise.reject(error))),
    starts: () => void setTimeout(() => worker.send("echo", "later", 20_000).then(ended, ended), 400),
    echo: (payload) => payload,
  };
  worker = await peer(server, "worker", { exposed });
  const caller = await peer(server, "caller");
  await assert.rejects(caller.send("chain", null, 1_500), { code: "TIMEOUT" });
  assert.equal((await over).code, "TIMEOUT");
  assert.ok(left <= 1_500, `${left}`);
  await until(async () => (await caller.describe("deeper")).peers[0].running === 0);
  // What a handler leaves behind when it has ended is not bound by it.
  const later = new Promise((resolve) => (ended = resolve));
  await caller.send("starts", null, 300);
  assert.equal(await later, "later");
});

test("a call that ends with the handler that made it says so", async (t) => {
  const server = await serve(t);
  let worker, begun, ended;
  const exposed = {
    hang: () => (begun.resolve(), new Promise(() => {})),
    outer: () => worker.send("hang", null, 60_000).catch((error) => ended.resolve(error)),
  };
  worker = await peer(server, "worker", { exposed });
  const caller = await peer(server, "caller");
  for (const isCancelled of [false, true]) {
    [begun, ended] = [promised(), promised()];
    const aborter = new AbortController();
    const call = assert.rejects(caller.send("outer", null, { timeout: isCancelled ? 50_000 : 2_000, signal: aborter.signal }));
    if (isCancelled) await begun.promise.then(() => aborter.abort());
    await call;
    const { code, message } = await ended.promise;
    if (isCancelled) assert.deepEqual([code, message], ["CANCELLED", "the call whose handler made it is over"]);
    else assert.match(`${code}: ${message}`, /^TIMEOUT: timeout after (1?\d{1,3}|2000) ms$/);
  }
});

test("a clock that is set meanwhile does not move the end of a call", async (t) => {
  const server = await serve(t);
  const now = Date.now;
  t.after(() => (Date.now = now));
  let worker;
  const exposed = {
    outer: () => ((Date.now = () => now() + 3_600_000), worker.send("echo", "in time", 60_000)),
    echo: (payload) => payload,
  };
  worker = await peer(server, "worker", { exposed });
  const caller = await peer(server, "caller");
  assert.equal(await caller.send("outer", null, 30_000), "in time");
});

test("a peer that dies is called by its name", async (t) => {
  const server = await serve(t);
  const begun = promised();
  const worker = await peer(server, "the worker", { exposed: { hang: () => new Promise(begun.resolve) }, stopTimeout: 0 });
  const caller = await peer(server, "caller");
  const call = assert.rejects(caller.send("hang", 1, { retries: 0, to: worker.id }), { code: "GONE", message: 'peer "the worker" left while it ran the call' });
  await begun.promise;
  await worker.stop();
  await call;
});
