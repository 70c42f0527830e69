// A peer for tests that drive peers of several languages: node interop-peer.mjs URL WORKSPACE [NAME]
// It exposes `js.echo` (gives the payload back), `js.count` ({to}: chunks 1 to n, then n) and `js.fail` (throws the payload's text),
// joins, and prints JSON lines: {"ready": id}, {"event": …}, {"chunk": …} of followed streams, and for each command line on stdin
// {"id", "ok": result} or {"id", "error", "code"}. Commands:
//   {"id", "do": "send", "fn", "payload", "options"}    {"id", "do": "set" | "get" | "del", "key", "value"}
//   {"id", "do": "peers"}                               {"id", "do": "stream", "key", "chunks": […]}
//   {"id", "do": "follow", "peer", "key"}               {"id", "do": "stop"}

import { createInterface } from "node:readline";

import { Flux } from "../src/flux.js";

const [url, workspace, name = "js"] = process.argv.slice(2);
const flux = new Flux({ url, name });
const print = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

flux.expose("js.echo", (payload) => payload);
flux.expose("js.count", async function* ({ to }) {
  for (let n = 1; n <= to; n++) yield n;
  return to;
});
flux.expose("js.fail", (payload) => {
  throw new Error(payload?.text ?? "failed as asked");
});
for (const type of ["peer:joined", "peer:left", "ctx:updated", "stream:data", "stream:end"]) flux.on(type, (event) => print({ event }));

const COMMANDS = {
  async send({ fn, payload, options = {} }) {
    const chunks = [];
    const data = await flux.send(fn, payload, { ...options, onChunk: (chunk) => chunks.push(chunk) });
    return chunks.length > 0 ? { data, chunks } : { data };
  },
  set: ({ key, value }) => flux.ctx.set(workspace, key, value),
  get: ({ key }) => flux.ctx.get(workspace, key),
  del: ({ key }) => flux.ctx.del(workspace, key),
  peers: () => flux.peers(workspace),
  stream: ({ key, chunks }) => flux.stream(workspace, key, chunks),
  follow: ({ peer, key }) => void flux.onStream(peer, key, (chunk, { seq, missed }) => print({ chunk, peer, key, seq, missed })),
  stop: () => flux.stop(),
};

await flux.start();
await flux.join(workspace);
print({ ready: flux.id });

createInterface({ input: process.stdin })
  .on("line", async (line) => {
    const { id, do: what, ...args } = JSON.parse(line);
    try {
      print({ id, ok: (await COMMANDS[what](args)) ?? null });
    } catch (error) {
      print({ id, error: error.message, code: error.code });
    }
  })
  .on("close", () => flux.stop());
