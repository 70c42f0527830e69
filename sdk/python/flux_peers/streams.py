"""Streams of text chunks: sending one, and following another peer's.

The server keeps the last chunks of each, numbered from 1, so a follower that comes late, is slow or was cut off reads what
it has not seen. A live event is taken as it is when it is the very next chunk; otherwise it only says that there is something
to read.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from .errors import FluxError
from .model import Event, to_text
from .work import takes_one, takes_two

READ_MAX = 256
"""Chunks read at once when catching up."""
INBOX_MAX = 1000
"""Live chunks that wait for a slow handler; past it they are read from the server afterwards."""
LOOKS_MAX = 6
LOOK_EVERY = 0.01
"""The server numbers the chunks of old peers a moment after they were published: how often it is asked for them, and for
how many seconds it rests after the first time; then twice as long each time."""

log = logging.getLogger("flux_peers")


@dataclass(frozen=True)
class Chunk:
    """What is known of a chunk. `missed`: how many before it were no longer kept when they were asked for."""

    seq: int
    missed: int
    workspace: str


@dataclass(frozen=True)
class End:
    """How a stream ended. `error`: it broke off, since its source raised; None at its proper end."""

    workspace: str
    error: FluxError | None


@dataclass(frozen=True)
class Kept:
    """What the server keeps of a stream, from some chunk on; `first` is the oldest of all."""

    first: int
    last: int
    is_ended: bool
    chunks: list[tuple[int, str]]
    error: str | None = None

    @classmethod
    def read(cls, reply: list[Any] | None) -> Kept:
        found = dict(zip(reply[::2], reply[1::2])) if reply else {}
        chunks = [(int(seq), chunk) for seq, chunk in found.get("chunks") or []]
        is_ended = found.get("ended") in (1, "1", "true", True)
        return cls(int(found.get("first", 0)), int(found.get("last", 0)), is_ended, chunks, found.get("error"))


class Reader:
    """Follows one stream in one workspace: every chunk once, in order. `read(next)` asks the server."""

    def __init__(
        self,
        workspace: str,
        read: Callable[[int], Awaitable[Kept]],
        handler: Callable[..., Any],
        on_end: Callable[..., Any] | None,
    ) -> None:
        self.next = 1
        self._workspace = workspace
        self._read = read
        self._handler = handler
        self._wants_about = takes_two(handler)
        self._on_end = on_end
        self._inbox: deque[tuple[int, str]] = deque()
        self._looks = 0
        self._rest = LOOK_EVERY
        self._missed = 0
        self._is_ended = False
        self._opening: str | None = None
        self._has_news = asyncio.Event()

    def live(self, seq: int | None, data: str) -> None:
        """A chunk was published."""
        if seq is None or len(self._inbox) >= INBOX_MAX:
            self.look(LOOKS_MAX if seq is None else 1)
        else:
            self._inbox.append((seq, data))
            self._has_news.set()

    def look(self, times: int = 1) -> None:
        """There may be something to read."""
        self._looks, self._rest = max(self._looks, times), LOOK_EVERY
        self._has_news.set()

    async def run(self) -> None:
        while True:
            await self._has_news.wait()
            self._has_news.clear()
            try:
                while self._inbox or self._looks:
                    await self._step()
            except FluxError:
                self._looks = 0  # There is no connection; with the next one we are told to look.

    async def _step(self) -> None:
        if self._inbox and self._is_ended and self._inbox[0][0] == 1 and self._inbox[0][1] != self._opening:
            # It begins otherwise than the one that ended: it is another one under the same name.
            self.next, self._is_ended = 1, False
        if self._inbox and self._inbox[0][0] == self.next:
            await self._deliver(self._inbox.popleft())
        elif self._inbox and self._inbox[0][0] < self.next and not (self._is_ended and self._inbox[0][0] == 1):
            self._inbox.popleft()
        else:
            await self._look_once()

    async def _look_once(self) -> None:
        """Reads what comes next, for a gap before a live chunk or because someone said so."""
        self._looks = max(self._looks - 1, 0)
        if await self._read_on():
            self.look()
        elif self._inbox:
            self._skip_to_inbox()
        elif self._looks:
            await asyncio.sleep(self._rest)
            self._rest *= 2

    def _skip_to_inbox(self) -> None:
        """The server has nothing before the oldest live chunk."""
        seq = self._inbox[0][0]
        if seq < self.next:
            self._inbox.popleft()
        else:
            self._missed += seq - self.next
            self.next = seq

    async def _read_on(self) -> bool:
        """Reads and hands over one batch; tells whether there may be more."""
        kept = await self._read(self.next)
        # The numbers began again: the stream is another one under the same name.
        if kept.last < self.next - 1 or (self._is_ended and not kept.is_ended and 0 < kept.last < self.next):
            self.next, self._is_ended = 1, False
            return kept.last > 0
        # Nothing is left of what came next: it is too old.
        if kept.first > self.next:
            self._missed += kept.first - self.next
            self.next = kept.first
        for chunk in kept.chunks:
            await self._deliver(chunk)
        if kept.is_ended and self.next > kept.last and not self._is_ended:
            self._is_ended = True
            await self._end(kept.error)
        return bool(kept.chunks)

    async def _deliver(self, chunk: tuple[int, str]) -> None:
        seq, data = chunk
        if seq < self.next:
            return
        about = Chunk(seq, self._missed + seq - self.next, self._workspace)
        self.next, self._missed, self._is_ended = seq + 1, 0, False
        if seq == 1:
            self._opening = data
        args = (data, about) if self._wants_about else (data,)
        if about.missed and not self._wants_about:
            log.warning("%d chunks of a stream in %r were no longer kept", about.missed, self._workspace)
        await _run(self._handler, *args)

    async def _end(self, error: str | None) -> None:
        end = End(self._workspace, None if error is None else FluxError(error, "FAILED"))
        if self._on_end is not None:
            await _run(self._on_end, *([end] if takes_one(self._on_end) else []))
        elif error is not None:
            log.warning("a stream in %r broke off: %s", self._workspace, error)


async def _run(function: Callable[..., Any], *args: Any) -> None:
    """Calls a program's own function; what it raises is reported and disturbs nothing of ours."""
    try:
        result = function(*args)
        if isinstance(result, Awaitable):
            await result
    except Exception:
        log.exception("a handler of a stream raised")


