"""Speak the daemon's protocol for volume plugins: small JSON requests over HTTP/1.1, on a socket that is root's."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Awaitable, Callable

from .chunks import Chunks
from .errors import Malformed
from .loop import IN, OUT, Loop

LARGEST = 65536  # of a head, and of a body
_REQUEST = re.compile(r"POST /([A-Za-z]+\.[A-Za-z]+) HTTP/1\.1")
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,15})\r\n")
_TYPE = "application/vnd.docker.plugins.v1.2+json"
Message = dict[str, object]


class Connection:
    """Serve one connection of the daemon's.

    Attributes:
        pid: the daemon's; 0 from another pid namespace.
        seen: the daemon has been seen to see our mounts.

    Invariant: `_received` holds what came and belongs to no request yet.
    """

    def __init__(self, loop: Loop, sock: socket.socket, pid: int, answer: Answer) -> None:
        self._loop, self._sock, self._answer = loop, sock, answer
        self.pid, self.seen = pid, False
        self._received = bytearray()

    async def serve(self) -> None:
        """Serve requests until the daemon leaves, or says what it never would."""
        try:
            while True:
                method, message = await self._request()
                answer = await self._answer(method, message, self)
                status = "500 Internal Server Error" if answer.get("Err") else "200 OK"
                body = json.dumps(answer).encode()
                head = f"HTTP/1.1 {status}\r\nContent-Type: {_TYPE}\r\nContent-Length: {len(body)}\r\n\r\n"
                await self._send(head.encode("ascii") + body)
        except (OSError, ValueError, EOFError, Malformed):
            pass
        finally:
            self._loop.close(self._sock)

    async def _request(self) -> tuple[str, Message]:
        while (end := self._received.find(b"\r\n\r\n")) < 0:
            await self._more()
        line, *fields = self._received[:end].decode("ascii").split("\r\n")
        del self._received[: end + 4]
        match = _REQUEST.fullmatch(line)
        if not match:
            raise Malformed("no request of the daemon's")
        headers = {name.strip().lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        body = await (
            self._chunked()
            if headers.get("transfer-encoding") == "chunked"
            else self._sized(headers.get("content-length", "0"))
        )
        message = json.loads(body) if body.strip() else {}
        if not isinstance(message, dict):
            raise Malformed("no JSON object")
        return match[1], message

    async def _sized(self, length: str) -> bytes:
        if not (length.isascii() and length.isdecimal() and int(length) <= LARGEST):
            raise Malformed("a length that the daemon never sends")
        while len(self._received) < int(length):
            await self._more()
        body = bytes(self._received[: int(length)])
        del self._received[: int(length)]
        return body

    async def _chunked(self) -> bytes:
        chunks, framed = Chunks(), bytearray()
        while not chunks.done:
            taken = chunks.feed(memoryview(bytes(self._received)))
            framed += self._received[:taken]
            del self._received[:taken]
            if not chunks.done:
                await self._more()
        body, at = bytearray(), 0
        while (size := _CHUNK.match(framed, at)) and int(size[1], 16):  # it is well-formed
            at = size.end() + int(size[1], 16)
            body += framed[size.end() : at]
            at += 2
        return bytes(body)

    async def _more(self) -> None:
        if len(self._received) > LARGEST:
            raise Malformed("too long")
        while True:
            try:
                data = self._sock.recv(LARGEST)
            except BlockingIOError:
                await self._loop.wait({self._sock.fileno(): IN})
            else:
                break
        if not data:
            raise EOFError
        self._received += data

    async def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self._sock.send(view) :]
            except BlockingIOError:
                await self._loop.wait({self._sock.fileno(): OUT})


Answer = Callable[[str, Message, Connection], Awaitable[Message]]  # a method and its arguments
