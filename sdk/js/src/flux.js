// A peer of flux: it offers capabilities, calls those of others, and shares workspaces, context and streams with them.
// Two connections: one for commands and messages, one on which it waits for work. Both come back by themselves.

import { Calls, randomId } from "./calls.js";
import { callable, given, invalid, json, number, options, text, timeout } from "./check.js";
import { Context } from "./context.js";
import { FluxError } from "./error.js";
import { Link, stopped } from "./link.js";
import { Streams, rethrow } from "./streams.js";
import { isBrowser, parseAddress } from "./transport.js";
import { Work, nesting } from "./work.js";

export { FluxError };

const HEARTBEAT_MS = 3_000;
/** After so many heartbeats without an answer the connection counts as dead. */
const UNANSWERED_MAX = 2;
/** How long `stop` waits for the server to say goodbye. */
const LEAVE_MS = 1_000;
/** How long the server waits for a heartbeat. Pages in the background run only once a minute. */
const TTL_MS = isBrowser ? 180_000 : 10_000;
/** After so long without a server `start` says what is wrong. */
const SILENT_MS = 2_000;
const DEFAULTS = { jobTimeout: 30_000, connectTimeout: 30_000, stopTimeout: 5_000, concurrency: 100, ttl: TTL_MS };
const EVENTS = ["peer:joined", "peer:left", "ctx:updated", "stream:data", "stream:end", "connected", "disconnected"];
const TIMER_MAX = 2 ** 31 - 1;

export class Flux {
  id;
  name;
  ctx;
  #options;
  #address;
  #secret;
  /** Counts what is told: so the server knows what comes late. */
  #teller = randomId();
  #told = 0;
  #handlers = new Map();
  /** A capability that the server is being asked to take: `[name, capability]`. */
  #proposed = null;
  /** One after the other, so that the server's no is about one. */
  #exposing = Promise.resolve();
  #listeners = new Map();
  #workspaces = new Set();
  #startedAt = 0;
  /** The server's run: another one has forgotten the calls of the last. */
  #run = null;
  #isRestarted = false;
  #state = "new";
  #stopped = null;
  #link = null;
  #workLink = null;
  #workId = null;
  #work = null;
  #calls = null;
  #streams = null;
  #heart;
  #unanswered = 0;

