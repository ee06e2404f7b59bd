"""Be the front process: unprivileged, the only one that reads what clients send.

SECURITY: runs as the user `sockproxy` without capabilities and can't open the daemon's socket. Taken to be hostile by
the helpers; so nothing here is a last line of defence.
"""

from __future__ import annotations

import os
import signal
import sys
import time

import trio

from sockproxy.activation import sockets
from sockproxy.audit.client import Recorder
from sockproxy.dispatch.channel import Helpers
from sockproxy.server import listen, overseer
from sockproxy.server.session import Services
from sockproxy_helpers.channel.notify import Watchdog, notify
from sockproxy_helpers.errors import Refused
from sockproxy_helpers.judge.policy import Policy
from sockproxy_helpers.system.confine import confine


def load_policy() -> Policy:
    """Load the compiled policy that the environment names."""
    with open(os.environ["SOCKPROXY_POLICY"], "rb") as file:
        return Policy(file.read())


async def run() -> None:
    """Serve until SIGTERM; SIGHUP loads the policy again."""
    runtime = os.environ["SOCKPROXY_RUNTIME"]
    listeners = sockets()
    for listener in listeners.values():
        listener.setblocking(False)
    services = Services(load_policy(), Helpers(runtime), Recorder(runtime))
    if not confine():
        print("sockproxy front: this kernel has no Landlock: the front is not confined", file=sys.stderr)
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        with trio.open_signal_receiver(signal.SIGHUP, signal.SIGTERM, signal.SIGINT) as signals:
            nursery.start_soon(_obey, signals, services, stop)
            nursery.start_soon(_say_alive)
            nursery.start_soon(overseer.serve, listeners["status"], services, os.environ["SOCKPROXY_LISTEN"])
            notify("READY=1")
            await listen.serve(listeners["docker"], services, stop)
        nursery.cancel_scope.cancel()


async def _say_alive() -> None:
    watchdog = Watchdog()
    while watchdog.pause:
        await trio.sleep(watchdog.pause)
        watchdog.alive()


async def _obey(signals: object, services: Services, stop: trio.Event) -> None:
    async for number in signals:  # type: ignore[attr-defined]
        if number == signal.SIGHUP:
            try:
                services.policy, services.meter.loaded = load_policy(), time.time()
            except (Refused, OSError) as error:
                print(f"sockproxy front: the old policy stays: {error}", file=sys.stderr)
        else:
            stop.set()


if __name__ == "__main__":
    trio.run(run)
