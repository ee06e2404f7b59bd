"""End streams under way of who may not have them any more, where the role says so (`revoke_streams`)."""

from __future__ import annotations

import socket
from collections.abc import Callable

from . import caller
from .caller import Caller
from .identity import Identity
from .loop import Loop, Task
from .policy import Decision, Policy

SECONDS = 5.0  # between looks; what the accounts database and PAM say may be as old again


class Streams:
    """Know the calls under way."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._live: dict[socket.socket, tuple[Caller, str]] = {}
        self._watcher: Task | None = None

    def begin(self, channel: socket.socket, who: Caller, decision: Decision, operation: str) -> None:
        """Watch the call on a channel."""
        rule = decision.rules.get("revoke_streams")
        if rule and rule[0] is True:
            self._live[channel] = who, operation

    def end(self, channel: socket.socket) -> None:
        """Forget it."""
        self._live.pop(channel, None)

    def wake(self) -> None:
        """Look at once: there is a new policy."""
        if self._watcher:
            self._loop.wake(self._watcher)

    async def watch(self, identity: Identity, policy: Callable[[], Policy]) -> None:
        """Look again and again; `policy()` gives the policy of now."""
        self._watcher = self._loop.current
        while True:
            await self._loop.wait({}, SECONDS)
            await self.look(identity, policy())

    async def look(self, identity: Identity, policy: Policy) -> None:
        """End what is not allowed now: its channel ends, as if the front had left, and the daemon's work with it."""
        for channel, (who, operation) in list(self._live.items()):
            now = caller.again(who)
            await identity.accounts.check(now, policy.auth)
            if self._live.get(channel, (None,))[0] is who and not policy.decide(now, operation).allowed:
                self.end(channel)
                channel.shutdown(socket.SHUT_RDWR)
