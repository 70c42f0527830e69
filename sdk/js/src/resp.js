// RESP3, as much as a client needs: commands become text, and bytes that arrive in pieces of any size become replies.
// Nothing is parsed twice, and nothing is reserved for bytes that have not arrived.

import { FluxError, serverError } from "./error.js";

/** Longest string in a reply, in bytes: a JavaScript string cannot be much longer. */
const STRING_BYTES_MAX = 256 * 1024 * 1024;
/** Longest line: the head of an item, a simple string, an error. */
const LINE_BYTES_MAX = 64 * 1024;
/** Replies nest three deep; a stranger's must not nest without end. */
const DEPTH_MAX = 16;

const CR = 13;
const MORE = Symbol("more bytes are needed");
const OPENED = Symbol("items of an aggregate follow");
const decoder = new TextDecoder();

/** What the server sends by itself: `["message", channel, text]`. */
export class Push {
  constructor(items) {
    this.items = items;
  }
}

/** A command as RESP text. Arguments are strings or whole numbers: anything else is a fault of ours. */
export function encode(args) {
  let text = `*${args.length}\r\n`;
  for (const arg of args) {
    if (typeof arg !== "string" && !Number.isInteger(arg)) throw new TypeError(`${String(arg)} is no argument of a command`);
    const word = String(arg);
    text += `$${utf8Length(word)}\r\n${word}\r\n`;
  }
  return text;
}

function utf8Length(text) {
  let bytes = text.length;
  for (let at = 0; at < text.length; at++) {
    const unit = text.charCodeAt(at);
    if (unit < 0x80) continue;
    bytes += unit < 0x800 ? 1 : 2;
    // A pair of surrogates is four bytes; one alone is written as U+FFFD, three.
    if (unit >= 0xd800 && unit < 0xdc00 && (text.charCodeAt(at + 1) & 0xfc00) === 0xdc00) at++;
  }
  return bytes;
}

export class Parser {
  // The unread bytes are those from #at to #end; only a buffer of our own may be written behind #end.
  #bytes = new Uint8Array(0);
  #at = 0;
  #end = 0;
  #isOurs = false;
  /** Aggregates whose items are still arriving, the outermost first. */
  #open = [];

  /** Takes what has arrived and hands over every reply that is whole. Throws PROTOCOL when it is not RESP. */
  push(chunk, take) {
    this.#append(chunk);
    for (let item = this.#next(); item !== MORE; item = this.#next()) {
      if (item === OPENED) continue;
      const whole = this.#close(item);
      if (whole !== OPENED) take(whole);
    }
  }

  #append(chunk) {
    const unread = this.#end - this.#at;
    if (unread === 0) {
      [this.#bytes, this.#at, this.#end, this.#isOurs] = [chunk, 0, chunk.length, false];
      return;
    }
    if (!this.#isOurs || this.#end + chunk.length > this.#bytes.length) {
      const grown = new Uint8Array(2 * unread + chunk.length);
      grown.set(this.#bytes.subarray(this.#at, this.#end));
      [this.#bytes, this.#at, this.#end, this.#isOurs] = [grown, 0, unread, true];
    }
    this.#bytes.set(chunk, this.#end);
    this.#end += chunk.length;
  }

  /** The next item: a value, OPENED for the head of an aggregate, MORE when it has not wholly arrived. */
  #next() {
    const line = this.#line();
    if (line === MORE) return MORE;
    const rest = line.text.slice(1);
    switch (line.text[0]) {
      case "+": this.#at = line.end; return rest;
      case "-": this.#at = line.end; return serverError(rest);
      case ":": case ",": this.#at = line.end; return number(rest);
      case "(": this.#at = line.end; return rest;
      case "#": this.#at = line.end; return rest === "t";
      case "_": this.#at = line.end; return null;
      case "$": case "=": case "!": return this.#string(line, count(rest, STRING_BYTES_MAX));
      case "*": case "~": case ">": case "%": case "|": return this.#aggregate(line, count(rest, Number.MAX_SAFE_INTEGER / 2));
      case "H": throw broken("it answers as HTTP does; lux:// wants the port for Redis clients, usually 6379, and ws:// this one");
      default: throw broken(`an item cannot begin with ${JSON.stringify(line.text[0] ?? "")}`);
    }
  }

  #line() {
    const unread = this.#bytes.subarray(this.#at, this.#end);
    const cr = unread.indexOf(CR);
    if ((cr < 0 ? unread.length : cr) > LINE_BYTES_MAX) throw broken("a line is too long");
    if (cr < 0 || cr + 1 >= unread.length) return MORE;
    return { text: decode(unread.subarray(0, cr)), end: this.#at + cr + 2 };
  }

  #string(line, length) {
    if (length === -1) return (this.#at = line.end), null;
    const end = line.end + length;
    if (end + 2 > this.#end) return MORE;
    const text = decode(this.#bytes.subarray(line.end, end));
    this.#at = end + 2;
    if (line.text[0] === "!") return serverError(text);
    // A verbatim string begins with its format: `txt:`.
    return line.text[0] === "=" ? text.slice(4) : text;
  }

  #aggregate(line, length) {
    this.#at = line.end;
    if (length === -1) return null;
    const kind = line.text[0];
    const open = { kind, items: [], left: kind === "%" || kind === "|" ? 2 * length : length };
    if (open.left === 0) return finished(open);
    if (this.#open.length >= DEPTH_MAX) throw broken("a reply nests too deep");
    this.#open.push(open);
    return OPENED;
  }

  /** Puts an item where it belongs; the whole reply when that was its last. */
  #close(item) {
    for (;;) {
      const open = this.#open.at(-1);
      // Attributes are remarks about the reply that follows; there is none we need.
      if (item === OPENED) return OPENED;
      if (!open) return item;
      open.items.push(item);
      if (--open.left > 0) return OPENED;
      this.#open.pop();
      item = finished(open);
    }
  }
}

function finished({ kind, items }) {
  if (kind === ">") return new Push(items);
  if (kind === "|") return OPENED;
  if (kind !== "%") return items;
  const map = Object.create(null);
  for (let at = 0; at < items.length; at += 2) map[items[at]] = items[at + 1];
  return map;
}

function number(text) {
  if (text === "inf" || text === "-inf") return text === "inf" ? Infinity : -Infinity;
  const value = Number(text);
  if (text === "" || (Number.isNaN(value) && text !== "nan")) throw broken(`${JSON.stringify(text)} is no number`);
  return value;
}

function count(text, max) {
  const value = /^(-1|\d{1,15})$/.test(text) ? Number(text) : NaN;
  if (!(value <= max)) throw broken(`${JSON.stringify(text.slice(0, 32))} is no length that is accepted`);
  return value;
}

function decode(bytes) {
  // Short ASCII, most of what arrives, is read faster by hand.
  if (bytes.length <= 24) {
    let text = "";
    for (let at = 0; ; at++) {
      if (at === bytes.length) return text;
      if (bytes[at] >= 0x80) break;
      text += String.fromCharCode(bytes[at]);
    }
  }
  return decoder.decode(bytes);
}

function broken(why) {
  return new FluxError("PROTOCOL", `the server does not speak RESP3: ${why}`);
}
