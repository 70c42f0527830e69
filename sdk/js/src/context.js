// The shared context of a workspace: keys whose values everyone in it reads and writes, with versions and a history.

import { callable, given, json, number, options as checkedOptions, text as checkedText } from "./check.js";
import { FluxError } from "./error.js";

/** How often `update` tries again when others are quicker. */
const UPDATES_MAX = 100;

export class Context {
  #call;

  constructor(call) {
    this.#call = call;
  }

  async set(workspace, key, value, how = {}) {
    const { ifVersion, ttl } = place(workspace, key, how);
    given(ttl, (value) => number("ttl", value, 1, Number.MAX_SAFE_INTEGER));
    if (value === undefined) throw new FluxError("INVALID", `the value of ${JSON.stringify(key)} is undefined, which cannot be written as JSON`);
    const text = typeof value === "string" ? value : json(`the value of ${JSON.stringify(key)}`, value);
    const options = [...(ifVersion === undefined ? [] : ["IFVERSION", ifVersion]), ...(ttl === undefined ? [] : ["TTL", ttl])];
    // Writing the same once more is harmless, unless it asks for the version that it has just made old.
    return this.#call(["FLUX.CTX.SET", workspace, key, text, ...options], { again: ifVersion === undefined });
  }

  /** The value, or null. A string that is JSON comes back as what it says, as in every client of this protocol. */
  async get(workspace, key) {
    place(workspace, key);
    return value(await this.#call(["FLUX.CTX.GET", workspace, key], { again: true }));
  }

  async getWithVersion(workspace, key) {
    place(workspace, key);
    const found = await this.#call(["FLUX.CTX.GET", workspace, key, "WITHVERSION"], { again: true });
    return found && { value: value(found[0]), version: found[1] };
  }

  async update(workspace, key, change) {
    callable("the change", change);
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

  async del(workspace, key, how = {}) {
    const { ifVersion } = place(workspace, key, how);
    const options = ifVersion === undefined ? [] : ["IFVERSION", ifVersion];
    return (await this.#call(["FLUX.CTX.DEL", workspace, key, ...options], { again: ifVersion === undefined })) === 1;
  }

  async keys(workspace) {
    checkedText("the workspace", workspace);
    return this.#call(["FLUX.CTX.KEYS", workspace], { again: true });
  }

  async history(workspace, key, how = {}) {
    const { count } = place(workspace, key, how);
    given(count, (value) => number("count", value, 0, Number.MAX_SAFE_INTEGER));
    const options = count === undefined ? [] : ["COUNT", count];
    const entries = await this.#call(["FLUX.CTX.HISTORY", workspace, key, ...options], { again: true });
    return entries.map(([version, text, peerId]) => ({ value: value(text), version, peerId }));
  }
}

/** Where a value is, and what is asked of it. */
function place(workspace, key, how = {}) {
  checkedText("the workspace", workspace), checkedText("the key", key);
  given(checkedOptions("the options", how).ifVersion, (value) => number("ifVersion", value, 0, Number.MAX_SAFE_INTEGER));
  return how;
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
