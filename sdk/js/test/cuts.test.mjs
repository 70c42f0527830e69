// What a peer does when the connection is cut at the worst moment, with a server that does just that.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import { test } from "node:test";

import { Flux, FluxError } from "../src/flux.js";
import { bulk, fakeServer, job, message } from "./fake.mjs";
import { promised, until } from "./server.mjs";

/** A peer at a fake server; both end with the test. */
async function peerAt(t, answer, options = {}) {
  const server = await fakeServer(answer);
  const flux = new Flux({ url: server.url, stopTimeout: 200, ...options });
  t.after(async () => (await flux.stop(), server.close()));
  return { server, flux };
}

const idOf = (words) => words[words.indexOf("ID") + 1];
const resultsOf = (flux) => `flux:res:${flux.id}`;
const happened = (flux, type) => new Promise((resolve) => { const off = flux.on(type, (event) => (off(), resolve(event))); });

test("a call that the server never saw is given again after a cut, and ends once", async (t) => {
  let calls = 0;
  const { server, flux } = await peerAt(t, (words, connection) => {
    if (words[0] === "FLUX.RESULT") return "-NOCALL no such call\r\n";
    if (words[0] !== "FLUX.CALL") return;
    if (++calls === 1) return connection.cut(), "";
    return bulk(idOf(words)) + message(resultsOf(flux), { jobId: idOf(words), ok: true, data: "second" });
  });
  await flux.start();
  assert.equal(await flux.send("x", 1), "second");
  const ids = server.commands.filter(([name]) => name === "FLUX.CALL").map(idOf);
  assert.equal(ids.length, 2);
  assert.equal(ids[0], ids[1]);
});

test("the result that was published during a cut is fetched", async (t) => {
  const { flux } = await peerAt(t, (words, connection) => {
    if (words[0] === "FLUX.CALL") return setImmediate(connection.cut), bulk(idOf(words));
    if (words[0] === "FLUX.RESULT") return bulk(JSON.stringify({ jobId: words[1], ok: true, data: { n: 5 } }));
  });
  await flux.start();
  assert.deepEqual(await flux.send("x", 1), { n: 5 });
});

test("a call that the restarted server does not know is given again as a retry, or fails with GONE", async (t) => {
  let run = 1;
  const { flux } = await peerAt(t, (words, connection) => {
    if (words[0] === "FLUX.REGISTER") return `%1\r\n+server\r\n+run-${run}\r\n`;
    if (words[0] === "FLUX.RESULT") return "-NOCALL no such call\r\n";
    if (words[0] !== "FLUX.CALL") return;
    // Which try was the last, it says itself; whether there may be another one is for the server to say.
    if (run > 1) assert.equal(words.join(" ").replace(/.* ID \S+ /, ""), "ATTEMPT 1 SEEN 0 ASYNC");
    if (run > 1 && words[words.indexOf("RETRIES") + 1] === "0") return "-GONE the server was restarted while it had the call\r\n";
    if (run > 1) return bulk(idOf(words)) + message(resultsOf(flux), { jobId: idOf(words), ok: true, data: run });
    setImmediate(() => ((run = 2), connection.cut()));
    return bulk(idOf(words));
  });
  await flux.start();
  const calls = [flux.send("x", 1), flux.send("x", 1, { retries: 0 })];
  await assert.rejects(calls[1], { code: "GONE" });
  assert.equal(await calls[0], 2);
});

test("a restarted server's lack of peers is not believed at once", async (t) => {
  let run = 1, refusals = 0;
  const { flux } = await peerAt(t, (words, connection) => {
    if (words[0] === "FLUX.REGISTER") return `%1\r\n+server\r\n+run-${run}\r\n`;
    if (words[0] === "FLUX.RESULT") return "-NOCALL no such call\r\n";
    if (words[0] !== "FLUX.CALL") return;
    if (run === 1) return run++, connection.cut(), "";
    if (refusals++ < 2) return '-NOPEER no peer handles "x"\r\n';
    return bulk(idOf(words)) + message(resultsOf(flux), { jobId: idOf(words), ok: true, data: "here" });
  });
  await flux.start();
  assert.equal(await flux.send("x"), "here");
});

test("a call ends by its deadline though the server says nothing, or is away", async (t) => {
  const { server, flux } = await peerAt(t, (words) => (words[0] === "FLUX.CALL" ? "" : undefined));
  await flux.start();
  await assert.rejects(flux.send("x", 1, 60), { code: "TIMEOUT", message: "timeout after 60 ms" });
  const down = happened(flux, "disconnected");
  server.close();
  await down;
  await assert.rejects(flux.send("x", 1, { timeout: 60 }), { code: "TIMEOUT", message: "timeout after 60 ms" });
});

