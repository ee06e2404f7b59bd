"""What is fuzzed of connections that are lent to a helper, and of answers whose end waits; see `targets`."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import h11

from sockproxy_helpers.calls.call import Call
from sockproxy_helpers.calls.lent import Loan
from sockproxy_helpers.calls.repeats import Asked, _person
from sockproxy_helpers.channel import wire
from sockproxy_helpers.channel.loop import IN
from sockproxy_helpers.content.concluded import Concluded
from sockproxy_helpers.stream.chunks import Chunks
from sockproxy_helpers.stream.relay import Broken
from sockproxy_helpers.system.caller import Caller
from tests.helpers.asked import finish
from tests.support.judging import OPERATIONS

WHO = Caller(1000, 1000, 0, "ann", ["ann"], "/home/ann")
LIST = b'"op":"ContainerList","api":"v1.41","minor":1,"vars":{},"query":[],"headers":{},'
LIST += b'"expect":false,"body":0,"upload":null,"upgrade":"","assertion":""}\n'
_GET = (h11.Request(method="GET", target="/", headers=[("Host", "d")]), h11.EndOfMessage())


def lending(data: bytes) -> None:
    """What is lent is what stands last in the message; all else is the call that it were without, known or not."""
    fresh, known = _asked(data, {}), _asked(data, _KNOWN)
    assert (fresh is None) == (known is None)
    if not (fresh and known):
        return
    asked, call = fresh
    assert _fields(known[1]) == _fields(call)
    assert (asked.lend, asked.head) == (known[0].lend, known[0].head)
    if not asked.lend:
        return
    assert 0 < asked.lend < 1000
    assert asked.head
    assert data.endswith(asked.head)
    begin = data.index(b'"lend":[')
    plain = data[:begin] + data[data.index(b"],", begin) + 2 : len(data) - len(asked.head)]
    assert _fields(Call(*wire.unpack(plain), OPERATIONS)) == _fields(call)


def _asked(data: bytes, known: Any) -> tuple[Asked, Call] | None:
    try:
        asked = Asked(data, known)
        return asked, asked.call(WHO, known, OPERATIONS)
    except wire.WireError:
        return None


def _fields(call: Call) -> dict[str, object]:
    return {name: getattr(call, name) for name in Call.__slots__}


def repeated(data: bytes) -> None:
    """Of a lent connection are taken the bytes of the head that was lent, and no other; all else is left there."""
    head, _, said = data.partition(b"\0")
    if not head:
        return
    client, helper = socket.socketpair()
    with client, helper:
        client.sendall(said) if said else client.close()
        asked: Any = SimpleNamespace(head=head, repeat=lambda known: True)
        loan = Loan(_READY, helper, helper, asked, dict)  # type: ignore[arg-type]
        taken = finish(loan._is_said_again())
        helper.setblocking(False)
        assert taken == (said == head)
        if taken or said:
            assert _left(helper) == (b"" if taken else said)


def _left(sock: socket.socket) -> bytes:
    try:
        return sock.recv(1 << 16)
    except BlockingIOError:
        return b""


class _Ready:
    """Be a loop in which everything is there already."""

    async def wait(self, want: dict[int, int], timeout: float) -> dict[int, int]:
        """Say so."""
        return dict.fromkeys(want, IN)


def ending(data: bytes) -> None:
    """What passes of an answer whose end waits does not depend on its pieces; what is put there is its last content."""
    whole = _concluded([data])
    assert _concluded([data[at : at + 1] for at in range(len(data))]) == whole
    if whole is None or whole[1] is None:
        return
    held, passed, left = whole
    assert passed.startswith(held)
    before = _read(data[: len(data) - len(left)])
    if before is not None:
        assert _read(passed) in (before, before + b"more")
        assert _read(held) is None


def _concluded(pieces: list[bytes]) -> tuple[bytes, bytes | None, bytes] | None:
    """Pass a body; give what has passed before its end was let go, and then, and what stands behind it."""
    source, sink = _Source(pieces), _Sink()
    flow = Concluded(source, sink, b"", Chunks())  # type: ignore[arg-type]
    try:
        while source.pieces and not flow.held:
            flow.step()
    except Broken:
        return None
    flow.step()
    held = bytes(sink.got)
    if not flow.held:
        assert not flow.complete
        return held, None, b""
    flow.finish(b"more")
    flow.step()
    assert flow.complete
    return held, bytes(sink.got), flow.left_over + b"".join(source.pieces)


def _read(body: bytes) -> bytes | None:
    """Read a chunked body as h11 does; None where it has no end."""
    connection, got = h11.Connection(h11.CLIENT), b""
    for event in _GET:
        connection.send(event)
    connection.receive_data(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
    try:
        while (event := connection.next_event()) is not h11.NEED_DATA:
            if isinstance(event, h11.EndOfMessage):
                return got
            got += bytes(event.data) if isinstance(event, h11.Data) else b""
    except h11.RemoteProtocolError:
        pass
    return None


class _Source:
    """Be a socket that gives what it has, piece by piece."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = [piece for piece in pieces if piece]

    def recv_into(self, buffer: bytearray) -> int:
        """Give the next."""
        if not self.pieces:
            raise BlockingIOError
        piece = self.pieces.pop(0)
        buffer[: len(piece)] = piece
        return len(piece)


class _Sink:
    """Be a socket that takes everything."""

    def __init__(self) -> None:
        self.got = bytearray()

    def send(self, data: memoryview) -> int:
        """Take it."""
        self.got += data
        return len(data)


_READY = _Ready()
_KNOWN: Any = {}
for _text in (LIST, LIST.replace(b"Container", b"Network")):
    _made = _asked(b'{"rid":"0000000000000000",' + _text, {})
    assert _made
    _KNOWN[_text] = {_person(WHO): SimpleNamespace(call=_made[1])}
