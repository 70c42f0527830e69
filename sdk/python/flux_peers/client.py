"""A peer of flux: it offers capabilities, calls those of others, and shares workspaces, context and streams with them.

Three connections, each of which comes back by itself: one for commands, one for published messages, one on which it waits
for work. The server knows the peer by the first and the last.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import secrets
import time
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Iterable
from typing import Any, TypeVar, overload
from weakref import WeakValueDictionary

from . import check
from .calls import Calls
from .context import Context
from .errors import FluxError, disconnected, is_unregistered, stopped
from .link import Link
from .model import Description, Event, Peer, to_json
from .streams import Streams
from .wire import Argument, Wire, options_of
from .work import Capability, Handler, Work

HEARTBEAT = 3.0
"""How often the server is told that we live, in seconds, unless a shorter `ttl` needs it more often."""
LEAVE_TIMEOUT = 1.0
"""How long `stop` waits for the server to take the farewell, in seconds."""
EVENTS = ("peer:joined", "peer:left", "ctx:updated", "stream:data", "stream:end")
EVENTS_RUNNING_MAX = 10_000
"""Asynchronous listeners that run at once; past it events are dropped with a warning."""

SILENT = 2.0
"""After how many seconds without a server `start` says what is wrong, while it goes on trying."""

F = TypeVar("F", bound=Callable[..., Any])
log = logging.getLogger("flux_peers")


class Exposing:
    """A capability on its way to the server. Awaited, it is done when the server has taken it, and raises what the server says against it."""

    def __init__(self, task: asyncio.Task[None] | None) -> None:
        self._task = task

    def __await__(self) -> Generator[Any, None, None]:
        if self._task is not None:
            yield from asyncio.shield(self._task).__await__()


class Flux:
    """A peer. Times are in seconds.

    `url`: lux://, redis:// or rediss:// with host, port and password. `job_timeout`: how long a call may take, and how long
    anything waits for a lost connection. `ttl`: how long the server waits for a sign of life. `concurrency`: how many calls
    run here at once.
    """

    def __init__(
        self,
        url: str,
        name: str | None = None,
        job_timeout: float = 30.0,
        *,
        id: str | None = None,
        secret: str | None = None,
        ttl: float = 10.0,
        concurrency: int = 100,
        stop_timeout: float = 5.0,
    ) -> None:
        check.text("the url", url)
        for what, word in (("name", name), ("id", id), ("secret", secret)):
            check.text_or_none(what, word)
        check.timeout("job_timeout", job_timeout)
        check.seconds("ttl", ttl, 0, 3600)
        check.whole("concurrency", concurrency, 1, 1_000_000)
        check.seconds("stop_timeout", stop_timeout, 0, float("inf"))
        self.id = id or str(uuid.uuid4())
        self.name = name or self.id[:8]
        self.ctx = Context(self._command)
        self._options = options_of(url)
        self._secret = secret or secrets.token_urlsafe(24)
        self._job_timeout = job_timeout
        self._ttl = ttl
        self._places = concurrency
        self._stop_timeout = stop_timeout
        self._capabilities: dict[str, Capability] = {}
        # What the server is being asked to take, one after the other, so that its no is about one.
        self._proposed: Capability | None = None
        self._exposing = asyncio.Lock()
        # Names this object, and counts what it told the server of itself: so the server knows what it reads too late.
        self._teller = str(uuid.uuid4())
        self._told_count = 0
        self._telling = asyncio.Lock()
        # By workspace: who joins or leaves one has its lock.
        self._moving: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._listeners: dict[str, list[Callable[[Event], Any]]] = {type: [] for type in EVENTS}
        self._workspaces: set[str] = set()
        self._started_at = 0
        # The server's run: another one has forgotten the calls of the last.
        self._run_id: str | None = None
        self._state = "new"
        self._tasks: set[asyncio.Future[Any]] = set()
        self._links: list[Link] = []

    async def __aenter__(self) -> Flux:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @overload
    def expose(self, name: str, handler: None = None, schema: Any = None, description: str | None = None, retry: int = 0,
               concurrency: int | None = None) -> Callable[[F], F]: ...
    @overload
    def expose(self, name: str, handler: Handler, schema: Any = None, description: str | None = None, retry: int = 0,
               concurrency: int | None = None) -> Exposing: ...
    def expose(
        self,
        name: str,
        handler: Handler | None = None,
        schema: Any = None,
        description: str | None = None,
        retry: int = 0,
        concurrency: int | None = None,
    ) -> Any:
        """Offers a capability; before `start` or at any time after it. Without a handler it is a decorator.

        With a handler it gives what can be awaited: done when the server has taken the capability, and FluxError where the server
        refuses it, which is then as if it had not been offered. A decorator's refusal is logged.

        `schema` is the payload's JSON Schema, which the server checks. `description` is the docstring unless told. `retry`:
        how often a handler that raised is tried again. `concurrency`: how many calls of it may run here at once. A handler
        gets the payload, and a `Call` if it wants a second argument. Plain functions run in threads; what a generator yields
        is sent as chunks.
        """
        check.text("the name of a capability", name)
        check.text_or_none("description", description)
        check.whole("retry", retry, 0, check.COUNT_MAX)
        if concurrency is not None:
            check.whole("concurrency", concurrency, 0, check.COUNT_MAX)
        if schema is not None and not isinstance(schema, (dict, bool)):
            raise check.wrong_type("schema", "a dict or a bool", schema)
        to_json(schema)
        if handler is None:
            def decorate(function: F) -> F:
                self.expose(name, function, schema, description, retry, concurrency)
                return function

            return decorate
        check.function(f'the handler of "{name}"', handler)
        if description is None and (inspect.isfunction(handler) or inspect.ismethod(handler)):
            description = inspect.getdoc(handler)
        capability = Capability(name, handler, schema, description, retry, concurrency)
        if self._state != "started":
            self._capabilities[name] = capability
            return Exposing(None)
        task = asyncio.ensure_future(self._propose(capability))
        self._keep(task)
        return Exposing(task)

    async def start(self, timeout: float | None = 30.0) -> None:
        """Connects and registers. Waits for a server that is not there yet, for so many seconds (None: without an end), and logs
        what is wrong meanwhile.

        A peer that was stopped may start again; it is in no workspace then.
        """
        if timeout is not None:
            check.seconds("timeout", timeout, 0, float("inf"))
        if self._state not in ("new", "stopped"):
            raise FluxError(f"the peer is {self._state} already", "STATE")
        self._state = "started"
        self._started_at = int(time.time() * 1000)
        loop = asyncio.get_running_loop()
        self._is_up: asyncio.Future[None] = loop.create_future()
        self._connect()
        silent = loop.call_later(SILENT, self._say_why)
        try:
            await asyncio.wait_for(asyncio.shield(self._is_up), None if timeout == float("inf") else timeout)
        except BaseException as error:
            why = self._why()
            await self._close()
            if isinstance(error, asyncio.TimeoutError):
                raise FluxError(f"no server after {timeout} s: {why}", "TIMEOUT") from None
            raise
        finally:
            silent.cancel()
        self._spawn(self._beat())
        self._spawn(self._listen_beat())
        if self._capabilities:
            self._start_work()

    async def stop(self) -> None:
        """Lets running handlers end (for `stop_timeout` at most), leaves and closes."""
        if self._state != "started":
            return
        self._state = "stopping"
        if self._commands.wire is not None:
            await self._leave_quietly()
        await self._close()

    async def join(self, workspace: str) -> list[Peer]:
        """Joins a workspace; gives the peers that are in it."""
        check.text("the workspace", workspace)
        self._must_run()
        until = time.monotonic() + self._job_timeout
        async with self._turn(workspace):
            is_new = workspace not in self._workspaces
            self._workspaces.add(workspace)
            try:
                await self._events.call("SUBSCRIBE", _events_of(workspace), again=True, until=until)
                peers = await self._move("FLUX.JOIN", workspace, until)
            except BaseException:
                if is_new:
                    self._workspaces.discard(workspace)
                raise
        self._streams.catch_up([workspace])
        return [Peer.read(text) for text in peers]

    async def leave(self, workspace: str) -> None:
        check.text("the workspace", workspace)
        self._must_run()
        until = time.monotonic() + self._job_timeout
        async with self._turn(workspace):
            self._workspaces.discard(workspace)
            await self._move("FLUX.LEAVE", workspace, until)
            await self._events.call("UNSUBSCRIBE", _events_of(workspace), again=True, until=until)

    async def peers(self, workspace: str | None = None) -> list[Peer]:
        """The peers of a workspace, or all."""
        check.text_or_none("the workspace", workspace)
        which = [] if workspace is None else ["WORKSPACE", workspace]
        return [Peer.read(text) for text in await self._command("FLUX.PEERS", *which, again=True)]

    async def discover(self, capability: str) -> list[Peer]:
        """The peers that have a capability."""
        return [Peer.read(text) for text in await self._command("FLUX.PEERS", "CAPABILITY", check.text("the capability", capability), again=True)]

    async def describe(self, capability: str) -> Description:
        """What a capability is, who has it, and how busy they are."""
        return Description.read(await self._command("FLUX.DESCRIBE", check.text("the capability", capability), again=True))

    async def send(
        self,
        fn: str,
        payload: Any = None,
        timeout: float | None = None,
        *,
        priority: int | None = None,
        retries: int | None = None,
        to: str | None = None,
        sticky: str | None = None,
        route: str | None = None,
        gather: int | bool | None = None,
        on_chunk: Callable[[Any], Any] | None = None,
    ) -> Any:
        """Calls a capability of whichever peer the server picks; gives its result, or raises FluxError.

        `to`: this peer and no other. `route`: "least-loaded" or "round-robin"; `sticky`: the same key goes to the same peer.
        `retries`: how often a call whose peer died is given to another. `gather`: call all peers, or stop after so many
        answers; gives a list of `Answer`. `on_chunk` gets what the handler sends on the way.
        """
        self._must_run()
        if on_chunk is not None:
            check.function("on_chunk", on_chunk)
        options = {"priority": priority, "retries": retries, "to": to, "sticky": sticky, "route": route}
        gathering = None if gather is False else gather
        return await self._calls.send(fn, payload, on_chunk, timeout, gather=gathering, **options)

    def chunks(self, fn: str, payload: Any = None, timeout: float | None = None, **options: Any) -> AsyncIterator[Any]:
        """Calls a capability and gives its chunks as they come; options as for `send`. Leaving the loop cancels the call."""
        self._must_run()
        return self._calls.chunks(fn, payload, timeout, **options)

    async def stream(self, workspace: str, key: str, chunks: AsyncIterable[Any] | Iterable[Any]) -> int:
        """Streams what an iterable gives to the workspace; gives the number of the last chunk."""
        check.text("the workspace", workspace)
        check.text("the key", key)
        if not isinstance(chunks, (AsyncIterable, Iterable)):
            raise check.wrong_type("what is streamed", "iterable", chunks)
        self._must_run()
        return await self._streams.write(workspace, key, chunks)

    def on_stream(
        self,
        peer_id: str,
        key: str,
        handler: Callable[..., Any],
        on_end: Callable[..., Any] | None = None,
    ) -> Callable[[], None]:
        """Follows a peer's stream in the workspaces we are in, from the first chunk that is kept; gives a function that ends it.

        The handler gets each chunk once and in order, and a `Chunk` if it wants a second argument, which tells what was
        missed. A coroutine is waited for before the next chunk. `on_end` gets an `End`, if it wants an argument: whether the stream broke off.
        """
        check.text("the peer's id", peer_id)
        check.text("the key", key)
        check.function("the handler", handler)
        if on_end is not None:
            check.function("on_end", on_end)
        self._must_run()
        return self._streams.follow(peer_id, key, handler, on_end)

    @overload
    def on(self, type: str, listener: None = None) -> Callable[[F], F]: ...
    @overload
    def on(self, type: str, listener: F) -> F: ...
    def on(self, type: str, listener: Any = None) -> Any:
        """Listens to one of `EVENTS`; without a listener it is a decorator. Listeners may be coroutines."""
        if check.text("the event", type) not in self._listeners:
            raise FluxError(f'there is no event "{type}", only {", ".join(EVENTS)}', "INVALID")
        if listener is None:
            return lambda function: self.on(type, function)
        check.function("the listener", listener)
        self._listeners[type].append(listener)
        return listener

    def off(self, type: str, listener: Callable[[Event], Any]) -> None:
        if listener in self._listeners.get(check.text("the event", type), []):
            self._listeners[type].remove(listener)

    def _turn(self, workspace: str) -> asyncio.Lock:
        """Joining and leaving a workspace are done in the order in which they were asked for. Whoever waits for another's turn waits no
        longer than for a connection of its own."""
        return self._moving.setdefault(workspace, asyncio.Lock())

    async def _move(self, command: str, workspace: str, until: float) -> Any:
        self._must_run()
        return await self._commands.call(command, workspace, again=True, until=until, also=self._after)

    def _after(self) -> list[Argument]:
        """Says after which of our registrations something is told: a connection that was given up may be read late."""
        return ["GENERATION", self._teller, self._told_count]

    async def _command(self, *args: Any, again: bool = False) -> Any:
        self._must_run()
        return await self._commands.call(*args, again=again)

    def _must_run(self) -> None:
        if self._state == "new":
            raise FluxError("the peer is not started: await start() first", "STATE")
        if self._state == "stopped":
            raise stopped()

    def _connect(self) -> None:
        patience = self._job_timeout
        self._events = Link("event", self._options, self._subscribe, patience=patience, on_up=self._heard, on_refused=self._refused,
                            on_message=self._message)
        self._commands = Link("command", self._options, self._greet, patience=patience, on_up=self._up, on_refused=self._refused)
        self._links = [self._events, self._commands]
        self._calls = Calls(self._commands, self._job_timeout, self._spawn)
        self._streams = Streams(self.id, self._command, self._workspaces)
        self._work: Work | None = None
        self._work_link: Link | None = None

    async def _greet(self, wire: Wire) -> None:
        # Before anyone can answer us or call us we must hear it.
        if not self._is_up.done():
            await self._events.ready(time.monotonic() + self._job_timeout)
        reply = await self._tell(wire)
        run_id = dict(zip(reply[::2], reply[1::2])).get("server")
        self._is_restarted = self._run_id not in (None, run_id)
        self._run_id = run_id

    async def _tell(self, wire: Wire, proposed: Capability | None = None) -> list[Any]:
        """Tells the server what we are, with one more capability if one is `proposed`. Over the connection for commands, and one
        after the other: what is told next has what the server has taken."""
        async with self._telling:
            self._told_count += 1
            reply = await self._register(wire, self._told(proposed), self._told_count)
            if proposed is not None:
                self._capabilities[proposed.name] = proposed
            return reply

    async def _register(self, wire: Wire, told: str, generation: int, running: list[str] | None = None) -> list[Any]:
        """`running` are the calls that we still have, said on a new connection for work."""
        words = ["FLUX.REGISTER", told, "SECRET", self._secret, "TTL", round(self._ttl * 1000), "GENERATION", self._teller, generation]
        if running is not None:
            words += ["RUNNING", len(running), *running]
        try:
            reply = await wire.call(*words)
        except FluxError as error:
            if error.code == "ERR" and "unknown command" in str(error).lower():
                raise FluxError("the server is not flux: it has no FLUX.REGISTER", "INVALID") from None
            raise
        return list(reply)

    def _told(self, proposed: Capability | None) -> str:
        # A peer that is being stopped ends what it runs, and takes no more.
        offers = {} if self._state == "stopping" else dict(self._capabilities)
        if proposed is not None:
            offers[proposed.name] = proposed
        capabilities = [capability.told() for capability in offers.values()]
        peer = {"id": self.id, "name": self.name, "capabilities": capabilities, "workspaces": sorted(self._workspaces)}
        return to_json({**peer, "startedAt": self._started_at})

    async def _announce(self) -> None:
        """Tells the server what has changed about us."""
        wire = self._commands.wire
        if wire is not None:
            await self._tell(wire)

    async def _propose(self, capability: Capability) -> None:
        """Has the server take a capability; what it refuses is as if it had not been offered."""
        async with self._exposing:
            self._proposed = capability
            try:
                until = time.monotonic() + self._job_timeout
                while True:
                    try:
                        await self._tell(await self._commands.ready(until), capability)
                        break
                    except FluxError as error:
                        # After a cut it is asked again: until there is a connection, or patience ends.
                        if error.code != "DISCONNECTED" or time.monotonic() >= until:
                            raise
            except FluxError as error:
                log.warning("the capability %r is not offered: %s", capability.name, error)
                raise
            finally:
                self._proposed = None
        if self._state == "started":
            self._start_work()

    def _find(self, name: str) -> Capability | None:
        proposed = self._proposed
        return proposed if proposed is not None and proposed.name == name else self._capabilities.get(name)

    async def _subscribe(self, wire: Wire) -> None:
        channels = [f"flux:res:{self.id}", f"flux:cancel:{self.id}", *map(_events_of, self._workspaces)]
        await asyncio.gather(*[wire.call("SUBSCRIBE", channel) for channel in channels])

    def _up(self) -> None:
        if not self._is_up.done():
            self._is_up.set_result(None)
        self._calls.resume(self._is_restarted)
        self._streams.catch_up()

    def _heard(self) -> None:
        """Messages come again; what was published meanwhile is asked for."""
        if self._commands.wire is not None:
            self._calls.resume()
            self._streams.catch_up()

    def _why(self) -> str:
        """Why there is no connection."""
        errors = [link.last_error for link in self._links if link.last_error is not None]
        return str(errors[0]) if errors else "no answer"

    def _say_why(self) -> None:
        log.warning("flux: %s; still trying", self._why())

    def _refused(self, error: FluxError) -> None:
        if not self._is_up.done():
            self._is_up.set_exception(error)

    def _start_work(self) -> None:
        if self._work is not None:
            return
        work = self._work = Work(self._find, self._places, self._commands)

        async def greet(wire: Wire) -> None:
            work.client_id = int(await wire.call("CLIENT", "ID"))
            # The oldest news: the server may read it after what the other connection told.
            await self._register(wire, self._told(None), 0, work.held)
            work.turn += 1

        self._work_link = Link("work", self._options, greet, patience=self._job_timeout)
        self._links.append(self._work_link)
        work.start(self._work_link)

    async def _beat(self) -> None:
        pause = min(HEARTBEAT, self._ttl / 3)
        while True:
            await asyncio.sleep(pause)
            wire = self._commands.wire
            if wire is None:
                continue
            error = await _answered(wire, "FLUX.HEARTBEAT", 2 * pause)
            if error is None:
                continue
            if is_unregistered(error):
                await self._commands.introduce_again(wire)
            else:
                # A connection that is dead without knowing it; the others will be as dead.
                for link in self._links:
                    link.reset(error)

    async def _listen_beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT)
            if self._events.wire is not None:
                await _answered(self._events.wire, "PING", 2 * HEARTBEAT)

    def _message(self, channel: str, text: str) -> None:
        if channel == f"flux:cancel:{self.id}":
            if self._work is not None:
                self._work.cancel(text.partition(" ")[0])  # Why may follow.
            return
        # A message anyone may have published: only an object is one.
        try:
            message = json.loads(text)
        except ValueError:
            return
        if not isinstance(message, dict):
            return
        if channel == f"flux:res:{self.id}":
            self._calls.message(message)
        elif message.get("peerId") != self.id and message.get("workspace") in self._workspaces:
            self._event(Event.read(message))

    def _event(self, event: Event) -> None:
        if event.type.startswith("stream:"):
            self._streams.event(event)
        for listener in list(self._listeners.get(event.type, [])):
            try:
                result = listener(event)
                if isinstance(result, Awaitable):
                    self._run_listener(result)
            except Exception:
                log.exception("a listener of %s raised", event.type)

    def _run_listener(self, result: Awaitable[Any]) -> None:
        if len(self._tasks) < EVENTS_RUNNING_MAX:
            self._spawn(result)
        else:
            log.warning("an event was dropped: %d listeners still run", len(self._tasks))
            if hasattr(result, "close"):
                result.close()

    def _spawn(self, awaitable: Awaitable[Any]) -> None:
        task = asyncio.ensure_future(awaitable)
        self._tasks.add(task)
        task.add_done_callback(self._spawned_ended)

    def _keep(self, task: asyncio.Future[Any]) -> None:
        """Keeps a task whose errors are told elsewhere."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda task: task.cancelled() or task.exception())

    def _spawned_ended(self, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("something that ran beside raised", exc_info=error)

    async def _leave_quietly(self) -> None:
        try:
            if self._work is not None:
                if self._work.running:
                    # Calls that come from here on go to others.
                    await asyncio.wait_for(self._announce(), LEAVE_TIMEOUT)
                await self._work.drain(self._stop_timeout)
            # Its own calls end now: the server tells of a peer's leaving that they were cancelled.
            self._calls.stop()
            if self._commands.wire is not None:
                await asyncio.wait_for(self._commands.wire.call("FLUX.LEAVE", *self._after()), LEAVE_TIMEOUT)
        except (FluxError, asyncio.TimeoutError) as error:
            log.info("left without a farewell: %s", error)

    async def _close(self) -> None:
        self._state = "stopped"
        self._run_id = None
        self._workspaces.clear()
        self._calls.stop()
        self._streams.stop()
        if self._work is not None:
            await self._work.close()
        current = asyncio.current_task()
        for task in list(self._tasks):
            if task is not current:
                task.cancel()
        await asyncio.gather(*(link.close() for link in self._links))


async def _answered(wire: Wire, command: str, timeout: float) -> FluxError | None:
    """Asks for a sign of life; ends a connection on which none comes. Gives what is wrong, unless the connection is lost."""
    try:
        await asyncio.wait_for(wire.call(command), timeout)
    except asyncio.TimeoutError:
        error = disconnected("the server does not answer")
    except FluxError as refused:
        return None if refused.code == "DISCONNECTED" else refused
    else:
        return None
    wire.drop(error)
    return error


def _events_of(workspace: str) -> str:
    return f"flux:ws:{workspace}:events"
