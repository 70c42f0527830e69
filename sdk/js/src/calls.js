// Calls to other peers. The caller chooses a call's id, so that after a cut it can ask what became of it:
//
//   sent --reply--> known --result--> ended
//     connection back: FLUX.RESULT tells the result, that it still runs, or that the server has never heard of it
//
// Whatever happens, a call ends once, by its deadline; a gathering a moment later.

import { callable, given, json, number, options as checkedOptions, text, timeout as checkedTimeout, wrongType } from "./check.js";
import { FluxError } from "./error.js";
import { nesting } from "./work.js";

/** Chunks that wait for a slow reader of `chunks`; past it the call is given up. */
const CHUNKS_MAX = 10_000;
/** Peers come back to a restarted server one by one: for so long a call waits for one. */
const GATHERING_MS = 10_000;
/** At its deadline the server answers a gathering with what there is: for so long that answer may be under way. */
const GATHER_SLACK_MS = 1_000;
const AGAIN_MS = 100;

export class Calls {
  #link;
  #timeout;
  #open = new Map();
  #gatheringUntil = 0;

  constructor(link, timeout) {
    this.#link = link;
    this.#timeout = timeout;
  }

  send(fn, payload, options) {
    const { timeout = this.#timeout, retries = 1, signal, onChunk, ...rest } = checked(options);
    const nest = nesting.current;
    // A handler's own calls end when nobody waits for it any more.
    const signals = [signal, nest?.signal].filter(Boolean);
    const left = Math.max(0, Math.min(timeout, nest ? Math.ceil(nest.until - performance.now()) : Infinity));
    return new Promise((resolve, reject) => {
      const call = { id: randomId(), words: words(fn, payload, rest), timeout: left, retries, onChunk, resolve, reject, signals };
      Object.assign(call, { seq: 0, attempt: 1, isKnown: false, isAgain: false, until: performance.now() + left });
      call.timer = setTimeout(() => this.#fail(call, late(call)), rest.gather ? left + GATHER_SLACK_MS : left);
      call.cancel = () => {
        const { reason } = signals.find(({ aborted }) => aborted);
        // Its time is over as well, and that comes first.
        const why = signal?.aborted ? "the caller cancelled the call" : "the call whose handler made it is over";
        const error = nest && reason?.code === "TIMEOUT" ? late(call) : new FluxError("CANCELLED", why, { cause: reason });
        this.#fail(call, error);
        this.#link.call(["FLUX.CANCEL", call.id], { now: true }).catch(() => {});
      };
      this.#open.set(call.id, call);
      if (left === 0) return this.#fail(call, late(call));
      if (signals.some(({ aborted }) => aborted)) return call.cancel();
      for (const each of signals) each.addEventListener("abort", call.cancel);
      if (this.#link.isUp) this.#give(call);
    });
  }

  /** The chunks of a call as they come; its result is what the generator returns. Leaving the loop cancels the call. */
  chunks(fn, payload, options) {
    // What is wrong is said at once.
    const how = checked(options);
    words(fn, payload, how);
    return this.#chunks(fn, payload, how);
  }

  async *#chunks(fn, payload, options) {
    const aborter = new AbortController();
    const signal = options.signal ? AbortSignal.any([options.signal, aborter.signal]) : aborter.signal;
    const chunks = [];
    let wake, end;
    const onChunk = (chunk) => {
      if (chunks.push(chunk) > CHUNKS_MAX) aborter.abort(new FluxError("BUSY", `more than ${CHUNKS_MAX} chunks were not read`));
      wake?.();
    };
    const result = this.send(fn, payload, { ...options, signal, onChunk });
    result.catch(() => {}).then(() => ((end = true), wake?.()));
    try {
      for (;;) {
        while (chunks.length > 0) yield chunks.shift();
        if (end) return await result;
        await new Promise((resolve) => (wake = resolve));
      }
    } finally {
      if (!end) aborter.abort();
    }
  }

  /** A message on our channel of results: an outcome, or a chunk. */
  outcome(message) {
    const call = this.#open.get(message.jobId);
    if (!call) return;
    // It is tried once more; a server that is restarted would not know.
    if (message.attempt !== undefined) return void ([call.attempt, call.retries] = [message.attempt, message.retries]);
    if ("chunk" in message) {
      const missed = Math.max(0, message.seq - call.seq - 1);
      call.seq = message.seq;
      call.onChunk?.(message.chunk, { seq: message.seq, missed });
    } else if (message.ok) {
      this.#close(call).resolve(message.data);
    } else if (!message.error?.startsWith("retry ") || message.code) {
      // A peer of the old protocol tells of its retries this way, without a code.
      this.#refused(call, new FluxError(message.code ?? "FAILED", message.error));
    }
  }

  /** There is a connection again: asks after each call that was given to the last. */
  resume(isRestarted) {
    if (isRestarted) this.#gatheringUntil = performance.now() + GATHERING_MS;
    for (const call of this.#open.values()) {
      if (call.isGiven) this.#ask(call, isRestarted);
      else this.#give(call);
    }
  }

  /** Ends all calls. */
  stop(error) {
    for (const call of this.#open.values()) this.#fail(call, error);
  }

  #give(call) {
    call.isGiven = true;
    const left = Math.max(1, Math.ceil(call.until - performance.now()));
    const again = call.isAgain ? ["ATTEMPT", call.attempt, "SEEN", call.seq] : [];
    this.#link.call([...call.words, "TIMEOUT", left, "RETRIES", call.retries, "ID", call.id, ...again, "ASYNC"], { now: true }).then(
      () => (call.isKnown = true),
      (error) => this.#refused(call, error),
    );
  }

  async #ask(call, isRestarted) {
    try {
      const text = await this.#link.call(["FLUX.RESULT", call.id], { now: true });
      call.isKnown = true;
      if (text !== null) this.outcome(JSON.parse(text));
    } catch (error) {
      if (error.code !== "NOCALL") return this.#refused(call, error);
      // Unless the same server never saw it, it may have run, or run still: giving it to a peer once more is a retry.
      call.isAgain ||= call.isKnown || isRestarted;
      if (this.#open.has(call.id)) this.#give(call);
    }
  }

  #refused(call, error) {
    // The next connection asks what became of it.
    if (error.code === "DISCONNECTED") return;
    if (error.code === "NOPEER" && performance.now() < this.#gatheringUntil) {
      call.isGiven = false;
      setTimeout(() => this.#open.has(call.id) && this.#link.isUp && !call.isGiven && this.#give(call), AGAIN_MS);
      return;
    }
    this.#fail(call, error.code === "TIMEOUT" ? late(call) : error);
  }

  #fail(call, error) {
    if (this.#open.has(call.id)) this.#close(call).reject(error);
  }

  #close(call) {
    clearTimeout(call.timer);
    for (const signal of call.signals) signal.removeEventListener("abort", call.cancel);
    this.#open.delete(call.id);
    return call;
  }
}

