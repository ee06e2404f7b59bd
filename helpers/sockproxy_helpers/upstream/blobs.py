"""Read manifests of containerd's image store, which BuildKit's content service tells: gRPC over HTTP/2 (RFC 9113).

SECURITY: only what has the digest that was asked for is believed, so of HTTP/2 no more is read than frames: headers are
passed over, and whatever else is unexpected is no answer.
"""

from __future__ import annotations

import hashlib
import struct
import time

from sockproxy_helpers.errors import Unavailable
from sockproxy_helpers.stream.http import request_head
from .daemon import Daemon
from .objects import member, parse

_REMEMBERED = 30.0  # seconds; only a restart of the daemon changes it
_SNAPSHOTTER = "io.containerd.snapshotter.v1"
MOST = 4 << 20  # bytes of a manifest, as containerd itself takes them
_PATH = "/containerd.services.content.v1.Content/Read"
_UPGRADE = [("Connection", "Upgrade"), ("Upgrade", "h2c"), ("Content-Length", "0")]
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END, _ACK, _END_HEADERS, _PADDED = 1, 1, 4, 8
_FRAME = 16384  # the largest that may come, as nothing else is agreed on
_WINDOW = 1 << 30


_asked: list[tuple[float, bool]] = []  # when, and the answer


async def used(daemon: Daemon) -> bool:
    """Tell whether images are in containerd's store, as far as is known."""
    if not _asked or time.monotonic() - _asked[0][0] > _REMEMBERED:
        status, info = parse(*await daemon.request("GET", "/info"))
        told = member(info, "DriverStatus")
        found = status != 200 or (isinstance(told, list) and ["driver-type", _SNAPSHOTTER] in told)
        _asked[:] = [(time.monotonic(), found)]
    return _asked[0][1]


class Blobs:
    """Keep a connection, made at the first question."""

    def __init__(self, daemon: Daemon) -> None:
        """Prepare; `daemon` is another connection's."""
        self._daemon, self._stream = daemon.another(), -1

    async def read(self, digest: str) -> bytes | None:
        """Read a blob; None for one that is not there, or where nobody keeps any so.

        Raises:
            Unavailable: nobody tells.
        """
        if self._stream < 0 and not await self._begin():
            return None
        self._stream += 2
        head = [(":method", "POST"), (":scheme", "http"), (":path", _PATH), (":authority", "docker")]
        head += [("content-type", "application/grpc"), ("te", "trailers")]
        # RFC 7541 6.2.2: each field without indexing, its name and value as they are
        fields = b"".join(b"\0" + _text(name) + _text(value) for name, value in head)
        asked = b"\x0a" + _text(digest)  # field 1 of ReadContentRequest
        message = struct.pack(">BI", 0, len(asked)) + asked
        request = _frame(_HEADERS, _END_HEADERS, self._stream, fields) + _frame(_DATA, _END, self._stream, message)
        await self._daemon.send(request, on=True)
        data = _data(await self._answer())
        if not data:
            return None
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
            raise Unavailable("the Docker daemon's content service told something else")
        return data

    async def _begin(self) -> bool:
        """Open the connection; tell whether there is such a service."""
        await self._daemon.send(request_head("POST", "/grpc", 1, _UPGRADE))
        response = None
        while response is None:
            await self._daemon.receive()
            response = self._daemon.take_head("POST")
        if response.status == 404:  # podman
            self._daemon.close()
            return False
        if response.status != 101:
            raise Unavailable("the Docker daemon has no content service")
        windows = _frame(_SETTINGS, 0, 0, struct.pack(">HI", 4, _WINDOW))  # INITIAL_WINDOW_SIZE
        windows += _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", _WINDOW))
        await self._daemon.send(_PREFACE + windows, on=True)
        return True

    async def _answer(self) -> bytes:
        """Read frames to the end of the stream; give its data."""
        data = b""
        while True:
            kind, flags, stream, payload = await self._next()
            if kind == _SETTINGS and not flags & _ACK:
                await self._daemon.send(_frame(_SETTINGS, _ACK, 0, b""), on=True)
            elif kind == _PING and not flags & _ACK:
                await self._daemon.send(_frame(_PING, _ACK, 0, payload), on=True)
            elif kind in (_RST_STREAM, _GOAWAY) or (kind == _DATA and flags & _PADDED):
                raise Unavailable("the Docker daemon's content service broke off")
            elif stream == self._stream and kind in (_DATA, _HEADERS):
                data += payload if kind == _DATA else b""
                if len(data) > MOST + 1024:
                    raise Unavailable("a manifest is too large")
                if flags & _END:
                    return data

    async def _next(self) -> tuple[int, int, int, bytes]:
        received = self._daemon.received
        while len(received) < 9 or len(received) < 9 + int.from_bytes(received[:3]):
            await self._daemon.receive()
            if len(received) >= 9 and int.from_bytes(received[:3]) > _FRAME:
                raise Unavailable("the Docker daemon's content service told something else")
        size, kind, flags, stream = int.from_bytes(received[:3]), *struct.unpack(">BBI", received[3:9])
        payload = bytes(received[9 : 9 + size])
        del received[: 9 + size]
        return kind, flags, stream, payload

    def close(self) -> None:
        """Drop the connection."""
        self._daemon.close()


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + struct.pack(">BBI", kind, flags, stream) + payload


def _text(value: str) -> bytes:
    """Encode a short string with its length, as HPACK and protobuf both do."""
    data = value.encode()
    assert len(data) < 127
    return bytes([len(data)]) + data


def _data(framed: bytes) -> bytes:
    """Take the data out of answers, each of which has an offset (field 1, a number) and data (field 2)."""
    data, at = b"", 0
    try:
        while at < len(framed):
            compressed, size = struct.unpack_from(">BI", framed, at)
            message, at = framed[at + 5 : at + 5 + size], at + 5 + size
            place = 0
            while place < len(message):
                tag, place = message[place], place + 1
                number, place = _varint(message, place)
                if tag == 0x12:
                    data, place = data + message[place : place + number], place + number
                elif tag != 0x08 or compressed:
                    raise Unavailable("the Docker daemon's content service told something else")
    except (struct.error, IndexError) as error:
        raise Unavailable("the Docker daemon's content service told something else") from error
    return data


def _varint(message: bytes, at: int) -> tuple[int, int]:
    number, shift = 0, 0
    while message[at] & 0x80:
        number, shift, at = number | (message[at] & 0x7F) << shift, shift + 7, at + 1
    return number | message[at] << shift, at + 1
