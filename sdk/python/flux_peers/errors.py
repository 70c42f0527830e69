"""What goes wrong, with a word for programs (`code`) and a sentence for people."""

from __future__ import annotations

import re


class FluxError(Exception):
    """An error of flux. `code` says which kind it is:

    NOPEER (nobody can do it), TIMEOUT, FAILED (the handler raised; the text is its message), GONE (the peer or the server
    left while it had the call), CANCELLED, INVALID (payload or name), TOOBIG, BUSY, CONFLICT (`version` is the one that is
    there), DENIED, DISCONNECTED (the connection was lost and nobody knows whether the command was carried out),
    STOPPED, STATE, ERR.
    """

    def __init__(self, message: str, code: str = "ERR", version: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.version = version


class WrongType(FluxError, TypeError):
    """A value of a type that is of no use here. Its code is INVALID."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "INVALID")


def server_error(text: str) -> FluxError:
    """An error reply of the server: a code word, then the text."""
    match = re.match(r"([A-Z][A-Z0-9]*) (.*)", text, re.DOTALL)
    code, message = match.groups() if match else ("ERR", text)
    found = re.search(r"\d+", message) if code == "CONFLICT" else None
    return FluxError(message, code, int(found[0]) if found else None)


def is_unregistered(error: FluxError) -> bool:
    """Whether the server gave us up, so that the connection has to register again. NOPEER alone may also be about others."""
    return error.code == "NOPEER" and "not a registered peer" in str(error)


def disconnected(why: object) -> FluxError:
    return FluxError(f"the connection to the server was lost: {why}", "DISCONNECTED")


def stopped() -> FluxError:
    return FluxError("the peer was stopped", "STOPPED")


def late(timeout: float) -> FluxError:
    """The deadline of a call came first; `timeout` in seconds."""
    return FluxError(f"timeout after {round(timeout * 1000)} ms", "TIMEOUT")
