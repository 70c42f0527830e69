"""Peers of the old protocol, unchanged, on flux: among themselves (seeing what they see on a real redis-server), together with
new peers, and when one of them dies. FLUX_BIN names flux; the library of sdk/python must be importable.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
import unittest
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../sdk/python/tests"))

import redis.asyncio

from flux_peers import Flux, FluxError
from old_peer import HEARTBEAT, TTL, OldPeer
from servers import Server, until

HAS_REDIS = shutil.which("redis-server") is not None
LATE = 1.0
"""Within so many seconds of the end of a dead peer's time everyone is told."""


async def letters(text):
    for letter in text:
        yield letter


class OldTest(unittest.IsolatedAsyncioTestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server("flux")
        cls.addClassCleanup(cls.server.close)

    async def asyncSetUp(self):
        self.ws, self.fn = f"ws-{uuid.uuid4().hex[:8]}", f"fn-{uuid.uuid4().hex[:8]}"
        self.redis = redis.asyncio.Redis(port=self.server.port, decode_responses=True)
        self.addAsyncCleanup(self.redis.aclose)

    async def old(self, name, handler=None, join=True, server=None, **options):
        peer = OldPeer((server or self.server).url, name)
        if handler:
            peer.expose(self.fn, handler, **options)
        await peer.start()
        self.addAsyncCleanup(peer.close)
        if join:
            await peer.join(self.ws)
        return peer

    async def new(self, name, handler=None, join=True):
        peer = Flux(self.server.url, name, job_timeout=30, stop_timeout=0.2)
        if handler:
            peer.expose(self.fn, handler)
        await peer.start()
        self.addAsyncCleanup(peer.stop)
        if join:
            await peer.join(self.ws)
        return peer

    def victim(self, *capabilities):
        """An old peer in a process of its own; gives it and a function that awaits its next line."""
        program = os.path.join(os.path.dirname(__file__), "old_peer.py")
        words = [sys.executable, program, self.server.url, "victim", self.ws, *capabilities]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for clean in (process.stdout.close, process.stdin.close, process.wait, process.kill):
            self.addCleanup(clean)

        async def line(word="took"):
            """What it says of this; its other lines are passed over."""
            while True:
                text = await asyncio.get_running_loop().run_in_executor(None, process.stdout.readline)
                if word in json.loads(text):
                    return json.loads(text)[word]

        return process, line


class AmongThemselves(OldTest):
    """A whole life of four old peers; the same on flux and on redis-server."""

    @unittest.skipUnless(HAS_REDIS or os.environ.get("CI"), "no redis-server is installed")
    async def test_old_peers_see_on_flux_what_they_see_on_redis(self):
        plain = Server("redis")
        self.addCleanup(plain.close)
        on_flux, on_redis = await self.life(self.server), await self.life(plain)
        for step, (ours, theirs) in enumerate(zip(on_flux, on_redis, strict=True)):
            self.assertEqual(ours, theirs, f"step {step}")

    async def life(self, server):
        seen, names = [], {}

        async def settled(events, count):
            await until(lambda: len(events) >= count)
            for _ in range(5):
                await asyncio.sleep(0.01)
            told = json.dumps([events, count])
            for id, name in names.items():
                told = told.replace(id, name)
            return json.loads(told)[0]

        async def fail(payload):
            raise ValueError(f"cannot {payload}")

        tries = []

        def third_time(payload):
            tries.append(payload)
            if len(tries) < 3:
                raise ValueError("not yet")
            return len(tries)

        peers = []
        for number, name in enumerate(("ann", "bob", "cid", "dan")):
            peer = OldPeer(server.url, name)
            peer.events = []
            for kind in ("peer:joined", "peer:left", "ctx:updated", "stream:data", "stream:end"):
                peer.on(kind, peer.events.append)
            peer.expose(f"{self.fn}-{name}", lambda payload, name=name: {"by": name, "got": payload}, f"what {name} does")
            peer.expose(f"{self.fn}-fail", fail)
            if name == "dan":
                peer.expose(f"{self.fn}-third", third_time, schema={"type": "object"}, retry=2)
            await peer.start()
            self.addAsyncCleanup(peer.close)
            names[peer.id] = name
            seen.append(sorted(other["name"] for other in await peer.join(self.ws)))
            seen.append([sorted(other) for other in await peer.peers(self.ws)])
            peers.append(peer)
        ann, bob, cid, dan = peers
        seen.append(await settled(ann.events, 3))
        for caller in peers:
            for callee in names.values():
                seen.append(await caller.send(f"{self.fn}-{callee}", {"from": caller.name, "ü": [1.5, None]}))
        for caller, fn in ((ann, "fail"), (bob, "nothing"), (cid, "third")):
            try:
                seen.append(await caller.send(f"{self.fn}-{fn}", "this"))
            except RuntimeError as error:
                seen.append(str(error))
        for value in ("text", {"a": [1, None]}, 7):
            await bob.set(self.ws, "key", value)
            seen.append([await peer.get(self.ws, "key") for peer in peers])
        await cid.set(self.ws, "other", True)
        seen.append(sorted(await dan.keys(self.ws)))
        await cid.delete(self.ws, "other")
        seen.append([await dan.keys(self.ws), await dan.get(self.ws, "other")])
        chunks = []
        for peer in peers:
            peer.on_stream(cid.id, "s", lambda chunk, peer=peer: chunks.append((peer.name, chunk)))
        await cid.stream(self.ws, "s", letters("abc"))
        await until(lambda: len(chunks) == 9)
        seen.append({name: [chunk for who, chunk in chunks if who == name] for name in names.values()})
        await dan.leave(self.ws)
        seen.append(sorted(other["name"] for other in await ann.peers(self.ws)))
        await cid.stop()
        await until(lambda: len([event for event in ann.events if event["type"] == "peer:left"]) == 2)
        # Deletes of context are told on flux only.
        for peer in (ann, bob):
            seen.append([event for event in await settled(peer.events, 1) if not event.get("deleted")])
        for peer in (dan, bob, ann):
            await peer.stop()
        keys = redis.asyncio.Redis(port=server.port, decode_responses=True)
        seen.append(sorted([key for key in await keys.keys(f"flux:ws:{self.ws}:ctx:*") if await keys.ttl(key) == -1]))
        await keys.aclose()
        for event in [event for step in seen if isinstance(step, list) for event in step if isinstance(event, dict)]:
            # Fields that flux may add to its own events; an old peer does not look at them.
            for field in ("seq", "version", "left"):
                event.pop(field, None)
        self.assertEqual([error for peer in peers for error in peer.errors], [])
        return seen


class TogetherWithNew(OldTest):
    async def test_all_see_each_other(self):
        ann, bob = await self.old("ann"), await self.old("bob")
        joined = []
        ann.on("peer:joined", lambda event: joined.append(event["peerName"]))
        new, other = await self.new("new"), await self.new("other")
        everyone = {"ann", "bob", "new", "other"}
        for peer in (ann, bob):
            self.assertEqual({told["name"] for told in await peer.peers(self.ws)}, everyone)
        for peer in (new, other):
            self.assertEqual({told.name for told in await peer.peers(self.ws)}, everyone)
        await until(lambda: joined == ["new", "other"])
        [told] = [told for told in await ann.peers(self.ws) if told["name"] == "new"]
        self.assertEqual((told["id"], told["capabilities"], told["workspaces"]), (new.id, [], [self.ws]))
        self.assertGreater(told["startedAt"], 1_600_000_000_000)

    async def test_calls_go_in_every_direction(self):
        async def fail(payload):
            raise ValueError(f"cannot {payload}")

        peers = {}
        for name, make in (("old1", self.old), ("old2", self.old), ("new1", self.new), ("new2", self.new)):
            peers[name] = await make(name)
        # Each has a capability of its own, and one that fails.
        for name, peer in peers.items():
            for fn, handler in ((f"{self.fn}-{name}", lambda payload, name=name: [name, payload]), (f"{self.fn}-{name}-fail", fail)):
                peer.expose(fn, handler)
            if isinstance(peer, OldPeer):
                await peer.register()
            else:
                await until(lambda: peer.discover(f"{self.fn}-{name}-fail"))
        for asker in peers.values():
            for name in peers:
                self.assertEqual(await asker.send(f"{self.fn}-{name}", {"n": 1}), [name, {"n": 1}])
        for asker in (peers["old1"], peers["new1"]):
            for name in ("old2", "new2"):
                with self.assertRaisesRegex((RuntimeError, FluxError), "^cannot this$"):
                    await asker.send(f"{self.fn}-{name}-fail", "this")

    async def test_calls_of_one_capability_are_shared_by_old_and_new(self):
        for name in ("old1", "old2"):
            await self.old(name, lambda payload, name=name: name)
        for name in ("new1", "new2"):
            await self.new(name, lambda payload, name=name: name)
        for asker in (await self.old("old3"), await self.new("new3")):
            answers = [await asker.send(self.fn) for _ in range(12)]
            self.assertEqual(set(answers), {"old1", "old2", "new1", "new2"}, asker.name)

    async def test_all_are_asked_old_and_new(self):
        await self.old("old", lambda payload: "o")
        await self.new("new", lambda payload: "n")
        asker = await self.new("asker")
        answers = await asker.send(self.fn, gather=True)
        self.assertEqual({(answer.peer_name, answer.data) for answer in answers}, {("old", "o"), ("new", "n")})

    async def test_old_peer_that_retries_is_waited_for(self):
        tries = []

        def third_time(payload):
            tries.append(payload)
            if len(tries) < 3:
                raise ValueError("not yet")
            return "well"

        await self.old("old", third_time, retry=2)
        self.assertEqual(await (await self.new("new")).send(self.fn), "well")

    async def test_context_is_one(self):
        old, new = await self.old("old"), await self.new("new")
        by_old, by_new = [], []
        old.on("ctx:updated", lambda event: by_new.append((event["key"], event.get("data"), event["peerName"])))
        new.on("ctx:updated", lambda event: by_old.append((event.key, event.data, event.peer_name, event.deleted)))
        for value in ("text", {"a": [1, None]}, 7):
            await old.set(self.ws, "o", value)
            self.assertEqual(await new.ctx.get(self.ws, "o"), value)
            await new.ctx.set(self.ws, "n", value)
            self.assertEqual(await old.get(self.ws, "n"), value)
        await until(lambda: len(by_new) == 3 and len(by_old) == 3)
        self.assertEqual(by_old, [("o", "text", "old", False), ("o", {"a": [1, None]}, "old", False), ("o", 7, "old", False)])
        self.assertEqual(by_new, [("n", "text", "new"), ("n", {"a": [1, None]}, "new"), ("n", 7, "new")])
        self.assertEqual(sorted(await old.keys(self.ws)), sorted(await new.ctx.keys(self.ws)))
        version = (await new.ctx.get(self.ws, "o", with_version=True)).version
        await old.set(self.ws, "o", "newer")
        with self.assertRaises(FluxError) as failed:
            await new.ctx.set(self.ws, "o", "newest", if_version=version)
        self.assertEqual(failed.exception.code, "CONFLICT")
        by_old.clear()
        await old.delete(self.ws, "o")
        await until(lambda: [(key, deleted) for key, _, _, deleted in by_old if deleted] == [("o", True)])
        self.assertEqual(await new.ctx.keys(self.ws), ["n"])

    async def test_streams_reach_all(self):
        old, new, reader, late = await self.old("old"), await self.new("new"), await self.new("reader"), await self.new("late", join=False)
        to_old, to_new, ended = [], [], asyncio.Event()
        old.on_stream(new.id, "s", to_old.append)
        reader.on_stream(old.id, "s", to_new.append, ended.set)
        await new.stream(self.ws, "s", letters("abc"))
        await old.stream(self.ws, "s", letters("def"))
        await asyncio.wait_for(ended.wait(), 5)
        await until(lambda: to_old == list("abc"))
        self.assertEqual(to_new, list("def"))
        got = []
        await late.join(self.ws)
        late.on_stream(old.id, "s", got.append)
        await until(lambda: got == list("def"))

    async def test_leaving_is_told_both_ways(self):
        old, new = await self.old("old"), await self.new("new")
        left, told = [], []
        old.on("peer:left", lambda event: left.append((event["peerName"], event["workspace"])))
        new.on("peer:left", lambda event: told.append((event.peer_name, event.workspace)))
        others = await self.old("other-old"), await self.new("other-new")
        for other in others:
            await other.stop()
        await until(lambda: len(left) == 2 and len(told) == 2)
        self.assertEqual(left, [("other-old", self.ws), ("other-new", self.ws)])
        self.assertEqual(told, left)
        self.assertEqual({peer["name"] for peer in await old.peers(self.ws)}, {"old", "new"})

    async def test_new_peer_is_called_for_its_ttl_and_no_longer(self):
        """What an old caller is told about a new peer that was cut off: as for an old one, or sooner."""
        worker = await self.new("worker", lambda payload: "here")
        asker = await self.old("asker")
        self.assertEqual(await asker.send(self.fn), "here")
        await worker.stop()
        with self.assertRaisesRegex(RuntimeError, "^no (live )?peer handles"):
            await asker.send(self.fn)


class WhenOneDies(OldTest):
    async def test_death_is_told_jobs_go_on_and_nothing_is_left(self):
        victim, line = self.victim(self.fn, f"{self.fn}-only")
        id = await line("ready")
        old, new = await self.old("old"), await self.new("new")
        left_old, left_new = [], []
        old.on("peer:left", lambda event: left_old.append((time.monotonic(), event)))
        new.on("peer:left", lambda event: left_new.append((time.monotonic(), event)))
        # Two jobs that it has taken, of which one can be done by another later, and one that stays on its list.
        running = [asyncio.create_task(old.send(self.fn, "old")), asyncio.create_task(new.send(self.fn, "new"))]
        lonely = [asyncio.create_task(asker.send(f"{self.fn}-only", "x")) for asker in (old, new)]
        for _ in range(4):
            await line()
        victim.kill()
        victim.wait()
        queued = asyncio.create_task(old.send(self.fn, "queued"))
        await until(lambda: self.redis.llen(f"flux:q:{id}"))
        expires_at = time.monotonic() + await self.redis.pttl(f"flux:peer:{id}") / 1000
        self.assertLessEqual(expires_at - time.monotonic(), TTL)
        rescuer = await self.new("rescuer", lambda payload: f"{payload} by rescuer")
        await until(lambda: left_old and left_new, TTL + 5)
        for [(at, event)] in (left_old, left_new):
            self.assertLess(at - expires_at, LATE)
        event = left_old[0][1]
        self.assertEqual((event["type"], event["workspace"], event["peerId"], event["peerName"]), ("peer:left", self.ws, id, "victim"))
        self.assertEqual(left_new[0][1].left, "expired")
        self.assertEqual(await asyncio.gather(*running, queued), ["old by rescuer", "new by rescuer", "queued by rescuer"])
        for call in lonely:
            with self.assertRaises((RuntimeError, FluxError)) as failed:
                await asyncio.wait_for(call, 5)
            self.assertNotIn("timeout", str(failed.exception))
        self.assertNotIn(id, [peer["id"] for peer in await old.peers(self.ws)])
        await until(lambda: self.is_forgotten(id))
        await rescuer.stop()

    async def is_forgotten(self, id):
        """No key is its, no set holds it."""
        for key in await self.redis.keys("flux:*"):
            if id in key and await self.redis.ttl(key) == -1:
                return False
            if await self.redis.type(key) == "set" and await self.redis.sismember(key, id):
                return False
        return True

    async def test_queued_jobs_go_to_another_old_peer(self):
        victim, line = self.victim(self.fn)
        id = await line("ready")
        victim.kill()
        victim.wait()
        asker = await self.old("asker")
        call = asyncio.create_task(asker.send(self.fn, "x"))
        await until(lambda: self.redis.llen(f"flux:q:{id}"))
        await self.old("rescuer", lambda payload: f"{payload} by rescuer")
        self.assertEqual(await asyncio.wait_for(call, TTL + 5), "x by rescuer")

    async def test_peer_that_only_pauses_stays(self):
        old, new = await self.old("old"), await self.new("new")
        left = []
        new.on("peer:left", left.append)
        await asyncio.sleep(HEARTBEAT * 1.2)
        self.assertEqual(left, [])
        self.assertIn("old", [peer.name for peer in await new.peers(self.ws)])

    async def test_nothing_is_left_when_old_and_new_have_gone(self):
        peers = [await self.old("o1", lambda payload: 1), await self.new("n1", lambda payload: 1), await self.old("o2")]
        for peer in peers:
            await peer.send(self.fn)
        await peers[0].stream(self.ws, "s", letters("ab"))
        for peer in peers:
            await peer.stop()

        async def is_clean():
            mine = [key for key in await self.redis.keys("flux:*") if self.ws in key or any(peer.id in key for peer in peers)]
            return [key for key in mine if await self.redis.ttl(key) == -1] == []

        await until(is_clean)


if __name__ == "__main__":
    unittest.main()
