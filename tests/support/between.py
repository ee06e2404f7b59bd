"""Something between sockproxy and an engine, that lets a test act in the moment before a request reaches the engine."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path


class Between:
    """Pass all that is said, and call a function before the bytes that have a mark are passed on.

    Attributes:
        socket: the path to connect to in place of the engine's.
        mark: what to wait for in requests; empty for nothing.
        act: called with no connection blocked but that one.
    """

    def __init__(self, path: Path, engine: str) -> None:
        self.socket, self._engine, self.mark = str(path), engine, b""
        self.act: Callable[[], object] = lambda: None
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.socket)
        self._listener.listen(64)
        self._start(self._serve)

    def _start(self, function: Callable[..., None], *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=function, args=arguments, daemon=True)
        thread.start()
        return thread

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                ours, _ = self._listener.accept()
                self._start(self._connect, ours)

    def _connect(self, ours: socket.socket) -> None:
        with ours, socket.socket(socket.AF_UNIX) as theirs:
            theirs.connect(self._engine)
            answers = self._start(self._pass, theirs, ours, False)
            self._pass(ours, theirs, True)
            answers.join()

    def _pass(self, source: socket.socket, to: socket.socket, asks: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if asks and self.mark and self.mark in data:
                    self.act()
                to.sendall(data)
        for one, how in ((to, socket.SHUT_WR), (source, socket.SHUT_RD)):
            with contextlib.suppress(OSError):
                one.shutdown(how)

    def stop(self) -> None:
        """Take no more connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
