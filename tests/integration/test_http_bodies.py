"""Bodies, queries and JSON that readers differ on: refused, or sent on so that only one reading is left."""

from __future__ import annotations

import json

import pytest

from tests.support.fake_daemon import FakeDaemon
from tests.support.proxy import Proxy
from tests.support.raw import Answer, Connection, call
from tests.support.users import Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]

HEAD = b"Host: d\r\nContent-Type: application/json\r\n"
SECOND = b"GET /v1.41/info HTTP/1.1\r\nHost: d\r\n\r\n"
MEBIBYTE = 1 << 20

CHUNKS = {
    "an extension": b"2;x=y\r\n{}\r\n0\r\n\r\n",
    "an extension on the last": b"2\r\n{}\r\n0;x\r\n\r\n",
    "a trailer": b"2\r\n{}\r\n0\r\nX: y\r\n\r\n",
    "a smuggling trailer": b"2\r\n{}\r\n0\r\nContent-Length: 50\r\n\r\n",
    "a signed size": b"+2\r\n{}\r\n0\r\n\r\n",
    "a negative size": b"-2\r\n{}\r\n0\r\n\r\n",
    "0x": b"0x2\r\n{}\r\n0\r\n\r\n",
    "an underscore": b"0_2\r\n{}\r\n0\r\n\r\n",
    "a leading space": b" 2\r\n{}\r\n0\r\n\r\n",
    "a trailing space": b"2 \r\n{}\r\n0\r\n\r\n",
    "a tab": b"2\t\r\n{}\r\n0\r\n\r\n",
    "an overflow": b"10000000000000002\r\n{}\r\n0\r\n\r\n",
    "no size": b"\r\n{}\r\n0\r\n\r\n",
    "no number": b"two\r\n{}\r\n0\r\n\r\n",
    "bare line feeds": b"2\n{}\n0\n\n",
    "a bare line feed after the size": b"2\n{}\r\n0\r\n\r\n",
    "a bare line feed after the data": b"2\r\n{}\n0\r\n\r\n",
    "a bare carriage return": b"2\r{}\r\n0\r\n\r\n",
    "data longer than its size": b"2\r\n{} \r\n0\r\n\r\n",
    "something behind the last": b"2\r\n{}\r\n0\r\nxx\r\n",
}


def _recorded(proxy: Proxy, answer: Answer) -> bool:
    rid = answer.headers["x-sockproxy-request-id"]
    return any(record.get("rid") == rid and record["ev"] == "deny" for record in proxy.records())


def _answer(proxy: Proxy, data: bytes) -> tuple[Answer, bytes]:
    with Connection(proxy.listen) as connection:
        connection.send(data + SECOND)
        return connection.answer(), connection.rest()


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS.keys())
def test_malformed_chunks_of_json(noted: Proxy, fake_daemon: FakeDaemon, chunks: bytes) -> None:
    head = b"POST /v1.41/containers/create HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    answer, behind = _answer(noted, head + chunks)
    assert answer.status in (400, 413)
    assert answer.message
    assert behind == b""
    assert _recorded(noted, answer)
    assert fake_daemon.received == b""


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS.keys())
def test_malformed_chunks_of_an_upload(noted: Proxy, fake_daemon: FakeDaemon, chunks: bytes) -> None:
    """An upload passes while it comes, so its head may be there by then: but not a byte of what follows the fault."""
    head = b"POST /v1.41/images/load HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer, behind = _answer(noted, head + chunks)
    assert answer.status == 400
    assert behind == b""
    assert b"/info" not in fake_daemon.received
    assert fake_daemon.requests == []


