// What programs hand over is looked at where they do.

import { FluxError } from "./error.js";

/** As long as the server lets a caller wait, in ms. */
const TIMEOUT_MAX = 86_400_000;

export function wrongType(what, expected, value) {
  return Object.assign(new TypeError(`${what} must be ${expected}, not ${shown(value)}`), { code: "INVALID" });
}

export function invalid(message) {
  return new FluxError("INVALID", message);
}

export function text(what, value) {
  if (typeof value !== "string") throw wrongType(what, "a string", value);
  return value;
}

export function callable(what, value) {
  if (typeof value !== "function") throw wrongType(what, "a function", value);
  return value;
}

export function number(what, value, least, most, isWhole = true) {
  if (typeof value !== "number") throw wrongType(what, "a number", value);
  if (value >= least && value <= most && (!isWhole || Number.isInteger(value))) return value;
  throw invalid(`${what} must be ${isWhole ? "a whole number" : "a number"} from ${least} to ${most}, not ${value}`);
}

/** How long a call may take. One whose time is over already, as in `deadline - Date.now()`, just fails. */
export function timeout(what, value) {
  if (typeof value !== "number") throw wrongType(what, "a number of milliseconds", value);
  if (value <= TIMEOUT_MAX) return value;
  throw invalid(`${what} must be at most a day, ${TIMEOUT_MAX} ms, not ${value}`);
}

export function options(what, value) {
  if (value === null || typeof value !== "object" || Array.isArray(value)) throw wrongType(what, "an object", value);
  return value;
}

/** Where it was given, it must pass. */
export function given(value, check) {
  if (value !== undefined) check(value);
}

/** A value as JSON; `undefined` is `null`. Most of what JSON would change or lose without a word is refused. */
export function json(what, value) {
  return JSON.stringify(value, function (key, item) {
    const why = item !== null && misfit(item, this[key]);
    if (why) throw wrongType(`${what}${key === "" ? "" : `: ${JSON.stringify(key)}`}`, "JSON", why === true ? item : why);
    return item;
  }) ?? "null";
}

/** Whether JSON cannot say it. `before` is what it was before its own `toJSON`. */
function misfit(item, before) {
  if (typeof item === "number") return !Number.isFinite(item);
  if (typeof item === "function" || typeof item === "symbol") return true;
  // A BigInt is refused by JSON itself.
  if (before === null || typeof before !== "object") return false;
  // A Buffer says of itself that it is {type, data}.
  if (ArrayBuffer.isView(before)) return before;
  return typeof item === "object" && isHollow(item);
}

/** What would become `{}`: a Map, a Set, a Promise, an ArrayBuffer, an Error. */
function isHollow(item) {
  const tag = Object.prototype.toString.call(item);
  if (tag === "[object Object]" || tag === "[object Array]") return false;
  return item instanceof Error || (Object.keys(item).length === 0 && !["[object String]", "[object Number]", "[object Boolean]"].includes(tag));
}

function shown(value) {
  if (value === null || !["object", "function", "symbol"].includes(typeof value)) return typeof value === "string" ? JSON.stringify(value.slice(0, 50)) : String(value);
  const name = (typeof value === "object" && value.constructor?.name) || typeof value;
  return `${/^[aeiou]/i.test(name) ? "an" : "a"} ${name}`;
}
