"""Properties of the HTTP readers: only declared errors, no disagreement with h11, no dependence on pieces."""

from __future__ import annotations

from itertools import pairwise
from urllib.parse import urlencode

import h11
from hypothesis import example, given
from hypothesis import strategies as st

from sockproxy.api.route import route
from sockproxy.errors import RequestError
from sockproxy.http.body import Body, Chunked, Length, parse_query
from sockproxy.http.head import FORWARD, Head, find_end, parse
from sockproxy_helpers.api import operations

HEADS = [
    b"GET /_ping HTTP/1.1\r\nHost: d\r\n\r\n",
    b"POST /v1.45/containers/create?name=a HTTP/1.1\r\nHost: api.moby.localhost\r\nContent-Length: 15\r\n"
    b"Content-Type: application/json\r\n\r\n",
    b"POST /build?t=a HTTP/1.1\r\nHost:\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n"
    b"X-Registry-Config: e30=\r\n\r\n",
    b"POST /containers/a/attach HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
    b"Content-Length: 0\r\n\r\n",
    b"OPTIONS * HTTP/1.0\r\n\r\n",
]
# What readers are known to differ on, to be put in anywhere.
BITS = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n ",
    b"\0",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"%",
    b"%2f",
    b"\x80",
    b"\x7f",
    b"//",
    b"http://x",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: x\r\n",
    b"Host: x\r\n",
    b"HTTP/1.1",
]
pieces = st.one_of(st.sampled_from(BITS), st.binary(min_size=1, max_size=3))


@st.composite
def mutated_heads(draw: st.DrawFn) -> bytes:
    raw = draw(st.sampled_from(HEADS))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(raw)))
        raw = raw[:at] + draw(st.one_of(st.just(b""), pieces)) + raw[at + draw(st.integers(0, 2)) :]
    return raw


def accept(raw: bytes) -> Head | None:
    """Parse as the session does; anything but RequestError is a failure of the test."""
    try:
        end = find_end(raw)
        return parse(raw[:end]) if end else None
    except RequestError as error:
        refused = error
    assert 400 <= refused.status < 600
    assert refused.message.isprintable()
    return None


@given(mutated_heads())
def test_h11_alone_reads_the_same(raw: bytes) -> None:
    parsed = accept(raw)
    if not parsed:
        return
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(raw[: find_end(raw)])
    request = connection.next_event()
    assert isinstance(request, h11.Request)
    path, _, query = request.target.partition(b"?")
    assert (parsed.method.encode(), parsed.untrusted_path, parsed.untrusted_query) == (request.method, path, query)
    assert [(name.encode(), value.encode()) for name, value in parsed.headers] == list(request.headers)
    body = {"content-length": "length", "transfer-encoding": "chunked"}
    framing = [(body[name], value) for name, value in parsed.headers if name in body]
    assert len(framing) <= 1
    if parsed.body != "none":
        assert framing[0][0] == parsed.body
    assert set(parsed.forward) <= set(FORWARD)


@given(mutated_heads())
def test_pieces_of_a_head_do_not_matter(raw: bytes) -> None:
    def bytewise() -> Head | None:
        for size in range(len(raw) + 1):
            if end := find_end(raw[:size], max(size - 1, 0)):
                return parse(raw[:end])
        return None

    try:
        parsed = bytewise()
    except RequestError:
        parsed = None
    assert parsed == accept(raw)


@given(st.binary(max_size=200))
@example(b"GET / HTTP/1.1\r\n\r\n")
def test_any_bytes_end_in_a_head_or_a_request_error(raw: bytes) -> None:
    accept(raw)
    accept(raw + b"\r\n\r\n")
    try:
        parse(raw)
    except RequestError:
        pass


def cut(raw: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(raw), *[at % (len(raw) + 1) for at in cuts]})
    return [raw[start:end] for start, end in pairwise(places)]


def outcome(body: Body, fed: list[bytes]) -> tuple[bytes, bool, bytes] | int:
    try:
        return b"".join([body.feed(piece) for piece in fed]), body.done, body.leftover
    except RequestError as error:
        return error.status


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=5), st.binary(max_size=10), st.lists(st.integers(0, 500)))
def test_chunks_come_out_as_they_went_in(chunks: list[bytes], behind: bytes, cuts: list[int]) -> None:
    raw = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n" + behind
    wanted = (b"".join(chunks), True, behind)
    assert outcome(Chunked(), [raw]) == wanted
    assert outcome(Chunked(), cut(raw, list(range(len(raw))))) == wanted
    assert outcome(Chunked(), cut(raw, cuts)) == wanted
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"POST / HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n" + raw)
    connection.next_event()
    decoded = b""
    while isinstance(event := connection.next_event(), h11.Data):
        decoded += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert (decoded, connection.trailing_data[0]) == (wanted[0], behind)


@given(st.lists(st.one_of(pieces, st.sampled_from([b"5\r\nhello\r\n", b"0\r\n", b"\r\n", b"1\r\n"]))), st.data())
def test_pieces_of_malformed_chunks_do_not_matter(parts: list[bytes], data: st.DataObject) -> None:
    raw = b"".join(parts)
    cuts = data.draw(st.lists(st.integers(0, len(raw))))
    whole = outcome(Chunked(20), [raw])
    assert outcome(Chunked(20), cut(raw, cuts)) == whole
    assert outcome(Chunked(20), cut(raw, list(range(len(raw))))) == whole


@given(st.integers(0, 50), st.binary(max_size=60), st.lists(st.integers(0, 60)))
def test_length_splits(length: int, raw: bytes, cuts: list[int]) -> None:
    assert outcome(Length(length), cut(raw, cuts)) == (raw[:length], len(raw) >= length, raw[length:])


text = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=30)


@given(st.lists(st.tuples(st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30), text), max_size=20))
def test_queries_come_out_as_they_went_in(pairs: list[tuple[str, str]]) -> None:
    assert parse_query(urlencode(pairs).encode()) == pairs
    encoded = "&".join(f"{operations.quote(key)}={operations.quote(value)}" for key, value in pairs)
    assert parse_query(encoded.encode()) == pairs


@given(
    st.one_of(st.binary(max_size=60), st.lists(st.one_of(pieces, st.sampled_from([b"a=", b"&", b"%41"]))).map(b"".join))
)
def test_any_query_is_read_or_refused(raw: bytes) -> None:
    try:
        pairs = parse_query(raw)
    except RequestError:
        return
    assert all(key.isprintable() for key, _ in pairs)
    assert not any(char < " " and char not in "\t\n\r" for _, value in pairs for char in value)


METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", ""]
WORDS = [
    b"/",
    b"/v1.41",
    b"/containers",
    b"/images",
    b"/networks",
    b"/a",
    b"/json",
    b"/create",
    b".",
    b"..",
    b"%2e",
    b"%",
]


@given(st.sampled_from(METHODS), st.lists(st.one_of(pieces, st.sampled_from(WORDS)), max_size=8).map(b"".join))
def test_any_path_is_a_row_or_no_page(method: str, path: bytes) -> None:
    try:
        match = route(method, path)
    except RequestError:
        return
    if method != "OPTIONS":
        target = match.operation.target(match.version, match.variables, [])
        again = route(method, target.encode())
        assert (again.operation, again.version, again.variables) == match
