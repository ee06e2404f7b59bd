"""Serve a client that says the same again and again, without the front in between.

SECURITY: the front lends a client's connection, and says of which bytes the call was read. What the client sends next
is compared with them, and not read in any other way: if it is exactly these, the call is made again; all else stays in
the socket, for the front. A hostile front could name bytes that mean something else, and gains nothing: it has the
connection, and could make the same calls itself. How often and how long is bounded here, too. Who asks was found when
the call came, SECONDS ago at most. Each call is decided by the policy of now, counted and recorded.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Coroutine

from sockproxy_helpers.channel import wire
from sockproxy_helpers.channel.loop import IN, Loop, Wait, Want
from .call import Call
from .repeats import Asked, Repeats

MOST = 64  # times; of so many the front's part in a call is a hundredth
SECONDS = 0.5  # until the front has the connection again, which may have to end it
PATIENCE = 0.02  # seconds for the client to say it again: it does at once, or there is nothing to gain
_PEEK = int(socket.MSG_PEEK)
Reply = tuple[dict[str, object], bytes]


class Loan:
    """Hold a connection that is lent with a call.

    Attributes:
        times, seconds: the calls that came after it, and how long these took together.
    """

    def __init__(
        self, loop: Loop, channel: socket.socket, client: socket.socket, asked: Asked, known: Callable[[], Repeats]
    ) -> None:
        """Take over a connection.

        Args:
            known: gives what is remembered, by the policy of now.
        """
        self._loop, self._channel, self._client, self._asked, self._known = loop, channel, client, asked, known
        self.times, self.seconds = 0, 0.0

    async def run(self, serve: Callable[[Call], Coroutine[Wait, Want, Reply]], call: Call) -> Reply:
        """Serve the call, and what follows.

        Returns:
            The last word on the last call; what it has of an answer is still to be written. `lent` is in it.
        """
        end = time.monotonic() + SECONDS
        reply, rest = await serve(call)
        while self._may_go_on(reply, rest) and time.monotonic() < end:
            if not self.times:
                wire.send(self._channel, wire.pack({"sent": True}), [])
            rest = self._write(rest)
            reply["answer"] = len(rest)
            if rest or not await self._is_said_again():
                break
            call, begun = call.again(os.urandom(8).hex()), time.monotonic()
            reply, rest = await serve(call)
            self.times, self.seconds = self.times + 1, self.seconds + time.monotonic() - begun
        return reply | {"lent": [self.times, self.seconds, call.request_id]}, rest

    def _may_go_on(self, reply: dict[str, object], rest: bytes) -> bool:
        """Tell whether there is a whole answer to a call that may come again, and nothing else."""
        whole = reply.get("keep") is True and reply["answer"] == len(rest) > 0
        return whole and self.times < min(self._asked.lend, MOST) and self._asked.repeat(self._known()) is not None

    def _write(self, answer: bytes) -> bytes:
        """Write what can be written without waiting; give the rest."""
        try:
            return answer[self._client.send(answer) :]
        except OSError:  # no room, or the client is gone: the front's to deal with
            return answer

    async def _is_said_again(self) -> bool:
        """Wait for the client's next bytes; take them only if they are the same head and nothing else."""
        client, channel, head = self._client.fileno(), self._channel.fileno(), self._asked.head
        events = await self._loop.wait({client: IN, channel: IN}, PATIENCE)
        if client not in events or not self._asked.repeat(self._known()):
            return False
        try:
            if self._client.recv(len(head) + 1, _PEEK) != head:
                return False
            return self._client.recv(len(head)) == head
        except OSError:
            return False
