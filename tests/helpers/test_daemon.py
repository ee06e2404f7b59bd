"""Responses of the daemon, and the connection to it."""

from __future__ import annotations

import socket

import pytest

from sockproxy_helpers.channel.loop import Loop
from sockproxy_helpers.errors import Unavailable
from sockproxy_helpers.stream.http import Response, request_head
from sockproxy_helpers.upstream import daemon as module
from sockproxy_helpers.upstream.daemon import HEAD_LIMIT, Daemon
from tests.helpers.support import Listener, run

# method, head -> (length, chunked, close)
FRAMINGS = [
    ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 5", (5, False, False)),
    ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0", (0, False, False)),
    ("GET", "HTTP/1.1 200 OK\r\ncontent-length:5", (5, False, False)),
    ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5", (5, False, False)),
    ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close", (5, False, True)),
    ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", (None, True, False)),
    ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nConnection: Close", (None, True, True)),
    ("GET", "HTTP/1.1 200 OK", (None, False, True)),
    ("GET", "HTTP/1.0 200 OK\r\nContent-Length: 5", (5, False, True)),
    ("GET", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive", (5, False, False)),
    ("GET", "HTTP/1.1 204 No Content", (0, False, False)),
    ("DELETE", "HTTP/1.1 304 Not Modified", (0, False, False)),
    ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 500", (0, False, False)),
    ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", (0, False, False)),
    ("HEAD", "HTTP/1.1 200 OK", (0, False, False)),
    ("POST", "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp", (0, False, False)),
    ("GET", "HTTP/1.1 200", (None, False, True)),
]
MALFORMED = [
    "",
    "HTTP/1.1",
    "HTTP/2 200 OK",
    "HTTP/1.1 2000 OK",
    "HTTP/1.1 099 OK",
    "HTTP/1.1 600 OK",
    "HTTP/1.1  200 OK",
    "HTTP/1.1 200 O\x00K",
    "http/1.1 200 OK",
    " HTTP/1.1 200 OK",
    "HTTP/1.1 200 OK\nX: y",
    "HTTP/1.1 200 OK\r\nno colon",
    "HTTP/1.1 200 OK\r\n: x",
    "HTTP/1.1 200 OK\r\nName : x",
    "HTTP/1.1 200 OK\r\n folded",
    "HTTP/1.1 200 OK\r\nA: b\r\n\tfolded",
    "HTTP/1.1 200 OK\r\nA: b\rc",
    "HTTP/1.1 200 OK\r\nA: b\nc",
    "HTTP/1.1 200 OK\r\nA: b\x7f",
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6",
    "HTTP/1.1 200 OK\r\nContent-Length: 5, 5",
    "HTTP/1.1 200 OK\r\nContent-Length: -5",
    "HTTP/1.1 200 OK\r\nContent-Length: +5",
    "HTTP/1.1 200 OK\r\nContent-Length: 5_0",
    "HTTP/1.1 200 OK\r\nContent-Length: 0x5",
    "HTTP/1.1 200 OK\r\nContent-Length: \xb2",
    "HTTP/1.1 200 OK\r\nContent-Length: " + "9" * 19,
    "HTTP/1.1 200 OK\r\nContent-Length:",
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: gzip",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked",
]


@pytest.fixture
def loop():
    return Loop()


@pytest.fixture
def listener(loop, tmp_path):
    listener = Listener(loop, tmp_path / "docker.sock")
    yield listener
    listener.close()


@pytest.fixture
def daemon(loop, tmp_path):
    daemon = Daemon(loop, str(tmp_path / "docker.sock"))
    yield daemon
    daemon.close()


@pytest.mark.parametrize(("method", "head", "expected"), FRAMINGS)
def test_framing_of_a_response(method, head, expected):
    response = Response(head, method)
    assert (response.length, response.chunked, response.close) == expected


@pytest.mark.parametrize("head", MALFORMED)
def test_malformed_response_head(head):
    with pytest.raises(ValueError, match=r"bad|two values"):
        Response(head, "GET")


def test_end_to_end_headers_are_passed():
    """docker-api.md 2: status, reason and all end-to-end headers, repeats and obs-text included."""
    fields = "Api-Version: 1.41\r\nServer: Docker/20 (linux)\r\nWarning: a\r\nWarning: b\r\nX-Stat: e30=\r\nX: \xe4"
    head = Response(f"HTTP/1.1 409 Con flict\r\n{fields}\r\nContent-Length: 2", "GET").head("00ff", close=False)
    assert head == (
        f"HTTP/1.1 409 Con flict\r\n{fields}\r\nContent-Length: 2\r\nX-Sockproxy-Request-Id: 00ff\r\n\r\n"
    ).encode("latin-1")


def test_head_answer_keeps_its_content_length():
    """docker-api.md 2: a HEAD's 404 carries `Content-Length: 63` and no body."""
    response = Response("HTTP/1.1 404 Not Found\r\nContent-Length: 63", "HEAD")
    assert b"Content-Length: 63\r\n" in response.head("0", close=False)


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_204_and_304_have_no_length(status):
    head = Response(f"HTTP/1.1 {status}\r\nApi-Version: 1.41", "POST").head("0", close=False)
    assert b"Content-Length" not in head
    assert b"Transfer-Encoding" not in head


def test_connection_fields_are_made_anew():
    response = Response("HTTP/1.1 200 OK\r\nConnection: close, x\r\nKeep-Alive: 5\r\nContent-Length: 0", "GET")
    assert b"Connection: close\r\n" in response.head("0", close=True)
    assert b"Connection" not in response.head("0", close=False)
    assert b"Keep-Alive" not in response.head("0", close=False)


def test_upgrade_head():
    response = Response("HTTP/1.1 101 UPGRADED\r\nContent-Type: x\r\nConnection: Upgrade\r\nUpgrade: tcp", "POST")
    assert response.head("0", close=False) == (
        b"HTTP/1.1 101 UPGRADED\r\nContent-Type: x\r\nX-Sockproxy-Request-Id: 0\r\n"
        b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
    )


@pytest.mark.parametrize(
    "fields",
    [
        [("A", "b\r\nX: y")],
        [("A", "b\nX: y")],
        [("A", "b\0")],
        [("A", "\u00e4")],
        [("A", "\ud800")],
        [("A\r\nX", "y")],
        [("A", "\u2028")],
    ],
)
def test_request_head_refuses_what_would_end_a_line(fields):
    with pytest.raises(ValueError, match="control"):
        request_head("GET", "/x", 1, fields)


@pytest.mark.parametrize("target", ["/x HTTP/1.1\r\nX: y", "/x\n", "/\u00e4"])
def test_request_head_refuses_a_target_that_would(target):
    with pytest.raises(ValueError, match="control"):
        request_head("GET", target, 1, [])


def test_request_head():
    assert request_head("GET", "/v1.41/info", 0, [("Accept", "a b")]) == (
        b"GET /v1.41/info HTTP/1.0\r\nHost: docker\r\nAccept: a b\r\n\r\n"
    )


def test_take_head_waits_for_the_whole_head_and_leaves_the_rest(daemon):
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"
    for index in range(len(head) - 1):  # docker-api.md 4: the 101 head may arrive in pieces
        daemon.received += head[index : index + 1]
        assert daemon.take_head("POST") is None
    daemon.received += head[-1:] + b"SETTINGS"
    assert daemon.take_head("POST").status == 101
    assert daemon.received == b"SETTINGS"


@pytest.mark.parametrize("interim", ["100 Continue", "102 Processing", "103 Early Hints\r\nLink: x"])
def test_interim_responses_are_skipped(daemon, interim):
    daemon.received += f"HTTP/1.1 {interim}\r\n\r\nHTTP/1.1 {interim}\r\n\r\n".encode()
    assert daemon.take_head("POST") is None
    daemon.received += b"HTTP/1.1 200 OK\r\n\r\n"
    assert daemon.take_head("POST").status == 200


def test_head_limit(daemon):
    daemon.received += b"HTTP/1.1 200 OK\r\nX: " + b"x" * (HEAD_LIMIT - 30)
    assert daemon.take_head("GET") is None
    daemon.received += b"x" * 100
    with pytest.raises(Unavailable, match="too large"):
        daemon.take_head("GET")


def test_malformed_head_ends_the_call(daemon):
    daemon.received += b"SSH-2.0-x\r\n\r\n"
    with pytest.raises(Unavailable, match="malformed"):
        daemon.take_head("GET")


def test_idle_connection_is_used_again(loop, listener, daemon):
    async def part() -> None:
        first = await daemon.open()
        assert await daemon.open() is first

    run(loop, part())


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 408 Request Timeout\r\n\r\n"])
def test_stale_idle_connection_is_noticed(loop, listener, daemon, said):
    """proxy-lessons: after a daemon restart the next request must not fail on the old connection."""

    async def part() -> None:
        first = await daemon.open()
        peer = await listener.accept()
        await peer.send(said)  # what is said unasked belongs to no request
        peer.close()
        assert await daemon.open() is not first
        assert first.fileno() == -1
        (await listener.accept()).close()

    run(loop, part())


def test_unasked_bytes_are_never_taken_for_an_answer(loop, listener, daemon):
    async def part() -> None:
        await daemon.open()
        peer = await listener.accept()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        await daemon.send(b"GET / HTTP/1.1\r\n\r\n")
        fresh = await listener.accept()
        assert await fresh.head() == b"GET / HTTP/1.1\r\n\r\n"
        assert daemon.received == b""
        assert await peer.rest() == b""
        peer.close()
        fresh.close()

    run(loop, part())


def test_what_follows_a_malformed_answer_is_never_the_next_one(loop, listener, daemon):
    async def part() -> None:
        peer = await listener.accept()
        await peer.send(b"SSH-2.0-x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
        await (await listener.accept()).send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")

    async def ask() -> None:
        with pytest.raises(Unavailable, match="malformed"):
            await daemon.request("GET", "/info")
        assert await daemon.request("GET", "/info") == (200, b"good")

    run(loop, part(), ask())


def test_nobody_listens(loop, daemon):
    async def part() -> None:
        with pytest.raises(Unavailable, match="is it running") as error:
            await daemon.open()
        assert error.value.status == 502

    run(loop, part())


def test_full_backlog_is_waited_for(loop, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CONNECT_PAUSE", 0.001)
    path = str(tmp_path / "busy.sock")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(0)
    others = []
    while True:
        others.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
        if others[-1].connect_ex(path):
            break
    daemon = Daemon(loop, path)

    async def accept() -> None:
        await loop.wait({}, 0.01)
        others.append(listener.accept()[0])

    async def part() -> None:
        await daemon.open()

    run(loop, part(), accept())
    daemon.close()

    async def never() -> None:
        for _ in range(4):
            others.append(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
            others[-1].connect_ex(path)
        monkeypatch.setattr(module, "CONNECT_TRIES", 3)
        with pytest.raises(Unavailable):
            await daemon.open()

    run(loop, never())
    for sock in (*others, listener):
        sock.close()


def test_large_request_waits_for_a_slow_daemon(loop, listener, daemon):
    data, got = b"x" * (4 << 20), []

    async def part() -> None:
        await daemon.send(data)

    async def server() -> None:
        peer = await listener.accept()
        got.append(await peer.read(len(data)))
        peer.close()

    run(loop, part(), server())
    assert got == [data]


def test_daemon_that_leaves_during_the_request(loop, listener, daemon):
    async def part() -> None:
        with pytest.raises(Unavailable, match="closed"):
            await daemon.send(b"x" * (4 << 20))
        assert daemon.sock is None

    async def server() -> None:
        peer = await listener.accept()
        await peer.read(10)
        peer.close()

    run(loop, part(), server())


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"HTTP/1.0 200 OK\r\n\r\nhello"],
)
def test_own_request(loop, listener, daemon, answer):
    async def part() -> None:
        assert await daemon.request("GET", "/containers/x/json") == (200, b"hello")
        assert daemon.sock is None

    async def server() -> None:
        peer = await listener.accept()
        assert await peer.head() == b"GET /containers/x/json HTTP/1.0\r\nHost: docker\r\n\r\n"
        await peer.send(answer)
        peer.close()

    run(loop, part(), server())


def test_own_request_that_is_answered_at_once(loop, listener, daemon, monkeypatch):
    """An answer that is there before the request's sender looks is no stale connection."""

    async def part() -> None:
        await daemon.open()
        peer = await listener.accept()
        send = daemon.send

        async def answered(data: bytes) -> None:
            await send(data)
            await peer.send(b"HTTP/1.0 200 OK\r\n\r\nhello")
            peer.close()

        monkeypatch.setattr(daemon, "send", answered)
        assert await daemon.request("GET", "/x") == (200, b"hello")

    run(loop, part())


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.0 200 OK\r\nContent-Le", b"HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nhello"],
)
def test_own_request_that_is_broken_off(loop, listener, daemon, answer):
    async def part() -> None:
        with pytest.raises(Unavailable):
            await daemon.request("GET", "/x")

    async def server() -> None:
        peer = await listener.accept()
        await peer.head()
        await peer.send(answer)
        peer.close()

    run(loop, part(), server())
