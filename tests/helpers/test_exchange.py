"""One call between a client, a front and a scripted daemon: each test is a conversation.

Tests whose docstring begins with "docker-api" or "proxy-lessons" hold a fact that was measured with real clients.
"""

from __future__ import annotations

import hashlib
import os
import socket

import pytest

from sockproxy_helpers.calls.exchange import INLINE, Gone
from sockproxy_helpers.channel import wire
from sockproxy_helpers.errors import Malformed, Unavailable
from sockproxy_helpers.stream import pipes
from tests.helpers.support import Chain, Peer, assert_closed, descriptors

OK = b"HTTP/1.1 200 OK\r\n"
ID = b"X-Sockproxy-Request-Id: 0123456789abcdef\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
UPGRADED = b"HTTP/1.1 101 UPGRADED\r\nContent-Type: raw\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
UPGRADED_THERE = b"HTTP/1.1 101 UPGRADED\r\nContent-Type: raw\r\n" + ID + b"Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
INSPECT = {"op": "ContainerInspect", "vars": {"id": "x"}}
LOGS = {"op": "ContainerLogs", "vars": {"id": "x"}}
WAIT = {"op": "ContainerWait", "vars": {"id": "x"}}
ATTACH = {"op": "ContainerAttach", "vars": {"id": "x"}, "upgrade": "tcp"}
PUT = {"op": "PutContainerArchive", "vars": {"id": "x"}, "query": [["path", "/"]]}
BUILD = {"op": "ImageBuild", "upload": "chunked"}


@pytest.fixture
def chain(tmp_path):
    chain = Chain(tmp_path)
    yield chain
    chain.close()


async def flood(peer: Peer, data: bytes) -> None:
    """Send until the other side has gone."""
    while True:
        try:
            await peer.send(data)
        except (BrokenPipeError, ConnectionResetError):
            return
        await peer.loop.wait({}, 0.001)


def length(size: int) -> bytes:
    return f"Content-Length: {size}\r\n".encode()


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


# --- small answers, through the front


@pytest.mark.parametrize("size", [0, 1, 5000, INLINE])
def test_answer_with_a_content_length_goes_inline(chain, size):
    body = os.urandom(size)

    async def daemon() -> None:
        peer = await chain.listener.accept()
        assert await peer.request() == b"GET /v1.41/containers/x/json HTTP/1.1\r\nHost: docker\r\n\r\n"
        await peer.send(OK + length(size) + b"\r\n" + body)
        peer.close()

    chain.run(chain.call(**INSPECT), daemon())
    assert chain.answer == OK + length(size) + ID + b"\r\n" + body
    assert chain.exchange.keep
    assert not chain.exchange.sent
    assert chain.told() == []


@pytest.mark.parametrize("pieces", [1, 7, 10_000])
def test_complete_chunked_answer_goes_inline(chain, pieces):
    """docker-api 2: Go chunks any answer over 2 KiB, so small chunked ones are the rule."""
    body = chunk(b"x" * 3000) + b"0\r\n\r\n"
    answer = OK + CHUNKED + b"\r\n" + body

    async def daemon() -> None:
        peer = await chain.listener.accept()
        await peer.request()
        await peer.send(answer)
        peer.close()

    chain.run(chain.call(**INSPECT), daemon())
    assert chain.answer == OK + CHUNKED + ID + b"\r\n" + body
    assert chain.told() == []


def test_answer_in_pieces_arrives_whole(chain):
    answer = OK + length(10) + b"\r\n0123456789"

    async def daemon() -> None:
        peer = await chain.listener.accept()
        await peer.request()
        for index in range(len(answer)):
            await peer.send(answer[index : index + 1])
            await chain.loop.wait({}, 0)
        peer.close()

    chain.run(chain.call(**INSPECT), daemon())
    assert chain.answer.endswith(b"\r\n\r\n0123456789")


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_no_body_on_204_and_304(chain, status):
    """docker-api 2: no body, and no length either; the connection goes on."""

    async def daemon() -> None:
        peer = await chain.listener.accept()
        assert await peer.request() == (
            b"POST /v1.41/containers/x/start HTTP/1.1\r\nHost: docker\r\nContent-Length: 0\r\n\r\n"
        )
        await peer.send(f"HTTP/1.1 {status}\r\nApi-Version: 1.41\r\n\r\n".encode())

    chain.run(chain.call("ContainerStart", vars={"id": "x"}), daemon())
    assert chain.answer == f"HTTP/1.1 {status}\r\nApi-Version: 1.41\r\n".encode() + ID + b"\r\n"
    assert chain.exchange.keep


