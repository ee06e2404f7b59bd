"""A daemon that misbehaves on demand, where a real one can't be made to."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from tests.bench import upstream

ID = "c" * 64
Answer = Callable[[socket.socket, bytes], None]


class Daemon:
    """Serve as the benchmark's upstream does, but for what `answer` takes over.

    Attributes:
        answer: given a connection and a request's head, instead of an answer; None is for good behaviour. The
            connection is closed after it.
    """

    version = "faulty"

    def __init__(self, folder: Path) -> None:
        self.folder, self.plugin_dir = folder, folder / "plugins"
        self.socket = str(folder / "docker.sock")
        self._answer: Answer | None = None
        self._open: set[socket.socket] = set()
        self._accepting: threading.Thread | None = None
        self.start()

    def start(self) -> None:
        """Listen."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.socket)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.socket)
        os.chmod(self.socket, 0o600)
        self._listener.listen(4096)
        self._accepting = threading.Thread(target=self._accept, args=(self._listener,), daemon=True)
        self._accepting.start()

    def stop(self) -> None:
        """Go away as one that is killed: listener and connections end."""
        self._listener.shutdown(socket.SHUT_RDWR)
        assert self._accepting
        self._accepting.join()
        self._listener.close()
        self._drop()

    def _drop(self) -> None:
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    @property
    def answer(self) -> Answer | None:
        """How requests are answered."""
        return self._answer

    @answer.setter
    def answer(self, answer: Answer | None) -> None:
        """Answer otherwise, on all connections: those that there are end."""
        self._answer = answer
        self._drop()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._open)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            self._open.add(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        try:
            with sock, contextlib.suppress(OSError):
                if self.answer is None:
                    upstream.serve(sock)
                else:
                    self._misbehave(sock, self.answer)
        finally:
            self._open.discard(sock)

    def _misbehave(self, sock: socket.socket, answer: Answer) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            more = sock.recv(65536)
            if not more:
                return
            data += more
        answer(sock, data)