def test_good_chunks_in_any_pieces(noted: Proxy, fake_daemon: FakeDaemon) -> None:
    body = b'{"Image":"busybox"}'
    pieces = b"".join(b"%X\r\n%s\r\n" % (1, body[i : i + 1]) for i in range(len(body))) + b"0000\r\n\r\n"
    with Connection(noted.listen) as connection:
        connection.send(b"POST /v1.41/containers/create HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        for i in range(0, len(pieces), 3):
            connection.send(pieces[i : i + 3])
        assert connection.answer().status == 200
        assert connection.call("GET", "/v1.41/containers/json").status == 200
    passed_on = [line for line in fake_daemon.requests if line.endswith("HTTP/1.1")]  # what the helper asks is 1.0
    assert len(passed_on) == 2


def test_bodies_too_large(noted: Proxy, fake_daemon: FakeDaemon) -> None:
    head = b"POST /v1.41/containers/create HTTP/1.1\r\n" + HEAD
    said, behind = _answer(noted, head + b"Content-Length: %d\r\n\r\n" % (5 * MEBIBYTE) + b" " * 100)
    assert (said.status, behind) == (413, b"")
    chunk = b"100000\r\n" + b" " * MEBIBYTE + b"\r\n"
    told, behind = _answer(noted, head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 5 + b"0\r\n\r\n")
    assert (told.status, behind) == (413, b"")
    assert said.message
    assert told.message
    assert fake_daemon.received == b""


FORMS = {
    "a form": ("application/x-www-form-urlencoded", b"repo=evil&tag=2"),
    "a form in odd spelling": ("Application/X-WWW-Form-URLencoded ; charset=utf-8", b"repo=evil"),
    "a form in parts": ("multipart/form-data; boundary=x", b"--x--"),
}


@pytest.mark.parametrize(("kind", "body"), FORMS.values(), ids=FORMS.keys())
@pytest.mark.parametrize(
    "target",
    [
        "images/busybox/tag?repo=good",
        "volumes/prune?filters=%7B%7D",
        "containers/x/rename?name=y",
        "images/create",
        "images/create?fromSrc=-",
    ],
)
def test_form_bodies(noted: Proxy, fake_daemon: FakeDaemon, kind: str, body: bytes, target: str) -> None:
    """The engine lets them win over the query, unseen by who looks at the query alone."""
    with Connection(noted.listen) as connection:
        answer = connection.call("POST", f"/v1.41/{target}", body, Content_Type=kind)
    assert answer.status == 415
    assert answer.message
    assert _recorded(noted, answer)
    assert fake_daemon.received == b""


@pytest.mark.parametrize("kind", ["text/plain", "application/json-patch", "application/x-tar", "json", ""])
def test_json_is_called_json(noted: Proxy, fake_daemon: FakeDaemon, kind: str) -> None:
    answer = call(noted.listen, "POST", "/v1.41/containers/create", b'{"Image":"busybox"}', Content_Type=kind)
    assert answer.status == 400
    assert fake_daemon.received == b""


@pytest.mark.parametrize("target", ["containers/x/start", "containers/x/stop", "containers/x/attach", "networks/prune"])
def test_a_body_where_none_belongs(noted: Proxy, fake_daemon: FakeDaemon, target: str) -> None:
    """A start's body would replace the HostConfig that was checked (API below 1.24)."""
    body = {"HostConfig": {"Privileged": True}, "Privileged": True}
    assert call(noted.listen, "POST", f"/v1.24/{target}", body).status == 400
    assert fake_daemon.received == b""


def test_a_body_on_get(noted: Proxy, fake_daemon: FakeDaemon) -> None:
    assert call(noted.listen, "GET", "/v1.41/containers/json", {"all": True}).status == 400
    assert fake_daemon.received == b""


QUERIES = {
    "a semicolon": "all=1;limit=2",
    "a duplicate": "all=1&all=0",
    "an encoded duplicate": "all=1&%61ll=0",
    "another case": "All=1",
    "an unknown name": "evil=1",
    "a bad encoding": "all=%zz",
    "half an encoding": "all=1%4",
    "an encoded line end": "filters=%0d%0a",
    "NUL": "all=%00",
    "not UTF-8": "filters=%ff",
    "no boolean": "limit=ten",
    "too many": "&".join(f"a{number}=1" for number in range(1000)),
    "filters that are no JSON": "filters=x",
    "filters twice": "filters=%7B%7D&filters=%7B%22a%22%3A%5B%22b%22%5D%7D",
    "a filter twice": "filters=%7B%22label%22%3A%5B%22a%22%5D%2C%22label%22%3A%5B%5D%7D",
}


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES.keys())
def test_queries(noted: Proxy, fake_daemon: FakeDaemon, query: str) -> None:
    with Connection(noted.listen) as connection:
        answer = connection.call("GET", f"/v1.41/containers/json?{query}")
        assert answer.status in (400, 403)
        assert answer.message
        assert _recorded(noted, answer)
        assert fake_daemon.received == b""
        if answer.headers.get("connection") != "close":  # a clean request: the next one is served
            assert connection.call("GET", "/v1.41/containers/json").status == 200


