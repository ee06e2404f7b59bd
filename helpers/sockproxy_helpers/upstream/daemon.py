"""Keep a connection to the Docker daemon."""

from __future__ import annotations

import errno
import socket

from sockproxy_helpers.channel.loop import IN, OUT, Loop
from sockproxy_helpers.errors import Unavailable
from sockproxy_helpers.stream.http import Response, request_head

HEAD_LIMIT = 1 << 20  # what dockerd itself takes and gives (Go net/http DefaultMaxHeaderBytes)
RECEIVE = 65536  # a larger buffer goes through mmap at each call (measured: 17 us instead of 2)
CONNECT_TRIES, CONNECT_PAUSE = 50, 0.1  # a full backlog answers EAGAIN; give a busy daemon 5 s


class Daemon:
    """Keep one connection to the daemon.

    Invariant: `received` holds bytes that the daemon sent and nobody used yet; a connection goes back to idle only when
    it is empty and the last response has ended.
    """

    def __init__(self, loop: Loop, path: str) -> None:
        self._loop, self._path = loop, path
        self.sock: socket.socket | None = None
        self.received = bytearray()

    def another(self) -> Daemon:
        """Give a further connection to the same daemon, not yet open."""
        return Daemon(self._loop, self._path)

    async def open(self) -> socket.socket:
        """Give a connection that the daemon has not closed: the idle one, or a new one.

        Raises:
            Unavailable: nobody listens.
        """
        if self.sock is not None and not self._idle(self.sock):
            self.close()
        if self.sock is None:
            self.sock = await self._connect()
        return self.sock

    def _idle(self, sock: socket.socket) -> bool:
        """Tell whether an idle connection still lives: a restarted daemon has closed it, and says nothing unasked."""
        try:
            sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    async def _connect(self) -> socket.socket:
        try:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as short:  # of descriptors
            raise Unavailable(f"no connection to the Docker daemon can be made now: {short.strerror}", 503) from short
        for _ in range(CONNECT_TRIES):
            if (error := sock.connect_ex(self._path)) != errno.EAGAIN:
                break
            await self._loop.wait({}, CONNECT_PAUSE)
        if error == 0:
            return sock
        sock.close()
        raise Unavailable("the Docker daemon does not answer: is it running?")

    async def send(self, data: bytes, *, on: bool = False) -> None:
        """Send all of a head, or of a small body; `on`: more on a connection that may be saying something.

        Raises:
            Unavailable: the daemon is gone.
        """
        sock, view = self.sock if on else await self.open(), memoryview(data)
        assert sock is not None
        while view:
            try:
                view = view[sock.send(view) :]
            except BlockingIOError:
                await self._loop.wait({sock.fileno(): OUT})
            except OSError as error:
                self.close()
                raise Unavailable("the Docker daemon closed the connection") from error

    def take_head(self, method: str) -> Response | None:
        """Take a complete response head out of what was received; interim responses are dropped (RFC 9110 15.2).

        Raises:
            Unavailable: the bytes are no response head.
        """
        while (end := self.received.find(b"\r\n\r\n")) >= 0:
            untrusted_head = self.received[:end].decode("latin-1")
            del self.received[: end + 4]
            try:
                response = Response(untrusted_head, method)
            except ValueError as error:
                raise Unavailable(f"the Docker daemon answered malformed HTTP: {error}") from error
            if response.status == 101 or response.status >= 200:
                return response
        if len(self.received) > HEAD_LIMIT:
            raise Unavailable("the Docker daemon's answer has too large a head")
        return None

    async def request(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        more: list[tuple[str, str]] | None = None,
        most: int | None = None,
    ) -> tuple[int, bytes]:
        """Ask the daemon something for the helper's own use and read the whole answer.

        Args:
            most: bytes of an answer whose size is not the daemon's own to choose.

        Raises:
            Unavailable: no daemon, or it broke off, or the answer is too long.
        """
        fields = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))] if body else []
        fields += more or []
        await self.send(request_head(method, target, 0, fields) + body)  # 1.0: the end is the connection's
        assert self.sock is not None
        response = None
        try:
            while response is None or response.length is None or len(self.received) < response.length:
                data = await self._receive(self.sock)
                if not data:
                    break
                self.received += data
                response = response or self.take_head(method)
                if most is not None and len(self.received) > most:
                    raise Unavailable("the Docker daemon's answer is too long")
            body = bytes(self.received)
        finally:
            self.close()  # also after what is no answer: what follows it is none to the next question
        if response is None or response.chunked or len(body) < (response.length or 0):
            raise Unavailable("the Docker daemon broke off its answer")
        return response.status, body

    async def follow(self, target: str) -> None:
        """Ask for something that the daemon goes on telling; each piece of it makes the socket readable.

        Raises:
            Unavailable: no daemon.
        """
        await self.send(request_head("GET", target, 0, []))

    def take(self) -> bytes:
        """Take what has come.

        Raises:
            Unavailable: nothing more will.
        """
        assert self.sock is not None
        taken = b""
        try:
            while data := self.sock.recv(RECEIVE):
                taken += data
        except BlockingIOError:
            return taken
        except OSError:
            pass
        raise Unavailable("the Docker daemon closed the connection")

    async def receive(self) -> None:
        """Wait for more on a connection that is open.

        Raises:
            Unavailable: nothing more will come.
        """
        assert self.sock is not None
        data = await self._receive(self.sock)
        if not data:
            raise Unavailable("the Docker daemon closed the connection")
        self.received += data

    async def _receive(self, sock: socket.socket) -> bytes:
        while True:
            try:
                return sock.recv(RECEIVE)
            except BlockingIOError:
                await self._loop.wait({sock.fileno(): IN})
            except OSError:
                return b""

    def give_up(self) -> socket.socket | None:
        """Hand the connection over as it is."""
        sock, self.sock = self.sock, None
        return sock

    def close(self) -> None:
        """Drop the connection, and with it whatever the daemon still does for it."""
        if self.sock is not None:
            self._loop.close(self.sock)
            self.sock = None
        self.received.clear()
