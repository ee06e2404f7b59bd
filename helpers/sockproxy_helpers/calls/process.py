"""Be a process that somebody else starts: sockets and settings come in, readiness and the end are told."""

from __future__ import annotations

import os
import signal
import socket
import sys

from sockproxy_helpers.channel import activation
from sockproxy_helpers.channel.loop import IN, Loop
from sockproxy_helpers.channel.notify import notify
from sockproxy_helpers.errors import Refused, Unavailable
from sockproxy_helpers.folders.sweep import Sweeper
from sockproxy_helpers.system.confine import confine
from sockproxy_helpers.totals.cgroupfs import Cgroups, find
from sockproxy_helpers.upstream.daemon import Daemon
from sockproxy_helpers.who.mates import Watch
from .serve import Helper

PLACING = ("lifecycle", "filesystem")  # who has the daemon start something: containers, steps of builds
KEEPER = "lifecycle"  # who keeps the cgroups up to date, and stops what shares no more
LAST = 2.0  # seconds for a last look at the cgroups


def main(scope: str) -> None:
    """Run the helper of a scope until SIGTERM."""
    loop = Loop()
    cgroups = _cgroups(scope)
    try:
        helper = Helper(scope, loop, dict(os.environ), cgroups)
    except Unavailable as error:  # somebody has to see to it; it is tried again and again
        raise SystemExit(f"sockproxy {scope}: {error}") from None
    listener = activation.listener("helper")
    binds = (os.environ["SOCKPROXY_BINDS"],) if scope == "filesystem" else ()
    if not confine((os.environ["SOCKPROXY_STATE"], *cgroups.folders, *binds)):
        print(f"sockproxy {scope}: this kernel has no Landlock: the helper is not confined", file=sys.stderr)
    loop.spawn(helper.listen(listener))
    loop.spawn(_adopt(loop, helper))
    loop.spawn(_obey(loop, helper, activation.catch_signals()))
    loop.spawn(activation.say_alive(loop))
    if scope == KEEPER:
        watch = Watch(loop, helper.recorder, os.environ["SOCKPROXY_DOCKER_SOCKET"])
        loop.spawn(watch.run(lambda: helper.policy))
    if binds:
        loop.spawn(Sweeper(loop, dict(os.environ)).run())
    notify("READY=1")
    loop.run()
    helper.recorder.flush()


def _cgroups(scope: str) -> Cgroups:
    """Find the users' cgroups; without folders to write to where none were made, as when these were read-only then.

    What systemd keeps is only looked at, and needs none.
    """
    name = os.environ["SOCKPROXY_SHARES"]
    found = find(name) if scope in PLACING else Cgroups(name, 0, [])
    if not all(map(os.path.isdir, found.folders)):
        found.folders = ()
    return found


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
