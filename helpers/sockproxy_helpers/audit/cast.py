"""Write down what a session prints, in the form asciicast v2, as its bytes pass.

Where they are no UTF-8, U+FFFD stands in the text, and an event of the kind "b" has them all behind it, in base64:
players pass over kinds that they do not know.

SECURITY: pure. What passes is a container's, and may be anything: taken from it are the sizes of frames and nothing
else, and what is no frame is recorded as it is. Text is written as JSON in ASCII, so that it can't end a line.
"""

from __future__ import annotations

import binascii
import codecs
import json
from collections.abc import Iterator

from sockproxy_helpers.errors import Refused

HEAD = 8  # bytes: stream, three zeros, size (Engine API, ContainerAttach, "Stream format")
STREAMS = 4  # stdin, stdout, stderr, errors of the daemon's
WIDTH, HEIGHT = 80, 24  # until the client says something else
REPLACED = "\ufffd"
REST = "sockproxy: what follows is not recorded, as the role's `sessions` has it"

_RECORDED = ("ExecStart", "ContainerAttach")
_UNFRAMED = "ContainerAttachWebsocket"


def limit(rules: dict[str, tuple[object, str]], operation: str) -> int:
    """Tell how many bytes of a call's output the role has recorded; 0 for a call that is not.

    Raises:
        Refused: it can't be recorded in that form.
    """
    rule, at = rules.get("sessions", ({}, ""))
    most = rule.get("output") if isinstance(rule, dict) else 0
    if not isinstance(most, int) or not most or operation not in (*_RECORDED, _UNFRAMED):
        return 0
    if operation == _UNFRAMED:
        why = "a WebSocket, which can't be recorded as your role has it (allowed: attach without one)"
        raise Refused("", why, "sessions", at)
    return most


class Cast:
    """Form the lines of one recording.

    Attributes:
        passed, left_out: bytes of output that came, and those of them that the recording has no room for.

    Invariant: of a frame `_frame` bytes are still to come, or `_head` is the beginning of the next one.
    """

    def __init__(self, tty: bool, limit: int, began: int) -> None:
        """Begin.

        Args:
            tty: there is a terminal, so the stream has no frames.
            limit: bytes of output that are recorded.
            began: seconds since 1970.
        """
        self._framed, self._limit, self._began = not tty, limit, began
        self._head, self._frame, self._stream = b"", 0, 0
        make = codecs.getincrementaldecoder("utf-8")
        self._decoders = [make("replace") for _ in range(STREAMS)]
        self._size = self._told = f"{WIDTH}x{HEIGHT}"
        self._begun = self._full = False
        self.passed = self.left_out = 0

    def feed(self, data: bytes, at: float) -> bytes:
        """Take what was printed, some seconds after the beginning, and give the lines for it."""
        lines: list[bytes] = []
        for stream, output in self._payloads(data):
            room = max(0, self._limit - self.passed)
            self.passed += len(output)
            self.left_out += max(0, len(output) - room)
            lines += self._text(stream, output[:room], at)
            if len(output) > room and not self._full:
                self._full = True
                lines.append(self._line(at, "m", REST))
        return b"".join(lines)

    def resize(self, width: int, height: int) -> None:
        """Take a new size of the terminal: it is told before what is printed next, of which alone it matters."""
        self._size = f"{width}x{height}"

    def end(self, at: float) -> bytes:
        """Give the lines for the bytes that were to become a character, and did not."""
        return b"".join(line for stream in range(STREAMS) for line in self._text(stream, b"", at, last=True))

    def _text(self, stream: int, output: bytes, at: float, last: bool = False) -> Iterator[bytes]:
        decoder = self._decoders[stream]
        output = decoder.getstate()[0] + output
        decoder.reset()
        if not (text := decoder.decode(output, last)):
            return
        if self._begun and self._size != self._told:
            yield self._line(at, "r", self._size)
        self._told = self._size
        yield self._line(at, "o", text)
        if REPLACED in text:
            whole = len(output) - len(decoder.getstate()[0])
            yield self._line(at, "b", binascii.b2a_base64(output[:whole], newline=False).decode())

    def _line(self, at: float, kind: str, text: str) -> bytes:
        head = b""
        if not self._begun:
            self._begun = True
            width, _, height = self._size.partition("x")
            about = {"version": 2, "width": int(width), "height": int(height), "timestamp": self._began}
            head = json.dumps(about).encode() + b"\n"
        return head + json.dumps([round(at, 3), kind, text]).encode() + b"\n"

    def _payloads(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Take a stream's frames apart, wherever it is cut."""
        while data and self._framed:
            if self._frame:
                yield self._stream, data[: self._frame]
                taken = min(len(data), self._frame)
                self._frame -= taken
                data = data[taken:]
                continue
            taken = HEAD - len(self._head)
            self._head, data = self._head + data[:taken], data[taken:]
            if len(self._head) < HEAD:
                return
            head, self._head = self._head, b""
            self._stream, self._frame = head[0], int.from_bytes(head[4:], "big")
            if self._stream >= STREAMS or head[1:4] != b"\0\0\0":
                self._framed, data = False, head + data
        if data:
            yield 1, data
