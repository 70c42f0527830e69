// Streams of text chunks: sending one, and following another peer's. The server keeps the last chunks of each, numbered from
// 1, so a follower that comes late, or was cut off, reads what it has not seen, and goes on with what comes live.

import { json } from "./check.js";
import { FluxError } from "./error.js";

/** Chunks in one command, and the chunks of a fast source that may wait for the server before the source must. */
const BATCH_MAX = 256;
/** Live chunks kept for a reader that is not there yet; what comes beyond is read from the server. */
const LIVE_MAX = 1_000;
/** Chunks remembered, to know those that come again after a server was killed: at most a batch was not confirmed. */
const RECENT_MAX = BATCH_MAX;
/** Chunks read at once when catching up. */
const READ_MAX = 256;
/** The server numbers the chunks of old peers a moment after they were published; they are looked for so many times. */
const LOOKS_MAX = 6;
const LOOK_MS = 10;

export class Streams {
  #self;
  #call;
  #workspaces;
  /** Followers by `peer id, newline, key`. */
  #followers = new Map();

  /** `self` is our own id, `call` sends a command, `workspaces` are those we are in. */
  constructor({ self, call, workspaces }) {
    this.#self = self;
    this.#call = call;
    this.#workspaces = workspaces;
  }

  /** Sends what an iterable gives, several chunks at once when it is faster than the server. Gives the last one's number. */
  async write(workspace, key, iterable) {
    // A stream that was not ended goes on.
    const before = await this.#read(workspace, this.#self, key, 1, 1);
    let last = before.ended ? 0 : before.last;
    let batch = [], failure = null, underWay = null;
    const flush = async () => {
      while (batch.length > 0 && !failure) {
        const chunks = batch.splice(0, BATCH_MAX);
        last = await this.#push(workspace, key, chunks, last).catch((error) => ((failure = error), last));
      }
      underWay = null;
    };
    try {
      for await (const chunk of iterable) {
        batch.push(typeof chunk === "string" ? chunk : chunk === undefined ? "" : json("a chunk", chunk));
        underWay ??= flush();
        if (batch.length >= BATCH_MAX) await underWay;
        if (failure) throw failure;
      }
      await underWay;
      if (failure) throw failure;
    } catch (error) {
      // What was made before it broke is sent; readers must not take it for the whole.
      await underWay;
      await this.#close(workspace, key, ["ERROR", String(error?.message || error)]).catch(() => {});
      throw error;
    }
    await this.#close(workspace, key);
    return last;
  }

