// The tokens of a language model (a made-up one), in both ways they can travel: to the caller of a capability, as the chunks of
// its call, and to everyone in a workspace, as a stream. Whoever comes late gets the beginning as well.
//
//   node tokens.mjs            one process plays the model, its caller and a late reader
//
// The server is told by FLUX_URL (lux://127.0.0.1:6379).

import { Flux } from "flux-peers";

const url = process.env.FLUX_URL;
const TEXT = "The model thinks aloud, word by word, and everyone who cares can listen while it does.";

async function* think(prompt, signal) {
  for (const token of `${prompt}: ${TEXT}`.match(/\S+\s*/g)) {
    if (signal?.aborted) return;
    await new Promise((resolve) => setTimeout(resolve, 30));
    yield token;
  }
}

const model = new Flux({ url, name: "model" });
model.expose("complete", async function* ({ prompt }, { signal }) {
  let tokens = 0;
  for await (const token of think(prompt, signal)) {
    tokens++;
    yield token;
  }
  return { tokens };
});
await model.start();
await model.join("lab");

// To the caller. Leaving the loop would cancel the call, and the model would stop thinking.
const caller = new Flux({ url, name: "caller" });
await caller.start();
const call = caller.chunks("complete", { prompt: "First" });
let step;
while (!(step = await call.next()).done) process.stdout.write(step.value);
console.log(`\n(${step.value.tokens} tokens)\n`);

// To everyone in the workspace.
const streaming = model.stream("lab", "reasoning", think("Second"));
await new Promise((resolve) => setTimeout(resolve, 200));
const late = new Flux({ url, name: "late" });
await late.start();
await late.join("lab");
await new Promise((resolve) => {
  late.onStream(model.id, "reasoning", (token) => process.stdout.write(token), { onEnd: resolve });
});
console.log("\n(all of it, though it came late)");

await streaming;
await Promise.all([model, caller, late].map((peer) => peer.stop()));
