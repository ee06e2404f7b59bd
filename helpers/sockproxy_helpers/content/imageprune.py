"""Prune images one by one: the daemon's own prune waits, as its removals do, for containers that hang: see `deletion`.

Containerd's image store is pruned by the daemon: it looks at no container's lock there, and alone knows what it frees.
Here names of others stay, also those of a moment ago; there a prune that would take some is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from sockproxy_helpers.api.operations import Operation
from sockproxy_helpers.errors import Malformed, Unavailable
from sockproxy_helpers.judge.context import Context
from sockproxy_helpers.upstream import blobs
from sockproxy_helpers.upstream.daemon import Daemon
from sockproxy_helpers.upstream.filters import Filters
from sockproxy_helpers.upstream.objects import member, parse
from . import deletion, images, removals
from .deletion import Instead, Pause, Query
from .images import View
from .ledger import Ledger

_ANY, _DANGLING = (["0"], ["false"]), (["1"], ["true"])
_SIZE = "/v1.41/system/df?type=image"  # older engines tell all
Connect = Callable[[], Daemon]


class Prune(Instead):
    """Hold one prune.

    Args:
        view: tells whose names are; None for who may remove all.
    """

    def __init__(self, connect: Connect, rows: dict[str, Operation], filters: Filters, every: bool, view: View | None):
        listed: dict[str, list[str]] = {"label": filters.labels} | ({} if every else {"dangling": ["true"]})
        super().__init__(rows["ImageList"], [("filters", json.dumps(listed, separators=(",", ":")))])
        self._connect, self._removes, self._filters, self._view = connect, rows["ImageDelete"], filters, view

    async def run(self, answered: bytes, pause: Pause) -> tuple[bytes, str]:
        """Remove what the daemon listed."""
        _, found = parse(200, answered)
        if not isinstance(found, list):
            raise Unavailable("the Docker daemon lists no images")
        daemon, gone = self._connect(), list[object]()
        before, used = await _size(daemon), await deletion.used(daemon)
        for item in filter(self._filters.match, found):
            told = images.full_names(item)
            if str(item.get("Id")) in used and len(told) < 2:
                continue
            for name in told or [str(item.get("Id"))]:
                if not (self._view and self._view.anothers(name, str(item.get("Id")))):
                    gone += await self._remove(daemon, name, pause)
        told_ = {"ImagesDeleted": gone or None, "SpaceReclaimed": max(0, before - await _size(daemon)) if gone else 0}
        return json.dumps(told_, separators=(",", ":")).encode() + b"\n", ""

    async def _remove(self, daemon: Daemon, name: str, pause: Pause) -> list[object]:
        """Remove a name, or an image that has none; tell what is gone."""
        variables = {"name": name}
        one = await deletion.begin(self._connect, self._removes, variables, [])
        target = self._removes.target("", variables, one.query if one else [])
        status, body = await daemon.request("DELETE", target)
        if status != 200:
            return []
        _, told = parse(200, (await one.run(body, pause))[0] if one else body)
        return told if isinstance(told, list) else []


async def begin(
    connect: Connect, rows: dict[str, Operation], ledger: Ledger, ctx: Context, query: Query
) -> Prune | None:
    """Take a prune as it would be sent; None where that is for the daemon.

    Raises:
        Malformed: it would not take its filters.
        Refused: the daemon would take names of others.
    """
    given = json.loads(dict(query).get("filters", "{}"))
    dangling = given.pop("dangling", _DANGLING[0])
    if dangling not in (*_ANY, *_DANGLING):
        raise Malformed("invalid filter dangling: expected true or false")
    filters = Filters(given)
    if await blobs.used(connect()):
        if not ctx.flag("sees_all") and dangling in _ANY:
            await removals.pruned(ledger, connect(), ctx)
        return None
    view = None if ctx.flag("sees_all") else View(ledger, ctx.caller.uid)
    return Prune(connect, rows, filters, dangling in _ANY, view)


async def _size(daemon: Daemon) -> int:
    """Ask how much all layers take; 0 where the daemon is at another such question and does not tell."""
    status, found = parse(*await daemon.request("GET", _SIZE))
    size = member(found, "LayersSize")
    return size if status == 200 and isinstance(size, int) else 0
