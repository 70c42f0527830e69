"""One connection of redis-py: commands are pipelined, replies come in their order, published messages in between.

A pool would not do: the server knows a peer by its connections. What is lost stays lost; `link` makes another one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from redis.asyncio.connection import Connection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from .errors import FluxError, WrongType, disconnected, server_error, stopped

CONNECT_TIMEOUT = 5.0
"""How long a connection may take to be made, in seconds."""
END_TIMEOUT, END_EVERY = 1.0, 0.05
"""How long `end` waits for tasks, and how often it cancels them meanwhile, in seconds."""
COMMANDS_MAX = 100_000
"""Commands that wait for a reply; past it they fail with BUSY."""

Argument = str | bytes | int | float
OnMessage = Callable[[str, str], None]


def options_of(url: str) -> dict[str, Any]:
    """What redis-py needs to connect. `lux://` is this protocol's own name for `redis://`."""
    scheme, colon, rest = url.partition("://")
    options = dict(parse_url(f"redis://{rest}" if colon and scheme in ("lux", "flux") else url))
    own: dict[str, Any] = {
        "protocol": 2,
        "decode_responses": True,
        "encoding_errors": "replace",
        "socket_timeout": None,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "health_check_interval": 0,
    }
    return {**options, **own}


async def end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancels tasks until they have ended, for END_TIMEOUT at most. Once may not do: in Python 3.10 and 3.11 `wait_for`
    forgets a cancellation that comes together with its result."""
    left = set(tasks)
    for _ in range(round(END_TIMEOUT / END_EVERY)):
        left = {task for task in left if not task.done()}
        if not left:
            return
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=END_EVERY)


class Wire:
    """A connection until it is lost. `lost` tells when and why."""

    def __init__(self, connection: Any, on_message: OnMessage | None) -> None:
        self._connection = connection
        self._on_message = on_message
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._out: list[bytes] = []
        self._has_more = asyncio.Event()
        self.lost: asyncio.Future[FluxError] = asyncio.get_running_loop().create_future()
        self.on_lost: Callable[[], None] = lambda: None
        self._tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._write())]

    @classmethod
    async def open(cls, options: dict[str, Any], on_message: OnMessage | None = None) -> Wire:
        """Connects, with password and TLS as the URL says. Errors have the code DISCONNECTED or DENIED."""
        kind = options.get("connection_class", Connection)
        connection = kind(**{k: v for k, v in options.items() if k != "connection_class"}, retry=Retry(NoBackoff(), 0))
        try:
            await asyncio.wait_for(connection.connect(), CONNECT_TIMEOUT)
        except AuthenticationError as error:
            raise FluxError(f"the server wants a password, or another one: {error}", "DENIED") from error
        except ResponseError as error:
            raise server_error(str(error)) from error
        except (RedisError, OSError, asyncio.TimeoutError) as error:
            raise FluxError(f"no connection to the server: {error or 'it took too long to connect'}", "DISCONNECTED") from error
        return cls(connection, on_message)

    def call(self, *args: Argument) -> asyncio.Future[Any]:
        """Sends a command; its reply comes as the future's result, an error of the server as a FluxError."""
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        try:
            packed = b"".join(self._connection.pack_command(*args))
        except (RedisError, TypeError, ValueError) as error:
            # What cannot be written fails alone, and not those that are written with it.
            reply.set_exception(WrongType(f"{args[0]} cannot be sent: {error}"))
            return reply
        if self.lost.done():
            reply.set_exception(self.lost.result())
        elif len(self._waiting) >= COMMANDS_MAX:
            reply.set_exception(FluxError(f"more than {COMMANDS_MAX} commands wait for the server", "BUSY"))
        else:
            self._waiting.append(reply)
            self._out.append(packed)
            self._has_more.set()
        return reply

    def drop(self, error: FluxError) -> None:
        """Ends the connection; all that waits for a reply fails with this error."""
        if self.lost.done():
            return
        self.lost.set_result(error)
        self.on_lost()
        for task in self._tasks:
            if task is not asyncio.current_task():
                task.cancel()
        for reply in self._waiting:
            if not reply.done():
                reply.set_exception(error)
                reply.exception()  # Nobody may be there any more to see it.
        self._waiting.clear()

    async def close(self, error: FluxError | None = None) -> None:
        self.drop(error or stopped())
        await end(self._tasks)
        try:
            await self._connection.disconnect(nowait=True)
        except (RedisError, OSError):
            pass  # It is gone anyway.

    async def _write(self) -> None:
        # A task of its own, so that a caller who is cancelled cannot leave half a command on the connection.
        try:
            while True:
                await self._has_more.wait()
                self._has_more.clear()
                out, self._out = self._out, []
                await self._connection.send_packed_command([b"".join(out)], check_health=False)
        except (RedisError, OSError) as error:
            self.drop(disconnected(error))

    async def _read(self) -> None:
        try:
            while True:
                try:
                    reply = await self._connection.read_response(disconnect_on_error=False)
                except ResponseError as error:
                    self._answer(None, server_error(str(error)))
                else:
                    self._take(reply)
        except (RedisError, OSError) as error:
            self.drop(disconnected(error))

    def _take(self, reply: Any) -> None:
        if self._on_message is not None and isinstance(reply, list) and reply and reply[0] == "message":
            self._on_message(reply[1], reply[2])
        else:
            self._answer(reply, None)

    def _answer(self, reply: Any, error: FluxError | None) -> None:
        if not self._waiting:
            self.drop(FluxError("the server answered what was not asked", "DISCONNECTED"))
            return
        future = self._waiting.popleft()
        if future.done():
            return
        if error is None:
            future.set_result(reply)
        else:
            future.set_exception(error)
