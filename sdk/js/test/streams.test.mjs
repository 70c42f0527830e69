// Streams at a real server: late readers, slow readers, old peers.

import assert from "node:assert/strict";
import { test } from "node:test";

import { bare, next, peer, promised, serve, until } from "./server.mjs";

/** Follows a stream; gives what came, and a promise of its end. */
function read(flux, peerId, key, handler = () => {}) {
  const chunks = [], notes = [];
  const end = promised();
  const off = flux.onStream(peerId, key, (chunk, about) => (chunks.push(chunk), notes.push(about), handler(chunk)), { onEnd: end.resolve });
  return { chunks, notes, end: end.promise, off };
}

const numbered = (count) => Array.from({ length: count }, (_, n) => `chunk ${n + 1}`);

test("a stream reaches everyone in the workspace, in order, as it is written", async (t) => {
  const server = await serve(t);
  const writer = await peer(server, "writer", { workspaces: ["w"] });
  const readers = await Promise.all(["r1", "r2"].map((name) => peer(server, name, { workspaces: ["w"] })));
  const reads = readers.map((reader) => read(reader, writer.id, "thoughts"));
  const [data, end] = [next(readers[0], "stream:data"), next(readers[0], "stream:end")];
  const gate = promised();
  const streaming = writer.stream("w", "thoughts", (async function* () {
    yield "first";
    await gate.promise;
    yield "second";
    yield { third: 3 };
  })());
  await until(() => reads.every(({ chunks }) => chunks.length === 1));
  gate.resolve();
  assert.equal(await streaming, 3);
  await Promise.all(reads.map(({ end }) => end));
  for (const { chunks, notes } of reads) {
    assert.deepEqual(chunks, ["first", "second", '{"third":3}']);
    assert.deepEqual(notes.map(({ seq, missed, workspace }) => [seq, missed, workspace]), [[1, 0, "w"], [2, 0, "w"], [3, 0, "w"]]);
  }
  const { type, workspace, peerId, peerName, key, data: text } = await data;
  assert.deepEqual([type, workspace, peerId, peerName, key, text], ["stream:data", "w", writer.id, "writer", "thoughts", "first"]);
  assert.equal((await end).key, "thoughts");
});

test("a fast stream arrives whole, once, in order", async (t) => {
  const server = await serve(t);
  const [writer, reader] = [await peer(server, "writer", { workspaces: ["w"] }), await peer(server, "reader", { workspaces: ["w"] })];
  const { chunks, end } = read(reader, writer.id, "s");
  assert.equal(await writer.stream("w", "s", numbered(5_000)), 5_000);
  await end;
  assert.deepEqual(chunks, numbered(5_000));
});

