"""Pass the upload of an archive while reading along, and hold its end back until what it would do was judged.

SECURITY: faces a client's bytes, and unpacks them: zlib is given bounded pieces, so that a small upload can't become
much memory. To the daemon the body is framed and written anew, as a plain tar: it never unpacks what was not read here.
Only its end makes the daemon act (engines 26 and 28: already the two zero blocks do, not the body's end), so nothing of
that is sent before the judge has spoken.
"""

from __future__ import annotations

import socket
import zlib
from collections.abc import Callable, Coroutine

from sockproxy_helpers.channel.loop import Wait, Want
from sockproxy_helpers.errors import Malformed
from sockproxy_helpers.stream.chunks import Chunks
from sockproxy_helpers.stream.relay import RECEIVE, Broken, Flow
from .proof import Proof
from .tar import Scan
from .tarheaders import BLOCK

UNPACKED = 1 << 20  # bytes at a time: a bomb costs its sender as much as it costs us
# Done at the end of a call, whose answer ends with these bytes; gives what to add there.
Last = Callable[[bytes], Coroutine[Wait, Want, bytes]]
_END = bytes(2 * BLOCK)


class Judge:
    """Hold what is to be read of an archive, and who judges it.

    Attributes:
        wanted: names of members.
        run: gives the members to add at the archive's end.
        member: judges each member by its kind and name, before it is passed on.
        proves: what the archive has, not only names, counts.
    """

    __slots__ = ("member", "proves", "run", "wanted")

    def __init__(
        self,
        wanted: tuple[str, ...],
        run: Callable[[Scan], Coroutine[Wait, Want, bytes]],
        member: Callable[[bytes, str], None] | None = None,
        proves: bool = False,
    ) -> None:
        self.wanted, self.run, self.member, self.proves = wanted, run, member, proves

    def scan(self) -> Scan:
        """Begin to follow the archive."""
        return Scan(self.wanted, self.member, Proof() if self.proves else None)


class Scanned(Flow):
    """Pass an archive.

    Attributes:
        scan: what was read.
        held: all is passed on but the end, which the judge's word is awaited for: see `finish`.

    Invariant: `_packed` is what was received and not yet unpacked; nothing is received while there is any.
    """

    __slots__ = ("_chunks", "_content", "_finished", "_gzip", "_length", "_packed", "_received", "held", "scan")

    def __init__(self, source: socket.socket, sink: socket.socket, initial: bytes, length: int | None, scan: Scan):
        """Begin a flow.

        Args:
            length: of the body; None when it is chunked.

        Raises:
            Broken: the framing is bad.
            Malformed: it is no archive.
        """
        super().__init__(source, sink, b"")
        self._content = bytearray()  # of the body, out of its framing
        self._chunks = Chunks(self._content) if length is None else None
        self._length = length or 0
        self._received = 0
        self._gzip: zlib._Decompress | None = None
        self._packed = b""
        self.scan, self.held, self._finished = scan, False, False
        self._receive(initial)
        self._pass()

    def _receive(self, data: bytes) -> None:
        """Take the content out of the body's framing."""
        if self._chunks:
            try:
                taken = self._chunks.feed(memoryview(data))
            except ValueError as error:
                raise Broken(self.source, str(error)) from error
        else:
            taken = min(len(data), self._length - self._received)
            self._content += data[:taken]
        self._received += taken
        self.left_over = data[taken:]

    @property
    def _whole(self) -> bool:
        """Whether all of the body was received."""
        return self._chunks.done if self._chunks else self._received == self._length

    def _pass(self) -> None:
        """Scan what was received, and give it to the sink."""
        if self._finished or self.held:
            self._content.clear()
            return
        if not self._packed:
            self._packed = bytes(self._content)
            self._content.clear()
        passed = self.scan.feed(self._unpack())
        if passed:
            self._pending = memoryview(b"%x\r\n%b\r\n" % (len(passed), passed))
            self._blocked = True
        if self.scan.ended or (self._whole and not self._packed):
            self.scan.close()
            self.held, self._packed = True, b""

    def _unpack(self) -> bytes:
        data, self._packed = self._packed, b""
        if self._gzip is None and not self.scan.begun and data[:1] == b"\x1f":
            self._gzip = zlib.decompressobj(wbits=31)
        if self._gzip is None:
            return data
        try:
            if self._gzip.eof:  # another member behind, as some packers write them
                self._gzip = zlib.decompressobj(wbits=31)
            unpacked = self._gzip.decompress(data, UNPACKED)
        except zlib.error as error:
            raise Malformed("the archive is damaged: not what gzip writes") from error
        self._packed = self._gzip.unconsumed_tail or self._gzip.unused_data.lstrip(b"\0")
        return unpacked

    def finish(self, members: bytes) -> None:
        """Let the end go on.

        Args:
            members: to add to the archive.
        """
        tail = members + _END
        self._pending = memoryview(bytes(self._pending) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(tail), tail))
        self.held, self._finished, self._blocked = False, True, True

    def _fill(self) -> bool:
        if not self._packed:
            if self.held or self._whole:
                raise BlockingIOError  # what comes now is the next request's
            data = self.source.recv(RECEIVE)
            if not data:
                raise EOFError
            self._receive(data)
        self._pass()
        return True

    def _ended(self) -> bool:
        return self._finished and self._whole

    def _may_end(self) -> bool:
        return False
