"""What needs no server: reading streams in order, telling handlers apart, values on the wire."""

import asyncio
import functools
import threading
import unittest
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from unittest import mock

from flux_peers import Flux, FluxError
from flux_peers.calls import Calls
from flux_peers.errors import server_error
from flux_peers.model import Event, from_text, to_text
from flux_peers.streams import INBOX_MAX, Kept, Reader
from flux_peers.wire import options_of
from flux_peers.work import Work, is_async, takes_two


class Server:
    """Keeps the last chunks of one stream, as flux does."""

    def __init__(self, keeps=1000):
        self.keeps, self.last, self.chunks, self.is_ended = keeps, 0, [], False

    def push(self, data):
        self.last += 1
        self.chunks = [*self.chunks, (self.last, data)][-self.keeps :]
        return self.last, data

    def begin_anew(self):
        self.last, self.chunks, self.is_ended = 0, [], False

    async def read(self, seq):
        first = self.chunks[0][0] if self.chunks else 0
        return Kept(first, self.last, self.is_ended, [chunk for chunk in self.chunks if chunk[0] >= seq][:3])


class ReaderTest(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.server, self.got, self.missed, self.ends = Server(), [], 0, 0
        self.reader = Reader("ws", self.server.read, self.take, self.end)
        task = asyncio.create_task(self.reader.run())
        self.addCleanup(task.cancel)

    def take(self, chunk, about):
        self.got.append(chunk)
        self.missed += about.missed

    def end(self):
        self.ends += 1

    async def settle(self):
        for _ in range(200):
            await asyncio.sleep(0)

    async def test_live_chunks_come_as_they_are(self):
        for letter in "abc":
            self.reader.live(*self.server.push(letter))
        await self.settle()
        self.assertEqual(self.got, ["a", "b", "c"])

    async def test_late_reader_catches_up_and_then_follows(self):
        for letter in "abcdefgh":
            self.server.push(letter)
        self.reader.look()
        await self.settle()
        self.reader.live(*self.server.push("i"))
        await self.settle()
        self.assertEqual("".join(self.got), "abcdefghi")

    async def test_gap_is_read_and_nothing_comes_twice(self):
        events = [self.server.push(letter) for letter in "abcdef"]
        for event in (events[0], events[4], events[2], events[4], events[5]):
            self.reader.live(*event)
        await self.settle()
        self.assertEqual("".join(self.got), "abcdef")

    async def test_what_is_no_longer_kept_is_told(self):
        self.server.keeps = 2
        for letter in "abcdef":
            self.server.push(letter)
        self.reader.look()
        await self.settle()
        self.assertEqual((self.got, self.missed), (["e", "f"], 4))

    async def test_deleted_stream_leaves_what_was_published(self):
        events = [self.server.push(letter) for letter in "abc"]
        self.server.begin_anew()
        self.reader.live(*events[2])
        await self.settle()
        self.assertEqual((self.got, self.missed), (["c"], 2))

    async def test_slow_handler_gets_all_that_is_kept(self):
        go = asyncio.Event()

        async def slow(chunk):
            await go.wait()
            self.got.append(chunk)

        reader = Reader("ws", self.server.read, slow, None)
        self.server.keeps = 5000
        task = asyncio.create_task(reader.run())
        self.addCleanup(task.cancel)
        for number in range(3 * INBOX_MAX):
            reader.live(*self.server.push(str(number)))
        go.set()
        while len(self.got) < 3 * INBOX_MAX:
            await asyncio.sleep(0)
        self.assertEqual(self.got, [str(number) for number in range(3 * INBOX_MAX)])

    async def test_end_is_told_once_after_the_last_chunk(self):
        self.reader.live(*self.server.push("a"))
        self.server.push("b")
        self.server.is_ended = True
        self.reader.look()
        self.reader.look()
        await self.settle()
        self.assertEqual((self.got, self.ends), (["a", "b"], 1))

    async def test_stream_that_begins_anew_under_its_name_is_followed(self):
        for length in (3, 1, 2):
            self.server.begin_anew()
            for number in range(length):
                self.reader.live(*self.server.push(f"{length}.{number}"))
                await self.settle()
            self.server.is_ended = True
            self.reader.look()
            await self.settle()
        self.assertEqual(self.got, ["3.0", "3.1", "3.2", "1.0", "2.0", "2.1"])
        self.assertEqual(self.ends, 3)

    async def test_unnumbered_chunk_of_an_old_peer_is_waited_for(self):
        self.reader.live(None, "a")
        await self.settle()
        self.server.push("a")
        while not self.got:
            await asyncio.sleep(0)
        self.assertEqual(self.got, ["a"])

    async def test_handler_that_raises_gets_the_next_chunk(self):
        def picky(chunk):
            self.got.append(chunk)
            raise ValueError(chunk)

        reader = Reader("ws", self.server.read, picky, None)
        task = asyncio.create_task(reader.run())
        self.addCleanup(task.cancel)
        with self.assertLogs("flux_peers", "ERROR"):
            for letter in "ab":
                reader.live(*self.server.push(letter))
            await self.settle()
        self.assertEqual(self.got, ["a", "b"])


class Wire:
    """A connection of which only the commands matter; `refuse` answers one that was not answered yet."""

    def __init__(self):
        self.commands = []

    def call(self, *words):
        self.commands.append((words, asyncio.get_running_loop().create_future()))
        return self.commands[-1][1]

    def refuse(self, error):
        self.commands[-1][1].set_exception(error)


class CallTest(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.link = SimpleNamespace(wire=Wire())
        self.calls = Calls(self.link, 60, asyncio.ensure_future)

    async def test_chunks_are_counted_also_where_nobody_listens_to_them(self):
        for listener in (None, [].append):
            with self.subTest(listener=listener):
                call = asyncio.create_task(self.calls.send("fn", 1, listener, None))
                await asyncio.sleep(0)
                words, reply = self.link.wire.commands[-1]
                id = words[words.index("ID") + 1]
                reply.set_result(id)
                for seq in (1, 2):
                    self.calls.message({"jobId": id, "chunk": "", "seq": seq})
                self.calls.resume(is_restarted=True)
                await asyncio.sleep(0)
                self.assertEqual(self.link.wire.commands[-1][0], ("FLUX.RESULT", id))
                self.link.wire.refuse(FluxError("no such call", "NOCALL"))
                while (words := self.link.wire.commands[-1][0])[0] != "FLUX.CALL":
                    await asyncio.sleep(0)
                self.assertEqual(words[words.index("SEEN") + 1], 2)
                call.cancel()


class ThreadsTest(unittest.IsolatedAsyncioTestCase):
    async def test_a_burst_of_plain_functions_takes_no_more_threads_than_there_may_be(self):
        work, gate = Work(lambda name: None, 1, None), threading.Event()
        # None but the first has begun when the next comes.
        work._threads = ThreadPoolExecutor(1)
        self.addCleanup(work._threads.shutdown)
        self.addCleanup(gate.set)
        with mock.patch("flux_peers.work.ABANDONED_MAX", 1):
            burst = [asyncio.create_task(work._in_thread(None, gate.wait)) for _ in range(3)]
            await asyncio.sleep(0)
            self.assertEqual([task.done() for task in burst], [False, False, True])
            self.assertEqual(burst[2].exception().code, "BUSY")
            # One that nobody waits for any more holds its thread if it has begun, and none if not.
            burst[1].cancel()
            await asyncio.wait([burst[1]])
            third = asyncio.create_task(work._in_thread(None, gate.wait))
            gate.set()
            self.assertEqual(await asyncio.gather(burst[0], third), [True, True])
        self.assertEqual(work._threads_busy, 0)


class HandlerTest(unittest.TestCase):
    def test_coroutines_and_async_generators_need_no_thread(self):
        async def coroutine(payload): ...
        async def generator(payload):
            yield

        class Callable:
            async def __call__(self, payload): ...

        for function in (coroutine, generator, Callable(), functools.partial(coroutine)):
            self.assertTrue(is_async(function), function)
        for function in (len, print, lambda payload: payload, functools.partial(len)):
            self.assertFalse(is_async(function), function)

    def test_second_argument_is_given_to_those_that_want_it(self):
        self.assertTrue(takes_two(lambda payload, call: None))
        self.assertFalse(takes_two(lambda payload: None))
        self.assertFalse(takes_two(lambda payload, language="en": None))
        self.assertFalse(takes_two(print))

    def test_expose_is_a_decorator_too(self):
        flux = Flux("lux://localhost")

        @flux.expose("double", schema={"type": "number"})
        def double(payload):
            return payload * 2

        self.assertEqual(double(2), 4)
        with self.assertRaisesRegex(TypeError, 'the handler of "x" must be a function, not int'):
            flux.expose("x", 5)

    def test_events_have_five_names(self):
        flux = Flux("lux://localhost")
        with self.assertRaisesRegex(FluxError, 'no event "peer:join"'):
            flux.on("peer:join", print)
        flux.off("peer:joined", print)


class WireTest(unittest.TestCase):
    def test_urls_of_this_protocol_are_those_of_redis(self):
        options = options_of("lux://:secret@example:7000")
        self.assertEqual((options["host"], options["port"], options["password"]), ("example", 7000, "secret"))
        self.assertIn("connection_class", options_of("rediss://example"))
        with self.assertRaises(ValueError):
            options_of("http://example")

    def test_strings_are_written_as_they_are_and_the_rest_as_json(self):
        for value in ({"a": [1, None]}, "text", 1.5, None, "ünï"):
            self.assertEqual(from_text(to_text(value)), value)
        self.assertEqual(to_text("text"), "text")
        with self.assertRaises(ValueError):
            to_text(float("nan"))

    def test_errors_of_the_server_have_a_code_and_a_text(self):
        error = server_error('NOPEER no peer handles "x"')
        self.assertEqual((error.code, str(error)), ("NOPEER", 'no peer handles "x"'))
        self.assertEqual(server_error("CONFLICT version is 17").version, 17)
        self.assertEqual(server_error("something else").code, "ERR")

    def test_events_of_strangers_may_lack_anything(self):
        self.assertEqual(Event.read({}).peer_id, "")


if __name__ == "__main__":
    unittest.main()
