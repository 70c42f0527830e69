// Peers and servers that die in the middle: every call ends once, and nothing hangs.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { Flux } from "../src/flux.js";
import { kill, launch, next, peer, promised, serve, until } from "./server.mjs";

/** A peer in a process of its own, which can be killed. */
async function processPeer(t, server, name) {
  const script = fileURLToPath(new URL("interop-peer.mjs", import.meta.url));
  const runtime = globalThis.Deno ? ["run", "--allow-all"] : [];
  const child = spawn(process.execPath, [...runtime, script, server.url, "w", name], { stdio: ["pipe", "pipe", "inherit"] });
  t.after(() => child.kill("SIGKILL"));
  const lines = createInterface({ input: child.stdout });
  const [line] = await new Promise((resolve) => lines.once("line", (...all) => resolve(all)));
  return { child, id: JSON.parse(line).ready };
}

test("a peer that is killed is gone for the others within 100 ms", async (t) => {
  const server = await serve(t);
  const ada = await peer(server, "ada", { workspaces: ["w"] });
  const { child, id } = await processPeer(t, server, "victim");
  const left = next(ada, "peer:left");
  const started = performance.now();
  child.kill("SIGKILL");
  const event = await left;
  const took = performance.now() - started;
  assert.deepEqual([event.peerId, event.left], [id, "disconnected"]);
  assert.ok(took < 100 || !process.env.FLUX_STRICT_TIMES, `${took} ms`);
  assert.deepEqual((await ada.peers()).map(({ name }) => name), ["ada"]);
});

test("the calls of a peer that dies go to another, or fail with GONE", async (t) => {
  const server = await serve(t);
  const caller = await peer(server, "caller");
  // A peer whose connections are cut, as a crash cuts them.
  const begun = promised();
  const victim = await peer(server, "victim", { exposed: { work: () => (begun.resolve(), new Promise(() => {})) }, stopTimeout: 0 });
  const call = caller.send("work", 1);
  const lonely = assert.rejects(caller.send("work", 2, { retries: 0 }), { code: "GONE" });
  await begun.promise;
  await peer(server, "other", { exposed: { work: (n) => `other did ${n}` } });
  await until(async () => (await caller.describe("work")).peers.find(({ id }) => id === victim.id).running === 2);
  await victim.stop();
  assert.equal(await call, "other did 1");
  await lonely;
});

test("everyone comes back to a server that was killed, and open calls end well", async (t) => {
  const server = await serve(t);
  let runs = 0;
  const gate = promised();
  const attempts = [];
  const slow = async (n, { attempt }) => (attempts.push(attempt), ++runs <= 2 && await gate.promise, n * 2);
  const worker = await peer(server, "worker", { exposed: { slow }, workspaces: ["w"] });
  const caller = await peer(server, "caller", { workspaces: ["w"] });
  await caller.ctx.set("w", "kept", "yes");
  const [patient, once] = [caller.send("slow", 21), caller.send("slow", 1, { retries: 0 })];
  await until(() => runs === 2);
  // Under `everysec` a kill may lose the last milliseconds; the context is not what is tested here.
  await until(async () => (await caller.ctx.keys("w")).length === 1);
  const back = Promise.all([next(worker, "connected"), next(caller, "connected")]);
  await kill(server);
  const waiting = caller.send("slow", 4);
  await launch(server);
  for (const { isRestarted } of await back) assert.equal(isRestarted, true);
  gate.resolve();
  // The peer that ran them kept them, and each has run once.
  assert.deepEqual(await Promise.all([patient, once, waiting]), [42, 2, 8]);
  assert.deepEqual([runs, attempts.slice(0, 2)], [3, [1, 1]]);
  await until(async () => (await caller.peers("w")).length === 2);
  const told = next(worker, "ctx:updated");
  await caller.ctx.set("w", "after", 1);
  assert.equal((await told).key, "after");
});

