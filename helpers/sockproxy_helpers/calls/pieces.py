"""Cut a list while it comes: everybody's may be larger than what is to be held, or read at one go."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

CUT_LIMIT = 64 << 20  # bytes of what is left, and of an answer that is no list; what bounds both: see `described`
PIECE = 4 << 20  # bytes that are read at one go: some 40 ms in which nobody else is served
_BETWEEN = re.compile(r"[\s,]*")
_ITEM = json.JSONDecoder()


class Pieces:
    """Cut an answer.

    Invariant: `_kept` is what is left of the items that were taken so far; what follows them is a list again.
    """

    def __init__(self, cut: Callable[[bytes], bytes]) -> None:
        self._cut, self._kept, self._next = cut, list[bytes](), PIECE
        self._took = False

    def take(self, received: bytearray) -> int:
        """Take the items that are whole out of what was received of a list; tell how many bytes shorter it is."""
        if len(received) < self._next or not received.startswith(b"["):
            return 0
        text, at, before = received.decode("utf-8", "surrogateescape"), 1, len(received)
        items: list[object] = []
        while True:
            try:
                item, at = _ITEM.raw_decode(text, _BETWEEN.match(text, at).end())  # type: ignore[union-attr]
            except ValueError:
                break  # it goes on in what comes next
            items.append(item)
        if items:
            self._took = True
            self._keep(self._cut(json.dumps(items).encode()))
            received[: len(text[:at].encode("utf-8", "surrogateescape"))] = b"["
        self._next = len(received) + PIECE
        return before - len(received)

    def size(self, received: bytearray) -> int:
        """Tell how much there is to hold."""
        return len(received) + sum(map(len, self._kept))

    def end(self, rest: bytes) -> bytes:
        """Cut what is left of the answer; give what is left of all."""
        if not self._took:
            return self._cut(rest)
        self._keep(self._cut(b"[" + rest[1:].lstrip(b", \t\r\n")))
        return b"[" + b",".join(self._kept) + b"]\n"

    def _keep(self, piece: bytes) -> None:
        if left := piece.strip()[1:-1]:
            self._kept.append(left)
