"""What programs hand over is looked at where they do: what is of no use is an error of that call, before anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .errors import FluxError, WrongType

TIMEOUT_MAX = 86_400.0
"""As long as the server lets a caller wait, in seconds."""
COUNT_MAX = 2**32 - 1


def wrong_type(what: str, expected: str, value: object) -> WrongType:
    kind = "None" if value is None else type(value).__name__
    return WrongType(f"{what} must be {expected}, not {kind}")


def text(what: str, value: Any) -> str:
    if not isinstance(value, str):
        raise wrong_type(what, "a str", value)
    return value


def text_or_none(what: str, value: Any) -> str | None:
    return None if value is None else text(what, value)


def function(what: str, value: Any) -> Callable[..., Any]:
    if not callable(value):
        raise wrong_type(what, "a function", value)
    return value  # type: ignore[no-any-return]


def whole(what: str, value: Any, least: int, most: int) -> int:
    """A whole number, and no bool."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong_type(what, "an int", value)
    if not least <= value <= most:
        raise FluxError(f"{what} must be from {least} to {most}, not {value}", "INVALID")
    return value


def seconds(what: str, value: Any, least: float, most: float) -> float:
    """A number of seconds."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise wrong_type(what, "a number of seconds", value)
    if not least <= value <= most:  # Also where it is NaN.
        raise FluxError(f"{what} must be from {least} to {most} seconds, not {value}", "INVALID")
    return value


def timeout(what: str, value: Any) -> float:
    """How long a call may take. One whose time is over already just fails."""
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise wrong_type(what, "a number of seconds", value)
    if not value <= TIMEOUT_MAX:
        raise FluxError(f"{what} must be at most a day, {TIMEOUT_MAX:.0f} seconds, not {value}", "INVALID")
    return value