test("what is not chosen is as the old client had it: a name for each peer, and 30 s for a call", async (t) => {
  const { server, flux } = await peerAt(t, (words) => (words[0] === "FLUX.CALL" ? bulk(idOf(words)) : undefined));
  const names = Array.from({ length: 100 }, () => new Flux({ url: server.url }).name);
  assert.ok(new Set(names).size === names.length && names.every((name) => name.length > 0), names.join());
  await flux.start();
  const call = assert.rejects(flux.send("x", 1), { code: "STOPPED" });
  const asked = () => server.commands.find(([name]) => name === "FLUX.CALL");
  await until(() => asked() !== undefined);
  const left = Number(asked()[asked().indexOf("TIMEOUT") + 1]);
  assert.ok(left > 20_000 && left <= 30_000, `${left}`);
  await flux.stop();
  await call;
});

test("a call that a handler makes tells the time it had, not the time that was asked", async (t) => {
  let jobs = 0;
  const { flux } = await peerAt(t, (words) => {
    if (words[0] === "FLUX.NEXT") return jobs++ === 0 ? job("id", "outer", "null", "caller", 300, 1) : "";
    if (words[0] === "FLUX.CALL") return bulk(idOf(words));
  });
  const told = promised();
  flux.expose("outer", () => flux.send("never", null, 60_000).catch(told.resolve));
  await flux.start();
  const { code, message } = await told.promise;
  const [, ms] = /^timeout after (\d+) ms$/.exec(message);
  assert.equal(code, "TIMEOUT");
  assert.ok(Number(ms) <= 300, message);
});

test("a handler whose call is late is told so, though the server's word comes before its own clock", async (t) => {
  let jobs = 0;
  const { flux } = await peerAt(t, (words) => {
    if (words[0] === "FLUX.NEXT") return jobs++ === 0 ? job("id", "outer", "null", "caller", 60_000, 1) : "";
    if (words[0] === "FLUX.CALL") return bulk(idOf(words)) + message(`flux:cancel:${flux.id}`, "id TIMEOUT");
  });
  const [told, reason] = [promised(), promised()];
  flux.expose("outer", (payload, { signal }) => {
    signal.addEventListener("abort", () => reason.resolve(signal.reason.code));
    return flux.send("never", null, 60_000).catch(told.resolve);
  });
  await flux.start();
  assert.deepEqual([(await told.promise).code, await reason.promise], ["TIMEOUT", "TIMEOUT"]);
});

test("a handler's answer reaches the server after a cut", async (t) => {
  let replies = 0, given = false;
  let told;
  const answered = new Promise((resolve) => (told = resolve));
  const { server, flux } = await peerAt(t, (words, connection) => {
    if (words[0] === "FLUX.NEXT" && !given) return (given = true), job("call-1", "x", '"in"', "caller", 5000, 1);
    if (words[0] !== "FLUX.REPLY") return;
    if (++replies === 1) return server.connections.forEach((one) => one.cut()), "";
    return told(words), "+OK\r\n";
  });
  flux.expose("x", async (payload) => `${payload} out`);
  await flux.start();
  assert.deepEqual(await answered, ["FLUX.REPLY", "call-1", "OK", '"in out"']);
});

test("a call that still runs is named when the connection for work comes back, and is not run twice", async (t) => {
  const [begun, gate] = [promised(), promised()];
  let given = 0, worker;
  const { server, flux } = await peerAt(t, (words, connection) => {
    if (words[0] !== "FLUX.NEXT") return;
    worker = connection;
    return given++ === 0 ? job("call-1", "x", "1", "caller", 60_000, 1) : "";
  });
  let runs = 0;
  flux.expose("x", async () => (runs++, begun.resolve(), await gate.promise, "out"));
  await flux.start();
  await begun.promise;
  await until(() => given === 2);
  server.commands.length = 0;
  worker.cut();
  await until(() => server.commands.some(([name]) => name === "FLUX.NEXT"));
  const register = server.commands.find(([name]) => name === "FLUX.REGISTER");
  assert.deepEqual(register.slice(register.indexOf("RUNNING")), ["RUNNING", "1", "call-1"]);
  gate.resolve();
  await until(() => server.commands.some(([name]) => name === "FLUX.REPLY"));
  assert.equal(runs, 1);
});

