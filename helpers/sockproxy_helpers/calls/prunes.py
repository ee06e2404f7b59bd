"""Prune containers one by one: the daemon's own prune takes the lock of each that there is, whoever's it is.

A container that hangs in its start (see the README) holds its own lock until dockerd is restarted, and a prune that
waits for it lets nobody prune containers or networks meanwhile. So what may be pruned is listed, which takes no lock,
and each that does not run is removed by its ID, as `docker rm` does: what runs again by then stays. One that does not
come back is left to the daemon, and is not asked about again.
"""

from __future__ import annotations

import json
import time

from sockproxy_helpers.api.operations import load, quote
from sockproxy_helpers.channel.loop import Loop, Task
from sockproxy_helpers.content import deletion, imageprune
from sockproxy_helpers.content.deletion import Instead, Pause, Query
from sockproxy_helpers.content.ledger import Ledger
from sockproxy_helpers.errors import Unavailable
from sockproxy_helpers.judge.context import Context
from sockproxy_helpers.upstream.daemon import Daemon
from sockproxy_helpers.upstream.filters import Filters
from sockproxy_helpers.upstream.objects import member, parse

TOGETHER, PATIENCE = 8, 2.0  # removals at once; seconds for each, of which one takes milliseconds


class Prune(Instead):
    """Hold one prune."""

    def __init__(self, prunes: Prunes, filters: Filters) -> None:
        self._prunes, self._filters = prunes, filters
        listed = json.dumps({"label": filters.labels}, separators=(",", ":"))
        super().__init__(prunes.rows["ContainerList"], [("all", "1"), ("filters", listed)])

    async def run(self, answered: bytes, pause: Pause) -> tuple[bytes, str]:
        """Remove of what the daemon listed what does not run; the record says what is left."""
        _, found = parse(200, answered)
        if not isinstance(found, list):
            raise Unavailable("the Docker daemon lists no containers")
        ids = [str(item.get("Id")) for item in found if self._filters.match(item)]
        sizes, left = await self._prunes.remove(ids, pause)
        gone = [identity for identity in ids if identity in sizes]
        told = {"ContainersDeleted": gone or None, "SpaceReclaimed": sum(sizes.values())}
        note = f"the daemon does not come back from the removal of {', '.join(map(_short, left))}" if left else ""
        return json.dumps(told, separators=(",", ":")).encode() + b"\n", note


class Prunes:
    """Remove containers for all channels of a helper.

    Invariant: `_removing` has those whose removal the daemon has not come back from: no other is begun.
    """

    def __init__(self, loop: Loop, docker: str, ledger: Ledger) -> None:
        self._loop, self._docker, self._ledger = loop, docker, ledger
        self._removing: set[str] = set()
        self.rows = {row.name: row for row in reversed(load())}

    async def of(self, ctx: Context, query: Query) -> Instead | None:
        """Give what is done in place of a call as it would be sent; None for the call itself.

        Raises:
            Malformed, Unavailable: it can't be done.
        """
        if ctx.operation == "ContainerPrune":
            return Prune(self, Filters(json.loads(dict(query).get("filters", "{}"))))
        if ctx.operation == "ImagePrune":
            return await imageprune.begin(self.connect, self.rows, self._ledger, ctx, query)
        if ctx.operation == "ImageDelete":
            return await deletion.begin(self.connect, self.rows[ctx.operation], ctx.variables, query)
        return None

    def connect(self) -> Daemon:
        """Give a connection for questions of our own."""
        return Daemon(self._loop, self._docker)

    async def remove(self, ids: list[str], pause: Pause) -> tuple[dict[str, int], list[str]]:
        """Remove containers that don't run; give those that are gone, with their sizes, and those that still may go."""
        queue = [identity for identity in ids if identity not in self._removing]
        patience: dict[str, float] = {}  # until when each is waited for
        gone: dict[str, int] = {}
        try:
            while queue or patience:
                for identity in [one for one, end in patience.items() if end <= time.monotonic()]:
                    del patience[identity]
                while queue and len(patience) < TOGETHER:
                    patience[identity := queue.pop(0)] = time.monotonic() + PATIENCE
                    self._removing.add(identity)
                    self._loop.spawn(self._remove(identity, gone, patience, self._loop.current))
                if patience:
                    await pause(max(0.0, min(patience.values()) - time.monotonic()))
        finally:
            patience.clear()
        return dict(gone), [one for one in ids if one in self._removing]

    async def _remove(
        self, identity: str, gone: dict[str, int], patience: dict[str, float], waiting: Task | None
    ) -> None:
        """Remove a container that does not run: lists still call one running that has ended a moment ago."""
        daemon, path = self.connect(), f"/containers/{quote(identity)}"
        try:
            _, found = parse(*await daemon.request("GET", f"{path}/json"))
            if member(found, "State", "Running") is False:
                _, found = parse(*await daemon.request("GET", f"{path}/json?size=1"))
                size = member(found, "SizeRw")
                if (await daemon.request("DELETE", path))[0] == 204:
                    gone[identity] = size if isinstance(size, int) else 0
        except Unavailable:
            pass
        finally:
            daemon.close()
            self._removing.discard(identity)
            if patience.pop(identity, None) and waiting:
                self._loop.wake(waiting)


def _short(identity: str) -> str:
    return identity[:12]
