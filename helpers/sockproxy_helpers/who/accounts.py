"""Ask the auth process whether a caller's account may be used: not expired, not locked out, allowed by host's rules.

And whether the token that a caller presented is still good, also while a stream is under way.
The helper asks by itself, so that a hostile front can't leave it out; an answer holds for some seconds. Host root is
not asked about: who shuts out root can't repair the machine, and root needs no leave to reach the daemon.
"""

from __future__ import annotations

import time

from sockproxy_helpers.channel.asking import ask
from sockproxy_helpers.channel.loop import Loop
from sockproxy_helpers.system.caller import Caller
from . import assertion

REFUSED_SECONDS = 5.0  # what a person has repaired should work soon
TOKEN_SECONDS = 5.0  # who revokes a token may have lost it
REMEMBERED = 4096
UNASKED, UNTOLD = "the auth process does not answer, so nobody can tell", -1  # its code where the host does not answer


class Accounts:
    """Remember what was answered, for all channels of a helper."""

    def __init__(self, loop: Loop, path: str) -> None:
        self._loop, self._path = loop, path
        self._known: dict[tuple[str, str], tuple[float, str]] = {}

    def forget(self) -> None:
        """Ask anew: the policy may say something else."""
        self._known.clear()

    async def check(self, who: Caller, settings: dict[str, object]) -> None:
        """Put a caller whose account may not be used, or whose token is not good any more, in trouble.

        Args:
            settings: of the policy: `accounts`, pam or none; `cache`, the seconds for which an answer holds.
        """
        asked = []
        token = assertion.token_of(who.assertion)
        if token:
            asked.append(("the token is not good any more", await self._answer("token", token, TOKEN_SECONDS)))
        if settings["accounts"] != "none" and who.user and who.uid != 0:
            cache = settings["cache"]
            answer = await self._answer("account", who.user, float(cache) if isinstance(cache, int) else 0.0)
            asked.append((f"the account {who.user} may not be used", answer))
        for what, (why, told) in asked:
            if why and not who.trouble:
                who.trouble, who.unasked = f"{what}: {why}", not told

    async def _answer(self, question: str, about: str, holds: float) -> tuple[str, bool]:
        """Give why not, "" when all is well, and whether anybody could tell; an answer holds for so many seconds."""
        now = time.monotonic()
        known = self._known.get((question, about))
        if known is None or known[0] <= now:
            why, told = await self._ask(question, about)
            if not told:
                return why, False  # it may answer the next time
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            known = self._known[question, about] = (now + (min(holds, REFUSED_SECONDS) if why else holds), why)
        return known[1], True

    async def _ask(self, question: str, about: str) -> tuple[str, bool]:
        try:
            reply = await ask(self._loop, self._path, {"ask": question, question: about})
        except OSError:
            return UNASKED, False
        code, why = reply.get("code"), reply.get("why")
        if code == 0 and type(code) is int:
            return "", True
        return (why, code != UNTOLD) if isinstance(why, str) and why else (UNASKED, False)
