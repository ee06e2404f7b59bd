"""What the front says by itself: of who logs in, of what a helper has answered, of a request that has no end."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from sockproxy.api.route import route
from sockproxy.dispatch.channel import Reply
from sockproxy.errors import AuditGone, CallError, Crowded, Denied, HelperGone, LoginFailed, RequestError, Unacceptable
from sockproxy.http.head import Head, parse
from sockproxy.server import login
from sockproxy.server.client import Client
from sockproxy.server.session import Session

ANY: Any = None
PING = b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n"


class Auth:
    """The auth process, which has one answer; none when it is gone."""

    def __init__(self, answer: dict[str, object] | None) -> None:
        self._answer = answer

    async def call(self, *_: object) -> Reply:
        if self._answer is None:
            raise HelperGone("gone")
        return Reply(self._answer, b"")


@pytest.mark.parametrize(
    ("presented", "answer", "status", "words"),
    [
        ("", {}, 401, "log in: present a password or a token"),
        ("x" * 10_000, {}, 401, "log in: present a password or a token"),
        ("Basic x", None, 503, "nobody can tell who you are: the auth process does not answer"),
        ("Basic x", {"error": 401, "message": "wrong", "reason": "r"}, 401, "wrong"),
        ("Basic x", {"error": 999, "message": "odd", "reason": "r"}, 503, "odd"),
        ("Basic x", {"uid": "7"}, 503, "the auth process does not answer"),
    ],
)
async def test_who_is_not_vouched_for(
    presented: str, answer: dict[str, object] | None, status: int, words: str
) -> None:
    with pytest.raises(LoginFailed, match=words) as failed:
        await login.identify(Auth(answer), presented, ANY)  # type: ignore[arg-type]
    assert failed.value.status == status


async def test_tokens_are_given_and_revoked_only() -> None:
    def head(method: str) -> Head:
        return parse(f"{method} /_sockproxy/tokens HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    with pytest.raises(RequestError, match="page not found") as failed:
        await login.tokens(Auth({}), head("GET"), ANY, "00" * 8)  # type: ignore[arg-type]
    assert failed.value.status == 404


@pytest.mark.parametrize(
    ("status", "kind"),
    [(403, Denied), (429, Crowded), (503, AuditGone), (400, Unacceptable), (404, RequestError), (502, HelperGone)],
)
def test_what_a_helper_refuses(status: int, kind: type[CallError]) -> None:
    problem = Reply({"error": status, "message": "no", "at": "r:7"}, b"").problem()
    assert (type(problem), problem.message, problem.status) == (kind, "no", status)
    assert getattr(problem, "at", "r:7") == "r:7"


async def test_a_head_that_does_not_come_to_its_end(autojump_clock: MockClock) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.sendall(b"GET /")
        with pytest.raises(RequestError, match="the request head did not come to its end") as failed:
            await Client(ours, ANY).head()
    assert failed.value.status == 408


@pytest.mark.parametrize("came", range(len(PING) + 1))
async def test_what_has_come_with_a_connection_is_the_beginning_of_what_follows(came: int) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        client = Client(ours, ANY)
        theirs.sendall(PING[:came])
        client.look()
        assert bytes(client.buffer) == PING[:came]
        theirs.sendall(PING[came:] + b"next")
        theirs.shutdown(socket.SHUT_WR)
        assert await client.head() == PING
        rest = bytes(client.buffer)
        while more := await client.receive():
            rest += more
        assert rest == b"next"


@pytest.mark.parametrize("how", ["nothing", "half", "gone"])
async def test_who_is_looked_at_too_soon_or_too_late(how: str, autojump_clock: MockClock) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.sendall(b"GET /" if how == "half" else b"")
        if how == "gone":
            ours.sendall(b"unread")  # so that the end is a reset
            theirs.close()
        client = Client(ours, ANY)
        client.look()
        with trio.move_on_after(3600) as still:
            if how == "half":
                with pytest.raises(RequestError, match="did not come to its end"):
                    await client.head()
            else:
                assert await client.head() == b""
        assert still.cancelled_caught == (how == "nothing")  # a connection may be idle for ever


@pytest.mark.parametrize(("ends", "status"), [(True, 400), (False, 408)])
async def test_a_body_that_does_not_come_to_its_end(ends: bool, status: int, autojump_clock: MockClock) -> None:
    ours, theirs = socket.socketpair()
    head = parse(b"POST /auth HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n")
    request = SimpleNamespace(head=head, operation=route("POST", b"/auth").operation, query=[])
    with ours, theirs:
        ours.setblocking(False)
        theirs.sendall(b"{")
        if ends:
            theirs.shutdown(socket.SHUT_WR)
        session = Session.__new__(Session)  # what its reading of a body needs is the client alone
        session._client, session._unread = Client(ours, ANY), True
        with pytest.raises(RequestError, match="the body did not come to its end") as failed:
            await session._body(request)  # type: ignore[arg-type]
    assert failed.value.status == status
