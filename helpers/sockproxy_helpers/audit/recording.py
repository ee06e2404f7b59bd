"""Record what exec and attach print, where the role says so (`sessions`): beside the stream, and before it.

SECURITY: here the lifecycle helper reads what it otherwise splices unseen; it is copied, and never acted on (`cast`).
The audit writer keeps the file. Output reaches the client when the writer's socket has taken it, so a session can't
outrun its recording: a slow disk slows that session alone, and one that fails ends it, or leaves it unrecorded where
the policy says so (`on_full: continue`). Input is never recorded: people type passwords.
"""

from __future__ import annotations

import json
import socket
import time

from sockproxy_helpers.channel.loop import IN, OUT, Loop
from sockproxy_helpers.stream.relay import LITTLE, RECEIVE, Flow
from .cast import Cast
from .record import TIMEOUT

PIECE = 32_768  # bytes of a message to the writer
UNRECORDED = "this session is to be recorded, and can't be"


class Recording:
    """Carry one recording to the writer.

    Attributes:
        trouble: why it has an end before the session's; "" while it has not.

    Invariant: while `_waiting` is not empty the output that it is of has not been passed on.
    """

    def __init__(self, sock: socket.socket | None, cast: Cast, required: bool) -> None:
        """Prepare.

        Args:
            sock: connected to the writer, which has agreed; None where it has not.
            required: without it the session ends.
        """
        self._sock, self._cast, self._required = sock, cast, required
        self._began, self._waiting = time.monotonic(), memoryview(b"")
        self.trouble = "" if sock else UNRECORDED

    def take(self, data: bytes) -> None:
        """Take output that is about to be passed on; `flush` before it is."""
        self._add(self._cast.feed(data, time.monotonic() - self._began))

    def resize(self, width: int, height: int) -> None:
        """Take a new size of the terminal."""
        self._cast.resize(width, height)

    def _add(self, lines: bytes) -> None:
        if self._sock:
            self._waiting = memoryview(bytes(self._waiting) + lines)

    def want(self) -> tuple[int, int] | None:
        """Name what it waits for, if it does."""
        return (self._sock.fileno(), OUT) if self._sock and self._waiting else None

    def flush(self) -> None:
        """Hand over what waits.

        Raises:
            BlockingIOError: the writer is slower: `want`.
            OSError: it is gone, or its disk is full, and the session must not go on.
        """
        while self._sock and self._waiting:
            try:
                self._waiting = self._waiting[self._sock.send(self._waiting[:PIECE]) :]
            except BlockingIOError:
                raise
            except OSError:
                self.trouble, self._waiting = UNRECORDED, memoryview(b"")
        if self.trouble and self._required:
            raise OSError(UNRECORDED)

    async def end(self, loop: Loop) -> dict[str, object]:
        """End it; say for the record what there is of it: its size and hash, from who has the file."""
        said: dict[str, object] = {}
        if self._sock:
            await self._finish(loop)
            try:
                self._sock.shutdown(socket.SHUT_WR)
                if await loop.wait({self._sock.fileno(): IN}, TIMEOUT):
                    said = json.loads(self._sock.recv(4096))
            except (OSError, ValueError):
                pass
            loop.close(self._sock)
        trouble = self.trouble or ("" if said else "the writer did not say what it has")
        said |= {"left_out": self._cast.left_out} if self._cast.left_out else {}
        return said if "error" in said or not trouble else {**said, "error": trouble}

    async def _finish(self, loop: Loop) -> None:
        """Hand over what the end brings; nothing where the end is that of the recording's."""
        rest = self._cast.end(time.monotonic() - self._began)
        if self._sock and rest and not self._waiting and not self.trouble:
            await loop.wait({self._sock.fileno(): OUT}, TIMEOUT)
            try:
                self._sock.send(rest)
            except OSError:
                self.trouble = UNRECORDED


class Recorded(Flow):
    """Pass output on when it is recorded."""

    __slots__ = ("_recording",)

    def __init__(
        self, source: socket.socket, sink: socket.socket, initial: bytes, prefix: bytes, recording: Recording
    ) -> None:
        super().__init__(source, sink, prefix + initial)
        self._recording = recording
        recording.take(initial)

    def want(self) -> tuple[int, int]:
        """Name the descriptor and event that this flow waits for; first of all the writer's."""
        return self._recording.want() or super().want()

    def _drain(self) -> None:
        self._recording.flush()
        super()._drain()

    def _fill(self) -> bool:
        data = self.source.recv(RECEIVE)
        if not data:
            raise EOFError
        self._recording.take(data)
        self._pending = memoryview(data)
        return len(data) >= LITTLE

    def _ended(self) -> bool:
        return False

    def _may_end(self) -> bool:
        return True
