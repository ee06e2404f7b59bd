"""What is not clean HTTP is refused in Docker's form, ends the connection, and nothing of it reaches the daemon."""

from __future__ import annotations

import socket

import pytest

from tests.support.fake_daemon import FakeDaemon
from tests.support.proxy import Proxy
from tests.support.raw import Answer, Connection, call
from tests.support.users import Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]

HOST = b"Host: d\r\n"
CREATE = b"POST /v1.41/containers/create HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
SECOND = b"GET /v1.41/info HTTP/1.1\r\nHost: d\r\n\r\n"  # what an attacker hides behind the first
MEBIBYTE = 1 << 20


def _get(*lines: bytes, target: bytes = b"/v1.41/containers/json", method: bytes = b"GET") -> bytes:
    return b"".join((method, b" ", target, b" HTTP/1.1\r\n", HOST, *(line + b"\r\n" for line in lines), b"\r\n"))


# Each is followed by a second, clean request, which must not be served either: where one ends is unsure.
MALFORMED = {
    "both lengths": (400, CREATE + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"),
    "both lengths, other order": (400, CREATE + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n{}"),
    "two different lengths": (400, CREATE + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
    "two equal lengths": (400, CREATE + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}"),
    "a list of lengths": (400, CREATE + b"Content-Length: 2, 2\r\n\r\n{}"),
    "a signed length": (400, CREATE + b"Content-Length: +2\r\n\r\n{}"),
    "a negative length": (400, CREATE + b"Content-Length: -2\r\n\r\n{}"),
    "a length with an underscore": (400, CREATE + b"Content-Length: 1_0\r\n\r\n{}"),
    "a hexadecimal length": (400, CREATE + b"Content-Length: 0x2\r\n\r\n{}"),
    "an empty length": (400, CREATE + b"Content-Length:\r\n\r\n{}"),
    "a length that overflows": (400, CREATE + b"Content-Length: 18446744073709551618\r\n\r\n{}"),
    "an unknown coding": (501, CREATE + b"Transfer-Encoding: gzip, chunked\r\n\r\n"),
    "identity": (501, CREATE + b"Transfer-Encoding: identity\r\n\r\n"),
    "a coding in disguise": (400, CREATE + b"Transfer-Encoding: \x0bchunked\r\n\r\n"),
    "two codings": (501, CREATE + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    "chunked on HTTP/1.0": (
        400,
        b"POST /v1.41/build HTTP/1.0\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    "bare line feeds": (400, b"GET /v1.41/containers/json HTTP/1.1\nHost: d\n\n"),
    "one bare line feed": (400, b"GET /v1.41/containers/json HTTP/1.1\r\nHost: d\nX: y\r\n\r\n"),
    "a bare carriage return": (400, _get(b"X: a\rContent-Length: 5")),
    "a folded line": (400, _get(b"X: a", b" b")),
    "a folded line with a tab": (400, _get(b"X: a", b"\tTransfer-Encoding: chunked")),
    "a space before the colon": (400, _get(b"Content-Length : 5")),
    "a header without a name": (400, _get(b": x")),
    "a header without a colon": (400, _get(b"Content-Length 5")),
    "NUL in a value": (400, _get(b"X: a\0b")),
    "NUL in a name": (400, _get(b"X\0: a")),
    "NUL in the target": (400, _get(target=b"/v1.41/containers\0/json")),
    "letters beyond ASCII": (400, _get(b"X: \xff")),
    "a leading blank line": (400, b"\r\n" + _get()),
    "leading spaces": (400, b"  " + _get()),
    "no Host": (400, b"GET /v1.41/containers/json HTTP/1.1\r\n\r\n"),
    "two Hosts": (400, _get(b"Host: e")),
    "two upgrades": (400, _get(b"Upgrade: tcp", b"Upgrade: h2c")),
    "another expectation": (417, CREATE + b"Expect: 200-ok\r\nContent-Length: 2\r\n\r\n{}"),
    "absolute form": (400, _get(target=b"http://d/v1.41/containers/json")),
    "absolute form of another scheme": (400, _get(target=b"unix:/v1.41/containers/json")),
    "authority form": (400, _get(target=b"d:80")),
    "CONNECT": (400, b"CONNECT d:80 HTTP/1.1\r\nHost: d\r\n\r\n"),
    "an asterisk": (400, _get(target=b"*")),
    "no version": (400, b"GET /v1.41/containers/json\r\n\r\n"),
    "two spaces": (400, b"GET  /v1.41/containers/json HTTP/1.1\r\nHost: d\r\n\r\n"),
    "a tab for a space": (400, b"GET\t/v1.41/containers/json HTTP/1.1\r\nHost: d\r\n\r\n"),
    "HTTP/1.2": (505, b"GET /v1.41/containers/json HTTP/1.2\r\nHost: d\r\n\r\n"),
    "HTTP/0.9": (505, b"GET /v1.41/containers/json HTTP/0.9\r\nHost: d\r\n\r\n"),
    "HTTP/2.0": (505, b"GET /v1.41/containers/json HTTP/2.0\r\nHost: d\r\n\r\n"),
    "lower case http": (400, b"GET /v1.41/containers/json http/1.1\r\nHost: d\r\n\r\n"),
    "the HTTP/2 preface": (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"),
    "TLS": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64)),
}


def refusal(data: bytes, noted: Proxy) -> tuple[Answer, bytes]:
    """Send bytes and a clean request; give the refusal, and all that follows until the end of the connection."""
    with Connection(noted.listen) as connection:
        connection.send(data + SECOND)
        answer = connection.answer()
        return answer, connection.rest()


def denials(proxy: Proxy, answer: Answer) -> list[dict[str, object]]:
    """Find the records of a refusal."""
    rid = answer.headers["x-sockproxy-request-id"]
    return [record for record in proxy.records() if record.get("rid") == rid]


@pytest.mark.parametrize(("status", "data"), MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_heads(noted: Proxy, fake_daemon: FakeDaemon, status: int, data: bytes) -> None:
    answer, behind = refusal(data, noted)
    assert (answer.status, behind) == (status, b"")
    assert answer.message
    assert answer.headers["connection"] == "close"
    assert [record["ev"] for record in denials(noted, answer)] == ["deny"]
    assert fake_daemon.received == b""


# Clean HTTP, and the engine would find something there, or answers with a redirect.
ELSEWHERE = {
    "an encoded slash": b"/v1.41/containers%2fjson",
    "an encoded slash, upper case": b"/v1.41%2Fcontainers/json",
    "an encoded NUL": b"/v1.41/containers/x%00/json",
    "an encoded percent sign": b"/v1.41/containers/js%256fn",
    "an encoded line end": b"/v1.41/containers/x%0d%0aY:z/json",
    "a bad encoding": b"/v1.41/containers/js%on",
    "a dot segment": b"/v1.41/./containers/json",
    "two dots": b"/v1.41/images/../containers/json",
    "encoded dots": b"/v1.41/images/%2e%2e/containers/json",
    "dots in an image's name": b"/v1.41/images/x/../../containers/json",
    "a double slash": b"//v1.41/containers/json",
    "a double slash inside": b"/v1.41//containers/json",
    "a double slash in an image's name": b"/v1.41/images/a//b/json",
    "a trailing slash": b"/v1.41/containers/json/",
    "a third number": b"/v1.41.0/containers/json",
    "leading zeros": b"/v01.41/containers/json",
    "two dots in the version": b"/v1..41/containers/json",
    "an upper case version": b"/V1.41/containers/json",
    "two versions": b"/v1.41/v1.41/containers/json",
    "upper case": b"/v1.41/Containers/json",
    "a fragment": b"/v1.41/containers/json#x",
    "a backslash": b"/v1.41\\containers\\json",
    "matrix parameters": b"/v1.41/containers;x=y/json",
    "libpod": b"/v4.3.1/libpod/info",
}


@pytest.mark.parametrize("target", ELSEWHERE.values(), ids=ELSEWHERE.keys())
def test_odd_paths_are_not_found(noted: Proxy, fake_daemon: FakeDaemon, target: bytes) -> None:
    with Connection(noted.listen) as connection:
        connection.send(_get(target=target))
        answer = connection.answer()
        assert answer.status in (400, 404)
        assert answer.message
        assert denials(noted, answer)
        assert fake_daemon.received == b""
        if answer.headers.get("connection") != "close":
            assert connection.call("GET", "/v1.41/containers/json").status == 200


def test_encoded_letters_reach_the_daemon_decoded(noted: Proxy, fake_daemon: FakeDaemon) -> None:
    assert call(noted.listen, "GET", "/%76%31.41/c%6fntainers/js%6fn").status == 200
    assert fake_daemon.requests == ["GET /v1.41/containers/json HTTP/1.1"]


@pytest.mark.parametrize(
    "method", ["get", "Get", "PATCH", "TRACE", "PROPFIND", "GETX", "COPY", "CONNECT", "POST", "HEAD"]
)
def test_methods_the_api_does_not_have(noted: Proxy, fake_daemon: FakeDaemon, method: str) -> None:
    with Connection(noted.listen) as connection:
        answer = connection.call(method, "/v1.41/containers/json")
        assert answer.status == 404
        assert (answer.body == b"") == (method == "HEAD")
    assert fake_daemon.received == b""


@pytest.mark.parametrize("version", ["0.1", "1.0", "1.12", "1.23", "1.56", "1.999", "2.0", "9.9"])
def test_versions_that_are_not_spoken(noted: Proxy, fake_daemon: FakeDaemon, version: str) -> None:
    answer = call(noted.listen, "GET", f"/v{version}/containers/json")
    assert answer.status == 400
    assert f"client version {version} is too " in answer.message
    assert fake_daemon.received == b""


def test_http_1_0(noted: Proxy, fake_daemon: FakeDaemon) -> None:
    """Served once, as the engine does; never twice on a connection."""
    with Connection(noted.listen) as connection:
        connection.send(b"GET /v1.41/containers/json HTTP/1.0\r\n\r\n" + SECOND)
        assert connection.answer().status == 200
        assert connection.is_closed()
    assert len(fake_daemon.requests) == 1


def test_options_are_answered_here(noted: Proxy, fake_daemon: FakeDaemon) -> None:
    with Connection(noted.listen) as connection:
        for target in ("*", "/v1.41/containers/json", "/anything"):
            answer = connection.call("OPTIONS", target)
            assert (answer.status, answer.body) == (200, b"")
    assert fake_daemon.received == b""


def test_a_head_too_large(noted: Proxy, fake_daemon: FakeDaemon) -> None:
    big = b"X-Registry-Config: " + b"a" * (MEBIBYTE - 4096)
    with Connection(noted.listen) as connection:
        connection.send(_get(big))
        assert connection.answer().status == 200
    fake_daemon.forget()
    for head in (_get(big, b"Y: " + b"a" * 8192), _get(*[b"X: y"] * 10_000), b"GET /" + b"a" * MEBIBYTE):
        answer, behind = refusal(head, noted)
        assert (answer.status, behind) == (431, b"")
        assert denials(noted, answer)
    assert fake_daemon.received == b""


def test_half_a_request_does_not_hold_others(noted: Proxy, fake_daemon: FakeDaemon, users: Users) -> None:
    halves = [
        b"G",
        _get()[:-2],
        CREATE + b"Content-Length: 100\r\n\r\n{",
        CREATE + b"Transfer-Encoding: chunked\r\n\r\n4",
    ]
    slow = [Connection(noted.listen, users.alice) for _ in range(32)]
    for number, connection in enumerate(slow):
        connection.send(halves[number % len(halves)])
    assert call(noted.listen, "GET", "/v1.41/containers/json").status == 200
    fake_daemon.forget()
    for connection in slow:
        connection.half_close()
        assert connection.answer().status in (400, 408)
        connection.close()
    assert fake_daemon.received == b""


def test_a_connection_that_says_nothing_may_stay(noted: Proxy) -> None:
    with Connection(noted.listen) as quiet:
        assert call(noted.listen, "GET", "/v1.41/containers/json").status == 200
        assert quiet.call("GET", "/v1.41/containers/json").status == 200


def test_a_client_that_leaves_at_once(noted: Proxy) -> None:
    before = len(noted.errors())
    for data in (b"", b"GET", _get(), CREATE + b"Content-Length: 100\r\n\r\n"):
        connection = Connection(noted.listen)
        connection.send(data)
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
    assert call(noted.listen, "GET", "/v1.41/containers/json").status == 200
    assert noted.errors()[before:] == ""


def test_a_refused_client_hears_why_although_it_still_sends(noted: Proxy, users: Users) -> None:
    """The CLI writes head and body separately; a refusal followed by a reset would show as "broken pipe"."""
    for _ in range(10):
        with Connection(noted.listen, users.carol) as connection:
            connection.send(b"POST /v1.41/build HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n")
            connection.send(b"10000\r\n" + b"a" * 65536 + b"\r\n")
            answer = connection.answer()
            assert answer.status == 403
            assert "viewer" in answer.message


def test_what_the_daemon_gets_is_made_anew(noted: Proxy, fake_daemon: FakeDaemon) -> None:
    """No header that is not needed gets there, no target as it was written, no length as it was said."""
    headers = {"X-Evil": "1", "Connection": "X-Evil", "Trailer": "Y", "TE": "trailers"}
    headers |= {"Host": "elsewhere", "Cookie": "a=b", "User-Agent": "me/1", "Accept": "*/*"}
    with Connection(noted.listen) as connection:
        lines = [f"{name}: {value}" for name, value in headers.items()]
        connection.send("\r\n".join(["GET /v1.41/containers/js%6fn?all=%31 HTTP/1.1", *lines, "", ""]).encode())
        assert connection.answer().status == 200
    head = fake_daemon.received.decode().split("\r\n")
    assert head[0] == "GET /v1.41/containers/json?all=1 HTTP/1.1"
    assert sorted(head[1:-2]) == ["Accept: */*", "Host: docker", "User-Agent: me/1"]


def test_what_the_front_refuses_by_itself(noted: Proxy, fake_daemon: FakeDaemon, users: Users) -> None:
    refused = call(noted.listen, "POST", "/swarm/leave", None, users.alice)
    assert (refused.status, "does not allow SwarmLeave" in refused.message) == (403, True)
    unseen = call(noted.listen, "GET", "/plugins/x/json", None, users.alice)
    assert (unseen.status, 'plugin "x" not found' in unseen.message) == (404, True)
    assert fake_daemon.received == b""
