"""Hold what of a call may go to the daemon."""

from __future__ import annotations

import socket

from sockproxy_helpers.content.claims import Claim
from sockproxy_helpers.content.deletion import Instead
from sockproxy_helpers.content.scanned import Judge, Last


class Approved:
    """Hold one call's.

    Attributes:
        claim: the names of images that it may change, to be settled when the daemon is done; None for none.
        heads: of the request, formed once, by the version of HTTP.
        judge: of the archive that is uploaded; None for none.
        last: what to do at the end of a streamed answer; gives what to add there.
        kept: channels of siblings' approvals that count until the daemon is done with the call.
        instead: what is done in place of the call; None for the call itself.
    """

    __slots__ = ("body", "claim", "heads", "instead", "judge", "kept", "last", "query")

    def __init__(self) -> None:
        self.query: list[tuple[str, str]] = []
        self.body: bytes | None = None
        self.claim: Claim | None = None
        self.judge: Judge | None = None
        self.last: Last | None = None
        self.heads: dict[int, bytes] = {}
        self.kept: list[socket.socket] = []
        self.instead: Instead | None = None