@pytest.mark.parametrize("status", [b"200 OK", b"404 Not Found"])
def test_head_has_a_length_and_no_body(chain, status):
    """docker-api 2: a HEAD's 404 carries `Content-Length: 63` and no body."""

    async def daemon() -> None:
        peer = await chain.listener.accept()
        assert (await peer.request()).startswith(b"HEAD /_ping HTTP/1.1\r\n")
        await peer.send(b"HTTP/1.1 " + status + b"\r\nContent-Length: 63\r\n\r\n")

    chain.run(chain.call("SystemPingHead", api=""), daemon())
    assert chain.answer == b"HTTP/1.1 " + status + b"\r\nContent-Length: 63\r\n" + ID + b"\r\n"
    assert chain.exchange.keep


def test_json_body_is_sent_as_it_was_built(chain):
    async def daemon() -> None:
        peer = await chain.listener.accept()
        assert await peer.request() == (
            b"POST /v1.41/containers/create?name=a%26b HTTP/1.1\r\nHost: docker\r\n"
            b'Content-Type: application/json\r\nContent-Length: 13\r\n\r\n{"Image":"x"}'
        )
        await peer.send(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}")

    chain.run(chain.call("ContainerCreate", query=[["name", "a&b"]], body=b'{"Image":"x"}'), daemon())
    assert chain.exchange.status == 201


def test_connection_is_used_for_the_next_call(chain):
    async def calls() -> None:
        for _ in range(3):
            await chain.call(**INSPECT)
            assert chain.answer.endswith(b"ok")

    async def daemon() -> None:
        peer = await chain.listener.accept()
        for _ in range(3):
            await peer.request()
            await peer.send(OK + length(2) + b"\r\nok")

    chain.run(calls(), daemon())
    assert chain.listener.accepted == 1


@pytest.mark.parametrize("behind", ["length", "chunked"])
def test_bytes_behind_an_answer_end_the_connection(chain, behind):
    """What the daemon sends after its answer must not become the next one."""

    async def calls() -> None:
        await chain.call(**INSPECT)
        assert chain.answer.endswith(b"ok\r\n0\r\n\r\n" if behind == "chunked" else b"ok")
        await chain.call(**INSPECT)
        assert chain.answer.endswith(b"good")

    async def daemon() -> None:
        peer = await chain.listener.accept()
        await peer.request()
        body = length(2) + b"\r\nok" if behind == "length" else CHUNKED + b"\r\n" + chunk(b"ok") + b"0\r\n\r\n"
        await peer.send(OK + body + OK + length(4) + b"\r\nevil")
        peer = await chain.listener.accept()
        await peer.request()
        await peer.send(OK + length(4) + b"\r\ngood")

    chain.run(calls(), daemon())


def test_http_1_0_client_gets_no_chunks(chain):
    """docker-api 1: HTTP/1.0 is accepted; the daemon is asked in it, and answers up to its end."""

    async def daemon() -> None:
        peer = await chain.listener.accept()
        assert b" HTTP/1.0\r\n" in await peer.request()
        await peer.send(b"HTTP/1.0 200 OK\r\n\r\nhello")
        peer.close()

    async def client() -> None:
        head = await chain.client.head()
        assert head == OK + ID + b"Connection: close\r\n\r\n"
        assert await chain.client.read(5) == b"hello"

    chain.run(chain.call(**INSPECT, minor=0), daemon(), client())
    assert not chain.exchange.keep
    assert chain.end is None


# --- answers straight to the client


def test_large_answer_goes_to_the_client_after_the_front_was_told(chain):
    body = os.urandom(4 << 20)

    async def daemon() -> None:
        peer = await chain.listener.accept()
        await peer.request()
        await peer.send(OK + length(len(body)) + b"\r\n" + body)

    async def client() -> None:
        head = await chain.client.head()
        assert chain.told() == [{"sent": True}]
        assert head == OK + length(len(body)) + ID + b"\r\n"
        assert await chain.client.read(len(body)) == body

    chain.run(chain.call(**INSPECT), daemon(), client())
    assert chain.answer == b""
    assert chain.exchange.keep
    assert chain.exchange.sent
    assert chain.exchange.bytes_out == len(body) + len(OK + length(len(body)) + ID) + 2


def test_large_chunked_answer_is_passed_as_it_is(chain):
    body = b"".join(chunk(os.urandom(70_000)) for _ in range(20)) + b"0\r\n\r\n"

    async def daemon() -> None:
        peer = await chain.listener.accept()
        await peer.request()
        await peer.send(OK + CHUNKED + b"\r\n" + body)

    async def client() -> None:
        assert await chain.client.head() == OK + CHUNKED + ID + b"\r\n"
        assert await chain.client.read(len(body)) == body

    chain.run(chain.call(**INSPECT), daemon(), client())
    assert chain.exchange.keep


def test_head_of_wait_is_passed_at_once(chain):
    """docker-api 2: `docker run` starts the container only after the head of /wait; its body comes at the end."""

    async def daemon() -> None:
        peer = await chain.listener.accept()
        await peer.request()
        await peer.send(OK + CHUNKED + b"\r\n")
        assert await chain.client.head() == OK + CHUNKED + ID + b"\r\n"
        await peer.send(chunk(b'{"StatusCode":0}\n'))
        assert await chain.client.read(23) == chunk(b'{"StatusCode":0}\n')
        await peer.send(b"0\r\n\r\n")

    chain.run(chain.call(**WAIT), daemon())
    assert chain.client.sock.recv(10) == b"0\r\n\r\n"
    assert chain.exchange.keep