@dataclass
class _Follower:
    peer_id: str
    key: str
    handler: Callable[..., Any]
    on_end: Callable[..., Any] | None
    readers: dict[str, tuple[Reader, asyncio.Task[None]]]

    def stop(self) -> None:
        for _, task in self.readers.values():
            task.cancel()
        self.readers.clear()


class Streams:
    """The streams that this peer sends and follows. `call` sends a command, `workspaces` are those it is in."""

    def __init__(self, peer_id: str, call: Callable[..., Awaitable[Any]], workspaces: set[str]) -> None:
        self._peer_id = peer_id
        self._call = call
        self._workspaces = workspaces
        self._followers: list[_Follower] = []

    async def write(self, workspace: str, key: str, chunks: AsyncIterable[Any] | Iterable[Any]) -> int:
        """Sends what an iterable gives, each chunk as soon as it is there; gives the number of the last."""
        # What we streamed under this name before is numbered already.
        last = (await self._read(workspace, self._peer_id, key, 1, 1)).last
        try:
            async for chunk in _each(chunks):
                last = await self._push(workspace, key, to_text(chunk), last)
        except BaseException as error:
            # Readers must not take what came for the whole.
            try:
                await self._call("FLUX.STREAM.END", workspace, key, "ERROR", str(error) or type(error).__name__, again=True)
            except FluxError:
                pass  # What the source raised says more.
            raise
        await self._call("FLUX.STREAM.END", workspace, key, again=True)
        return last

    async def _push(self, workspace: str, key: str, chunk: str, last: int) -> int:
        """After a cut it asks whether the chunk arrived: only we write this stream."""
        while True:
            try:
                return int(await self._call("FLUX.STREAM.PUSH", workspace, key, chunk))
            except FluxError as error:
                if error.code != "DISCONNECTED":
                    raise
            kept = await self._read(workspace, self._peer_id, key, last + 1, 1)
            if kept.last > last:
                return kept.last

    def follow(self, peer_id: str, key: str, handler: Callable[..., Any], on_end: Callable[..., Any] | None) -> Callable[[], None]:
        """Calls the handler for each chunk; gives a function that ends it."""
        follower = _Follower(peer_id, key, handler, on_end, {})
        self._followers.append(follower)
        for workspace in self._workspaces:
            self._reader(follower, workspace).look()

        def end() -> None:
            follower.stop()
            if follower in self._followers:
                self._followers.remove(follower)

        return end

    def event(self, event: Event) -> None:
        """Someone else's stream:data or stream:end."""
        for follower in self._followers:
            if (follower.peer_id, follower.key) != (event.peer_id, event.key):
                continue
            reader = self._reader(follower, event.workspace)
            if event.type == "stream:data":
                reader.live(event.seq, event.data if isinstance(event.data, str) else to_text(event.data))
            else:
                # An old peer's end is noted a moment after it was published, as its chunks are.
                reader.look(LOOKS_MAX if event.seq is None else 1)

    def catch_up(self, workspaces: Iterable[str] | None = None) -> None:
        """Reads what was missed: there is a connection again, or we have joined a workspace."""
        for workspace in self._workspaces if workspaces is None else workspaces:
            for follower in self._followers:
                self._reader(follower, workspace).look()

    def stop(self) -> None:
        for follower in self._followers:
            follower.stop()
        self._followers.clear()

    def _reader(self, follower: _Follower, workspace: str) -> Reader:
        if workspace not in follower.readers:

            async def read(seq: int) -> Kept:
                return await self._read(workspace, follower.peer_id, follower.key, seq, READ_MAX)

            reader = Reader(workspace, read, follower.handler, follower.on_end)
            follower.readers[workspace] = (reader, asyncio.create_task(reader.run()))
        return follower.readers[workspace][0]

    async def _read(self, workspace: str, peer_id: str, key: str, seq: int, count: int) -> Kept:
        words = ("FLUX.STREAM.READ", workspace, peer_id, key, "FROM", seq, "COUNT", count)
        return Kept.read(await self._call(*words, again=True))


async def _each(chunks: AsyncIterable[Any] | Iterable[Any]) -> Any:
    if isinstance(chunks, AsyncIterable):
        async for chunk in chunks:
            yield chunk
    else:
        for chunk in chunks:
            yield chunk
