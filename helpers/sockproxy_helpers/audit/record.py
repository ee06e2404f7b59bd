"""Hand records to the audit writer, and hold its word before a call goes on.

One SEQPACKET connection a helper; the writer acknowledges in order, so the order of what was sent is all the state
there is. What the daemon has already done (an outcome) is kept until the writer has it, also across its restart.
What only reads is not waited for: its records go together, soon, a line each of one message: a fifth of a small call.
"""

from __future__ import annotations

import json
import socket
import time
from collections import deque

from sockproxy_helpers.channel.loop import IN, OUT, Loop, Task
from sockproxy_helpers.errors import Unavailable

TIMEOUT = 5.0  # seconds for an acknowledgement; a writer that hangs is as good as gone
UNRECORDED = "the audit record cannot be written, and nothing is done unrecorded"
LIMIT = 64 * 1024  # bytes of a message that the writer takes, and TOGETHER records in it
SOON = 0.25  # seconds until what was put off is sent, and less than a second until it is on the disk with all else
TOGETHER = 64  # records put off at most: BURST of the writer
OUTCOMES = 10_000  # kept while the writer is away; more than that and calls are refused
_ENCODER = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"))


class _Entry:
    """Hold a message of one record, or of several, and the task that waits for its acknowledgement (None for nobody).

    Attributes:
        since: when the first of its records came.
    """

    __slots__ = ("acknowledged", "message", "since", "task")

    def __init__(self, message: bytes, task: Task | None, since: float) -> None:
        self.message, self.task, self.since = message, task, since
        self.acknowledged = False


class Recorder:
    """Send records.

    Invariant: `_sent` holds, in order, what this connection sent and the writer has not acknowledged; `_queue` what
    follows: with a connection what does not fit into its buffer, without one the outcomes to be sent again; `_later`
    the records that were put off, since `_since`: not more than fit into one message.
    """

    def __init__(self, loop: Loop, path: str) -> None:
        self._loop, self._path = loop, path
        self._sock: socket.socket | None = None
        self._reader: Task | None = None
        self._sent: deque[_Entry] = deque()
        self._queue: deque[_Entry] = deque()
        self._later: list[bytes] = []
        self._size, self._since = 0, 0.0
        self._flusher: Task | None = None

    async def note(self, record: dict[str, object]) -> None:
        """Record what is about to be read, without waiting while the writer is well.

        Raises:
            Unavailable: it could not be recorded, so it must not be done.
        """
        waits = self._sent or self._queue
        oldest = waits[0].since if waits else self._since if self._later else None
        if self._sock is None or (oldest is not None and time.monotonic() - oldest > 4 * SOON):
            await self.intent(record)
        else:
            self._put_off(record)

    async def intent(self, record: dict[str, object]) -> None:
        """Record what is about to be done, or was refused, and wait until the writer has it.

        Raises:
            Unavailable: it could not be recorded, so it must not be done.
        """
        entry = _Entry(self._encode(record), self._loop.current, time.monotonic())
        if len(entry.message) > LIMIT:
            raise Unavailable("the audit record of this request is too large", 503)
        if len(self._queue) >= OUTCOMES or not self._connect():
            raise Unavailable(UNRECORDED, 503)
        self._gather()
        self._queue.append(entry)
        self._flush()
        await self._loop.wait({}, TIMEOUT)
        if not entry.acknowledged:
            if entry in self._sent or entry in self._queue:  # no answer, no end of the connection: the writer hangs
                self._drop()
            raise Unavailable(UNRECORDED, 503)

    def outcome(self, record: dict[str, object], soon: bool = False) -> None:
        """Record what became of a call, without waiting: at once, or soon."""
        if soon and self._sock is not None:
            self._put_off(record)
            return
        self._gather()
        if len(self._queue) < OUTCOMES:
            self._queue.append(_Entry(self._encode(record), None, time.monotonic()))
        self.flush()

    def _put_off(self, record: dict[str, object]) -> None:
        text = self._encode(record)
        if self._size + len(text) >= LIMIT:
            self.flush()
        if not self._later:
            self._since = time.monotonic()
        self._later.append(text)
        self._size += len(text) + 1
        if len(self._later) >= TOGETHER:
            self.flush()
        elif self._flusher is None:
            self._flusher = self._loop.spawn(self._flush_soon())

    def _gather(self) -> None:
        """Make a message of what was put off."""
        if self._later:
            self._queue.append(_Entry(b"\n".join(self._later), None, self._since))
            self._later, self._size = [], 0

    async def _flush_soon(self) -> None:
        await self._loop.wait({}, SOON)
        self._flusher = None
        self.flush()

    def flush(self) -> None:
        """Send what was put off."""
        if (self._later or self._queue) and self._connect():
            self._gather()
            self._flush()

    def _encode(self, record: dict[str, object]) -> bytes:
        return _ENCODER.encode({"v": 1, **record}).encode("ascii")

    def _connect(self) -> bool:
        """Tell whether there is a connection, after trying."""
        if self._sock is None:
            try:
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
            except OSError:
                return False
            try:
                sock.connect(self._path)
            except OSError:
                sock.close()
                return False
            self._sock = sock
            self._reader = self._loop.spawn(self._read(sock))
        return True

    def _flush(self) -> None:
        """Send what waits; a full buffer leaves the rest to the reader, which then waits for room too."""
        assert self._sock is not None
        while self._queue:
            try:
                self._sock.send(self._queue[0].message)
            except BlockingIOError:
                assert self._reader is not None
                self._loop.wake(self._reader)
                return
            except OSError:
                self._drop()
                return
            self._sent.append(self._queue.popleft())

    async def _read(self, sock: socket.socket) -> None:
        """Take acknowledgements until the connection ends."""
        while self._sock is sock:
            try:
                answer = sock.recv(4096)
            except BlockingIOError:
                await self._loop.wait({sock.fileno(): IN | OUT if self._queue else IN})
                if self._sock is sock:
                    self._flush()
                continue
            except OSError:
                answer = b""
            if not answer or not self._sent:
                self._drop()
                return
            entry = self._sent.popleft()
            entry.acknowledged = answer.startswith(b'{"seq":')
            if entry.task:
                self._loop.wake(entry.task)
            elif not entry.acknowledged:  # a full disk, perhaps: once more on the next connection
                self._sent.appendleft(entry)
                self._drop()
                return

    def _drop(self) -> None:
        """End the connection: who waits is refused, outcomes are kept for the next one."""
        if self._sock is not None:
            self._loop.close(self._sock)
            self._sock = None
        entries = [*self._sent, *self._queue]
        self._sent.clear()
        self._queue = deque([entry for entry in entries if not entry.task][:OUTCOMES])
        for entry in entries:
            if entry.task:
                self._loop.wake(entry.task)
