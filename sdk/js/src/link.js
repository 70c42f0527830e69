// A connection that comes back. Commands are pipelined: a reply belongs to the oldest command without one. What is asked
// while there is no connection waits for the next.
//
//   Down --dialled, greeted--> Up --lost--> Down, after a pause that grows
//    any --close--> Closed

import { FluxError } from "./error.js";
import { Parser, Push, encode } from "./resp.js";
import { dial } from "./transport.js";

/** How long a connection may take to be made and greeted. */
const CONNECT_MS = 5_000;
/** The pause before trying again doubles from the first to the second, and a random half of it is left out. */
const PAUSE_MS = [50, 3_000];
/** Commands that wait for a reply or a connection; past it they fail with BUSY. */
const COMMANDS_MAX = 100_000;
/** Characters written together. */
const OUT_MAX = 2 ** 24;
/** What a server says while it starts; everything else it refuses, it will refuse again. */
const PASSING = ["LOADING", "DISCONNECTED", "TIMEOUT"];

/** Runs a function after all promises that are ready, so that what they write leaves in one piece. */
export const soon = globalThis.process?.nextTick ?? queueMicrotask;

export class Link {
  #options;
  #isClosed = false;
  #isUp = false;
  #transport = null;
  /** Sent, without a reply yet, oldest first; the first #answered are done with. */
  #sent = [];
  #answered = 0;
  /** Not sent, since there is no connection. */
  #waiting = new Set();
  #out = "";
  #wake = () => {};
  #drop = () => {};

  /**
   * `greet(call)` introduces a new connection; what it throws ends the connection. `onUp()` follows, `onDown(error)` comes
   * when a connection is lost or was not made, `onRefused(error)` when the server does not want us, or we it. `onPush(items)` gets
   * messages. `patience` is how long a command waits for a connection, in ms.
   */
  constructor(options) {
    this.#options = options;
    this.#run();
  }

  get isUp() {
    return this.#isUp;
  }

