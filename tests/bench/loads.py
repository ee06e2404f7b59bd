"""The loads of the benchmark: each drives one socket for a bounded amount of work, and tells how that went."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

SMALL = b"GET /v1.41/containers/json HTTP/1.1\r\nHost: docker\r\nUser-Agent: bench\r\n\r\n"
PING = b"GET /_ping HTTP/1.1\r\nHost: docker\r\n\r\n"
ATTACH = (
    b"POST /v1.41/containers/" + b"c" * 64 + b"/attach?stream=1&stdin=1&stdout=1 HTTP/1.1\r\n"
    b"Host: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"
)
GET = b"GET /v1.41/images/size-%d-%s/get HTTP/1.1\r\nHost: docker\r\n\r\n"
LOAD = b"POST /v1.41/images/load HTTP/1.1\r\nHost: docker\r\nContent-Type: application/x-tar\r\n"
BLOCK = bytes(1 << 18)


class Outcome:
    """What a load did.

    Attributes:
        units: requests, GiB, streams or round trips.
        seconds: of wall time.
        latencies: of each request, in seconds, where the load has them.
    """

    def __init__(self, units: float, seconds: float, latencies: list[float] | None = None) -> None:
        self.units, self.seconds, self.latencies = units, seconds, sorted(latencies or [])


def connect(path: str) -> socket.socket:
    """Connect to a target."""
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(60)
    sock.connect(path)
    return sock


def _answer(sock: socket.socket, until: bytes = b"") -> bytes:
    """Read a small answer whole: its head, and what the length in it says."""
    data = b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        more = sock.recv(65536)
        assert more, "the connection ended"
        data += more
    assert data.split(b" ")[1][:1] in (b"1", b"2"), data[:500]
    head = data[: end + 2].lower()
    at = head.find(b"\r\ncontent-length:")
    left = int(head[at + 17 :].split(b"\r\n")[0]) - (len(data) - end - 4) if at >= 0 and not until else 0
    while left > 0:
        left -= len(sock.recv(65536))
    return data[end + 4 :]


def small(path: str, count: int, request: bytes = SMALL) -> Outcome:
    """Ask for something small again and again on one connection."""
    latencies = []
    with connect(path) as sock:
        begin = time.perf_counter()
        for _ in range(count):
            before = time.perf_counter()
            sock.sendall(request)
            _answer(sock)
            latencies.append(time.perf_counter() - before)
        return Outcome(count, time.perf_counter() - begin, latencies)


def fresh(path: str, count: int) -> Outcome:
    """Ask for something small, each time on a new connection."""
    latencies = []
    begin = time.perf_counter()
    for _ in range(count):
        before = time.perf_counter()
        with connect(path) as sock:
            sock.sendall(SMALL)
            _answer(sock)
        latencies.append(time.perf_counter() - before)
    return Outcome(count, time.perf_counter() - begin, latencies)


def download(kind: bytes) -> Callable[[str, int], Outcome]:
    """Make a load that reads so many MiB of one answer."""

    def load(path: str, mebibytes: int) -> Outcome:
        buffer = bytearray(1 << 20)
        with connect(path) as sock:
            begin = time.perf_counter()
            sock.sendall(GET % (mebibytes << 20, kind))
            got = len(_answer(sock, until=b"end"))
            tail = b""
            while got < mebibytes << 20 or (kind == b"chunked" and not tail.endswith(b"0\r\n\r\n")):
                count = sock.recv_into(buffer)
                assert count, "the answer was cut"
                got, tail = got + count, bytes(buffer[max(0, count - 5) : count])
            return Outcome(mebibytes / 1024, time.perf_counter() - begin)

    return load


def upload(kind: str) -> Callable[[str, int], Outcome]:
    """Make a load that sends so many MiB in one body."""

    def load(path: str, mebibytes: int) -> Outcome:
        framing = b"Transfer-Encoding: chunked\r\n\r\n"
        piece, end = b"%x\r\n%s\r\n" % (len(BLOCK), BLOCK), b"0\r\n\r\n"
        if kind == "length":
            framing, piece, end = b"Content-Length: %d\r\n\r\n" % (mebibytes << 20), BLOCK, b""
        with connect(path) as sock:
            begin = time.perf_counter()
            sock.sendall(LOAD + framing)
            for _ in range(mebibytes * 4):
                sock.sendall(piece)
            sock.sendall(end)
            _answer(sock)
            return Outcome(mebibytes / 1024, time.perf_counter() - begin)

    return load


def attach(path: str) -> socket.socket:
    """Open an upgraded stream."""
    sock = connect(path)
    sock.sendall(ATTACH)
    _answer(sock)
    return sock


def stream(path: str, mebibytes: int) -> Outcome:
    """Read so many MiB of an upgraded stream."""
    buffer = bytearray(1 << 20)
    with attach(path) as sock:
        begin, got = time.perf_counter(), 0
        sock.sendall(b"d%d" % mebibytes)
        while got < mebibytes << 20:
            got += sock.recv_into(buffer)
        return Outcome(mebibytes / 1024, time.perf_counter() - begin)


def interactive(path: str, count: int) -> Outcome:
    """Type 64 bytes and wait for their echo, again and again."""
    latencies = []
    with attach(path) as sock:
        begin = time.perf_counter()
        for _ in range(count):
            before = time.perf_counter()
            sock.sendall(b"k" * 64)
            assert len(sock.recv(4096)) == 64
            latencies.append(time.perf_counter() - before)
        return Outcome(count, time.perf_counter() - begin, latencies)
