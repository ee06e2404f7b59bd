"""Be a process that somebody else starts: sockets come in, signals are events, that it lives is told."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine

from .loop import IN, Loop, Wait, Want
from .notify import Watchdog

PAUSE = 0.05  # seconds without descriptors: accept again when some may have come free


def descriptor(name: str) -> int:
    """Find a socket that was passed to this process, by its name (sd_listen_fds(3))."""
    if os.environ.get("LISTEN_PID", str(os.getpid())) != str(os.getpid()):
        raise SystemExit("the passed sockets are not for this process")
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    if name not in names:
        raise SystemExit(f"no socket named {name} was passed (LISTEN_FDNAMES)")
    return 3 + names.index(name)


def listener(name: str) -> socket.socket:
    """Give a passed listening socket, non-blocking."""
    sock = socket.socket(fileno=descriptor(name))
    sock.setblocking(False)
    return sock


async def accept(
    loop: Loop, listener: socket.socket, name: str, serve: Callable[[socket.socket], Coroutine[Wait, Want, None]]
) -> None:
    """Accept connections for ever; each is served as a task of its own."""
    while True:
        try:
            sock, _ = listener.accept()
        except BlockingIOError:
            await loop.wait({listener.fileno(): IN})
        except OSError as error:  # no descriptors left (accept(2)): those in use come free
            print(f"sockproxy {name}: accept: {error.strerror}", file=sys.stderr)
            await loop.wait({}, PAUSE)
        else:
            sock.setblocking(False)
            loop.spawn(serve(sock))


def catch_signals() -> tuple[socket.socket, socket.socket]:
    """Have the numbers of signals written to the second socket of a pair; readable at the first."""
    ours, wakeup = socket.socketpair()
    ours.setblocking(False)
    wakeup.setblocking(False)
    signal.set_wakeup_fd(wakeup.fileno())
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return ours, wakeup


async def say_alive(loop: Loop) -> None:
    """Tell who started us that the loop goes round."""
    watchdog = Watchdog()
    while watchdog.pause:
        await loop.wait({}, watchdog.pause)
        watchdog.alive()
