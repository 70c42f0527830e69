// Taking work: asks for as many calls as there are free places, runs their handlers, sends what they give.
//
//   asked --jobs--> running --handler ends--> replied, and asked for more

import { FluxError } from "./error.js";
import { soon } from "./link.js";

/** How long the server lets us wait for work before it says that there is none. */
const WAIT_MS = 30_000;
/** How much longer than that it may take before the connection counts as dead. */
const SLACK_MS = 10_000;
const UNBLOCK_MS = 50;
/** Calls asked for at once: the server gives no more. */
const COUNT_MAX = 1_000;
/** Chunks of a generator that may be under way before it has to wait. */
const CHUNKS_UNDER_WAY = 32;

export class Work {
  #handlers;
  #places;
  #commands;
  #link;
  #running = new Map();
  /** Calls whose outcomes the server has not confirmed. */
  #replying = new Set();
  #isAsking = false;
  #isStopping = false;
  #whenIdle = () => {};

  /** `commands` is the link for everything, `link` the one on which we wait for work. */
  constructor({ handlers, places, commands, link }) {
    this.#handlers = handlers;
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

  /** Asks for work unless it is asked already, or no place is free. */
  async ask() {
    const free = Math.min(this.#places - this.#running.size, COUNT_MAX);
    if (this.#isAsking || this.#isStopping || free <= 0 || !this.#link.isUp) return;
    this.#isAsking = true;
    const dead = new FluxError("TIMEOUT", "the server does not answer");
    const timer = setTimeout(() => this.#link.reset(dead), WAIT_MS + SLACK_MS);
    const jobs = await this.#link.call(["FLUX.NEXT", "COUNT", free, "TIMEOUT", WAIT_MS], { now: true }).catch((error) => {
      // A cut comes back by itself; another refusal (we are not registered any more) needs a new beginning.
      if (error.code !== "DISCONNECTED") this.#link.reset(error);
      return null;
    });
    clearTimeout(timer);
    this.#isAsking = false;
    for (const job of jobs ?? []) this.#run(...job);
    this.#askSoon();
    this.#tellIdle();
  }

  /** The caller gave up, or the call was given to someone else. */
  cancel(id) {
    this.#running.get(id)?.abort(new FluxError("CANCELLED", "the call was cancelled"));
  }

  /** Takes no more work; gives the promise that nobody waits for us any more. `unblock` ends our waiting at the server. */
  stop(unblock) {
    this.#isStopping = true;
    this.#unblock(unblock);
    const idle = new Promise((resolve) => (this.#whenIdle = resolve));
    this.#tellIdle();
    return idle;
  }

  // Again and again, since the server may not have begun to wait when it is told to end it.
  #unblock(unblock) {
    if (!this.#isAsking) return;
    unblock();
    setTimeout(() => this.#unblock(unblock), UNBLOCK_MS);
  }

  /** Tells what still runs that nobody waits for it. */
  abort(error) {
    for (const aborter of this.#running.values()) aborter.abort(error);
  }

  // Handlers that end at once have then replied, and the replies leave together with the question for more.
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
    // Given once more after all: what the first try gives is not taken any more.
    this.cancel(id);
    this.#running.set(id, aborter);
    const timer = setTimeout(() => aborter.abort(new FluxError("TIMEOUT", "the call's time is over")), left);
    aborter.signal.addEventListener("abort", () => {
      // A handler that never ends must not keep the program alive by it.
      clearTimeout(timer);
      this.#tellIdle();
    });
    let hasChunks = false;
    const chunk = (data) => {
      hasChunks = true;
      return this.#reply(this.#commands, aborter, id, "CHUNK", json(data));
    };
    const context = { id, fn, from, attempt, deadline: Date.now() + left, signal: aborter.signal, chunk };
    let outcome;
    try {
      const handler = this.#handlers.get(fn)?.handler;
      if (!handler) throw new Error(`no handler for ${JSON.stringify(fn)}`);
      const result = await handler(JSON.parse(payload), context);
      outcome = ["OK", json(await drained(result, context))];
    } catch (error) {
      outcome = ["ERROR", String(error?.message || error)];
    }
    clearTimeout(timer);
    // While we wait for work, the server reads nothing else there. Chunks must not be overtaken by the end.
    const link = hasChunks || this.#isAsking || !this.#link.isUp ? this.#commands : this.#link;
    const isLatest = this.#running.get(id) === aborter;
    if (isLatest) this.#running.delete(id);
    this.#askSoon();
    if (isLatest) await this.#answer(link, aborter, id, outcome);
    this.#tellIdle();
  }

  async #answer(link, aborter, id, outcome) {
    this.#replying.add(id);
    await this.#reply(link, aborter, id, ...outcome);
    this.#replying.delete(id);
  }

  /** An outcome may be told twice, a chunk must not. When nobody waits for it any more, or it was lost, the handler is told. */
  #reply(link, aborter, id, kind, text) {
    return link.call(["FLUX.REPLY", id, kind, text], { again: kind !== "CHUNK" }).catch((error) => aborter.abort(error));
  }
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

function json(value) {
  return JSON.stringify(value) ?? "null";
}
