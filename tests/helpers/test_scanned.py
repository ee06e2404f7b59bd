"""Archives on their way: the end is held back until the judge has spoken, whatever the framing and the packing."""

from __future__ import annotations

import gzip
import socket
from collections.abc import Iterator

import pytest

from sockproxy_helpers.content.scanned import UNPACKED, Scanned
from sockproxy_helpers.content.tar import Scan
from sockproxy_helpers.errors import Malformed
from sockproxy_helpers.stream.relay import Broken
from tests.helpers.test_tar import ARCHIVE, BLOCK, WANTED, member, pack

BODY = ARCHIVE[: -2 * BLOCK]


class Way:
    """A client, a daemon, and the flow between them."""

    def __init__(self) -> None:
        self.client, self.ours = socket.socketpair()
        self.sink, self.daemon = socket.socketpair()
        for sock in (self.client, self.ours, self.sink, self.daemon):
            sock.setblocking(False)
        self.got = b""

    def flow(self, initial: bytes, length: int | None) -> Scanned:
        return Scanned(self.ours, self.sink, initial, length, Scan(WANTED))

    def run(self, flow: Scanned, data: bytes = b"") -> None:
        """Send the rest and step until nothing moves."""
        for _ in range(10_000):
            if data:
                try:
                    data = data[self.client.send(data[:50_000]) :]
                except BlockingIOError:
                    pass
            flow.step()
            before = len(self.got)
            try:
                self.got += self.daemon.recv(1 << 20)
            except BlockingIOError:
                pass
            if flow.done or (len(self.got) == before and not data and (flow.held or not flow._pending)):
                return
        raise AssertionError("it never ends")

    def content(self) -> bytes:
        """Take what the daemon got out of its chunks."""
        found, rest = b"", self.got
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            found, rest = found + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
        return found

    def close(self) -> None:
        for sock in (self.client, self.ours, self.sink, self.daemon):
            sock.close()


@pytest.fixture
def way() -> Iterator[Way]:
    made = Way()
    yield made
    made.close()


def chunked(data: bytes, size: int) -> bytes:
    parts = [data[place : place + size] for place in range(0, len(data), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


@pytest.mark.parametrize("early", [0, 1, 700, 1 << 20])
@pytest.mark.parametrize("framing", ["length", "chunks of 7", "chunks of 4096"])
@pytest.mark.parametrize("packing", ["plain", "gzip", "two members"])
def test_passing(way: Way, early: int, framing: str, packing: str) -> None:
    data = ARCHIVE + bytes(5000)
    if packing == "gzip":
        data = gzip.compress(data)
    elif packing == "two members":
        data = gzip.compress(data[:3000]) + gzip.compress(data[3000:])
    wire = data if framing == "length" else chunked(data, int(framing.rpartition(" ")[2]))
    flow = way.flow(wire[:early], len(data) if framing == "length" else None)
    way.run(flow, wire[early:])
    assert flow.held
    assert way.content() == BODY  # not a byte of the end
    flow.finish(b"m" * BLOCK)
    way.run(flow)
    assert (flow.done, flow.complete) == (True, True)
    assert way.content() == BODY + b"m" * BLOCK + bytes(2 * BLOCK)
    assert way.got.endswith(b"\r\n0\r\n\r\n")


def test_what_comes_behind_is_the_next_requests(way: Way) -> None:
    flow = way.flow(ARCHIVE + b"GET / HTTP/1.1", len(ARCHIVE))
    way.run(flow)
    flow.finish(b"")
    way.run(flow)
    assert flow.left_over == b"GET / HTTP/1.1"


def test_a_bomb_is_unpacked_in_pieces(way: Way) -> None:
    data = gzip.compress(pack(member("x", bytes(30 << 20))))
    flow = way.flow(data[:1000], len(data))
    assert len(flow._pending) <= UNPACKED + 100
    way.run(flow, data[1000:])
    assert flow.held
    assert len(way.content()) == (30 << 20) + BLOCK


def test_what_is_broken(way: Way) -> None:
    with pytest.raises(Malformed, match="damaged"):
        way.flow(b"\x1f\x8b\x08junk" + bytes(100), 1000)
    with pytest.raises(Malformed, match="cut off"):
        way.flow(ARCHIVE[:700], 700)
    with pytest.raises(Broken):
        way.flow(b"xyz\r\n", None)
    with pytest.raises(Malformed, match=r"packed|cut off"):
        way.flow(gzip.compress(gzip.compress(ARCHIVE)), len(gzip.compress(gzip.compress(ARCHIVE))))