test("who comes late gets the beginning as well, without a seam", async (t) => {
  const server = await serve(t);
  const writer = await peer(server, "writer", { workspaces: ["w"] });
  const early = await peer(server, "early", { workspaces: ["w"] });
  const first = read(early, writer.id, "s");
  const streaming = writer.stream("w", "s", (async function* () {
    for (const chunk of numbered(300)) {
      yield chunk;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  })());
  await until(() => first.chunks.length > 50);
  const late = await peer(server, "late");
  const second = read(late, writer.id, "s");
  await late.join("w");
  await streaming;
  await Promise.all([first.end, second.end]);
  assert.deepEqual(first.chunks, numbered(300));
  assert.deepEqual(second.chunks, numbered(300));
  const after = await peer(server, "after", { workspaces: ["w"] });
  const third = read(after, writer.id, "s");
  await third.end;
  assert.deepEqual(third.chunks, numbered(300));
});

test("who comes too late is told how much is missing", async (t) => {
  const server = await serve(t);
  const [writer, reader] = [await peer(server, "writer", { workspaces: ["w"] }), await peer(server, "reader", { workspaces: ["w"] })];
  await writer.stream("w", "s", numbered(3_000));
  const { chunks, notes, end } = read(reader, writer.id, "s");
  await end;
  assert.ok(notes[0].missed > 0);
  assert.equal(notes[0].missed + chunks.length, 3_000);
  assert.equal(notes.slice(1).every(({ missed }) => missed === 0), true);
  assert.equal(chunks.at(-1), "chunk 3000");
});

test("a slow reader is waited for, and told what it missed", async (t) => {
  const server = await serve(t);
  const [writer, reader] = [await peer(server, "writer", { workspaces: ["w"] }), await peer(server, "reader", { workspaces: ["w"] })];
  let busy = 0;
  const gate = promised();
  const { chunks, notes, end } = read(reader, writer.id, "s", async () => {
    assert.equal(++busy, 1);
    await gate.promise;
    busy--;
  });
  await writer.stream("w", "s", numbered(2_500));
  await until(() => chunks.length === 1);
  gate.resolve();
  await end;
  const missed = notes.reduce((sum, { missed }) => sum + missed, 0);
  assert.ok(missed > 0);
  assert.equal(chunks.length + missed, 2_500);
  for (const [at, { seq }] of notes.entries()) assert.equal(chunks[at], `chunk ${seq}`);
});

test("a stream under a name that was used before is another one", async (t) => {
  const server = await serve(t);
  const [writer, reader] = [await peer(server, "writer", { workspaces: ["w"] }), await peer(server, "reader", { workspaces: ["w"] })];
  let ends = 0;
  const chunks = [];
  reader.onStream(writer.id, "s", (chunk) => chunks.push(chunk), { onEnd: () => ends++ });
  await writer.stream("w", "s", ["a", "b", "c"]);
  await until(() => ends === 1);
  await writer.stream("w", "s", ["d", "e"]);
  await until(() => ends === 2);
  assert.deepEqual(chunks, ["a", "b", "c", "d", "e"]);
});

test("what a source throws reaches the writer, and its readers see that the stream broke off", async (t) => {
  const server = await serve(t);
  const [writer, reader] = [await peer(server, "writer", { workspaces: ["w"] }), await peer(server, "reader", { workspaces: ["w"] })];
  const { chunks, end } = read(reader, writer.id, "s");
  const event = next(reader, "stream:end");
  await assert.rejects(writer.stream("w", "s", (async function* () { yield "a"; throw new Error("the model broke"); })()), { message: "the model broke" });
  const { error } = await end;
  assert.deepEqual([error.code, error.message], ["FAILED", "the model broke"]);
  assert.equal((await event).error, "the model broke");
  assert.deepEqual(chunks, ["a"]);
  const late = read(await peer(server, "late", { workspaces: ["w"] }), writer.id, "s");
  assert.equal((await late.end).error.message, "the model broke");
  // The next one under its name is whole.
  const again = promised();
  reader.onStream(writer.id, "s", () => {}, { onEnd: (about) => about.error || again.resolve(about) });
  await writer.stream("w", "s", ["b"]);
  assert.equal("error" in (await again.promise), false);
  // So is one whose chunks the server refuses.
  const refused = read(reader, writer.id, "t");
  await assert.rejects(writer.stream("w", "t", ["a", 10n]), TypeError);
  assert.match((await refused.end).error.message, /BigInt/);
});

test("a reader that was ended hears nothing more", async (t) => {
  const server = await serve(t);
  const [writer, reader] = [await peer(server, "writer", { workspaces: ["w"] }), await peer(server, "reader", { workspaces: ["w"] })];
  const gate = promised();
  const { chunks, off } = read(reader, writer.id, "s");
  const streaming = writer.stream("w", "s", (async function* () { yield "a"; await gate.promise; yield "b"; })());
  await until(() => chunks.length === 1);
  off();
  const end = next(reader, "stream:end");
  gate.resolve();
  await streaming;
  await end;
  assert.deepEqual(chunks, ["a"]);
});

test("the stream of an old peer, whose chunks have no numbers, is read like any other", async (t) => {
  const server = await serve(t);
  const reader = await peer(server, "reader", { workspaces: ["w"] });
  const { call } = await bare(t, server);
  const old = { id: "0b8e2f6e-0000-4000-8000-000000000001", name: "old", capabilities: [], workspaces: ["w"], startedAt: Date.now() };
  const publish = (event) => call("PUBLISH", "flux:ws:w:events", JSON.stringify({ workspace: "w", peerId: old.id, peerName: old.name, ...event }));
  await call("SET", `flux:peer:${old.id}`, JSON.stringify(old), "EX", 10);
  await call("SADD", "flux:peers", old.id);
  await call("SADD", `flux:peer:${old.id}:ws`, "w");
  await call("SADD", "flux:ws:w:peers", old.id);
  await publish({ type: "peer:joined" });
  const { chunks, end } = read(reader, old.id, "s");
  for (const data of numbered(50)) await publish({ type: "stream:data", key: "s", data });
  await publish({ type: "stream:end", key: "s" });
  await end;
  assert.deepEqual(chunks, numbered(50));
});
