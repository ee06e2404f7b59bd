"""Pass an answer whose end waits until what came of the call was looked at."""

from __future__ import annotations

import socket

from sockproxy_helpers.stream.chunks import Chunks
from sockproxy_helpers.stream.relay import Chunked

END = b"0\r\n\r\n"  # of a chunked body, as dockerd writes it


class Concluded(Chunked):
    """Pass a chunked body, and hold its end back until it is said what else belongs into it.

    Invariant: `_end` is what was read of the last bytes of the framing, and is not passed yet.
    """

    __slots__ = ("_end", "_finished")

    def __init__(self, source: socket.socket, sink: socket.socket, initial: bytes, chunks: Chunks) -> None:
        super().__init__(source, sink, initial, chunks)
        self._end, self._finished = b"", False
        self._hold()

    @property
    def held(self) -> bool:
        """Whether all has been read, and the end is held back."""
        return self._chunks.done and not self._finished

    def finish(self, data: bytes) -> None:
        """Let the end go on, behind some more content."""
        more = b"%x\r\n%b\r\n" % (len(data), data) if data and self._end == END else b""
        self._pending = memoryview(bytes(self._pending) + more + self._end)
        self._end, self._finished, self._blocked = b"", True, True

    def _take(self, data: memoryview) -> None:
        super()._take(data)
        self._hold()

    def _hold(self) -> None:
        passed = self._end + bytes(self._pending)
        self._end = next((END[:size] for size in range(len(END), 0, -1) if passed.endswith(END[:size])), b"")
        self._pending = memoryview(passed[: len(passed) - len(self._end)])

    def _fill(self) -> bool:
        if self._chunks.done:
            raise BlockingIOError  # it is held
        return super()._fill()

    def _ended(self) -> bool:
        return self._finished
