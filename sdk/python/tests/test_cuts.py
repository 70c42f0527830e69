"""Servers that are not there, connections that are cut, peers and servers that die: every call ends once, nothing is lost
silently."""

import asyncio
import os
import signal
import subprocess
import sys
import time
import unittest

import redis.asyncio

from flux_peers import Flux, FluxError

from base import ServerTest
from servers import Door, Server, free_port, until


class CutTest(ServerTest):
    async def door(self):
        door = await Door(self.server).open()
        self.addAsyncCleanup(door.shut)
        return door

    async def redis(self):
        client = redis.asyncio.Redis(port=self.server.port, decode_responses=True)
        self.addAsyncCleanup(client.aclose)
        return client

    async def test_result_comes_although_the_caller_was_cut_off(self):
        began, go = asyncio.Event(), asyncio.Event()

        async def work(payload):
            began.set()
            await go.wait()
            return "done"

        door = await self.door()
        await self.peer("worker", expose=work)
        asker = await self.peer("asker", url=door.url)
        call = asyncio.create_task(asker.send(self.fn))
        await asyncio.wait_for(began.wait(), 30)
        await door.shut()
        go.set()
        await (await self.peer()).peers()
        await door.open()
        self.assertEqual(await call, "done")

    async def test_call_made_without_a_connection_waits_for_it(self):
        door = await self.door()
        await self.peer("worker", expose=lambda payload: payload)
        asker = await self.peer("asker", url=door.url)
        await door.shut()
        await until(lambda: asker._commands.wire is None)
        call = asyncio.create_task(asker.send(self.fn, "late"))
        await asyncio.sleep(0)
        await door.open()
        self.assertEqual(await call, "late")

    async def test_call_without_a_connection_ends_at_its_deadline(self):
        door = await self.door()
        asker = await self.peer("asker", url=door.url)
        await door.shut()
        await until(lambda: asker._commands.wire is None)
        began = time.monotonic()
        with self.assertRaisesRegex(FluxError, "timeout after 300 ms"):
            await asker.send(self.fn, timeout=0.3)
        self.assertLess(time.monotonic() - began, 10)

    async def test_joins_and_farewells_without_a_connection_end_together_at_their_deadline(self):
        door = await self.door()
        peer = await self.peer("peer", url=door.url, job_timeout=0.5)
        await door.shut()
        await until(lambda: peer._commands.wire is None and peer._events.wire is None)
        began = time.monotonic()
        moves = [move(f"{self.ws}-{number % 20}") for number in range(60) for move in (peer.join, peer.leave)]
        ended = await asyncio.gather(*moves, return_exceptions=True)
        self.assertEqual({getattr(error, "code", error) for error in ended}, {"DISCONNECTED"})
        # One after the other they would take a minute.
        self.assertLess(time.monotonic() - began, 10)
        self.assertFalse(peer._moving, "nothing is kept of them")

    async def test_calls_end_once_while_connections_are_cut_again_and_again(self):
        ran = []

        async def work(payload):
            ran.append(payload)
            await asyncio.sleep(0.002)
            return payload

        door = await self.door()
        await self.peer("worker", expose=work)
        asker = await self.peer("asker", url=door.url)
        calls = []
        for number in range(300):
            calls.append(asyncio.create_task(asker.send(self.fn, number)))
            await asyncio.sleep(0.002)
            if number % 50 == 25:
                door.cut()
        self.assertEqual(await asyncio.gather(*calls), list(range(300)))
        self.assertEqual(sorted(ran), list(range(300)))

    async def test_calls_of_a_worker_that_is_cut_off_again_and_again_are_answered(self):
        door = await self.door()
        await self.peer("cut", url=door.url, expose=lambda payload: payload)
        await self.peer("steady", expose=lambda payload: payload)
        asker = await self.peer("asker")
        calls = []
        for number in range(200):
            calls.append(asyncio.create_task(asker.send(self.fn, number, retries=10)))
            await asyncio.sleep(0.002)
            if number % 50 == 25:
                door.cut()
        self.assertEqual(await asyncio.gather(*calls), list(range(200)))

    async def test_peer_that_was_cut_off_is_there_again(self):
        door = await self.door()
        watcher = await self.peer("watcher", join=self.ws)
        events = self.heard(watcher, "peer:left", "peer:joined")
        peer = await self.peer("peer", url=door.url, join=self.ws, expose=lambda payload: "again")
        await until(lambda: len(events) == 1)
        heard = self.heard(peer, "ctx:updated")
        began = time.monotonic()
        await door.shut()
        await until(lambda: len(events) == 2)
        told_after = time.monotonic() - began
        self.assertEqual((events[1].type, events[1].peer_name, events[1].left), ("peer:left", "peer", "disconnected"))
        self.assertLess(told_after, 5)  # Its time to live is twice that.
        self.assertEqual(await watcher.discover(self.fn), [])
        await door.open()
        await until(lambda: len(events) == 3)
        self.assertEqual((events[2].type, events[2].peer_name, events[2].peer_id), ("peer:joined", "peer", peer.id))
        await until(lambda: peer._events.wire)
        self.assertEqual(await watcher.send(self.fn), "again")
        await watcher.ctx.set(self.ws, "a", 1)
        await until(lambda: [event.key for event in heard] == ["a"])

    async def test_reader_of_a_stream_reads_on_after_a_cut(self):
        door = await self.door()
        writer = await self.peer("writer", join=self.ws)
        reader = await self.peer("reader", url=door.url, join=self.ws)
        got, ended = [], asyncio.Event()
        reader.on_stream(writer.id, "s", got.append, ended.set)

        async def numbers():
            for number in range(200):
                yield str(number)
                await asyncio.sleep(0.001)
                if number % 60 == 30:
                    door.cut()

        await writer.stream(self.ws, "s", numbers())
        await asyncio.wait_for(ended.wait(), 30)
        self.assertEqual(got, [str(number) for number in range(200)])

    async def test_writer_of_a_stream_writes_on_after_a_cut(self):
        door = await self.door()
        writer = await self.peer("writer", url=door.url, join=self.ws)
        reader = await self.peer("reader", join=self.ws)
        got, ended = [], asyncio.Event()
        reader.on_stream(writer.id, "s", got.append, ended.set)

        async def numbers():
            for number in range(200):
                yield str(number)
                if number % 60 == 30:
                    door.cut()

        await writer.stream(self.ws, "s", numbers())
        await asyncio.wait_for(ended.wait(), 30)
        self.assertEqual(got, [str(number) for number in range(200)])

    async def test_single_connection_that_is_cut_comes_back_without_farewell(self):
        client = await self.redis()
        watcher = await self.peer("watcher", join=self.ws)
        left = self.heard(watcher, "peer:left")
        peer = await self.peer("peer", join=self.ws, expose=lambda payload: payload)
        links = (peer._commands, peer._events, peer._work_link)
        for link in links:
            # While one is cut the others must be there, or nobody would be.
            await until(lambda: all(link.wire for link in links))
            wire, (host, port) = link.wire, link.wire._connection._writer.get_extra_info("sockname")
            await client.client_kill(f"{host}:{port}")
            await until(lambda: link.wire and link.wire is not wire)
            self.assertEqual(await watcher.send(self.fn, link.name), link.name)
        self.assertEqual(left, [])

    async def test_call_that_runs_while_its_connection_is_cut_is_not_run_twice(self):
        client, ran, go = await self.redis(), [], asyncio.Event()

        async def work(payload, call):
            ran.append(call.attempt)
            await go.wait()
            return "once"

        worker, asker = await self.peer("worker", expose=work), await self.peer("asker")
        call = asyncio.create_task(asker.send(self.fn))
        await until(lambda: ran)
        link = worker._work_link
        wire, (host, port) = link.wire, link.wire._connection._writer.get_extra_info("sockname")
        await client.client_kill(f"{host}:{port}")
        await until(lambda: link.wire and link.wire is not wire)
        # Longer than the server waits for a word about it.
        await asyncio.sleep(2)
        go.set()
        self.assertEqual((await call, ran), ("once", [1]))

    async def test_connections_that_are_dead_without_an_end_are_made_anew(self):
        door = await self.door()
        worker = await self.peer("worker", url=door.url, join=self.ws, expose=lambda payload: payload, ttl=1.0)
        asker = await self.peer("asker", url=door.url, ttl=1.0)
        wires = [link.wire for link in (*worker._links, asker._commands)]
        door.silence()
        began = time.monotonic()
        with self.assertRaisesRegex(FluxError, "timeout after 200 ms"):
            await asker.send(self.fn, timeout=0.2)
        self.assertLess(time.monotonic() - began, 10)
        await until(lambda: not {id(link.wire) for link in (worker._commands, worker._work_link, asker._commands)} & set(map(id, wires)))
        self.assertEqual(await asker.send(self.fn, "again"), "again")

    async def test_peer_whose_key_was_deleted_comes_back(self):
        client = await self.redis()
        watcher = await self.peer("watcher", join=self.ws)
        events = self.heard(watcher, "peer:left", "peer:joined")
        peer = await self.peer("peer", join=self.ws, expose=lambda payload: "again", ttl=1.0)
        await until(lambda: len(events) == 1)
        await client.delete(f"flux:peer:{peer.id}")
        await until(lambda: [event.type for event in events] == ["peer:joined", "peer:left", "peer:joined"])
        await until(lambda: watcher.discover(self.fn))
        self.assertEqual(await watcher.send(self.fn), "again")

    async def test_handler_dies_with_its_process_and_the_call_goes_to_another(self):
        watcher = await self.peer("watcher", join=self.ws)
        left = self.heard(watcher, "peer:left")
        program = (
            "import asyncio, sys\n"
            "from flux_peers import Flux\n"
            "async def main(url, ws, fn):\n"
            "    flux = Flux(url, 'victim')\n"
            "    async def work(payload, call):\n"
            "        print('took', flush=True)\n"
            "        await asyncio.Event().wait()\n"
            "    flux.expose(fn, work)\n"
            "    await flux.start()\n"
            "    await flux.join(ws)\n"
            "    print('ready', flush=True)\n"
            "    await asyncio.Event().wait()\n"
            "asyncio.run(main(*sys.argv[1:]))\n"
        )
        folder = os.path.dirname(__file__)
        words = [sys.executable, "-c", program, self.server.url, self.ws, self.fn]
        victim = subprocess.Popen(words, stdout=subprocess.PIPE, cwd=folder, text=True)
        self.addCleanup(victim.stdout.close)
        self.addCleanup(victim.wait)
        self.addCleanup(victim.kill)
        line = asyncio.get_running_loop().run_in_executor
        self.assertEqual(await line(None, victim.stdout.readline), "ready\n")
        again, never = asyncio.create_task(watcher.send(self.fn)), asyncio.create_task(watcher.send(self.fn, retries=0))
        for _ in range(2):
            self.assertEqual(await line(None, victim.stdout.readline), "took\n")
        await self.peer("other", expose=lambda payload: "other")
        began = time.monotonic()
        victim.send_signal(signal.SIGKILL)
        await until(lambda: left)
        self.assertLess(time.monotonic() - began, 5)
        self.assertEqual((left[0].peer_name, left[0].left), ("victim", "disconnected"))
        self.assertEqual(await again, "other")
        with self.assertRaises(FluxError) as failed:
            await never
        self.assertEqual(failed.exception.code, "GONE")

    async def test_nothing_is_left_when_all_have_gone(self):
        client = await self.redis()
        await until(lambda: self.is_empty(client))
        peers = [await self.peer(f"p{number}", join=self.ws, expose=lambda payload: payload) for number in range(3)]
        await peers[0].send(self.fn, 1)
        await peers[0].stream(self.ws, "s", ["a"])
        for peer in peers:
            await peer.stop()
        await until(lambda: self.is_empty(client))

    async def is_empty(self, client):
        """Whether all keys that are there will go by themselves, within a second if no peer of another test is left."""
        return [key for key in await client.keys("flux:*") if await client.ttl(key) == -1] == []


