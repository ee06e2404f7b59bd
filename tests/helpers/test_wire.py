"""The framing of the channels, on real sockets."""

from __future__ import annotations

import fcntl
import os
import socket
import threading

import pytest

from sockproxy_helpers.channel import wire
from tests.helpers.support import assert_closed, descriptors


@pytest.fixture
def channel():
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    one.setblocking(False)
    other.setblocking(False)
    with one, other:
        yield one, other


def memfd(content: bytes = b"{}\n", size: int | None = None, seals: int = wire.SEALS) -> int:
    fd = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, content)
    if size is not None:
        os.ftruncate(fd, size)
    if seals:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


@pytest.mark.parametrize("payload", [b"", b"\n", b"x\ny\0" * 10])
def test_round_trip(channel, payload):
    wire.send(channel[0], wire.pack({"a": [1, "\n\u00e9"]}, payload), [])
    data, fds = wire.receive(channel[1])
    assert (wire.unpack(data), fds) == (({"a": [1, "\n\u00e9"]}, payload), [])


@pytest.mark.parametrize("size", [wire.INLINE - 10, wire.INLINE, wire.INLINE + 1, 1 << 20, 4 << 20])
def test_round_trip_of_every_size_with_a_descriptor(channel, size):
    before = descriptors()
    message = wire.pack({}, os.urandom(size - 3))
    wire.send(channel[0], message, [channel[0].fileno()])
    data, fds = wire.receive(channel[1])
    assert data == message
    assert len(fds) == 1
    assert os.fstat(fds[0]).st_ino == os.fstat(channel[0].fileno()).st_ino
    assert not os.get_inheritable(fds[0])
    os.close(fds[0])
    assert_closed(before)


def test_end_of_the_channel_is_the_empty_message(channel):
    channel[0].close()
    assert wire.receive(channel[1]) == (b"", [])


def test_nothing_there_yet(channel):
    with pytest.raises(BlockingIOError):
        wire.receive(channel[1])


def test_full_channel_blocks(channel):
    def flood() -> None:
        while True:
            wire.send(channel[0], b"{}\n", [])

    with pytest.raises(BlockingIOError):
        flood()


# What is sent, by name: the bytes, and what makes each descriptor ("own" is the channel's).
HOSTILE = {
    "too long": (b"x" * (wire.INLINE + 2), []),
    "far too long": (b"x" * 150_000, []),
    "descriptors without a message": (b"", ["own"]),
    "two descriptors": (b"{}\n", ["own", "own"]),
    "three descriptors": (b"{}\n", ["own"] * 3),
    "a hundred descriptors": (b"{}\n", ["own"] * 100),
    "three descriptors and a memfd": (b"\n", ["own", "own", "own", {}]),
    "no memfd": (b"\n", []),
    "a socket for a memfd": (b"\n", ["own"]),
    "a device for a memfd": (b"\n", ["own", "null"]),
    "unsealed": (b"\n", [{"seals": 0}]),
    "unsealed, with the client": (b"\n", ["own", {"seals": 0}]),
    "not sealed against writing": (b"\n", [{"seals": wire.SEALS & ~fcntl.F_SEAL_WRITE}]),
    "not sealed against growing": (b"\n", [{"seals": wire.SEALS & ~fcntl.F_SEAL_GROW}]),
    "not sealed against shrinking": (b"\n", [{"seals": wire.SEALS & ~fcntl.F_SEAL_SHRINK}]),
    "not sealed against sealing": (b"\n", [{"seals": wire.SEALS & ~fcntl.F_SEAL_SEAL}]),
    "empty memfd": (b"\n", [{"size": 0}]),
    "memfd with a hole of 1 GiB": (b"\n", ["own", {"size": 1 << 30}]),
    "memfd one byte too large": (b"\n", [{"size": wire.LARGEST + 1}]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_broken_framing_is_an_error_and_leaks_nothing(channel, name):
    data, kinds = HOSTILE[name]
    before = descriptors()
    fds = [
        os.dup(channel[0].fileno()) if kind == "own" else os.open("/dev/null", 0) if kind == "null" else memfd(**kind)
        for kind in kinds
    ]
    wire._send(channel[0], data, fds)
    for fd in fds:
        os.close(fd)
    with pytest.raises(wire.WireError):
        wire.receive(channel[1])
    assert_closed(before)


def test_memfd_at_the_limit(channel):
    fd = memfd(size=wire.LARGEST)
    wire._send(channel[0], b"\n", [fd])
    os.close(fd)
    data, fds = wire.receive(channel[1])
    assert (len(data), fds) == (wire.LARGEST, [])


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"{}",
        b"\n",
        b"[]\n",
        b'"x"\n',
        b"null\n",
        b"1\n",
        b"{\n}\n",
        b"{}x\n",
        b"\xff\xfe\n",
        b"{" * 100_000 + b"\n",
        b"[" * 100_000 + b"\n",
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"\n",
        b'{"a":' + b"1" * 5000 + b"}\n",
        b'{"a":"\x00"}\n',
    ],
)
def test_what_is_no_message(message):
    with pytest.raises(wire.WireError):
        wire.unpack(message)


def test_pack_is_ascii_and_one_line():
    assert wire.pack({"a": "\n\u2028\ud800"}, b"\n") == b'{"a":"\\n\\u2028\\ud800"}\n\n'


def test_sender_that_changes_the_memfd_is_too_late(channel):
    """Sealed means that what was checked is what is read."""
    fd = memfd(b'{"a":1}\n')
    wire._send(channel[0], b"\n", [fd])
    errors = []

    def change() -> None:
        try:
            os.pwrite(fd, b"X", 0)
        except PermissionError as error:
            errors.append(error)

    thread = threading.Thread(target=change)
    thread.start()
    thread.join()
    assert wire.receive(channel[1])[0] == b'{"a":1}\n'
    assert errors
    os.close(fd)
