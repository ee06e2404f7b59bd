"""Hand calls to the root helpers, over channels that carry one call at a time.

A channel is a connection to a helper's SOCK_SEQPACKET socket. Ending it cancels the call on it: that is how a session
that is cancelled here takes the daemon's work with it.
"""

from __future__ import annotations

import os
import socket
from collections import defaultdict
from typing import NamedTuple

import trio

from sockproxy.errors import AuditGone, CallError, Crowded, Denied, HelperGone, RequestError, Unacceptable
from sockproxy_helpers.channel import wire

IDLE = 64  # channels kept for each helper; each holds a daemon connection there


class Reply(NamedTuple):
    """Hold a helper's last word on a call.

    Attributes:
        header: {"answer": length, "keep": bool}, {"error": status, "message": text, "at": rule} or {"gone": why}; with
            "begun" where the client has got part of the answer.
        payload: the answer to write, then the client's bytes behind its request.
        repeats, seconds, request_id: how many calls followed on a connection that was lent, how long they took
            together, and the last call's id, which the header is about.
    """

    header: dict[str, object]
    payload: bytes
    repeats: int = 0
    seconds: float = 0.0
    request_id: str = ""

    def problem(self) -> CallError:
        """Turn a helper's refusal into the error of the same status."""
        status, message = self.header.get("error"), str(self.header.get("message"))
        if status in (Denied.status, Crowded.status):
            return (Denied if status == Denied.status else Crowded)(message, str(self.header.get("at", "")))
        if status == AuditGone.status:
            return AuditGone(message)
        if status == Unacceptable.status:
            return Unacceptable(message)
        return RequestError(message, 404) if status == 404 else HelperGone(message)


class Helpers:
    """Reach the helpers of all scopes."""

    def __init__(self, runtime: str) -> None:
        self._runtime = runtime
        self._idle: defaultdict[str, list[socket.socket]] = defaultdict(list)

    async def call(self, scope: str, header: dict[str, object], payload: bytes, client: socket.socket) -> Reply:
        """Form a message and run it; see `run`."""
        return await self.run(scope, wire.pack(header, payload), client)

    async def run(self, scope: str, message: bytes, client: socket.socket) -> Reply:
        """Run one call; the client's socket is the helper's until this returns. Scope auth is the auth process.

        Raises:
            HelperGone: it isn't there, or it died; `sent` tells whether the client has got part of an answer.
        """
        channel = await self._begin(scope, message, client)
        del message  # a stream may last for days
        try:
            reply = await _receive(channel)
        except BaseException:
            channel.close()
            raise
        if len(self._idle[scope]) < IDLE:
            self._idle[scope].append(channel)
        else:
            channel.close()
        return reply

    async def _begin(self, scope: str, message: bytes, client: socket.socket) -> socket.socket:
        """Send a call on an idle channel, the last used first, or on a new one.

        A channel whose helper has died takes no message, whole or in part (SOCK_SEQPACKET): so the next one gets it.
        """
        idle = self._idle[scope]
        while True:
            channel, last = (idle.pop(), False) if idle else (self._connect(scope), True)
            try:
                await _send(channel, message, client)
                return channel
            except BaseException as error:
                channel.close()
                if last or not isinstance(error, HelperGone):
                    raise

    def _connect(self, scope: str) -> socket.socket:
        try:
            channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        except OSError as error:
            raise HelperGone(f"the {scope} helper can't be asked now: {error.strerror}") from error
        try:
            channel.connect(f"{self._runtime}/{'auth' if scope == 'auth' else 'helpers'}/{scope}.sock")
        except OSError as error:
            channel.close()
            raise HelperGone(f"the {scope} helper is not there: {error.strerror}") from error
        return channel

    def close(self) -> None:
        """Close what is idle."""
        for channels in self._idle.values():
            while channels:
                channels.pop().close()


async def _send(channel: socket.socket, message: bytes, client: socket.socket) -> None:
    while True:
        try:
            return wire.send(channel, message, [client.fileno()])
        except BlockingIOError:
            await trio.lowlevel.wait_writable(channel)
        except OSError as error:
            raise HelperGone("the helper ended: try again") from error


async def _receive(channel: socket.socket) -> Reply:
    sent = False
    while True:
        await trio.lowlevel.wait_readable(channel)
        try:
            message, fds = wire.receive(channel)
        except BlockingIOError:
            continue
        except (OSError, wire.WireError):
            message, fds = b"", []
        for fd in fds:
            os.close(fd)
        if not message:
            raise HelperGone("the helper ended during the call", sent=sent)
        header, payload = wire.unpack(message)
        if header != {"sent": True}:
            return Reply(header, payload, *header.pop("lent", ()))  # type: ignore[misc]
        sent = True
        del message, header, payload  # a stream may last for days