class RefusalTest(unittest.IsolatedAsyncioTestCase):
    async def test_password_is_needed_where_there_is_one(self):
        server = Server("flux", ["--requirepass", "secret"])
        self.addCleanup(server.close)
        for password in ("", ":wrong@"):
            with self.assertLogs("flux_peers", "WARNING"), self.assertRaises(FluxError) as failed:
                await Flux(f"lux://{password}127.0.0.1:{server.port}").start()
            self.assertIn(failed.exception.code, ("DENIED", "NOAUTH"))
        async with Flux(f"lux://:secret@127.0.0.1:{server.port}") as flux:
            flux.expose("f", lambda payload: payload)
            await until(lambda: flux.discover("f"))
            self.assertEqual(await flux.send("f", 1), 1)

    async def test_id_of_another_peer_is_refused(self):
        server = Server("flux")
        self.addCleanup(server.close)
        async with Flux(server.url, id="mine") as flux:
            with self.assertLogs("flux_peers", "WARNING"), self.assertRaisesRegex(FluxError, "in use") as failed:
                await Flux(server.url, id="mine").start()
            self.assertEqual(failed.exception.code, "DENIED")
            self.assertEqual(len(await flux.peers()), 1)

    async def test_server_without_peers_is_told_apart(self):
        server = Server("redis")
        self.addCleanup(server.close)
        with self.assertLogs("flux_peers", "WARNING"), self.assertRaisesRegex(FluxError, "the server is not flux"):
            await Flux(server.url).start()

    async def test_waiting_for_a_server_can_have_an_end(self):
        with self.assertRaises(FluxError) as failed:
            await Flux(f"lux://127.0.0.1:{free_port()}").start(timeout=0.2)
        self.assertEqual(failed.exception.code, "TIMEOUT")

    async def test_peer_must_be_started_and_only_once(self):
        flux = Flux("lux://127.0.0.1")
        for use in (flux.send("f"), flux.join("ws"), flux.ctx.get("ws", "a")):
            with self.assertRaisesRegex(FluxError, "await start"):
                await use
        await flux.stop()


