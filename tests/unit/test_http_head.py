"""Heads: what is read, and every form that readers differ on refused (docker-api.md section 1, threats class HTTP)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from sockproxy.errors import RequestError
from sockproxy.http import head
from sockproxy.http.head import Head, find_end, parse
from sockproxy_helpers.api import operations


def make(*fields: str, line: str = "POST /containers/create?name=a HTTP/1.1", host: str = "Host: d") -> bytes:
    return "\r\n".join([line, *([host] if host else []), *fields, "", ""]).encode("latin-1")


def read_whole(raw: bytes) -> Head:
    return parse(raw[: find_end(raw) or len(raw)])


def read_bytewise(raw: bytes) -> Head:
    """Parse what arrives byte by byte as the session does; what never ends counts as a head all the same."""
    for size in range(len(raw) + 1):
        if find_end(raw[:size], max(size - 1, 0)):
            assert size == find_end(raw)
            return parse(raw[:size])
    return parse(raw)


def status(raw: bytes, read: Callable[[bytes], Head]) -> int:
    with pytest.raises(RequestError) as caught:
        read(raw)
    return caught.value.status


CLI = make(
    "User-Agent: Docker-Client/28.5.2 (linux)",
    "Content-Length: 1520",
    "Content-Type: application/json; charset=utf-8",
    "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    line="POST /v1.45/containers/create?name=a HTTP/1.1",
    host="Host: api.moby.localhost",
)


@pytest.mark.parametrize("read", [read_whole, read_bytewise])
def test_reads_what_the_cli_sends(read: Callable[[bytes], Head]) -> None:
    parsed = read(CLI)
    assert parsed == Head(
        method="POST",
        untrusted_path=b"/v1.45/containers/create",
        untrusted_query=b"name=a",
        http_minor=1,
        headers=[
            ("host", "api.moby.localhost"),
            ("user-agent", "Docker-Client/28.5.2 (linux)"),
            ("content-length", "1520"),
            ("content-type", "application/json; charset=utf-8"),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ],
        body="length",
        length=1520,
        expect_continue=False,
        upgrade=None,
        keep_alive=True,
        forward={"user-agent": "Docker-Client/28.5.2 (linux)", "content-type": "application/json"},
    )


REFUSED = {
    # the request line
    "lower-case method": (404, make(line="get /containers/json HTTP/1.1")),
    "unknown method": (404, make(line="PATCH /containers/json HTTP/1.1")),
    "method with a letter more": (404, make(line="GETS /containers/json HTTP/1.1")),
    "absolute form": (400, make(line="GET http://x/containers/json HTTP/1.1")),
    "absolute form, other scheme": (400, make(line="GET file:///containers/json HTTP/1.1")),
    "authority form": (400, make(line="CONNECT x:80 HTTP/1.1")),
    "asterisk": (400, make(line="GET * HTTP/1.1")),
    "asterisk with more": (400, make(line="OPTIONS *x HTTP/1.1")),
    "no path": (400, make(line="GET ?a=b HTTP/1.1")),
    "two spaces": (400, make(line="GET  / HTTP/1.1")),
    "tab": (400, make(line="GET\t/ HTTP/1.1")),
    "space in the target": (400, make(line="GET /a b HTTP/1.1")),
    "leading space": (400, make(line=" GET / HTTP/1.1")),
    "trailing space": (400, make(line="GET / HTTP/1.1 ")),
    "leading blank line": (400, b"\r\n" + make()),
    "not ASCII in the target": (400, make(line="GET /caf\xe9 HTTP/1.1")),
    "NUL in the target": (400, make(line="GET /\0 HTTP/1.1")),
    "HTTP/0.9": (400, b"GET /containers/json\r\n\r\n"),
    "HTTP/1.2": (505, make(line="GET / HTTP/1.2")),
    "HTTP/2 preface": (505, b"PRI * HTTP/2.0\r\n\r\n"),
    "HTTP/11": (400, make(line="GET / HTTP/11")),
    "lower-case protocol": (400, make(line="GET / http/1.1")),
    "TLS": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    # lines
    "bare LF": (400, b"GET / HTTP/1.1\nHost: d\n\n"),
    "bare LF within": (400, make("A: b\nC: d")),
    "bare LF at the end": (400, b"GET / HTTP/1.1\r\nHost: d\r\n\n"),
    "bare CR": (400, make("A: b\rC: d")),
    "NUL": (400, make("A: b\0")),
    "escape": (400, make("A: \x1b[31m")),
    "DEL": (400, make("A: \x7f")),
    "not ASCII": (400, make("A: \xe9")),
    "obs-fold": (400, make("A: b", " c")),
    "obs-fold first": (400, b"GET / HTTP/1.1\r\n a\r\nHost: d\r\n\r\n"),
    "obs-fold, tab": (400, make("A: b", "\tc")),
    "space before the colon": (400, make("A : b")),
    "no colon": (400, make("A")),
    "no name": (400, make(": a")),
    "odd name": (400, make("A(b): c")),
    # Host
    "no Host": (400, make(host="")),
    "two Hosts": (400, make("Host: d")),
    "two Hosts on 1.0": (400, make("Host: d", line="GET / HTTP/1.0")),
    # framing
    "both lengths": (400, make("Content-Length: 3", "Transfer-Encoding: chunked")),
    "both lengths, other order and case": (400, make("TRANSFER-ENCODING: chunked", "content-LENGTH: 3")),
    "equal lengths": (400, make("Content-Length: 3", "Content-Length: 3")),
    "equal lengths in one": (400, make("Content-Length: 3, 3")),
    "differing lengths": (400, make("Content-Length: 3", "Content-Length: 4")),
    "signed length": (400, make("Content-Length: +3")),
    "negative length": (400, make("Content-Length: -3")),
    "underscore in length": (400, make("Content-Length: 1_0")),
    "hexadecimal length": (400, make("Content-Length: 0x3")),
    "empty length": (400, make("Content-Length:")),
    "space in length": (400, make("Content-Length: 1 0")),
    "20 digits": (400, make("Content-Length: 10000000000000000000")),
    "zeros before": (400, make("Content-Length: 00000000000000000003")),
    "gzip, chunked": (501, make("Transfer-Encoding: gzip, chunked")),
    "chunked twice": (501, make("Transfer-Encoding: chunked, chunked")),
    "two codings": (501, make("Transfer-Encoding: chunked", "Transfer-Encoding: chunked")),
    "identity": (501, make("Transfer-Encoding: identity")),
    "quoted": (501, make('Transfer-Encoding: "chunked"')),
    "empty coding": (501, make("Transfer-Encoding:")),
    "chunked on 1.0": (400, make("Transfer-Encoding: chunked", line="POST / HTTP/1.0")),
    # meaning
    "other Expect": (417, make("Expect: 200-ok", "Content-Length: 1")),
    "two Expects": (400, make("Expect: 100-continue", "Expect: 100-continue", "Content-Length: 1")),
    "two Upgrades": (400, make("Upgrade: tcp", "Upgrade: h2c")),
    "empty Upgrade": (400, make("Upgrade:")),
    "odd Upgrade": (400, make("Upgrade: tcp, h2c")),
    "form": (415, make("Content-Type: application/x-www-form-urlencoded", "Content-Length: 1")),
    "form, spelled": (415, make("content-TYPE:\t Application/X-WWW-Form-URLEncoded ;a=b", "Content-Length: 1")),
    "form, chunked": (415, make("Content-Type: application/x-www-form-urlencoded", "Transfer-Encoding: chunked")),
    "multipart": (415, make("Content-Type: multipart/form-data; boundary=x", "Content-Length: 1")),
    "two kinds": (400, make("Content-Type: text/plain, application/x-www-form-urlencoded", "Content-Length: 1")),
    "no kind": (400, make("Content-Type: json", "Content-Length: 1")),
    # size
    "257 fields": (431, make(*["A: b"] * 256)),
    "1 MiB": (431, make("A: " + "b" * head.MAX_HEAD)),
}


@pytest.mark.parametrize(("expected", "raw"), REFUSED.values(), ids=REFUSED)
def test_refuses_whole_and_byte_by_byte(expected: int, raw: bytes) -> None:
    assert status(raw, read_whole) == expected
    if len(raw) < 2000:
        assert status(raw, read_bytewise) == expected


@pytest.mark.parametrize("name", sorted(head.SINGLETONS))
def test_refuses_repeats_of_a_singleton(name: str) -> None:
    value = {"content-length": "1", "transfer-encoding": "chunked", "expect": "100-continue"}.get(name, "a/b")
    raw = make(f"{name}: {value}", f"{name.upper()}: {value}", host="" if name == "host" else "Host: d")
    assert status(raw, read_whole) in (400, 501)


def test_methods_are_those_of_the_table() -> None:
    assert {operation.method for operation in operations.load()} == head.METHODS


@pytest.mark.parametrize(
    ("fields", "body", "length"),
    [
        ([], "none", 0),
        (["Content-Length: 0"], "none", 0),
        (["Content-Length: 12"], "length", 12),
        (["content-length:007"], "length", 7),
        (["Content-Length: \t 9999999999999999999 \t"], "length", 9999999999999999999),
        (["Transfer-Encoding: chunked"], "chunked", 0),
        (["transfer-encoding: Chunked"], "chunked", 0),
    ],
)
def test_tells_how_the_body_is_framed(fields: list[str], body: str, length: int) -> None:
    parsed = parse(make(*fields))
    assert (parsed.body, parsed.length) == (body, length)


@pytest.mark.parametrize(
    ("line", "fields", "keep"),
    [
        ("GET / HTTP/1.1", [], True),
        ("GET / HTTP/1.1", ["Connection: close"], False),
        ("GET / HTTP/1.1", ["Connection: Upgrade, CLOSE"], False),
        ("GET / HTTP/1.1", ["Connection: Upgrade", "Connection: close"], False),
        ("GET / HTTP/1.1", ["Connection: closed"], True),
        ("GET / HTTP/1.0", [], False),
        ("GET / HTTP/1.0", ["Connection: keep-alive"], False),
    ],
)
def test_tells_whether_the_connection_stays(line: str, fields: list[str], keep: bool) -> None:
    assert parse(make(*fields, line=line)).keep_alive is keep


def test_expects_continue_only_before_a_body() -> None:
    assert parse(make("Expect: 100-Continue", "Content-Length: 1")).expect_continue
    assert not parse(make("Expect: 100-continue")).expect_continue
    assert not parse(make("Expect: 100-continue", "Content-Length: 1", line="POST / HTTP/1.0")).expect_continue


def test_names_the_upgrade() -> None:
    assert parse(make("Connection: Upgrade", "Upgrade: tcp")).upgrade == "tcp"
    assert parse(make("Upgrade: h2c")).upgrade == "h2c"
    assert parse(make("Upgrade: HTTP/2.0")).upgrade == "HTTP/2.0"
    assert parse(make("Connection: Upgrade")).upgrade is None
    assert parse(make("Upgrade: tcp", line="POST / HTTP/1.0")).upgrade is None


def test_host_may_be_empty_and_is_free_on_1_0() -> None:
    assert parse(make(host="Host:")).headers == [("host", "")]
    assert parse(make(host="", line="GET / HTTP/1.0")).http_minor == 0


def test_options_may_ask_for_all() -> None:
    assert parse(make(line="OPTIONS * HTTP/1.1")).untrusted_path == b"*"


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/a", b"/a", b""),
        ("/a?", b"/a", b""),
        ("/a?b=c?d", b"/a", b"b=c?d"),
        ("//a/%2f/..", b"//a/%2f/..", b""),
        ("/a#b", b"/a#b", b""),
    ],
)
def test_splits_the_target_and_no_more(target: str, path: bytes, query: bytes) -> None:
    parsed = parse(make(line=f"GET {target} HTTP/1.1"))
    assert (parsed.untrusted_path, parsed.untrusted_query) == (path, query)


@pytest.mark.parametrize(
    ("field", "which"), [("X-Sockproxy-Why: St\xf6rung", "X-Sockproxy-Why"), ("X-\xe4: a", "its name")]
)
def test_names_the_header_that_is_malformed(field: str, which: str) -> None:
    with pytest.raises(RequestError, match=f"malformed header field: {which} \\(allowed: .* printable ASCII\\)"):
        parse(b"GET / HTTP/1.1\r\nHost: d\r\n" + field.encode() + b"\r\n\r\n")


def test_forwards_by_name_only() -> None:
    parsed = parse(
        make(
            "Accept: a/b",
            "Accept: c/d",
            "Authorization: Basic eA==",
            "Connection: X-Registry-Auth",
            "Content-Type: Application/JSON ; charset=utf-8",
            "Content-Length: 2",
            "Cookie: a",
            "Te: trailers",
            "User-Agent: " + "u" * 300,
            "X-Forwarded-For: 1.2.3.4",
            "X-Registry-Auth: e30=",
        )
    )
    assert parsed.forward == {
        "accept": "a/b, c/d",
        "content-type": "application/json",
        "user-agent": "u" * 256,
        "x-registry-auth": "e30=",
    }


def test_a_kind_without_a_body() -> None:
    assert parse(make("Content-Type: text/plain")).forward == {"content-type": "text/plain"}
    assert parse(make("Content-Type: application/x-www-form-urlencoded", "Content-Length: 0")).forward == {}
    assert parse(make("Content-Type:", "Content-Length: 1")).forward == {}


def test_takes_large_heads() -> None:
    raw = make("X-Registry-Config: " + "a" * 1_000_000)
    assert find_end(raw) == len(raw)
    assert len(parse(raw).forward["x-registry-config"]) == 1_000_000
    assert len(parse(make(*[f"A{number}: b" for number in range(255)])).headers) == 256


def test_end_of_a_head_leaves_what_follows() -> None:
    first = make()
    assert find_end(first + b"GET / HTTP/1.1\n") == len(first)
    assert find_end(bytearray(first)) == len(first)
    assert find_end(b"") is None


def test_a_head_without_end_is_bounded() -> None:
    assert find_end(b"G" * (head.MAX_HEAD - 1)) is None
    with pytest.raises(RequestError) as caught:
        find_end(b"G" * head.MAX_HEAD)
    assert caught.value.status == 431


def test_does_not_lean_on_h11() -> None:
    """What h11 refuses today, and what the bytes' grammar keeps from it, is refused behind it again."""
    with pytest.raises(RequestError) as caught:
        head._framing({"transfer-encoding": "gzip"}, 1)
    assert caught.value.status == 501
    with pytest.raises(RequestError):
        head._read(b"GET / HTTP/1.1\r\n")
