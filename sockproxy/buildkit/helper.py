"""Ask the root helper that handed a connection over: it approves, names and records."""

from __future__ import annotations

import socket

import trio

from sockproxy_helpers.channel import wire
from sockproxy_helpers.errors import Malformed, NotFound, Refused, Unavailable

_ANSWER = 1 << 20


class Helper:
    """Be the mediator's end of the channel; one question at a time."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel, self._turn = trio.socket.from_stdlib_socket(channel), trio.Lock()
        self._heard, self._replies = trio.open_memory_channel[bytes](1)

    async def run(self) -> None:
        """Take answers until the helper ends the connection."""
        with self._heard:
            while answer := await self._channel.recv(_ANSWER):
                await self._heard.send(answer)

    async def ask(self, question: dict[str, object]) -> dict[str, object]:
        """Ask.

        Raises:
            Refused, Malformed, NotFound, Unavailable: it says no.
        """
        message = wire.pack(question)
        if len(message) > wire.INLINE:
            raise Malformed("too much to record")
        async with self._turn:
            # A question that was begun gets its answer, or the next one would get it.
            with trio.CancelScope(shield=True):
                try:
                    await self._channel.send(message)
                    reply, _ = wire.unpack(await self._replies.receive())
                except (OSError, trio.EndOfChannel, wire.WireError) as error:
                    raise Unavailable("the filesystem helper is gone", 503) from error
        if "error" not in reply:
            return reply
        why, at = str(reply.get("message")), str(reply.get("at", ""))
        if reply["error"] == Refused.status:
            raise Refused("", why, at=at)
        if reply["error"] == NotFound.status:
            raise NotFound(why)
        raise Malformed(why) if reply["error"] == Malformed.status else Unavailable(why)