class RestartTest(unittest.IsolatedAsyncioTestCase):
    async def test_peer_waits_for_a_server_that_is_not_there_yet(self):
        server = Server("flux")
        self.addCleanup(server.close)
        server.kill()
        flux = Flux(server.url)
        starting = asyncio.create_task(flux.start())
        await asyncio.sleep(0.1)
        await asyncio.get_running_loop().run_in_executor(None, server.start)
        await asyncio.wait_for(starting, 30)
        self.assertEqual(len(await flux.peers()), 1)
        await flux.stop()

    async def test_all_are_there_again_after_the_server_was_killed(self):
        server = Server("flux")
        self.addCleanup(server.close)
        ran = []

        gate = asyncio.Event()

        async def work(payload):
            ran.append(payload)
            await gate.wait()
            return payload

        async with Flux(server.url, "worker") as worker, Flux(server.url, "asker") as asker:
            worker.expose("work", work)
            await worker.join("ws")
            await asker.join("ws")
            heard = []
            worker.on("ctx:updated", heard.append)
            await until(lambda: asker.discover("work"))
            calls = [asyncio.create_task(asker.send("work", number, timeout=20)) for number in range(20)]
            once = asyncio.create_task(asker.send("work", "once", timeout=20, retries=0))
            await until(lambda: len(ran) == 21)
            server.kill()
            later = asyncio.create_task(asker.send("work", "later", timeout=20))
            await asyncio.get_running_loop().run_in_executor(None, server.start)
            gate.set()
            self.assertEqual(await asyncio.gather(*calls, once, later), [*range(20), "once", "later"])
            # The worker kept what it ran: nothing has run twice.
            self.assertEqual(len(ran), 22)
            await until(lambda: worker._events.wire and asker._commands.wire)
            await asker.ctx.set("ws", "a", 1)
            await until(lambda: heard)
            self.assertEqual({peer.name for peer in await asker.peers("ws")}, {"worker", "asker"})


    async def test_how_often_a_call_was_tried_is_known_after_the_server_was_killed(self):
        server = Server("flux", ())
        self.addCleanup(server.close)
        attempts = []

        async def worker(name):
            peer = Flux(server.url, name, stop_timeout=0)

            async def work(payload, call):
                attempts.append((name, call.attempt))
                await gate.wait()
                return name

            peer.expose("work", work)
            await peer.start()
            self.addAsyncCleanup(peer.stop)
            return peer

        async with Flux(server.url, "asker") as asker:
            # The first dies with the call; the second has it when the server is killed, and keeps it, or dies as well.
            for survives in (True, False):
                attempts.clear()
                gate = asyncio.Event()
                first = await worker("first")
                call = asyncio.create_task(asker.send("work", timeout=25))
                await until(lambda: len(attempts) == 1)
                second = await worker("second")
                await first.stop()
                await until(lambda: len(attempts) == 2)
                server.kill()
                await until(lambda: asker._commands.wire is None)
                if not survives:
                    await second.stop()
                await asyncio.get_running_loop().run_in_executor(None, server.start)
                third = await worker("third")
                if survives:
                    gate.set()
                    self.assertEqual(await call, "second")
                else:
                    with self.assertRaisesRegex(FluxError, "restarted") as failed:
                        await call
                    self.assertEqual(failed.exception.code, "GONE")
                self.assertEqual(attempts, [("first", 1), ("second", 2)])
                await second.stop()
                await third.stop()

    async def test_start_says_what_is_wrong_with_an_address_and_ends(self):
        server = Server("flux", ())
        self.addCleanup(server.close)
        server.kill()
        port = str(server.port)
        with self.assertRaisesRegex(FluxError, f"no server after 0.1 s: .*{port}") as failed:
            await Flux(server.url).start(0.1)
        self.assertEqual(failed.exception.code, "TIMEOUT")
        peer = Flux(server.url)
        with self.assertLogs("flux_peers", "WARNING") as said, self.assertRaises(FluxError):
            await peer.start(3)
        self.assertEqual(len(said.output), 1)
        self.assertIn(port, said.output[0])
        # Once there was a connection, it is waited for.
        server.start()
        await peer.start()
        self.addAsyncCleanup(peer.stop)
        server.kill()
        await until(lambda: peer._commands.wire is None)
        server.start()
        self.assertEqual([found.name for found in await peer.peers()], [peer.name])


if __name__ == "__main__":
    unittest.main()
