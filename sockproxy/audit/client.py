"""Hand records to the audit writer and wait for its word."""

from __future__ import annotations

import json
import socket
from collections import deque

import trio

from sockproxy.errors import AuditGone

TIMEOUT = 5.0  # seconds; a writer that hangs is as good as gone
LIMIT = 64 * 1024  # bytes of a record that the writer takes
_ENCODER = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"))
_UNRECORDED = "the audit record cannot be written, and nothing is done unrecorded"


class _Waiter:
    """Hold one record's turn: the event is set when there is an answer, or to take over the reading."""

    __slots__ = ("answer", "event", "left")

    def __init__(self) -> None:
        self.answer: bytes | None = None
        self.event = trio.Event()
        self.left = False


class _Connection:
    """Hold one connection to the writer.

    Invariant: `waiting` holds, in order, a waiter for each record that was sent and not acknowledged. The first task
    that waits reads for all; when it leaves it passes the reading on. So there is no task in the background.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._reading = False
        self._sending = trio.Lock()
        self.waiting: deque[_Waiter] = deque()
        self.closed = False

    async def ask(self, message: bytes) -> bytes | None:
        """Send a record and wait for its answer.

        Returns:
            b"" when the connection ended before the answer came; None when it had ended before the record was sent.
        """
        waiter = _Waiter()
        async with self._sending:
            if not await self._send(message):
                return None
            self.waiting.append(waiter)
        try:
            while waiter.answer is None:
                if self._reading:
                    waiter.event = trio.Event()
                    await waiter.event.wait()
                else:
                    await self._read_until(waiter)
        finally:
            waiter.left = True
            self._pass_on()
        return waiter.answer

    async def _send(self, message: bytes) -> bool:
        while not self.closed:
            try:
                self._sock.send(message)
                return True
            except BlockingIOError:
                try:
                    await trio.lowlevel.wait_writable(self._sock)
                except trio.ClosedResourceError:
                    break
            except OSError:
                self.close()
        return False

    async def _read_until(self, waiter: _Waiter) -> None:
        self._reading = True
        try:
            while waiter.answer is None:
                await trio.lowlevel.wait_readable(self._sock)
                self._read()
        except trio.ClosedResourceError:
            pass
        finally:
            self._reading = False

    def _pass_on(self) -> None:
        """Let another task read, if nobody does."""
        heir = None if self._reading else next((waiter for waiter in self.waiting if not waiter.left), None)
        if heir:
            heir.event.set()

    def _read(self) -> None:
        """Take the answers that have come."""
        while self.waiting:
            try:
                answer = self._sock.recv(4096)
            except BlockingIOError:
                break
            except OSError:
                answer = b""
            if not answer:
                self.close()
                break
            waiter = self.waiting.popleft()
            waiter.answer = answer
            waiter.event.set()

    def close(self) -> None:
        """End it; whoever waits gets no answer."""
        if not self.closed:
            self.closed = True
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()
        while self.waiting:
            waiter = self.waiting.popleft()
            waiter.answer = b""
            waiter.event.set()


class Recorder:
    """Record, over one connection that is made when it is needed; for any number of tasks at once."""

    def __init__(self, runtime: str) -> None:
        """Prepare.

        Args:
            runtime: the runtime folder, SOCKPROXY_RUNTIME.
        """
        self._path = f"{runtime}/audit/audit.sock"
        self._connection: _Connection | None = None

    async def record(self, record: dict[str, object]) -> int:
        """Wait until the writer has a record in its file, and give its number.

        Raises:
            AuditGone: it could not be written, or nobody can tell: what it is about must not be done.
        """
        message = _ENCODER.encode({"v": 1, **record}).encode("ascii")
        if len(message) > LIMIT:
            raise AuditGone("the audit record of this request is too large")
        answer = None
        with trio.move_on_after(TIMEOUT) as limit:
            answer = await self._connect().ask(message)
            if answer is None:  # it ended while nobody used it, and says so now
                answer = await self._connect().ask(message)
        if limit.cancelled_caught:
            self.close()
        return _number(answer or b"")

    def _connect(self) -> _Connection:
        if self._connection is None or self._connection.closed:
            try:
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
            except OSError as error:
                raise AuditGone(_UNRECORDED) from error
            try:
                sock.connect(self._path)
            except OSError as error:
                sock.close()
                raise AuditGone(_UNRECORDED) from error
            self._connection = _Connection(sock)
        return self._connection

    def close(self) -> None:
        """End the connection."""
        if self._connection:
            self._connection.close()


def _number(answer: bytes) -> int:
    """Read an acknowledgement."""
    try:
        said = json.loads(answer) if answer else {}
    except ValueError:
        said = {}
    if not isinstance(said, dict) or type(said.get("seq")) is not int:
        raise AuditGone(_UNRECORDED)
    return int(said["seq"])
