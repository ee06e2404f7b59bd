"""The fault of what happens while a connection is lent to a helper; see `faults`."""

from __future__ import annotations

import os
import signal
import socket

from tests.faults.scene import BODY, LIST, WHOLE, Scene
from tests.support.proxy import eventually
from tests.support.raw import Connection


def lent_connections(scene: Scene, count: int) -> None:
    """While a connection is lent to a helper: a client that leaves at each byte of what it says again, cut answers."""
    at, whole = [-1], [WHOLE[0]]

    def answer(sock: socket.socket, head: bytes) -> None:
        while head:
            sock.sendall(whole[0] if at[0] < 0 else whole[0][: at[0]])
            head = b"" if at[0] >= 0 else sock.recv(65536)

    scene.daemon.answer = answer
    eventually(lambda: _answers_without_front(scene), "a loan")
    tried = 0
    for whole[0] in WHOLE:
        for cut in range(0, len(whole[0]), max(1, len(whole[0]) // count)):
            tried += 1
            with _lent(scene) as connection:
                at[0] = cut
                connection.request("GET", LIST)
                connection.half_close()
                head, _, body = connection.rest().partition(b"\r\n\r\n")
                at[0] = -1
            if not head.startswith(b"HTTP/1.1 502 "):
                sent = whole[0].partition(b"\r\n\r\n")[2]
                assert sent.startswith(body), body
                assert len(body) < len(sent), cut
    again = f"GET {LIST} HTTP/1.1\r\nHost: docker\r\n\r\n".encode()
    for end in range(0, len(again) + 1, max(1, len(again) // count)):
        tried += 1
        with _lent(scene) as connection:
            connection.send(again[:end])
            if end % 3 == 0:
                connection.half_close()
    scene.said.append(f"{tried} times, no cut answer looked whole")


def _lent(scene: Scene) -> Connection:
    """Ask until the connection is lent: the first time is read, the second remembered."""
    connection = scene.connect()
    for _ in range(3):
        assert connection.call("GET", LIST).body == BODY
    return connection


def _answers_without_front(scene: Scene) -> bool:
    front = scene.proxy.processes["front"]
    with _lent(scene) as connection:
        os.kill(front, signal.SIGSTOP)
        connection.sock.settimeout(1.0)
        try:
            return connection.call("GET", LIST).body == BODY
        except TimeoutError:  # it had been given back before that
            return False
        finally:
            os.kill(front, signal.SIGCONT)
