"""Know the calls under way: let nobody have more than the role says (`traffic`), and end those of who lost access."""

from __future__ import annotations

import socket
from collections.abc import Callable

from sockproxy_helpers.channel.loop import HUP, IN, Loop, Task
from sockproxy_helpers.content.access import others
from sockproxy_helpers.errors import Crowded
from sockproxy_helpers.judge.policy import Decision, Policy
from sockproxy_helpers.system import caller
from sockproxy_helpers.system.caller import Caller
from sockproxy_helpers.upstream.daemon import RECEIVE
from sockproxy_helpers.upstream.objects import Object
from sockproxy_helpers.who.identity import Identity
from .approved import Approved

SECONDS = 5.0  # between looks; what the accounts database and PAM say may be as old again


class Streams:
    """Know the calls under way.

    Invariant: `_counts` has, by uid, how many of `_counted` are a person's.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        # Those that end with their caller's access; with whose things they use besides the caller's.
        self._live: dict[socket.socket, tuple[Caller, str, set[int]]] = {}
        self._counted: dict[socket.socket, int] = {}
        self._counts: dict[int, int] = {}
        self._watcher: Task | None = None

    def begin(self, channel: socket.socket, who: Caller, decision: Decision, operation: str) -> None:
        """Count the call on a channel, and watch it where the role says so (`revoke_streams`).

        Raises:
            Crowded: the caller has too many already.
        """
        bounds, at = decision.rules.get("traffic", ({}, ""))
        most = bounds.get("streams") if isinstance(bounds, dict) else None
        count = self._counts.get(who.uid, 0)
        if isinstance(most, int) and count >= most:
            why = f"role {decision.role} may have {most} calls under way of this kind, and you have {count}: end some"
            raise Crowded("", why, "traffic", at)
        self._counted[channel], self._counts[who.uid] = who.uid, count + 1
        rule = decision.rules.get("revoke_streams")
        if rule and rule[0] is True:
            self._live[channel] = who, operation, set()

    def uses(self, channel: socket.socket, objects: list[Object]) -> None:
        """Take what the call uses: it ends as well when the caller shares no more with those whose that is."""
        if channel in self._live:
            who, _, whose = self._live[channel]
            whose |= others(objects, who.uid)

    def linger(
        self, channel: socket.socket, daemon: socket.socket, approved: Approved, then: Callable[[Approved], None]
    ) -> None:
        """Let a call that was broken off count until the daemon is done with it: so long it has a descriptor for it.

        Args:
            daemon: its connection.
            then: is called at the end.
        """
        self._counted[daemon] = self._counted.pop(channel)
        self.end(channel)

        async def wait() -> None:
            await drained(self._loop, daemon, whole=approved.claim is not None)
            self.end(daemon)
            then(approved)

        self._loop.spawn(wait())

    def end(self, channel: socket.socket) -> None:
        """Forget it."""
        self._live.pop(channel, None)
        uid = self._counted.pop(channel, None)
        if uid is not None:
            self._counts[uid] -= 1
            if not self._counts[uid]:
                del self._counts[uid]

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
        for channel, (who, operation, whose) in list(self._live.items()):
            now = caller.again(who)
            await identity.accounts.check(now, policy.auth)
            if now.unasked:
                continue  # the auth process is being started again: who had access keeps it until there is an answer
            decision = policy.decide(now, operation)
            all_are_seen = decision.rules.get("sees_all", (False,))[0] is True or all(map(decision.mates, whose))
            if self._live.get(channel, (None,))[0] is who and not (decision.allowed and all_are_seen):
                del self._live[channel]
                channel.shutdown(socket.SHUT_RDWR)


async def drained(loop: Loop, sock: socket.socket, whole: bool) -> None:
    """Wait until the daemon has ended a call that was given up: a half-close cancels it, and its end closes this.

    What it still says is read to its end, if that is wanted as a `whole`; else nobody listens, which ends it.
    """
    try:
        sock.shutdown(socket.SHUT_WR)
        while await loop.wait({sock.fileno(): IN | HUP}) is not None:
            try:
                if not sock.recv(RECEIVE) or not whole:
                    break
            except BlockingIOError:
                continue
    except OSError:
        pass
    finally:
        loop.close(sock)
