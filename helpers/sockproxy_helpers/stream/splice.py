"""Pass bytes that nothing here needs to read, by splice through a pipe from the pool."""

from __future__ import annotations

import os
import socket

from . import pipes
from .relay import LITTLE, Flow


class Raw(Flow):
    """Pass `length` bytes, or all until the source ends, by splice."""

    __slots__ = ("_left", "_pipe", "_piped")

    def __init__(
        self, source: socket.socket, sink: socket.socket, initial: bytes, length: int | None, prefix: bytes = b""
    ) -> None:
        """Begin a flow.

        Args:
            initial: bytes of the source that were read before; what exceeds `length` is left over.
            prefix: what the sink gets first, not counted in `length`.
        """
        body = initial if length is None else initial[:length]
        super().__init__(source, sink, prefix + body)
        self.left_over = initial[len(body) :]
        self._left = None if length is None else length - len(body)
        self._pipe: tuple[int, int] | None = None
        self._piped = 0
        self.complete = self.done = self._left == 0 and not (prefix or body)

    def _drain(self) -> None:
        super()._drain()
        while self._piped and self._pipe:
            sent = os.splice(self._pipe[0], self.sink.fileno(), self._piped, flags=os.SPLICE_F_NONBLOCK)
            self._piped -= sent
            self.count += sent
        if self._pipe:
            self._release(self._pipe)

    def _fill(self) -> bool:
        size = pipes.SIZE if self._left is None else min(pipes.SIZE, self._left)
        self._pipe = pipes.take()
        try:
            self._piped = os.splice(self.source.fileno(), self._pipe[1], size, flags=os.SPLICE_F_NONBLOCK)
        finally:
            if not self._piped:
                self._release(self._pipe)
        if not self._piped:
            raise EOFError
        if self._left is not None:
            self._left -= self._piped
        return self._piped >= LITTLE

    def _ended(self) -> bool:
        return self._left == 0

    def _may_end(self) -> bool:
        return self._left is None

    def _release(self, pipe: tuple[int, int]) -> None:
        """Give the empty pipe back to the pool."""
        self._pipe = None
        pipes.give(pipe)

    def close(self) -> None:
        """Give up what is in flight: a pipe with bytes in it must never reach the pool."""
        if self._pipe:
            pipes.close(self._pipe)
            self._pipe, self._piped = None, 0
