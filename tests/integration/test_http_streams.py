"""Upgraded and streaming connections: early bytes, half-closes, websockets, second requests behind them."""

from __future__ import annotations

import base64
import hashlib

import pytest

from tests.support.containers import API, ATTACH, UPGRADE, attach, create, follow, interactive, run, start
from tests.support.proxy import Proxy, eventually
from tests.support.raw import Connection, call, frames, output
from tests.support.users import Users

pytestmark = [pytest.mark.daemon, pytest.mark.root]

INFO = f"GET {API}/info HTTP/1.1\r\nHost: d\r\n\r\n".encode()


def _make_exec(proxy: Proxy, users: Users, container: str, *command: str, **fields: object) -> str:
    body = {"AttachStdin": True, "AttachStdout": True, "AttachStderr": True, "Cmd": list(command), **fields}
    answer = call(proxy.listen, "POST", f"{API}/containers/{container}/exec", body, users.alice)
    assert answer.status == 201, answer.body
    return str(answer.json["Id"])


def _next(connection: Connection) -> int | None:
    """Give the status of a further answer; None when the connection ends without one."""
    connection.buffer += connection.receive()
    return connection.answer().status if connection.buffer else None


def _records(proxy: Proxy, operation: str) -> int:
    return sum(f"'{operation}'" in str(record) for record in proxy.records())


def test_bytes_sent_with_the_attach_are_not_lost(proxy: Proxy, users: Users) -> None:
    container = create(proxy, users.alice, "cat", **interactive())
    with attach(proxy, users.alice, container, b"early\n") as connection:
        connection.send(b"late\n")
        start(proxy, users.alice, container)
        connection.half_close()
        assert output(connection.rest()) == b"early\nlate\n"


def test_bytes_sent_with_the_exec_start_are_not_lost(proxy: Proxy, users: Users) -> None:
    container = run(proxy, users.alice, "sleep 100")
    process = _make_exec(proxy, users, container, "cat")
    body = b'{"Detach":false,"Tty":false}'
    head = f"POST {API}/exec/{process}/start HTTP/1.1\r\nHost: d\r\nContent-Type: application/json\r\n"
    head += f"Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: {len(body)}\r\n\r\n"
    with Connection(proxy.listen, users.alice) as connection:
        connection.send(head.encode() + body + b"early\n")
        assert connection.head().status == 101
        connection.send(b"late\n")
        connection.half_close()
        assert output(connection.rest()) == b"early\nlate\n"


def test_the_end_of_stdin_is_not_the_end_of_output(proxy: Proxy, users: Users) -> None:
    container = create(proxy, users.alice, "cat; sleep 1; echo late; echo bad >&2", **interactive(AttachStderr=True))
    with attach(proxy, users.alice, container) as connection:
        start(proxy, users.alice, container)
        connection.send(b"x\n")
        connection.half_close()
        assert dict(frames(connection.rest())) == {1: b"late\n", 2: b"bad\n"}


def test_the_end_of_output_comes_while_stdin_is_open(proxy: Proxy, users: Users) -> None:
    container = create(proxy, users.alice, "echo done", **interactive())
    with attach(proxy, users.alice, container) as connection:
        start(proxy, users.alice, container)
        assert output(connection.rest()) == b"done\n"


def test_attach_without_upgrade_is_raw(proxy: Proxy, users: Users) -> None:
    container = create(proxy, users.alice, "cat; echo end", **interactive())
    with Connection(proxy.listen, users.alice) as connection:
        connection.request("POST", f"{API}/containers/{container}/attach?{ATTACH}")
        head = connection.head()
        assert head.status == 200
        assert not {"content-length", "transfer-encoding"} & head.headers.keys()
        assert "raw-stream" in head.headers["content-type"]
        start(proxy, users.alice, container)
        connection.send(b"hello\n")
        connection.half_close()
        assert output(connection.rest()) == b"hello\nend\n"


def test_a_half_close_ends_a_followed_log(proxy: Proxy, users: Users) -> None:
    """The engine takes it for a cancellation and ends the answer in order."""
    container = run(proxy, users.alice, "echo one; sleep 100")
    with follow(proxy, users.alice, container) as connection:
        assert output(connection.chunk()) == b"one\n"
        connection.half_close()
        assert connection.chunks() == b""
        assert connection.is_closed()


def test_a_half_close_ends_events(proxy: Proxy, users: Users) -> None:
    with Connection(proxy.listen, users.alice) as connection:
        connection.request("GET", f"{API}/events")
        assert connection.head().status == 200
        connection.half_close()
        connection.chunks()
        assert connection.is_closed()


