"""A peer of the old protocol, as its clients are: plain Redis commands over redis-py, no FLUX.* among them.

Keys, channels, JSON and the order of commands are those of that protocol, to the byte. As a program it is driven by lines
of JSON, so that a test can kill it:

    old_peer.py URL NAME WORKSPACE [CAPABILITY…]
"""

import asyncio
import inspect
import itertools
import json
import sys
import time
import uuid

import redis.asyncio

HEARTBEAT = 3.0
TTL = 10
TIMEOUT = 30.0


def to_json(value):
    """As JSON.stringify writes it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def to_text(value):
    return value if isinstance(value, str) else to_json(value)


def from_text(text):
    try:
        return json.loads(text)
    except ValueError:
        return text


class OldPeer:
    def __init__(self, url, name=None, timeout=TIMEOUT):
        self.id = str(uuid.uuid4())
        self.name = name or self.id[:8]
        self.timeout = timeout
        self.redis = redis.asyncio.Redis.from_url(url.replace("lux://", "redis://", 1), decode_responses=True)
        self.sub = self.redis.pubsub()
        self.handlers, self.retries, self.capabilities = {}, {}, []
        self.workspaces, self.listeners, self.stream_handlers = [], {}, {}
        self.waiting, self.turn, self.tasks = {}, itertools.count(), set()
        self.errors = []

    def expose(self, name, handler, description=None, schema=None, retry=0):
        told = {"name": name, "description": description, "schema": schema}
        self.capabilities.append({key: value for key, value in told.items() if value is not None})
        self.handlers[name], self.retries[name] = handler, retry

    async def start(self):
        self.started_at = int(time.time() * 1000)
        await self.register()
        await self.sub.subscribe(f"flux:notify:{self.id}", f"flux:res:{self.id}")
        self.spawn(self.listen())
        self.beating = self.spawn(self.beat())
        await self.drain()

    async def register(self):
        peer = {"id": self.id, "name": self.name, "capabilities": self.capabilities, "workspaces": self.workspaces}
        pipe = self.redis.pipeline(transaction=False)
        pipe.set(f"flux:peer:{self.id}", to_json({**peer, "startedAt": self.started_at}), ex=TTL)
        pipe.sadd("flux:peers", self.id)
        for capability in self.capabilities:
            pipe.sadd(f"flux:fn:{capability['name']}", self.id)
        await pipe.execute()

    async def stop(self):
        self.beating.cancel()
        for workspace in self.workspaces:
            await self.publish("peer:left", workspace)
        channels = [f"flux:notify:{self.id}", f"flux:res:{self.id}"]
        await self.sub.unsubscribe(*channels, *[f"flux:ws:{workspace}:events" for workspace in self.workspaces])
        pipe = self.redis.pipeline(transaction=False)
        pipe.delete(f"flux:peer:{self.id}", f"flux:peer:{self.id}:ws", f"flux:q:{self.id}")
        pipe.srem("flux:peers", self.id)
        for capability in self.capabilities:
            pipe.srem(f"flux:fn:{capability['name']}", self.id)
        for workspace in self.workspaces:
            pipe.srem(f"flux:ws:{workspace}:peers", self.id)
        await pipe.execute()
        await self.close()

    async def close(self):
        """Ends it without a word."""
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.sub.aclose()
        await self.redis.aclose()

    async def join(self, workspace):
        pipe = self.redis.pipeline(transaction=False)
        pipe.sadd(f"flux:peer:{self.id}:ws", workspace)
        pipe.sadd(f"flux:ws:{workspace}:peers", self.id)
        await pipe.execute()
        self.workspaces.append(workspace)
        await self.sub.subscribe(f"flux:ws:{workspace}:events")
        await self.publish("peer:joined", workspace)
        await self.register()
        return await self.peers(workspace)

    async def leave(self, workspace):
        await self.publish("peer:left", workspace)
        await self.sub.unsubscribe(f"flux:ws:{workspace}:events")
        pipe = self.redis.pipeline(transaction=False)
        pipe.srem(f"flux:peer:{self.id}:ws", workspace)
        pipe.srem(f"flux:ws:{workspace}:peers", self.id)
        await pipe.execute()
        self.workspaces.remove(workspace)

    async def peers(self, workspace=None):
        members = "flux:peers" if workspace is None else f"flux:ws:{workspace}:peers"
        found = []
        for id in await self.redis.smembers(members):
            text = await self.redis.get(f"flux:peer:{id}")
            if text is None:
                await self.redis.srem(members, id)
            else:
                found.append(json.loads(text))
        return found

    async def send(self, fn, payload=None, timeout=None):
        timeout = self.timeout if timeout is None else timeout
        ids = await self.redis.smembers(f"flux:fn:{fn}")
        if not ids:
            raise RuntimeError(f'no peer handles "{fn}"')
        living = []
        for id in sorted(ids):
            if await self.redis.exists(f"flux:peer:{id}"):
                living.append(id)
            else:
                await self.redis.srem(f"flux:fn:{fn}", id)
        if not living:
            raise RuntimeError(f'no live peer handles "{fn}"')
        target = living[next(self.turn) % len(living)]
        job = {"id": str(uuid.uuid4()), "fn": fn, "payload": payload, "sourceHost": self.id}
        waiting = self.waiting[job["id"]] = asyncio.get_running_loop().create_future()
        try:
            pipe = self.redis.pipeline(transaction=False)
            pipe.lpush(f"flux:q:{target}", to_json(job))
            pipe.publish(f"flux:notify:{target}", job["id"])
            await pipe.execute()
            return await asyncio.wait_for(waiting, timeout)
        except asyncio.TimeoutError:
            raise RuntimeError(f"timeout after {round(timeout * 1000)} ms") from None
        finally:
            del self.waiting[job["id"]]

    async def set(self, workspace, key, value):
        await self.redis.set(f"flux:ws:{workspace}:ctx:{key}", to_text(value))
        await self.publish("ctx:updated", workspace, key=key, data=value)

    async def get(self, workspace, key):
        text = await self.redis.get(f"flux:ws:{workspace}:ctx:{key}")
        return None if text is None else from_text(text)

    async def delete(self, workspace, key):
        await self.redis.delete(f"flux:ws:{workspace}:ctx:{key}")

    async def keys(self, workspace):
        prefix = f"flux:ws:{workspace}:ctx:"
        return [key[len(prefix) :] for key in await self.redis.keys(f"{prefix}*")]

    async def stream(self, workspace, key, chunks):
        async for chunk in chunks:
            await self.publish("stream:data", workspace, key=key, data=chunk)
        await self.publish("stream:end", workspace, key=key)

    def on(self, type, listener):
        self.listeners.setdefault(type, []).append(listener)

    def on_stream(self, peer_id, key, handler):
        self.stream_handlers[(peer_id, key)] = handler

    async def publish(self, type, workspace, **more):
        event = {"type": type, "workspace": workspace, "peerId": self.id, "peerName": self.name, **more}
        await self.redis.publish(f"flux:ws:{workspace}:events", to_json(event))

    async def beat(self):
        while True:
            await asyncio.sleep(HEARTBEAT)
            await self.register()

    async def drain(self):
        while (text := await self.redis.rpop(f"flux:q:{self.id}")) is not None:
            self.spawn(self.run(json.loads(text)))

    async def run(self, job):
        try:
            if job["fn"] not in self.handlers:
                raise RuntimeError(f'no handler for "{job["fn"]}"')
            data = self.handlers[job["fn"]](job["payload"])
            data = await data if inspect.isawaitable(data) else data
            result = {"jobId": job["id"], "ok": True, "data": data}
        except Exception as error:
            attempt = job.get("attempt", 0) + 1
            if attempt <= self.retries.get(job["fn"], 0):
                note = {"jobId": job["id"], "ok": False, "error": f"retry {attempt}: {error}"}
                await self.redis.publish(f"flux:res:{job['sourceHost']}", to_json(note))
                await self.redis.lpush(f"flux:q:{self.id}", to_json({**job, "attempt": attempt}))
                return await self.drain()
            result = {"jobId": job["id"], "ok": False, "error": str(error)}
        await self.redis.publish(f"flux:res:{job['sourceHost']}", to_json(result))

    async def listen(self):
        async for message in self.sub.listen():
            if message["type"] != "message":
                continue
            channel, text = message["channel"], message["data"]
            if channel == f"flux:notify:{self.id}":
                self.spawn(self.drain())
            elif channel == f"flux:res:{self.id}":
                self.result(json.loads(text))
            else:
                self.event(json.loads(text))

    def result(self, result):
        waiting = self.waiting.get(result["jobId"])
        if waiting is None or waiting.done():
            return
        if result["ok"]:
            waiting.set_result(result["data"])
        elif not result["error"].startswith("retry "):
            waiting.set_exception(RuntimeError(result["error"]))

    def event(self, event):
        # An old client reads these fields without a look whether they are there.
        kind, source = event["type"], (event["workspace"], event["peerId"], event["peerName"])[1]
        if source == self.id:
            return
        if kind == "stream:data" and (handler := self.stream_handlers.get((source, event["key"]))):
            handler(event["data"])
        for listener in self.listeners.get(kind, []):
            listener(event)

    def spawn(self, coroutine):
        task = asyncio.ensure_future(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.ended)
        return task

    def ended(self, task):
        self.tasks.discard(task)
        if not task.cancelled() and task.exception():
            self.errors.append(task.exception())


async def main(url, name, workspace, *capabilities):
    """Tells where it is and what happens, one JSON line each; ends with its input."""
    peer = OldPeer(url, name)

    def tell(**facts):
        print(to_json(facts), flush=True)

    async def hang(payload):
        tell(took=payload)
        await asyncio.Event().wait()

    for capability in capabilities:
        peer.expose(capability, hang)
    for kind in ("peer:joined", "peer:left", "ctx:updated", "stream:data", "stream:end"):
        peer.on(kind, lambda event: tell(event=event))
    await peer.start()
    await peer.join(workspace)
    tell(ready=peer.id)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await peer.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
