"""Follow a tar stream as it passes, up to the end of the archive, and keep the few members that are judged.

SECURITY: pure; faces a client's bytes. What comes behind the end as it is seen here is dropped, and members are added
there whose content was judged: so the daemon must not see the end any earlier, nor more members than are seen here. All
that readers of tar are known to disagree on (sizes of what has no content, sparse files, odd numbers) is refused.
Names may be read differently without harm: of several members of one name the last counts, and that is one of ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from sockproxy_helpers.api.strict import show
from sockproxy_helpers.errors import Malformed
from sockproxy_helpers.judge.rules import clean
from .proof import Proof
from .tarheaders import BLOCK, Member, number, records, short_name

LARGEST = 4 << 20  # of a member that is kept; a manifest of 1000 images is smaller
LARGEST_HEADERS = 1 << 20  # of extended headers and long names (Go's archive/tar: maxSpecialFileSize)
_END = bytes(BLOCK)
_FILES, _EMPTY, _EXTENDED = (b"0", b"\0", b"7"), (b"1", b"2", b"3", b"4", b"5", b"6"), (b"x", b"g", b"L", b"K")
# How compressed data begins; whatever begins so would be unpacked once more by the daemon, and be something else.
_PACKED = re.compile(rb"BZh|\x1f\x8b|\xfd7zXZ|\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18", re.DOTALL)


class Scan:
    """Follow an archive.

    Attributes:
        found: the last member of each wanted name.
        ended: the end of the archive was seen.
        proof: of what the archive has; None where nobody asks.

    Invariant: `_block` holds the beginning of a header, which is passed on when it is complete and was judged; it is
    empty while `_left`, the bytes that the present member still has, padding included, is not 0.
    """

    def __init__(
        self, wanted: tuple[str, ...], member: Callable[[bytes, str], None] | None = None, proof: Proof | None = None
    ) -> None:
        """Begin.

        Args:
            wanted: names of members to keep.
            member: told of the kind and name of each member before it is passed on; raises what ends the upload.
        """
        self._wanted, self._member, self.proof = wanted, member, proof
        self.found: dict[str, Member] = {}
        self.ended = False
        self._block = bytearray()
        self._left = self._size = 0
        self._kept: bytearray | None = None  # the content that is being kept, padding included
        self._name, self._kind, self._first = "", b"", True
        self._reset()

    @property
    def begun(self) -> bool:
        """Whether there was anything."""
        return not self._first or bool(self._block)

    def close(self) -> None:
        """See that the archive ends where a member does: what is added would be taken for the rest of one.

        Raises:
            Malformed: it is cut off.
        """
        if not self.ended and (self._left or self._block or self._headers):
            raise Malformed("the archive is cut off in the middle of a member")

    def _reset(self) -> None:
        """Expect a new member."""
        self._headers = bytearray()
        self._long, self._extended = b"", -1  # the name and the size that go before it

    def feed(self, data: bytes) -> bytes:
        """Take bytes and give those that may be passed on.

        Raises:
            Malformed: not a tar archive as it is taken here.
        """
        held, taken, view = bytes(self._block), 0, memoryview(data)
        while taken < len(data) and not self.ended:
            if self._left:
                step = min(self._left, len(data) - taken)
                if self._kept is not None:
                    self._kept += view[taken : taken + step]
                elif self.proof and self._left > (padding := -self._size % BLOCK):
                    self.proof.feed(data[taken : taken + min(step, self._left - padding)])
                self._left -= step
                if not self._left:
                    self._finish()
            else:
                step = min(BLOCK - len(self._block), len(data) - taken)
                self._block += view[taken : taken + step]
                if len(self._block) == BLOCK:
                    self._take(bytes(self._block))
            taken += step
        passed = held + data[:taken] if held or taken < len(data) else data
        return passed[: len(passed) - len(self._block)] if self._block else passed

    def _take(self, block: bytes) -> None:
        if block == _END:
            self.ended = True  # and the block stays here
            return
        if self._first and _PACKED.match(block):
            raise Malformed("the archive is packed in a way that is not taken here (allowed: a plain tar, or gzip)")
        if number(block[148:156]) != sum(block[:148]) + sum(block[156:]) + 8 * 32:
            raise Malformed("not a tar archive: the checksum of a header is wrong")
        self._first = False
        self._block.clear()
        self._headers += block
        self._header(block)

    def _header(self, block: bytes) -> None:
        short = short_name(block)
        size, self._kind, name = number(block[124:136]), block[156:157], self._long or short
        extended = self._kind in _EXTENDED
        if not extended and self._extended >= 0:
            size = self._extended
        folder = self._kind == b"\0" and (short.endswith(b"/") or self._long.endswith(b"/"))
        if size and (self._kind in _EMPTY or folder):
            raise Malformed(f"{_show(name)} in the archive can have no content, and has a size")
        if extended:
            if size + len(self._headers) > LARGEST_HEADERS or (self._kind == b"g" and len(self._headers) > BLOCK):
                raise Malformed("an extended header of the archive is too long, or out of place")
            self._kept = bytearray()
        elif self._kind not in _FILES + _EMPTY:
            raise Malformed(f"{_show(name)} in the archive is of a kind that is not taken (sparse files, for one)")
        else:
            if self._member:
                self._member(self._kind, _show(name))
            self._name = "/".join(clean(name.decode("utf-8", "surrogateescape")))
            wanted = self._name in self._wanted and self._kind in _FILES
            if wanted and (size > LARGEST or self._extended >= 0):
                raise Malformed(f"{_show(name)} in the archive is too large: at most {LARGEST >> 20} MiB")
            self._kept = bytearray() if wanted else None
        self._size, self._left = size, size + -size % BLOCK
        if not self._left:
            self._finish()

    def _finish(self) -> None:
        """Take the content of a member, or of an extended header, that is complete."""
        whole, self._kept = bytes(self._kept or b""), None
        content = whole[: self._size]
        if self._kind not in _EXTENDED:
            if self._name in self._wanted and self._kind in _FILES:
                self.found[self._name] = Member(bytes(self._headers), content)
            elif self.proof:
                self.proof.end()
            self._reset()
            return
        self._headers += whole
        if self._kind == b"L":
            self._long = content.partition(b"\0")[0]
        elif self._kind != b"K":
            path, size = records(content)
            self._long, self._extended = path or self._long, size
        if self._kind == b"g":
            self._reset()  # of everything before it, too; readers apply it to nothing


def _show(name: bytes) -> str:
    return show(name.decode("utf-8", "replace"))
