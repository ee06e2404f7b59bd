"""Begin the recordings of sessions where the role says so, and know those under way.

SECURITY: the role and the caller are those that the call was approved for; the request's id, which names the file, was
checked for its form, and a file that is there is not written to again.
"""

from __future__ import annotations

import json
import socket
import time

from sockproxy_helpers.audit import cast
from sockproxy_helpers.audit.record import TIMEOUT
from sockproxy_helpers.audit.recording import UNRECORDED, Recording
from sockproxy_helpers.channel.loop import IN, Loop
from sockproxy_helpers.errors import Unavailable
from sockproxy_helpers.judge.policy import Decision, Policy
from sockproxy_helpers.upstream.objects import Object
from .call import Call

MOST = 64  # of one user at a time: the writer has room for so many, and it is everybody's
_RESIZES = ("ExecResize", "ContainerResize")
_LARGEST = 10_000  # columns or lines


class Sessions:
    """Know the recordings under way: whose each is, and of which objects."""

    def __init__(self, loop: Loop, runtime: str) -> None:
        self._loop, self._path = loop, f"{runtime}/audit/audit.sock"
        self._live: dict[Recording, tuple[int, list[str]]] = {}

    async def begin(
        self, call: Call, uid: int, decision: Decision, policy: Policy, objects: list[Object], body: bytes | None
    ) -> Recording | None:
        """Begin the recording of a call, if it is one to be recorded.

        Args:
            uid: the caller's.
            objects: that the call names.
            body: as it is sent to the daemon.

        Raises:
            Refused: it can't be recorded in that form.
            Unavailable: the writer does not take it.
        """
        operation = call.operation.name
        if operation in _RESIZES:
            self._resize(objects, dict(call.query))
        limit = cast.limit(decision.rules, operation)
        if not limit:
            return None
        start = json.loads(body or b"{}")
        if start.get("Detach"):
            return None
        tty = start.get("Tty") is True if operation == "ExecStart" else any(item.tty for item in objects)
        if sum(owner == uid for owner, _ in self._live.values()) >= MOST:
            raise Unavailable(f"{MOST} sessions of yours are being recorded already", 503)
        required = policy.audit["on_full"] != "continue"
        sock = await self._connect(call.request_id)
        if not sock and required:
            raise Unavailable(UNRECORDED, 503)
        recording = Recording(sock, cast.Cast(tty, limit, int(time.time())), required)
        self._live[recording] = uid, [item.id for item in objects]
        return recording

    async def _connect(self, request_id: str) -> socket.socket | None:
        """Have the writer open a file for this request."""
        try:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        except OSError:  # no descriptors
            return None
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
        if len(sizes) == 2 and all(0 < size <= _LARGEST for size in sizes):
            for recording, (_, identities) in self._live.items():
                if any(item.id in identities for item in objects):
                    recording.resize(*sizes)

    async def end(self, recording: Recording) -> dict[str, object]:
        """End a recording; see there."""
        self._live.pop(recording, None)
        return await recording.end(self._loop)
