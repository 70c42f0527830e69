// The ways to a server: TCP and TLS where there are sockets, WebSocket everywhere else. A transport only moves bytes.

import { FluxError } from "./error.js";

const PORT = 6379;
/** After this much silence the operating system asks whether the other side is still there. */
const KEEPALIVE_MS = 10_000;

const hasPage = typeof globalThis.location?.host === "string" && globalThis.location.host !== "";
/** Whether this is a browser: its timers are slowed down in the background, and it has no sockets but WebSocket. */
export const isBrowser = hasPage && typeof globalThis.document !== "undefined";

/** Takes an address apart; by default it is that of the page. */
export function parseAddress(text = hasPage ? `ws${location.protocol === "https:" ? "s" : ""}://${location.host}` : "lux://127.0.0.1") {
  if (!URL.canParse(text)) throw invalid(text, "write it as lux://host:port");
  const url = new URL(text);
  const scheme = url.protocol.slice(0, -1);
  const address = {
    scheme,
    // Brackets belong to the URL, not to the address.
    host: url.hostname.replace(/^\[|\]$/g, ""),
    port: Number(url.port) || PORT,
    username: decodeURIComponent(url.username),
    password: decodeURIComponent(url.password),
  };
  if (!address.host) throw invalid(text, "write it as lux://host:port");
  if (["lux", "redis", "rediss"].includes(scheme)) return address;
  if (!["ws", "wss"].includes(scheme)) throw invalid(text, "it begins with lux://, redis://, rediss://, ws:// or wss://");
  url.username = url.password = url.hash = "";
  if (url.pathname === "/") url.pathname = "/resp";
  return { ...address, href: url.href };
}

/** Errors end up in logs, passwords must not. */
function invalid(text, advice) {
  return new FluxError("INVALID", `${JSON.stringify(text.replace(/(^\w+:\/\/)?.*@/s, "$1***@"))} is no address of a server: ${advice}`);
}

/**
 * Opens a connection. `onData(bytes)` gets what arrives, `onClose(error)` is called once when it is over.
 * Gives `{write(text), close()}`; an aborted `signal` ends the attempt.
 */
export function dial(address, { tls, signal, onData, onClose }) {
  return address.href ? dialWebSocket(address, { signal, onData, onClose }) : dialSocket(address, { tls, signal, onData, onClose });
}

async function dialSocket({ scheme, host, port }, { tls, signal, onData, onClose }) {
  if (isBrowser) throw new FluxError("INVALID", `a browser cannot open ${scheme}://${host}:${port}: use ws://${host}:3000/resp`);
  const isTls = scheme === "rediss";
  const { connect } = await import(isTls ? "node:tls" : "node:net");
  const { isIP } = await import("node:net");
  signal.throwIfAborted();
  const name = isTls && !isIP(host) ? { servername: host } : {};
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEPALIVE_MS, ...name, ...(isTls ? tls : {}) });
    let why;
    socket.on(isTls ? "secureConnect" : "connect", () => {
      resolve({ write: (text) => socket.write(text), close: () => socket.destroy() });
    });
    socket.on("data", onData);
    socket.on("error", (error) => (why = error));
    socket.on("close", () => {
      const error = disconnected(`${host}:${port}`, why);
      reject(error);
      onClose(error);
    });
    signal.addEventListener("abort", () => socket.destroy(signal.reason), { once: true });
  });
}

function dialWebSocket({ href, host, port }, { signal, onData, onClose }) {
  const { WebSocket } = globalThis;
  if (!WebSocket) throw new FluxError("INVALID", `this runtime has no WebSocket: use lux://${host}:${PORT} or Node 22`);
  return new Promise((resolve, reject) => {
    const encoder = new TextEncoder();
    const socket = new WebSocket(href);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => resolve({ write: (text) => socket.send(encoder.encode(text)), close: () => socket.close() });
    socket.onmessage = ({ data }) => (typeof data === "string" ? socket.close() : onData(new Uint8Array(data)));
    socket.onerror = () => {};
    socket.onclose = ({ code, reason }) => {
      const error = disconnected(href, new Error(reason || `WebSocket closed with code ${code}`));
      reject(error);
      onClose(error);
    };
    signal.addEventListener("abort", () => socket.close(), { once: true });
  });
}

function disconnected(where, cause) {
  // A host with several addresses fails with one error for each.
  const why = cause?.message || cause?.errors?.[0]?.message || "the connection was closed";
  return new FluxError("DISCONNECTED", `no connection to ${where}: ${why}`, { cause });
}
