"""Read the two parts of a request that carry parameters: a small body, and the query.

Only bodies that the front itself reads come here (JSON); archives and streams go to the helper with the socket.
"""

from __future__ import annotations

import re
from typing import Protocol
from urllib.parse import unquote_to_bytes

from sockproxy.errors import RequestError
from sockproxy.http.head import Head
from sockproxy_helpers.api import strict

MAX_BODY = strict.LARGEST
MAX_CHUNKS = 4096  # of a body that is read here: who sends it byte by byte has much more read than there is
MAX_PAIRS = 128  # the API documents some 30 parameters for a build, the most; a list repeats one
MAX_KEY = 128

# RFC 9112 section 7.1 without extensions and trailers, which no client of the API sends and readers differ on.
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})\r\n")
_LONGEST_SIZE = 18

_ENCODED = re.compile(rb"(?:[^%]|%[0-9A-Fa-f]{2})*+")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")  # a commit's message and changes have lines


class Body(Protocol):
    """Decode a body that arrives in pieces.

    Attributes:
        done: the whole body has been fed.
        leftover: once done, what was fed behind its end: the next request.
    """

    done: bool
    leftover: bytes

    def feed(self, untrusted: bytes) -> bytes:
        """Take what was received, return what of the body it holds.

        Raises:
            RequestError: the framing is malformed, or the body too large (413). The connection can't be used on.
        """


def reader(head: Head, limit: int = MAX_BODY) -> Body:
    """Return the reader for the body that `head` announces; already done where it announces none.

    Raises:
        RequestError: 413, the announced length is over the limit.
    """
    return Chunked(limit) if head.body == "chunked" else Length(head.length, limit)


class Length:
    """Read a body framed by Content-Length."""

    def __init__(self, length: int, limit: int = MAX_BODY) -> None:
        if length > limit:
            raise _too_large(limit)
        self._left = length
        self.done = length == 0
        self.leftover = b""

    def feed(self, untrusted: bytes) -> bytes:
        """See Body."""
        decoded, behind = untrusted[: self._left], untrusted[self._left :]
        self._left -= len(decoded)
        self.done = self._left == 0
        self.leftover += behind
        return decoded


class Chunked:
    """Read a body framed in chunks.

    Invariant: inside a chunk `_left` counts its bytes to come; between chunks it is 0 and `_line` holds the begun line,
    never longer than the longest line that can still become valid.
    """

    def __init__(self, limit: int = MAX_BODY) -> None:
        self._limit = self._room = limit
        self._left = 0
        self._line = b""
        self._after_chunk = self._last = False
        self._chunks = 0
        self.done = False
        self.leftover = b""

    def feed(self, untrusted: bytes) -> bytes:
        """See Body."""
        decoded = []
        at = 0
        while at < len(untrusted) and not self.done:
            if self._left:
                piece = untrusted[at : at + self._left]
                decoded.append(piece)
                self._left -= len(piece)
                at += len(piece)
            else:
                at = self._feed_line(untrusted, at)
        self.leftover += untrusted[at:]
        return b"".join(decoded)

    def _feed_line(self, untrusted: bytes, at: int) -> int:
        """Complete the begun line from `untrusted[at:]`; return where to go on."""
        end = untrusted.find(b"\n", at, at + _LONGEST_SIZE) + 1 or at + _LONGEST_SIZE
        line = self._line + untrusted[at:end]
        if line.endswith(b"\n"):
            self._line = b""
            self._take_line(line)
        elif len(line) >= _LONGEST_SIZE:
            raise RequestError("malformed chunk")
        else:
            self._line = line
        return end

    def _take_line(self, line: bytes) -> None:
        """Act on a line: the end of a chunk's data, a chunk's size, or the end of all."""
        if self._after_chunk or self._last:
            if line != b"\r\n":
                raise RequestError("malformed chunk")
            self.done, self._after_chunk = self._last, False
            return
        match = _SIZE.fullmatch(line)
        if not match:
            raise RequestError("malformed chunk")
        size = int(match[1], 16)
        self._chunks += 1
        if self._chunks > MAX_CHUNKS:
            raise RequestError(f"request body in more than {MAX_CHUNKS} chunks", 413)
        if size > self._room:
            raise _too_large(self._limit)
        self._room -= size
        self._left = size
        self._last = size == 0
        self._after_chunk = size > 0


def _too_large(limit: int) -> RequestError:
    return RequestError(f"request body too large: more than {limit} bytes", 413)


def parse_query(untrusted_query: bytes) -> list[tuple[str, str]]:
    """Parse a query as Go's net/url does, but strictly: all of it or none.

    A key without "=" has the value "". Repeated keys stay: which of them may repeat is the helper's model to say.

    Raises:
        RequestError: it is malformed, holds a ";" or a control character, or too much.
    """
    if untrusted_query.count(b"&") >= MAX_PAIRS:
        raise RequestError("malformed query: too many parameters")
    if b";" in untrusted_query:  # the daemon answers 400 too; other readers take it for "&"
        raise RequestError("malformed query: semicolon")
    pairs = []
    for untrusted_pair in untrusted_query.split(b"&"):
        if untrusted_pair:
            untrusted_key, _, untrusted_value = untrusted_pair.partition(b"=")
            pairs.append((_decode(untrusted_key), _decode(untrusted_value)))
    if not all(len(key) <= MAX_KEY and key.isascii() and key.isprintable() for key, _ in pairs):
        raise RequestError("malformed query: name of a parameter")
    return pairs


def _decode(untrusted: bytes) -> str:
    if not _ENCODED.fullmatch(untrusted):
        raise RequestError("malformed query: percent sign")
    try:
        text = unquote_to_bytes(untrusted.replace(b"+", b" ")).decode("utf-8")
    except UnicodeDecodeError:
        raise RequestError("malformed query: not UTF-8") from None
    if _CONTROL.search(text):
        raise RequestError("malformed query: control character")
    return text
