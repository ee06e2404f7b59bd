"""Which operation may have which body."""

from __future__ import annotations

import pytest

from sockproxy.api import payload
from sockproxy.errors import RequestError
from sockproxy.http.body import MAX_BODY
from sockproxy.http.head import parse
from tests.support.judging import OPERATIONS

CREATE, START, LOAD = (OPERATIONS[name] for name in ("ContainerCreate", "ContainerStart", "ImageLoad"))


def head(length: int, kind: str = "application/json") -> bytes:
    return f"POST / HTTP/1.1\r\nHost: d\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n".encode()


def test_what_is_not_read() -> None:
    assert payload.reader(parse(head(0)), CREATE) is None
    assert payload.reader(parse(head(1 << 40, "application/x-tar")), LOAD) is None


def test_what_is_read() -> None:
    for operation in (CREATE, START):
        reader = payload.reader(parse(head(2)), operation)
        assert reader
        assert reader.feed(b"{}") == b"{}"
        assert reader.done


@pytest.mark.parametrize(("operation", "length", "status"), [(CREATE, MAX_BODY + 1, 413), (START, 1025, 413)])
def test_too_large(operation: payload.Operation, length: int, status: int) -> None:
    with pytest.raises(RequestError) as error:
        payload.reader(parse(head(length)), operation)
    assert error.value.status == status


def test_type() -> None:
    with pytest.raises(RequestError, match="must be application/json"):
        payload.reader(parse(head(2, "text/plain")), CREATE)
    assert payload.reader(parse(head(2, "text/plain")), START)


def test_accept() -> None:
    assert payload.accept(CREATE, b'{"a":1}', []) == b'{"a":1}'
    for nothing in (b"", b"{}", b" null\n"):
        assert payload.accept(START, nothing, []) == b""
    with pytest.raises(RequestError, match="ContainerStart takes no body"):
        payload.accept(START, b'{"a":1}', [("b", "1")])


def test_what_the_query_has_may_be_said_twice() -> None:
    stop, query = OPERATIONS["ContainerStop"], [("t", "1"), ("signal", "HUP")]
    assert payload.accept(stop, b'{"t": 1}', query) == b""
    for body in (b'{"t": 1, "HostConfig": {}}', b"[]", b'"t"', b'{"t"', b'{"t": 1, "t": 2}'):
        with pytest.raises(RequestError, match="takes no body"):
            payload.accept(stop, body, query)
