"""Hold a request that was read, and remember those that come again."""

from __future__ import annotations

from typing import NamedTuple

from sockproxy.http.head import Head
from sockproxy_helpers.operations import Operation

MEMO_HEADS, MEMO_HEAD = 500, 2048  # entries, bytes: a megabyte at most
SECRETS = frozenset({"authorization", "x-registry-auth", "x-registry-config"})  # kept no longer than their request


class Request(NamedTuple):
    """Hold a request that may be handed over; nothing in it is changed."""

    head: Head
    operation: Operation
    version: str
    variables: dict[str, str]
    query: list[tuple[str, str]]


class Memo:
    """Remember what was read from a head, by its exact bytes: clients repeat themselves, and reading costs 40 us.

    What a head says depends on its bytes alone; what is allowed is decided anew each time.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, Request] = {}
        self.get = self._known.get

    def put(self, untrusted_head: bytes, request: Request) -> None:
        """Remember, unless it is large, rarely the same, or holds a secret."""
        secret = any(name in SECRETS for name, _ in request.head.headers)
        if len(untrusted_head) > MEMO_HEAD or request.head.body != "none" or secret:
            return
        if len(self._known) >= MEMO_HEADS:
            self._known.clear()
        self._known[untrusted_head] = request
