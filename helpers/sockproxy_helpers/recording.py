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

from .call import Call
from .cast import Cast
from .errors import Refused, Unavailable
from .loop import IN, OUT, Loop
from .objects import Object
from .policy import Decision, Policy
from .record import TIMEOUT
from .relay import RECEIVE, Flow

PIECE = 32_768  # bytes of a message to the writer
UNRECORDED = "this session is to be recorded, and can't be"
_RECORDED = ("ExecStart", "ContainerAttach")
_UNFRAMED = "ContainerAttachWebsocket"
_RESIZES = ("ExecResize", "ContainerResize")
_LARGEST = 10_000  # columns or lines


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
        if len(self._waiting) < PIECE:
            self._add(self._cast.resize(width, height, time.monotonic() - self._began))

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

    def _fill(self) -> None:
        data = self.source.recv(RECEIVE)
        if not data:
            raise EOFError
        self._recording.take(data)
        self._pending = memoryview(data)

    def _ended(self) -> bool:
        return False

    def _may_end(self) -> bool:
        return True


class Sessions:
    """Know the recordings under way, by the object whose output it is."""

    def __init__(self, loop: Loop, runtime: str) -> None:
        self._loop, self._path = loop, f"{runtime}/audit/audit.sock"
        self._live: dict[str, Recording] = {}

    async def begin(
        self, call: Call, decision: Decision, policy: Policy, objects: list[Object], body: bytes | None
    ) -> Recording | None:
        """Begin the recording of a call, if it is one to be recorded.

        Args:
            objects: that the call names; body: as it is sent to the daemon.

        Raises:
            Refused: it can't be recorded in that form.
            Unavailable: the writer does not take it.
        """
        rule, at = decision.rules.get("sessions", ({}, ""))
        limit = rule.get("output") if isinstance(rule, dict) else 0
        operation = call.operation.name
        if operation in _RESIZES:
            self._resize(objects, dict(call.query))
        if not isinstance(limit, int) or not limit or operation not in (*_RECORDED, _UNFRAMED):
            return None
        if operation == _UNFRAMED:
            why = "a WebSocket, which can't be recorded as your role has it (allowed: attach without one)"
            raise Refused("", why, "sessions", at)
        start = json.loads(body or b"{}")
        if start.get("Detach"):
            return None
        tty = start.get("Tty") is True if operation == "ExecStart" else any(item.tty for item in objects)
        required = policy.audit["on_full"] != "continue"
        sock = await self._connect(call.request_id)
        if not sock and required:
            raise Unavailable(UNRECORDED, 503)
        recording = Recording(sock, Cast(tty, limit, int(time.time())), required)
        self._live.update({item.id: recording for item in objects})
        return recording

    async def _connect(self, request_id: str) -> socket.socket | None:
        """Have the writer open a file for this request."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        try:
            sock.connect(self._path)
            sock.send(json.dumps({"v": 1, "ev": "recording", "rid": request_id}).encode())
            if await self._loop.wait({sock.fileno(): IN}, TIMEOUT) and sock.recv(4096).startswith(b'{"seq":'):
                return sock
        except OSError:
            pass
        self._loop.close(sock)
        return None

    def _resize(self, objects: list[Object], query: dict[str, str]) -> None:
        sizes = [int(text) if text.isascii() and text.isdigit() else 0 for text in map(query.get, "wh") if text]
        for item in objects:
            recording = self._live.get(item.id)
            if recording and len(sizes) == 2 and all(0 < size <= _LARGEST for size in sizes):
                recording.resize(*sizes)

    async def end(self, recording: Recording) -> dict[str, object]:
        """End a recording; see there."""
        self._live = {identity: one for identity, one in self._live.items() if one is not recording}
        return await recording.end(self._loop)
