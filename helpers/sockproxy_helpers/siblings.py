"""Ask a sibling helper about its part of a call, for the client whose socket it gets."""

from __future__ import annotations

import os
import socket

from . import wire
from .errors import Unavailable
from .faults import fault_of
from .loop import IN, Loop

ASK_SECONDS = 10.0  # for an answer


class Siblings:
    """Ask the helpers of one sockproxy."""

    def __init__(self, loop: Loop, runtime: str) -> None:
        self._loop, self._runtime = loop, runtime

    async def ask(
        self, sibling: str, part: dict[str, object], client: socket.socket, kept: list[socket.socket] | None = None
    ) -> dict[str, object]:
        """Have a sibling approve its part.

        Args:
            kept: takes the channel of an approval that counts as long as that is open.

        Raises:
            Unavailable: it is not there.
            Refused, Malformed, NotFound: what it says.
        """
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        closing = [channel]
        try:
            channel.connect(f"{self._runtime}/helpers/{sibling}.sock")
            wire.send(channel, wire.pack(part), [client.fileno()])
            reply, _ = wire.unpack(await receive(self._loop, channel))
            if kept is not None:
                kept.append(closing.pop())
        except (OSError, wire.WireError) as error:
            raise Unavailable(f"the {sibling} helper is not there") from error
        finally:
            for one in closing:
                self._loop.close(one)
        if "body" not in reply:
            raise fault_of(reply)
        return reply

    async def network_of_steps(self, query: dict[str, str], client: socket.socket, assertion: str) -> str:
        """Have the network helper say what network the steps of a build get, as for a container."""
        body = {"HostConfig": {"NetworkMode": query.get("networkmode", "")}}
        part: dict[str, object] = {"part": "ImageBuild", "body": body, "assertion": assertion}
        reply = await self.ask("network", part, client)
        return str(reply["body"]["HostConfig"]["NetworkMode"])  # type: ignore[index]


async def receive(loop: Loop, channel: socket.socket) -> bytes:
    """Wait for a message that carries no descriptors; a sibling that hangs is as good as gone."""
    if not await loop.wait({channel.fileno(): IN}, ASK_SECONDS):
        raise TimeoutError
    message, fds = wire.receive(channel)
    for fd in fds:
        os.close(fd)
    return message
