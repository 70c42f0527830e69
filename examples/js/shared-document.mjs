// Two agents that write one document together. A writer asks whoever can judge a draft and improves it until there is nothing
// to say; both see each other's changes as they happen. Start both, in any order, also on different machines:
//
//   node shared-document.mjs writer
//   node shared-document.mjs critic
//
// The server is told by FLUX_URL (lux://127.0.0.1:6379).

import { Flux } from "flux-peers";

const SENTENCES = ["Agents meet in a workspace.", "They share what they know.", "Each does what it can do best."];
const role = process.argv[2];
const flux = new Flux({ url: process.env.FLUX_URL, name: role });

flux.on("peer:joined", ({ peerName }) => console.log(`${peerName} is here`));
flux.on("peer:left", ({ peerName, left }) => console.log(`${peerName} is gone (${left})`));
flux.on("ctx:updated", ({ peerName, key, data }) => console.log(`${peerName} wrote ${key}: ${JSON.stringify(data)}`));

if (role === "critic") {
  flux.expose("critique", {
    description: "Says what a draft lacks; an empty text when it is good",
    schema: { type: "object", required: ["draft"], properties: { draft: { type: "string" } } },
    async handler({ draft }, { from }) {
      console.log(`${from.slice(0, 8)} asks about ${draft.length} letters`);
      // Whoever changes the document says which version it saw; here `update` does that.
      await flux.ctx.update("essay", "reviews", (reviews) => (reviews ?? 0) + 1);
      return SENTENCES.find((sentence) => !draft.includes(sentence)) ?? "";
    },
  });
}

await flux.start();
const peers = await flux.join("essay");
console.log(`in the workspace: ${peers.map(({ name }) => name).join(", ")}`);

if (role === "writer") {
  for (;;) {
    const { text } = (await flux.ctx.get("essay", "document")) ?? { text: "" };
    const missing = await critique(text);
    if (missing === "") break;
    await flux.ctx.update("essay", "document", (document) => ({ text: `${document?.text ?? ""} ${missing}`.trim() }));
  }
  console.log("done:", (await flux.ctx.get("essay", "document")).text);
  await flux.stop();
} else {
  process.once("SIGINT", () => flux.stop());
}

/** Waits for a critic as long as there is none. */
async function critique(draft) {
  for (;;) {
    try {
      return await flux.send("critique", { draft }, 10_000);
    } catch (error) {
      if (error.code !== "NOPEER") throw error;
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }
}
