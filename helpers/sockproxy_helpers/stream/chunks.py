"""Find where a chunked body ends, strictly."""

from __future__ import annotations

import re

_SIZE = re.compile(rb"[0-9a-fA-F]{1,15}")
_SIZE_LINE = 17
_BETWEEN = re.compile(rb"\r\n([0-9a-fA-F]{1,15})\r\n")  # the end of a chunk and the size of the next, at once


class Chunks:
    """Find the end of a chunked body without changing it (RFC 9112 section 7.1).

    Stricter than the RFC: no chunk extensions and no trailer section, which no Docker client or daemon sends and which
    parsers are known to disagree on.

    Attributes:
        content: where to put what the chunks hold; None to leave it.
    """

    __slots__ = ("_left", "_line", "_state", "content", "done")

    def __init__(self, content: bytearray | None = None) -> None:
        self.content = content
        self._state = self._size
        self._line = bytearray()
        self._left = 0
        self.done = False

    def feed(self, data: memoryview) -> int:
        """Take bytes up to the end of the body.

        Returns:
            How many of the bytes belong to the body: all, unless it ends within them.

        Raises:
            ValueError: not chunked framing as we take it.
        """
        taken = 0
        while taken < len(data) and not self.done:
            taken += self._state(data[taken:])
            # What `_end` and `_size` take apart byte by byte, where it is whole: it mostly is.
            while self._state == self._end and not self._line and (between := _BETWEEN.match(data, taken)):
                size = int(between[1], 16)
                if not size:
                    break
                self._left, self._state, taken = size, self._data, between.end()
                taken += self._data(data[taken:])
        return taken

    def _size(self, data: memoryview) -> int:
        taken = self._take_line(data, _SIZE_LINE)
        if self._line.endswith(b"\n") or len(self._line) == _SIZE_LINE:
            digits = bytes(self._line[:-2])
            if not (self._line.endswith(b"\r\n") and _SIZE.fullmatch(digits)):
                raise ValueError("bad chunk size")
            self._left = int(digits, 16)
            self._line.clear()
            self._state = self._data if self._left else self._last
        return taken

    def _data(self, data: memoryview) -> int:
        taken = min(len(data), self._left)
        if self.content is not None:
            self.content += data[:taken]
        self._left -= taken
        if not self._left:
            self._state = self._end
        return taken

    def _end(self, data: memoryview) -> int:
        return self._crlf(data, last=False)

    def _last(self, data: memoryview) -> int:
        return self._crlf(data, last=True)

    def _crlf(self, data: memoryview, last: bool) -> int:
        taken = self._take_line(data, 2)
        if self._line == b"\r\n":
            self._line.clear()
            self._state, self.done = self._size, last
        elif self._line != b"\r":
            raise ValueError("trailer fields are not taken" if last else "bytes after the chunk")
        return taken

    def _take_line(self, data: memoryview, limit: int) -> int:
        """Add to the line what is missing of it, up to its line feed or the limit."""
        room = bytes(data[: limit - len(self._line)])
        end = room.find(b"\n")
        self._line += room[: end + 1] if end >= 0 else room
        return end + 1 if end >= 0 else len(room)
