// Uses a server the way programs with ioredis do: node smoke.mjs PORT. Ends with an error where something is not as it is
// with Redis. Run by tests/it/clients.rs; also works by hand against a redis-server.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

// Where the package is installed is told by NODE_PATH, which `import` does not look at.
const Redis = createRequire(import.meta.url)("ioredis");
const port = Number(process.argv[2]);
const connect = (options = {}) => new Redis(port, "127.0.0.1", options);

async function strings(r) {
  assert.equal(await r.set("s", "1", "EX", 100), "OK");
  assert.equal(await r.get("s"), "1");
  assert.equal(await r.incrby("s", 41), 42);
  assert.equal(await r.set("s", "x", "NX"), null);
  assert.deepEqual(await r.mget("s", "none"), ["42", null]);
  assert.deepEqual(await r.getBuffer("s"), Buffer.from("42"));
}

async function collections(r) {
  assert.equal(await r.rpush("l", "a", "b"), 2);
  assert.deepEqual(await r.lrange("l", 0, -1), ["a", "b"]);
  assert.equal(await r.hset("h", { f: "1", g: "2" }), 2);
  assert.deepEqual({ ...(await r.hgetall("h")) }, { f: "1", g: "2" });
  assert.equal(await r.sadd("t", "x", "y"), 2);
  assert.deepEqual([...(await r.smembers("t"))].sort(), ["x", "y"]);
  assert.equal(await r.zadd("z", 1, "one", 2.5, "two"), 2);
  assert.equal(Number(await r.zscore("z", "two")), 2.5);
  assert.deepEqual(await r.zrange("z", 0, -1), ["one", "two"]);
  const seen = [];
  for await (const keys of r.scanStream({ count: 2 })) seen.push(...keys);
  assert.deepEqual(seen.sort(), ["h", "l", "s", "t", "z"]);
}

async function streams(r) {
  const id = await r.xadd("x", "*", "n", "1");
  assert.equal(await r.xgroup("CREATE", "x", "g", "0"), "OK");
  const read = await r.xreadgroup("GROUP", "g", "c", "COUNT", 1, "STREAMS", "x", ">");
  assert.ok(JSON.stringify(read instanceof Map ? [...read] : read).includes(id));
  assert.equal(await r.xack("x", "g", id), 1);
}

async function transactions(r) {
  assert.deepEqual(await r.multi().set("p", 1).incr("p").exec(), [[null, "OK"], [null, 2]]);
  assert.deepEqual(await r.pipeline().get("p").lpush("p", 1).exec().then((all) => [all[0], all[1][0].message.split(" ")[0]]), [
    [null, "2"],
    "WRONGTYPE",
  ]);
}

async function messages(r) {
  const listener = connect();
  await listener.subscribe("news");
  const arrived = new Promise((resolve) => listener.on("message", (channel, text) => resolve([channel, text])));
  assert.equal(await r.publish("news", "hello"), 1);
  assert.deepEqual(await arrived, ["news", "hello"]);
  listener.disconnect();
}

async function blocking(r) {
  const clients = Array.from({ length: 50 }, () => connect());
  await Promise.all(clients.map((client) => client.ping()));
  const results = clients.map((client) => client.blpop("queue", 10));
  while (!/blocked_clients:50\r/.test(await r.info("clients"))) await new Promise((resolve) => setTimeout(resolve, 10));
  await r.rpush("queue", ...clients.keys());
  const values = (await Promise.all(results)).map(([, value]) => Number(value));
  assert.deepEqual(values.sort((a, b) => a - b), [...clients.keys()]);
  assert.equal(await r.blpop("queue", 0.05), null);
  clients.forEach((client) => client.disconnect());
}

async function server(r) {
  assert.match(await r.info(), /redis_version:7\./);
  await r.client("SETNAME", "smoke");
  assert.match(String(await r.client("LIST")), /id=\d+ addr=\S+ .*name=smoke/);
  const other = connect({ db: 3, connectionName: "other" });
  await other.set("only here", 1);
  assert.equal(await r.exists("only here"), 0);
  other.disconnect();
}

const r = connect();
await r.flushall();
for (const part of [strings, collections, streams, transactions, messages, blocking, server]) {
  try {
    await part(r);
  } catch (error) {
    console.log(part.name);
    throw error;
  }
}
r.disconnect();
console.log("ioredis: all well");
