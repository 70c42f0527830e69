// Calls to other peers. The caller chooses a call's id, so that after a cut it can ask what became of it:
//
//   sent --reply--> known --result--> ended
//     connection back: FLUX.RESULT tells the result, that it still runs, or that the server has never heard of it
//
// Whatever happens, a call ends once, by its deadline; a gathering a moment later.

import { FluxError } from "./error.js";
import { randomId } from "./id.js";

/** Chunks that wait for a slow reader of `chunks`; past it the call is given up. */
const CHUNKS_MAX = 10_000;
/** Peers come back to a restarted server one by one, each after a pause of its link and its dialling: for so long a call waits for one. */
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

  send(fn, payload, options = {}) {
    if (typeof options === "number") options = { timeout: options };
    const { timeout = this.#timeout, retries = 1, signal, onChunk } = options;
    return new Promise((resolve, reject) => {
      const call = { id: randomId(), words: words(fn, payload, options), timeout, retries, onChunk, seq: 0, isKnown: false, resolve, reject };
      call.deadline = Date.now() + timeout;
      call.timer = setTimeout(() => this.#fail(call, late(call)), options.gather ? timeout + GATHER_SLACK_MS : timeout);
      call.cancel = () => {
        this.#fail(call, new FluxError("CANCELLED", "the caller cancelled the call", { cause: signal.reason }));
        this.#link.call(["FLUX.CANCEL", call.id], { now: true }).catch(() => {});
      };
      call.signal = signal;
      this.#open.set(call.id, call);
      if (signal?.aborted) return call.cancel();
      signal?.addEventListener("abort", call.cancel);
      if (this.#link.isUp) this.#give(call);
    });
  }

  /** The chunks of a call as they come; its result is what the generator returns. Leaving the loop cancels the call. */
  async *chunks(fn, payload, options = {}) {
    if (typeof options === "number") options = { timeout: options };
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
    if (isRestarted) this.#gatheringUntil = Date.now() + GATHERING_MS;
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
    const left = Math.max(1, Math.ceil(call.deadline - Date.now()));
    this.#link.call([...call.words, "TIMEOUT", left, "RETRIES", call.retries, "ID", call.id, "ASYNC"], { now: true }).then(
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
      // Unless the same server never saw it, it may have run: giving it to a peer once more is a retry.
      const mayHaveRun = call.isKnown || isRestarted;
      // Whoever has seen chunks must not get them twice.
      if (mayHaveRun && (call.seq > 0 || call.retries-- <= 0)) this.#fail(call, new FluxError("GONE", "the server was restarted while it had the call"));
      else if (this.#open.has(call.id)) this.#give(call);
    }
  }

  #refused(call, error) {
    // The next connection asks what became of it.
    if (error.code === "DISCONNECTED") return;
    if (error.code === "NOPEER" && Date.now() < this.#gatheringUntil) {
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
    call.signal?.removeEventListener("abort", call.cancel);
    this.#open.delete(call.id);
    return call;
  }
}

/** A call's command, but for what may differ when it is given once more. */
function words(fn, payload, { to, priority, route, sticky, gather }) {
  const words = ["FLUX.CALL", fn, JSON.stringify(payload) ?? "null"];
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
