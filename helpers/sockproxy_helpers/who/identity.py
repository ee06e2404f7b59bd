"""Settle who asks: what the kernel tells of the connection, the daemon of a container, the auth process of the rest.

SECURITY: the only word of the front's that is heard here is an assertion, and that is the auth process's word, for this
very connection (`assertion.py`). Who presents a password or a token is who they say, whatever process it is; both are
recorded.
"""

from __future__ import annotations

import socket

from sockproxy_helpers.channel.loop import Loop
from sockproxy_helpers.channel.wire import WireError
from sockproxy_helpers.errors import Refused
from sockproxy_helpers.judge.policy import Policy
from sockproxy_helpers.system import caller, peer
from sockproxy_helpers.system.caller import Caller
from sockproxy_helpers.upstream.daemon import Daemon
from . import assertion, connection, origin
from .accounts import Accounts


class Identity:
    """Identify callers, for all channels of a helper."""

    def __init__(self, loop: Loop, environment: dict[str, str]) -> None:
        """Prepare.

        Args:
            environment: SOCKPROXY_LISTEN, SOCKPROXY_RUNTIME, SOCKPROXY_ASSERTION_KEY.
        """
        self._listen_path = environment["SOCKPROXY_LISTEN"]
        self._key = assertion.read_key(environment["SOCKPROXY_ASSERTION_KEY"])
        self.accounts = Accounts(loop, f"{environment['SOCKPROXY_RUNTIME']}/auth/auth.sock")

    async def find(self, client: socket.socket, untrusted_assertion: object, daemon: Daemon, policy: Policy) -> Caller:
        """Tell who is at the other end of a client's connection.

        Args:
            untrusted_assertion: "" where nothing was presented.

        Raises:
            WireError: the front attacks: no client's socket, or an assertion that was not made for it.
        """
        try:
            connection.verify_client(client, self._listen_path)
            if untrusted_assertion == "":
                who = await origin.identify(caller.from_socket(client), daemon)
            else:
                who = self._vouched(client, str(untrusted_assertion))
        except Refused as error:
            raise WireError(str(error)) from error
        await self.accounts.check(who, policy.auth)
        return who

    def _vouched(self, client: socket.socket, untrusted_assertion: str) -> Caller:
        uid, via = assertion.verify(self._key, untrusted_assertion, peer.cookie_of(client))
        return caller.vouched(peer.of(client), uid, via, untrusted_assertion)
