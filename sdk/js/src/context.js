// The shared context of a workspace: keys whose values everyone in it reads and writes, with versions and a history.

import { FluxError } from "./error.js";

/** How often `update` tries again when others are quicker. */
const UPDATES_MAX = 100;

export class Context {
  #call;

  constructor(call) {
    this.#call = call;
  }

  /** Writes a value; gives its version. With `ifVersion` only if that is still the version (0: there is no value yet). */
  async set(workspace, key, value, { ifVersion, ttl } = {}) {
    const text = typeof value === "string" ? value : JSON.stringify(value);
    if (text === undefined) throw new FluxError("INVALID", `the value of ${JSON.stringify(key)} cannot be written as JSON`);
    const options = [...(ifVersion === undefined ? [] : ["IFVERSION", ifVersion]), ...(ttl === undefined ? [] : ["TTL", ttl])];
    // Writing the same once more is harmless, unless it asks for the version that it has just made old.
    return this.#call(["FLUX.CTX.SET", workspace, key, text, ...options], { again: ifVersion === undefined });
  }

  /** The value, or null. A string that is JSON comes back as what it says, as in every client of this protocol. */
  async get(workspace, key) {
    return value(await this.#call(["FLUX.CTX.GET", workspace, key], { again: true }));
  }

  async getWithVersion(workspace, key) {
    const found = await this.#call(["FLUX.CTX.GET", workspace, key, "WITHVERSION"], { again: true });
    return found && { value: value(found[0]), version: found[1] };
  }

  /** Writes what `change` makes of the value, again if someone else was quicker; gives the new value. */
  async update(workspace, key, change) {
    for (let tries = 1; ; tries++) {
      const found = await this.getWithVersion(workspace, key);
      const next = await change(found?.value ?? null);
      try {
        await this.set(workspace, key, next, { ifVersion: found?.version ?? 0 });
        return next;
      } catch (error) {
        if (error.code !== "CONFLICT" || tries === UPDATES_MAX) throw error;
      }
    }
  }

  /** Deletes a value; gives whether there was one. */
  async del(workspace, key, { ifVersion } = {}) {
    const options = ifVersion === undefined ? [] : ["IFVERSION", ifVersion];
    return (await this.#call(["FLUX.CTX.DEL", workspace, key, ...options], { again: ifVersion === undefined })) === 1;
  }

  async keys(workspace) {
    return this.#call(["FLUX.CTX.KEYS", workspace], { again: true });
  }

  /** Past values, newest first. */
  async history(workspace, key, { count } = {}) {
    const options = count === undefined ? [] : ["COUNT", count];
    const entries = await this.#call(["FLUX.CTX.HISTORY", workspace, key, ...options], { again: true });
    return entries.map(([version, text, peerId]) => ({ value: value(text), version, peerId }));
  }
}

/** A value as it was written: a string as it is, anything else as JSON. */
function value(text) {
  if (text === null) return null;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
