"""Be a process that somebody else starts: sockets and settings come in, readiness and the end are told."""

from __future__ import annotations

import os
import signal
import socket
import sys

from .cgroupfs import Cgroups, find
from .confine import confine
from .daemon import Daemon
from .errors import Refused
from .loop import IN, Loop
from .serve import Helper

PLACING = ("lifecycle", "filesystem")  # who has the daemon start something: containers, steps of builds
KEEPER = "lifecycle"  # who keeps the cgroups up to date
LAST = 2.0  # seconds for a last look at the cgroups


def main(scope: str) -> None:
    """Run the helper of a scope until SIGTERM."""
    loop = Loop()
    cgroups = _cgroups(scope)
    helper = Helper(scope, loop, dict(os.environ), cgroups)
    listener = socket.socket(fileno=_descriptor("helper"))
    listener.setblocking(False)
    if not confine((os.environ["SOCKPROXY_STATE"], *cgroups.folders)):
        print(f"sockproxy {scope}: this kernel has no Landlock: the helper is not confined", file=sys.stderr)
    loop.spawn(helper.listen(listener))
    loop.spawn(_adopt(loop, helper))
    loop.spawn(_obey(loop, helper, _catch_signals()))
    loop.spawn(_say_alive(loop))
    _notify("READY=1")
    loop.run()


def _cgroups(scope: str) -> Cgroups:
    """Find the folders that were made for the users' cgroups; none where they were not, or this scope needs none."""
    name = os.environ["SOCKPROXY_SHARES"]
    found = find(name) if scope in PLACING else Cgroups(name, 0, [])
    return found if all(map(os.path.isdir, found.folders)) else Cgroups(name, 0, [])


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
                _reload(loop, helper)
            elif received == signal.SIGTERM:
                loop.spawn(_end(loop, helper))
                loop.spawn(_stop_after(loop, LAST))


async def _say_alive(loop: Loop) -> None:
    """Tell who started us, as often as it wants to hear it, that the loop goes round (sd_watchdog_enabled(3))."""
    pause = int(os.environ.get("WATCHDOG_USEC", "0")) / 3e6
    while pause:
        await loop.wait({}, pause)
        _notify("WATCHDOG=1")


async def _adopt(loop: Loop, helper: Helper) -> None:
    """Bring the users' cgroups up to date with the policy."""
    if helper.scope == KEEPER:
        daemon = Daemon(loop, os.environ["SOCKPROXY_DOCKER_SOCKET"])
        await helper.shares.adopt(loop, daemon, helper.policy)
        daemon.close()


async def _end(loop: Loop, helper: Helper) -> None:
    """Leave no cgroup behind that nobody needs, and end."""
    await _adopt(loop, helper)
    loop.stop()


async def _stop_after(loop: Loop, seconds: float) -> None:
    await loop.wait({}, seconds)
    loop.stop()


def _reload(loop: Loop, helper: Helper) -> None:
    try:
        helper.reload()
        loop.spawn(_adopt(loop, helper))
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
