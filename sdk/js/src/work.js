// Taking work: asks for as many calls as there are free places, runs their handlers, sends what they give.
//
//   asked --jobs--> running --handler ends--> replied, and asked for more

import { json } from "./check.js";
import { FluxError } from "./error.js";
import { soon } from "./link.js";
import { isBrowser } from "./transport.js";

/** How long the server lets us wait for work before it says that there is none. */
const WAIT_MS = 30_000;
/** How much longer than that it may take before the connection counts as dead. */
const SLACK_MS = 10_000;
const UNBLOCK_MS = 50;
/** Calls asked for at once: the server gives no more. */
const COUNT_MAX = 1_000;
/** Chunks of a generator that may be under way before it has to wait. */
const CHUNKS_UNDER_WAY = 32;
/** Refusals of an outcome that leave nothing to say: the call has ended, or we have. */
const SETTLED = ["NOCALL", "STOPPED", "TIMEOUT", "DISCONNECTED"];

export class Work {
  #find;
  #places;
  #commands;
  #link;
  #running = new Map();
  /** Calls whose outcomes the server has not confirmed. */
  #replying = new Set();
  /** Connections for work so far. */
  #turn = 0;
  #isAsking = false;
  #isStopping = false;
  #whenIdle = () => {};

  /** `find(name)` gives a handler; `commands` is the link for everything, `link` the one on which we wait for work. */
  constructor({ find, places, commands, link }) {
    this.#find = find;
    this.#places = places;
    this.#commands = commands;
    this.#link = link;
  }

  get running() {
    return this.#running.size;
  }

