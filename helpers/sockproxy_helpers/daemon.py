"""Speak HTTP/1.1 with the Docker daemon.

The daemon is trusted with its own containers, not with our framing: an answer that does not follow RFC 9112 ends the
call. Requests are built here from an operation and a checked model; no byte of a client's request head gets this far.
"""

from __future__ import annotations

import errno
import re
import socket

from .errors import Unavailable
from .loop import IN, OUT, Loop

HEAD_LIMIT = 1 << 20  # what dockerd itself takes and gives (Go net/http DefaultMaxHeaderBytes)
RECEIVE = 65536  # a larger buffer goes through mmap at each call (measured: 17 us instead of 2)
CONNECT_TRIES, CONNECT_PAUSE = 50, 0.1  # a full backlog answers EAGAIN; give a busy daemon 5 s

_STATUS = re.compile(r"HTTP/1\.[01] ([1-5][0-9]{2})(?: ([\t -~\x80-\xff]*))?")
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t -~\x80-\xff]*?)[ \t]*")
_HOP = frozenset(("connection", "keep-alive", "proxy-connection", "upgrade", "transfer-encoding", "content-length"))
BODYLESS = frozenset((204, 304))


class Response:
    """Hold a response head.

    Attributes:
        length: bytes of the body; None when chunked or delimited by the end of the connection.
        chunked: the body is chunked.
        close: the daemon will close, or the body is delimited by the end.
    """

    __slots__ = ("chunked", "close", "fields", "length", "reason", "status", "upgrade")

    def __init__(self, untrusted_head: str, method: str) -> None:
        """Parse a head.

        Raises:
            ValueError: not a response head (RFC 9112 sections 4, 5, 6.3).
        """
        status_line, *lines = untrusted_head.split("\r\n")
        match = _STATUS.fullmatch(status_line)
        if not match:
            raise ValueError("bad status line")
        self.status, self.reason = int(match[1]), match[2] or ""
        self.fields: list[tuple[str, str]] = []
        framing: dict[str, str] = {}
        for line in lines:
            field = _FIELD.fullmatch(line)
            if not field:
                raise ValueError("bad header field")
            name, value = field[1], field[2]
            if name.lower() not in _HOP:
                self.fields.append((name, value))
            elif framing.setdefault(name.lower(), value) != value:
                raise ValueError(f"two values for {name}")
        self._frame(framing, method, status_line.startswith("HTTP/1.1"))

    def _frame(self, framing: dict[str, str], method: str, persistent: bool) -> None:
        self.upgrade = framing.get("upgrade", "")
        coding, length = framing.get("transfer-encoding"), framing.get("content-length")
        if coding is not None and (coding.lower() != "chunked" or length is not None):
            raise ValueError("bad transfer coding")
        if length is not None and not (length.isdecimal() and length.isascii() and len(length) < 19):
            raise ValueError("bad content length")
        bodyless = method == "HEAD" or self.status in BODYLESS or self.status < 200
        self.chunked = coding is not None and not bodyless
        self.length = 0 if bodyless else None if length is None else int(length)
        # What HEAD would have sent is passed on; elsewhere the length is what is sent.
        self.fields += [("Content-Length", length)] if length is not None else []
        self.fields += [("Transfer-Encoding", "chunked")] if self.chunked else []
        options = framing.get("connection", "").lower()
        unframed = self.length is None and not self.chunked
        self.close = unframed or "close" in options or not (persistent or "keep-alive" in options)

    def set_length(self, length: int) -> None:
        """Say that the body is another one, of this length; the connection can then go on."""
        self.fields = [field for field in self.fields if field[0] not in ("Content-Length", "Transfer-Encoding")]
        self.fields.append(("Content-Length", str(length)))
        self.length, self.chunked, self.close = length, False, False

    def head(self, request_id: str, close: bool) -> bytes:
        """Form the head as the client gets it, with the connection's own fields made anew (RFC 9110 section 7.6.1)."""
        fields = [*self.fields, ("X-Sockproxy-Request-Id", request_id)]
        if self.status == 101:
            fields += [("Connection", "Upgrade"), ("Upgrade", self.upgrade)]
        elif close:
            fields += [("Connection", "close")]
        lines = [f"HTTP/1.1 {self.status} {self.reason}", *(f"{name}: {value}" for name, value in fields)]
        return "\r\n".join((*lines, "", "")).encode("latin-1")


def request_head(method: str, target: str, minor: int, fields: list[tuple[str, str]]) -> bytes:
    """Form a request head.

    Raises:
        ValueError: a field value holds what would end the line: the last check before the daemon.
    """
    lines = [f"{method} {target} HTTP/1.{minor}", "Host: docker", *(f"{name}: {value}" for name, value in fields)]
    if not all(line.isascii() and line.isprintable() for line in lines):
        raise ValueError("control character in a request head")
    return "\r\n".join((*lines, "", "")).encode("ascii")


class Daemon:
    """Keep one connection to the daemon.

    Invariant: `received` holds bytes that the daemon sent and nobody used yet; a connection goes back to idle only when
    it is empty and the last response has ended.
    """

    def __init__(self, loop: Loop, path: str) -> None:
        self._loop, self._path = loop, path
        self.sock: socket.socket | None = None
        self.received = bytearray()

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
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        for _ in range(CONNECT_TRIES):
            error = sock.connect_ex(self._path)
            if error == 0:
                return sock
            if error != errno.EAGAIN:
                break
            await self._loop.wait({}, CONNECT_PAUSE)
        sock.close()
        raise Unavailable("the Docker daemon does not answer: is it running?")

    async def send(self, data: bytes) -> None:
        """Send all of a head, or of a small body.

        Raises:
            Unavailable: the daemon is gone.
        """
        sock, view = await self.open(), memoryview(data)
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

    async def request(self, method: str, target: str, body: bytes = b"") -> tuple[int, bytes]:
        """Ask the daemon something for the helper's own use and read the whole answer.

        Raises:
            Unavailable: no daemon, or it broke off.
        """
        fields = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))] if body else []
        # HTTP/1.0: the answer ends with the connection.
        await self.send(request_head(method, target, 0, fields) + body)
        assert self.sock is not None
        while data := await self._receive(self.sock):
            self.received += data
        response = self.take_head(method)
        body = bytes(self.received)
        self.close()
        if response is None or response.chunked or len(body) < (response.length or 0):
            raise Unavailable("the Docker daemon broke off its answer")
        return response.status, body

    async def _receive(self, sock: socket.socket) -> bytes:
        while True:
            try:
                return sock.recv(RECEIVE)
            except BlockingIOError:
                await self._loop.wait({sock.fileno(): IN})
            except OSError:
                return b""

    def close(self) -> None:
        """Drop the connection, and with it whatever the daemon still does for it."""
        if self.sock is not None:
            self._loop.close(self.sock)
            self.sock = None
        self.received.clear()
