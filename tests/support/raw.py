"""A raw HTTP client over a unix socket: sends exactly the bytes it is given, and shows exactly what comes back."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from tests.support.users import User

TIMEOUT = 20.0  # seconds for each read and write: a test must never hang


@contextlib.contextmanager
def acting_as(user: User) -> Iterator[None]:
    """Connect, and touch files, as this user: the kernel takes a peer's identity from the effective ids."""
    before = os.getegid(), os.geteuid()
    _become(user.gid, user.uid)
    try:
        yield
    finally:
        _become(*before)


def _become(gid: int, uid: int) -> None:
    os.seteuid(0)  # the real uid stays 0
    os.setegid(gid)
    os.seteuid(uid)


class BrokenOff(Exception):
    """The connection ended in the middle of an answer; `got` is what came of its body."""

    def __init__(self, got: bytes) -> None:
        super().__init__(f"broken off after {len(got)} bytes: {got[-200:]!r}")
        self.got = got


class Answer:
    """One answer.

    Attributes:
        status, reason: of the status line.
        headers: names in lower case; a repeated one has its last value.
        body: empty until it is read.
    """

    def __init__(self, head: bytes) -> None:
        status_line, *lines = head.decode("latin-1").split("\r\n")
        version, status, self.reason = status_line.split(" ", 2)
        assert version == "HTTP/1.1", status_line
        self.status = int(status)
        self.headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self.body = b""

    @property
    def json(self) -> dict[str, object]:
        """The body as a JSON object."""
        value = json.loads(self.body)
        assert isinstance(value, dict), value
        return value

    @property
    def message(self) -> str:
        """The sentence of an error in Docker's form, which must be nothing else."""
        assert self.headers["content-type"] == "application/json", self.headers
        assert self.json.keys() == {"message"}, self.body
        return str(self.json["message"])


class Connection:
    """One connection.

    Attributes:
        sock: the socket.
        buffer: what was received and not yet used.
    """

    def __init__(self, path: Path | str, user: User | None = None, timeout: float = TIMEOUT) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(timeout)
        try:
            with acting_as(user) if user else contextlib.nullcontext():
                self.sock.connect(str(path))
        except OSError:
            self.sock.close()
            raise
        self.buffer = b""

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        self.sock.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are; the other side may have left already."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.sock.sendall(data)

    def request(self, method: str, target: str, body: object = None, **headers: str) -> None:
        """Send a proper request; a body goes as JSON, bytes as they are. `Content_Type="x"` gives that header."""
        lines = [f"{method} {target} HTTP/1.1", "Host: docker"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        if body is not None and "Content_Type" not in headers:
            lines.append("Content-Type: application/json")
        if (body is not None or method in ("POST", "PUT")) and "Transfer_Encoding" not in headers:
            lines.append(f"Content-Length: {len(data)}")
        self.send("\r\n".join([*lines, "", ""]).encode() + data)

    def call(self, method: str, target: str, body: object = None, **headers: str) -> Answer:
        """Send a proper request and read the whole answer."""
        self.request(method, target, body, **headers)
        return self.answer(head_only=method == "HEAD")

    def half_close(self) -> None:
        """End what this side sends."""
        self.sock.shutdown(socket.SHUT_WR)

    def receive(self) -> bytes:
        """Receive what is there, after what the buffer holds; b"" at the end, a reset included."""
        if self.buffer:
            data, self.buffer = self.buffer, b""
            return data
        try:
            return self.sock.recv(65536)
        except ConnectionResetError:
            return b""

    def until(self, mark: bytes) -> bytes:
        """Receive up to and with a mark."""
        while mark not in self.buffer:
            held, self.buffer = self.buffer, b""
            more = self.receive()
            if not more:
                raise BrokenOff(held)
            self.buffer = held + more
        found, _, self.buffer = self.buffer.partition(mark)
        return found + mark

    def exactly(self, size: int) -> bytes:
        """Receive so many bytes."""
        while len(self.buffer) < size:
            held, self.buffer = self.buffer, b""
            more = self.receive()
            if not more:
                raise BrokenOff(held)
            self.buffer = held + more
        found, self.buffer = self.buffer[:size], self.buffer[size:]
        return found

    def rest(self) -> bytes:
        """Receive all until the other side ends."""
        found = b""
        while data := self.receive():
            found += data
        return found

    def head(self) -> Answer:
        """Receive an answer's head."""
        return Answer(self.until(b"\r\n\r\n")[:-4])

    def chunk(self) -> bytes:
        """Receive one chunk; b"" is the last."""
        size = int(self.until(b"\r\n"), 16)
        data = self.exactly(size)
        assert self.exactly(2) == b"\r\n"
        return data

    def chunks(self) -> bytes:
        """Receive a chunked body up to its proper end."""
        found = b""
        try:
            while data := self.chunk():
                found += data
        except BrokenOff as error:
            raise BrokenOff(found + error.got) from None
        return found

    def answer(self, *, head_only: bool = False) -> Answer:
        """Receive an answer with its body, however framed; raises BrokenOff when the body doesn't come to its end."""
        answer = self.head()
        if head_only or answer.status in (204, 304) or answer.status < 200:
            return answer
        if "content-length" in answer.headers:
            answer.body = self.exactly(int(answer.headers["content-length"]))
        elif answer.headers.get("transfer-encoding") == "chunked":
            answer.body = self.chunks()
        else:
            answer.body = self.rest()
        return answer

    def is_closed(self) -> bool:
        """Tell whether the other side ends the connection without another byte, within the time-out."""
        return not self.buffer and self.receive() == b""


def call(
    path: Path | str, method: str, target: str, body: object = None, user: User | None = None, **headers: str
) -> Answer:
    """Do one request on a connection of its own."""
    with Connection(path, user) as connection:
        return connection.call(method, target, body, **headers)


def frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Split a multiplexed stream: 1 is stdout, 2 is stderr."""
    while data:
        size = int.from_bytes(data[4:8], "big")
        yield data[0], data[8 : 8 + size]
        data = data[8 + size :]


def output(data: bytes) -> bytes:
    """Give the stdout of a multiplexed stream."""
    return b"".join(payload for stream, payload in frames(data) if stream == 1)
