"""Bodies that the front reads, and queries."""

from __future__ import annotations

import pytest

from sockproxy.errors import RequestError
from sockproxy.http.body import Body, Chunked, Length, parse_query, reader
from sockproxy.http.head import parse


def feed(body: Body, pieces: list[bytes]) -> tuple[bytes, bool, bytes]:
    decoded = b"".join([body.feed(piece) for piece in pieces])
    return decoded, body.done, body.leftover


def bytewise(raw: bytes) -> list[bytes]:
    return [raw[at : at + 1] for at in range(len(raw))]


def test_length_ends_where_it_says() -> None:
    for pieces in ([b"helloGET /"], bytewise(b"helloGET /")):
        assert feed(Length(5), pieces) == (b"hello", True, b"GET /")
    assert feed(Length(5), [b"hell"]) == (b"hell", False, b"")


def test_no_body_is_done_at_once() -> None:
    body = reader(parse(b"GET / HTTP/1.1\r\nHost: d\r\n\r\n"))
    assert body.done
    assert feed(body, [b"GET /"]) == (b"", True, b"GET /")


def test_the_head_chooses_the_reader() -> None:
    assert isinstance(reader(parse(b"POST / HTTP/1.1\r\nHost: d\r\nContent-Length: 3\r\n\r\n")), Length)
    assert isinstance(reader(parse(b"POST / HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n")), Chunked)


@pytest.mark.parametrize(
    ("raw", "decoded"),
    [
        (b"0\r\n\r\n", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"05\r\nhello\r\n00\r\n\r\n", b"hello"),
        (b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2),
        (b"0000000000000001\r\n\n\r\n0000000000000000\r\n\r\n", b"\n"),
        (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
    ],
)
def test_chunks_end_where_they_say(raw: bytes, decoded: bytes) -> None:
    for pieces in ([raw + b"GET"], bytewise(raw + b"GET")):
        assert feed(Chunked(), pieces) == (decoded, True, b"GET")
    assert not feed(Chunked(), [raw[:-1]])[1]


MALFORMED_CHUNKS = {
    "extension": b"5;a=b\r\nhello\r\n0\r\n\r\n",
    "space behind": b"5 \r\nhello\r\n0\r\n\r\n",
    "space before": b" 5\r\nhello\r\n0\r\n\r\n",
    "sign": b"+5\r\nhello\r\n0\r\n\r\n",
    "negative": b"-5\r\nhello\r\n0\r\n\r\n",
    "0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "underscore": b"0_5\r\nhello\r\n0\r\n\r\n",
    "no digits": b"\r\nhello\r\n0\r\n\r\n",
    "no hexadecimal": b"g\r\nhello\r\n0\r\n\r\n",
    "17 digits": b"00000000000000005\r\nhello\r\n0\r\n\r\n",
    "overflow": b"10000000000000005\r\nhello\r\n0\r\n\r\n",
    "bare LF": b"5\nhello\r\n0\r\n\r\n",
    "bare CR": b"5\rhello\r\n0\r\n\r\n",
    "CR twice": b"5\r\r\nhello\r\n0\r\n\r\n",
    "LF behind the data": b"5\r\nhello\n0\r\n\r\n",
    "nothing behind the data": b"5\r\nhello0\r\n\r\n",
    "more data": b"5\r\nhello!\r\n0\r\n\r\n",
    "trailer": b"5\r\nhello\r\n0\r\nA: b\r\n\r\n",
    "long trailer": b"0\r\nContent-Length: 12345\r\n\r\n",
    "LF at the end": b"5\r\nhello\r\n0\r\n\n",
    "no end of line": b"0" * 18,
}


@pytest.mark.parametrize("raw", MALFORMED_CHUNKS.values(), ids=MALFORMED_CHUNKS)
def test_malformed_chunks(raw: bytes) -> None:
    for pieces in ([raw], bytewise(raw)):
        with pytest.raises(RequestError) as caught:
            feed(Chunked(), pieces)
        assert caught.value.status == 400


def test_bodies_have_a_limit() -> None:
    assert feed(Chunked(5), [b"5\r\nhello\r\n0\r\n\r\n"])[1]
    for raw in (b"6\r\n", b"3\r\nabc\r\n3\r\n", b"ffffffffffffffff\r\n"):
        with pytest.raises(RequestError) as caught:
            feed(Chunked(5), [raw])
        assert caught.value.status == 413
    with pytest.raises(RequestError) as caught:
        Length(6, 5)
    assert caught.value.status == 413


@pytest.mark.parametrize(
    ("raw", "pairs"),
    [
        (b"", []),
        (b"a=b", [("a", "b")]),
        (b"a", [("a", "")]),
        (b"a=", [("a", "")]),
        (b"=a", [("", "a")]),
        (b"a=b=c", [("a", "b=c")]),
        (b"&a=b&&c=d&", [("a", "b"), ("c", "d")]),
        (b"a=1&a=2", [("a", "1"), ("a", "2")]),
        (b"a+b=c+d%2B", [("a b", "c d+")]),
        (b"a=%c3%A9", [("a", "\xe9")]),
        (b"%61=%3b%26", [("a", ";&")]),
        (b"a=%252f", [("a", "%2f")]),
        (b"filters=%7B%22label%22%3A%7B%22a%22%3Atrue%7D%7D", [("filters", '{"label":{"a":true}}')]),
    ],
)
def test_query(raw: bytes, pairs: list[tuple[str, str]]) -> None:
    assert parse_query(raw) == pairs


MALFORMED_QUERIES = {
    "semicolon": b"a=b;c=d",
    "percent at the end": b"a=%",
    "half": b"a=%4",
    "no hexadecimal": b"a=%zz",
    "in the key": b"%gg=a",
    "NUL": b"a=%00",
    "newline in the key": b"a%0ab=c",
    "vertical tab": b"a=%0b",
    "escape": b"a=%1b",
    "C1": b"a=%c2%9b",
    "overlong": b"a=%c0%af",
    "surrogate": b"a=%ed%a0%80",
    "cut": b"a=%c3",
    "too many": b"&".join([b"a=b"] * 129),
    "long key": b"a" * 129 + b"=b",
}


@pytest.mark.parametrize("raw", MALFORMED_QUERIES.values(), ids=MALFORMED_QUERIES)
def test_malformed_queries(raw: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        parse_query(raw)
    assert caught.value.status == 400


def test_bounds_of_a_query() -> None:
    assert len(parse_query(b"&".join([b"a=b"] * 128))) == 128
    assert parse_query(b"a" * 128 + b"=" + b"b" * 100_000)[0][1] == "b" * 100_000