test("after a cut it is the same peer, in the same workspaces, listening to the same channels", async (t) => {
  const { server, flux } = await peerAt(t, (words) => (words[0] === "FLUX.JOIN" ? "*0\r\n" : undefined));
  flux.expose("x", () => 1);
  await flux.start();
  await flux.join("w");
  const before = server.commands.find(([name]) => name === "FLUX.REGISTER");
  server.commands.length = 0;
  const up = happened(flux, "connected");
  server.connections.forEach((connection) => connection.cut());
  await up;
  const again = server.commands.find(([name]) => name === "FLUX.REGISTER");
  assert.equal(again[3], before[3]);
  assert.deepEqual(JSON.parse(again[1]), { ...JSON.parse(before[1]), workspaces: ["w"] });
  const channels = server.commands.filter(([name]) => name === "SUBSCRIBE").map(([, channel]) => channel);
  assert.deepEqual(channels, [`flux:res:${flux.id}`, `flux:cancel:${flux.id}`, "flux:ws:w:events"]);
});

test("start waits for a server that is not there yet, and says so when it may not wait longer", async (t) => {
  const probe = createServer().listen(0, "127.0.0.1");
  await once(probe, "listening");
  const { port } = probe.address();
  probe.close();
  const url = `lux://127.0.0.1:${port}`;
  await assert.rejects(new Flux({ url, connectTimeout: 1_000 }).start(), { code: "TIMEOUT", message: /no server after 1000 ms: no connection to .*REFUSED/ });

  const flux = new Flux({ url });
  const failed = happened(flux, "disconnected");
  const started = flux.start();
  await failed;
  const server = await fakeServer(() => undefined, port);
  t.after(async () => (await flux.stop(), server.close()));
  await started;
});

test("a server that refuses us ends start with its reason", async () => {
  const server = await fakeServer((words) => (words[0] === "HELLO" ? "-WRONGPASS invalid username-password pair\r\n" : "-NOAUTH Authentication required.\r\n"));
  await assert.rejects(new Flux({ url: server.url }).start(), { code: "WRONGPASS" });
  server.close();
  const plain = await fakeServer((words) => (words[0] === "FLUX.REGISTER" ? "-ERR unknown command 'FLUX.REGISTER'\r\n" : undefined));
  await assert.rejects(new Flux({ url: plain.url }).start(), { code: "INVALID", message: /not flux/ });
  plain.close();
});

test("a connection that answers no heartbeat is given up for another", async (t) => {
  let isSilent = true;
  const { flux } = await peerAt(t, (words) => (words[0] === "FLUX.HEARTBEAT" && isSilent ? "" : undefined), { ttl: 60 });
  await flux.start();
  const { error } = await happened(flux, "disconnected");
  isSilent = false;
  assert.equal(error.code, "TIMEOUT");
  await happened(flux, "connected");
});

test("a peer that was given up registers again", async (t) => {
  let registrations = 0;
  const { flux } = await peerAt(
    t,
    (words) => {
      if (words[0] === "FLUX.REGISTER") registrations++;
      if (words[0] === "FLUX.HEARTBEAT" && registrations === 1) return "-NOPEER this connection is not a registered peer: FLUX.REGISTER first\r\n";
    },
    { ttl: 60 },
  );
  await flux.start();
  await happened(flux, "connected");
  assert.ok(registrations >= 2);
});

test("a garbled answer ends the connection and nothing else", async (t) => {
  let isGarbled = true;
  const { flux } = await peerAt(t, (words) => {
    if (words[0] !== "FLUX.CTX.GET") return;
    if (isGarbled) return (isGarbled = false), "HTTP/1.1 400 Bad Request\r\n\r\n";
    return bulk('{"a":1}');
  });
  await flux.start();
  assert.deepEqual(await flux.ctx.get("w", "k"), { a: 1 });
});

test("a command whose fate is unknown is not sent twice when that could do harm", async (t) => {
  const { server, flux } = await peerAt(t, (words, connection) => (words[0] === "FLUX.CTX.SET" ? (connection.cut(), "") : undefined));
  await flux.start();
  await assert.rejects(flux.ctx.set("w", "k", 1, { ifVersion: 4 }), { code: "DISCONNECTED" });
  assert.equal(server.commands.filter(([name]) => name === "FLUX.CTX.SET").length, 1);
});

