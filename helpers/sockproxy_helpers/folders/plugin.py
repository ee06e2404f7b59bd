"""Speak the daemon's protocol for volume plugins: small JSON requests over HTTP/1.1, on a socket that is root's.

SECURITY: the socket is root's, and no bind with a map lets anybody connect to it: so the daemon does, or who is root on
this host anyhow. What comes is read all the same as if from anybody: bounded, strictly framed, by `Requests`, pure.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Awaitable, Callable

from sockproxy_helpers.channel.loop import IN, OUT, Loop
from sockproxy_helpers.errors import Malformed
from sockproxy_helpers.stream.chunks import Chunks

LARGEST = 65536  # of a head, and of a body
_REQUEST = re.compile(r"POST /([A-Za-z]+\.[A-Za-z]+) HTTP/1\.1")
_LENGTH = re.compile(r"[0-9]{1,5}")
_TYPE = "application/vnd.docker.plugins.v1.2+json"
Message = dict[str, object]


class Requests:
    """Take requests out of what comes, in whatever pieces.

    Invariant: `_received` holds what came and belongs to no head, and to no body, that was taken.
    """

    def __init__(self) -> None:
        self._received, self._content = bytearray(), bytearray()
        self._method = ""  # of the request whose head was taken
        self._chunks: Chunks | None = None
        self._length = 0  # of its body, when that is not chunked

    def feed(self, data: bytes) -> None:
        """Take what came."""
        self._received += data

    def next(self) -> tuple[str, Message] | None:
        """Give a method and its arguments; None until more has come.

        Raises:
            Malformed: no request as the daemon sends them.
        """
        try:
            if not self._method and not self._head():
                return None
            if not self._body():
                return None
            method, content, self._method = self._method, bytes(self._content), ""
            message = json.loads(content.decode()) if content.strip() else {}
        except (ValueError, RecursionError) as error:  # what is no ASCII, bad chunks, no JSON, or deep without end
            raise Malformed(str(error)) from error
        if not isinstance(message, dict):
            raise Malformed("no JSON object")
        return method, message

    def _head(self) -> bool:
        end = self._received.find(b"\r\n\r\n")
        if end > LARGEST or (end < 0 and len(self._received) > LARGEST + 3):
            raise Malformed("a head that is too long")
        if end < 0:
            return False
        line, *fields = self._received[:end].decode("ascii").split("\r\n")
        del self._received[: end + 4]
        match = _REQUEST.fullmatch(line)
        if not match:
            raise Malformed("no request of the daemon's")
        named = [(name.lower(), value.strip(" \t")) for name, _, value in (field.partition(":") for field in fields)]
        framing = [pair for pair in named if pair[0].strip() in ("content-length", "transfer-encoding")]
        if framing == [("transfer-encoding", "chunked")]:
            self._chunks = Chunks(self._content)
        elif framing and (framing[0][0] != "content-length" or not _LENGTH.fullmatch(framing[0][1]) or framing[1:]):
            raise Malformed("a framing that the daemon never sends")
        else:
            self._chunks, self._length = None, int(framing[0][1]) if framing else 0
        self._content.clear()
        self._method = match[1]
        return True

    def _body(self) -> bool:
        if self._chunks:
            taken = self._chunks.feed(memoryview(bytes(self._received)))
        else:
            taken = min(len(self._received), self._length - len(self._content))
            self._content += self._received[:taken]
        del self._received[:taken]
        if max(len(self._content), self._length) > LARGEST:
            raise Malformed("a body that is too long")
        return self._chunks.done if self._chunks else len(self._content) == self._length


class Connection:
    """Serve one connection of the daemon's.

    Attributes:
        pid: the daemon's; 0 from another pid namespace.
        seen: the daemon has been seen to see our mounts.
    """

    def __init__(self, loop: Loop, sock: socket.socket, pid: int, answer: Answer) -> None:
        self._loop, self._sock, self._answer = loop, sock, answer
        self.pid, self.seen = pid, False
        self._requests = Requests()

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
        except (OSError, EOFError, Malformed):
            pass
        finally:
            self._loop.close(self._sock)

    async def _request(self) -> tuple[str, Message]:
        while (request := self._requests.next()) is None:
            try:
                data = self._sock.recv(LARGEST)
            except BlockingIOError:
                await self._loop.wait({self._sock.fileno(): IN})
                continue
            if not data:
                raise EOFError
            self._requests.feed(data)
        return request

    async def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[self._sock.send(view) :]
            except BlockingIOError:
                await self._loop.wait({self._sock.fileno(): OUT})


Answer = Callable[[str, Message, Connection], Awaitable[Message]]  # a method and its arguments
