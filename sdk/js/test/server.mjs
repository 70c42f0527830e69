// Real servers and peers for tests: the binary is told by FLUX_BIN, or is the one of a debug build.

import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { Flux } from "../src/flux.js";
import { Parser, encode } from "../src/resp.js";

const BINARY = process.env.FLUX_BIN ?? fileURLToPath(new URL("../../../target/debug/flux", import.meta.url));

/** A server with a folder of its own, until the test ends. */
export async function serve(t, args = []) {
  if (!existsSync(BINARY)) throw new Error(`there is no flux at ${BINARY}: set FLUX_BIN`);
  const folder = mkdtempSync(join(tmpdir(), "flux-js-"));
  const server = { folder, args, child: null, peers: [] };
  // The peers first: one that stops without a server waits for it to come back, to tell it of what it has done.
  t.after(async () => {
    await Promise.all(server.peers.map((peer) => peer.stop()));
    await kill(server);
    rmSync(folder, { recursive: true });
  });
  await launch(server, 0, 0);
  return server;
}

/** Starts it (again), on ports that are free or those it had. */
export async function launch(server, port = server.port, httpPort = server.httpPort) {
  const { folder, args } = server;
  const child = spawn(BINARY, ["serve", "--data", folder, "--port", port, "--http-port", httpPort, ...args], { stdio: ["ignore", "pipe", "pipe"] });
  server.child = child;
  let log = "";
  child.stderr.on("data", (text) => (log += text));
  const greeting = await new Promise((resolve, reject) => {
    let out = "";
    child.stdout.on("data", (text) => (out += text).includes("\n") && resolve(out));
    child.on("exit", (code) => reject(new Error(`flux ended with ${code}: ${out}${log}`)));
  });
  server.port = Number(/redis:\/\/[^ ,;]*:(\d+)/.exec(greeting)[1]);
  server.httpPort = Number(/http:\/\/[^ ,;]*:(\d+)/.exec(greeting)[1]);
  server.url = `lux://127.0.0.1:${server.port}`;
  server.wsUrl = `ws://127.0.0.1:${server.httpPort}/resp`;
}

/** Ends it without a warning. */
export async function kill(server) {
  if (server.child.exitCode !== null || server.child.signalCode !== null) return;
  const gone = new Promise((resolve) => server.child.on("exit", resolve));
  server.child.kill("SIGKILL");
  await gone;
}

/** A started peer in these workspaces; it stops with the test. `exposed` maps names to handlers. */
export async function peer(server, name, { exposed = {}, workspaces = [], ...options } = {}) {
  const flux = new Flux({ url: server.url, name, ...options });
  server.peers.push(flux);
  for (const [capability, handler] of Object.entries(exposed)) flux.expose(capability, handler);
  await flux.start();
  for (const workspace of workspaces) await flux.join(workspace);
  return flux;
}

/** The next event of a type (that fits). */
export function next(flux, type, fits = () => true) {
  return new Promise((resolve) => {
    const off = flux.on(type, (event) => fits(event) && (off(), resolve(event)));
  });
}

/** Asks again and again until it is true. */
export async function until(isSo, what = "it") {
  const deadline = Date.now() + 30_000;
  while (!(await isSo())) {
    if (Date.now() > deadline) throw new Error(`${what} did not happen in 30 s`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** A promise and the functions that settle it. */
export function promised() {
  let resolve, reject;
  const promise = new Promise((...both) => ([resolve, reject] = both));
  return { promise, resolve, reject };
}

/** A bare connection, as a client of the old protocol has one: `call(...words)`, and the messages it was sent. */
export async function bare(t, server) {
  const socket = connect(server.port, "127.0.0.1");
  t.after(() => socket.destroy());
  const parser = new Parser();
  const waiting = [], messages = [];
  const take = (reply) => (Array.isArray(reply) && reply[0] === "message" ? messages.push(reply) : waiting.shift()(reply));
  socket.on("data", (bytes) => parser.push(bytes, take));
  const call = (...words) => new Promise((resolve) => (waiting.push(resolve), socket.write(encode(words))));
  return { call, messages };
}

/** The keys that begin with `flux:` and have no expiry. */
export async function lastingKeys(t, server) {
  const { call } = await bare(t, server);
  const lasting = [];
  for (const key of await call("KEYS", "flux:*")) if ((await call("PTTL", key)) === -1) lasting.push(key);
  return lasting.sort();
}
