"""Calls between peers on a real server: every kind of handler, routing, errors, deadlines, cancellation."""

import asyncio
import threading
import time
import unittest
from unittest import mock

from flux_peers import FluxError

from base import ServerTest, hang
from servers import until


class CallTest(ServerTest):
    async def pair(self, handler, **options):
        """Someone who can do it, and someone who asks."""
        worker, asker = await self.peer("worker", start=False), await self.peer("asker")
        worker.expose(self.fn, handler, **options)
        await worker.start()
        return worker, asker

    async def fails(self, code, text, awaitable):
        with self.assertRaises(FluxError) as failed:
            await awaitable
        self.assertEqual((failed.exception.code, str(failed.exception)), (code, text))

    async def test_coroutine_answers(self):
        async def double(payload):
            return {"twice": payload["n"] * 2, "ünï": None}

        _, asker = await self.pair(double)
        self.assertEqual(await asker.send(self.fn, {"n": 4}), {"twice": 8, "ünï": None})

    async def test_peer_calls_itself(self):
        peer = await self.peer(expose=lambda payload: payload)
        self.assertEqual(await peer.send(self.fn, [1, "a", None]), [1, "a", None])

    async def test_plain_functions_run_in_threads_beside_each_other(self):
        both = threading.Barrier(2, timeout=30)

        def wait(payload):
            both.wait()
            return threading.current_thread() is not threading.main_thread()

        _, asker = await self.pair(wait)
        self.assertEqual(await asyncio.gather(asker.send(self.fn), asker.send(self.fn)), [True, True])

    async def test_handler_that_wants_it_is_told_about_its_call(self):
        async def tell(payload, call):
            return [call.fn, call.caller, call.attempt, call.deadline - time.time()]

        _, asker = await self.pair(tell)
        fn, caller, attempt, left = await asker.send(self.fn, timeout=50)
        self.assertEqual((fn, caller, attempt), (self.fn, asker.id, 1))
        self.assertTrue(20 < left <= 50.1, left)

    async def test_exception_reaches_the_caller_with_its_message(self):
        async def fail(payload):
            raise ValueError("the text is empty: äöü\nsecond line")

        def fail_in_thread(payload):
            raise RuntimeError

        worker, asker = await self.pair(fail)
        worker.expose(self.fn + "2", fail_in_thread)
        with self.assertLogs("flux_peers", "ERROR"):
            await self.fails("FAILED", "the text is empty: äöü\nsecond line", asker.send(self.fn))
            await until(lambda: asker.discover(self.fn + "2"))
            await self.fails("FAILED", "RuntimeError", asker.send(self.fn + "2"))

    async def test_result_that_is_not_json_is_an_error(self):
        _, asker = await self.pair(lambda payload: object())
        with self.assertLogs("flux_peers", "ERROR"), self.assertRaisesRegex(FluxError, "not JSON serializable"):
            await asker.send(self.fn)

    async def test_nobody_can_do_it(self):
        asker = await self.peer()
        await self.fails("NOPEER", f'no peer handles "{self.fn}"', asker.send(self.fn))

    async def test_payload_that_is_not_json_is_refused_here(self):
        asker = await self.peer()
        with self.assertRaises(TypeError):
            await asker.send(self.fn, object())

    async def test_deadline_ends_the_call_on_both_sides(self):
        ended = asyncio.Event()

        async def wait(payload, call):
            try:
                await asyncio.Event().wait()
            finally:
                self.assertTrue(call.cancelled.is_set())
                ended.set()

        _, asker = await self.pair(wait)
        began = time.monotonic()
        await self.fails("TIMEOUT", "timeout after 1000 ms", asker.send(self.fn, timeout=1))
        self.assertLess(time.monotonic() - began, 10)
        await asyncio.wait_for(ended.wait(), 30)

    async def test_plain_function_sees_that_its_deadline_has_come(self):
        seen = threading.Event()

        def wait(payload, call):
            if call.cancelled.wait(30):
                seen.set()

        _, asker = await self.pair(wait)
        await self.fails("TIMEOUT", "timeout after 1000 ms", asker.send(self.fn, timeout=1))
        await until(seen.is_set)

    async def test_caller_who_gives_up_cancels_the_handler(self):
        began, ended = asyncio.Event(), asyncio.Event()

        async def wait(payload, call):
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        _, asker = await self.pair(wait)
        task = asyncio.create_task(asker.send(self.fn))
        await asyncio.wait_for(began.wait(), 30)
        task.cancel()
        await asyncio.wait_for(ended.wait(), 30)

    async def test_generators_send_chunks(self):
        async def count(payload):
            for number in range(payload):
                yield number

        def count_in_thread(payload):
            yield from range(payload)
            return "done"

        async def count_by_hand(payload, call):
            for number in range(payload):
                await call.chunk(number)
            return "done"

        worker, asker = await self.pair(count)
        worker.expose(self.fn + "2", count_in_thread)
        worker.expose(self.fn + "3", count_by_hand)
        await until(lambda: asker.discover(self.fn + "3"))
        for fn, result in ((self.fn, None), (self.fn + "2", "done"), (self.fn + "3", "done")):
            chunks = []
            self.assertEqual(await asker.send(fn, 50, on_chunk=chunks.append), result, fn)
            self.assertEqual(chunks, list(range(50)), fn)

    async def test_slow_reader_of_chunks_gets_them_all(self):
        async def count(payload):
            for number in range(payload):
                yield number

        _, asker = await self.pair(count)
        self.assertEqual([chunk async for chunk in asker.chunks(self.fn, 300)], list(range(300)))

    async def test_leaving_the_loop_over_chunks_cancels_the_call(self):
        ended = asyncio.Event()

        async def count(payload):
            try:
                while True:
                    yield "more"
                    await asyncio.sleep(0.001)
            finally:
                ended.set()

        _, asker = await self.pair(count)
        chunks = asker.chunks(self.fn)
        async for _ in chunks:
            break
        await chunks.aclose()
        await asyncio.wait_for(ended.wait(), 30)

    async def test_handler_that_raises_is_tried_again(self):
        attempts = []

        async def third_time(payload, call):
            attempts.append(call.attempt)
            if call.attempt < 3:
                raise FluxError("not yet")
            return "well"

        _, asker = await self.pair(third_time, retry=2)
        self.assertEqual(await asker.send(self.fn), "well")
        self.assertEqual(attempts, [1, 2, 3])

    async def test_payload_is_checked_by_the_server(self):
        schema = {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}}
        _, asker = await self.pair(lambda payload: payload["text"], schema=schema)
        self.assertEqual(await asker.send(self.fn, {"text": "a"}), "a")
        with self.assertRaisesRegex(FluxError, f'payload of "{self.fn}"') as failed:
            await asker.send(self.fn, {"text": 1})
        self.assertEqual(failed.exception.code, "INVALID")

    async def test_concurrency_of_a_capability_is_kept(self):
        running, most = 0, 0

        async def work(payload):
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.01)
            running -= 1

        _, asker = await self.pair(work, concurrency=2)
        await asyncio.gather(*[asker.send(self.fn) for _ in range(10)])
        self.assertEqual(most, 2)

    async def test_places_of_a_peer_are_kept(self):
        running, most = 0, 0

        async def work(payload):
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.01)
            running -= 1

        await self.peer(expose=work, concurrency=3)
        asker = await self.peer()
        await asyncio.gather(*[asker.send(self.fn) for _ in range(12)])
        self.assertTrue(1 <= most <= 3, most)

    async def test_calls_are_shared_among_peers(self):
        names = [f"w{number}" for number in range(3)]
        for name in names:
            await self.peer(name, expose=lambda payload, name=name: name)
        asker = await self.peer()
        for options in ({}, {"route": "round-robin"}):
            answers = [await asker.send(self.fn, **options) for _ in range(9)]
            self.assertEqual({name: answers.count(name) for name in names}, {name: 3 for name in names}, options)
        self.assertEqual(len({await asker.send(self.fn, sticky="k") for _ in range(9)}), 1)

    async def test_call_goes_to_the_peer_it_names(self):
        workers = [await self.peer(f"w{number}", expose=lambda payload, n=number: n) for number in range(3)]
        asker = await self.peer()
        for number, worker in enumerate(workers):
            self.assertEqual(await asker.send(self.fn, to=worker.id), number)

    async def test_all_are_asked(self):
        async def fail(payload):
            raise FluxError("I cannot")

        first = await self.peer("first", expose=lambda payload: payload * 2)
        second = await self.peer("second", expose=fail)
        asker = await self.peer()
        answers = {answer.peer_name: answer for answer in await asker.send(self.fn, 4, gather=True)}
        self.assertEqual((answers["first"].ok, answers["first"].data, answers["first"].peer_id), (True, 8, first.id))
        self.assertEqual((answers["second"].ok, answers["second"].error, answers["second"].peer_id), (False, "I cannot", second.id))
        self.assertEqual(len(await asker.send(self.fn, 4, gather=1)), 1)

    async def test_gathered_answers_come_without_those_that_do_not(self):
        await self.peer("quick", expose=lambda payload: "here")
        await self.peer("stuck", expose=hang)
        asker = await self.peer()
        answers = await asker.send(self.fn, timeout=2, gather=True)
        self.assertEqual({answer.peer_name: answer.ok for answer in answers}, {"quick": True, "stuck": False})

    async def test_urgent_calls_come_first(self):
        order, go = [], asyncio.Event()

        async def work(payload):
            order.append(payload)
            await go.wait()

        _, asker = await self.pair(work, concurrency=1)
        tasks = [asyncio.create_task(asker.send(self.fn, "first"))]
        await until(lambda: order)
        for priority in (-5, 0, 50, 5):
            tasks.append(asyncio.create_task(asker.send(self.fn, priority, priority=priority)))

        async def all_wait():
            return (await asker.describe(self.fn)).peers[0]["queued"] == 4

        await until(all_wait)
        go.set()
        await asyncio.gather(*tasks)
        self.assertEqual(order, ["first", 50, 5, 0, -5])

    async def test_capability_is_described(self):
        async def shorten(payload):
            """Makes a text short."""

        schema = {"type": "object"}
        worker, asker = await self.pair(shorten, schema=schema, retry=1, concurrency=3)
        await asker.send(self.fn, {})
        found = await asker.describe(self.fn)
        self.assertEqual((found.name, found.description, found.schema), (self.fn, "Makes a text short.", schema))
        self.assertEqual([(peer["id"], peer["name"]) for peer in found.peers], [(worker.id, "worker")])
        self.assertEqual((found.calls, found.failed), (1, 0))
        [peer] = await asker.discover(self.fn)
        told = {"name": self.fn, "description": "Makes a text short.", "schema": schema, "retry": 1, "concurrency": 3}
        self.assertEqual((peer.id, peer.name, peer.capabilities), (worker.id, "worker", [told]))
        await self.fails("NOPEER", 'no peer handles "nothing"', asker.describe("nothing"))

    async def test_capability_can_come_later(self):
        worker, asker = await self.peer("worker"), await self.peer("asker")
        worker.expose(self.fn, lambda payload: "late")
        await until(lambda: asker.discover(self.fn))
        self.assertEqual(await asker.send(self.fn), "late")

    async def test_stopped_peer_ends_what_it_runs_and_takes_no_more(self):
        began, go = asyncio.Event(), asyncio.Event()

        async def work(payload):
            began.set()
            await go.wait()
            return "first"

        first, asker = await self.peer("first", expose=work, stop_timeout=30), await self.peer()
        running = asyncio.create_task(asker.send(self.fn))
        await asyncio.wait_for(began.wait(), 30)
        await self.peer("second", expose=lambda payload: "second")
        stopping = asyncio.create_task(first.stop())

        async def only_second():
            return [peer.name for peer in await asker.discover(self.fn)] == ["second"]

        await until(only_second)
        self.assertEqual(await asker.send(self.fn), "second")
        go.set()
        self.assertEqual(await running, "first")
        await stopping
        with self.assertRaisesRegex(FluxError, "stopped"):
            await first.send(self.fn)

    async def test_stopped_peer_may_start_again(self):
        worker, asker = await self.peer("worker", expose=lambda payload: payload), await self.peer()
        await worker.stop()
        self.assertEqual(await asker.discover(self.fn), [])
        with self.assertRaisesRegex(FluxError, "the peer was stopped"):
            await worker.peers()
        await worker.start()
        self.assertEqual(await asker.send(self.fn, "again"), "again")
        with self.assertRaisesRegex(FluxError, "started already"):
            await worker.start()

    async def test_call_of_a_stopping_peer_ends_with_an_error(self):
        await self.peer("worker", expose=hang)
        asker = await self.peer()
        call = asyncio.create_task(asker.send(self.fn))
        await until(lambda: asker.describe(self.fn))
        await asker.stop()
        await self.fails("STOPPED", "the peer was stopped", call)

    async def test_many_calls_at_once(self):
        _, asker = await self.pair(lambda payload: payload)
        answers = await asyncio.gather(*[asker.send(self.fn, number) for number in range(1000)])
        self.assertEqual(answers, list(range(1000)))

    async def test_large_payloads_pass_and_too_large_ones_are_refused(self):
        _, asker = await self.pair(len)
        self.assertEqual(await asker.send(self.fn, "x" * 500_000), 500_000)
        with self.assertRaisesRegex(FluxError, "limit") as failed:
            await asker.send(self.fn, "x" * 64_000_000)
        self.assertEqual(failed.exception.code, "TOOBIG")


    async def test_a_handler_that_never_ends_gives_its_place_free_at_the_deadline(self):
        for plain in (False, True):
            with self.subTest(plain=plain):
                hung, gate = [], threading.Event()
                self.addCleanup(gate.set)

                async def stubborn(payload):
                    hung.append(payload)
                    while not gate.is_set():
                        try:
                            await asyncio.sleep(0.05)
                        except asyncio.CancelledError:
                            pass

                def stuck(payload):
                    hung.append(payload)
                    gate.wait()

                fn = f"{self.fn}-{plain}"
                worker, asker = await self.peer("worker", concurrency=2), await self.peer("asker")
                await worker.expose(fn, stuck if plain else stubborn)
                echo = f"{fn}-echo"
                await worker.expose(echo, (lambda payload: payload))
                for _ in range(3):
                    calls = [asker.send(fn, number, 0.3) for number in range(2)]
                    outcomes = await asyncio.gather(*calls, return_exceptions=True)
                    self.assertEqual([outcome.code for outcome in outcomes], ["TIMEOUT"] * 2)
                self.assertGreaterEqual(len(hung), 2)
                self.assertEqual(await asker.send(echo, "still here"), "still here")
                gate.set()

    async def test_a_call_that_a_handler_makes_tells_the_time_it_had_and_not_the_time_that_was_asked(self):
        worker, asker = await self.peer("worker"), await self.peer("asker")
        told = asyncio.get_running_loop().create_future()

        async def outer(payload, call):
            # In a task of its own, which the end of the handler does not cancel.
            async def inner():
                with self.assertRaises(FluxError) as late:
                    await worker.send(f"{self.fn}-hang", timeout=60)
                told.set_result(str(late.exception))

            self.task = asyncio.create_task(inner())
            await asyncio.Event().wait()

        await worker.expose(f"{self.fn}-hang", hang)
        await worker.expose(self.fn, outer)
        await self.fails("TIMEOUT", "timeout after 2000 ms", asker.send(self.fn, timeout=2))
        self.assertRegex(await asyncio.wait_for(told, 30), r"^timeout after (1?\d{1,3}|2000) ms$")

    async def test_a_clock_that_is_set_meanwhile_does_not_move_the_end_of_a_call(self):
        worker, asker = await self.peer("worker"), await self.peer("asker")
        now = time.time

        async def outer(payload, call):
            with mock.patch("time.time", lambda: now() + 3_600):
                return await worker.send(f"{self.fn}-echo", "in time", 60)

        await worker.expose(f"{self.fn}-echo", lambda payload: payload)
        await worker.expose(self.fn, outer)
        self.assertEqual(await asker.send(self.fn, timeout=30), "in time")

    async def test_calls_that_a_handler_makes_end_with_its_own_deadline(self):
        left, over = [], asyncio.get_running_loop().create_future()
        worker, asker = await self.peer("worker"), await self.peer("asker")

        async def deeper(depth, call):
            if depth > 0:
                return await worker.send(self.fn, depth - 1, 60)
            left.append(call.deadline - time.time())
            await asyncio.Event().wait()

        async def leaves(payload, call):
            async def later():
                await until(lambda: time.time() > call.deadline)
                over.set_result(await worker.send(f"{self.fn}-echo", "later", 20))

            self.task = asyncio.create_task(later())

        await worker.expose(self.fn, deeper)
        await worker.expose(f"{self.fn}-leaves", leaves)
        await worker.expose(f"{self.fn}-echo", lambda payload: payload)
        with self.assertRaises(FluxError) as late:
            await asker.send(self.fn, 20, 1.5)
        self.assertEqual(late.exception.code, "TIMEOUT")
        self.assertLessEqual(left[0], 1.5)
        await until(lambda: worker._work.running == 0)
        # What a handler leaves behind when it has ended is not bound by it.
        await asker.send(f"{self.fn}-leaves", timeout=2)
        self.assertEqual(await asyncio.wait_for(over, 30), "later")


if __name__ == "__main__":
    unittest.main()
