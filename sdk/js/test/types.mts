// Read by the TypeScript compiler only: what programs write must be accepted, with the types they expect.

import { Flux, FluxError, type Handler, type Answer } from "../src/flux.js";
const flux = new Flux({ url: "lux://x", name: "n" });
flux.expose("a", async (p: { text: string }) => p.text.length);
flux.expose("b", { async *handler(p, { chunk, signal }) { yield 1; await chunk(2); return signal.aborted; }, schema: { type: "object" }, retry: 2 });
flux.expose("c", { handler: (p) => p, description: "x", concurrency: 1 });
await flux.start();
const r: number = await flux.send("a", { text: "" }, 100);
const all = await flux.send<Answer[]>("a", 1, { gather: true, signal: AbortSignal.timeout(1) });
for (const x of all) if (x.ok) x.data; else x.error.length;
for await (const c of flux.chunks<string, number>("b", {})) c.length;
flux.on("ctx:updated", (e) => e.key + e.version);
flux.on("peer:left", (e) => e.left);
// @ts-expect-error no such event
flux.on("nothing", () => {});
flux.onStream("p", "k", (chunk, { seq, missed }) => chunk.length + seq + missed);
const v = await flux.ctx.update<{ n: number }>("w", "k", (d) => ({ n: (d?.n ?? 0) + 1 }));
v.n;
try {} catch (e) { if (e instanceof FluxError) e.code; }
await using f = flux;
