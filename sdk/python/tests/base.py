"""What tests against a server share: one flux for a class of tests, peers that are stopped with their test."""

import asyncio
import unittest
import uuid

from flux_peers import Flux

from servers import Server


class ServerTest(unittest.IsolatedAsyncioTestCase):
    arguments = ()

    @classmethod
    def setUpClass(cls):
        cls.server = Server("flux", cls.arguments)
        cls.addClassCleanup(cls.server.close)

    async def asyncSetUp(self):
        # Names of its own, so that tests do not meet.
        self.ws = f"ws-{uuid.uuid4().hex[:8]}"
        self.fn = f"fn-{uuid.uuid4().hex[:8]}"

    async def peer(self, name="peer", url=None, start=True, join=None, expose=None, **options):
        """A peer, started unless told otherwise; `expose` is a handler for this test's capability."""
        peer = Flux(url or self.server.url, name, **{"job_timeout": 60, "stop_timeout": 0.2, **options})
        if expose is not None:
            peer.expose(self.fn, expose)
        if start:
            await peer.start()
        self.addAsyncCleanup(peer.stop)
        if join:
            await peer.join(join)
        return peer

    def heard(self, peer, *types):
        """A list that fills with the events of a peer."""
        events = []
        for type in types:
            peer.on(type, events.append)
        return events


async def hang(payload, call):
    await asyncio.Event().wait()
