"""A connection that comes back.

    Down --connected, greeted--> Up --lost--> Down, after a pause that grows
     any --close--> Closed
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from .errors import FluxError, disconnected, is_unregistered, stopped
from .wire import CONNECT_TIMEOUT, Argument, OnMessage, Wire, end

PAUSE_MIN, PAUSE_MAX = 0.05, 3.0
"""The pause before trying again doubles from one to the other, in seconds; a random half of it is left out."""
PASSING = ("DISCONNECTED", "LOADING")
"""What a later attempt may put right by itself."""

log = logging.getLogger("flux_peers")


class Link:
    """Keeps one connection up.

    `greet(wire)` introduces a new connection; what it raises ends the connection. `on_up()` follows, `on_refused(error)` is
    told when the server does not want us.
    """

    def __init__(
        self,
        name: str,
        options: dict[str, Any],
        greet: Callable[[Wire], Awaitable[None]],
        *,
        patience: float,
        on_up: Callable[[], None] = lambda: None,
        on_refused: Callable[[FluxError], None] = lambda error: None,
        on_message: OnMessage | None = None,
    ) -> None:
        self.name = name
        self._options = options
        self._greet = greet
        self._patience = patience
        self._on_up = on_up
        self._on_refused = on_refused
        self._on_message = on_message
        self._wire: Wire | None = None
        self._has_wire = asyncio.Event()
        self._is_closed = False
        self.last_error: FluxError | None = None
        """Why it was not made the last time."""
        self._greeting: asyncio.Task[None] | None = None
        self._task = asyncio.create_task(self._run())

    @property
    def wire(self) -> Wire | None:
        """The connection, while there is one."""
        return self._wire

    async def ready(self, until: float) -> Wire:
        """The connection, as soon as there is one; DISCONNECTED at that monotonic time."""
        while True:
            if self._is_closed:
                raise stopped()
            if self._wire is not None:
                return self._wire
            left = until - time.monotonic()
            try:
                await asyncio.wait_for(self._has_wire.wait(), max(0, left))
            except asyncio.TimeoutError:
                raise disconnected("it has not come back in time") from None

    async def call(
        self,
        *args: Argument,
        again: bool = False,
        until: float | None = None,
        also: Callable[[], Iterable[Argument]] = tuple,
    ) -> Any:
        """Sends a command, gives its reply; waits for a connection as long as its patience lasts, or `until` a monotonic time.

        `also` is asked for more arguments when it is sent.

        When the connection is lost before the reply, nobody knows whether the command was carried out: it fails with
        DISCONNECTED, or is sent `again` over the next one.
        """
        until = time.monotonic() + self._patience if until is None else until
        while True:
            wire = await self.ready(until)
            try:
                return await wire.call(*args, *also())
            except FluxError as error:
                if is_unregistered(error) and time.monotonic() < until:
                    await self.introduce_again(wire)
                elif error.code != "DISCONNECTED" or not again:
                    raise

    async def introduce_again(self, wire: Wire) -> None:
        """The server gave us up, since we were away for too long: greets it anew, once for all who notice."""
        if self._greeting is None:
            self._greeting = asyncio.create_task(self._introduce_again(wire))
        await asyncio.shield(self._greeting)

    def reset(self, error: FluxError) -> None:
        """Ends the connection; another is made."""
        if self._wire is not None:
            self._wire.drop(error)

    async def close(self) -> None:
        """Ends the connection for good; what waits fails with STOPPED."""
        self._is_closed = True
        self._has_wire.set()
        await end([self._task] + ([self._greeting] if self._greeting else []))

    async def _run(self) -> None:
        failures = 0
        while True:
            try:
                stayed = await self._live_once()
                failures = 0 if stayed > PAUSE_MAX else failures + 1
            except FluxError as error:
                failures += 1
                self.last_error = error
                if error.code not in PASSING:
                    log.warning("the server refuses the %s connection: %s", self.name, error)
                    self._on_refused(error)
            pause: float = min(PAUSE_MIN * 2 ** min(failures - 1, 16) if failures else 0, PAUSE_MAX)
            await asyncio.sleep(pause * random.uniform(0.5, 1))

    async def _live_once(self) -> float:
        """Connects and stays until the connection is lost; gives for how many seconds it was up."""
        wire = await Wire.open(self._options, self._on_message)
        try:
            await self._introduce(wire)
            up_at = time.monotonic()
            self._up(wire)
            error = await asyncio.shield(wire.lost)
            log.info("the %s connection was lost: %s", self.name, error)
            return time.monotonic() - up_at
        finally:
            self._down()
            await wire.close()

    def _up(self, wire: Wire) -> None:
        if wire.lost.done():
            raise wire.lost.result()
        wire.on_lost = self._down
        self._wire = wire
        self._has_wire.set()
        self._on_up()

    def _down(self) -> None:
        self._wire = None
        if not self._is_closed:
            self._has_wire.clear()

    async def _introduce_again(self, wire: Wire) -> None:
        try:
            await self._introduce(wire)
            if wire is self._wire:
                self._on_up()
        except FluxError as error:
            wire.drop(error)
        finally:
            self._greeting = None

    async def _introduce(self, wire: Wire) -> None:
        try:
            await asyncio.wait_for(self._greet(wire), CONNECT_TIMEOUT)
        except asyncio.TimeoutError:
            raise disconnected("the server does not answer") from None
