"""Taking work: asks for as many calls as there are free places, runs their handlers, replies.

    asked --calls--> running --handler ends--> replied, and asked for more
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import json
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from .errors import FluxError, is_unregistered
from .link import Link
from .model import to_json
from .wire import end

WAIT = 30.0
"""How long the server lets us wait for work before it says that there is none, in seconds."""
WAIT_SLACK = 10.0
"""How much longer than that it may take before the connection counts as dead, in seconds."""
UNBLOCK_EVERY = 0.05
COUNT_MAX = 1000
"""Calls asked for at once: the server gives no more."""

ABANDONED_MAX = 1000
"""Plain functions that may still run in their threads after nobody waits for them any more: a thread cannot be ended."""

Handler = Callable[..., Any]
nesting: contextvars.ContextVar[Call | None] = contextvars.ContextVar("flux_peers_call", default=None)
"""The call whose handler runs: calls that it makes end with it."""
log = logging.getLogger("flux_peers")


@dataclass(frozen=True)
class Capability:
    """What a peer offers: a handler, and what others should know about it."""

    name: str
    handler: Handler
    schema: Any = None
    description: str | None = None
    retry: int = 0
    concurrency: int | None = None

    def told(self) -> dict[str, Any]:
        """As the server gets it."""
        facts = {
            "name": self.name,
            "description": self.description,
            "schema": self.schema,
            "retry": self.retry or None,
            "concurrency": self.concurrency,
        }
        return {name: fact for name, fact in facts.items() if fact is not None}


class Call:
    """A call as its handler sees it: the optional second argument of a handler.

    `attempt` counts from 1. `deadline` is a time of `time.time()`. `cancelled` is set when the caller gave up or the deadline
    has come; a coroutine gets asyncio.CancelledError as well, a plain function has to look.
    """

    def __init__(self, id: str, fn: str, caller: str, attempt: int, left: float, work: Work) -> None:
        self.id = id
        self.fn = fn
        self.caller = caller
        self.attempt = attempt
        self.deadline = time.time() + left
        self.until = time.monotonic() + left
        """The deadline by a clock that only goes forward: the other may be set meanwhile."""
        self.cancelled = threading.Event()
        self.is_over = False
        """Its handler has ended: what it left behind is not bound by its deadline."""
        self._work = work

    async def chunk(self, data: Any) -> None:
        """Sends part of the result to the caller; done when the server has it."""
        await self._work.send_chunk(self, data)

    def chunk_from_thread(self, data: Any) -> None:
        """The same for a plain function, which runs in a thread; waits until the server has it."""
        asyncio.run_coroutine_threadsafe(self.chunk(data), self._work.loop).result()


class Work:
    """Runs the handlers of a peer. `commands` is the link for everything."""

    def __init__(self, find: Callable[[str], Capability | None], places: int, commands: Link) -> None:
        self.loop = asyncio.get_running_loop()
        self.client_id: int | None = None
        self.turn = 0
        """Connections for work so far."""
        self._link: Link | None = None
        self._find = find
        self._places = places
        self._commands = commands
        self._running: dict[str, tuple[asyncio.Task[None], Call]] = {}
        # Told that nobody waits for them, and not ended yet.
        self._abandoned: set[asyncio.Task[None]] = set()
        self._threads_busy = 0
        self._threads_lock = threading.Lock()
        self._threads = ThreadPoolExecutor(max_workers=places + ABANDONED_MAX, thread_name_prefix="flux-peers")
        self._has_place = asyncio.Event()
        self._has_place.set()
        self._is_idle = asyncio.Event()
        self._is_idle.set()
        self._is_stopping = False
        self._asking: asyncio.Task[None] | None = None

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def held(self) -> list[str]:
        """The calls that the server need not give again, since we have them."""
        return list(self._running)

    def start(self, link: Link) -> None:
        self._link = link
        self._asking = asyncio.create_task(self._ask(link))

    def cancel(self, id: str) -> None:
        """The caller gave up, the deadline has come, or the call went to someone else."""
        if id in self._running:
            task, call = self._running.pop(id)
            call.cancelled.set()
            task.cancel()
            # Its place is free, however long it goes on.
            self._abandoned.add(task)
            self._place_is_free()

    async def drain(self, timeout: float) -> None:
        """Takes no more work; lets what runs end, for `timeout` seconds at most."""
        self._is_stopping = True
        self._has_place.set()
        await self._stop_asking()
        try:
            await asyncio.wait_for(self._is_idle.wait(), timeout)
        except asyncio.TimeoutError:
            log.warning("%d calls still ran when the peer was stopped", self.running)

    async def close(self) -> None:
        """Ends all that runs."""
        self._is_stopping = True
        for id in list(self._running):
            self.cancel(id)
        await end([*self._abandoned, *([self._asking] if self._asking else [])])
        self._threads.shutdown(wait=False)

    async def send_chunk(self, call: Call, data: Any) -> None:
        try:
            await self._commands.call("FLUX.REPLY", call.id, "CHUNK", to_json(data), again=True)
        except FluxError as error:
            if error.code == "NOCALL":
                self.cancel(call.id)
            raise

    async def _stop_asking(self) -> None:
        # Again and again, since the server may not have begun to wait when it is told to end it.
        while self._asking and not self._asking.done() and self._commands.wire and self.client_id is not None:
            try:
                await self._commands.wire.call("CLIENT", "UNBLOCK", self.client_id)
            except FluxError:
                return
            await asyncio.wait([self._asking], timeout=UNBLOCK_EVERY)

    async def _ask(self, link: Link) -> None:
        while not self._is_stopping:
            await self._has_place.wait()
            wire = await link.ready(float("inf"))
            places = min(self._places - self.running, COUNT_MAX)
            if places <= 0 or self._is_stopping:
                self._has_place.clear()
                continue
            try:
                asked = wire.call("FLUX.NEXT", "COUNT", places, "TIMEOUT", int(WAIT * 1000))
                jobs = await asyncio.wait_for(asked, WAIT + WAIT_SLACK)
            except asyncio.TimeoutError:
                wire.drop(FluxError("the server does not answer", "DISCONNECTED"))
            except FluxError as error:
                if is_unregistered(error):
                    await link.introduce_again(wire)
                else:
                    wire.drop(error)
            else:
                for job in jobs or []:
                    self._start(*job)

    def _start(self, id: str, fn: str, payload: str, caller: str, left_ms: Any, attempt: Any) -> None:
        left = int(left_ms) / 1000
        call = Call(id, fn, caller, int(attempt), left, self)
        self.cancel(id)  # Given once more after all: what the first try gives is not taken any more.
        task = asyncio.create_task(self._run(call, payload))
        self._running[id] = (task, call)
        self._is_idle.clear()
        timer = self.loop.call_later(left, self.cancel, id)
        task.add_done_callback(lambda _: self._ended(id, task, timer))

    def _ended(self, id: str, task: asyncio.Task[None], timer: asyncio.TimerHandle) -> None:
        timer.cancel()
        self._abandoned.discard(task)
        if id in self._running and self._running[id][0] is task:
            del self._running[id]
            self._place_is_free()

    def _place_is_free(self) -> None:
        self._has_place.set()
        if not self._running:
            self._is_idle.set()

    async def _run(self, call: Call, payload: str) -> None:
        nesting.set(call)
        turn = self.turn
        try:
            outcome = ("OK", to_json(await self._result(call, json.loads(payload))))
        except asyncio.CancelledError:
            if call.cancelled.is_set():
                return  # Nobody waits for it any more.
            outcome = ("ERROR", "the handler was cancelled")
        except Exception as error:
            if not isinstance(error, FluxError):
                log.exception("the handler of %r raised", call.fn)
            outcome = ("ERROR", str(error) or type(error).__name__)
        finally:
            call.is_over = True
        try:
            await self._tell(call, outcome, turn)
        except FluxError as error:
            # NOCALL: the call has ended without us.
            if error.code not in ("NOCALL", "STOPPED"):
                await self._reply_failed(call, error)

    async def _tell(self, call: Call, outcome: tuple[str, str], turn: int) -> None:
        try:
            await self._commands.call("FLUX.REPLY", call.id, *outcome, again=True)
        except FluxError as error:
            link = self._link
            if error.code != "NOCALL" or link is None or (turn == self.turn and link.wire is not None):
                raise
            # A server that was restarted knows of the call once we have named it, over a new connection for work.
            await link.ready(call.until)
            await self._commands.call("FLUX.REPLY", call.id, *outcome, again=True)

    async def _reply_failed(self, call: Call, error: FluxError) -> None:
        log.error("the result of %r was not taken: %s", call.fn, error)
        try:
            await self._commands.call("FLUX.REPLY", call.id, "ERROR", f"the result was not taken: {error}", again=True)
        except FluxError:
            pass  # The caller's deadline ends it.

    async def _result(self, call: Call, payload: Any) -> Any:
        capability = self._find(call.fn)
        if capability is None:
            raise FluxError(f'this peer has no handler for "{call.fn}"')
        handler = capability.handler
        args = (payload, call) if takes_two(handler) else (payload,)
        if is_async(handler):
            result = handler(*args)
        else:
            result = await self._in_thread(call, handler, *args)
        if inspect.isasyncgen(result):
            async for part in result:
                await call.chunk(part)
            return None
        return await result if isinstance(result, Awaitable) else result

    async def _in_thread(self, call: Call, handler: Handler, *args: Any) -> Any:
        def run() -> Any:
            result = handler(*args)
            return _send_parts(call, result) if isinstance(result, Generator) else result

        if self._threads_busy >= self._places + ABANDONED_MAX:
            raise FluxError(f"{ABANDONED_MAX} handlers of this peer still run though nobody waits for them", "BUSY")
        # Counted here, not when the thread begins: the next of a burst is looked at before.
        self._count_threads(1)
        thread = self._threads.submit(contextvars.copy_context().run, run)
        thread.add_done_callback(lambda _: self._count_threads(-1))
        return await asyncio.wrap_future(thread)

    def _count_threads(self, more: int) -> None:
        with self._threads_lock:
            self._threads_busy += more


def _send_parts(call: Call, parts: Generator[Any, None, Any]) -> Any:
    """Sends what a generator yields as chunks; its result is what it returns."""
    while not call.cancelled.is_set():
        try:
            part = next(parts)
        except StopIteration as end:
            return end.value
        call.chunk_from_thread(part)
    parts.close()
    return None


def is_async(function: Handler) -> bool:
    """Whether calling it gives a coroutine or an async generator, so that it needs no thread."""
    kinds = (inspect.iscoroutinefunction, inspect.isasyncgenfunction)
    while isinstance(function, functools.partial):
        function = function.func
    return any(kind(function) or kind(getattr(function, "__call__", None)) for kind in kinds)


def takes_two(function: Handler) -> bool:
    """Whether it wants a second argument: what it is told besides the first. One with a default value is its own affair."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False  # A builtin that does not tell.
    return _needed(parameters) >= 2


def takes_one(function: Handler) -> bool:
    """Whether it wants an argument."""
    try:
        return _needed(inspect.signature(function).parameters.values()) >= 1
    except (TypeError, ValueError):
        return False


def _needed(parameters: Iterable[inspect.Parameter]) -> int:
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) and p.default is p.empty for p in parameters)
