export interface FluxOptions {
  /** `lux://host:port`, `redis://`, `rediss://` (TLS), `ws://host:3000/resp` or `wss://`; in a page, by default, its own host. */
  url?: string;
  /** What people read; by default the beginning of the id. */
  name?: string;
  /** How long a call, or a command without a connection, may take, in ms: 30000. */
  jobTimeout?: number;
  /** How long `start` waits for a server, in ms: 30000, or `Infinity`. */
  connectTimeout?: number;
  /** How long `stop` lets running handlers finish, in ms: 5000. */
  stopTimeout?: number;
  /** Calls handled at the same time, in all: 100. */
  concurrency?: number;
  /** After how long without a sign of life the server gives us up, in ms: 10000, in browsers 180000. */
  ttl?: number;
  /** With its secret; otherwise both are random. */
  id?: string;
  secret?: string;
  username?: string;
  password?: string;
  /** Options of `tls.connect` for `rediss://`, as in `{ca}`. */
  tls?: Record<string, unknown>;
}

/** What a handler is told beside the payload. */
export interface CallContext {
  id: string;
  fn: string;
  from: string;
  /** 1, and more when the call was tried before. */
  attempt: number;
  /** When the caller stops waiting, in ms since 1970. */
  deadline: number;
  /** Aborted when the caller cancels, or the deadline is over. */
  signal: AbortSignal;
  /** Sends the caller a part of the result; done when the server has it. */
  chunk(data: unknown): Promise<unknown>;
}

/** Its result goes to the caller, as does the message of what it throws. What a generator yields is sent as chunks. */
export type Handler<P = any, R = any> = (payload: P, context: CallContext) => R | Promise<R> | AsyncGenerator<unknown, R> | Generator<unknown, R>;

export interface Exposed<P = any, R = any> {
  handler: Handler<P, R>;
  /** JSON Schema of the payload: checked by the server; makes the capability a tool for MCP hosts. */
  schema?: object | boolean;
  description?: string;
  /** How often a call is tried again when the handler throws: 0. */
  retry?: number;
  concurrency?: number;
}

export interface SendOptions {
  /** In ms. */
  timeout?: number;
  /** -100 to 100; higher goes first. */
  priority?: number;
  /** How often a call is given to another peer when the one that ran it dies: 1. */
  retries?: number;
  /** A peer's id. */
  to?: string;
  /** Calls with the same key go to the same peer. */
  sticky?: string;
  route?: "least-loaded" | "round-robin";
  signal?: AbortSignal;
  /** Gets what the handler sends before its result; `missed` chunks before this one were lost. */
  onChunk?: (data: any, about: { seq: number; missed: number }) => void;
  /** Asks all peers with the capability (`true`), or waits for so many answers; the result is `Answer[]`. */
  gather?: true | number;
}

export type Answer<R = any> = { peerId: string; peerName: string } & ({ ok: true; data: R } | { ok: false; error: string });

export interface Capability {
  name: string;
  description?: string;
  schema?: object;
  concurrency?: number;
  retry?: number;
}

export interface Peer {
  id: string;
  name: string;
  capabilities: Capability[];
  workspaces: string[];
  startedAt: number;
  peerId: string;
  peerName: string;
}

export interface Description {
  name: string;
  description?: string;
  schema?: object;
  peers: { id: string; name: string; running: number; queued: number }[];
  calls: number;
  failed: number;
}

interface WorkspaceEvent {
  workspace: string;
  peerId: string;
  peerName: string;
}

