"""Forget binds whose containers are gone, and end what is attached for containers that do not run.

The daemon says when a container ends or goes, and at each new connection to it everything is looked at once: it may
have been killed, and have said nothing. A bind that is forgotten too early is refused, not made.
"""

from __future__ import annotations

import json
import re
import socket
import time

from sockproxy_helpers.api.operations import quote
from sockproxy_helpers.channel import wire
from sockproxy_helpers.channel.loop import IN, Loop
from sockproxy_helpers.errors import Unavailable
from sockproxy_helpers.upstream.daemon import Daemon
from sockproxy_helpers.upstream.objects import parse
from .bindledger import BindLedger, owner
from .imageusers import READER

YOUNG = 30.0  # seconds in which a container is created for a bind; the daemon itself forgets no volume that is in use
RETRY, TOGETHER = 2.0, 0.5  # seconds until the daemon is asked again; in which events are one
_FILTERS = quote(json.dumps({"type": ["container", "volume"], "event": ["create", "mount", "die", "destroy"]}))
# That a volume is created tells nothing: the daemon does so before it lists the container that has it.
_MOUNTED = re.compile(rb'"Action":"mount","Actor":\{"ID":"(sockproxy-[0-9]{1,10}-[0-9a-f]{32})"')
_READERS = "&filters=" + quote(json.dumps({"name": [f"^/{READER}"]}))
_RUNNING = ("running", "paused", "restarting")


class Sweeper:
    """Keep the records of binds to those of containers that there are.

    Args:
        environment: SOCKPROXY_BINDS, SOCKPROXY_BINDS_SOCKET, SOCKPROXY_DOCKER_SOCKET.
    """

    def __init__(self, loop: Loop, environment: dict[str, str]) -> None:
        self._loop, self._docker = loop, environment["SOCKPROXY_DOCKER_SOCKET"]
        self._made: set[str] = set()  # what was seen in a container, or mounted: its container is listed, or has been
        self._ledger, self._checks = BindLedger(environment["SOCKPROXY_BINDS"]), environment["SOCKPROXY_BINDS_SOCKET"]

    async def run(self) -> None:
        """Sweep for ever."""
        self._ledger.clear()
        while True:
            events, daemon = Daemon(self._loop, self._docker), Daemon(self._loop, self._docker)
            try:
                await events.follow(f"/events?filters={_FILTERS}")
                await self._follow(events, daemon)
            except Unavailable:
                pass
            finally:
                events.close()
                daemon.close()
            await self._loop.wait({}, RETRY)

    async def _follow(self, events: Daemon, daemon: Daemon) -> None:
        await self.sweep(daemon)
        again = True  # what is too young to be judged now is not by then
        while True:
            assert events.sock is not None
            ready = await self._loop.wait({events.sock.fileno(): IN}, YOUNG if again else None)
            if ready:
                told = events.take()
                await self._loop.wait({}, TOGETHER)
                self.hear(told + events.take())
            again = await self.sweep(daemon) or bool(ready)

    def hear(self, told: bytes) -> None:
        """Take events: what is mounted is young no longer."""
        self._made |= {name.decode() for name in _MOUNTED.findall(told)}

    async def sweep(self, daemon: Daemon) -> bool:
        """Look at everything; tell whether to look again: something was too young to be judged, or not to be had.

        Raises:
            Unavailable: the daemon does not answer.
        """
        names = dict(self._ledger.names())
        which = "" if names else _READERS  # a host without binds has perhaps many containers, and one that reads
        status, containers = parse(*await daemon.request("GET", f"/containers/json?all=1{which}"))
        if status != 200 or not isinstance(containers, list):
            raise Unavailable("the Docker daemon lists no containers")
        used, running, reading = set(), set(), False
        for container in containers:
            found = {str(mount.get("Name")) for mount in container.get("Mounts") or []}
            used |= found
            running |= found if container.get("State") in _RUNNING else set()
            if _reads(container):
                reading |= not await self._remove(daemon, container)
        self._made = (self._made | used) & names.keys()
        young = {name for name, written in names.items() if time.time() - written < YOUNG} - self._made
        kept = [name for name in names.keys() - used - young if not await self._forget(daemon, name)]
        self._end_all_but(sorted(name for name in running if owner(name) is not None))
        return bool(kept or young - used or reading)

    async def _remove(self, daemon: Daemon, reader: dict[str, object]) -> bool:
        """Remove a container that reads an image's users, when it can only be left by a helper that was killed."""
        made = reader.get("Created")
        if not isinstance(made, int) or time.time() - made < YOUNG:
            return False
        status, _ = await daemon.request("DELETE", f"/containers/{quote(str(reader.get('Id')))}?force=1&v=1")
        return status in (204, 404)

    async def _forget(self, daemon: Daemon, name: str) -> bool:
        """Forget a bind when the daemon has; it can't while our plugin does not answer."""
        status, _ = await daemon.request("DELETE", f"/volumes/{quote(name)}?force=1")
        if gone := status in (204, 404):
            self._ledger.remove(name)
        return gone

    def _end_all_but(self, running: list[str]) -> None:
        """Have the stages of containers that do not run ended; who is not there now will be told again."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) as channel:
            try:
                channel.connect(self._checks)
                wire.send(channel, wire.pack({"running": running}), [])
            except OSError:
                pass


def _reads(container: dict[str, object]) -> bool:
    """Tell whether a container was made to read an image's users."""
    names = container.get("Names")
    ours = isinstance(names, list) and any(str(name).startswith(f"/{READER}") for name in names)
    return ours and container.get("State") == "created"
