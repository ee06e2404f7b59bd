"""Pass an answer whose end waits until what came of the call was looked at."""

from __future__ import annotations

import re
import socket

from sockproxy_helpers.stream.chunks import Chunks
from sockproxy_helpers.stream.relay import Chunked

END = b"0\r\n\r\n"  # of a chunked body, as dockerd writes it
# That a registry has a tag now, as dockerd says it, of several one after the other. Quotes in a message, as an error's,
# would have a backslash before them.
PUSHED = re.compile(rb'"status":"([A-Za-z0-9_.-]{1,128}): digest: sha256:[0-9a-f]{64} size: [0-9]{1,20}"')
SEAM, MOST = 256, 256 << 10  # bytes that one is shorter than; of all that are kept


class Concluded(Chunked):
    """Pass a chunked body, and hold its end back until it is said what else belongs into it.

    Attributes:
        told: what a registry was said to have taken, wherever in the body.

    Invariant: `_end` is what was read of the last bytes of the framing, and is not passed yet; `_seam` is the end of
    what was looked at.
    """

    __slots__ = ("_end", "_finished", "_seam", "told")

    def __init__(self, source: socket.socket, sink: socket.socket, initial: bytes, chunks: Chunks) -> None:
        super().__init__(source, sink, initial, chunks)
        self._end, self._finished = b"", False
        self._seam = self.told = b""
        self._look(initial)
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
        self._look(bytes(self._pending))
        self._hold()

    def _look(self, passed: bytes) -> None:
        text = self._seam + passed
        for match in PUSHED.finditer(text):
            if match.end() > len(self._seam) and len(self.told) < MOST:  # else it was seen before
                self.told += match[0]
        self._seam = text[-SEAM:]

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
