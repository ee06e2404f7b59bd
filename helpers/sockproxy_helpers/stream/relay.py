"""Move bodies and streams between the client's and the daemon's sockets.

What passes here is never interpreted, but for the sizes of chunks: a raw flow goes by splice, through a pipe that is
taken from a pool only while bytes are in it, so that an idle stream costs no buffer. A flow is stepped when its
descriptor is ready and never waits itself; `run` waits for all flows of a call at once.
"""

from __future__ import annotations

import socket

from sockproxy_helpers.channel.loop import IN, OUT, Want
from .chunks import Chunks

BUDGET = 8  # pipe fills a step, so that one bulk stream does not starve the others
RECEIVE = 65536
LITTLE = 4096  # bytes; a read of less has most likely taken all, and epoll tells if not: a read spared (measured: 3 us)
BUFFER = bytearray(256 << 10)  # recv_into: a new one of this size at each call would go through mmap (measured)
TAIL = 1024  # bytes
NOTHING = memoryview(b"")  # one for all: an idle stream has two flows


class Broken(Exception):
    """Report that a sink or a source is gone, or that a body broke its framing."""

    def __init__(self, sock: socket.socket, why: str) -> None:
        super().__init__(why)
        self.sock = sock


class Flow:
    """Pass bytes one way.

    Attributes:
        done: the flow has ended, all its bytes are in the sink.
        complete: it ended where it should.
        count: bytes passed.
        left_over: what was read of the source after the flow's end.
        tail: the last bytes that were looked at.

    Invariant: `_pending` holds what was read and not yet written; while it does, nothing more is read.
    """

    __slots__ = ("_blocked", "_pending", "complete", "count", "done", "left_over", "sink", "source", "tail")

    def __init__(self, source: socket.socket, sink: socket.socket, initial: bytes) -> None:
        self.source, self.sink = source, sink
        self._pending = memoryview(initial)
        self._blocked = bool(initial)
        self.left_over = self.tail = b""
        self.count = 0
        self.done = self.complete = False

    def want(self) -> tuple[int, int]:
        """Name the descriptor and event that this flow waits for."""
        return (self.sink.fileno(), OUT) if self._blocked else (self.source.fileno(), IN)

    def step(self) -> None:
        """Pass what can be passed without waiting.

        Raises:
            Broken: source or sink failed, or the framing is bad.
        """
        more = True
        for _ in range(BUDGET):
            try:
                self._drain()
            except BlockingIOError:
                self._blocked = True
                return
            except OSError as error:
                self.close()
                raise Broken(self.sink, "write failed") from error
            self._blocked = False
            if self._ended():
                self.done = self.complete = True
                return
            if not more:
                return
            try:
                more = self._fill()
            except BlockingIOError:
                return
            except (EOFError, OSError) as error:
                self.close()
                self.done, self.complete = True, isinstance(error, EOFError) and self._may_end()
                return
        self._blocked = True  # the last fill is still here: the sink's turn, whether or not the source has more

    def _drain(self) -> None:
        while self._pending:
            sent = self.sink.send(self._pending)
            self._pending = self._pending[sent:] if sent < len(self._pending) else NOTHING
            self.count += sent

    def _fill(self) -> bool:
        """Read what is there, and tell whether there is likely to be more; EOFError at the source's end."""
        raise NotImplementedError

    def _ended(self) -> bool:
        """Tell whether the body's end was reached."""
        raise NotImplementedError

    def _may_end(self) -> bool:
        """Tell whether the source's end is the body's end here."""
        raise NotImplementedError

    def close(self) -> None:
        """Give up what is in flight."""


class Chunked(Flow):
    """Pass a chunked body as it is, up to its end.

    Invariant: between steps nothing of a flow is in BUFFER, which all share.
    """

    __slots__ = ("_chunks",)

    def __init__(
        self, source: socket.socket, sink: socket.socket, initial: bytes, chunks: Chunks | None = None
    ) -> None:
        """Begin a flow.

        Args:
            chunks: a scanner that `initial` has already been fed to.

        Raises:
            Broken: `initial` is no chunked framing.
        """
        super().__init__(source, sink, initial)
        self._chunks = chunks or Chunks()
        self.tail = initial[-TAIL:]
        if chunks is None:
            self._take(memoryview(initial))

    def step(self) -> None:
        """Pass what can be passed without waiting; see `Flow.step`."""
        super().step()
        if self._pending.obj is BUFFER:
            self._pending = memoryview(bytes(self._pending))

    def _take(self, data: memoryview) -> None:
        try:
            end = self._chunks.feed(data)
        except ValueError as error:
            raise Broken(self.source, str(error)) from error
        self._pending = data[:end]
        self.left_over = bytes(data[end:])
        self.tail = (self.tail + bytes(data[max(0, end - TAIL) : end]))[-TAIL:]

    def _fill(self) -> bool:
        count = self.source.recv_into(BUFFER)
        if not count:
            raise EOFError
        self._take(memoryview(BUFFER)[:count])
        return count >= LITTLE

    def _ended(self) -> bool:
        return self._chunks.done

    def _may_end(self) -> bool:
        return False


def wanted(flows: list[Flow]) -> Want:
    """Collect what the flows that go on are waiting for."""
    want: Want = {}
    for flow in flows:
        if not flow.done:
            fd, mask = flow.want()
            want[fd] = want.get(fd, 0) | mask
    return want


def step(flows: list[Flow], events: Want) -> None:
    """Step the flows whose descriptor is ready."""
    for flow in flows:
        if not flow.done and flow.want()[0] in events:
            flow.step()
