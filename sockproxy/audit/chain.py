"""Form the lines of the record and take them apart: numbered, dated, each hashed together with the one before.

Standard library only, no I/O: the writer and whoever verifies share this file.
A line is one JSON object whose last member is `h`, the SHA-256 of the previous line's `h` and of this line's bytes
before `,"h"`. Bytes are hashed and not values, so no canonical form of JSON is needed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from typing import NamedTuple

VERSION = 1  # of the schema, `v` in each record: schema.json
START = b"0" * 64  # what the first line of all is hashed with
TAIL = len(',"h":""}') + 64
RESERVED = frozenset(("seq", "ts", "peer", "sig", "h"))  # the writer's own words
_ENCODER = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":"))
_WHEN = re.compile(rb'\{"seq":[0-9]{1,18},"ts":"([0-9TZ:.-]{27})"')
_LINE = re.compile(rb'\{"seq":([1-9][0-9]{0,17}),.*,"h":"([0-9a-f]{64})"\}')


class Entry(NamedTuple):
    """Hold a record that is to be written.

    Attributes:
        record: one JSON object, encoded; not empty and without RESERVED keys.
        uid, pid: who sent it, from the kernel.
        sign: makes the signature of a seal, of the bytes that its hash covers but for itself.
    """

    record: bytes
    uid: int
    pid: int
    sign: Callable[[bytes], bytes] | None = None


def encode(record: dict[str, object]) -> bytes:
    """Encode a record in one line of ASCII, so that no byte of it can end the line or reach a reader's terminal.

    Raises:
        ValueError: a number that JSON does not have.
    """
    return _ENCODER.encode(record).encode("ascii")


def digest(previous: bytes, body: bytes) -> bytes:
    """Hash a line's bytes before its `h` together with the previous line's."""
    return hashlib.sha256(previous + body).hexdigest().encode()


def form(entry: Entry, seq: int, when: bytes, previous: bytes) -> tuple[bytes, bytes]:
    """Form a line, with its newline, and give its hash."""
    head = b'{"seq":%d,"ts":"%s","peer":{"uid":%d,"pid":%d},' % (seq, when, entry.uid, entry.pid)
    body = head + entry.record[1:-1]
    if entry.sign:
        body += b',"sig":"%s"' % entry.sign(previous + body)
    h = digest(previous, body)
    return b'%s,"h":"%s"}\n' % (body, h), h


def parse(line: bytes) -> tuple[int, bytes] | None:
    """Read number and hash of what has the form of a line; it is not hashed again."""
    found = _LINE.fullmatch(line)
    return (int(found[1]), found[2]) if found else None


def when(line: bytes) -> str:
    """Read the time of what has the form of a line; "" of what has not."""
    found = _WHEN.match(line)
    return found[1].decode() if found else ""
