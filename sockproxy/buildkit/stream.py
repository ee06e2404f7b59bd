"""Hold what comes in on one stream of HTTP/2, and take gRPC's messages out of it."""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable

import trio

LARGEST = 16 << 20  # of a gRPC message: what BuildKit itself takes and gives (its defaults.DefaultMaxRecvMsgSize)
PREFIX = struct.Struct(">BI")  # compressed, length (gRPC over HTTP/2)
Headers = list[tuple[str, str]]


class ProtocolError(Exception):
    """Report that a peer broke HTTP/2 or gRPC."""


class Reset(Exception):
    """Report that a stream was broken off, by its peer or with the connection."""


class Stream:
    """Hold what has come in on one stream.

    Invariant: the bytes in `_buffer` are not acknowledged, so that the peer can't send more than its window.
    """

    def __init__(self, acknowledge: Callable[[int, int], Awaitable[None]], number: int) -> None:
        self._acknowledge, self.number = acknowledge, number
        self.head: Headers | None = None
        self.trailers: Headers = []
        self.ended = self.broken = False
        self.answered = False  # we have sent a head
        self._buffer = bytearray()
        self._changed = trio.Event()
        self.on_reset: Callable[[], object] = lambda: None

    def change(self) -> None:
        """Tell who waits that something has come."""
        self._changed.set()
        self._changed = trio.Event()

    def feed(self, data: bytes) -> None:
        """Take bytes that have come."""
        self._buffer += data
        self.change()

    def reset(self) -> None:
        """Break off."""
        if not self.broken:
            self.broken = True
            self.on_reset()
        self.change()

    def discard(self) -> int:
        """Drop what was not read; tell how many bytes."""
        size = len(self._buffer)
        self._buffer.clear()
        return size

    async def get_head(self) -> Headers:
        """Wait for the head.

        Raises:
            Reset: it will not come.
        """
        while self.head is None:
            await self._wait()
        return self.head

    async def message(self) -> bytes | None:
        """Wait for the next message; None at the stream's end.

        Raises:
            Reset: broken off.
            ProtocolError: compressed, too large, or cut off.
        """
        prefix = await self._take(PREFIX.size)
        if prefix is None:
            return None
        compressed, length = PREFIX.unpack(prefix)
        if compressed:
            raise ProtocolError("a compressed message, which was not agreed on")
        if length > LARGEST:
            raise ProtocolError(f"a message of {length} bytes (allowed: {LARGEST})")
        body = await self._take(length) if length else b""
        if body is None:
            raise ProtocolError("a message that is cut off")
        return body

    async def _take(self, length: int) -> bytes | None:
        """Take so many bytes; None when the stream ends before the first. Larger ones are taken piece by piece."""
        found = bytearray()
        while len(found) < length:
            if self._buffer:
                part = bytes(self._buffer[: length - len(found)])
                del self._buffer[: len(part)]
                found += part
                await self._acknowledge(self.number, len(part))
            elif self.ended:
                if found:
                    raise ProtocolError("a message that is cut off")
                return None
            else:
                await self._wait()
        return bytes(found)

    async def _wait(self) -> None:
        if self.broken:
            raise Reset
        if self.ended and self.head is None:
            raise ProtocolError("no head")
        await self._changed.wait()
        if self.broken:
            raise Reset
