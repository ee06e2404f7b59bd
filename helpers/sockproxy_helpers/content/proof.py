"""Know what an archive has, by the digests of its members, plain and unpacked: what it only names, it does not bring.

SECURITY: pure; hashes a client's bytes, and unpacks them to do so: of a bomb no more than a layer has; nothing is kept.
"""

from __future__ import annotations

import hashlib
import zlib

RATIO, SLACK = 32, 1 << 20  # bytes that one packed byte may stand for, and further ones: of layers it is below 20
_GZIP = b"\x1f\x8b"


class Proof:
    """Hash members, one after the other.

    Attributes:
        digests: of those that are complete.
    """

    __slots__ = ("_begun", "_hash", "_packed", "_unpacked", "_unpacker", "_whole", "digests")

    def __init__(self) -> None:
        self.digests: set[str] = set()
        self.begin()

    def begin(self) -> None:
        """Expect a member."""
        self._hash, self._unpacked = hashlib.sha256(), hashlib.sha256()
        self._unpacker: zlib._Decompress | None = None
        self._packed = self._whole = 0
        self._begun = b""

    def feed(self, data: bytes) -> None:
        """Take bytes of it."""
        self._hash.update(data)
        if self._packed < len(_GZIP):
            data = self._begun + data
            self._begun = data[: len(_GZIP)]
            if self._begun != _GZIP:
                self._packed = len(data)
                return
            self._unpacker, self._packed = zlib.decompressobj(wbits=31), 0
        self._packed += len(data)
        try:
            while self._unpacker and data:
                if self._unpacker.eof:  # another piece behind, as some packers write them
                    self._unpacker = zlib.decompressobj(wbits=31)
                room = RATIO * self._packed + SLACK - self._whole
                unpacked = self._unpacker.decompress(data, max(room, 1))
                self._whole += len(unpacked)
                self._unpacked.update(unpacked)
                data = self._unpacker.unconsumed_tail or self._unpacker.unused_data
                if len(unpacked) >= room:
                    self._unpacker = None
        except zlib.error:
            self._unpacker = None

    def end(self) -> None:
        """Take the member for complete."""
        self.digests.add(f"sha256:{self._hash.hexdigest()}")
        if self._unpacker:
            self.digests.add(f"sha256:{self._unpacked.hexdigest()}")
        self.begin()
