"""What the front remembers of heads: exactly repeated ones, without bodies or secrets, and not too many."""

from __future__ import annotations

import pytest

from sockproxy.api import route
from sockproxy.http import body, head
from sockproxy.server.memo import MEMO_HEADS, Memo, Request
from sockproxy_helpers.channel import wire

PING = b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n"


def read(raw: bytes) -> Request:
    parsed = head.parse(raw)
    match = route.route(parsed.method, parsed.untrusted_path)
    return Request(parsed, match.operation, match.version, match.variables, body.parse_query(parsed.untrusted_query))


def remembered(raw: bytes) -> bool:
    memo = Memo()
    memo.put(raw, read(raw))
    return memo.get(raw) is not None


def test_a_head_is_known_by_its_exact_bytes() -> None:
    memo, request = Memo(), read(PING)
    memo.put(PING, request)
    assert memo.get(PING) == request.pack(PING)
    assert memo.get(PING.replace(b"Host: d", b"Host: e")) is None
    assert memo.get(PING.replace(b"GET", b"HEAD")) is None


@pytest.mark.parametrize(
    "field",
    [
        b"Authorization: Basic YTpi",
        b"X-Registry-Auth: e30=",
        b"x-registry-config: e30=",
        b"Content-Length: 2",
        b"Transfer-Encoding: chunked",
        b"User-Agent: " + b"x" * 2048,
    ],
)
def test_what_is_not_remembered(field: bytes) -> None:
    assert remembered(PING.replace(b"Host: d", b"Host: d\r\nUser-Agent: x"))
    assert not remembered(PING.replace(b"Host: d", b"Host: d\r\n" + field))


def test_the_message_of_one_that_is_remembered_is_the_same() -> None:
    """But for its id, and where a body, an upload or an assertion comes along it is formed anew."""
    raw = b"GET /v1.41/containers/json?all=1 HTTP/1.1\r\nHost: d\r\nUser-Agent: x\r\n\r\n"
    request = read(raw)
    known = request.pack(raw)
    cases: list[tuple[int, int | str | None, str, bytes]] = [(0, None, "", b""), (0, None, "", b"early")]
    cases += [(2, None, "", b"{}"), (0, 5, "", b"begun"), (0, "chunked", "", b""), (0, None, "1.token.2.3.4.5", b"")]
    for rid in ("0" * 16, "f" * 16):
        for case in cases:
            message = known.message(rid, *case)
            assert message == request.message(rid, *case)
            header, payload = wire.unpack(message)
            assert (header["rid"], header["body"], header["upload"], header["assertion"], payload) == (rid, *case)


def test_it_is_bounded() -> None:
    memo = Memo()
    for number in range(3 * MEMO_HEADS):
        raw = b"GET /containers/c%d/json HTTP/1.1\r\nHost: d\r\n\r\n" % number
        memo.put(raw, read(raw))
        assert memo.get(raw) is not None
        assert len(memo._known) <= MEMO_HEADS
