"""Have the auth process say who presents a credential; give and revoke tokens.

A client presents one in the Authorization header of each request (`HttpHeaders` in docker's config.json), or once for
a connection, by PUT. It counts instead of what the kernel tells of the process, and both are recorded. It goes to the
auth process and nowhere else.
"""

from __future__ import annotations

import json
import socket
import time
from typing import NamedTuple

import trio

from sockproxy.dispatch.channel import Helpers
from sockproxy.errors import HelperGone, LoginFailed, RequestError
from sockproxy.http import answer
from sockproxy.http.head import Head

# POST gives one; DELETE revokes the one presented, ?all=1 all of its user's; PUT holds for the rest of the connection.
TOKENS = b"/_sockproxy/tokens"
RENEW = 10.0  # seconds before an assertion ends: the helper has to see it in time
LONGEST = 2048  # characters of a header that is worth asking about


class Vouched(NamedTuple):
    """Hold what the auth process says of a connection."""

    authorization: str
    uid: int
    via: str
    assertion: str
    until: float

    def holds(self, authorization: str) -> bool:
        """Tell whether it still answers for what the client presents."""
        return self.authorization == authorization and self.until - RENEW > trio.current_time()


def presented(head: Head) -> str:
    """Find what a client presents; "" for nothing."""
    return next((value for name, value in head.headers if name == "authorization"), "")


async def identify(helpers: Helpers, authorization: str, client: socket.socket) -> Vouched:
    """Have a credential checked.

    Raises:
        LoginFailed: it is not good, or nobody can tell.
    """
    reply = await _ask(helpers, {"ask": "identify"}, authorization, client)
    uid, via, assertion, until = (reply.get(name) for name in ("uid", "via", "assertion", "until"))
    if not (isinstance(uid, int) and isinstance(via, str) and isinstance(assertion, str) and isinstance(until, int)):
        raise LoginFailed("the auth process does not answer", 503, "malformed")
    return Vouched(authorization, uid, via, assertion, until - _monotonic_offset())


def _monotonic_offset() -> float:
    """Translate from the monotonic clock, which processes share, to trio's, which begins anywhere."""
    return time.monotonic() - trio.current_time()


async def tokens(
    helpers: Helpers, head: Head, client: socket.socket, request_id: str
) -> tuple[dict[str, object], bytes]:
    """Give or revoke tokens; give what is to be recorded, and the answer.

    Raises:
        LoginFailed: what is presented is not good for it.
        RequestError: neither POST nor DELETE, or nothing is presented.
    """
    asks = {"POST": "login", "DELETE": "logout"}
    if head.method not in asks or head.body != "none":
        raise RequestError("page not found", 404)
    question: dict[str, object] = {"ask": asks[head.method]}
    if head.method == "DELETE":
        question["all"] = head.untrusted_query == b"all=1"
    reply = await _ask(helpers, question, presented(head), client)
    said = {key: value for key, value in reply.items() if key in ("token", "until", "revoked")}
    done = {
        "uid": reply.get("uid"),
        "done": asks[head.method],
        "until": reply.get("until"),
        "revoked": reply.get("revoked"),
    }
    headers = [
        ("Content-Type", "application/json"),
        ("X-Sockproxy-Request-Id", request_id),
        ("Cache-Control", "no-store"),
    ]
    return done, answer.build(200, headers, json.dumps(said).encode() + b"\n")


async def _ask(
    helpers: Helpers, question: dict[str, object], authorization: str, client: socket.socket
) -> dict[str, object]:
    if not authorization or len(authorization) > LONGEST:
        raise LoginFailed("log in: present a password or a token (sockproxy login)", 401, "nothing presented")
    try:
        reply = (await helpers.call("auth", {**question, "authorization": authorization}, b"", client)).header
    except HelperGone as gone:
        raise LoginFailed("nobody can tell who you are: the auth process does not answer", 503, gone.message) from gone
    if "error" in reply:
        status = reply["error"] if reply["error"] in (401, 403, 429, 503) else 503
        assert isinstance(status, int)
        raise LoginFailed(str(reply.get("message")), status, str(reply.get("reason")))
    return reply
