"""A mediation between two socket pairs: a client by hand, and a daemon that answers what it is told and takes notes."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import quote

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import trio

from sockproxy.buildkit import methods
from sockproxy.buildkit.helper import Helper
from sockproxy.buildkit.mediate import Mediation
from sockproxy.buildkit.request import Facts
from sockproxy_helpers.channel import wire
from tests.support.grpc import SCHEMA, Grpc
from tests.support.judging import DEVELOPER

HEAD = b"HTTP/1.1 101 UPGRADED\r\n\r\n"
# By path: what comes, or what forms that of a call's message; a text is an error, and None never comes to an end.
Answers = dict[str, list[bytes] | Callable[[bytes], list[bytes] | str | None]]


def facts(
    rules: dict[str, object] | None = None, operations: tuple[str, ...] = ("ImagePush", "BuildPrune")
) -> dict[str, Any]:
    """Form what the root helper says of a developer, kim."""
    return {
        "who": {"uid": 1000, "gid": 1000, "pid": 1, "user": "kim", "groups": ["kim"]},
        "role": "developer",
        "at": "r:1",
        "rules": {name: [value, "r:2"] for name, value in (DEVELOPER | (rules or {})).items()},
        "operations": list(operations),
        "rid": "00" * 8,
        "cgroup": "",
    }


class Daemon(threading.Thread):
    """Answer each call, and note what came.

    Attributes:
        calls: path, head and message of each.
    """

    def __init__(self, sock: socket.socket, answers: Answers) -> None:
        super().__init__(daemon=True)
        self._sock, self._answers = sock, answers
        self.calls: list[tuple[str, dict[str, str], bytes]] = []
        self._heads: dict[int, dict[str, str]] = {}
        self._bodies: dict[int, bytes] = {}

    def run(self) -> None:
        """Serve until the connection ends."""
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        connection.initiate_connection()
        try:
            self._sock.sendall(connection.data_to_send())
            while data := self._sock.recv(65536):
                for event in connection.receive_data(data):
                    self._take(connection, event)
                self._sock.sendall(connection.data_to_send())
        except OSError:
            pass
        self._sock.close()

    def _take(self, connection: h2.connection.H2Connection, event: h2.events.Event) -> None:
        number = getattr(event, "stream_id", 0)
        if isinstance(event, h2.events.RequestReceived):
            self._heads[number], self._bodies[number] = {str(k): str(v) for k, v in event.headers}, b""
        elif isinstance(event, h2.events.DataReceived):
            self._bodies[number] += event.data or b""
            connection.acknowledge_received_data(event.flow_controlled_length or 0, number)
        elif isinstance(event, h2.events.StreamEnded):
            path = self._heads[number][":path"]
            self.calls.append((path, self._heads[number], self._bodies[number][5:]))
            answers = self._answers.get(path, [b""])
            found = answers(self.calls[-1][2]) if callable(answers) else answers
            with suppress(h2.exceptions.ProtocolError):  # it has been broken off since
                self._answer(connection, number, found)

    def _answer(self, connection: h2.connection.H2Connection, number: int, found: list[bytes] | str | None) -> None:
        connection.send_headers(number, [(":status", "200"), ("content-type", "application/grpc")])
        for answer in found if isinstance(found, list) else ():
            connection.send_data(number, struct.pack(">BI", 0, len(answer)) + answer)
        failed = [("grpc-status", "2"), ("grpc-message", quote(found))] if isinstance(found, str) else []
        if found is not None:
            connection.send_headers(number, failed or [("grpc-status", "0")], end_stream=True)


class RootHelper(threading.Thread):
    """Answer what the mediator asks, and note it."""

    def __init__(self, channel: socket.socket, answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        super().__init__(daemon=True)
        self._channel, self._answer = channel, answer
        self.asked: list[dict[str, Any]] = []

    def run(self) -> None:
        """Serve until the channel ends."""
        while untrusted := self._channel.recv(1 << 20):
            question, _ = wire.unpack(untrusted)
            self.asked.append(question)
            self._channel.sendall(wire.pack(self._answer(question)))
        self._channel.close()


class Mediated:
    """Hold all that is around a mediation."""

    def __init__(self, client: Grpc, daemon: Daemon, helper: RootHelper) -> None:
        self.client, self.daemon, self.helper = client, daemon, helper

    def sent(self, kind: str) -> Any:
        """Decode the message of the last call that the daemon has got."""
        return SCHEMA.parse(kind, self.daemon.calls[-1][2])


@contextmanager
def mediated(
    answers: Answers | None = None,
    told: dict[str, Any] | None = None,
    reply: Callable[[dict[str, Any]], dict[str, Any]] = lambda _: {"rid": "11" * 8, "foreign": []},
) -> Iterator[Mediated]:
    """Mediate between a client by hand and a daemon that takes notes."""
    client, ours = socket.socketpair()
    theirs, daemon_end = socket.socketpair()
    channel, root_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    daemon, helper = Daemon(daemon_end, answers or {}), RootHelper(root_end, reply)
    table = methods.load()

    def run() -> None:
        mediation = Mediation(SCHEMA, table, ours, theirs, Helper(channel), Facts(told or facts()))
        trio.run(mediation.run, HEAD, b"", b"")
        for sock in (ours, theirs, channel):
            sock.close()

    mediation = threading.Thread(target=run, daemon=True)
    for thread in (daemon, helper, mediation):
        thread.start()
    client.settimeout(20)
    got = b""
    while len(got) < len(HEAD):
        got += client.recv(len(HEAD) - len(got))
    assert got == HEAD
    grpc = Grpc(client)
    try:
        yield Mediated(grpc, daemon, helper)
    finally:
        grpc.close()
        for thread in (mediation, daemon, helper):
            thread.join(20)
            assert not thread.is_alive()
