// Runs a job's script: what its exported function, or a top-level `handler`, returns is the job's output.
const { readFileSync, writeFileSync } = require("node:fs");
const Module = require("node:module");

const path = `${process.cwd()}/job.js`;
const payload = JSON.parse(readFileSync("payload.json", "utf8"));
const job = new Module(path, module);
job.filename = path;
job.paths = Module._nodeModulePaths(process.cwd());
const text = readFileSync(path, "utf8").replace(/^#!.*/, "");
job._compile(`${text}\n;if (typeof handler === "function" && typeof module.exports !== "function") module.exports = handler;`, path);

(async () => {
  if (typeof job.exports !== "function") return;
  const output = await job.exports(payload);
  if (output !== undefined) writeFileSync(process.env.FLUX_OUTPUT, JSON.stringify(output));
})().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
