// The whole client once, in whatever runtime runs this: node, bun or deno. Over TCP, and over WebSocket where there is one.

import assert from "node:assert/strict";

import { next, peer, serve, until } from "./server.mjs";

const cleanups = [];
const t = { after: (cleanup) => cleanups.unshift(cleanup) };

async function smoke(server, url) {
  const worker = await peer(t, { url }, "worker", {
    exposed: {
      add: ({ a, b }) => a + b,
      fail: () => { throw new Error("as asked"); },
      async *count({ to }) { for (let n = 1; n <= to; n++) yield n; return "done"; },
      slow: (payload, { signal }) => new Promise((resolve, reject) => signal.addEventListener("abort", () => reject(signal.reason))),
    },
    workspaces: ["w"],
  });
  const caller = await peer(t, server, "caller", { workspaces: ["w"] });
  assert.deepEqual((await caller.peers("w")).map(({ name }) => name).sort(), ["caller", "worker"]);
  assert.equal(await caller.send("add", { a: 2, b: 3 }), 5);
  await assert.rejects(caller.send("fail"), { code: "FAILED", message: "as asked" });
  await assert.rejects(caller.send("slow", null, 50), { code: "TIMEOUT", message: "timeout after 50 ms" });
  await assert.rejects(caller.send("slow", null, { signal: AbortSignal.timeout(50) }), { code: "CANCELLED" });
  const counted = [];
  for await (const n of caller.chunks("count", { to: 50 })) counted.push(n);
  assert.equal(counted.length, 50);
  assert.equal((await Promise.all(Array.from({ length: 200 }, (_, n) => caller.send("add", { a: n, b: 1 })))).at(-1), 200);

  const told = next(worker, "ctx:updated");
  await caller.ctx.set("w", "doc", { text: "grüße 🙂" });
  assert.deepEqual((await told).data, { text: "grüße 🙂" });
  assert.deepEqual(await worker.ctx.get("w", "doc"), { text: "grüße 🙂" });

  const chunks = [];
  await worker.stream("w", "s", ["a", "b", "c"]);
  caller.onStream(worker.id, "s", (chunk) => chunks.push(chunk));
  await until(() => chunks.length === 3);
  assert.deepEqual(chunks, ["a", "b", "c"]);

  const left = next(caller, "peer:left");
  await worker.stop();
  assert.equal((await left).left, "stopped");
  await caller.stop();
}

const runtime = globalThis.Deno ? `Deno ${Deno.version.deno}` : globalThis.Bun ? `Bun ${Bun.version}` : `Node ${process.version}`;
try {
  const server = await serve(t);
  await smoke(server, server.url);
  console.log(`${runtime}: ok over TCP`);
  if (globalThis.WebSocket) {
    await smoke(server, server.wsUrl);
    console.log(`${runtime}: ok over WebSocket`);
  }
} finally {
  for (const cleanup of cleanups) await cleanup();
}