  /** The calls that the server need not give again, since we have them. */
  get held() {
    return [...new Set([...this.#running.keys(), ...this.#replying])];
  }

  resume() {
    this.#turn++;
    this.ask();
  }

  /** Asks for work unless it is asked already, or no place is free. */
  async ask() {
    const free = Math.min(this.#places - this.#running.size, COUNT_MAX);
    if (this.#isAsking || this.#isStopping || free <= 0 || !this.#link.isUp) return;
    this.#isAsking = true;
    const dead = new FluxError("TIMEOUT", "the server does not answer");
    const timer = setTimeout(() => this.#link.reset(dead), WAIT_MS + SLACK_MS);
    const jobs = await this.#link.call(["FLUX.NEXT", "COUNT", free, "TIMEOUT", WAIT_MS], { now: true }).catch((error) => {
      // A cut comes back by itself; another refusal needs a new beginning.
      if (error.code !== "DISCONNECTED") this.#link.reset(error);
      return null;
    });
    clearTimeout(timer);
    this.#isAsking = false;
    for (const job of jobs ?? []) this.#run(...job);
    this.#askSoon();
    this.#tellIdle();
  }

  /** The caller gave up, the call was given to someone else, or (`TIMEOUT`) its time is over. */
  cancel(id, why) {
    this.#forsake(id, this.#running.get(id), why === "TIMEOUT" ? late() : new FluxError("CANCELLED", "the call was cancelled"));
  }

  /** Nobody waits for what a handler gives: its place is free, however long it goes on. */
  #forsake(id, aborter, error) {
    if (aborter && this.#running.get(id) === aborter) this.#running.delete(id);
    aborter?.abort(error);
    this.#askSoon();
    this.#tellIdle();
  }

  /** Takes no more work; gives the promise that nobody waits for us any more. `unblock` ends our waiting at the server. */
  stop(unblock) {
    this.#isStopping = true;
    this.#unblock(unblock);
    const idle = new Promise((resolve) => (this.#whenIdle = resolve));
    this.#tellIdle();
    return idle;
  }

  // Again and again: the server may not have begun to wait.
  #unblock(unblock) {
    if (!this.#isAsking) return;
    unblock();
    setTimeout(() => this.#unblock(unblock), UNBLOCK_MS);
  }

  /** Tells what still runs that nobody waits for it. */
  abort(error) {
    for (const aborter of this.#running.values()) aborter.abort(error);
  }

  // So replies leave together with the question for more.
  #askSoon() {
    soon(() => this.ask());
  }

  #tellIdle() {
    if (!this.#isStopping || this.#isAsking || this.#replying.size > 0) return;
    const isAwaited = [...this.#running.values()].some(({ signal }) => !signal.aborted);
    if (!isAwaited) this.#whenIdle();
  }

  async #run(id, fn, payload, from, left, attempt) {
    const aborter = new AbortController();
    const turn = this.#turn;
    // Given once more: what the first try gives is not taken.
    this.cancel(id);
    this.#running.set(id, aborter);
    const timer = setTimeout(() => this.#forsake(id, aborter, late()), left);
    aborter.signal.addEventListener("abort", () => {
      // A handler that never ends must not keep the program alive by it.
      clearTimeout(timer);
      this.#tellIdle();
    });
    // The last chunk, until the server has it.
    let last = null, lost = null;
    // When a chunk was lost, or is not wanted any more, the handler is told.
    const chunk = (data) => {
      const text = json("a chunk", data);
      last = this.#reply(this.#commands, id, "CHUNK", text).catch((error) => {
        if (error.code === "NOCALL") return this.#forsake(id, aborter, error);
        lost ??= error;
        aborter.abort(error);
      });
      return last;
    };
    const context = { id, fn, from, attempt, deadline: Date.now() + left, signal: aborter.signal, chunk };
    // The other clock may be set.
    const nest = { until: performance.now() + left, signal: aborter.signal, isOver: false };
    let outcome;
    try {
      const handler = this.#find(fn);
      if (!handler) throw new Error(`no handler for ${JSON.stringify(fn)}`);
      const result = await nesting.run(nest, async () => drained(await handler(JSON.parse(payload), context), context));
      outcome = ["OK", json("the result", result)];
      // With a part missing it is no result.
      await last;
      if (lost) throw new Error(`a chunk was not taken: ${lost.message}`);
    } catch (error) {
      outcome = ["ERROR", String(error?.message || error)];
    }
    clearTimeout(timer);
    nest.isOver = true;
    // While we wait for work, the server reads nothing else there. Chunks must not be overtaken by the end.
    const link = last || this.#isAsking || !this.#link.isUp ? this.#commands : this.#link;
    const isLatest = this.#running.get(id) === aborter;
    if (isLatest) this.#running.delete(id);
    this.#askSoon();
    if (isLatest) await this.#answer(link, id, outcome, turn);
    this.#tellIdle();
  }

  async #answer(link, id, outcome, turn) {
    this.#replying.add(id);
    const told = (by) => this.#reply(by, id, ...outcome).then(() => null, (error) => error);
    let refused = await told(link);
    // A server that was restarted knows of the call once we have named it, over a new connection for work.
    if (refused?.code === "NOCALL" && (turn !== this.#turn || !this.#link.isUp)) {
      if (!this.#link.isUp) await this.#link.call(["PING"], { again: true }).catch(() => {});
      refused = await told(this.#commands);
    }
    // Too large, perhaps: the caller would wait for it.
    if (refused && !SETTLED.includes(refused.code)) {
      await this.#reply(this.#commands, id, "ERROR", `the result was not taken: ${refused.message}`).catch(() => {});
    }
    this.#replying.delete(id);
  }

  /** An outcome may be told twice, a chunk must not. */
  #reply(link, id, kind, text) {
    return link.call(["FLUX.REPLY", id, kind, text], { again: kind !== "CHUNK" });
  }
}

function late() {
  return new FluxError("TIMEOUT", "the call's time is over");
}

/** Sends what a generator yields as chunks; its result is what it returns. Anything else is its own result. */
async function drained(result, { signal, chunk }) {
  const iterator = result?.[Symbol.asyncIterator]?.() ?? (typeof result?.next === "function" ? result : null);
  if (!iterator) return result;
  for (let sent = 1; ; sent++) {
    const { done, value } = await iterator.next();
    if (done) return value;
    const taken = chunk(value);
    if (sent % CHUNKS_UNDER_WAY === 0) await taken;
    if (!signal.aborted) continue;
    await iterator.return?.();
    throw signal.reason;
  }
}

/** The call whose handler runs: calls that it makes end with it. Where there is no AsyncLocalStorage (in browsers), they do not. */
export const nesting = {
  storage: null,
  async load() {
    if (isBrowser) return;
    // Named in pieces, so that bundlers for browsers do not look for it.
    const name = ["node", "async_hooks"].join(":");
    const { AsyncLocalStorage } = await import(name).catch(() => ({}));
    if (AsyncLocalStorage) this.storage ??= new AsyncLocalStorage();
  },
  run(nest, work) {
    return this.storage ? this.storage.run(nest, work) : work();
  },
  /** The call within which we are, unless it has ended. */
  get current() {
    const nest = this.storage?.getStore();
    return nest && !nest.isOver ? nest : null;
  },
};