test("how often a call was tried is known after the server was killed, and it runs no more often than it may", async (t) => {
  const server = await serve(t);
  const caller = await peer(server, "caller");
  const attempts = [];
  const worker = async (name, open) => {
    const work = async (payload, { attempt }) => (attempts.push([name, attempt]), await new Promise(open ?? (() => {})), `${name} did it`);
    return peer(server, name, { exposed: { work }, stopTimeout: 0 });
  };
  // The first peer dies with the call, the second has it when the server is killed, and keeps it.
  for (const survives of [true, false]) {
    attempts.length = 0;
    let open;
    const first = await worker("first");
    const call = caller.send("work", 1, 25_000);
    call.catch(() => {});
    await until(() => attempts.length === 1);
    const second = await worker("second", (resolve) => (open = resolve));
    await first.stop();
    await until(() => attempts.length === 2);
    const back = next(caller, "connected");
    await kill(server);
    if (!survives) await second.stop();
    await launch(server);
    await back;
    const third = await worker("third");
    if (survives) {
      open();
      assert.equal(await call, "second did it");
    } else {
      await assert.rejects(call, { code: "GONE", message: "the server was restarted while it had the call" });
    }
    assert.deepEqual(attempts, [["first", 1], ["second", 2]]);
    await Promise.all([second.stop(), third.stop()]);
  }
});

test("a call that nobody runs any more is given once more after the server was killed, and says that it is the second time", async (t) => {
  const server = await serve(t);
  const caller = await peer(server, "caller");
  const begun = promised();
  const first = await peer(server, "first", { exposed: { work: () => new Promise(begun.resolve) }, stopTimeout: 0 });
  const call = caller.send("work", 1, 25_000);
  await begun.promise;
  await kill(server);
  await first.stop();
  await launch(server);
  await peer(server, "second", { exposed: { work: (payload, { attempt }) => attempt } });
  assert.equal(await call, 2);
});

test("start says what is wrong with an address, and ends", async (t) => {
  const server = await serve(t);
  await kill(server);
  const said = [];
  const { warn } = console;
  t.after(() => (console.warn = warn));
  console.warn = (text) => said.push(text);
  const refused = new RegExp(`no connection to 127.0.0.1:${server.port}`);
  await assert.rejects(new Flux({ url: server.url, connectTimeout: 100 }).start(), { code: "TIMEOUT", message: refused });
  const patient = new Flux({ url: server.url, connectTimeout: 4_000 });
  await assert.rejects(patient.start(), { code: "TIMEOUT", message: refused });
  assert.equal(said.length, 1);
  assert.match(said[0], refused);
  // Once there was a connection, it is waited for.
  await launch(server);
  await patient.start();
  t.after(() => patient.stop());
  await kill(server);
  await next(patient, "disconnected");
  await launch(server);
  await next(patient, "connected");
});

test("a port that does not speak this protocol is told apart", async (t) => {
  const server = await serve(t);
  await assert.rejects(new Flux({ url: `lux://127.0.0.1:${server.httpPort}` }).start(), { code: "PROTOCOL", message: /HTTP/ });
});

test("a stream goes on after the server was killed", async (t) => {
  const server = await serve(t, ["--appendfsync", "always"]);
  const [writer, reader] = [await peer(server, "writer", { workspaces: ["w"] }), await peer(server, "reader", { workspaces: ["w"] })];
  const chunks = [], notes = [];
  const end = promised();
  reader.onStream(writer.id, "s", (chunk, about) => (chunks.push(chunk), notes.push(about)), { onEnd: end.resolve });
  const streaming = writer.stream("w", "s", (async function* () {
    for (let n = 1; n <= 200; n++) {
      yield `chunk ${n}`;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  })());
  await until(() => chunks.length > 50);
  await kill(server);
  await launch(server);
  await streaming;
  await end.promise;
  assert.deepEqual(chunks, Array.from({ length: 200 }, (_, n) => `chunk ${n + 1}`));
  assert.equal(notes.every(({ missed }) => missed === 0), true);
});

test("start waits for a server that comes later", async (t) => {
  const server = await serve(t);
  await kill(server);
  const early = peer(server, "early", { workspaces: ["w"] });
  await launch(server);
  assert.deepEqual((await (await early).peers("w")).map(({ name }) => name), ["early"]);
});
