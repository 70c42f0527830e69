"""Servers and networks for tests: flux and redis-server as processes of their own, and a door that can be shut."""

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

START_TIMEOUT = 30


class Server:
    """A server that runs until it is closed; `kill` and `start` play its crash."""

    def __init__(self, kind="flux", arguments=()):
        self.folder = tempfile.mkdtemp(prefix="flux-py-")
        self.kind, self.arguments, self.port, self.process = kind, list(arguments), 0, None
        self.start()

    @property
    def url(self):
        return f"lux://127.0.0.1:{self.port}"

    def start(self):
        if self.kind == "flux":
            self.port = self._start_flux()
        else:
            self.port = self.port or free_port()
            words = ["redis-server", "--port", str(self.port), "--dir", self.folder, "--save", "", "--appendonly", "no"]
            self.process = subprocess.Popen([*words, *self.arguments], stdout=subprocess.DEVNULL)
        self._await_port()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self):
        if self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start_flux(self):
        data, log = os.path.join(self.folder, "data"), os.path.join(self.folder, "log")
        port = str(self.port)
        words = [os.environ["FLUX_BIN"], "serve", "--data", data, "--port", port, "--http-port", "0", *self.arguments]
        with open(log, "wb") as out:
            self.process = subprocess.Popen(words, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline and self.process.poll() is None:
            with open(log) as text:
                found = re.search(r"ready on redis://127\.0\.0\.1:(\d+)", text.read())
            if found:
                return int(found[1])
            time.sleep(0.01)
        with open(log) as text:
            raise AssertionError(f"flux did not start: {text.read()}")

    def _await_port(self):
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            try:
                return socket.create_connection(("127.0.0.1", self.port)).close()
            except OSError:
                time.sleep(0.01)
        raise AssertionError(f"{self.kind} does not listen on {self.port}")


class Door:
    """A way to a server through which nothing comes while it is shut, and which can cut what is under way."""

    def __init__(self, server, delay=None):
        """`delay(number)` is awaited before each piece that a client sends over the connection of that number, from 1 on."""
        self._delay, self._count = delay, 0
        self._target, self._pairs, self._listener, self.port = server.port, set(), None, 0
        self._silent = set()

    @property
    def url(self):
        return f"lux://127.0.0.1:{self.port}"

    async def open(self):
        self._listener = await asyncio.start_server(self._enter, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def shut(self):
        """Nobody gets in, and those who are in are thrown out."""
        self._listener.close()
        self.cut()

    def cut(self):
        """Ends all connections; new ones may be made."""
        for writer in list(self._pairs):
            writer.transport.abort()

    def silence(self):
        """Those who are in hear nothing more and are not heard, as when a cable is pulled; new ones are."""
        self._silent |= self._pairs

    async def _enter(self, reader, writer):
        try:
            inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, inner_writer}
        self._pairs |= both
        self._count += 1
        await asyncio.gather(self._carry(reader, inner_writer, self._count), self._carry(inner_reader, writer))
        self._pairs -= both

    async def _carry(self, reader, writer, number=None):
        try:
            while data := await reader.read(65536):
                if self._delay is not None and number is not None:
                    await self._delay(number)
                if writer not in self._silent:
                    writer.write(data)
                    await writer.drain()
        except OSError:
            pass
        finally:
            writer.transport.abort()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def until(claim, timeout=30):
    """Waits until a claim (a function, also a coroutine) holds; gives what it gave."""
    deadline = time.monotonic() + timeout
    while True:
        result = claim()
        if asyncio.iscoroutine(result):
            result = await result
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"did not come true in {timeout} s")
        await asyncio.sleep(0.005)