/** Options of a call; a number is its timeout. */
function checked(options = {}) {
  const all = typeof options === "number" ? { timeout: options } : checkedOptions("the options", options);
  given(all.timeout, (value) => checkedTimeout("timeout", value));
  given(all.retries, (value) => number("retries", value, 0, 1_000));
  given(all.priority, (value) => number("priority", value, -100, 100));
  for (const name of ["to", "sticky", "route"]) given(all[name], (value) => text(name, value));
  if (typeof all.gather !== "boolean") given(all.gather, (value) => number("gather", value, 0, 2 ** 32 - 1));
  given(all.onChunk, (value) => callable("onChunk", value));
  if (all.signal !== undefined && !(all.signal instanceof AbortSignal)) throw wrongType("signal", "an AbortSignal", all.signal);
  return all;
}

/** A call's command, but for what may differ when it is given once more. */
function words(fn, payload, { to, priority, route, sticky, gather }) {
  const words = ["FLUX.CALL", text("the capability", fn), json("the payload", payload)];
  if (to !== undefined) words.push("TO", to);
  if (priority !== undefined) words.push("PRIORITY", priority);
  if (sticky !== undefined) words.push("ROUTE", "STICKY", sticky);
  else if (route !== undefined) words.push("ROUTE", route.toUpperCase());
  if (gather) words.push("GATHER", gather === true ? 0 : gather);
  return words;
}

function late({ timeout }) {
  return new FluxError("TIMEOUT", `timeout after ${timeout} ms`);
}

/** A random UUID, version 4. `crypto.randomUUID` is missing without TLS. */
export function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}
