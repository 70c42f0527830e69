"""Calls to other peers. The caller chooses a call's id, so that after a cut it can ask what became of it:

    given --reply--> known --outcome--> ended
      connection back: FLUX.RESULT tells the outcome, that it still runs, or that the server has never heard of it

Whatever happens, a call ends once, by its deadline.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from . import check
from .errors import FluxError, is_unregistered, late, stopped
from .link import Link
from .model import Answer, to_json
from .wire import Argument
from .work import nesting

CHUNKS_MAX = 10_000
"""Chunks of a call that wait for a slow caller; past it the call is given up."""
GATHERING = 10.0
"""Peers come back to a restarted server one by one: for so many seconds a call waits for one that can take it."""
AGAIN = 0.1
"""How often it looks for one meanwhile, in seconds."""
GATHER_SLACK = 1.0
"""The answers of a gathered call come at its deadline, and a moment later for us, in seconds."""


@dataclass
class _Call:
    id: str
    words: tuple[Argument, ...]
    timeout: float
    retries: int
    deadline: float
    outcome: asyncio.Future[Any]
    keeps_chunks: bool
    is_given: bool = False
    is_known: bool = False
    is_again: bool = False
    attempt: int = 1
    turn: int = 0
    """How often it was given; what was asked about an earlier time says nothing of the last."""
    last_seq: int = 0
    chunks: deque[Any] = field(default_factory=deque)
    has_news: asyncio.Event = field(default_factory=asyncio.Event)


class Calls:
    """The calls of this peer that have not ended, over the link for commands."""

    def __init__(self, link: Link, timeout: float, spawn: Callable[[Any], Any]) -> None:
        self._link = link
        self._timeout = timeout
        self._spawn = spawn
        self._open: dict[str, _Call] = {}
        self._gathering_until = 0.0

    async def send(self, fn: str, payload: Any, on_chunk: Callable[[Any], Any] | None, timeout: float | None, **options: Any) -> Any:
        """Calls a capability; gives its result."""
        call = self._begin(fn, payload, timeout, on_chunk is not None, **options)
        try:
            if on_chunk is not None:
                async for chunk in _pieces(call):
                    done = on_chunk(chunk)
                    if isinstance(done, Awaitable):
                        await done
            result = await call.outcome
        finally:
            self._end(call)
        return [Answer.read(answer) for answer in result] if options.get("gather") is not None else result

    def chunks(self, fn: str, payload: Any, timeout: float | None, **options: Any) -> AsyncIterator[Any]:
        """Calls a capability; gives its chunks as they come. Leaving the loop cancels the call."""
        # What is wrong is said at once, not when the first chunk is asked for.
        if timeout is not None:
            check.timeout("timeout", timeout)
        _words(fn, payload, **options)
        return self._chunks(fn, payload, timeout, **options)

    async def _chunks(self, fn: str, payload: Any, timeout: float | None, **options: Any) -> AsyncIterator[Any]:
        call = self._begin(fn, payload, timeout, True, **options)
        try:
            async for chunk in _pieces(call):
                yield chunk
            await call.outcome
        finally:
            self._end(call)

    def message(self, message: dict[str, Any]) -> None:
        """A message on our channel of results: an outcome or a chunk."""
        call = self._open.get(str(message.get("jobId")))
        if call is None:
            return
        if "attempt" in message:
            # It is tried once more; a server that is restarted would not know.
            call.attempt, call.retries = int(message["attempt"]), int(message.get("retries", 0))
        elif "chunk" in message:
            self._chunk(call, message)
        elif message.get("ok"):
            _resolve(call, message.get("data"))
        elif "code" in message or not str(message.get("error")).startswith("retry "):
            # A peer of the old protocol tells of its retries this way, without a code.
            self._refused(call, FluxError(str(message.get("error")), message.get("code") or "FAILED"))

    def resume(self, is_restarted: bool = False) -> None:
        """There is a connection again: asks after each call that was given over the last one."""
        if is_restarted:
            self._gathering_until = time.monotonic() + GATHERING
        for call in self._open.values():
            if call.is_given:
                self._spawn(self._ask(call, is_restarted))
            else:
                self._give(call)

    def stop(self) -> None:
        for call in self._open.values():
            _reject(call, stopped())

    def _begin(self, fn: str, payload: Any, timeout: float | None, keeps_chunks: bool, **options: Any) -> _Call:
        loop = asyncio.get_running_loop()
        timeout = self._timeout if timeout is None else check.timeout("timeout", timeout)
        retries = options.get("retries")
        # What a handler calls ends by the handler's own deadline.
        within = nesting.get()
        left = timeout if within is None or within.is_over else min(timeout, max(0.0, within.until - time.monotonic()))
        call = _Call(
            str(uuid.uuid4()),
            _words(fn, payload, **options),
            left,
            1 if retries is None else retries,
            time.monotonic() + left,
            loop.create_future(),
            keeps_chunks,
        )
        slack = GATHER_SLACK if options.get("gather") is not None else 0
        timer = loop.call_later(left + slack, _reject, call, late(left))
        call.outcome.add_done_callback(lambda _: timer.cancel())
        call.outcome.add_done_callback(lambda _: call.has_news.set())
        self._open[call.id] = call
        self._give(call)
        return call

    def _end(self, call: _Call) -> None:
        del self._open[call.id]
        if call.outcome.done() and not call.outcome.cancelled():
            call.outcome.exception()  # Seen, also when nobody waits for it any more.
            return
        # The caller gave up before there was an outcome.
        call.outcome.cancel()
        if call.is_given and self._link.wire is not None:
            self._link.wire.call("FLUX.CANCEL", call.id).add_done_callback(_seen)

    def _chunk(self, call: _Call, message: dict[str, Any]) -> None:
        seq = message.get("seq") or call.last_seq + 1
        if seq <= call.last_seq:
            return
        # Counted also where nobody listens: a call that has sent chunks is never begun anew.
        call.last_seq = seq
        if not call.keeps_chunks:
            return
        if len(call.chunks) >= CHUNKS_MAX:
            _reject(call, FluxError(f"more than {CHUNKS_MAX} chunks were not read", "BUSY"))
            return
        call.chunks.append(message["chunk"])
        call.has_news.set()

    def _give(self, call: _Call) -> None:
        wire = self._link.wire
        if wire is None or call.outcome.done() or call.id not in self._open:
            return
        call.is_given, call.is_known, call.turn = True, False, call.turn + 1
        left = max(1, math.ceil((call.deadline - time.monotonic()) * 1000))
        again = ("ATTEMPT", call.attempt, "SEEN", call.last_seq) if call.is_again else ()
        reply = wire.call(*call.words, "TIMEOUT", left, "RETRIES", call.retries, "ID", call.id, *again, "ASYNC")
        reply.add_done_callback(lambda reply: self._given(call, reply))

    def _given(self, call: _Call, reply: asyncio.Future[Any]) -> None:
        error = None if reply.cancelled() else reply.exception()
        if error is None:
            call.is_known = True
        elif isinstance(error, FluxError):
            self._refused(call, error)

    async def _ask(self, call: _Call, is_restarted: bool) -> None:
        wire, turn = self._link.wire, call.turn
        if wire is None:
            return
        try:
            text = await wire.call("FLUX.RESULT", call.id)
        except FluxError as error:
            if call.is_given and call.turn == turn:
                self._lost(call, error, is_restarted)
            return
        call.is_known = True
        if text is not None:
            self.message(json.loads(text))

    def _lost(self, call: _Call, error: FluxError, is_restarted: bool) -> None:
        if error.code != "NOCALL":
            self._refused(call, error)
            return
        # Unless the same server never saw it, it may have run, or run still: giving it to a peer once more is a retry.
        call.is_again = call.is_again or call.is_known or is_restarted
        self._give(call)

    def _refused(self, call: _Call, error: FluxError) -> None:
        if error.code == "DISCONNECTED":
            return  # The next connection asks what became of it.
        wire = self._link.wire
        if is_unregistered(error) and wire is not None:
            call.is_given = False
            self._spawn(self._link.introduce_again(wire))
            return
        if error.code == "NOPEER" and time.monotonic() < self._gathering_until:
            call.is_given = False
            asyncio.get_running_loop().call_later(AGAIN, lambda: None if call.is_given else self._give(call))
            return
        _reject(call, late(call.timeout) if error.code == "TIMEOUT" else error)


async def _pieces(call: _Call) -> AsyncIterator[Any]:
    """The chunks of a call until it has an outcome."""
    while True:
        while call.chunks:
            yield call.chunks.popleft()
        if call.outcome.done():
            return
        call.has_news.clear()
        await call.has_news.wait()


def _resolve(call: _Call, result: Any) -> None:
    if not call.outcome.done():
        call.outcome.set_result(result)


def _reject(call: _Call, error: FluxError) -> None:
    if not call.outcome.done():
        call.outcome.set_exception(error)


def _seen(reply: asyncio.Future[Any]) -> None:
    if not reply.cancelled():
        reply.exception()


def _words(
    fn: str,
    payload: Any,
    *,
    to: str | None = None,
    priority: int | None = None,
    route: str | None = None,
    sticky: str | None = None,
    gather: int | bool | None = None,
    retries: int | None = None,
) -> tuple[Argument, ...]:
    """A call's command, but for what may differ when it is given once more."""
    for what, word in (("to", to), ("sticky", sticky), ("route", route)):
        check.text_or_none(what, word)
    if priority is not None:
        check.whole("priority", priority, -100, 100)
    if retries is not None:
        check.whole("retries", retries, 0, 1000)
    if gather is not None and not isinstance(gather, bool):
        check.whole("gather", gather, 0, check.COUNT_MAX)
    words: list[Argument] = ["FLUX.CALL", check.text("the capability", fn), to_json(payload)]
    if to is not None:
        words += ["TO", to]
    if priority is not None:
        words += ["PRIORITY", priority]
    if sticky is not None:
        words += ["ROUTE", "STICKY", sticky]
    elif route is not None:
        words += ["ROUTE", route.upper()]
    if gather is not None and gather is not False:
        words += ["GATHER", 0 if gather is True else gather]
    return tuple(words)
