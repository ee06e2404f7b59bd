"""Tell who started us how it goes (sd_notify(3)): `sockproxy up`, or systemd. Nobody may be listening."""

from __future__ import annotations

import os
import socket
import time


def notify(state: str) -> None:
    """Tell it once, "READY=1"."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            _send(sock, path, state)


class Watchdog:
    """Tell, as often as who started us wants to hear it, that the loop goes round (sd_watchdog_enabled(3)).

    Attributes:
        pause: seconds within which `alive` should be called again; 0.0: nobody wants to hear.
    """

    def __init__(self) -> None:
        """Prepare. A process may give up making sockets afterwards."""
        self._path, self._next = os.environ.get("NOTIFY_SOCKET", ""), 0.0
        self.pause = int(os.environ.get("WATCHDOG_USEC", "0")) / 3e6 if self._path else 0.0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if self.pause else None

    def alive(self) -> None:
        """Say so, unless that was said a moment ago."""
        now = time.monotonic()
        if self._socket and now >= self._next:
            self._next = now + self.pause / 2
            _send(self._socket, self._path, "WATCHDOG=1")

    def accept(self, listener: socket.socket) -> socket.socket:
        """Wait for a connection, however long, and say so meanwhile."""
        listener.settimeout(self.pause or None)
        while True:
            self.alive()
            try:
                return listener.accept()[0]
            except TimeoutError:
                continue


def _send(sock: socket.socket, path: str, state: str) -> None:
    sock.sendto(state.encode(), "\0" + path[1:] if path.startswith("@") else path)