def test_large_input_and_output_at_once(proxy: Proxy, users: Users) -> None:
    """20 MB through cat: neither way waits for the other."""
    container = create(proxy, users.alice, "cat | sha256sum; echo behind", **interactive())
    data = bytes(range(256)) * 4096 * 20
    with attach(proxy, users.alice, container) as connection:
        start(proxy, users.alice, container)
        connection.send(data)
        connection.half_close()
        digest = hashlib.sha256(data).hexdigest().encode()
        assert output(connection.rest()) == digest + b"  -\nbehind\n"


@pytest.mark.parametrize("headers", [{}, UPGRADE], ids=["plain", "with an upgrade"])
def test_a_detached_exec_stays_http(proxy: Proxy, users: Users, headers: dict[str, str]) -> None:
    """What follows it on the connection is a request, judged like any other."""
    container = run(proxy, users.alice, "sleep 100")
    process = _make_exec(proxy, users, container, "true")
    with Connection(proxy.listen, users.alice) as connection:
        connection.request("POST", f"{API}/exec/{process}/start", {"Detach": True, "Tty": False}, **headers)
        connection.send(b"POST /swarm/leave?force=1 HTTP/1.1\r\nHost: d\r\nContent-Length: 0\r\n\r\n")
        assert connection.answer().status == 200
        assert _next(connection) in (403, None)


@pytest.mark.parametrize("what", ["containers/none/attach?stream=1", "exec/" + "a" * 64 + "/start"])
def test_a_refused_upgrade_hides_no_request(proxy: Proxy, users: Users, what: str) -> None:
    before = _records(proxy, "SystemInfo")
    body = {"Detach": False} if "exec" in what else None
    with Connection(proxy.listen, users.alice) as connection:
        connection.request("POST", f"{API}/{what}", body, **UPGRADE)
        connection.send(INFO)
        answer = connection.answer()
        assert answer.status == 404
        served = _next(connection) == 200
    eventually(lambda: _records(proxy, "SystemInfo") == before + served, "the record")


def test_a_denied_upgrade_hides_no_request(proxy: Proxy, users: Users) -> None:
    with Connection(proxy.listen, users.carol) as connection:
        connection.request("POST", f"{API}/containers/x/attach?stream=1", **UPGRADE)
        connection.request("POST", f"{API}/containers/x/start")
        assert [connection.answer().status for _ in range(2)] == [403, 403]


def test_nothing_is_served_behind_an_ended_stream(proxy: Proxy, users: Users) -> None:
    container = create(proxy, users.alice, "echo done", **interactive())
    before = _records(proxy, "SystemInfo")
    with attach(proxy, users.alice, container) as connection:
        start(proxy, users.alice, container)
        assert output(connection.until(b"done\n")) == b"done\n"
        connection.send(INFO)
        assert connection.rest() == b""
    assert _records(proxy, "SystemInfo") == before


@pytest.mark.parametrize("target", ["containers/json", "info", "images/json", "networks"])
@pytest.mark.parametrize("upgrade", ["tcp", "h2c", "websocket"])
def test_an_upgrade_where_none_belongs_is_ignored(proxy: Proxy, users: Users, target: str, upgrade: str) -> None:
    with Connection(proxy.listen, users.alice) as connection:
        for _ in range(2):
            headers = {"Connection": "Upgrade", "Upgrade": upgrade}
            assert connection.call("GET", f"{API}/{target}", **headers).status == 200


@pytest.mark.parametrize("target", ["/grpc", "/session", f"{API}/grpc", f"{API}/session"])
def test_buildkit_is_refused_with_a_sentence(proxy: Proxy, users: Users, target: str) -> None:
    with Connection(proxy.listen, users.carol) as connection:
        head = f"POST {target} HTTP/1.1\r\nHost:\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
        connection.send(head.encode() + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        answer = connection.answer()
        assert answer.status == 403
        assert "sockproxy: " in answer.message


def _frame(payload: bytes) -> bytes:
    """A client's binary frame: final, masked (RFC 6455 section 5.2)."""
    mask = b"\1\2\3\4"
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return bytes([0x82, 0x80 | len(payload)]) + mask + masked


def test_attach_by_websocket(proxy: Proxy, users: Users) -> None:
    container = run(proxy, users.alice, "stty -echo; echo ready; exec cat", OpenStdin=True, Tty=True)
    key = base64.b64encode(bytes(16)).decode()
    headers = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec_WebSocket_Version": "13"}
    headers |= {"Sec_WebSocket_Key": key, "Origin": "http://docker"}
    with Connection(proxy.listen, users.alice) as connection:
        query = "logs=1&stream=1&stdin=1&stdout=1&stderr=1"
        connection.request("GET", f"{API}/containers/{container}/attach/ws?{query}", **headers)
        head = connection.head()
        assert (head.status, head.reason) == (101, "Switching Protocols")
        proof = hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        assert head.headers["sec-websocket-accept"] == base64.b64encode(proof).decode()
        connection.until(b"ready\r\n")
        connection.send(_frame(b"hello\n"))
        assert b"hello\r\n" in connection.until(b"hello\r\n")
