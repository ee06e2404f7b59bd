"""Ask the auth process whether a caller's account may be used: not expired, not locked out, allowed by host's rules.

The helper asks by itself, so that a hostile front can't leave it out; an answer holds for some seconds. Host root is
not asked about: who shuts out root can't repair the machine, and root needs no leave to reach the daemon.
"""

from __future__ import annotations

import socket
import time

from . import wire
from .caller import Caller
from .loop import IN, Loop

SECONDS = 10.0  # for an answer; a directory server may be asked for it
REFUSED_SECONDS = 5.0  # what a person has repaired should work soon
REMEMBERED = 4096
UNASKED = "nobody can tell whether the account {} may be used: the auth process does not answer"


class Accounts:
    """Remember what was answered, for all channels of a helper."""

    def __init__(self, loop: Loop, path: str) -> None:
        self._loop, self._path = loop, path
        self._known: dict[str, tuple[float, str]] = {}

    def forget(self) -> None:
        """Ask anew: the policy may say something else."""
        self._known.clear()

    async def check(self, who: Caller, settings: dict[str, object]) -> None:
        """Put a caller whose account may not be used in trouble.

        Args:
            settings: of the policy: `accounts`, pam or none; `cache`, the seconds for which an answer holds.
        """
        if settings["accounts"] == "none" or not who.user or who.uid == 0:
            return
        now = time.monotonic()
        known = self._known.get(who.user)
        if known is None or known[0] <= now:
            why = await self._ask(who.user)
            cache = settings["cache"]
            holds = float(cache) if isinstance(cache, int) else 0.0
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            known = self._known[who.user] = (now + (min(holds, REFUSED_SECONDS) if why else holds), why)
        who.trouble = who.trouble or known[1]

    async def _ask(self, user: str) -> str:
        """Ask; give why not, "" when it may be used."""
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        try:
            channel.connect(self._path)
            wire.send(channel, wire.pack({"ask": "account", "user": user}), [])
            if not await self._loop.wait({channel.fileno(): IN}, SECONDS):
                return UNASKED.format(user)
            message, _ = wire.receive(channel)
            reply, _ = wire.unpack(message)
        except (OSError, wire.WireError):
            return UNASKED.format(user)
        finally:
            self._loop.close(channel)
        code, why = reply.get("code"), reply.get("why")
        if code == 0 and type(code) is int:
            return ""
        return f"the account {user} may not be used: {why}" if isinstance(why, str) else UNASKED.format(user)