  constructor(asked = {}) {
    this.#options = checked(asked);
    this.#address = parseAddress(asked.url);
    this.id = asked.id ?? randomId();
    this.#secret = asked.secret ?? randomId();
    this.name = asked.name ?? this.id.slice(0, 8);
    this.ctx = new Context((args, how) => this.#call(args, how));
  }

  /** Offers a capability. Before `start`, or at any time after it: done when the server has taken it. */
  expose(name, handler) {
    const capability = offered(name, handler);
    if (this.#state !== "started") return Promise.resolve(void this.#handlers.set(name, capability));
    const exposing = this.#exposing.then(() => this.#propose(name, capability));
    // A program that does not wait must not end by a no.
    this.#exposing = exposing.catch(({ message }) => console.warn(`flux: ${JSON.stringify(name)} is not offered: ${message}`));
    return exposing;
  }

  /** Connects and registers. Waits for a server that is not there yet, for `connectTimeout` at most. */
  async start() {
    if (this.#state !== "new" && this.#state !== "stopped") throw new FluxError("STATE", `the peer is ${this.#state} already`);
    this.#state = "started";
    this.#startedAt = Date.now();
    try {
      await this.#connected();
    } catch (error) {
      this.#close(error);
      throw error;
    }
    this.#heart = setInterval(() => this.#beat(), Math.min(HEARTBEAT_MS, this.#options.ttl / 3));
    if (this.#handlers.size > 0) this.#startWork();
  }

  /** Lets running handlers finish (for `stopTimeout` at most), leaves, and closes. */
  async stop() {
    if (this.#state === "started") this.#stopped = this.#end();
    await this.#stopped;
  }

  async [Symbol.asyncDispose]() {
    await this.stop();
  }

  async join(workspace) {
    text("the workspace", workspace);
    this.#mustRun();
    const isNew = !this.#workspaces.has(workspace);
    this.#workspaces.add(workspace);
    try {
      const subscribed = this.#call(["SUBSCRIBE", eventsOf(workspace)], { again: true });
      const [, peers] = await Promise.all([subscribed, this.#call(() => this.#after("FLUX.JOIN", workspace), { again: true })]);
      this.#streams.catchUp([workspace]);
      return peers.map(peer);
    } catch (error) {
      if (isNew) this.#workspaces.delete(workspace);
      throw error;
    }
  }

  async leave(workspace) {
    text("the workspace", workspace);
    this.#mustRun();
    this.#workspaces.delete(workspace);
    await Promise.all([
      this.#call(["UNSUBSCRIBE", eventsOf(workspace)], { again: true }),
      this.#call(() => this.#after("FLUX.LEAVE", workspace), { again: true }),
    ]);
  }

  async peers(workspace) {
    const which = workspace === undefined ? [] : ["WORKSPACE", text("the workspace", workspace)];
    return (await this.#call(["FLUX.PEERS", ...which], { again: true })).map(peer);
  }

  async discover(capability) {
    return (await this.#call(["FLUX.PEERS", "CAPABILITY", text("the capability", capability)], { again: true })).map(peer);
  }

  async describe(capability) {
    return JSON.parse(await this.#call(["FLUX.DESCRIBE", text("the capability", capability)], { again: true }));
  }

  async send(fn, payload, options) {
    this.#mustRun();
    return this.#calls.send(fn, payload, options);
  }

  chunks(fn, payload, options) {
    this.#mustRun();
    return this.#calls.chunks(fn, payload, options);
  }

  async stream(workspace, key, iterable) {
    text("the workspace", workspace), text("the key", key);
    const iterator = iterable?.[Symbol.asyncIterator] ?? iterable?.[Symbol.iterator];
    callable("the iterator of what is streamed", iterator);
    this.#mustRun();
    return this.#streams.write(workspace, key, iterable);
  }

  onStream(peerId, key, handler, how = {}) {
    text("the peer's id", peerId), text("the key", key), callable("the handler", handler);
    given(options("the options", how).onEnd, (onEnd) => callable("onEnd", onEnd));
    this.#mustRun();
    return this.#streams.follow(peerId, key, handler, how);
  }

  on(type, listener) {
    event(type), callable("the listener", listener);
    if (!this.#listeners.has(type)) this.#listeners.set(type, new Set());
    this.#listeners.get(type).add(listener);
    return () => this.off(type, listener);
  }

  off(type, listener) {
    event(type);
    this.#listeners.get(type)?.delete(listener);
  }

  #emit(type, event) {
    for (const listener of this.#listeners.get(type) ?? []) {
      try {
        listener(event);
      } catch (error) {
        rethrow(error);
      }
    }
  }

  async #call(args, how) {
    this.#mustRun();
    return this.#link.call(args, how);
  }

  #mustRun() {
    if (this.#state === "new") throw new FluxError("STATE", "the peer is not started: await start() first");
    if (this.#state === "stopped") throw stopped();
  }

  /** Makes the connection for commands; done when it is up for the first time. */
  async #connected() {
    const { connectTimeout, jobTimeout, tls } = this.#options;
    let last, timer;
    const why = () => last?.message ?? `no answer from ${this.#address.host}:${this.#address.port}`;
    const silent = setTimeout(() => console.warn(`flux: ${why()}; still trying`), SILENT_MS);
    try {
      await new Promise((resolve, reject) => {
        if (connectTimeout < TIMER_MAX) {
          timer = setTimeout(() => reject(new FluxError("TIMEOUT", `no server after ${connectTimeout} ms: ${why()}`)), connectTimeout);
        }
        const common = { address: this.#address, tls, patience: jobTimeout, onPush: (items) => this.#message(items) };
        this.#link = new Link({
          ...common,
          greet: (call) => this.#greet(call),
          onUp: () => (this.#up(), resolve()),
          onDown: (error) => ((last = error), this.#emit("disconnected", { error })),
          onRefused: reject,
        });
        this.#calls = new Calls(this.#link, jobTimeout);
        this.#streams = new Streams({ self: this.id, call: (args, how) => this.#call(args, how), workspaces: this.#workspaces });
      });
    } finally {
      clearTimeout(timer);
      clearTimeout(silent);
    }
  }

  async #propose(name, capability) {
    this.#mustRun();
    this.#proposed = [name, capability];
    try {
      await this.#register((args) => this.#call(args, { again: true }), { proposed: this.#proposed });
      this.#handlers.set(name, capability);
    } finally {
      this.#proposed = null;
    }
    if (this.#state === "started") this.#startWork();
  }

  #handler(name) {
    const [proposed, capability] = this.#proposed ?? [];
    return (proposed === name ? capability : this.#handlers.get(name))?.handler;
  }

  async #greet(call) {
    const channels = [`flux:res:${this.id}`, `flux:cancel:${this.id}`, ...[...this.#workspaces].map(eventsOf)];
    const hello = this.#hello(call);
    const rest = [this.#register(call), ...channels.map((channel) => call(["SUBSCRIBE", channel]))];
    // When all are refused, the first says why.
    await Promise.all([hello, ...rest]);
    const { server } = await rest[0];
    this.#isRestarted = this.#run !== null && this.#run !== server;
    this.#run = server;
  }

  #hello(call) {
    const { username = this.#address.username, password = this.#address.password } = this.#options;
    return call(["HELLO", 3, ...(password ? ["AUTH", username || "default", password] : [])]);
  }

  /** For work it tells the calls `running`, and what we are as the oldest news. */
  #register(call, { running, proposed } = {}) {
    const words = () => {
      const offers = this.#state === "stopping" ? [] : new Map([...this.#handlers, ...(proposed ? [proposed] : [])]);
      const capabilities = [...offers].map(([name, { handler, ...rest }]) => ({ name, ...rest }));
      const { id, name } = this;
      const self = { id, name, capabilities, workspaces: [...this.#workspaces], startedAt: this.#startedAt };
      const words = ["FLUX.REGISTER", JSON.stringify(self), "SECRET", this.#secret, "TTL", this.#options.ttl, "GENERATION", this.#teller];
      return running ? [...words, 0, "RUNNING", running.length, ...running] : [...words, ++this.#told];
    };
    return call(words).catch((error) => {
      if (error.code === "ERR" && /unknown command/i.test(error.message)) throw new FluxError("INVALID", "the server is not flux: it has no FLUX.REGISTER");
      throw error;
    });
  }

  /** What is told late, by a connection that was given up, counts no more. */
  #after(...words) {
    return [...words, "GENERATION", this.#teller, this.#told];
  }

  #up() {
    this.#unanswered = 0;
    this.#calls.resume(this.#isRestarted);
    this.#streams.catchUp(this.#workspaces, this.#isRestarted);
    this.#emit("connected", { isRestarted: this.#isRestarted });
  }

  #message([kind, channel, text]) {
    if (kind !== "message") return;
    if (channel === `flux:cancel:${this.id}`) return this.#work?.cancel(...text.split(" "));
    const message = parsed(text);
    if (!message) return;
    if (channel === `flux:res:${this.id}`) return this.#calls.outcome(message);
    if (message.peerId === this.id || !this.#workspaces.has(message.workspace)) return;
    if (message.type?.startsWith("stream:")) this.#streams.event(message);
    this.#emit(message.type, message);
  }

  #startWork() {
    if (this.#workLink) return;
    this.#workLink = new Link({
      address: this.#address,
      tls: this.#options.tls,
      patience: this.#options.jobTimeout,
      greet: async (call) => {
        const [hello] = await Promise.all([this.#hello(call), this.#register(call, { running: this.#work.held }), nesting.load()]);
        this.#workId = hello.id;
      },
      onUp: () => this.#work.resume(),
    });
    this.#work = new Work({ find: (name) => this.#handler(name), places: this.#options.concurrency, commands: this.#link, link: this.#workLink });
  }

  async #end() {
    this.#state = "stopping";
    if (this.#work) await this.#stopWork();
    if (this.#link.isUp) await within(LEAVE_MS, this.#link.call(() => this.#after("FLUX.LEAVE"), { now: true }));
    this.#close(stopped());
  }

  async #stopWork() {
    const idle = this.#work.stop(() => this.#link.call(["CLIENT", "UNBLOCK", this.#workId], { now: true }).catch(() => {}));
    // Calls that come from here on go to others.
    if (this.#work.running > 0) this.#register((args) => this.#link.call(args, { now: true })).catch(() => {});
    await within(this.#options.stopTimeout, idle);
    this.#work.abort(stopped());
  }

  #beat() {
    if (!this.#link.isUp) return;
    if (this.#unanswered++ >= UNANSWERED_MAX) return this.#resetAll(new FluxError("TIMEOUT", "the server does not answer"));
    this.#link.call(["FLUX.HEARTBEAT"], { now: true }).then(
      () => (this.#unanswered = 0),
      // We were away for so long that the server gave us up.
      (error) => error.code === "NOPEER" && this.#resetAll(error),
    );
  }

  #resetAll(error) {
    this.#link.reset(error);
    this.#workLink?.reset(error);
  }

  #close(error) {
    this.#state = "stopped";
    clearInterval(this.#heart);
    this.#calls.stop(error);
    this.#workLink?.close();
    this.#link.close();
    this.#work = this.#workLink = null;
    this.#workspaces.clear();
  }
}

function checked(asked) {
  options("the options", asked);
  for (const name of ["url", "id", "name", "secret", "username", "password"]) given(asked[name], (value) => text(name, value));
  given(asked.tls, (value) => options("tls", value));
  const all = { ...DEFAULTS, ...Object.fromEntries(Object.entries(asked).filter(([, value]) => value !== undefined)) };
  timeout("jobTimeout", all.jobTimeout);
  number("connectTimeout", all.connectTimeout, 0, Infinity, false);
  number("stopTimeout", all.stopTimeout, 0, TIMER_MAX, false);
  number("concurrency", all.concurrency, 1, 1_000_000);
  number("ttl", all.ttl, 1, 3_600_000);
  return all;
}

function offered(name, handler) {
  text("the name of a capability", name);
  const capability = typeof handler === "function" ? { handler } : { ...handler };
  callable(`the handler of ${JSON.stringify(name)}`, capability.handler);
  const { description, schema, retry, concurrency } = capability;
  given(description, (value) => text("description", value));
  given(schema, (value) => typeof value === "boolean" || options("schema", value));
  given(schema, (value) => json("schema", value));
  given(retry, (value) => number("retry", value, 0, 2 ** 32 - 1));
  given(concurrency, (value) => number("concurrency", value, 0, 2 ** 32 - 1));
  return { handler: capability.handler, description, schema, retry, concurrency };
}

function event(type) {
  if (!EVENTS.includes(text("the event", type))) throw invalid(`there is no event ${JSON.stringify(type)}, only ${EVENTS.join(", ")}`);
}

function eventsOf(workspace) {
  return `flux:ws:${workspace}:events`;
}

/** A peer as the server tells it, called by the names events use as well. */
function peer(text) {
  const peer = JSON.parse(text);
  return { ...peer, peerId: peer.id, peerName: peer.name };
}

/** Anyone may have published it: only an object is one. */
function parsed(text) {
  try {
    const value = JSON.parse(text);
    return value !== null && typeof value === "object" ? value : null;
  } catch {
    return null;
  }
}

/** Waits for a promise to end, for so long at most. */
function within(ms, promise) {
  let timer;
  const late = new Promise((resolve) => (timer = setTimeout(resolve, ms)));
  return Promise.race([promise.catch(() => {}), late]).finally(() => clearTimeout(timer));
}