test("a cut stream goes on where it was cut", async (t) => {
  const kept = [];
  let pushes = 0;
  const { flux } = await peerAt(t, ([name, , , ...rest], connection) => {
    if (name === "FLUX.STREAM.READ") return `%4\r\n+first\r\n:1\r\n+last\r\n:${kept.length}\r\n+ended\r\n#f\r\n+chunks\r\n*0\r\n`;
    if (name !== "FLUX.STREAM.PUSH") return;
    pushes++;
    // The second batch is taken in part, and the answer to the third is lost.
    kept.push(...(pushes === 2 ? rest.slice(0, 1) : rest));
    if (pushes === 2 || pushes === 3) return connection.cut(), "";
    return `:${kept.length}\r\n`;
  });
  await flux.start();
  const chunks = Array.from({ length: 20 }, (_, n) => `chunk ${n}`);
  assert.equal(await flux.stream("w", "k", chunks), 20);
  assert.deepEqual(kept, chunks);
});

test("a reader that was ended while it asked for more hears nothing more", async (t) => {
  let asked;
  const asks = new Promise((resolve) => (asked = resolve));
  const { flux } = await peerAt(t, ([name, ...words], connection) => {
    if (name === "FLUX.JOIN") return "*0\r\n";
    if (name === "FLUX.STREAM.READ") return asked(connection), "";
  });
  const heard = [];
  await flux.start();
  await flux.join("w");
  const off = flux.onStream("writer", "k", (chunk) => heard.push(chunk), { onEnd: () => heard.push("end") });
  const connection = await asks;
  off();
  connection.write(`%4\r\n+first\r\n:1\r\n+last\r\n:1\r\n+ended\r\n#t\r\n+chunks\r\n*1\r\n*2\r\n:1\r\n${bulk("late")}`);
  // What comes after it was read after it.
  await flux.ctx.get("w", "k");
  assert.deepEqual(heard, []);
});

test("stop fails what is still open, and everything after it", async (t) => {
  const { flux } = await peerAt(t, (words) => (words[0] === "FLUX.CALL" ? bulk(idOf(words)) : undefined));
  await flux.start();
  const open = assert.rejects(flux.send("x"), { code: "STOPPED" });
  await flux.stop();
  await open;
  await assert.rejects(flux.send("x"), { code: "STOPPED" });
  await assert.rejects(flux.ctx.get("w", "k"), { code: "STOPPED" });
  assert.throws(() => flux.onStream("p", "k", () => {}), { code: "STOPPED" });
});

test("stop ends a start that still waits, and a stopped peer can start again", async (t) => {
  const { server, flux } = await peerAt(t, () => undefined);
  server.close();
  const failed = happened(flux, "disconnected");
  const starting = assert.rejects(flux.start(), { code: "STOPPED" });
  await failed;
  await flux.stop();
  await starting;
  const again = await fakeServer(() => undefined, Number(new URL(server.url).port));
  await flux.start();
  await Promise.all([flux.stop(), flux.stop()]);
  assert.equal(again.commands.filter(([name]) => name === "FLUX.LEAVE").length, 1);
  again.close();
});

test("a start that is stopped at once leaves no connection open", async (t) => {
  const { server, flux } = await peerAt(t, () => undefined);
  const starting = assert.rejects(flux.start(), { code: "STOPPED" });
  await flux.stop();
  await starting;
  // One that was left would have come before this one.
  await flux.start();
  assert.equal(server.connections.size, 1);
});

test("before start everything says what to do", async () => {
  const flux = new Flux({ url: "lux://127.0.0.1:1" });
  for (const early of [flux.join("w"), flux.send("x"), flux.peers(), flux.ctx.keys("w")]) {
    await assert.rejects(early, { code: "STATE", message: /start\(\) first/ });
  }
  for (const url of ["nonsense", "http://localhost:3000", "lux:"]) assert.throws(() => new Flux({ url }), FluxError, url);
});

test("an address that is refused is told without its password", () => {
  const urls = ["foo://:s3cret@h", "http://u:s3cret@h", "u:s3cret@h:6379", "lux:s3cret@h", "lux://:s3cret@h:port", "lux://:a/s3cret@h", "lux://u:s3@cret@h:x", "lux://:s3cret@", "lux://\n:s3cret@h:x"];
  for (const url of urls) {
    assert.throws(() => new Flux({ url }), ({ code, message }) => code === "INVALID" && message.includes("***@") && !/s3|cret|u:/.test(message), url);
  }
  assert.throws(() => new Flux({ url: "foo://:s3cret@h" }), { message: /^"foo:\/\/\*\*\*@h" is no address/ });
});