def test_each_chunk_is_passed_when_it_comes(chain):
    """docker-api 2: chunks as small as 5 bytes must pass promptly."""

    async def daemon() -> None:
        peer = await chain.listener.accept()
        await peer.request()
        await peer.send(OK + CHUNKED + b"\r\n")
        await chain.client.head()
        for number in range(20):
            await peer.send(chunk(b"%05d" % number))
            assert await chain.client.read(10) == chunk(b"%05d" % number)
        await peer.send(b"0\r\n\r\n")

    chain.run(chain.call(**LOGS), daemon())


def test_close_delimited_answer_closes(chain):
    async def daemon() -> None:
        peer = await chain.listener.accept()
        await peer.request()
        await peer.send(b"HTTP/1.1 404 Not Found\r\nContent-Type: raw\r\n\r\nNo such container: x")
        peer.close()

    async def client() -> None:
        """docker-api 4: a failing attach answers 404 as raw-stream text and closes."""
        assert (await chain.client.head()).endswith(ID + b"Connection: close\r\n\r\n")
        assert await chain.client.read(20) == b"No such container: x"

    chain.run(chain.call(**ATTACH), daemon(), client())
    assert chain.end is None
    assert not chain.exchange.keep


def test_slow_client_stops_the_daemon(chain):
    """Back-pressure: what the client does not take stays with the daemon."""
    body, passed = os.urandom(8 << 20), 0

    async def daemon() -> None:
        nonlocal passed
        peer = await chain.listener.accept()
        await peer.request()
        await peer.send(OK + length(len(body)) + b"\r\n")
        view = memoryview(body)
        while view:
            before = len(view)
            try:
                view = view[peer.sock.send(view) :]
            except BlockingIOError:
                await chain.loop.wait({peer.sock.fileno(): 4}, 0.02)
            passed += before - len(view)

    async def client() -> None:
        await chain.loop.wait({}, 0.1)
        assert passed < 3 << 20
        await chain.client.head()
        digest = hashlib.sha256(await chain.client.read(len(body))).digest()
        assert digest == hashlib.sha256(body).digest()

    chain.run(chain.call(**INSPECT), daemon(), client())


# --- uploads


@pytest.mark.parametrize("early", [0, 10, 1000])
@pytest.mark.parametrize("size", [1000, 3 << 20])
def test_upload_of_a_length(chain, early, size):
    body = os.urandom(size)

    async def daemon() -> None:
        peer = await chain.listener.accept()
        head = await peer.head()
        assert head == (
            b"PUT /v1.41/containers/x/archive?path=%2F HTTP/1.1\r\nHost: docker\r\n"
            b"Content-Type: application/x-tar\r\n" + length(size) + b"\r\n"
        )
        assert await peer.read(size) == body
        await peer.send(OK + length(0) + b"\r\n")

    async def client() -> None:
        await chain.client.send(body[early:])

    chain.run(chain.call(**PUT, upload=size, early=body[:early]), daemon(), client())
    assert chain.exchange.keep
    assert chain.exchange.bytes_in == size


def test_empty_upload(chain):
    async def daemon() -> None:
        peer = await chain.listener.accept()
        assert await peer.request()
        await peer.send(OK + length(0) + b"\r\n")

    chain.run(chain.call(**PUT, upload=0), daemon())
    assert chain.exchange.keep


@pytest.mark.parametrize("early", [0, 1, 5, 20, 10**9])
def test_chunked_upload_with_a_pipelined_request_behind(chain, early):
    body = b"".join(chunk(os.urandom(50_000)) for _ in range(5)) + b"0\r\n\r\n"
    sent = body + b"GET /_ping HTTP/1.1\r\n\r\n"

    async def daemon() -> None:
        peer = await chain.listener.accept()
        assert CHUNKED in await peer.head()
        assert await peer.read(len(body)) == body
        await peer.send(OK + length(0) + b"\r\n")
        peer.close()

    async def client() -> None:
        await chain.client.send(sent[early:])

    chain.run(chain.call(**BUILD, early=sent[:early]), daemon(), client())
    assert chain.exchange.left_over == b"GET /_ping HTTP/1.1\r\n\r\n"
    assert chain.exchange.keep


def test_large_upload_to_a_slow_daemon(chain):
    """The daemon's buffer is full while its answer is waited for too: neither wait may forget the other."""
    body = os.urandom(16 << 20)

    async def daemon() -> None:
        peer = await chain.listener.accept()
        await peer.head()
        while len(peer.buffer) < len(body):
            await chain.loop.wait({}, 0.0005)
            await peer.more()
        assert hashlib.sha256(peer.buffer).digest() == hashlib.sha256(body).digest()
        await peer.send(OK + length(0) + b"\r\n")

    async def client() -> None:
        await chain.client.send(body)

    chain.run(chain.call(**PUT, upload=len(body)), daemon(), client())
    assert chain.exchange.keep


