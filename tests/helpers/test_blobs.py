"""Manifests are read from the daemon's content service, and only what has the digest is believed."""

from __future__ import annotations

import hashlib
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest

from sockproxy_helpers.channel.loop import Loop
from sockproxy_helpers.errors import Unavailable
from sockproxy_helpers.upstream import blobs
from sockproxy_helpers.upstream.blobs import Blobs
from sockproxy_helpers.upstream.daemon import Daemon
from tests.buildkit import mediated
from tests.helpers.asked import finish
from tests.helpers.support import run
from tests.support.grpc import SCHEMA, message

READ = "/containerd.services.content.v1.Content/Read"
TEXT = b'{"layers": []}' * 2000
DIGEST = "sha256:" + hashlib.sha256(TEXT).hexdigest()
ABSENT = "sha256:" + "0" * 64
Answer = Callable[[socket.socket], None]


def tell(asked: bytes) -> list[bytes]:
    """Answer as containerd does: in pieces, each with its offset; nothing where nothing is."""
    if SCHEMA.parse("content.ReadRequest", asked).digest != DIGEST:
        return []
    half = len(TEXT) // 2
    return [
        message("content.ReadResponse", data=TEXT[:half]),
        message("content.ReadResponse", offset=half, data=TEXT[half:]),
    ]


@contextmanager
def service(folder: Path, head: bytes, serve: Answer) -> Iterator[tuple[Loop, Blobs]]:
    """Serve one connection at a daemon's socket, from behind its upgrade."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "docker.sock"))
    listener.listen()

    def accept() -> None:
        sock, _ = listener.accept()
        while b"\r\n\r\n" not in sock.recv(4096, socket.MSG_PEEK):
            pass
        asked = sock.recv(4096, socket.MSG_PEEK)
        sock.recv(asked.index(b"\r\n\r\n") + 4)
        assert b"POST /grpc HTTP/1.1\r\n" in asked
        sock.sendall(head)
        serve(sock)
        sock.close()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    loop = Loop()
    reader = Blobs(Daemon(loop, str(folder / "docker.sock")))
    yield loop, reader
    reader.close()
    thread.join(20)
    assert not thread.is_alive()
    listener.close()


UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"


def grpc(answers: Callable[[bytes], list[bytes]]) -> Answer:
    return lambda sock: mediated.Daemon(sock, {READ: answers}).run()  # type: ignore[dict-item]


def test_what_is_there_and_what_is_not(tmp_path: Path) -> None:
    async def ask() -> None:
        for digest, text in ((DIGEST, TEXT), (ABSENT, None), (DIGEST, TEXT)):
            assert await reader.read(digest) == text

    with service(tmp_path, UPGRADED, grpc(tell)) as (loop, reader):
        run(loop, ask())


@pytest.mark.parametrize(("status", "told"), [("404 Not Found", True), ("500 Internal Server Error", False)])
def test_where_there_is_no_such_service(tmp_path: Path, status: str, told: bool) -> None:
    async def ask() -> None:
        assert await reader.read(DIGEST) is None

    head = f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode()
    expected = nullcontext() if told else pytest.raises(Unavailable, match="has no content service")
    with service(tmp_path, head, lambda sock: None) as (loop, reader), expected:
        run(loop, ask())


def frame(kind: int, flags: int, payload: bytes = b"", stream: int = 1) -> bytes:
    return len(payload).to_bytes(3) + struct.pack(">BBI", kind, flags, stream) + payload


def said(data: bytes) -> bytes:
    return frame(0, 1, struct.pack(">BI", 0, len(data)) + data)


@pytest.mark.parametrize(
    "answer",
    [
        said(b"\x12\x01x"),  # of another digest
        said(b"\x1a\x01x"),  # an unknown field
        said(b"\x12\xff"),  # cut
        frame(0, 1, b"\1\0\0\0\2\x08\1"),  # compressed
        frame(0, 8 | 1, b"\0" * 8),  # padded
        frame(3, 0, b"\0" * 4),  # reset
        frame(7, 0, b"\0" * 8, 0),  # going away
        b"\xff" * 9,  # a frame that is too large
        frame(4, 0, b"", 0) + frame(6, 0, b"\0" * 8, 0) + frame(8, 0, b"\0\0\0\1", 0),  # all well, and the end
        frame(0, 0, b"\0" * 16384) * (blobs.MOST // 16384 + 1),
    ],
)
def test_what_is_no_answer(tmp_path: Path, answer: bytes) -> None:
    def serve(sock: socket.socket) -> None:
        try:
            sock.sendall(answer)
        except BrokenPipeError:
            pass  # it has heard enough
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(4096):
            pass

    async def ask() -> None:
        await reader.read(DIGEST)

    with service(tmp_path, UPGRADED, serve) as (loop, reader), pytest.raises(Unavailable):
        run(loop, ask())


@pytest.mark.parametrize(
    ("status", "told", "expected"),
    [
        (200, {"DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]}, True),
        (200, {"DriverStatus": [["Backing Filesystem", "extfs"]]}, False),
        (200, {}, False),  # podman
        (500, {"message": "no"}, True),
    ],
)
def test_which_store_there_is(monkeypatch: pytest.MonkeyPatch, status: int, told: object, expected: bool) -> None:
    asked: list[str] = []

    class Told:
        async def request(self, method: str, target: str) -> tuple[int, bytes]:
            asked.append(target)
            return status, json.dumps(told).encode()

    monkeypatch.setattr(blobs, "_asked", [])
    assert [finish(blobs.used(Told())) for _ in "ab"] == [expected] * 2  # type: ignore[arg-type]
    assert asked == ["/info"]  # it is remembered for a while
