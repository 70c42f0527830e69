// Streams of text chunks: sending one, and following another peer's. The server keeps the last chunks of each, numbered from
// 1, so a follower that comes late, or was cut off, reads what it has not seen. A live event is taken as it is when it is
// the very next chunk; otherwise it only says that there is something to read.

/** Chunks in one command, and the chunks of a fast source that may wait for the server before the source must. */
const BATCH_MAX = 256;
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
    // What we streamed under this name before is numbered already.
    let { last } = await this.#read(workspace, this.#self, key, 1, 1);
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
        batch.push(typeof chunk === "string" ? chunk : JSON.stringify(chunk) ?? "");
        underWay ??= flush();
        if (batch.length >= BATCH_MAX) await underWay;
        if (failure) throw failure;
      }
      await underWay;
      if (failure) throw failure;
    } finally {
      await underWay;
      await this.#call(["FLUX.STREAM.END", workspace, key], { again: true });
    }
    return last;
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
    for (const workspace of this.#workspaces) this.#pull(this.#reader(follower, workspace));
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
      // After its end the server forgets a stream; the next of that name is numbered from 1 again.
      if (reader.hasEnded && seq < reader.next) reader.next = 1;
      reader.hasEnded = type === "stream:end";
      if (type === "stream:data" && seq === reader.next && !reader.isBusy) this.#take(reader, data);
      else this.#pull(reader, seq === undefined ? LOOKS_MAX : 1);
    }
  }

  /** Reads what was missed: we have joined a workspace, or there is a connection again, perhaps to a restarted server. */
  catchUp(workspaces = this.#workspaces, isRestarted = false) {
    for (const workspace of workspaces) {
      for (const follower of [...this.#followers.values()].flatMap((all) => [...all])) {
        const reader = this.#reader(follower, workspace);
        reader.isRestarted ||= isRestarted;
        this.#pull(reader);
      }
    }
  }

  #reader(follower, workspace) {
    let reader = follower.readers.get(workspace);
    if (!reader) {
      reader = { follower, workspace, next: 1, missed: 0, isBusy: false, looks: 0, isEnded: false, hasEnded: false, isRestarted: false };
      follower.readers.set(workspace, reader);
    }
    return reader;
  }

  /** The next chunk, live. A handler that gives a promise is waited for; what comes meanwhile is read afterwards. */
  async #take(reader, chunk) {
    const result = this.#deliver(reader, chunk);
    if (typeof result?.then !== "function") return;
    reader.isBusy = true;
    await result.catch(rethrow);
    reader.isBusy = false;
    if (reader.looks > 0) this.#pull(reader);
  }

  async #pull(reader, looks = 1) {
    reader.looks = Math.max(reader.looks, looks);
    if (reader.isBusy) return;
    reader.isBusy = true;
    try {
      while (reader.looks > 0 && !reader.follower.isOver) {
        reader.looks--;
        const hadNone = (await this.#readOn(reader)) === 0;
        if (!hadNone) reader.looks = Math.max(reader.looks, 1);
        else if (reader.looks > 0) await new Promise((resolve) => setTimeout(resolve, LOOK_MS * 2 ** (LOOKS_MAX - reader.looks)));
      }
    } catch (error) {
      // Without a connection there is nothing to read; catchUp comes with the next one.
      if (!["DISCONNECTED", "TIMEOUT", "STOPPED"].includes(error.code)) rethrow(error);
    }
    reader.isBusy = false;
  }

  /** Reads and hands over one batch; gives how many chunks it had. */
  async #readOn(reader) {
    const { follower, workspace } = reader;
    const { first, last, ended, chunks } = await this.#read(workspace, follower.peerId, follower.key, reader.next, READ_MAX);
    if (last < reader.next - 1) {
      // The numbers went back. A server that was killed may have lost the last chunks, which we have seen; otherwise it is
      // another stream under the same name.
      reader.next = reader.isRestarted ? last + 1 : 1;
      reader.isRestarted = reader.isEnded = false;
      return last;
    }
    reader.isRestarted = false;
    for (const [seq, chunk] of chunks) {
      if (seq < reader.next) continue;
      reader.missed += seq - reader.next;
      reader.next = seq;
      const result = this.#deliver(reader, chunk);
      if (typeof result?.then === "function") await result.catch(rethrow);
      if (follower.isOver) return 0;
    }
    // Nothing left of what there was: it is too old.
    if (chunks.length === 0 && first > reader.next) [reader.missed, reader.next] = [reader.missed + first - reader.next, first];
    if (ended && reader.next > last && !reader.isEnded) this.#end(reader);
    return chunks.length;
  }

  async #read(workspace, peerId, key, from, count) {
    const kept = await this.#call(["FLUX.STREAM.READ", workspace, peerId, key, "FROM", from, "COUNT", count], { again: true });
    return kept ?? { first: 0, last: 0, ended: false, chunks: [] };
  }

  #deliver(reader, chunk) {
    const { follower, workspace } = reader;
    const about = { seq: reader.next, missed: reader.missed, workspace };
    reader.next++;
    reader.missed = 0;
    reader.isEnded = false;
    try {
      return follower.handler(chunk, about);
    } catch (error) {
      rethrow(error);
    }
  }

  #end(reader) {
    reader.isEnded = true;
    try {
      reader.follower.onEnd?.({ missed: reader.missed, workspace: reader.workspace });
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