export interface FluxEvents {
  "peer:joined": WorkspaceEvent & { type: "peer:joined" };
  "peer:left": WorkspaceEvent & { type: "peer:left"; left?: "stopped" | "expired" | "disconnected" };
  "ctx:updated": WorkspaceEvent & { type: "ctx:updated"; key: string; data?: any; version?: number; deleted?: true };
  "stream:data": WorkspaceEvent & { type: "stream:data"; key: string; data: string; seq?: number };
  /** `error`: why it broke off, where its source threw. */
  "stream:end": WorkspaceEvent & { type: "stream:end"; key: string; seq?: number; error?: string };
  /** There is a connection (again). Events that happened without one do not come later: read what matters anew. */
  connected: { isRestarted: boolean };
  disconnected: { error: FluxError };
}

export interface Context {
  /** Writes a value and gives its version. `ifVersion`: only if that is its version (0: it does not exist). `ttl` in ms. */
  set(workspace: string, key: string, value: unknown, options?: { ifVersion?: number; ttl?: number }): Promise<number>;
  /** The value, or null. */
  get<T = any>(workspace: string, key: string): Promise<T | null>;
  getWithVersion<T = any>(workspace: string, key: string): Promise<{ value: T; version: number } | null>;
  /** Writes what `change` makes of the value; calls it again when someone else was quicker. */
  update<T = any>(workspace: string, key: string, change: (value: T | null) => T | Promise<T>): Promise<T>;
  del(workspace: string, key: string, options?: { ifVersion?: number }): Promise<boolean>;
  keys(workspace: string): Promise<string[]>;
  history<T = any>(workspace: string, key: string, options?: { count?: number }): Promise<{ value: T; version: number; peerId: string }[]>;
}

export declare class Flux {
  constructor(options?: FluxOptions);
  readonly id: string;
  readonly name: string;
  readonly ctx: Context;
  /** After `start` it is done when the server has taken the capability, and rejects when the server refuses it. */
  expose<P = any, R = any>(name: string, handler: Handler<P, R> | Exposed<P, R>): Promise<void>;
  start(): Promise<void>;
  /** Lets running handlers finish, leaves, closes. */
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
  /** Gives who is in it. */
  join(workspace: string): Promise<Peer[]>;
  leave(workspace: string): Promise<void>;
  peers(workspace?: string): Promise<Peer[]>;
  discover(capability: string): Promise<Peer[]>;
  describe(capability: string): Promise<Description>;
  send<R = any>(fn: string, payload?: unknown, options?: number | SendOptions): Promise<R>;
  /** The chunks of a call as they come; the generator returns its result. Leaving the loop cancels the call. */
  chunks<C = any, R = any>(fn: string, payload?: unknown, options?: number | Omit<SendOptions, "onChunk">): AsyncGenerator<C, R, void>;
  /** Strings are sent as they are, anything else as JSON. Gives the number of the last chunk. */
  stream(workspace: string, key: string, iterable: AsyncIterable<unknown> | Iterable<unknown>): Promise<number>;
  /**
   * Follows a stream in the workspaces we are in, from the oldest chunk that the server keeps: in order, none twice.
   * `missed` says how many were lost before a chunk. A handler that gives a promise is waited for. Gives a function that ends it.
   */
  onStream(
    peerId: string,
    key: string,
    handler: (chunk: string, about: { seq: number; missed: number; workspace: string }) => unknown,
    options?: { onEnd?: (about: { missed: number; workspace: string; error?: FluxError }) => void },
  ): () => void;
  on<E extends keyof FluxEvents>(type: E, listener: (event: FluxEvents[E]) => void): () => void;
  off<E extends keyof FluxEvents>(type: E, listener: (event: FluxEvents[E]) => void): void;
}

/**
 * `code` is one of: NOPEER, TIMEOUT, FAILED (the handler threw), INVALID, TOOBIG, BUSY, GONE (the peer died), CANCELLED,
 * CONFLICT, DENIED, DISCONNECTED (it may or may not have been done), STOPPED, STATE, PROTOCOL, or what the server says.
 */
export declare class FluxError extends Error {
  constructor(code: string, message: string, options?: { cause?: unknown });
  readonly code: string;
  /** With CONFLICT: the version there is. */
  readonly version?: number;
}
