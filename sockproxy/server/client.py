"""Read and write a client's socket.

Plain non-blocking calls and a wait: half the cost of trio's SocketStream, and the socket can be lent to a helper
between two calls. `buffer` holds what was read and not yet used.
"""

from __future__ import annotations

import socket

import trio

from sockproxy.errors import RequestError
from sockproxy.http import head
from sockproxy.server.traffic import SMALL, Account

RECEIVE = 65536  # larger buffers go through mmap at each call (measured: 17 us instead of 2)
HEAD_SECONDS = 30.0  # for the rest of a head once it has begun; an idle connection may stay for ever
LINGER_SECONDS = 0.5  # for a client that still sends while it is refused: its CLI reads the refusal after that


class Client:
    """Own a client's connection.

    Attributes:
        ended: it sends nothing more.
    """

    def __init__(self, sock: socket.socket, account: Account) -> None:
        self.sock, self.account = sock, account
        self.buffer = bytearray()
        self.ended = False
        self._held = 0

    def hold(self, size: int) -> None:
        """Say how many bytes are held for this client now, of what it has sent or what it is to get.

        Raises:
            Crowded: its caller has too many.
        """
        large = size if size > SMALL else 0
        if large != self._held:
            more, self._held = large - self._held, large
            self.account.hold(more)

    def look(self) -> None:
        """Take what has come with the connection: by the time that it is known whose it is, most clients have asked."""
        try:
            self.buffer += self.sock.recv(RECEIVE)
        except OSError:
            pass  # nothing yet, or never: the next read waits for it, or says so

    async def receive(self) -> bytes:
        """Receive some bytes; none at the end, which is also how a reset ends it."""
        while True:
            await trio.lowlevel.wait_readable(self.sock)
            try:
                received = self.sock.recv(RECEIVE)
            except BlockingIOError:
                continue
            except OSError:
                received = b""
            self.ended = not received
            return received

    async def send(self, data: bytes) -> None:
        """Send all bytes.

        Raises:
            OSError: the client is gone.
        """
        view = memoryview(data)
        while view:
            try:
                view = view[self.sock.send(view) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(self.sock)

    async def head(self) -> bytes:
        """Take the next request's head out of the stream; empty when the client is done.

        Raises:
            RequestError: too large, too slow, or broken off.
        """
        if not self.buffer:
            self.buffer += await self.receive()
            if not self.buffer:
                return b""
        end = head.find_end(self.buffer)
        if end is None:
            with trio.move_on_after(HEAD_SECONDS):
                end = await self._rest_of_head()
            if end is None:
                raise RequestError("the request head did not come to its end", 408)
        untrusted_head = bytes(self.buffer[:end])
        del self.buffer[:end]
        return untrusted_head

    async def _rest_of_head(self) -> int | None:
        end = None
        while end is None:
            seen = len(self.buffer)
            more = await self.receive()
            if not more:
                return None
            self.buffer += more
            self.hold(len(self.buffer))
            end = head.find_end(self.buffer, seen)
        return end

    async def linger(self) -> None:
        """End the connection so that the client gets what was sent: closing on unread bytes resets it (unix(7)).

        Who has ended first can't have sent any that are unread.
        """
        if self.ended:
            return
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            return
        with trio.move_on_after(LINGER_SECONDS):
            while await self.receive():
                pass
