"""Requests of the daemon to our volume plugin: whole, byte by byte, and what is none."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from sockproxy_helpers.channel.loop import Loop
from sockproxy_helpers.errors import Malformed
from sockproxy_helpers.folders.plugin import LARGEST, Connection, Message, Requests
from tests.helpers.support import Peer, run

# As dockerd 28 sends them
ACTIVATE = (
    b"POST /Plugin.Activate HTTP/1.1\r\nHost: plugin\r\nUser-Agent: Go-http-client/1.1\r\nContent-Length: 0\r\n\r\n"
)
MOUNT = (
    b"POST /VolumeDriver.Mount HTTP/1.1\r\nHost: plugin\r\nTransfer-Encoding: chunked\r\n"
    b"Accept: application/vnd.docker.plugins.v1.2+json\r\n\r\n1c\r\n"
    b'{"Name":"sockproxy-1","ID":"\r\n4\r\nab"}\r\n0\r\n\r\n'
)
SIZED = b'POST /VolumeDriver.Get HTTP/1.1\r\nContent-Length: 13\r\n\r\n{"Name": "x"}'
EXPECTED: list[tuple[str, Message]] = [
    ("Plugin.Activate", {}),
    ("VolumeDriver.Mount", {"Name": "sockproxy-1", "ID": "ab"}),
    ("VolumeDriver.Get", {"Name": "x"}),
]


def read(*pieces: bytes) -> list[tuple[str, Message]]:
    requests, found = Requests(), []
    for piece in pieces:
        requests.feed(piece)
        while request := requests.next():
            found.append(request)
    return found


def test_requests_do_not_depend_on_their_pieces() -> None:
    text = ACTIVATE + MOUNT + SIZED
    assert read(text) == EXPECTED
    assert read(*(text[at : at + 1] for at in range(len(text)))) == EXPECTED
    for at in range(len(text)):
        assert read(text[:at], text[at:]) == EXPECTED


def post(*fields: str, body: bytes = b"") -> bytes:
    return "\r\n".join(["POST /VolumeDriver.Get HTTP/1.1", *fields, "", ""]).encode("latin-1") + body


@pytest.mark.parametrize(
    "text",
    [
        b"GET /VolumeDriver.Get HTTP/1.1\r\n\r\n",
        b"POST /VolumeDriver.Get HTTP/1.0\r\n\r\n",
        b"POST /VolumeDriver.Get/x HTTP/1.1\r\n\r\n",
        b"POST /../VolumeDriver.Get HTTP/1.1\r\n\r\n",
        b"\r\n\r\n",
        post("Content-Length: -1"),
        post("Content-Length: +1", body=b"1"),
        post("Content-Length: 1_0", body=b"{}        "),
        post("Content-Length: \xb2", body=b"{}"),
        post("Content-Length: 2", "Content-Length: 2", body=b"{}"),
        post("Content-Length: 2", "Transfer-Encoding: chunked", body=b"{}"),
        post("Content-Length : 2", body=b"{}"),
        post("Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"),
        post("Transfer-Encoding: chunked", body=b"2;x\r\n{}\r\n0\r\n\r\n"),
        post("Transfer-Encoding: chunked", body=b"-2\r\n{}\r\n0\r\n\r\n"),
        post("Content-Length: 2", body=b"[]"),
        post("Content-Length: 1", body=b"{"),
        post("Content-Length: 12", body=b'{"Name":"\xff"}'),
        post("Content-Length: 60000", body=b"[" * 60000),
        post(f"Content-Length: {LARGEST + 1}"),
        post("X: " + "x" * LARGEST),
        b"x" * (LARGEST + 4),
        post("Transfer-Encoding: chunked", body=b"%x\r\n%b\r\n0\r\n\r\n" % (LARGEST + 1, b" " * (LARGEST + 1))),
    ],
    ids=lambda text: repr(text[:60]),
)
def test_what_is_none_ends_the_connection(text: bytes) -> None:
    with pytest.raises(Malformed):
        read(text)
    with pytest.raises(Malformed):
        read(*(text[at : at + 1] for at in range(len(text) if len(text) < 1000 else 0)), text)


def test_what_never_ends_is_not_kept() -> None:
    """Of what a peer sends no more is held than the largest request has."""
    requests, text = Requests(), post("Transfer-Encoding: chunked") + b"20\r\n%b\r\n" % (b" " * 32) * LARGEST
    taken = 0
    for at in range(0, len(text), 512):
        requests.feed(text[at : at + 512])
        try:
            requests.next()
        except Malformed:
            break
        taken += 512
    assert taken < 2 * LARGEST
    assert len(requests._content) < LARGEST + 512


def test_a_connection_answers_one_after_the_other_and_ends_at_nonsense() -> None:
    loop, asked = Loop(), list[str]()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    daemon = Peer(loop, theirs)
    answers: list[Any] = []

    async def answer(method: str, message: Message, connection: Connection) -> Message:
        asked.append(method)
        return {"Err": "no such thing"} if message else {"Implements": ["VolumeDriver"]}

    async def ask() -> None:
        for piece in (ACTIVATE, MOUNT[:50], MOUNT[50:]):
            await daemon.send(piece)
        for status in (b"HTTP/1.1 200 OK", b"HTTP/1.1 500 Internal Server Error"):
            head = await daemon.head()
            assert head.startswith(status + b"\r\n")
            length = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
            answers.append(json.loads(await daemon.read(length)))
        await daemon.send(b"nonsense\r\n\r\n")
        assert await daemon.rest() == b""
        daemon.close()

    run(loop, Connection(loop, ours, 1, answer).serve(), ask())
    assert asked == ["Plugin.Activate", "VolumeDriver.Mount"]
    assert answers == [{"Implements": ["VolumeDriver"]}, {"Err": "no such thing"}]
