// What goes wrong, with a word for programs (`code`) and a sentence for people (`message`).

/** An error of flux: `code` says which kind it is, as in `NOPEER`, `TIMEOUT`, `FAILED`, `CONFLICT`. */
export class FluxError extends Error {
  constructor(code, message, options) {
    super(message, options);
    this.name = code === "CANCELLED" ? "AbortError" : "FluxError";
    this.code = code;
  }
}

/** An error reply of the server: a code word, then the text. */
export function serverError(line) {
  const [, code, text] = /^([A-Z][A-Z0-9]*) ?([^]*)$/.exec(line) ?? [null, "ERR", line];
  const error = new FluxError(code, text || line);
  const version = code === "CONFLICT" && /\d+/.exec(text);
  if (version) error.version = Number(version[0]);
  return error;
}