  #close(workspace, key, how = []) {
    return this.#call(["FLUX.STREAM.END", workspace, key, ...how], { again: true });
  }

  /** After a cut it asks how much of the batch arrived: only we write this stream. */
  async #push(workspace, key, chunks, last) {
    for (;;) {
      try {
        return await this.#call(["FLUX.STREAM.PUSH", workspace, key, ...chunks]);
      } catch (error) {
        if (error.code !== "DISCONNECTED") throw error;
        const kept = await this.#read(workspace, this.#self, key, last + 1, 1);
        if (kept.last >= last + chunks.length) return kept.last;
        if (kept.last > last) chunks = chunks.slice(kept.last - last);
        last = Math.max(last, kept.last);
      }
    }
  }

  /** Calls `handler(chunk, {seq, missed, workspace})` for each chunk in order; gives a function that ends it. */
  follow(peerId, key, handler, { onEnd } = {}) {
    const name = `${peerId}\n${key}`;
    const follower = { peerId, key, handler, onEnd, readers: new Map(), isOver: false };
    const all = this.#followers.get(name) ?? new Set();
    this.#followers.set(name, all.add(follower));
    for (const workspace of this.#workspaces) this.#advance(this.#reader(follower, workspace), 1);
    return () => {
      follower.isOver = true;
      all.delete(follower);
      if (all.size === 0) this.#followers.delete(name);
    };
  }

  /** Someone else's `stream:data` or `stream:end`. */
  event({ type, workspace, peerId, key, data, seq }) {
    for (const follower of this.#followers.get(`${peerId}\n${key}`) ?? []) {
      const reader = this.#reader(follower, workspace);
      // After its end the next stream of that name is numbered from 1 again.
      const isKnown = reader.recent[seq % RECENT_MAX] === data;
      if (reader.hasEnded && type === "stream:data" && seq < reader.next && !isKnown) this.#restart(reader);
      reader.hasEnded = type === "stream:end";
      const isLive = type === "stream:data" && seq >= reader.next;
      if (isLive && reader.live.size < LIVE_MAX) reader.live.set(seq, data);
      this.#advance(reader, isLive ? 0 : seq === undefined ? LOOKS_MAX : 1);
    }
  }

  /** Reads what was missed: we have joined a workspace, or there is a connection again, perhaps to a restarted server. */
  catchUp(workspaces = this.#workspaces, isRestarted = false) {
    for (const workspace of workspaces) {
      for (const follower of [...this.#followers.values()].flatMap((all) => [...all])) {
        const reader = this.#reader(follower, workspace);
        reader.isBack = true;
        reader.isRestarted ||= isRestarted;
        this.#advance(reader, 1);
      }
    }
  }

  #reader(follower, workspace) {
    let reader = follower.readers.get(workspace);
    if (!reader) {
      // `live` holds chunks that came while others were read or handled, by number; `looks` is how often to look for
      // more; `told` is the last number handed over, `recent` what the last ones were.
      reader = { follower, workspace, next: 1, missed: 0, live: new Map(), looks: 0 };
      Object.assign(reader, { told: 0, recent: [], isBusy: false, isEnded: false, hasEnded: false, isBack: false, isRestarted: false });
      follower.readers.set(workspace, reader);
    }
    return reader;
  }

  /** The numbers begin anew: it is another stream under the same name. */
  #restart(reader) {
    reader.missed += reader.live.size;
    if (reader.told > 0 && !reader.isEnded) this.#end(reader);
    Object.assign(reader, { next: 1, told: 0, isEnded: false });
    reader.live.clear();
  }

  /** Hands over what has come, in order, and reads what is missing. A handler that gives a promise is waited for. */
  async #advance(reader, looks) {
    reader.looks = Math.max(reader.looks, looks);
    if (reader.isBusy) return;
    reader.isBusy = true;
    try {
      while (!reader.follower.isOver) {
        const chunk = reader.live.get(reader.next);
        if (chunk !== undefined) {
          reader.live.delete(reader.next);
          const handled = this.#deliver(reader, chunk);
          if (handled) await handled;
        } else if (reader.looks > 0 || reader.live.size > 0) {
          await this.#look(reader);
        } else {
          break;
        }
      }
    } catch (error) {
      // Without a connection there is nothing to read; catchUp comes with the next one.
      if (!["DISCONNECTED", "TIMEOUT", "STOPPED"].includes(error.code)) rethrow(error);
      reader.live.clear();
    }
    reader.isBusy = false;
  }

  async #look(reader) {
    const left = reader.looks - 1;
    // An event that comes while this reads asks for one more look.
    reader.looks = 0;
    const hadSome = await this.#readOn(reader);
    for (const seq of reader.live.keys()) if (seq < reader.next) reader.live.delete(seq);
    if (hadSome) return void (reader.looks = Math.max(reader.looks, left, 1));
    // What is missing before the next live chunk is nowhere any more.
    if (reader.live.size > 0) this.#skip(reader, Math.min(...reader.live.keys()));
    else if (reader.looks === 0 && left > 0 && !reader.isEnded) {
      reader.looks = left;
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS * 2 ** (LOOKS_MAX - left)));
    }
  }

  /** Reads and hands over one batch; gives whether there was one. */
  async #readOn(reader) {
    const { follower, workspace } = reader;
    // After a cut the last chunk is read again: if it is another, so is the stream.
    const from = reader.isBack && reader.told === reader.next - 1 ? Math.max(1, reader.told) : reader.next;
    const { first, last, ended, error, chunks } = await this.#read(workspace, follower.peerId, follower.key, from, READ_MAX);
    reader.isBack = false;
    // It was ended while we asked.
    if (follower.isOver) return false;
    const again = chunks.find(([seq]) => seq === reader.next - 1);
    if (again && again[1] !== reader.recent[again[0] % RECENT_MAX]) return this.#restart(reader), true;
    if (last < reader.next - 1) {
      // A server that was killed may have lost the last chunks, which we have seen, and which may come again.
      if (reader.isRestarted) Object.assign(reader, { next: last + 1, isEnded: false });
      else this.#restart(reader);
      reader.isRestarted = false;
      return last > 0;
    }
    reader.isRestarted = false;
    const fresh = chunks.filter(([seq]) => seq >= reader.next);
    for (const [seq, chunk] of fresh) {
      this.#skip(reader, seq);
      const handled = this.#deliver(reader, chunk);
      if (handled) await handled;
      if (follower.isOver) return false;
    }
    if (fresh.length === 0 && first > reader.next) this.#skip(reader, first);
    // Also one who came after its end hears of the next stream under its name.
    if (ended && reader.next > last) reader.hasEnded = true;
    if (ended && reader.next > last && !reader.isEnded) this.#end(reader, error);
    return fresh.length > 0 && !reader.isEnded;
  }

  #skip(reader, seq) {
    reader.missed += seq - reader.next;
    reader.next = seq;
  }

  async #read(workspace, peerId, key, from, count) {
    const kept = await this.#call(["FLUX.STREAM.READ", workspace, peerId, key, "FROM", from, "COUNT", count], { again: true });
    return kept ?? { first: 0, last: 0, ended: false, chunks: [] };
  }

  /** Gives a promise if the handler does. */
  #deliver(reader, chunk) {
    const { follower, workspace } = reader;
    const seq = reader.next++;
    reader.isEnded = false;
    if (seq <= reader.told && reader.recent[seq % RECENT_MAX] === chunk) return null;
    reader.told = seq;
    reader.recent[seq % RECENT_MAX] = chunk;
    const about = { seq, missed: reader.missed, workspace };
    reader.missed = 0;
    try {
      const handled = follower.handler(chunk, about);
      return typeof handled?.then === "function" ? handled.then(() => {}, rethrow) : null;
    } catch (error) {
      rethrow(error);
    }
  }

  #end(reader, error) {
    reader.isEnded = true;
    try {
      const broken = error === undefined ? {} : { error: new FluxError("FAILED", error) };
      reader.follower.onEnd?.({ missed: reader.missed, workspace: reader.workspace, ...broken });
    } catch (error) {
      rethrow(error);
    }
    reader.missed = 0;
  }
}

/** What a program's own function throws is the program's: reported as uncaught, and nothing of ours is disturbed. */
export function rethrow(error) {
  queueMicrotask(() => {
    throw error;
  });
}
