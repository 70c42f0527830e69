// A server that answers as a test tells it, for what a real one does not do on purpose: cut, split, stay silent.

import { once } from "node:events";
import { createServer } from "node:net";

import { Parser } from "../src/resp.js";

/** `answer(words, connection)` gives the reply's bytes as text, "" for none, or nothing to have it answered as usual. */
export async function fakeServer(answer, port = 0) {
  const commands = [];
  const connections = new Set();
  const server = createServer((socket) => {
    const parser = new Parser();
    const connection = { socket, write: (text) => socket.write(text), cut: () => socket.destroy() };
    connections.add(connection);
    socket.on("close", () => connections.delete(connection));
    socket.on("error", () => {});
    socket.on("data", (bytes) =>
      parser.push(bytes, (words) => {
        commands.push(words);
        const reply = answer(words, connection) ?? standard(words);
        if (reply) socket.write(reply);
      }),
    );
  }).listen(port, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `lux://127.0.0.1:${server.address().port}`,
    commands,
    connections,
    close: () => (connections.forEach((connection) => connection.cut()), server.close()),
  };
}

/** Register, subscribe, heartbeat and leave, as a server does. */
function standard([name, ...args]) {
  switch (name) {
    case "HELLO": return map({ server: "flux", proto: 3, id: 1 });
    case "FLUX.REGISTER": return map({ id: JSON.parse(args[0]).id, secret: args[2], ttl: 10_000, server: "run-1" });
    case "SUBSCRIBE": case "UNSUBSCRIBE": return `>3\r\n${bulk(name.toLowerCase())}${bulk(args[0])}:1\r\n`;
    case "FLUX.NEXT": return null;
    default: return "+OK\r\n";
  }
}

export const bulk = (text) => `$${Buffer.byteLength(text)}\r\n${text}\r\n`;
export const message = (channel, value) => `>3\r\n${bulk("message")}${bulk(channel)}${bulk(typeof value === "string" ? value : JSON.stringify(value))}`;
export const job = (...items) => `*1\r\n*6\r\n${items.map((item) => (typeof item === "number" ? `:${item}\r\n` : bulk(item))).join("")}`;

function map(object) {
  const entries = Object.entries(object);
  return `%${entries.length}\r\n${entries.map(([key, value]) => bulk(key) + (typeof value === "number" ? `:${value}\r\n` : bulk(value))).join("")}`;
}
