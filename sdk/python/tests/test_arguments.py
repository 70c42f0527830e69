"""What programs hand over by mistake: an error of that call, and nothing else comes of it."""

import asyncio
import math
import unittest

from base import ServerTest
from flux_peers import Flux, FluxError
from servers import until

WRONG = (None, 5, 1.5, b"bytes", [], {}, object(), True)
CIRCULAR = []
CIRCULAR.append(CIRCULAR)
# What JSON cannot say.
LOSSY = (b"bytes", {1, 2}, object(), lambda: 1, math.nan, -math.inf, CIRCULAR, {(1, 2): 3})


class Arguments(ServerTest):
    async def test_a_value_of_the_wrong_type_is_a_type_error_at_the_call(self):
        ada = await self.peer("ada", join=self.ws, expose=lambda payload: payload)
        ws, fn, ctx = self.ws, self.fn, ada.ctx
        text = [
            ada.join, ada.leave, ada.discover, ada.describe, ada.send, ada.chunks, ctx.keys,
            lambda v: ada.expose(v, lambda payload: 1), lambda v: ada.expose(v)(lambda payload: 1),
            lambda v: ada.stream(v, "k", []), lambda v: ada.stream(ws, v, []),
            lambda v: ada.on_stream(v, "k", print), lambda v: ada.on_stream("p", v, print),
            lambda v: ada.on(v, print), lambda v: ada.on(v)(print), lambda v: ada.off(v, print),
            lambda v: ctx.set(v, "k", 1), lambda v: ctx.set(ws, v, 1), lambda v: ctx.get(v, "k"), lambda v: ctx.get(ws, v),
            lambda v: ctx.get(ws, v, with_version=True), lambda v: ctx.update(v, "k", lambda n: n),
            lambda v: ctx.update(ws, v, lambda n: n), lambda v: ctx.del_(v, "k"), lambda v: ctx.del_(ws, v),
            lambda v: ctx.history(v, "k"), lambda v: ctx.history(ws, v), Flux,
        ]
        text_or_none = [
            ada.peers, lambda v: ada.send(fn, to=v), lambda v: ada.send(fn, sticky=v), lambda v: ada.send(fn, route=v),
            lambda v: ada.chunks(fn, route=v), lambda v: ada.expose("c", print, description=v), lambda v: Flux("lux://x", v),
            lambda v: Flux("lux://x", id=v), lambda v: Flux("lux://x", secret=v),
        ]
        function = [
            lambda v: ada.on_stream("p", "k", v), lambda v: ctx.update(ws, "k", v),
            *[lambda v, c=c: v is None or c(v) for c in (
                lambda v: ada.expose("c", v), lambda v: ada.on("peer:left", v), lambda v: ada.send(fn, on_chunk=v),
                lambda v: ada.on_stream("p", "k", print, v),
            )],
        ]
        for call in text + text_or_none + function:
            for value in WRONG if call not in text_or_none else WRONG[1:]:
                await self.refuses(call, value)
        whole = [lambda v: ada.send(fn, priority=v), lambda v: ada.send(fn, retries=v), lambda v: ctx.set(ws, "k", 1, if_version=v),
                 lambda v: ctx.del_(ws, "k", if_version=v), lambda v: ctx.history(ws, "k", v),
                 lambda v: ada.expose("c", print, concurrency=v)]
        for call in whole:
            for value in ("1", 1.5, b"1", [], True, math.nan):
                await self.refuses(call, value)
        seconds = [lambda v: ada.send(fn, timeout=v), lambda v: ada.chunks(fn, timeout=v), lambda v: ctx.set(ws, "k", 1, ttl=v),
                   lambda v: Flux("lux://x", job_timeout=v), lambda v: Flux("lux://x", ttl=v), lambda v: Flux("lux://x").start(v)]
        for call in seconds:
            for value in ("1", b"1", [], True):
                await self.refuses(call, value)
        for value in (None, 5, object()):
            await self.refuses(lambda v: ada.stream(ws, "k", v), value)
        for value in (5, "text", [], b"x"):
            await self.refuses(lambda v: ada.expose("c", print, v), value)
        # Nothing came of any of it, and the connections are the same.
        self.assertEqual([peer.workspaces for peer in await ada.peers() if peer.id == ada.id], [[ws]])
        self.assertEqual(await ada.send(fn, 7), 7)

    async def refuses(self, call, value):
        """The call raises a TypeError, at once or when it is awaited."""
        try:
            made = call(value)
            if asyncio.iscoroutine(made):
                made = await made
            if made is True:
                return  # Fine for this call.
        except TypeError:
            return
        self.fail(f"{call} took {value!r}")

    async def test_what_json_cannot_say_is_refused_at_the_call(self):
        results = []
        ada = await self.peer("ada", join=self.ws, expose=lambda payload: results[-1])
        version = await ada.ctx.set(self.ws, "k", "before")
        for value in LOSSY:
            for wrong in (value, [{"deep": value}]):
                calls = (lambda: ada.send(self.fn, wrong), lambda: ada.chunks(self.fn, wrong), lambda: ada.ctx.set(self.ws, "k", wrong),
                         lambda: ada.stream(self.ws, "s", [wrong]))
                for call in calls:
                    with self.assertRaises((TypeError, ValueError)):
                        await call()
                results.append(wrong)
                with self.assertRaises(FluxError) as failed:
                    await ada.send(self.fn, 1)
                self.assertEqual(failed.exception.code, "FAILED")
        self.assertEqual((await ada.ctx.get(self.ws, "k", with_version=True)).version, version)

    async def test_numbers_that_make_no_sense_are_refused_with_the_reason(self):
        ada = await self.peer("ada", expose=lambda payload: payload)
        for timeout in (1e12, math.inf, math.nan):
            with self.assertRaisesRegex(FluxError, "timeout must be at most a day, 86400 seconds, not"):
                await ada.send(self.fn, 1, timeout)
            with self.assertRaisesRegex(FluxError, "timeout must be at most a day"):
                ada.chunks(self.fn, 1, timeout)
            with self.assertRaisesRegex(FluxError, "job_timeout"):
                Flux("lux://x", job_timeout=timeout)
        self.assertEqual(await ada.send(self.fn, 1, 86_400), 1)
        with self.assertRaises(FluxError) as late:
            await ada.send(self.fn, 1, -1)
        self.assertEqual(late.exception.code, "TIMEOUT")
        for options in ({"retries": -1}, {"retries": 10**30}, {"priority": 101}, {"gather": -1}, {"gather": 10**12}):
            with self.assertRaisesRegex(FluxError, next(iter(options))):
                await ada.send(self.fn, 1, **options)
        for options in ({"concurrency": 0}, {"ttl": math.inf}, {"ttl": math.nan}, {"stop_timeout": -1}):
            with self.assertRaisesRegex(FluxError, next(iter(options))):
                Flux("lux://x", **options)

    async def test_a_capability_that_the_server_refuses_fails_that_call_alone(self):
        worker, caller = await self.peer("worker"), await self.peer("caller")
        first = f"{self.fn}-first"
        await worker.expose(first, lambda payload: 1)
        schema = {"type": "nonsense"}
        wrong = [("a b\n", None), ("", None), ("x" * 1000, None), ("s", schema)]
        # All at once, with good ones between them.
        tasks = []
        for at, (name, bad) in enumerate(wrong):
            tasks += [worker.expose(f"{self.fn}-{at}", lambda payload, at=at: at), worker.expose(name, lambda payload: 1, bad)]
        outcomes = await asyncio.gather(*(self.outcome(exposing) for exposing in tasks))
        self.assertEqual([type(outcome) for outcome in outcomes], [type(None), FluxError] * len(wrong))
        for at in range(len(wrong)):
            self.assertEqual(await caller.send(f"{self.fn}-{at}"), at)
        # One that was there before stays as it was.
        with self.assertRaisesRegex(FluxError, "schema"):
            await worker.expose(first, lambda payload: 2, schema)
        self.assertEqual(await caller.send(first), 1)
        await worker.expose(first, lambda payload: 3)
        self.assertEqual(await caller.send(first), 3)
        with self.assertLogs("flux_peers", "WARNING") as said:
            worker.expose("", description="as a decorator")(lambda payload: 1)
            await until(lambda: said.records)
        self.assertEqual(await caller.send(first), 3)

    async def outcome(self, exposing):
        try:
            await exposing
        except FluxError as error:
            return error


if __name__ == "__main__":
    unittest.main()
