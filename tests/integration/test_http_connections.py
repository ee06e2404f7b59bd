"""What clients rely on between requests: keep-alive, pipelining, HEAD, Expect, answers without a body."""

from __future__ import annotations

import io
import tarfile

import pytest

from tests.support.containers import API, UPGRADE, create, follow, run, start
from tests.support.proxy import Proxy, eventually
from tests.support.raw import Connection, call, output
from tests.support.users import Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]


def _request(method: str, target: str, *lines: str, body: bytes = b"") -> bytes:
    return "\r\n".join([f"{method} {API}{target} HTTP/1.1", "Host: d", *lines, "", ""]).encode() + body


def _archive(name: str, data: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    return file.getvalue()


def test_one_connection_for_many_requests(proxy: Proxy, users: Users) -> None:
    with Connection(proxy.listen, users.alice) as connection:
        for _ in range(20):
            assert connection.call("HEAD", "/_ping").status == 200
            assert connection.call("GET", "/_ping").body == b"OK"
            assert connection.call("GET", f"{API}/containers/json").status == 200
            assert connection.call("GET", f"{API}/networks").status == 200
            assert connection.call("GET", f"{API}/images/none/json").status == 404


def test_the_same_again_and_again(proxy: Proxy, users: Users) -> None:
    """A connection is lent to the helper then: each answer is of now and of its own user, each call on the record."""
    target, answers = f"{API}/containers/json?all=1", []
    with Connection(proxy.listen, users.alice) as alice, Connection(proxy.listen, users.bob) as bob:
        for _ in range(100):
            answers += [alice.call("GET", target), bob.call("GET", target)]
        container = create(proxy, users.alice, "true")
        for _ in range(5):
            answers += [alice.call("GET", target), bob.call("GET", target)]
            assert [container.encode() in answer.body for answer in answers[-2:]] == [True, False]
        assert alice.call("DELETE", f"{API}/containers/{container}").status == 204
        assert alice.call("GET", f"{API}/containers/{container}/json").status == 404
    assert {answer.status for answer in answers} == {200}
    rids = [answer.headers["x-sockproxy-request-id"] for answer in answers]
    assert len(set(rids)) == 210

    def told(event: str) -> list[object]:
        return [record["rid"] for record in proxy.records() if record["ev"] == event and record["rid"] in rids]

    eventually(lambda: sorted(told("outcome")) == sorted(rids), "outcomes on the record", 5)  # type: ignore[type-var]
    asked = {r["rid"]: r["who"]["user"] for r in proxy.records() if r["ev"] == "intent"}  # type: ignore[index]
    assert [asked[rid] for rid in rids] == [users.alice.name, users.bob.name] * 105


def test_pipelined_requests_are_answered_in_order(proxy: Proxy, users: Users) -> None:
    with Connection(proxy.listen, users.carol) as connection:
        connection.send(
            _request("GET", "/_ping")
            + _request("POST", "/containers/none/start", "Content-Length: 0")
            + _request("HEAD", "/_ping")
            + _request("GET", "/version")
            + _request("GET", "/containers/none/json")
            + _request("GET", "/nothing")
            + _request("GET", "/_ping", "Connection: close")
            + _request("GET", "/_ping")
        )
        answers = [connection.answer(head_only=index == 2) for index in range(7)]
        assert connection.is_closed()
    assert [answer.status for answer in answers] == [200, 403, 200, 200, 404, 404, 200]
    assert answers[0].body == answers[6].body == b"OK"
    assert "ApiVersion" in answers[3].json


def test_pipelined_bodies(proxy: Proxy, users: Users) -> None:
    body = b'{"Image":"busybox"}'
    json = ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    archive = _archive("x", b"hello")
    create_it = _request("POST", "/containers/create?name=piped", *json, body=body)
    put = _request("PUT", "/containers/piped/archive?path=/tmp", f"Content-Length: {len(archive)}", body=archive)
    put_chunked = _request("PUT", "/containers/piped/archive?path=/tmp", "Transfer-Encoding: chunked")
    put_chunked += b"%x\r\n%s\r\n0\r\n\r\n" % (len(archive), archive)
    with Connection(proxy.listen, users.alice) as connection:
        connection.send(create_it + put + put_chunked + _request("GET", "/_ping") + _request("GET", "/version"))
        assert [connection.answer().status for _ in range(5)] == [201, 200, 200, 200, 200]


def test_a_request_behind_a_streaming_answer_waits_for_its_end(proxy: Proxy, users: Users) -> None:
    container = run(proxy, users.alice, "echo begin; read x; echo end", OpenStdin=True)
    with follow(proxy, users.alice, container) as connection:
        assert output(connection.chunk()) == b"begin\n"
        connection.send(_request("GET", "/containers/none/json") + _request("POST", "/swarm/leave?force=1"))
        call(proxy.listen, "POST", f"{API}/containers/{container}/kill", None, users.alice)
        assert connection.chunks() == b""
        assert connection.answer().status == 404
        assert connection.answer().status == 403


def test_head_has_the_length_and_no_body(proxy: Proxy, users: Users) -> None:
    container = create(proxy, users.alice, "true")
    with Connection(proxy.listen, users.alice) as connection:
        found = connection.call("HEAD", f"{API}/containers/{container}/archive?path=/bin")
        assert found.status == 200
        assert "x-docker-container-path-stat" in found.headers
        missing = connection.call("HEAD", f"{API}/containers/{container}/archive?path=/none")
        assert missing.status == 404
        assert int(missing.headers["content-length"]) > 0
        ping = connection.call("HEAD", "/_ping")
        assert ping.headers["api-version"]
        assert connection.call("GET", "/_ping").body == b"OK"


def test_204_and_304_have_no_length(proxy: Proxy, users: Users) -> None:
    container = create(proxy, users.alice, "sleep 100")
    with Connection(proxy.listen, users.alice) as connection:
        for status in (204, 304):
            answer = connection.call("POST", f"{API}/containers/{container}/start")
            assert answer.status == status
            assert not {"content-length", "transfer-encoding"} & answer.headers.keys()
        assert connection.call("GET", "/_ping").body == b"OK"


def test_expect_100_continue_on_an_upload(proxy: Proxy, users: Users) -> None:
    container = create(proxy, users.alice, "cat /tmp/x")
    archive = _archive("x", b"hello")
    with Connection(proxy.listen, users.alice) as connection:
        target = f"/containers/{container}/archive?path=/tmp"
        connection.send(_request("PUT", target, "Expect: 100-continue", f"Content-Length: {len(archive)}"))
        assert connection.head().status == 100
        connection.send(archive)
        assert connection.answer().status == 200
        assert connection.call("GET", "/_ping").body == b"OK"


def test_expect_100_continue_on_json(proxy: Proxy, users: Users) -> None:
    body = b'{"Image":"busybox"}'
    lines = ["Content-Type: application/json", "Expect: 100-continue", f"Content-Length: {len(body)}"]
    with Connection(proxy.listen, users.alice) as connection:
        connection.send(_request("POST", "/containers/create", *lines))
        assert connection.head().status == 100
        connection.send(body)
        assert connection.answer().status == 201


def test_expect_of_a_refused_request_gets_the_refusal_only(proxy: Proxy, users: Users) -> None:
    with Connection(proxy.listen, users.carol) as connection:
        connection.send(_request("POST", "/build", "Expect: 100-continue", "Content-Length: 1000000"))
        assert connection.answer().status == 403


def test_wait_answers_its_head_at_once(proxy: Proxy, users: Users) -> None:
    """The CLI starts the container only after that head."""
    container = create(proxy, users.alice, "exit 3")
    with Connection(proxy.listen, users.alice) as connection:
        connection.request("POST", f"{API}/containers/{container}/wait?condition=next-exit")
        head = connection.head()
        assert head.status == 200
        start(proxy, users.alice, container)
        assert b'"StatusCode":3' in connection.chunks()


def test_small_chunks_arrive_one_by_one(proxy: Proxy, users: Users) -> None:
    """Each is waited for before the next is made: one that is held back would never come."""
    container = run(proxy, users.alice, "stty -echo raw; echo ready; exec cat", OpenStdin=True, Tty=True)
    with follow(proxy, users.alice, container) as logs, Connection(proxy.listen, users.alice) as stdin:
        assert logs.chunk() == b"ready\n"
        stdin.request("POST", f"{API}/containers/{container}/attach?stream=1&stdin=1", **UPGRADE)
        assert stdin.head().status == 101
        for number in range(20):
            stdin.send(b"%04d\n" % number)
            assert logs.chunk() == b"%04d\n" % number


def test_an_early_answer_to_an_upload(proxy: Proxy, users: Users) -> None:
    """The engine refuses a PUT to a missing folder while the client still sends."""
    container = create(proxy, users.alice, "true")
    with Connection(proxy.listen, users.alice) as connection:
        connection.send(_request("PUT", f"/containers/{container}/archive?path=/none", "Transfer-Encoding: chunked"))
        for _ in range(100):
            connection.send(b"10000\r\n" + bytes(65536) + b"\r\n")
        connection.send(b"0\r\n\r\n")
        answer = connection.answer()
        assert answer.status == 404
        assert "/none" in answer.message


def test_a_malformed_upload_does_not_arrive(proxy: Proxy, users: Users) -> None:
    """What is broken off, or breaks its chunks, must not look whole to the engine."""
    archive = _archive("x", bytes(2048))[:1024]
    head = "POST", "/images/create?fromSrc=-&repo=broken&tag=1", "Transfer-Encoding: chunked"
    for end in (b"zz\r\n", b""):
        with Connection(proxy.listen, users.alice) as connection:
            connection.send(_request(*head) + b"%x\r\n%s\r\n" % (len(archive), archive) + end)
            connection.half_close()
            connection.rest()
    assert call(proxy.listen, "GET", f"{API}/images/broken:1/json", None, users.alice).status == 404


def test_the_same_bytes_are_judged_for_each_caller(proxy28: Proxy, users: Users) -> None:
    """The front remembers what it has read of a head, not what it has decided."""
    stop = _request("POST", "/containers/none/stop")
    for _ in range(2):
        for user, status in ((users.alice, 404), (users.carol, 403), (users.mallory, 403), (users.alice, 404)):
            with Connection(proxy28.listen, user) as connection:
                connection.send(stop)
                assert connection.answer().status == status
