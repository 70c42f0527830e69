// What the server knows of a peer is what the peer told last, in whatever order its connections are read.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Flux } from "../src/flux.js";
import { door } from "./door.mjs";
import { peer, promised, serve, until } from "./server.mjs";

const PEERS = Number(process.env.FLUX_PEERS ?? 150);
const STEPS = 12;

/** Chance that can be played again: mulberry32. */
function chance(seed) {
  return (below) => {
    seed = (seed + 0x6d2b79f5) | 0;
    let word = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    word = (word + Math.imul(word ^ (word >>> 7), 61 | word)) ^ word;
    return ((word ^ (word >>> 14)) >>> 0) % below;
  };
}

async function turns(count) {
  for (let turn = 0; turn < count; turn++) await new Promise(setImmediate);
}

const told = (watcher, id) => watcher.peers().then((peers) => peers.find((peer) => peer.id === id));
const names = (found) => (found?.capabilities ?? []).map(({ name }) => name).sort();

test("what is offered while the connection for work is made is not lost when that comes late", async (t) => {
  const server = await serve(t);
  const late = promised();
  const way = await door(t, server, (number) => number === 2 && late.promise);
  const flux = await peer({ ...server, url: way.url, peers: server.peers }, "late");
  const watcher = await peer(server, "watcher");
  await flux.join("left");
  for (const name of ["a", "b", "c"]) await flux.expose(name, () => name);
  const [before, gone] = [await told(watcher, flux.id), flux.leave("left")];
  await gone;
  late.resolve();
  assert.equal(await watcher.send("c"), "c", "its connection for work is there now");
  const after = await told(watcher, flux.id);
  assert.deepEqual([names(before), names(after), after.workspaces], [["a", "b", "c"], ["a", "b", "c"], []]);
});

test("a capability can be called as soon as its expose is awaited", async (t) => {
  const server = await serve(t);
  const caller = await peer(server, "caller");
  await Promise.all(Array.from({ length: PEERS }, async (_, number) => {
    const flux = await peer(server, `p${number}`);
    for (const letter of ["a", "b", "c", "d"]) {
      await flux.expose(`${letter}${number}`, () => letter);
      assert.equal(await caller.send(`${letter}${number}`), letter);
    }
    assert.deepEqual(names(await told(caller, flux.id)), ["a", "b", "c", "d"].map((letter) => letter + number));
  }));
});

test("after any order of exposing, joining, leaving, cuts and new starts the server knows what the peer is", async (t) => {
  const server = await serve(t);
  const watcher = await peer(server, "watcher");
  const seed = Number(process.env.FLUX_SEED ?? Date.now() % 1e9);
  t.diagnostic(`FLUX_SEED=${seed}`);
  t.mock.method(console, "warn", () => {});
  await Promise.all(Array.from({ length: PEERS }, (_, number) => play(t, server, watcher, number, chance(seed + number))));
});

/** One peer does things at random, waiting for some of them; then all it offers can be called, and nothing else is known of it. */
async function play(t, server, watcher, number, below) {
  const way = await door(t, server, () => turns(below(4) === 0 ? below(30) : 0));
  const flux = new Flux({ url: way.url, name: `p${number}`, stopTimeout: 10 });
  server.peers.push(flux);
  const offers = new Set(), workspaces = new Set();
  const offer = (name) => flux.expose(name, () => name).then(() => offers.add(name), () => offers.delete(name));
  let open = [];
  const steps = {
    expose: () => offer(`${"abcdef"[below(6)]}-${number}`),
    join: (where = `w${below(3)}-${number}`) => (workspaces.add(where), flux.join(where)),
    leave: (where = `w${below(3)}-${number}`) => (workspaces.delete(where), flux.leave(where)),
    cut: () => way.cut(),
    restart: async () => {
      await Promise.allSettled(open);
      await flux.stop();
      workspaces.clear();
      await flux.start();
    },
    wait: () => turns(below(20)),
  };
  for (let count = below(3); count > 0; count--) offer(`before${count}-${number}`);
  await flux.start();
  const kinds = ["expose", "expose", "expose", "expose", "join", "leave", "cut", "wait", "restart"];
  const played = [];
  for (let step = 0; step < STEPS; step++) {
    const kind = kinds[below(kinds.length)];
    played.push(kind);
    const done = Promise.resolve(steps[kind]());
    if (kind === "restart" || below(2) === 0) await done;
    else open.push(done);
  }
  for (const { reason } of await Promise.allSettled(open)) assert.equal(reason, undefined, `${played}`);
  // Its connection for work is there when a call is answered. One that a cut met may have failed.
  const wanted = [...offers].sort();
  for (const name of wanted) await until(async () => (await watcher.send(name).catch(() => null)) === name, `${name} after ${played}`);
  await until(async () => (await told(watcher, flux.id)) !== undefined, "that it is there");
  await turns(50);
  const found = await told(watcher, flux.id);
  assert.deepEqual([names(found), [...found.workspaces].sort()], [wanted, [...workspaces].sort()], `${played}`);
}
