"""The writer behind a real socket: what it takes, what it answers, whom it cuts off."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from sockproxy.audit import chain
from sockproxy.audit.keeper import Keeper
from sockproxy.audit.log import NAME, Log
from sockproxy.audit.writer import BURST, CONNECTIONS, LIMIT, Writer

BOUND = 10.0  # seconds that no test needs


class Server:
    """Run a writer in a thread."""

    def __init__(self, folder: Path, allowed: frozenset[int]) -> None:
        self.path, self.folder = str(folder / "audit.sock"), folder
        self.log = Log(str(folder))
        self.writes: list[int] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(self.path)
        self._listener.listen()
        self.readers = str(folder / "readers.sock")
        self._readers = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._readers.bind(self.readers)
        self._readers.listen()
        self._stop, self._stopped = socket.socketpair()
        self.keeper = Keeper(self.log)
        writer = Writer(self._listener, self.keeper, allowed, self._readers)
        self._thread = threading.Thread(target=writer.run, args=(self._stopped,))
        self._running = False

    def start(self) -> None:
        self._thread.start()
        self._running = True

    def stop(self) -> None:
        if self._running:
            self._running = False
            self._stop.send(b"x")
            self._thread.join(BOUND)
            assert not self._thread.is_alive()

    def close(self) -> None:
        self.stop()
        self.log.close()
        for sock in (self._listener, self._readers, self._stop, self._stopped):
            sock.close()

    def connect(self, path: str = "") -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.settimeout(BOUND)
        sock.connect(path or self.path)
        return sock

    def lines(self, torn: bool = False) -> list[dict[str, object]]:
        lines = (self.folder / NAME).read_bytes().splitlines()
        return [json.loads(line) for line in lines if not torn or chain.parse(line)]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path, frozenset((os.getuid(),)))
    yield made
    made.close()


def test_a_record_is_written_then_acknowledged(server: Server) -> None:
    server.start()
    with server.connect() as sock:
        sock.send(b'{"v":1,"ev":"intent","who":{"user":"caf\xc3\xa9"}}')
        assert sock.recv(100) == b'{"seq":1}'
        (line,) = server.lines()
    assert line["peer"] == {"uid": os.getuid(), "pid": os.getpid()}
    assert line["who"] == {"user": "café"}


def test_what_came_together_is_written_together(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    written: list[int] = []

    def count(fd: int, data: bytes) -> int:
        written.append(len(data))
        return write(fd, data)

    with server.connect() as first, server.connect() as second:
        for number in range(20):
            (first, second)[number % 2].send(b'{"ev":"x","n":%d}' % number)
        monkeypatch.setattr("sockproxy.audit.log.os.write", count)
        server.start()
        answers = [sock.recv(100) for sock in (first, second) for _ in range(10)]
    assert sorted(json.loads(answer)["seq"] for answer in answers) == list(range(1, 21))
    assert len(written) <= 2  # the second connection may be accepted one turn later


def test_records_in_one_message_are_acknowledged_together(server: Server) -> None:
    with server.connect() as sock:
        server.start()
        sock.send(b"\n".join(b'{"ev":"x","n":%d}' % number for number in range(BURST)))
        assert sock.recv(100) == b'{"seq":1}'
        sock.send(b'{"ev":"x","n":%d}' % BURST)
        assert sock.recv(100) == b'{"seq":%d}' % (BURST + 1)
        assert [line["n"] for line in server.lines()] == list(range(BURST + 1))


MALFORMED = [
    b"x",
    b"[]",
    b"1",
    b"{}",
    b'{"ev":"x"',
    b'{"ev":"x"}{}',
    b'{"ev":"x","seq":1}',
    b'{"ev":"x","ts":""}',
    b'{"ev":"x","peer":{}}',
    b'{"ev":"x","h":""}',
    b'{"ev":"x","sig":""}',
    b'{"ev":"seal"}',
    b'{"ev":"key","key":""}',
    b'{"ev":"gap"}',
    b'{"ev":"recording","rid":"0123456789abcdef"}',  # not where recordings are kept, nor by others than root
    b'{"ev":"x"}\n{"ev":"recording","rid":"0123456789abcdef"}',
    b'{"ev":"recording","rid":"0123456789abcdef"}\n{"ev":"x"}',
    b'{"ev":"x"}\n',
    b'{"ev":"x"}\n{"ev":"seal"}',
    b"\n".join([b'{"ev":"x"}'] * (BURST + 1)),
    b'{"ev":NaN}',
    b'{"ev":1e999}',
    b'{"ev":"\xff"}',
    '{"ev":"x"}'.encode("utf-16"),
    b'{"ev":' + b"[" * 60000 + b"]" * 5000 + b"}",
    b'{"ev":' + b"9" * 5000 + b"}",
    b'{"ev":"' + b"x" * LIMIT + b'"}',
]


@pytest.mark.parametrize("message", MALFORMED, ids=range(len(MALFORMED)))
def test_what_is_no_record_ends_the_connection_and_leaves_a_gap(server: Server, message: bytes) -> None:
    server.start()
    with server.connect() as sock, server.connect() as other:
        sock.send(b'{"ev":"before"}')
        sock.send(message)
        assert sock.recv(100) == b'{"seq":1}'
        assert sock.recv(100) == b""
        other.send(b'{"ev":"after"}')
        assert other.recv(100) == b'{"seq":3}'
    assert [line["ev"] for line in server.lines()] == ["before", "gap", "after"]


def test_the_largest_record_is_taken(server: Server) -> None:
    server.start()
    message = b'{"ev":"' + b"x" * (LIMIT - 9) + b'"}'
    with server.connect() as sock:
        sock.send(message)
        assert sock.recv(100) == b'{"seq":1}'


def test_others_may_not_connect(tmp_path: Path) -> None:
    server = Server(tmp_path, frozenset((os.getuid() + 1,)))
    server.start()
    try:
        with server.connect() as sock:
            assert sock.recv(100) == b""
        assert server.lines() == []
    finally:
        server.close()


def test_one_user_can_not_take_all_connections(server: Server) -> None:
    server.start()
    socks = [server.connect() for _ in range(CONNECTIONS + 1)]
    assert socks[-1].recv(100) == b""
    socks[0].send(b'{"ev":"x"}')
    assert socks[0].recv(100) == b'{"seq":1}'
    for sock in socks:
        sock.close()


def test_who_does_not_take_acknowledgements_keeps_nobody_waiting_and_loses_none(server: Server) -> None:
    server.start()
    with server.connect() as lazy, server.connect() as quick:
        lazy.settimeout(0.3)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 100_000:
                lazy.send(b'{"ev":"lazy"}')
                sent += 1
        assert BURST < sent < 100_000
        quick.send(b'{"ev":"quick"}')
        assert b"seq" in quick.recv(100)
        lazy.settimeout(BOUND)
        numbers = [json.loads(lazy.recv(100))["seq"] for _ in range(sent)]
    assert numbers == sorted(numbers)
    own = {line["seq"] for line in server.lines() if line["ev"] == "lazy"}
    assert own == set(numbers)


def test_a_full_disk_is_no_acknowledgement(server: Server) -> None:
    server.start()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with server.connect() as sock:
        sock.send(b'{"ev":"x"}')
        assert sock.recv(100) == b'{"seq":1}'
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, ((server.folder / NAME).stat().st_size + 10, hard))
            sock.send(b'{"ev":"y","sync":true}')
            assert json.loads(sock.recv(100)) == {"error": "File too large"}
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        sock.send(b'{"ev":"z"}')
        assert sock.recv(100) == b'{"seq":4}'
    assert [line["ev"] for line in server.lines(torn=True)] == ["x", "gap", "gap", "z"]


def test_what_must_be_on_the_disk_is_acknowledged_when_it_is(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    release, waited = threading.Event(), []

    def wait(fd: int) -> None:
        waited.append(fd)
        assert release.wait(BOUND)

    monkeypatch.setattr("sockproxy.audit.keeper.os.fdatasync", wait)
    server.start()
    with server.connect() as sock, server.connect() as other:
        sock.send(b'{"ev":"intent","sync":true}')
        sock.send(b'{"ev":"x"}')
        other.send(b'{"ev":"y"}')
        assert b"seq" in other.recv(100)  # nobody waits for the disk who need not
        for _ in range(100):  # all of these become one job
            other.send(b'{"ev":"intent","sync":true}')
        sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            sock.recv(100)
        sock.settimeout(BOUND)
        release.set()
        numbers = [json.loads(sock.recv(100))["seq"] for _ in range(2)]
        assert numbers == sorted(numbers)
        for _ in range(100):
            assert b"seq" in other.recv(100)
    assert len(waited) <= 4
    assert "sync" not in server.lines()[0]


def test_readers_may_say_what_they_read_and_nothing_else(tmp_path: Path) -> None:
    server = Server(tmp_path, frozenset())
    server.start()
    try:
        for message in (b'{"v":1,"ev":"intent","what":"x"}', b'{"v":1,"ev":"read","what":1}', b'{"ev":"read"}'):
            with server.connect(server.readers) as sock:
                sock.send(message)
                assert sock.recv(100) == b""
        with server.connect(server.readers) as sock:
            sock.send(b'{"v":1,"ev":"read","what":"find"}')
            assert json.loads(sock.recv(100)) == {"seq": 4}
        assert server.lines()[-1]["what"] == "find"
        assert server.lines()[-1]["peer"] == {"uid": os.getuid(), "pid": os.getpid()}
    finally:
        server.close()


def test_what_was_sent_before_the_end_is_written(server: Server) -> None:
    with server.connect() as sock:
        for _ in range(10):  # more the kernel does not keep (net.unix.max_dgram_qlen)
            sock.send(b'{"ev":"x"}')
        server.start()
        server.stop()
        assert len(server.lines()) == 10
        assert sock.recv(100) == b'{"seq":1}'


def test_descriptors_that_come_along_are_dropped(server: Server) -> None:
    server.start()
    with server.connect() as sock:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            socket.send_fds(sock, [b'{"ev":"x"}'], [sock.fileno()])
            assert sock.recv(100).startswith(b'{"seq":')
        assert len(os.listdir("/proc/self/fd")) <= before + 1