def test_answer_that_streams_while_the_upload_goes_on(chain):
    """docker-api 5: the builder of 28 answers while it reads; 20.10 reads the whole tar first."""

    async def daemon() -> None:
        peer = await chain.listener.accept()
        await peer.head()
        await peer.send(OK + CHUNKED + b"\r\n" + chunk(b"step 1"))
        await chain.client.head()
        assert await chain.client.read(11) == chunk(b"step 1")
        await chain.client.send(chunk(b"tar"))
        assert await peer.read(8) == chunk(b"tar")
        await peer.send(chunk(b"step 2"))
        assert await chain.client.read(11) == chunk(b"step 2")
        await chain.client.send(b"0\r\n\r\n")
        assert await peer.read(5) == b"0\r\n\r\n"
        await peer.send(b"0\r\n\r\n")

    chain.run(chain.call(**BUILD), daemon())
    assert chain.exchange.keep


@pytest.mark.parametrize("leaves", ["half-closes", "closes", "stays"])
def test_early_404_during_an_upload(chain, leaves):
    """docker-api 2: PUT archive to a missing path is answered 404 while the upload runs; EPIPE is no error then."""
    body = b"x" * (8 << 20)

    async def daemon() -> None:
        peer = await chain.listener.accept()
        await peer.head()
        await peer.read(10)
        await peer.send(b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
        if leaves == "half-closes":
            peer.half_close()
        elif leaves == "closes":
            peer.close()

    async def client() -> None:
        try:
            await chain.client.send(body)
        except BrokenPipeError:
            pass

    async def call() -> None:
        await chain.call(**PUT, upload=len(body))
        chain.leave()

    chain.run(call(), daemon(), client())
    assert chain.answer == b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n" + ID + b"Connection: close\r\n\r\n{}"
    assert not chain.exchange.keep


def test_early_answer_that_keeps_the_daemon_alive_ends_both_connections(chain):
    """The rest of the upload must not be read as the next request, by nobody."""

    async def daemon() -> None:
        peer = await chain.listener.accept()
        await peer.head()
        await peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        assert await peer.rest() == b""

    chain.run(chain.call(**PUT, upload=100), daemon())
    assert b"Connection: close\r\n" in chain.answer
    assert not chain.exchange.keep
    assert chain.daemon.sock is None


@pytest.mark.parametrize("early", [b"", b"GET / HTTP/1.1\r\n\r\n", b"5\r\nhel"])
def test_malformed_chunk(chain, early):
    async def daemon() -> None:
        peer = await chain.listener.accept()
        await peer.head()
        assert await peer.rest() in (b"", b"5\r\nhel", b"5\r\nhello")

    async def client() -> None:
        await chain.client.send(
            b"loGET / HTTP/1.1\r\n\r\n" if early.startswith(b"5") else b"5;x=y\r\nhello\r\n0\r\n\r\n"
        )

    chain.run(chain.call(**BUILD, early=early), daemon(), client())
    assert isinstance(chain.end, Malformed)
    assert not chain.exchange.sent
    assert chain.daemon.sock is None


def test_upload_that_is_broken_off_reaches_no_end(chain):
    """The daemon must see that the tar is cut, not a whole one."""

    async def daemon() -> None:
        peer = await chain.listener.accept()
        await peer.head()
        assert await peer.rest() == chunk(b"half")
        await peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    async def client() -> None:
        await chain.client.send(chunk(b"half"))
        chain.client.half_close()

    chain.run(chain.call(**BUILD), daemon(), client())
    assert chain.answer.startswith(b"HTTP/1.1 400 ")
    assert not chain.exchange.keep


def test_client_that_leaves_during_an_upload(chain):
    async def daemon() -> None:
        peer = await chain.listener.accept()
        await peer.head()
        await peer.read(8)
        await peer.rest()

    async def client() -> None:
        await chain.client.send(chunk(b"half"))
        await chain.loop.wait({}, 0.002)
        chain.client.close()

    chain.run(chain.call(**BUILD), daemon(), client())
    assert isinstance(chain.end, Gone)


@pytest.mark.parametrize("early", [b"", b"hel"])
def test_expect_is_answered_when_the_body_is_wanted(chain, early):
    """docker-api 1: `curl -T` waits for 100 Continue; who has sent some of the body already needs none."""

    async def daemon() -> None:
        peer = await chain.listener.accept()
        assert b"Expect" not in await peer.head()
        assert await peer.read(5) == b"hello"
        await peer.send(OK + length(0) + b"\r\n")

    async def client() -> None:
        if not early:
            assert await chain.client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await chain.client.send(b"hello"[len(early) :])

    chain.run(chain.call(**PUT, upload=5, expect=True, early=early), daemon(), client())
    assert not chain.exchange.sent
    with pytest.raises(BlockingIOError):
        chain.client.sock.recv(1)


def test_interim_answers_of_the_daemon_are_not_passed(chain):
    async def daemon() -> None:
        peer = await chain.listener.accept()
        await peer.request()
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n" + OK + length(0) + b"\r\n")

    chain.run(chain.call(**INSPECT), daemon())
    assert chain.answer.startswith(OK)


# --- the daemon is gone


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nConte", OK + length(10) + b"\r\nhello"])
def test_daemon_dies_before_the_client_got_anything(chain, said):
    """So a clean 502 is possible."""

    async def daemon() -> None:
        peer = await chain.listener.accept()
        await peer.request()
        await peer.send(said)
        peer.close()

    chain.run(chain.call(**INSPECT), daemon())
    assert isinstance(chain.end, Unavailable)
    assert chain.end.status == 502
    assert not chain.exchange.sent


@pytest.mark.parametrize("kind", ["length", "chunked"])
def test_daemon_dies_in_its_answer(chain, kind):
    """proxy-lessons: a daemon that dies is never turned into a clean end."""

    async def daemon() -> None:
        peer = await chain.listener.accept()
        await peer.request()
        await peer.send(OK + (length(100_000) if kind == "length" else CHUNKED) + b"\r\n" + chunk(b"half"))
        await chain.client.head()
        peer.close()

    async def rest() -> None:
        while await chain.client.more():
            pass

    chain.run(chain.call(**INSPECT), daemon())
    assert isinstance(chain.end, Unavailable)
    assert chain.exchange.sent
    chain.leave()
    chain.run(rest())
    assert chain.client.buffer == chunk(b"half")  # nothing follows: no chunk of length 0 was made up


def test_malformed_chunk_of_the_daemon(chain):
    async def daemon() -> None:
        peer = await chain.listener.accept()
        await peer.request()
        await peer.send(OK + CHUNKED + b"\r\n")
        await chain.client.head()
        await peer.send(b"5\r\nhello!!")

    chain.run(chain.call(**INSPECT), daemon())
    assert isinstance(chain.end, Unavailable)
    assert "malformed" in str(chain.end)


def test_malformed_chunk_at_once_is_a_clean_502(chain):
    async def daemon() -> None:
        peer = await chain.listener.accept()
        await peer.request()
        await peer.send(OK + CHUNKED + b"\r\nxyz\r\n")

    chain.run(chain.call(**INSPECT), daemon())
    assert isinstance(chain.end, Unavailable)
    assert not chain.exchange.sent


def test_upgrade_that_nobody_asked_for(chain):
    """docker-api 4: hijack by the endpoint and the daemon's status, never by one of them alone."""

    async def daemon() -> None:
        peer = await chain.listener.accept()
        await peer.request()
        await peer.send(UPGRADED)

    chain.run(chain.call(**INSPECT), daemon())
    assert isinstance(chain.end, Unavailable)


def test_daemon_that_is_not_there(chain):
    chain.listener.close()
    chain.run(chain.call(**INSPECT))
    assert isinstance(chain.end, Unavailable)


def test_restarted_daemon_is_found_again(chain):
    """proxy-lessons: a stale connection costs no call."""

    async def calls() -> None:
        await chain.call(**INSPECT)
        while chain.daemon._idle(chain.daemon.sock):
            await chain.loop.wait({}, 0.001)
        await chain.call(**INSPECT)
        assert chain.answer.endswith(b"ok")

    async def daemon() -> None:
        for _ in range(2):
            peer = await chain.listener.accept()
            await peer.request()
            await peer.send(OK + length(2) + b"\r\nok")
            peer.close()

    chain.run(calls(), daemon())


# --- the client is gone


def test_half_close_cancels_as_with_the_daemon_itself(chain):
    """docker-api 3: dockerd takes a half-close for a cancellation, and ends the answer with a last chunk."""

    async def daemon() -> None:
        peer = await chain.listener.accept()
        await peer.request()
        await peer.send(OK + CHUNKED + b"\r\n" + chunk(b"line"))
        await chain.client.head()
        chain.client.half_close()
        assert await peer.rest() == b""
        await peer.send(b"0\r\n\r\n")

    async def client() -> None:
        assert await chain.client.read(14) == chunk(b"line") + b"0\r\n\r\n"

    async def both() -> None:
        await daemon()
        await client()

    chain.run(chain.call(**LOGS), both())
    assert chain.end is None
    assert chain.exchange.keep  # a pipelined request may be behind
    assert chain.daemon.sock is None  # but this connection is half-closed for good


def test_end_of_the_request_body_is_no_half_close(chain):
    """docker-api 3: never half-close upstream just because the request body is finished."""

    async def daemon() -> None:
        peer = await chain.listener.accept()
        await peer.head()
        assert await peer.read(5) == b"hello"
        with pytest.raises(BlockingIOError):
            peer.sock.recv(1)
        await chain.loop.wait({}, 0.005)
        with pytest.raises(BlockingIOError):
            peer.sock.recv(1)
        await peer.send(OK + length(0) + b"\r\n")

    async def client() -> None:
        await chain.client.send(b"hello")

    chain.run(chain.call(**PUT, upload=5), daemon(), client())
    assert chain.exchange.keep


@pytest.mark.parametrize("when", ["before the head", "in the answer"])
@pytest.mark.parametrize("who", ["client", "front"])
def test_who_leaves_takes_the_daemons_work_along(chain, when, who):
    """docker-api 3: kill -9 of `docker logs -f` must not leave a follower behind."""

    async def daemon() -> None:
        peer = await chain.listener.accept()
        await peer.request()
        if when == "in the answer":
            await peer.send(OK + CHUNKED + b"\r\n" + chunk(b"line"))
            await chain.client.head()
            await chain.client.read(9)
        if who == "client":
            chain.client.close()
        else:
            chain.loop.close(chain.front)
        assert await peer.rest() == b""

    chain.run(chain.call(**LOGS), daemon())
    assert isinstance(chain.end, Gone)
    assert chain.daemon.sock is None


def test_client_that_leaves_while_the_daemon_floods(chain):
    async def daemon() -> None:
        peer = await chain.listener.accept()
        await peer.request()
        await peer.send(OK + CHUNKED + b"\r\n")
        await flood(peer, chunk(b"x" * 60_000))

    async def client() -> None:
        await chain.client.read(1_000_000)
        chain.client.close()

    chain.run(chain.call(**LOGS), daemon(), client())
    assert isinstance(chain.end, Gone)


def test_second_message_of_the_front_during_a_call_cancels_that(chain):
    async def daemon() -> None:
        peer = await chain.listener.accept()
        await peer.request()
        wire.send(chain.front, wire.pack({"op": "x"}), [])
        assert await peer.rest() == b""

    chain.run(chain.call(**INSPECT), daemon())
    assert isinstance(chain.end, Gone)
    assert chain.daemon.sock is None
    assert wire.unpack(wire.receive(chain.channel)[0])[0] == {"op": "x"}


# --- streams


async def open_stream(chain: Chain) -> Peer:
    """Play the daemon and the client up to the 101."""
    peer = await chain.listener.accept()
    assert await peer.request() == (
        b"POST /v1.41/containers/x/attach HTTP/1.1\r\nHost: docker\r\n"
        b"Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n"
    )
    await peer.send(UPGRADED)
    assert await chain.client.head() == UPGRADED_THERE
    return peer


def test_stream_both_ways(chain):
    async def part() -> None:
        peer = await open_stream(chain)
        assert chain.told() == [{"sent": True}]
        for number in range(10):
            await chain.client.send(b"in%d" % number)
            assert await peer.read(3) == b"in%d" % number
            await peer.send(b"out%d" % number)
            assert await chain.client.read(4) == b"out%d" % number
        peer.close()
        assert await chain.client.rest() == b""
        chain.client.close()

    chain.run(chain.call(**ATTACH), part())
    assert chain.end is None
    assert not chain.exchange.keep
    assert (chain.exchange.bytes_in, chain.exchange.status) == (30, 101)


def test_early_bytes_of_the_client_wait_for_the_101(chain):
    """docker-api 4: bytes that come together with the head are lost by dockerd: they go after its 101."""

    async def part() -> None:
        peer = await chain.listener.accept()
        await peer.request()
        await chain.client.send(b"later ")
        await chain.loop.wait({}, 0.005)
        with pytest.raises(BlockingIOError):
            peer.sock.recv(1)
        await peer.send(UPGRADED)
        assert await peer.read(12) == b"early later "
        peer.close()
        await chain.client.rest()
        chain.client.close()

    chain.run(chain.call(**ATTACH, early=b"early "), part())


def test_101_in_pieces_with_output_behind_it(chain):
    """docker-api 4: the head may arrive in pieces, with stream bytes in the same segment."""

    async def part() -> None:
        peer = await chain.listener.accept()
        await peer.request()
        for piece in (UPGRADED[:20], UPGRADED[20:50], UPGRADED[50:] + b"output"):
            await peer.send(piece)
            await chain.loop.wait({}, 0.001)
        assert await chain.client.head() == UPGRADED_THERE
        assert await chain.client.read(6) == b"output"
        peer.close()
        chain.client.close()

    chain.run(chain.call(**ATTACH), part())


def test_half_close_of_the_client_is_the_end_of_stdin_only(chain):
    """docker-api 3: `docker run` without -i half-closes 0.2 ms after the 101; the output still comes."""

    async def part() -> None:
        peer = await open_stream(chain)
        await chain.client.send(b"stdin")
        chain.client.half_close()
        assert await peer.rest() == b"stdin"
        await chain.loop.wait({}, 0.01)
        await peer.send(b"one second later")
        assert await chain.client.read(16) == b"one second later"
        peer.close()
        assert await chain.client.rest() == b""
        chain.client.close()

    chain.run(chain.call(**ATTACH), part())
    assert chain.end is None


def test_a_stream_holds_nothing_of_its_call(chain):
    """It may last for days, and there may be thousands."""

    async def part() -> None:
        peer = await open_stream(chain)
        call = chain.exchange._call
        assert [call.headers, call.query, call.variables, call.early] == [{}, [], {}, b""]
        await chain.client.send(b"stdin")
        assert await peer.read(5) == b"stdin"
        peer.close()
        chain.client.close()

    chain.run(chain.call(**ATTACH), part())


def test_half_close_of_the_daemon_leaves_stdin_open(chain):
    async def part() -> None:
        peer = await open_stream(chain)
        await peer.send(b"output")
        peer.half_close()
        assert await chain.client.rest() == b"output"
        await chain.client.send(b"more")
        assert await peer.read(4) == b"more"
        chain.client.close()
        assert await peer.rest() == b""
        peer.close()

    chain.run(chain.call(**ATTACH), part())


def test_half_close_before_the_101(chain):
    """A client that has no stdin may say so at once."""

    async def part() -> None:
        peer = await chain.listener.accept()
        await peer.request()
        await peer.send(UPGRADED)
        await chain.client.head()
        assert await peer.rest() == b"in"
        await peer.send(b"out")
        peer.close()
        assert await chain.client.rest() == b"out"
        chain.client.close()

    chain.client.sock.send(b"in")
    chain.client.half_close()
    chain.run(chain.call(**ATTACH), part())


def test_attach_without_upgrade_is_a_raw_200(chain):
    """docker-api 4: the same without Upgrade: 200, no length, no chunks, raw until the end."""

    async def part() -> None:
        peer = await chain.listener.accept()
        assert b"Upgrade" not in await peer.request()
        await peer.send(OK + b"Content-Type: application/vnd.docker.raw-stream\r\n\r\n")
        head = await chain.client.head()
        assert head == OK + b"Content-Type: application/vnd.docker.raw-stream\r\n" + ID + b"\r\n"
        await chain.client.send(b"stdin")
        assert await peer.read(5) == b"stdin"
        chain.client.half_close()
        assert await peer.rest() == b""
        await peer.send(b"output")
        peer.close()
        assert await chain.client.rest() == b"output"
        chain.client.close()

    chain.run(chain.call(**{**ATTACH, "upgrade": ""}), part())
    assert chain.end is None


def test_exec_with_detach_is_an_ordinary_answer(chain):
    """docker-api 4: `Detach:true` gives a plain 200."""

    async def daemon() -> None:
        peer = await chain.listener.accept()
        assert (await peer.request()).endswith(b'\r\n\r\n{"Detach":true}')
        await peer.send(OK + length(0) + b"\r\n")

    call = chain.call("ExecStart", vars={"id": "x"}, upgrade="tcp", body=b'{"Detach":true}', early=b"next")
    chain.run(call, daemon())
    assert chain.exchange.keep
    assert chain.exchange.left_over == b"next"


@pytest.mark.parametrize("who", ["client", "front", "daemon"])
def test_full_close_ends_a_stream(chain, who):
    async def part() -> None:
        peer = await open_stream(chain)
        if who == "client":
            chain.client.close()
            assert await peer.rest() == b""
        elif who == "front":
            chain.loop.close(chain.front)
            assert await peer.rest() == b""
        else:
            peer.close()
            assert await chain.client.rest() == b""
            chain.client.close()

    chain.run(chain.call(**ATTACH), part())
    assert isinstance(chain.end, Gone if who == "front" else None.__class__)
    assert chain.daemon.sock is None


def test_stream_that_is_cut_here_does_not_look_whole(chain, monkeypatch):
    """No descriptors left for a pipe: the stream ends both ways, and stdin is not passed off as finished."""

    def take() -> tuple[int, int]:
        raise OSError("Too many open files")

    async def part() -> None:
        peer = await open_stream(chain)
        monkeypatch.setattr(pipes, "take", take)
        await chain.client.send(b"stdin")
        assert await peer.rest() == b""
        assert chain.daemon.sock is None  # closed, not half-closed

    chain.run(chain.call(**ATTACH), part())


def test_close_after_the_half_close_ends_a_stream(chain):
    """A client that was killed after its stdin had ended: the attach must not stay."""

    async def part() -> None:
        peer = await open_stream(chain)
        chain.client.half_close()
        assert await peer.rest() == b""
        await chain.loop.wait({}, 0.002)
        chain.client.close()
        await flood(peer, b"x")

    chain.run(chain.call(**ATTACH), part())


@pytest.mark.parametrize("size", [1 << 20, 8 << 20])
def test_bulk_both_ways_at_once(chain, size):
    """proxy-lessons: 20 MB on stdin hung others; nothing is lost when the writer leaves at once."""
    one, other, peers = os.urandom(size), os.urandom(size), []

    async def daemon() -> None:
        peer = await open_stream(chain)
        peers.append(peer)
        chain.loop.spawn(out(peer.twin()))
        assert await peer.rest() == one

    async def out(peer: Peer) -> None:
        await peer.send(other)
        peer.half_close()
        peer.close()

    async def client() -> None:
        while not peers:
            await chain.loop.wait({}, 0.001)
        await chain.client.send(one)
        chain.client.half_close()

    async def output() -> None:
        while not peers:
            await chain.loop.wait({}, 0.001)
        twin = chain.client.twin()
        twin.buffer = chain.client.buffer
        assert await twin.rest() == other
        twin.close()

    chain.run(chain.call(**ATTACH), daemon(), client(), output())
    assert chain.end is None
    assert (chain.exchange.bytes_in, chain.exchange.bytes_out) == (size, size + len(UPGRADED_THERE))


def turns(chain: Chain) -> list[float]:
    """Count how often the loop polls from now on."""
    counted: list[float] = []
    poll = chain.loop._poll

    def count() -> None:
        counted.append(1)
        poll()

    chain.loop._poll = count
    return counted


def test_stalled_client_of_an_ended_container_costs_nothing(chain):
    """The daemon has closed and the client does not read (Ctrl-S): its hang-up must not make the loop spin."""

    async def part() -> None:
        peer = await open_stream(chain)
        output = os.urandom(3 << 20)
        sending = True

        async def send() -> None:
            nonlocal sending
            await peer.send(output)
            peer.close()
            sending = False

        chain.loop.spawn(send())
        got = b""
        while sending:
            got += await chain.client.read(10_000)
        await chain.loop.wait({}, 0.002)
        counted = turns(chain)
        await chain.loop.wait({}, 0.05)
        assert len(counted) < 5
        got += await chain.client.rest()
        assert got == output
        chain.client.close()

    chain.run(chain.call(**ATTACH), part())


def test_stdin_that_nobody_reads_costs_nothing_after_the_client_left(chain):
    """And what the client had sent before it closed still arrives."""

    async def part() -> None:
        peer = await open_stream(chain)
        sent = 0
        while True:
            try:
                sent += chain.client.sock.send(b"x" * 10_000)
            except BlockingIOError:
                await chain.loop.wait({}, 0.005)
                try:
                    sent += chain.client.sock.send(b"x")
                except BlockingIOError:
                    break
        chain.client.close()
        await chain.loop.wait({}, 0.002)
        counted = turns(chain)
        await chain.loop.wait({}, 0.05)
        assert len(counted) < 5
        assert len(await peer.rest()) == sent
        peer.close()

    chain.run(chain.call(**ATTACH), part())


def test_half_closed_client_costs_nothing(chain):
    """Its hang-up stays true: it may be looked at once only."""

    async def daemon() -> None:
        peer = await chain.listener.accept()
        await peer.request()
        await peer.send(OK + CHUNKED + b"\r\n")
        await chain.client.head()
        chain.client.half_close()
        assert await peer.rest() == b""
        counted = turns(chain)
        await chain.loop.wait({}, 0.05)
        assert len(counted) < 5
        await peer.send(b"0\r\n\r\n")

    chain.run(chain.call(**LOGS), daemon())


def test_idle_stream_is_not_cut_and_costs_nothing(chain):
    """proxy-lessons: no time-out on an approved call: the loop holds no timer for it at all."""

    async def part() -> None:
        peer = await open_stream(chain)
        await chain.loop.wait({}, 0.002)
        timers = len(chain.loop._timers)
        counted = turns(chain)
        await chain.loop.wait({}, 0.05)
        assert len(counted) < 5
        assert len(chain.loop._timers) <= timers + 1
        await peer.send(b"x")
        assert await chain.client.read(1) == b"x"
        peer.close()
        chain.client.close()

    chain.run(chain.call(**ATTACH), part())


def test_descriptors_sent_over_a_stream_are_dropped(chain):
    """A client may attach descriptors to its bytes: nobody takes them."""

    async def part() -> None:
        peer = await open_stream(chain)
        before = descriptors()
        read, write = os.pipe()
        socket.send_fds(chain.client.sock, [b"x"], [write])
        os.close(write)
        assert await peer.read(1) == b"x"
        assert os.read(read, 1) == b""  # the last writer is gone
        os.close(read)
        assert_closed(before + 2)
        peer.close()
        chain.client.close()

    chain.run(chain.call(**ATTACH), part())


def test_a_call_leaves_no_descriptor_behind(chain):
    async def part() -> None:
        peer = await open_stream(chain)
        await peer.send(b"x" * 100_000)
        await chain.client.read(100_000)
        peer.close()
        chain.client.half_close()

    before = descriptors()
    chain.run(chain.call(**ATTACH), part())
    assert_closed(before + 2)  # a pipe in the pool
