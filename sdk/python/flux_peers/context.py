"""The shared context of a workspace: keys whose values everyone in it reads and writes, with versions and a history."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal, overload

from . import check
from .errors import FluxError
from .model import Change, Versioned, from_text, to_text
from .wire import Argument

UPDATES_MAX = 100
"""How often `update` tries again when others are quicker."""


class Context:
    """`call` sends a command; with `again` it is sent once more after a cut."""

    def __init__(self, call: Callable[..., Awaitable[Any]]) -> None:
        self._call = call

    async def set(self, workspace: str, key: str, value: Any, *, if_version: int | None = None, ttl: float | None = None) -> int:
        """Writes a value; gives its version.

        With `if_version` only if that is still the version (0: there is no value yet), else CONFLICT. `ttl` in seconds.
        """
        _check(workspace, key, if_version)
        if ttl is not None:
            check.seconds("ttl", ttl, 0.001, 2**53)
        words: list[Argument] = ["FLUX.CTX.SET", workspace, key, to_text(value), *_if_version(if_version)]
        if ttl is not None:
            words += ["TTL", round(ttl * 1000)]
        # Writing the same once more is harmless, unless it asks for the version that it has just made old.
        return int(await self._call(*words, again=if_version is None))

    @overload
    async def get(self, workspace: str, key: str) -> Any: ...
    @overload
    async def get(self, workspace: str, key: str, *, with_version: Literal[True]) -> Versioned | None: ...
    async def get(self, workspace: str, key: str, *, with_version: bool = False) -> Any:
        """The value or None; with its version, if asked for."""
        _check(workspace, key)
        if not with_version:
            text = await self._call("FLUX.CTX.GET", workspace, key, again=True)
            return None if text is None else from_text(text)
        found = await self._call("FLUX.CTX.GET", workspace, key, "WITHVERSION", again=True)
        return None if found is None else Versioned(from_text(found[0]), int(found[1]))

    async def update(self, workspace: str, key: str, change: Callable[[Any], Any]) -> Any:
        """Writes what `change` makes of the value, again if someone else was quicker; gives the new value."""
        check.function("the change", change)
        for attempt in range(UPDATES_MAX):
            found = await self.get(workspace, key, with_version=True)
            value = change(found.value if found else None)
            if isinstance(value, Awaitable):
                value = await value
            try:
                await self.set(workspace, key, value, if_version=found.version if found else 0)
                return value
            except FluxError as error:
                if error.code != "CONFLICT" or attempt == UPDATES_MAX - 1:
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def del_(self, workspace: str, key: str, *, if_version: int | None = None) -> bool:
        """Deletes a value; tells whether there was one."""
        _check(workspace, key, if_version)
        asked = _if_version(if_version)
        return bool(await self._call("FLUX.CTX.DEL", workspace, key, *asked, again=if_version is None))

    async def keys(self, workspace: str) -> list[str]:
        check.text("the workspace", workspace)
        return list(await self._call("FLUX.CTX.KEYS", workspace, again=True))

    async def history(self, workspace: str, key: str, count: int | None = None) -> list[Change]:
        """Past values, newest first; the server keeps the last 100."""
        _check(workspace, key)
        if count is not None:
            check.whole("count", count, 0, 2**63 - 1)
        limit: list[Argument] = [] if count is None else ["COUNT", count]
        entries = await self._call("FLUX.CTX.HISTORY", workspace, key, *limit, again=True)
        return [Change(int(version), None if text is None else from_text(text), peer or None) for version, text, peer in entries]


def _check(workspace: str, key: str, if_version: int | None = None) -> None:
    check.text("the workspace", workspace)
    check.text("the key", key)
    if if_version is not None:
        check.whole("if_version", if_version, 0, 2**63 - 1)


def _if_version(version: int | None) -> list[Argument]:
    return [] if version is None else ["IFVERSION", version]