  /**
   * Sends a command, gives its reply. While there is no connection it waits, or fails if `now`. A command whose
   * connection was lost before its reply fails with DISCONNECTED, or is sent `again` over the next one. A function of
   * `args` is asked when it is sent.
   */
  call(args, { now = false, again = false } = {}) {
    return new Promise((resolve, reject) => {
      const command = { args, again, resolve, reject, timer: undefined };
      if (this.#isClosed) reject(stopped());
      else if (this.#sent.length - this.#answered + this.#waiting.size >= COMMANDS_MAX) reject(busy());
      else if (this.#isUp) this.#send(command);
      else if (now) reject(new FluxError("DISCONNECTED", "there is no connection to the server"));
      else this.#wait(command);
    });
  }

  /** Ends the connection; another is made. */
  reset(error) {
    this.#drop(error);
  }

  /** Ends the connection for good; commands without a reply fail with STOPPED. */
  close() {
    this.#isClosed = true;
    this.#flush();
    this.#drop(stopped());
    this.#wake();
    this.#options.onRefused?.(stopped());
    for (const command of this.#waiting) this.#forget(command).reject(stopped());
  }

  async #run() {
    for (let failures = 0; !this.#isClosed; failures++) {
      let error;
      try {
        const { lost } = await this.#connect();
        const upAt = performance.now();
        error = await lost;
        // Otherwise a server that drops us at once would be asked without a pause.
        if (performance.now() - upAt > PAUSE_MS[1]) failures = 0;
      } catch (refusal) {
        // Why it ended says more.
        error = refusal.cause?.code === "PROTOCOL" ? refusal.cause : refusal;
      }
      if (this.#isClosed) return;
      if (!PASSING.includes(error.code)) this.#options.onRefused?.(error);
      this.#options.onDown?.(error);
      await this.#pause(failures);
    }
  }

  /** Makes and greets a connection; gives the promise of its end. */
  async #connect() {
    const attempt = new AbortController();
    const late = new FluxError("TIMEOUT", `the server did not answer for ${CONNECT_MS} ms`);
    const timer = setTimeout(() => this.#drop(late), CONNECT_MS);
    let end;
    const lost = new Promise((resolve) => (end = resolve));
    this.#drop = (error) => {
      attempt.abort(error);
      this.#transport?.close();
      this.#lose(error);
      end(error);
    };
    try {
      const parser = new Parser();
      const drop = this.#drop;
      const onData = (bytes) => {
        if (drop !== this.#drop || attempt.signal.aborted) return;
        try {
          parser.push(bytes, (reply) => attempt.signal.aborted || this.#take(reply));
        } catch (error) {
          drop(error);
        }
      };
      const onClose = (error) => drop === this.#drop && !attempt.signal.aborted && drop(error);
      const opened = dial(this.#options.address, { tls: this.#options.tls, signal: attempt.signal, onData, onClose });
      this.#transport = await Promise.race([opened, lost.then((error) => Promise.reject(error))]);
      await this.#options.greet((args) => this.#sendFirst(args));
      this.#up();
      return { lost };
    } catch (error) {
      this.#drop(error);
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  #up() {
    this.#isUp = true;
    for (const command of this.#waiting) this.#send(this.#forget(command));
    this.#options.onUp?.();
  }

  /** What was sent without a reply fails, or waits for the next connection before all that waits already. */
  #lose(error) {
    this.#isUp = false;
    this.#transport = null;
    this.#out = "";
    const open = this.#sent.slice(this.#answered);
    this.#sent = [];
    this.#answered = 0;
    const later = [...this.#waiting];
    this.#waiting.clear();
    for (const command of open) {
      if (command.again && !this.#isClosed) this.#wait(command);
      else command.reject(error.code === "STOPPED" ? error : new FluxError("DISCONNECTED", error.message, { cause: error }));
    }
    for (const command of later) this.#waiting.add(command);
  }

  #wait(command) {
    const { patience } = this.#options;
    const late = () => this.#forget(command).reject(new FluxError("TIMEOUT", `timeout after ${patience} ms: no connection to the server`));
    command.timer = setTimeout(late, patience);
    this.#waiting.add(command);
  }

  #forget(command) {
    clearTimeout(command.timer);
    this.#waiting.delete(command);
    return command;
  }

  #sendFirst(args) {
    return new Promise((resolve, reject) => this.#send({ args, again: false, resolve, reject }));
  }

  #send(command) {
    // One that cannot be written fails alone.
    let text;
    try {
      text = encode(typeof command.args === "function" ? command.args() : command.args);
    } catch (error) {
      return command.reject(error);
    }
    this.#sent.push(command);
    if (this.#out.length + text.length > OUT_MAX) this.#flush();
    if (this.#out === "") soon(() => this.#flush());
    this.#out += text;
  }

  #flush() {
    const text = this.#out;
    this.#out = "";
    if (text !== "") this.#transport?.write(text);
  }

  #take(reply) {
    if (reply instanceof Push) {
      const [kind] = reply.items;
      // In RESP3 these are the only answer to the command of their name.
      if (kind !== "subscribe" && kind !== "unsubscribe") return this.#options.onPush?.(reply.items);
      reply = null;
    }
    const command = this.#sent[this.#answered];
    if (!command) throw new FluxError("PROTOCOL", "the server answered what was not asked");
    this.#sent[this.#answered++] = undefined;
    // Now and then: each time would be slow.
    if (this.#answered > 1024 || this.#answered === this.#sent.length) this.#sent = this.#sent.slice(this.#answered), (this.#answered = 0);
    if (reply instanceof Error) command.reject(reply);
    else command.resolve(reply);
  }

  #pause(failures) {
    const ms = Math.min(PAUSE_MS[0] * 2 ** Math.min(failures, 16), PAUSE_MS[1]) * (0.5 + Math.random() / 2);
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => (clearTimeout(timer), resolve());
    });
  }
}

export function stopped() {
  return new FluxError("STOPPED", "the peer was stopped");
}

function busy() {
  return new FluxError("BUSY", `more than ${COMMANDS_MAX} commands wait for the server`);
}
