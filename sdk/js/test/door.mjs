// A way to a server that carries each connection's bytes in order, but as late as a test wants, and can cut what is under way.

import { once } from "node:events";
import { connect, createServer } from "node:net";

/** `delay(number)` is waited for before each piece that a client sends over the connection of that number (from 1 on) goes through. */
export async function door(t, server, delay = () => {}) {
  const pairs = new Set();
  let count = 0;
  const listener = createServer((client) => {
    const number = ++count;
    const target = connect(server.port, "127.0.0.1");
    const pair = [client, target];
    const cut = () => (pairs.delete(pair), pair.forEach((socket) => socket.destroy()));
    pairs.add(pair);
    for (const socket of pair) socket.on("error", cut).on("close", cut);
    target.on("data", (bytes) => client.write(bytes));
    let carried = Promise.resolve();
    client.on("data", (bytes) => (carried = carried.then(() => delay(number)).then(() => target.destroyed || target.write(bytes))));
  }).listen(0, "127.0.0.1");
  await once(listener, "listening");
  const cut = () => pairs.forEach((pair) => pair[0].destroy());
  t.after(() => (listener.close(), cut()));
  return { url: `lux://127.0.0.1:${listener.address().port}`, cut };
}
