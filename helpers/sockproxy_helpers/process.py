"""Be a process that somebody else starts: sockets and settings come in, readiness and the end are told."""

from __future__ import annotations

import os
import signal
import socket
import sys

from .confine import confine
from .errors import Refused
from .loop import IN, Loop
from .serve import Helper


def main(scope: str) -> None:
    """Run the helper of a scope until SIGTERM."""
    loop = Loop()
    helper = Helper(scope, loop, dict(os.environ))
    listener = socket.socket(fileno=_descriptor("helper"))
    listener.setblocking(False)
    if not confine((os.environ["SOCKPROXY_STATE"],)):
        print(f"sockproxy {scope}: this kernel has no Landlock: the helper is not confined", file=sys.stderr)
    loop.spawn(helper.listen(listener))
    loop.spawn(_obey(loop, helper, _catch_signals()))
    loop.spawn(_say_alive(loop))
    _notify("READY=1")
    loop.run()


def _catch_signals() -> tuple[socket.socket, socket.socket]:
    """Have the numbers of signals written to the second socket of a pair; readable at the first."""
    ours, wakeup = socket.socketpair()
    ours.setblocking(False)
    wakeup.setblocking(False)
    signal.set_wakeup_fd(wakeup.fileno())
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return ours, wakeup


async def _obey(loop: Loop, helper: Helper, signals: tuple[socket.socket, socket.socket]) -> None:
    """Reload on SIGHUP, end on SIGTERM; who started us passes SIGINT on as that."""
    while True:
        await loop.wait({signals[0].fileno(): IN})
        for received in signals[0].recv(64):
            if received == signal.SIGHUP:
                _reload(helper)
            elif received == signal.SIGTERM:
                loop.stop()


async def _say_alive(loop: Loop) -> None:
    """Tell who started us, as often as it wants to hear it, that the loop goes round (sd_watchdog_enabled(3))."""
    pause = int(os.environ.get("WATCHDOG_USEC", "0")) / 3e6
    while pause:
        await loop.wait({}, pause)
        _notify("WATCHDOG=1")


def _reload(helper: Helper) -> None:
    try:
        helper.reload()
    except (Refused, OSError) as error:
        print(f"sockproxy {helper.scope}: the old policy stays: {error}", file=sys.stderr)


def _descriptor(name: str) -> int:
    """Find a socket that was passed to this process, by its name (sd_listen_fds(3))."""
    if os.environ.get("LISTEN_PID", str(os.getpid())) != str(os.getpid()):
        raise SystemExit("the passed sockets are not for this process")
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    if name not in names:
        raise SystemExit(f"no socket named {name} was passed (LISTEN_FDNAMES)")
    return 3 + names.index(name)


def _notify(state: str) -> None:
    """Tell who started us (sd_notify(3))."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(state.encode(), "\0" + path[1:] if path.startswith("@") else path)
