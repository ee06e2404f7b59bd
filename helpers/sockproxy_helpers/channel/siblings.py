"""Ask a sibling helper about its part of a call, for the client whose socket it gets."""

from __future__ import annotations

import socket

from sockproxy_helpers.errors import Unavailable
from sockproxy_helpers.faults import fault_of
from .asking import ask
from .loop import Loop


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
        path = f"{self._runtime}/helpers/{sibling}.sock"
        try:
            reply = await ask(self._loop, path, part, [client.fileno()], kept=kept)
        except OSError as error:
            raise Unavailable(f"the {sibling} helper is not there") from error
        if "body" not in reply:
            raise fault_of(reply)
        return reply

    async def network_of_steps(self, query: dict[str, str], client: socket.socket, assertion: str) -> str:
        """Have the network helper say what network the steps of a build get, as for a container."""
        body = {"HostConfig": {"NetworkMode": query.get("networkmode", "")}}
        part: dict[str, object] = {"part": "ImageBuild", "body": body, "assertion": assertion}
        reply = await self.ask("network", part, client)
        return str(reply["body"]["HostConfig"]["NetworkMode"])  # type: ignore[index]
