// A peer in a page, in a real browser, which imports the modules from the server: no build step. Needs Chromium.

import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { next, peer, serve, until } from "./server.mjs";

const CHROMIUM = process.env.FLUX_CHROMIUM ?? "chromium";
const isThere = spawnSync(CHROMIUM, ["--version"]).status === 0;
if (!isThere && process.env.CI) throw new Error("chromium must be installed in CI");
// What drives the browser does not matter: once is enough.
const needsChromium = { skip: isThere ? (globalThis.Bun || globalThis.Deno ? "done in Node" : false) : "no chromium is installed" };
const EXAMPLE = new URL("../../../examples/js/workspace.html", import.meta.url);

/** Opens a page, served on a port of its own, until the test ends. */
async function browse(t, html, query = "") {
  const site = createServer((_, response) => {
    response.writeHead(200, { "content-type": "text/html" });
    response.end(html);
  }).listen(0, "127.0.0.1");
  await once(site, "listening");
  const profile = mkdtempSync(join(tmpdir(), "flux-page-"));
  const flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", `--user-data-dir=${profile}`];
  const browser = spawn(CHROMIUM, [...flags, "--enable-logging=stderr", `http://127.0.0.1:${site.address().port}/${query}`], { stdio: ["ignore", "ignore", "pipe"], detached: true });
  let log = "";
  browser.stderr.on("data", (text) => (log += text));
  const close = async () => {
    if (browser.exitCode !== null || browser.signalCode !== null) return;
    const gone = once(browser, "exit");
    // With all its processes, which would go on writing to its profile.
    process.kill(-browser.pid, "SIGKILL");
    await gone;
  };
  t.after(async () => {
    site.close();
    await close();
    await rm(profile, { recursive: true, force: true, maxRetries: 20 });
  });
  return { close, log: () => log.split("\n").filter((line) => line.includes("CONSOLE")).join("\n") };
}

test("a page is a peer like any other, and gone when it is closed", needsChromium, async (t) => {
  const server = await serve(t);
  const agent = await peer(server, "agent", { exposed: { half: (n) => n / 2 }, workspaces: ["w"] });
  const joined = next(agent, "peer:joined");
  const page = await browse(t, `<script type="module">
    import { Flux } from "http://127.0.0.1:${server.httpPort}/sdk/js/flux.js";
    const flux = new Flux({ url: "ws://127.0.0.1:${server.httpPort}", name: "page" });
    flux.expose("page.quarter", async (n) => (await flux.send("half", n)) / 2);
    flux.expose("page.count", async function* (n) { for (let i = 1; i <= n; i++) yield i; });
    await flux.start();
    await flux.join("w");
    await flux.ctx.set("w", "agent", navigator.userAgent);
  </script>`);
  assert.equal((await joined).peerName, "page", page.log());
  assert.equal(await agent.send("page.quarter", 8), 2);
  const chunks = [];
  await agent.send("page.count", 100, { onChunk: (chunk) => chunks.push(chunk) });
  assert.equal(chunks.length, 100);
  assert.match(await agent.ctx.get("w", "agent"), /Chrom/);
  const left = next(agent, "peer:left");
  await page.close();
  assert.equal((await left).left, "disconnected");
});

test("the example page shows a workspace live", needsChromium, async (t) => {
  const server = await serve(t);
  const writer = await peer(server, "<b>writer</b>", { workspaces: ["essay"] });
  await writer.ctx.set("essay", "before", { text: "was here" });
  const joined = next(writer, "peer:joined");
  // The page tells what it shows, when it is asked.
  const html = readFileSync(EXAMPLE, "utf8").replace("await flux.start();", 'flux.expose("page.text", () => document.body.innerText);\n await flux.start();');
  const page = await browse(t, html, `?server=127.0.0.1:${server.httpPort}&workspace=essay`);
  assert.equal((await joined).peerName, "page", page.log());
  const shows = (text) => until(async () => (await writer.send("page.text")).includes(text), `the page to show ${text}`);
  await shows("<b>writer</b>");
  await shows("was here");
  await writer.ctx.set("essay", "after", "fresh news");
  await shows("fresh news");
  await writer.stream("essay", "thoughts", ["to", "ken", "s"]);
  await shows("tokens");
  await writer.ctx.del("essay", "before");
  await until(async () => !(await writer.send("page.text")).includes("was here"), "the deleted value to go");
});
