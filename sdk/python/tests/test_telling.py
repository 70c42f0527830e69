"""What the server knows of a peer is what the peer told last, in whatever order its connections are read."""

import asyncio
import os
import random
import time
import unittest

from flux_peers import Flux, FluxError

from base import ServerTest
from servers import Door, until

PEERS = int(os.environ.get("FLUX_PEERS", "60"))
STEPS = 12


async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)


async def told(watcher, id):
    """What the server knows of a peer: its capabilities, its workspaces."""
    for peer in await watcher.peers():
        if peer.id == id:
            return sorted(capability["name"] for capability in peer.capabilities), sorted(peer.workspaces)
    return None


async def answers(watcher, name):
    try:
        return await watcher.send(name) == name
    except FluxError:
        return False


def echo(name):
    async def handler(payload):
        return name

    return handler


class Telling(ServerTest):
    async def test_what_is_offered_while_the_connection_for_work_is_made_is_not_lost_when_that_comes_late(self):
        late = asyncio.Event()

        async def delay(number):
            if number == 3:
                await late.wait()

        door = await Door(self.server, delay).open()
        peer, watcher = await self.peer("late", door.url), await self.peer("watcher")
        await peer.join("left")
        for name in "abc":
            await peer.expose(name, echo(name))
        await peer.leave("left")
        before = await told(watcher, peer.id)
        late.set()
        self.assertEqual(await watcher.send("c"), "c", "its connection for work is there now")
        self.assertEqual([before, await told(watcher, peer.id)], [(["a", "b", "c"], [])] * 2)
        await door.shut()

    async def test_a_capability_can_be_called_as_soon_as_its_expose_is_awaited(self):
        caller = await self.peer("caller")

        async def play(number):
            peer = await self.peer(f"p{number}")
            names = [f"{letter}{number}" for letter in "abcd"]
            for name in names:
                await peer.expose(name, echo(name))
                self.assertEqual(await caller.send(name), name)
            self.assertEqual(await told(caller, peer.id), (names, []))

        await asyncio.gather(*map(play, range(PEERS)))

    async def test_after_any_order_of_exposing_joining_leaving_cuts_and_new_starts_the_server_knows_what_the_peer_is(self):
        watcher = await self.peer("watcher")
        seed = int(os.environ.get("FLUX_SEED", time.time_ns() % 10**9))
        with self.subTest(FLUX_SEED=seed):
            await asyncio.gather(*(self.play(watcher, number, random.Random(seed + number)) for number in range(PEERS)))

    async def play(self, watcher, number, chance):
        """One peer does things at random, waiting for some of them; then all it offers can be called, and nothing else is known of it."""

        async def delay(_):
            await turns(chance.randrange(60) if chance.randrange(4) == 0 else 0)

        door = await Door(self.server, delay).open()
        peer = Flux(door.url, f"p{number}", 60, stop_timeout=0.01)
        self.addAsyncCleanup(peer.stop)
        offers, workspaces, open, played = set(), set(), [], []

        async def expose():
            name = f"{chance.choice('abcdef')}-{number}"
            offers.add(name)
            await peer.expose(name, echo(name))

        async def join():
            where = f"w{chance.randrange(3)}-{number}"
            workspaces.add(where)
            await peer.join(where)

        async def leave():
            where = f"w{chance.randrange(3)}-{number}"
            workspaces.discard(where)
            await peer.leave(where)

        async def cut():
            door.cut()

        async def wait():
            await turns(chance.randrange(20))

        async def restart():
            await asyncio.gather(*open)
            await peer.stop()
            workspaces.clear()
            await peer.start()

        for count in range(chance.randrange(3)):
            peer.expose(f"before{count}-{number}", echo(f"before{count}-{number}"))
            offers.add(f"before{count}-{number}")
        await peer.start()
        for _ in range(STEPS):
            step = chance.choice([expose, expose, expose, expose, join, leave, cut, wait, restart])
            played.append(step.__name__)
            if step is restart or chance.randrange(2):
                # What is under way may be about the same workspace; it is done in the order in which it was begun.
                await step()
            else:
                open.append(asyncio.ensure_future(step()))
                await turns(1)
        await asyncio.gather(*open)
        for name in sorted(offers):
            # One that a cut met may have failed.
            await until(lambda: answers(watcher, name))
        await until(lambda: told(watcher, peer.id))
        await turns(50)
        self.assertEqual(await told(watcher, peer.id), (sorted(offers), sorted(workspaces)), played)
        await door.shut()


if __name__ == "__main__":
    unittest.main()