JSON = {
    "a duplicate object that merges": '{"Image":"a","HostConfig":{"Privileged":true},"HostConfig":{}}',
    "a duplicate in another case": '{"Image":"a","HostConfig":{},"hostconfig":{"Privileged":true}}',
    "an escaped duplicate": '{"Image":"a","\\u0049mage":"b"}',
    "long s": '{"Image":"a","Ho\u017ftConfig":{"Privileged":true}}',
    "an escaped long s": '{"Image":"a","Ho\\u017ftConfig":{"Privileged":true}}',
    "the Kelvin sign": '{"Image":"a","HostConfig":{"Networ\u212aMode":"host"}}',
    "another document behind": '{"Image":"a"}{"HostConfig":{"Privileged":true}}',
    "a bracket behind": '{"Image":"a"}]',
    "a byte order mark": '\ufeff{"Image":"a"}',
    "half a surrogate pair": '{"Image":"\\ud800"}',
    "NUL": '{"Image":"a\\u0000b"}',
    "not a number": '{"Image":"a","HostConfig":{"Memory":NaN}}',
    "a float for an integer": '{"Image":"a","HostConfig":{"Memory":1e8}}',
    "a string for a number": '{"Image":"a","HostConfig":{"Memory":"1"}}',
    "a string for a truth value": '{"Image":"a","HostConfig":{"Privileged":"true"}}',
    "a huge number": '{"Image":"a","HostConfig":{"Memory":' + "9" * 5000 + "}}",
    "deep nesting": '{"Image":' + "[" * 100_000,
    "deep nesting that is closed": '{"Image":' + "[" * 900 + "]" * 900 + "}",
    "HostConfig's fields at the top": '{"Image":"a","Privileged":true}',
    "HostConfig's fields at the top with null": '{"Image":"a","HostConfig":null,"Binds":["/:/h"]}',
    "an unknown field": '{"Image":"a","HostConfig":{"Evil":1}}',
    "a list": "[]",
    "a string": '"x"',
    "nothing": " ",
    "half": '{"Image":"a"',
    "UTF-16": '{"Image":"a"}'.encode("utf-16"),
    "Latin-1": '{"Image":"é"}'.encode("latin-1"),
}


@pytest.mark.parametrize("text", JSON.values(), ids=JSON.keys())
def test_json_that_readers_differ_on(noted: Proxy, fake_daemon: FakeDaemon, users: Users, text: str | bytes) -> None:
    body = text if isinstance(text, bytes) else text.encode()
    with Connection(noted.listen, users.alice) as connection:
        answer = connection.call("POST", "/v1.41/containers/create", body)
        assert answer.status in (400, 403)
        assert answer.message
        assert _recorded(noted, answer)
        assert fake_daemon.received == b""
        assert connection.call("GET", "/v1.41/containers/json").status == 200


def test_keys_in_another_case_are_not_let_through(noted: Proxy, fake_daemon: FakeDaemon, users: Users) -> None:
    """The engine would take them for its own; the user is told the proper spelling."""
    body = b'{"Image":"a","hostCONFIG":{"privileged":true}}'
    answer = call(noted.listen, "POST", "/v1.41/containers/create", body, users.alice)
    assert answer.status == 403
    assert "HostConfig" in answer.message
    assert fake_daemon.received == b""


def test_labels_that_differ_in_case_are_two(noted: Proxy, fake_daemon: FakeDaemon, users: Users) -> None:
    body = b' {"Image":"a","Labels":{"A":"1","a":"2"},"HostConfig":{"Memory":16777216}}'
    assert call(noted.listen, "POST", "/v1.41/containers/create", body, users.root).status == 200
    sent = json.loads(fake_daemon.received.rpartition(b"\r\n\r\n")[2])
    assert sent["HostConfig"]["Memory"] == 16777216
    assert {"A": "1", "a": "2"}.items() <= sent["Labels"].items()
