"""Accept connections, also when descriptors are short."""

from __future__ import annotations

import socket
import sys

import trio

PAUSE = 0.05  # seconds without descriptors: accept again when some may have come free


async def accept(listener: socket.socket, name: str) -> socket.socket:
    """Wait for the next connection.

    Args:
        listener: non-blocking.
        name: of who accepts, for what is said of missing descriptors.
    """
    while True:
        await trio.lowlevel.wait_readable(listener)
        try:
            sock, _ = listener.accept()
        except BlockingIOError:
            continue
        except OSError as error:  # no descriptors left (accept(2)): those in use come free
            print(f"sockproxy {name}: accept: {error.strerror}", file=sys.stderr)
            await trio.sleep(PAUSE)
            continue
        sock.setblocking(False)
        return sock
