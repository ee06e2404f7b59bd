"""Play the parts around the helper core: everything runs as tasks of one `Loop`, so that nothing is left to timing."""

from __future__ import annotations

import gc
import os
import socket
from collections.abc import Coroutine
from pathlib import Path

from sockproxy_helpers.api import operations
from sockproxy_helpers.calls.call import Call
from sockproxy_helpers.calls.exchange import Exchange, Gone
from sockproxy_helpers.calls.revoke import drained
from sockproxy_helpers.channel import wire
from sockproxy_helpers.channel.loop import IN, OUT, Loop, Wait, Want
from sockproxy_helpers.content.deletion import Instead
from sockproxy_helpers.errors import Malformed, NotFound, Refused, Unavailable
from sockproxy_helpers.upstream.daemon import Daemon
from tests.support.proxy import eventually

SECONDS = 10.0  # a test that takes longer hangs
OPERATIONS = {row.name: row for row in operations.load()}
ENDS = (Unavailable, Malformed, NotFound, Refused, Gone)
Async = Coroutine[Wait, Want, None]


def descriptors() -> int:
    """Count this process's descriptors; what earlier tests have left to the garbage collector does not count."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def run(loop: Loop, *parts: Async) -> None:
    """Run coroutines to their end on the loop; the first failure of one fails the test."""
    failures: list[BaseException] = []
    left = len(parts)

    async def play(part: Async) -> None:
        nonlocal left
        try:
            await part
        except BaseException as error:
            failures.append(error)
            loop.stop()
        left -= 1
        if not left:
            loop.stop()

    async def watch() -> None:
        await loop.wait({}, SECONDS)
        failures.append(TimeoutError("the test hangs"))
        loop.stop()

    for part in parts:
        loop.spawn(play(part))
    loop.spawn(watch())
    loop._stopped = False
    loop.run()
    if failures:
        raise failures[0]


def assert_closed(most: int) -> None:
    """See that no more descriptors are open; those of other threads come and go, a leak stays."""
    eventually(lambda: descriptors() <= most, "descriptors closed", 5)


class Peer:
    """Hold one end of a stream and read it as a conversation."""

    def __init__(self, loop: Loop, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.loop, self.sock = loop, sock
        self.buffer = bytearray()

    async def send(self, data: bytes) -> None:
        """Send all."""
        view = memoryview(data)
        while view:
            try:
                view = view[self.sock.send(view) :]
            except BlockingIOError:
                await self.loop.wait({self.sock.fileno(): OUT})

    async def more(self) -> bytes:
        """Receive something; nothing at the end."""
        while True:
            try:
                data = self.sock.recv(65536)
            except BlockingIOError:
                await self.loop.wait({self.sock.fileno(): IN})
                continue
            except ConnectionResetError:
                return b""
            self.buffer += data
            return data

    async def until(self, mark: bytes) -> bytes:
        """Take everything up to and with a mark."""
        while mark not in self.buffer:
            if not await self.more():
                raise EOFError(bytes(self.buffer))
        return self.take(self.buffer.index(mark) + len(mark))

    async def read(self, size: int) -> bytes:
        """Take so many bytes."""
        while len(self.buffer) < size:
            if not await self.more():
                raise EOFError(bytes(self.buffer))
        return self.take(size)

    async def rest(self) -> bytes:
        """Take all to the end."""
        while await self.more():
            pass
        return self.take(len(self.buffer))

    async def head(self) -> bytes:
        """Take an HTTP head."""
        return await self.until(b"\r\n\r\n")

    async def request(self) -> bytes:
        """Take an HTTP request whose body has a Content-Length or none."""
        head = await self.head()
        lengths = [line[16:] for line in head.split(b"\r\n") if line.startswith(b"Content-Length: ")]
        return head + await self.read(int(lengths[0]) if lengths else 0)

    def take(self, size: int) -> bytes:
        """Take from what was received."""
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        return data

    def twin(self) -> Peer:
        """Give the same end for another task: one descriptor is waited for by one task."""
        return Peer(self.loop, self.sock.dup())

    def half_close(self) -> None:
        """Send no more."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Leave."""
        self.loop.close(self.sock)


class Listener:
    """Listen on a path as a scripted daemon or audit writer."""

    def __init__(self, loop: Loop, path: Path, kind: int = socket.SOCK_STREAM) -> None:
        self.loop, self.accepted = loop, 0
        self._socks: list[socket.socket] = []
        self.sock = socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK)
        self.sock.bind(str(path))
        self.sock.listen()

    async def accept(self) -> Peer:
        """Wait for a connection."""
        while True:
            try:
                sock, _ = self.sock.accept()
            except BlockingIOError:
                await self.loop.wait({self.sock.fileno(): IN})
                continue
            self.accepted += 1
            self._socks.append(sock)
            return Peer(self.loop, sock)

    def close(self) -> None:
        """Listen no more, and leave who was accepted."""
        self.loop.close(self.sock)
        for sock in self._socks:
            sock.close()


def message(op: str, **fields: object) -> dict[str, object]:
    """Form the front's message for an operation."""
    return {
        "op": op,
        "rid": "0123456789abcdef",
        "api": "v1.41",
        "minor": 1,
        "vars": {},
        "query": [],
        "headers": {},
        "expect": False,
        "body": 0,
        "upload": None,
        "upgrade": "",
        "assertion": "",
        **fields,
    }


class Chain:
    """Put an exchange between a client, a front and a scripted daemon."""

    def __init__(self, folder: Path) -> None:
        self.loop = Loop()
        self.listener = Listener(self.loop, folder / "docker.sock")
        self.daemon = Daemon(self.loop, str(folder / "docker.sock"))
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.client, self.ours = Peer(self.loop, theirs), ours
        self.channel, self.front = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self.exchange: Exchange | None = None
        self.lingering: list[socket.socket] = []
        self.answer = b""
        self.end: Exception | None = None

    async def call(
        self, op: str, early: bytes = b"", body: bytes | None = None, instead: Instead | None = None, **fields: object
    ) -> None:
        """Run one call; `answer` is what it gives the front, `end` the fault that ends it."""
        self.answer, self.end = b"", None
        call = Call(message(op, **fields), early, OPERATIONS)
        self.exchange = Exchange(self.loop, self.channel, self.ours, self.daemon, call)
        self.exchange.instead = instead
        try:
            self.answer = await self.exchange.run(call.query, body)
        except ENDS as error:
            self.end = error
        if self.exchange.lingering:  # as the helper does, see `revoke`
            self.lingering.append(self.exchange.lingering)
            self.loop.spawn(drained(self.loop, self.exchange.lingering, whole=False))
            await self.loop.wait({}, 0)

    def told(self) -> list[dict[str, object]]:
        """Read what the helper told the front meanwhile."""
        messages = []
        while True:
            try:
                data, _ = wire.receive(self.front)
            except BlockingIOError:
                return messages
            messages.append(wire.unpack(data)[0])

    def run(self, *parts: Async) -> None:
        """Play the parts."""
        run(self.loop, *parts)

    def leave(self) -> None:
        """End the helper's side as the front ends it: client and daemon are closed."""
        self.daemon.close()
        self.loop.close(self.ours)

    def close(self) -> None:
        """Close everything."""
        self.daemon.close()
        self.listener.close()
        for sock in (self.ours, self.client.sock, self.channel, self.front, *self.lingering):
            sock.close()
