"""Decide when a client's connection is lent to a helper: the client says the same again and again, at once.

The helper then serves it without the front in between (`lent.py` there), which spares half of what a small request
costs. Turns for what may follow are taken beforehand, and given back if it does not come.
"""

from __future__ import annotations

import trio

from sockproxy.dispatch.channel import Reply
from sockproxy.server.memo import Request
from sockproxy.server.meter import UnderWay
from sockproxy.server.traffic import Account
from sockproxy_helpers.system.caller import Caller

AT_ONCE = 0.02  # seconds between an answer and the next request: who takes longer costs more than is spared
REPEATS = 64  # of so many the front's part in a call is a hundredth
AT_A_TIME = 32  # connections: each has a channel, of those that are kept anyway (`channel.IDLE`)


class Lending:
    """Lend one connection, again and again.

    Attributes:
        turns: how many repeats a helper may serve of the request under way; 0 when the connection is not lent.

    Invariant: `_last` is what was asked before on this connection, unless that was lent for nothing.
    """

    __slots__ = ("_account", "_done", "_last", "_lent", "turns")

    def __init__(self, account: Account, lent: set[Lending]) -> None:
        """Begin a connection.

        Args:
            lent: what is lent now, of all connections.
        """
        self._account, self._lent = account, lent
        self._last: Request | None = None
        self._done, self.turns = 0.0, 0

    def begin(self, request: Request, who: Caller | None, free: bool) -> int:
        """Take turns for repeats, if the request is one itself, of a process of the host's that asks for itself.

        Args:
            free: nothing else is to be done with the connection.
        """
        self.turns = 0
        repeated = request is self._last and trio.current_time() - self._done < AT_ONCE
        if free and repeated and who and who.via == "peer" and not who.trouble and len(self._lent) < AT_A_TIME:
            self.turns = self._account.lend(REPEATS)
            if self.turns:
                self._lent.add(self)
        return self.turns

    def end(self, request: Request, call: UnderWay, reply: Reply | None) -> None:
        """Have the connection back, count what was done, and give back what was not.

        Args:
            reply: None when the helper is gone, or the session ends.
        """
        self._lent.discard(self)
        if reply:
            call.repeats, call.seconds = reply.repeats, reply.seconds
        self._account.give_back(self.turns - call.repeats)
        self._last = request if request.raw and (call.repeats or not self.turns) else None
        self._done = trio.current_time()
