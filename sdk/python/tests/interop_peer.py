"""A peer for tests that drive peers of several languages: interop_peer.py URL WORKSPACE [NAME]

It exposes `python.echo` (gives the payload back), `python.count` ({to}: chunks 1 to n, then n) and `python.fail` (raises the
payload's text), joins, and prints JSON lines: {"ready": id}, {"event": …}, {"chunk": …} of followed streams, and for each
command line on stdin {"id", "ok": result} or {"id", "error", "code"}. Commands (times in ms):
  {"id", "do": "send", "fn", "payload", "options"}    {"id", "do": "set" | "get" | "del", "key", "value"}
  {"id", "do": "peers"}                               {"id", "do": "stream", "key", "chunks": […]}
  {"id", "do": "follow", "peer", "key"}               {"id", "do": "stop"}
"""

import asyncio
import json
import sys

from flux_peers import Flux
from flux_peers.client import EVENTS


def tell(**facts):
    print(json.dumps(facts, separators=(",", ":")), flush=True)


def tell_event(event):
    facts = {"type": event.type, "workspace": event.workspace, "peerId": event.peer_id, "peerName": event.peer_name}
    more = {"key": event.key, "data": event.data, "seq": event.seq, "version": event.version, "left": event.left}
    facts |= {name: fact for name, fact in more.items() if fact is not None}
    tell(event=facts | ({"deleted": True} if event.deleted else {}))


class Commands:
    def __init__(self, flux, workspace):
        self.flux, self.workspace = flux, workspace

    async def send(self, fn, payload=None, options=None):
        options, chunks = dict(options or {}), []
        timeout = options.pop("timeout", None)
        data = await self.flux.send(fn, payload, timeout and timeout / 1000, on_chunk=chunks.append, **options)
        if options.get("gather") is not None:
            data = [{"peerId": a.peer_id, "peerName": a.peer_name, "ok": a.ok, "data": a.data, "error": a.error} for a in data]
        return {"data": data, "chunks": chunks} if chunks else {"data": data}

    async def set(self, key, value):
        return await self.flux.ctx.set(self.workspace, key, value)

    async def get(self, key):
        return await self.flux.ctx.get(self.workspace, key)

    async def del_(self, key):
        return await self.flux.ctx.del_(self.workspace, key)

    async def peers(self):
        return [
            {"id": p.id, "name": p.name, "capabilities": p.capabilities, "workspaces": p.workspaces, "startedAt": p.started_at}
            for p in await self.flux.peers(self.workspace)
        ]

    async def stream(self, key, chunks):
        return await self.flux.stream(self.workspace, key, chunks)

    async def follow(self, peer, key):
        def told(chunk, about):
            tell(chunk=chunk, peer=peer, key=key, seq=about.seq, missed=about.missed)

        self.flux.on_stream(peer, key, told)

    async def stop(self):
        await self.flux.stop()

    async def run(self, line):
        command = json.loads(line)
        id, what = command.pop("id"), command.pop("do")
        try:
            tell(id=id, ok=await getattr(self, "del_" if what == "del" else what)(**command))
        except Exception as error:
            tell(id=id, error=str(error), code=getattr(error, "code", None))


async def main(url, workspace, name="python"):
    flux = Flux(url, name)
    for type in EVENTS:
        flux.on(type, tell_event)

    @flux.expose("python.echo")
    async def echo(payload):
        return payload

    @flux.expose("python.count")
    async def count(payload, call):
        for number in range(1, payload["to"] + 1):
            await call.chunk(number)
        return payload["to"]

    @flux.expose("python.fail")
    async def fail(payload):
        raise RuntimeError((payload or {}).get("text", "failed as asked"))

    await flux.start()
    await flux.join(workspace)
    tell(ready=flux.id)
    commands, loop, tasks = Commands(flux, workspace), asyncio.get_running_loop(), set()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        task = asyncio.create_task(commands.run(line))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    await flux.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
