"""Conversations of many requests, broken at random: what the daemon is asked is what h11 alone reads in them.

Requests for `evil…` stand where a careless reader would find them: in bodies, chunks, headers, behind upgrades. The
daemon may be asked for one only where it is a request to h11, too. A real dockerd is a judge as well: its log tells
what it reads.
"""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import h11
import pytest

from tests.support.engines import Engine
from tests.support.fake_daemon import FakeDaemon
from tests.support.proxy import Proxy, eventually
from tests.support.raw import Connection

pytestmark = [pytest.mark.daemon, pytest.mark.root]

CONVERSATIONS = int(os.environ.get("SOCKPROXY_CONVERSATIONS", "150"))
CALLED = re.compile(r"\brequest-url=(\S+)")  # in dockerd's log
MARK = re.compile(r"(?:good|evil)[0-9]+")
FRAMING = (
    b"Content-Length: %d\r\n", b"content-length:%d\r\n", b"Content-Length: %d\r\nContent-Length: %d\r\n",
    b"Content-Length: %d, %d\r\n", b"Content-Length: +%d\r\n", b"Content-Length: 0%d\r\n", b"Content-Length : %d\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: Chunked\r\n", b"Transfer-Encoding: chunked, identity\r\n",
    b"Transfer-Encoding:\tchunked\r\n", b"Transfer-Encoding: chunked\r\nContent-Length: %d\r\n", b"",
    b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n", b"Transfer-Encoding: xchunked\r\nContent-Length: %d\r\n",
    b"X: y\r\n Transfer-Encoding: chunked\r\nContent-Length: %d\r\n", b"Content-Length: %d\r\nExpect: 100-continue\r\n",
    b"Connection: Content-Length\r\nContent-Length: %d\r\n", b"Connection: close\r\nContent-Length: %d\r\n",
)  # fmt: skip
SIZES = (b"%x", b"%X", b"0%x", b"%x;evil=1", b"0x%x", b"%x ", b"+%x")
TRAILERS = (b"", b"", b"", b"X: evil\r\n", b"Content-Length: 50\r\n")


class Speaker:
    """Make conversations."""

    def __init__(self, seed: int) -> None:
        self.chance, self.count = random.Random(seed), seed * 100

    def mark(self, word: str) -> str:
        """Give a name that was not used before."""
        self.count += 1
        return f"{word}{self.count}"

    def evil(self) -> bytes:
        """Give a request that is to stay hidden."""
        return f"GET /v1.41/containers/{self.mark('evil')}/logs?stdout=1 HTTP/1.1\r\nHost: d\r\n\r\n".encode()

    def request(self) -> bytes:
        """Give one of the conversation."""
        name, kind = self.mark("good"), self.chance.randrange(6)
        version = self.chance.choice((b"1.1", b"1.1", b"1.1", b"1.0"))
        if kind == 0:
            method, target = b"GET", f"/v1.41/containers/{name}/logs?stdout=1"
        elif kind == 1:
            method, target = b"HEAD", f"/v1.41/containers/{name}/archive?path=/x"
        elif kind == 2:
            method, target = b"PUT", f"/v1.41/containers/{name}/archive?path=/"
        elif kind == 3:
            method, target = b"POST", f"/v1.41/containers/create?name={name}"
        elif kind == 4:
            method, target = b"POST", f"/v1.41/containers/{name}/attach?stream=1&stdout=1"
        else:
            method, target = b"DELETE", f"/v1.41/containers/{name}"
        head = b"%s %s HTTP/%s\r\nHost: d\r\n" % (method, target.encode(), version)
        if self.chance.random() < 0.2:
            head += b"X: " + self.evil().replace(b"\r\n", self.chance.choice((b" ", b"\n", b"\r", b"\r\n "))) + b"\r\n"
        if kind == 4 or self.chance.random() < 0.1:
            head += self.chance.choice((b"Connection: Upgrade\r\nUpgrade: tcp\r\n", b"Upgrade: h2c\r\n", b""))
        if kind in (0, 1, 5) and self.chance.random() < 0.7:
            return head + b"\r\n"
        body = b'{"Image":"busybox"}' if kind == 3 and self.chance.random() < 0.7 else self.evil()
        framing = self.chance.choice(FRAMING) if self.chance.random() < 0.5 else FRAMING[0]
        if b"hunked" in framing and self.chance.random() < 0.9:
            sizes = SIZES if self.chance.random() < 0.3 else SIZES[:2]
            pieces = [(self.chance.choice(sizes) % len(piece), piece) for piece in (body[:9], body[9:])]
            body = b"".join(b"%s\r\n%s\r\n" % chunk for chunk in pieces)
            body += b"0\r\n" + self.chance.choice(TRAILERS) + b"\r\n"
        length = len(body) + self.chance.choice((0, 0, 0, 0, 1, -1, -20))
        framing = framing.replace(b"%d", b"%d" % max(0, length))
        return head + b"Content-Type: application/json\r\n" + framing + b"\r\n" + body

    def conversation(self) -> bytes:
        """Give all of one."""
        return b"".join(self.request() for _ in range(self.chance.randint(1, 4)))


def read_by_h11(data: bytes) -> set[str]:
    """Find the names that are asked for, as h11 reads."""
    found: set[str] = set()
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data)
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                found |= set(MARK.findall(event.target.decode()))
            elif isinstance(event, h11.EndOfMessage):
                connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                connection.send(h11.EndOfMessage())
                connection.start_next_cycle()
            elif event in (h11.NEED_DATA, h11.PAUSED) or isinstance(event, h11.ConnectionClosed):
                return found
    except (h11.RemoteProtocolError, h11.LocalProtocolError):
        return found


def converse(proxy: Proxy, seed: int) -> bytes:
    """Hold a conversation to its end; give what was said."""
    data = Speaker(seed).conversation()
    with Connection(proxy.listen) as connection:
        for piece in [data] if seed % 2 else [data[: len(data) // 2], data[len(data) // 2 :]]:
            connection.send(piece)
        connection.half_close()
        connection.rest()
    return data


def test_the_daemon_is_asked_what_h11_reads(noted: Proxy, fake_daemon: FakeDaemon) -> None:
    asked = 0
    for seed in range(CONVERSATIONS):
        fake_daemon.forget()
        data = converse(noted, seed)
        served = {name for line in fake_daemon.requests for name in MARK.findall(line)}
        assert served <= read_by_h11(data), (seed, data)
        asked += len(served)
    assert asked > CONVERSATIONS / 4


@pytest.fixture
def telling_engine(folder: Path) -> Iterator[Engine]:
    """An engine that tells in its log what it is asked, as it reads it."""
    engine = Engine("28", folder / "telling-engine", options="--debug")
    yield engine
    engine.stop()


def test_dockerd_reads_what_h11_reads_and_the_record_says(
    telling_engine: Engine, start_proxy: Callable[..., Proxy]
) -> None:
    proxy, asked = start_proxy(telling_engine), set[str]()
    with open(telling_engine.folder / "log") as log:
        for seed in range(CONVERSATIONS):
            log.seek(0, os.SEEK_END)
            data = converse(proxy, seed)
            served = {name for url in CALLED.findall(log.read()) for name in MARK.findall(url)}
            assert served <= read_by_h11(data), (seed, data)
            asked |= served
    assert len(asked) > CONVERSATIONS / 4

    def unrecorded() -> set[str]:
        return asked - set(MARK.findall(json.dumps([record.get("req") for record in proxy.records()])))

    eventually(lambda: not unrecorded(), "all that was asked is on the record")
