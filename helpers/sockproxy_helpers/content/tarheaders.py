"""Read the headers of tar archives (POSIX pax, ustar, GNU), and write a member again."""

from __future__ import annotations

import re

from sockproxy_helpers.errors import Malformed

BLOCK = 512
_OCTAL = re.compile(rb"[ \0]*([0-7]*)[ \0]*")
_RECORD = re.compile(rb"([1-9][0-9]{0,6}) ([^=\n\0]+)=")
_DIGITS = re.compile(rb"[0-9]{1,18}")


class Member:
    """Hold a member of an archive.

    Attributes:
        headers: its blocks before the content, with those that go before for a long name.
    """

    __slots__ = ("content", "headers")

    def __init__(self, headers: bytes, content: bytes) -> None:
        self.headers, self.content = headers, content

    def blocks(self, content: bytes) -> bytes:
        """Write the member with another content, all else being equal."""
        last = bytearray(self.headers[-BLOCK:])
        last[124:136] = b"%011o\0" % len(content)
        last[148:156] = b" " * 8
        last[148:156] = b"%06o\0 " % sum(last)
        return self.headers[:-BLOCK] + bytes(last) + content + bytes(-len(content) % BLOCK)


def number(field: bytes) -> int:
    """Read an octal number, or one that is too large for that."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    match = _OCTAL.fullmatch(field)
    if not match:
        raise Malformed("not a tar archive: a header has a number that is none")
    return int(match[1] or b"0", 8)


def short_name(block: bytes) -> bytes:
    """Read the name that a header itself has room for."""
    name, prefix = (part.partition(b"\0")[0] for part in (block[:100], block[345:500]))
    return prefix + b"/" + name if prefix and block[257:263] == b"ustar\0" else name


def records(data: bytes) -> tuple[bytes, int]:
    """Find the path and the size in a PAX extended header: b"" and -1 for none.

    Raises:
        Malformed: no records, or they make the member a sparse one.
    """
    path, size = b"", -1
    while data:
        match = _RECORD.match(data)
        length = int(match[1]) if match else 0
        if not match or length <= match.end() or data[length - 1 : length] != b"\n":
            raise Malformed("an extended header of the archive is malformed")
        key, value = match[2], data[match.end() : length - 1]
        if key.startswith(b"GNU.sparse"):
            raise Malformed("sparse files in the archive are not taken")
        if key == b"path" and value:
            path = value
        if key == b"size" and value:
            if not _DIGITS.fullmatch(value):
                raise Malformed("an extended header of the archive has a size that is no number")
            size = int(value)
        data = data[length:]
    return path, size
