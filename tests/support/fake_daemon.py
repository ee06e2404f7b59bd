"""A daemon that only takes notes: it shows what would have reached Docker.

For assertions on what is sent to the daemon, and on that nothing is. What clients and engines do together is tested
with real engines.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
from pathlib import Path

from tests.support import engines

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 3\r\n\r\n{}\n"
IMAGE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 82\r\n\r\n"
IMAGE += b'{"Id": "sha256:' + 64 * b"1" + b'"}\n'
_IMAGE = re.compile("GET /images/[^ ]*/json ")  # sockproxy's own question: nothing is run before it is known
# What helpers ask at any time, nobody having asked them: who has containers, what ends, which reader is left.
_OWN = (
    b"GET /containers/json?all=1&filters=%7B%22label%22%3A%20%5B%22io.sockproxy.owner%22%5D%7D ",
    b"GET /events?filters=%7B%22type%22%3A%20%5B%22container%22%2C%20%22volume%22%5D",
    b"GET /containers/json?all=1&filters=%7B%22name%22%3A%20%5B%22%5E%2Fsockproxy-",
)
_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked\r\n", re.IGNORECASE)


class FakeDaemon:
    """Take notes of all bytes received; answer each request with 200 and an empty object. Stands in for an Engine.

    Each name is an image's.

    Attributes:
        received: all bytes, of all connections, in the order of their coming.
        requests: the request lines.
        connections: how many were accepted.
    """

    version = "fake"

    def __init__(self, folder: Path) -> None:
        self.folder, self.plugin_dir = folder, folder / "plugins"
        self.socket = str(folder / "docker.sock")
        client = engines.client()
        self.cli, self.plugins = client.docker, client.plugins
        self.received, self.connections = b"", 0
        self.requests: list[str] = []
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.socket)
        os.chmod(self.socket, 0o600)
        self._listener.listen(64)
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def clean(self) -> None:
        """Do nothing: there are no containers."""

    def forget(self) -> None:
        """Forget what was received."""
        self.received = b""
        self.requests.clear()

    def stop(self) -> None:
        """End it."""
        for sock in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.add(sock)
            self._threads.append(threading.Thread(target=self._serve, args=(sock,)))
            self._threads[-1].start()

    def _serve(self, sock: socket.socket) -> None:
        data = b""
        with sock, contextlib.suppress(OSError):
            while True:
                while (end := _end(data)) is None:
                    more = sock.recv(65536)
                    if not more:
                        return
                    data += more
                    self.received += b"" if data.startswith(_OWN) else more
                request = data.partition(b"\r\n")[0].decode("latin-1")
                if not data.startswith(_OWN):
                    self.requests.append(request)
                data = data[end:]
                sock.sendall(IMAGE if _IMAGE.match(request) else ANSWER)


def _end(data: bytes) -> int | None:
    """Find where the first request ends, as a lenient server would."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = data[: end + 2]
    if _CHUNKED.search(head):
        last = data.find(b"0\r\n\r\n", end + 4)
        return None if last < 0 else last + 5
    length = _LENGTH.search(head)
    size = end + 4 + (int(length[1]) if length else 0)
    return size if len(data) >= size else None
