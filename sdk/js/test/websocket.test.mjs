// Peers that come by WebSocket, as in a browser. Node before 22 has one only with --experimental-websocket.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Flux } from "../src/flux.js";
import { next, peer, serve } from "./server.mjs";

const needsWebSocket = { skip: globalThis.WebSocket ? false : "this Node has no WebSocket: run it with --experimental-websocket" };

test("peers by WebSocket and by TCP are the same to each other", needsWebSocket, async (t) => {
  const server = await serve(t);
  const page = await peer({ ...server, url: server.wsUrl }, "page", { exposed: { twice: (n) => 2 * n, async *count(n) { for (let i = 1; i <= n; i++) yield i; } }, workspaces: ["w"] });
  const agent = await peer(server, "agent", { exposed: { half: (n) => n / 2 }, workspaces: ["w"] });
  assert.equal(await agent.send("twice", 4), 8);
  assert.equal(await page.send("half", 4), 2);
  assert.deepEqual(await page.send("half", 4, { gather: true }).then(([{ data }]) => data), 2);
  const chunks = [];
  await agent.send("count", 300, { onChunk: (chunk) => chunks.push(chunk) });
  assert.equal(chunks.length, 300);
  const told = next(page, "ctx:updated");
  const large = { text: "ü".repeat(500_000) };
  await agent.ctx.set("w", "large", large);
  assert.deepEqual((await told).data, large);
  await page.ctx.set("w", "large", large);
  assert.deepEqual(await page.ctx.get("w", "large"), large);
  const left = next(agent, "peer:left");
  await page.stop();
  assert.equal((await left).left, "stopped");
});

test("the password is asked for on a WebSocket too", needsWebSocket, async (t) => {
  const server = await serve(t, ["--requirepass", "se:cret@1"]);
  const connect = async (url) => {
    const flux = new Flux({ url });
    await flux.start();
    await flux.stop();
  };
  for (const url of [server.wsUrl, server.url]) {
    await assert.rejects(connect(url), { code: "NOAUTH" });
    await assert.rejects(connect(url.replace("//", "//:wrong@")), { code: "WRONGPASS" });
    await connect(url.replace("//", `//:${encodeURIComponent("se:cret@1")}@`));
  }
});

test("without a WebSocket the error says what to do", { skip: globalThis.WebSocket ? "there is one" : false }, async () => {
  await assert.rejects(new Flux({ url: "ws://127.0.0.1:3000" }).start(), { code: "INVALID", message: /use lux:/ });
});
